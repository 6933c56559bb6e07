"""Pictures during training."""

from functools import partial

import numpy as np
import torch
from PIL import Image

from limbeck.architectures.srgan import Generator as Enlarging
from limbeck.callbacks.sample_grid import SampleGrid
from limbeck.data.base import ImageFacts, ImageSource
from limbeck.data.translation.derived import Derived, smaller
from limbeck.images import MIN_TILE

from .conftest import Counting


def pictures(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted((folder / "samples").glob("*.png"))}


def test_teacher_stands_above_student_and_the_latents_stay(train, generator, tmp_path):
    logger = train(Counting(generator(), generator(), 1_000), SampleGrid(every_kimg=0.5, num_images=3))
    grids = pictures(tmp_path)
    assert list(grids) == ["kimg000000.000.png", "kimg000000.500.png", "kimg000001.000.png"]
    first, *others = grids.values()
    assert first.shape == (2 * MIN_TILE, 3 * MIN_TILE, 3)
    assert all((grid == first).all() for grid in others)  # nothing was trained
    assert not (first[:MIN_TILE] == first[MIN_TILE:]).all()
    assert [(key, kimg) for key, _, kimg in logger.images] == [("samples", 0.0), ("samples", 0.5), ("samples", 1.0)]
    assert (np.asarray(logger.images[0][1]) == first).all()


def test_the_same_network_gives_the_same_rows(train, generator, tmp_path):
    network = generator()
    train(Counting(network, network, 100), SampleGrid(num_images=2))
    for grid in pictures(tmp_path).values():
        assert (grid[:MIN_TILE] == grid[MIN_TILE:]).all()


def test_without_teacher_there_is_one_row(train, generator, tmp_path):
    train(Counting(generator(), None, 100), SampleGrid(num_images=2))
    assert {grid.shape for grid in pictures(tmp_path).values()} == {(MIN_TILE, 2 * MIN_TILE, 3)}


def test_training_draws_the_same_random_numbers_as_without_pictures(train, generator):
    module = Counting(generator(), generator(), 300)
    torch.manual_seed(5)
    train(module)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(module, SampleGrid(every_kimg=0.1, num_images=2))
    assert torch.equal(torch.rand(3), expected)


def test_resumed_run_goes_on_with_the_pictures(train, generator, tmp_path):
    train(Counting(generator(), None, 1_000), SampleGrid(every_kimg=0.25, num_images=2), start=600)
    assert list(pictures(tmp_path)) == ["kimg000000.800.png", "kimg000001.000.png"]


class Cats(ImageSource):
    """Eight images of noise."""

    mirror, num_workers = False, 0

    def open(self):
        return ImageFacts(16, 3, 0, 8)

    def train(self):
        return self

    def heldout(self):
        return self

    def digest(self):
        return "noise"

    def batch(self, indices):
        images = torch.randint(256, (8, 3, 16, 16), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
        return images[indices], torch.zeros(len(indices), dtype=torch.long)

    def __len__(self):
        return 8


def test_translations_stand_between_what_is_translated_and_what_is_wanted(train, tmp_path):
    networks = [Enlarging(resolution=16, width=2, num_blocks=1, num_doublings=1).eval() for _ in range(2)]
    data = Derived(Cats(), partial(smaller, factor=2))
    train(Counting(*networks, 100), SampleGrid(num_images=3, data=data))
    grid = pictures(tmp_path)["kimg000000.000.png"]
    assert grid.shape == (4 * MIN_TILE, 3 * MIN_TILE, 3)
    tiles = [grid[row * MIN_TILE : (row + 1) * MIN_TILE, :MIN_TILE] for row in range(4)]
    small, wanted = (dataset.batch(np.arange(1))[0][0].permute(1, 2, 0).numpy() for dataset in (data.sources(), Cats()))
    assert (tiles[0] == small.repeat(12, axis=0).repeat(12, axis=1)).all()
    assert (tiles[3] == wanted.repeat(6, axis=0).repeat(6, axis=1)).all()
    assert not (tiles[1] == tiles[2]).all()
