"""Features of real images, computed once and kept in the user's cache folder.

A cached file is named by a digest of everything its numbers depend on: the images (`ImageSource.digest`), how many and
in which order, and the embedding (weights, resize, normalization).
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limbeck import parallel
from limbeck.cache import cache_path, read_cached, write_cached
from limbeck.data.base import ImageSource
from limbeck.data.loading import Loader, Stream, heldout_indices
from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.evaluation.sampling import from_eight_bits
from limbeck.functional.frechet import Sums

VERSION = 1  # raise when the same facts start to give other features
ORDER_SEED = 0


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
    stored = read_cached(path, {"features": (num_images, embedding.num_features)})
    if all(parallel.gathered(stored is not None)):
        assert stored is not None
        return stored["features"]
    embedding = embedding.load().to(device)

    def embedded(image: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return embedding(from_eight_bits(image.to(device))).cpu()

    batches = parallel.shared_out(reference_batches(source, num_images, batch_size), embedded, on_batch)
    features = torch.cat(batches)
    if parallel.rank() == 0:
        write_cached(path, {"features": features})
    return features


def reference_labels(source: ImageSource, *, num_images: int) -> Tensor:
    """Labels of the images of `reference_features`, in their order: class numbers [num_images] or rows of 0 and 1."""
    images = source.heldout()
    order = heldout_indices(
        0, size=len(images), num_images=num_images, batch_size=num_images, seed=ORDER_SEED, rank=0, stride=1
    )
    return images.labels_of(order)


def reference_sums(
    source: ImageSource,
    embedding: Embedding,
    *,
    num_images: int,
    batch_size: int,
    device: torch.device,
    on_batch: Callable[[int], None] | None = None,
) -> Sums:
    """Sums of the features of `reference_features`, which are never held: memory does not grow with `num_images`.

    The sums of several processes differ from those of one by rounding in float64.
    """
    shapes: dict[str, tuple[int, ...]] = {"count": (), "total": (embedding.num_features,)}
    shapes["products"] = (embedding.num_features,) * 2
    path = cached_path(source, embedding, num_images, batch_size, kind="sums")
    stored = read_cached(path, shapes)
    if all(parallel.gathered(stored is not None)):
        assert stored is not None
        return stored["count"].to(device), stored["total"].to(device), stored["products"].to(device)
    loaded = embedding.load().to(device)

    def embedded(image: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return loaded(from_eight_bits(image.to(device)))

    batches = (embedded(image) for _, image in reference_batches(source, num_images, batch_size))
    found = summed_up(batches, embedding.num_features, device, on_batch)
    if parallel.rank() == 0:
        write_cached(path, {name: value.cpu() for name, value in zip(shapes, found, strict=True)})
    return found


def summed_up(
    features: Iterable[Tensor], num_features: int, device: torch.device, on_batch: Callable[[int], None] | None = None
) -> Sums:
    """Sums of the features [n, f] of all batches of all processes; one batch is held at a time."""
    count = torch.zeros([], dtype=torch.int64, device=device)
    total = torch.zeros(num_features, dtype=torch.float64, device=device)
    products = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)
    done = 0
    for batch in features:
        wide = batch.to(device).double()
        count += len(wide)
        total += wide.sum(dim=0)
        products.addmm_(wide.T, wide)
        done += len(wide) * parallel.world_size()
        if on_batch is not None:
            on_batch(done)
    return parallel.summed(count), parallel.summed(total), parallel.summed(products)


def cached_path(
    source: ImageSource, embedding: Embedding, num_images: int, batch_size: int, *, kind: str | None = None
) -> Path:
    """Where these features are kept, or their sums (`kind`)."""
    facts = [VERSION, source.digest(), num_images, ORDER_SEED, batch_size, embedding.digest()]
    facts += [] if kind is None else [kind]
    return cache_path("reference", embedding.name, facts)


def reference_batches(source: ImageSource, num_images: int, batch_size: int) -> Iterator[tuple[int, Tensor]]:
    """This process's share of the fixed batches, each with its number: batch b belongs to process b mod world size."""
    images = source.heldout()
    rank, world_size = parallel.rank(), parallel.world_size()
    at = partial(_indices, size=len(images), num_images=num_images, batch_size=batch_size, first=rank, step=world_size)
    for own, (batch, _) in enumerate(Loader(Stream(images, at), source.num_workers)):
        yield rank + own * world_size, batch


def _indices(batch: int, *, size: int, num_images: int, batch_size: int, first: int, step: int) -> np.ndarray:
    number = first + batch * step
    return heldout_indices(
        number, size=size, num_images=num_images, batch_size=batch_size, seed=ORDER_SEED, rank=0, stride=1
    )
