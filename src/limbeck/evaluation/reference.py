"""Features of real images, computed once and kept in the user's cache folder.

A cached file is named by a digest of everything its numbers depend on: the images (`ImageSource.digest`), how many and
in which order, and the embedding (weights, resize, normalization). It is never trusted beyond its shape.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from limbeck import parallel
from limbeck.data.base import ImageSource
from limbeck.data.loading import Loader, Stream, heldout_indices
from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.evaluation.sampling import from_eight_bits
from limbeck.files import written_aside

VERSION = 1  # raise when the same facts start to give other features
ORDER_SEED = 0


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/limbeck`, by default `~/.cache/limbeck`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limbeck"


def num_reference_images(source: ImageSource, at_most: int | None) -> int:
    """How many real images stand against the fakes: all, or the first `at_most` in a fixed random order."""
    available = len(source.heldout())
    if at_most is not None and at_most < 1:
        raise UserError(f"protocol.num_reference={at_most}: must be at least 1, or null for all {available} images")
    return available if at_most is None else min(at_most, available)


def reference_features(
    source: ImageSource,
    embedding: Embedding,
    *,
    num_images: int,
    batch_size: int,
    device: torch.device,
    on_batch: Callable[[int], None] | None = None,
) -> Tensor:
    """Features [num_images, f] on the CPU, from the cache or computed by all processes together.

    on_batch: told how many images are done. Raises: UserError if an image cannot be read.
    """
    path = cached_path(source, embedding, num_images, batch_size)
    stored = _read(path, (num_images, embedding.num_features))
    if all(parallel.gathered(stored is not None)):
        assert stored is not None
        return stored
    embedding = embedding.load().to(device)

    def embedded(image: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return embedding(from_eight_bits(image.to(device))).cpu()

    batches = shared_out(reference_batches(source, num_images, batch_size), embedded, on_batch)
    features = torch.cat(batches)
    if parallel.rank() == 0:
        _write(path, features)
    return features


def cached_path(source: ImageSource, embedding: Embedding, num_images: int, batch_size: int) -> Path:
    """Where these features are kept."""
    facts = [VERSION, source.digest(), num_images, ORDER_SEED, batch_size, embedding.digest()]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    return cache_folder() / "reference" / f"{embedding.name}-{key}.safetensors"


def reference_batches(source: ImageSource, num_images: int, batch_size: int) -> Iterator[tuple[int, Tensor]]:
    """This process's share of the fixed batches, each with its number: batch b belongs to process b mod world size."""
    images = source.heldout()
    rank, world_size = parallel.rank(), parallel.world_size()
    at = partial(_indices, size=len(images), num_images=num_images, batch_size=batch_size, first=rank, step=world_size)
    for own, (batch, _) in enumerate(Loader(Stream(images, at), source.num_workers)):
        yield rank + own * world_size, batch


def shared_out(
    batches: Iterator[tuple[int, Any]], function: Callable[[Any], Tensor], on_batch: Callable[[int], None] | None = None
) -> list[Tensor]:
    """`function` of every process's numbered batches, in the order of the numbers, on every process.

    A batch is always computed whole and alone, so the result does not depend on the number of processes.
    """
    own: dict[int, Tensor] = {}
    done = 0
    for number, batch in batches:
        own[number] = function(batch)
        done += len(own[number]) * parallel.world_size()
        if on_batch is not None:
            on_batch(done)
    everywhere: dict[int, Tensor] = {}
    for part in parallel.gathered(own):
        everywhere.update(part)
    return [everywhere[number] for number in sorted(everywhere)]


def _indices(batch: int, *, size: int, num_images: int, batch_size: int, first: int, step: int) -> np.ndarray:
    number = first + batch * step
    return heldout_indices(
        number, size=size, num_images=num_images, batch_size=batch_size, seed=ORDER_SEED, rank=0, stride=1
    )


def _read(path: Path, shape: tuple[int, int]) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        features = safetensors.torch.load_file(path)["features"]
    except (safetensors.SafetensorError, OSError, KeyError):
        return None
    return features if features.shape == shape and bool(features.isfinite().all()) else None


def _write(path: Path, features: Tensor) -> None:
    """A cache that cannot be written costs time, never the result."""
    try:
        with written_aside(path) as aside:
            safetensors.torch.save_file({"features": features.contiguous()}, aside)
    except (UserError, safetensors.SafetensorError) as error:
        warnings.warn(f"reference features are not kept: {error}", stacklevel=2)
