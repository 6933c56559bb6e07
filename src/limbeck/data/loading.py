"""The order in which images are read: endless and shuffled for training, finite and fixed for measuring.

Position p of the training stream is item p mod N of epoch p // N, and each epoch is a permutation computed from the
seed and its number. So a run that has seen k images goes on at position k, whatever the number of processes.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from limbeck import devices
from limbeck.data.base import Batch, ImageDataset, ImageSource
from limbeck.data.permutation import mixed, permuted
from limbeck.errors import UserError

PREFETCH_BATCHES = 4


def train_loader(
    source: ImageSource, *, batch_size: int, seed: int, start_images: int = 0, rank: int = 0, world_size: int = 1
) -> "Loader":
    """Batches of (uint8 [batch_size, c, h, w], int64 [batch_size]) without end.

    batch_size: images per batch of this process; start_images: images that all processes together have seen.
    Process `rank` of `world_size` gets the positions start_images + i * world_size + rank, i = 0, 1, 2 ...

    Raises: UserError if the images are missing, or (while iterating) naming a file that cannot be read.
    """
    images = source.train()
    at = partial(
        training_indices,
        size=len(images),
        batch_size=batch_size,
        seed=seed,
        start=start_images + rank,
        stride=world_size,
    )
    return Loader(Stream(images, at), source.num_workers)


def heldout_batches(
    source: ImageSource, *, num_images: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
) -> Iterator[Tensor]:
    """A fixed choice of reference images, uint8 [n, c, h, w] with n <= batch_size; the last batch may be smaller.

    Process `rank` of `world_size` gets every world_size-th image of the same choice.

    Raises: UserError if there are fewer than `num_images` of them.
    """
    images = source.heldout()
    if not 0 < num_images <= len(images):
        raise UserError(
            f"num_images={num_images}: this data has {len(images)} reference images; allowed: 1 to {len(images)}"
        )
    at = partial(
        heldout_indices,
        size=len(images),
        num_images=num_images,
        batch_size=batch_size,
        seed=seed,
        rank=rank,
        stride=world_size,
    )
    for batch, _ in Loader(Stream(images, at), source.num_workers):
        yield batch


def training_indices(batch: int, *, size: int, batch_size: int, seed: int, start: int, stride: int) -> np.ndarray:
    """The items of one training batch, int64 [batch_size], of a set of `size`."""
    position = start + stride * np.arange(batch * batch_size, (batch + 1) * batch_size, dtype=np.int64)
    return permuted(position % size, size, _key(seed, position // size))


def heldout_indices(
    batch: int, *, size: int, num_images: int, batch_size: int, seed: int, rank: int, stride: int
) -> np.ndarray:
    """The items of one reference batch, int64 [at most batch_size]; empty when there are no more."""
    chosen = np.arange(rank, num_images, stride, dtype=np.int64)[batch * batch_size : (batch + 1) * batch_size]
    return permuted(chosen, size, _key(seed, np.zeros(1, dtype=np.int64)))


class Stream(IterableDataset[Batch]):
    """Batches in the order of `indices_at`, which says what is in batch 0, 1, 2 ...; an empty batch is the end.

    With W workers, worker k makes the batches k, k + W, k + 2 W ...: the loader takes turns between them, and so gives
    the same batches in the same order as without workers.
    """

    def __init__(self, images: ImageDataset, indices_at: Callable[[int], np.ndarray]) -> None:
        self.images = images
        self.indices_at = indices_at

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for batch in count(first, step):
            indices = self.indices_at(batch)
            if not indices.size:
                return
            try:
                yield self.images.batch(indices)
            except UserError as error:
                # An exception that crosses a process border comes out wrapped in a traceback of many lines; handed
                # over as an item, `Loader` can raise it as it was.
                yield error
                return


class Loader(DataLoader):
    """A DataLoader of ready batches, which reports a file that cannot be read in one line, from any worker.

    num_workers: at most; never more than processors. The batches and their order are the same with any number.
    """

    def __init__(self, stream: Stream, num_workers: int) -> None:
        num_workers = min(num_workers, devices.num_processors())
        super().__init__(
            stream,
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=num_workers,
            prefetch_factor=PREFETCH_BATCHES if num_workers else None,
            pin_memory=devices.device().type == "cuda",
        )

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # No name for the iterator and no persistent workers (a stream is read only once): so the workers are stopped
        # as soon as this loop is left, not when a garbage collection finds a traceback that still refers to them.
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


def _unchanged(batch: Any) -> Any:
    return batch


def _key(seed: int, epoch: np.ndarray) -> np.ndarray:
    return mixed(mixed(np.array([seed], dtype=np.int64).astype(np.uint64)) + epoch.astype(np.uint64))
