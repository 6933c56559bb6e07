"""Equivariance of untrained networks: the filters alone decide it, so any fault of them shows."""

import pytest
import torch

from limbeck.architectures import stylegan2
from limbeck.architectures.stylegan3 import Generator
from limbeck.configured import configured
from limbeck.errors import UserError
from limbeck.functional.equivariance import decibels, masked_squares
from limbeck.metrics.equivariance import Equivariance, Rotation, Translation

MOVEMENTS = {
    "eq_t": Translation(whole_pixels=True),
    "eq_t_frac": Translation(whole_pixels=False),
    "eq_r": Rotation(),
}


def untrained(**configuration):
    settings = {"resolution": 64, "channel_base": 2048, "channel_max": 64, "z_dim": 64, "w_dim": 64}
    return Generator(**settings, **configuration).eval()


def values(given, generator, num_images=4, **settings):
    samples = given()
    samples.generator = generator
    if generator.num_classes:
        samples.labels = lambda: torch.eye(generator.num_classes)
    found = {}
    for movement in MOVEMENTS.values():
        found |= Equivariance(movement, num_images=num_images, **settings).of(samples)
    return found


def test_untrained_networks(given):
    r, t = values(given, untrained(kernel=1, radial=True)), values(given, untrained())
    # In 8 images of full width were measured R 108.4, 80.6, 80.9; T 79.1, 76.1, 33.8.
    assert r["eq_t"] > 80
    assert 72 < r["eq_t_frac"] < 90
    assert r["eq_r"] > 70
    assert 70 < t["eq_t"] < 95
    assert 66 < t["eq_t_frac"] < 90
    assert 20 < t["eq_r"] < 45


@torch.no_grad()
def test_whole_samples_of_the_finer_layers_are_moved_almost_exactly():
    """Two pixels are half a sample of the coarsest layers; one is half a sample of layers near their band's limit."""
    generator = untrained(kernel=1, radial=True)
    latent = torch.randn(2, 64)
    still, movement, found = generator(latent), MOVEMENTS["eq_t"], {}
    for pixels in (1, 2, 6, 8):
        motion = (pixels / 64, -pixels / 64)
        moved = generator(latent, transform=movement.matrix(motion))
        found[pixels] = decibels(masked_squares(moved, *movement.expected(still, motion)))
    assert min(found[2], found[6], found[8]) > 98
    assert found[1] > 75


def small():
    settings = {"resolution": 16, "widths": [4, 4, 4], "num_layers": 2, "z_dim": 4, "w_dim": 4, "num_classes": 2}
    return Generator(**settings, num_critical=1).eval()


def test_what_was_added_up_does_not_depend_on_whoever_asks_first(given):
    generator = small()
    once = values(given, generator, num_images=6)
    torch.manual_seed(9)
    assert values(given, generator, num_images=6) == once
    assert values(given, generator, num_images=6, seed=1) != once
    assert set(once) == set(MOVEMENTS)


def test_labels_are_those_that_the_protocol_draws(given):
    """One class alone gives another value than the other; none at all is no question of this metric."""
    generator, found = small(), {}
    for chosen in (0, 1):
        samples = given()
        samples.generator = generator
        samples.labels = lambda chosen=chosen: torch.eye(2)[[chosen]].expand(5, 2)
        found[chosen] = Equivariance(Rotation(), num_images=4).of(samples)["eq_r"]
    assert found[0] != found[1]


def test_the_networks_own_transform_is_left_out(given):
    generator = small()
    once = values(given, generator, num_images=4)
    generator.synthesis.input.transform[0, 2] = 0.2
    assert values(given, generator, num_images=4) == once


def test_networks_that_cannot_move_their_picture():
    generator = stylegan2.Generator(resolution=8, widths=[2] * 4, z_dim=4, w_dim=4)
    with pytest.raises(UserError, match=r"metric=eq_r: needs a generator that .* not stylegan2 Generator"):
        Equivariance(Rotation()).check_family(generator)
    with pytest.raises(UserError, match=r"metric.eq_r.num_images=0: must be at least 1"):
        Equivariance(Rotation(), num_images=0).check_family(small())


@pytest.mark.parametrize("name", MOVEMENTS)
def test_configurations(name):
    metric = configured("metric", name)[name]
    assert metric.movement.name == name
    assert "1,000 images" in metric.describe()["estimator"]
