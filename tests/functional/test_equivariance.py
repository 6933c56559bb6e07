"""Moved pictures and their masks against loops written from the description."""

import math

import pytest
import torch

from limbeck.functional.equivariance import (
    decibels,
    fractional_translation,
    integer_translation,
    masked_squares,
    oriented_filter,
    pseudo_rotation,
    rotation,
    rotation_matrix,
)

SIZE = 16


def picture():
    return torch.randn(2, 3, SIZE, SIZE)


def sinc(x):
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


def test_whole_pixels_by_hand():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    moved, mask = integer_translation(image, (1 / 3, -1 / 3))
    assert moved[0, 0].tolist() == [[0, 3, 4], [0, 6, 7], [0, 0, 0]]
    assert mask[0, 0].tolist() == [[0, 1, 1], [0, 1, 1], [0, 0, 0]]
    again, _ = integer_translation(image, (0.3, -0.4))  # rounded to whole pixels
    assert torch.equal(again, moved)


@pytest.mark.parametrize("shift", [(0.107, -0.08), (-0.11, 0.03), (0.125, 0.0)])
def test_fractions_of_pixels(shift):
    image = picture()
    moved, mask = fractional_translation(image, shift)
    weights = []
    for part in shift:
        whole = math.floor(part * SIZE)
        frac = part * SIZE - whole
        taps = [(whole + k, sinc(k - frac) * sinc((k - frac) / 3)) for k in range(-2, 4)]
        total = sum(weight for _, weight in taps)
        weights.append([(k, weight / total) for k, weight in taps])
    for y, x in [(0, 0), (3, 11), (8, 8), (12, 4), (15, 15), (5, 2), (13, 9)]:
        value, complete = torch.zeros(2, 3), True
        for ky, wy in weights[1]:
            for kx, wx in weights[0]:
                if 0 <= y - ky < SIZE and 0 <= x - kx < SIZE:
                    value += wy * wx * image[:, :, y - ky, x - kx]
                else:
                    complete = False
        torch.testing.assert_close(moved[:, :, y, x], value, rtol=0, atol=1e-5)
        assert mask[0, 0, y, x] == float(complete), (y, x)


def test_fractions_that_are_none_are_whole_pixels():
    image, shift = picture(), (3 / SIZE, -2 / SIZE)
    torch.testing.assert_close(fractional_translation(image, shift)[0], integer_translation(image, shift)[0])


@pytest.mark.parametrize("move", [integer_translation, fractional_translation])
def test_shifts_beyond_the_image_are_refused(move):
    with pytest.raises(ValueError, match="must lie within one image width"):
        move(picture(), (0.5, -1.5))


def test_oriented_filter_is_the_convolution_of_two():
    """One sample per pixel, written as sums over the grid."""
    angle = 0.4
    matrix = rotation_matrix(angle)
    grid = torch.arange(-63, 64).double()
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    turned = [matrix[0, 0] * x + matrix[0, 1] * y, matrix[1, 0] * x + matrix[1, 1] * y]
    lanczos = [torch.where(v.abs() < 3, torch.sinc(v / 3), torch.zeros_like(v)) for v in (x, y, *turned)]
    pairs = [(torch.sinc(x) * torch.sinc(y), torch.sinc(turned[0]) * torch.sinc(turned[1]))]
    pairs.append((lanczos[0] * lanczos[1], lanczos[2] * lanczos[3]))
    expected = torch.ones(11, 11, dtype=torch.float64)
    for own, other in pairs:
        for j in range(-5, 6):
            for k in range(-5, 6):
                # sum over u of own(u) other((j, k) - u), periodic; both are even
                expected[j + 5, k + 5] *= (own * other.roll((j, k), (0, 1))).sum()
    expected /= expected.sum()
    torch.testing.assert_close(oriented_filter(matrix, 1), expected, rtol=0, atol=1e-10)


def test_every_phase_of_a_fine_filter_sums_to_one():
    taps = oriented_filter(rotation_matrix(1.0), 4)
    assert taps.shape == (47, 47)
    for j in range(4):
        for k in range(4):
            assert taps[j::4, k::4].sum() == pytest.approx(1)


@pytest.mark.parametrize("angle", [0.5, -2.0])
def test_turned_pixels(angle):
    image, taps = picture(), oriented_filter(rotation_matrix(angle), 4)
    turned, mask = rotation(image, angle)

    def sample(row, column):
        """The image four times finer, one sample of it; pixel j is sample 4 j."""
        value = torch.zeros(2, 3)
        if not (-23 <= row <= 4 * SIZE - 4 + 23 and -23 <= column <= 4 * SIZE - 4 + 23):
            return value
        for j in range(SIZE):
            for k in range(SIZE):
                if abs(row - 4 * j) <= 23 and abs(column - 4 * k) <= 23:
                    value += taps[row - 4 * j + 23, column - 4 * k + 23] * image[:, :, j, k]
        return value

    c, s = math.cos(angle), math.sin(angle)
    for y, x in [(8, 7), (3, 9), (12, 12), (0, 0)]:
        px, py = x + 0.5 - SIZE / 2, y + 0.5 - SIZE / 2
        # [[c, s], [-s, c]] moves points of the source here, so its inverse says where from.
        qx, qy = c * px - s * py, s * px + c * py
        column, row = 4 * (qx + SIZE / 2 - 0.5), 4 * (qy + SIZE / 2 - 0.5)
        j, k = math.floor(row), math.floor(column)
        fj, fk = row - j, column - k
        value = (1 - fj) * ((1 - fk) * sample(j, k) + fk * sample(j, k + 1))
        value += fj * ((1 - fk) * sample(j + 1, k) + fk * sample(j + 1, k + 1))
        torch.testing.assert_close(turned[:, :, y, x], value, rtol=0, atol=1e-5)
        inside = all(22 <= round(v) <= 4 * SIZE - 27 for v in (row, column))
        assert mask[1, 2, y, x] == float(inside)


def test_a_quarter_turn_and_no_turn():
    image = picture()
    still, mask = rotation(image, 0.0)
    assert mask.sum() == 6 * (SIZE - 12) ** 2
    for k in range(1, 4):
        turned, mask = rotation(image, k * math.pi / 2)
        assert mask.sum() == 6 * (SIZE - 12) ** 2
        torch.testing.assert_close(turned * mask, still.rot90(k, (2, 3)) * mask, rtol=0, atol=2e-5)
    # The same filter but for the grid on which its window is computed.
    filtered, frame = pseudo_rotation(image, 0.0)
    assert frame.sum() == 6 * (SIZE - 10) ** 2
    assert ((filtered - still) * mask).abs().max() < 0.01 * image.abs().max()


def test_flat_pictures_stay_flat():
    image = torch.ones(1, 1, 32, 32)
    for move in (rotation, pseudo_rotation):
        moved, mask = move(image, 0.7)
        torch.testing.assert_close(moved * mask, mask, rtol=0, atol=1e-5)
        assert mask.sum() > 100


def test_decibels_by_hand():
    sums = masked_squares(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.eye(2)[None, None])
    assert sums.tolist() == [2, 2]
    assert decibels(sums) == pytest.approx(20 * math.log10(2))
    assert decibels(torch.tensor([0.04, 4.0])) == pytest.approx(20 * math.log10(2 / 0.1))
    assert decibels(torch.tensor([0.0, 4.0])) == 200
