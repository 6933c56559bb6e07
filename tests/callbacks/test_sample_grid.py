"""Pictures during training."""

import numpy as np
import torch
from PIL import Image

from limbeck.callbacks.sample_grid import SampleGrid
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
