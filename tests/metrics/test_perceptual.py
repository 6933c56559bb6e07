import pytest
import torch

from limbeck.functional.feature_distance import feature_distances
from limbeck.metrics.perceptual import Perceptual


def test_mean_over_the_first_pairs(given, embedding):
    images = {"student": torch.rand(6, 3, 16, 16), "teacher": torch.rand(6, 3, 16, 16)}
    found = Perceptual(embedding=embedding, num_pairs=4).of(given(images=images))
    maps = [embedding.feature_maps(images[who][:4]) for who in ("student", "teacher")]
    assert found == {"perceptual_random": pytest.approx(float(feature_distances(*maps).mean()), rel=1e-6)}


def test_equal_images_have_no_distance_and_small_changes_less_than_large_ones(given, embedding):
    image = torch.rand(4, 3, 16, 16)

    def distance(change):
        images = {"student": image + change * torch.randn(image.shape), "teacher": image}
        return Perceptual(embedding=embedding).of(given(images=images))["perceptual_random"]

    assert distance(0.0) == 0
    assert 0 < distance(0.01) < distance(0.3)


def test_distance_to_the_wanted_images(given, embedding):
    images = {who: torch.rand(3, 3, 16, 16) for who in ("student", "teacher", "target")}
    found = Perceptual(embedding=embedding, to_target=True).of(given(images=images))
    maps = [embedding.feature_maps(images[who]) for who in ("student", "target")]
    assert found == {"perceptual_target_random": pytest.approx(float(feature_distances(*maps).mean()), rel=1e-6)}
    del images["target"]
    assert Perceptual(embedding=embedding, to_target=True).of(given(images=images)) == {}


def test_without_teacher_nothing_is_computed(given, embedding):
    samples = given()
    assert Perceptual(embedding=embedding).of(samples) == {}
    assert samples.asked == []
    assert embedding.layers is None
