"""Random numbers that depend on a seed and a position alone, so that any part of a long computation repeats."""

import contextlib
from collections.abc import Iterator

import torch


def batch_seed(seed: int, start: int) -> int:
    """The seed of what is drawn for the batch at position `start`."""
    return (seed * 0x9E3779B1 + start + 1) % 2**63


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers from `seed` inside, the old state afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
