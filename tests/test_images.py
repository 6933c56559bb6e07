"""Tensors as pictures, by hand."""

import numpy as np
import pytest
import torch

from limbeck.images import MIN_TILE, image_grid


def test_images_lie_row_by_row_and_values_are_rounded_and_clipped():
    size = MIN_TILE
    shades = torch.tensor([-1.0, -0.5, 0.0, 1.0, 3.0])
    grid = np.asarray(image_grid(shades[:, None, None, None].expand(5, 3, size, size), columns=3))
    assert grid.shape == (2 * size, 3 * size, 3)
    assert grid[::size, ::size, 1].tolist() == [[0, 64, 128], [255, 255, 0]]


def test_orientation_and_channels():
    image = torch.full((1, 3, MIN_TILE, MIN_TILE), -1.0)
    image[0, 0, 0, :] = 1  # the top line is red
    image[0, 2, :, 0] = 1  # the left column is blue
    grid = np.asarray(image_grid(image))
    assert grid[0, 5].tolist() == [255, 0, 0]
    assert grid[5, 0].tolist() == [0, 0, 255]
    assert grid[0, 0].tolist() == [255, 0, 255]


def test_small_images_are_enlarged_without_smoothing():
    image = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])[None, None]
    grid = np.asarray(image_grid(image))
    zoom = MIN_TILE // 2
    assert grid.shape == (MIN_TILE, MIN_TILE, 3)
    assert (grid[:, :, 0] == np.kron([[0, 255], [255, 0]], np.ones((zoom, zoom)))).all()


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 4, 8, 8)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match="1 or 3"):
        image_grid(torch.zeros(shape))
