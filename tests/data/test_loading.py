"""The order of images: endless, resumable at any image, shared out among processes, the same with workers."""

import multiprocessing
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck import devices
from limbeck.data.base import Batch, ImageDataset, ImageFacts, ImageSource, Mirrored
from limbeck.data.image_folder import image_folder
from limbeck.data.loading import heldout_batches, train_loader
from limbeck.errors import UserError


class Numbers(ImageDataset):
    """Image i is one pixel of value i."""

    def __init__(self, size: int, first: int = 0) -> None:
        self.size = size
        self.first = first

    def __len__(self) -> int:
        return self.size

    def batch(self, indices: np.ndarray) -> Batch:
        values = torch.from_numpy(indices + self.first)
        return values.to(torch.uint8)[:, None, None, None], values


class NumberSource(ImageSource):
    """Training images 0 .. size - 1, held-out images 200 .. 219."""

    def __init__(self, size: int = 37, num_workers: int = 0) -> None:
        self.mirror = False
        self.num_workers = num_workers
        self.size = size

    def open(self) -> ImageFacts:
        return ImageFacts(1, 1, 0, self.size)

    def train(self) -> ImageDataset:
        return Numbers(self.size)

    def heldout(self) -> ImageDataset:
        return Numbers(20, first=200)

    def digest(self) -> str:
        return ""


def labels(num_batches: int, *, num_workers: int = 0, batch_size: int = 5, seed: int = 0, **place: int) -> list[int]:
    loader = train_loader(NumberSource(num_workers=num_workers), batch_size=batch_size, seed=seed, **place)
    return torch.cat([label for _, label in islice(loader, num_batches)]).tolist()


def test_every_epoch_has_every_image_once_in_another_order():
    stream = labels(3 * 37, batch_size=1)
    epochs = [stream[i : i + 37] for i in (0, 37, 74)]
    assert all(sorted(epoch) == list(range(37)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_batches_are_bytes_with_labels():
    image, label = next(iter(train_loader(NumberSource(), batch_size=5, seed=0)))
    assert image.shape == (5, 1, 1, 1)
    assert image.dtype == torch.uint8
    assert label.dtype == torch.int64
    assert image.flatten().tolist() == label.tolist()


def test_seed_decides_the_order():
    assert labels(4, seed=1) == labels(4, seed=1)
    assert labels(4, seed=1) != labels(4, seed=2)


@pytest.mark.parametrize("seen", [1, 37, 40, 1000])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_stream_goes_on_in_place(seen, num_workers):
    whole = labels(1100 // 5, num_workers=0)
    assert labels(10, num_workers=num_workers, start_images=seen) == whole[seen : seen + 50]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("seen", [0, 12])
def test_two_processes_share_out_one_stream(seen, num_workers):
    whole = labels(30)
    shares = [
        labels(5, batch_size=4, num_workers=num_workers, start_images=seen, rank=rank, world_size=2) for rank in (0, 1)
    ]
    assert shares[0] == whole[seen : seen + 40 : 2]
    assert shares[1] == whole[seen + 1 : seen + 40 : 2]


def test_a_resumed_run_may_change_the_number_of_processes():
    whole = labels(30)
    first = [labels(2, batch_size=3, rank=rank, world_size=3) for rank in range(3)]
    rest = labels(8, start_images=18)
    assert [item for turn in zip(*first, strict=True) for item in turn] + rest == whole[:58]


def test_mirrored_items_follow_the_plain_ones():
    class Slopes(Numbers):
        def batch(self, indices: np.ndarray) -> Batch:
            image = torch.arange(4, dtype=torch.uint8).expand(len(indices), 1, 1, 4)
            return image + super().batch(indices)[0], torch.from_numpy(indices)

    images, numbers = Mirrored(Slopes(10)).batch(np.array([2, 12, 9, 19]))
    assert images[:, 0, 0].tolist() == [[2, 3, 4, 5], [5, 4, 3, 2], [9, 10, 11, 12], [12, 11, 10, 9]]
    assert numbers.tolist() == [2, 2, 9, 9]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_heldout_choice_is_fixed_and_without_repeats(num_workers):
    source = NumberSource(num_workers=num_workers)
    batches = list(heldout_batches(source, num_images=13, batch_size=4))
    assert [len(batch) for batch in batches] == [4, 4, 4, 1]
    chosen = torch.cat(batches).flatten().tolist()
    assert len(set(chosen)) == 13
    assert set(chosen) <= set(range(200, 220))
    assert chosen == torch.cat(list(heldout_batches(NumberSource(), num_images=13, batch_size=13))).flatten().tolist()
    assert chosen != torch.cat(list(heldout_batches(source, num_images=13, batch_size=4, seed=1))).flatten().tolist()


def test_heldout_shares_make_the_whole_choice():
    def chosen(**place: int) -> list[int]:
        return torch.cat(list(heldout_batches(NumberSource(), num_images=13, batch_size=4, **place))).flatten().tolist()

    assert chosen(rank=0, world_size=2) == chosen()[0::2]
    assert chosen(rank=1, world_size=2) == chosen()[1::2]


@pytest.mark.parametrize("num_images", [0, 21])
def test_more_heldout_images_than_there_are_is_refused(num_images):
    with pytest.raises(UserError, match=f"num_images={num_images}: this data has 20 reference images"):
        next(heldout_batches(NumberSource(), num_images=num_images, batch_size=4))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_image_is_one_line_from_any_worker(tmp_path, num_workers):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for i in range(6):
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    whole = (tmp_path / "4.png").read_bytes()
    (tmp_path / "4.png").write_bytes(whole[: len(whole) // 2])
    source = image_folder(path=tmp_path, num_workers=num_workers)
    with pytest.raises(UserError) as caught:
        list(islice(train_loader(source, batch_size=2, seed=0), 10))
    assert "4.png" in str(caught.value)
    assert "\n" not in str(caught.value)
    # The exception, and with it every frame it passed, still lives; the workers must not.
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_change_nothing_about_files(tmp_path, num_workers):
    rng = np.random.default_rng(0)
    for i in range(7):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    source = image_folder(path=tmp_path, num_workers=num_workers, mirror=True)
    images = torch.cat([image for image, _ in islice(train_loader(source, batch_size=4, seed=0), 7)])
    counts = images.flatten(1).unique(dim=0, return_counts=True)[1]
    assert counts.tolist() == [2] * 14
    assert int(images[0, 0, 0, 0]) == int(next(iter(train_loader(source, batch_size=1, seed=0)))[0][0, 0, 0, 0])


def test_no_more_workers_than_processors(monkeypatch):
    """More would only wait for each other, and torch warns of them."""
    monkeypatch.setattr(devices, "num_processors", lambda: 1)
    loader = train_loader(NumberSource(num_workers=8), batch_size=5, seed=0)
    assert loader.num_workers == 1
    assert [label for _, batch in islice(loader, 4) for label in batch.tolist()] == labels(4)
    assert train_loader(NumberSource(num_workers=0), batch_size=5, seed=0).num_workers == 0
