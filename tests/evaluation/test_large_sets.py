"""Sets too large to hold their features: moments are summed batch by batch, what compares single images refuses."""

import weakref

import pytest
import torch

from limbeck.embeddings.random_projection import RandomProjection
from limbeck.errors import UserError
from limbeck.evaluation.protocol import Protocol
from limbeck.evaluation.reference import reference_features, reference_sums, summed_up
from limbeck.functional.frechet import sums
from limbeck.metrics import base
from limbeck.metrics.frechet import FrechetDistance
from limbeck.metrics.kernel_distance import KernelDistance
from limbeck.metrics.prdc import Overlap

from .conftest import NoiseSource, tiny_model

CPU = torch.device("cpu")


def frechet_protocol(**changes):
    embedding = RandomProjection(num_features=8)
    settings = {"metrics": {"frechet": FrechetDistance(embedding=embedding)}, "num_images": 50, "batch_size": 8}
    return Protocol(**(settings | changes))


def test_sums_add_up_over_parts():
    features = torch.randn(11, 5)
    count, total, products = summed_up([features[:4], features[4:]], 5, CPU)
    assert count == 11
    torch.testing.assert_close(total, features.double().sum(dim=0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(products, torch.einsum("ni,nj->ij", *[features.double()] * 2), rtol=1e-12, atol=1e-12)
    for own, other in zip(sums(features), (count, total, products), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


def test_a_large_set_has_the_distance_of_its_features(cache, monkeypatch):
    model = tiny_model()
    held = frechet_protocol()(model, data=NoiseSource())
    monkeypatch.setattr(base, "MOST_KEPT", 20)
    source = NoiseSource()
    streamed = frechet_protocol()(model, data=source)
    assert streamed.keys() == held.keys()
    for name, value in held.items():
        assert streamed[name] == pytest.approx(value, rel=1e-9)
    assert source.images.read == 60
    again = NoiseSource()
    assert frechet_protocol()(model, data=again) == streamed  # from the cache
    assert again.images.read == 0


def test_no_more_than_a_batch_is_held(cache, monkeypatch):
    embedding = RandomProjection(num_features=8)
    loaded = embedding.load()
    alive: list[weakref.ref] = []
    most = []

    def embedded(images):
        most.append(sum(ref() is not None for ref in alive))
        features = loaded(images)
        alive.append(weakref.ref(features))
        return features

    class Watched(torch.nn.Module):
        def forward(self, images):
            return embedded(images)

    monkeypatch.setattr(type(embedding), "load", lambda _: Watched())
    settings = {"num_images": 60, "batch_size": 4, "device": CPU}
    reference_sums(NoiseSource(), embedding, **settings)
    assert len(most) == 15
    assert max(most) <= 1
    alive.clear()
    most.clear()
    reference_features(NoiseSource(name="b"), embedding, **settings)
    assert max(most) == 14  # what the sums avoid


@pytest.mark.parametrize("metric", [KernelDistance, Overlap])
def test_what_compares_single_images_refuses_more_than_it_may_hold(metric, monkeypatch):
    monkeypatch.setattr(base, "MOST_KEPT", 55)
    protocol = frechet_protocol(metrics={"one": metric(embedding=RandomProjection(num_features=8))})
    with pytest.raises(UserError, match=r"metric\.one: 60 images: .* at most 55; set protocol\.num_reference"):
        protocol.check(tiny_model().generator, NoiseSource())
    few = frechet_protocol(metrics=protocol.metrics, num_reference=55, num_images=56)
    with pytest.raises(UserError, match=r"56 images: .* at most 55; set protocol\.num_images"):
        few.check(tiny_model().generator, NoiseSource())
    frechet_protocol(num_images=70).check(tiny_model().generator, NoiseSource())
