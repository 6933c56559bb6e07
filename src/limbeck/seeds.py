"""Random numbers that depend on a seed and a position alone, so that any part of a long computation repeats."""

import contextlib
from collections.abc import Iterator

import torch

RANK_STRIDE = 1_000_003  # keeps the random streams of processes apart for any seed in use


def batch_seed(seed: int, start: int) -> int:
    """The seed of what is drawn for the batch at position `start`."""
    return (seed * 0x9E3779B1 + start + 1) % 2**63


def stream_seed(seed: int, rank: int, images_seen: int = 0) -> int:
    """The seed from which a process of a run draws, from its start or from where it joins."""
    return seed + RANK_STRIDE * rank + images_seen


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers from `seed` inside, the old state afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
