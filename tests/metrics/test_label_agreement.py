"""The share of images that look as they were asked to: by hand, and the classifier against least squares."""

import numpy as np
import pytest
import torch

from limbeck.data.translation.robohash_colors import RoboHashColors
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.evaluation.sampling import from_eight_bits
from limbeck.metrics.label_agreement import PENALTY, LabelAgreement, agreement, ridge

from .conftest import GivenSamples


class Labelled(GivenSamples):
    """With labels of the fakes and of the real images."""

    def __init__(self, *, asked, own, **given):
        super().__init__(**given)
        self.asked_labels, self.own = asked, own

    def labels(self):
        return self.asked_labels

    def reference_labels(self):
        return self.own


def test_the_classifier_is_a_penalized_least_squares_fit():
    numbers = np.random.default_rng(0)
    features, labels = numbers.normal(size=(40, 3)) + 2, numbers.integers(2, size=(40, 2)).astype(float)
    weights, offset = ridge(torch.from_numpy(features), torch.from_numpy(labels))
    apart = features - features.mean(axis=0)
    rows = np.sqrt(PENALTY * (apart**2).mean() * len(features)) * np.eye(3)  # the penalty as further observations
    wanted = [labels - labels.mean(axis=0), np.zeros((3, 2))]
    expected = np.linalg.lstsq(np.concatenate([apart, rows]), np.concatenate(wanted), rcond=None)[0]
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(offset.numpy(), labels.mean(axis=0) - features.mean(axis=0) @ expected, rtol=1e-9)


def test_classes_are_counted_by_image_and_attributes_one_by_one():
    classes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    scores = torch.tensor([[0.3, 0.2], [0.3, 0.2], [0.1, 0.9], [0.9, 0.8]])
    assert agreement(scores, classes) == 0.75
    attributes = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert agreement(torch.tensor([[0.9, 0.2], [0.1, 0.4]]), attributes) == 0.75


def test_values_by_hand(embedding):
    """Features in two heaps; three of four images lie where they were asked to."""
    heaps = torch.eye(2).repeat(4, 1)
    asked = torch.eye(2)[[0, 1, 0, 1]]
    samples = Labelled(fake=torch.eye(2)[[0, 1, 0, 0]], real=heaps * 5, asked=asked, own=heaps)
    # every second image is of the same heap, so a half knows one class alone
    values = LabelAgreement(embedding=embedding).of(samples)
    assert values["label_agreement_random"] == 0.75
    order = [0, 2, 1, 3, 4, 6, 5, 7]
    samples = Labelled(fake=heaps * 5, real=heaps[order] * 5, asked=heaps, own=heaps[order])
    assert LabelAgreement(embedding=embedding).of(samples) == {
        "label_agreement_random": 1.0,
        "label_agreement_real_random": 1.0,
    }


def test_without_labels_there_is_no_value(embedding, given):
    assert LabelAgreement(embedding=embedding).of(given(fake=torch.zeros(2, 2), real=torch.zeros(2, 2))) == {}


@pytest.mark.parametrize("right", [True, False])
def test_recolored_robots_are_of_their_color(right):
    """Wanted images agree with what was asked; sources, which have each color in turn, in one of two."""
    data = RoboHashColors(colors=("blue", "green"), resolution=32)
    chosen = np.arange(200)
    images = (data.targets() if right else data.sources()).batch(chosen)[0]
    metric = LabelAgreement(embedding=RandomProjection(num_features=64))
    reference = data.heldout().batch(np.arange(400))
    metric.update(from_eight_bits(reference[0]), reference[1], real=True)
    metric.update(from_eight_bits(images), data.sources().labels_of(chosen), real=False)
    found = metric.compute()["label_agreement_random"].item()
    assert found > 0.95 if right else abs(found - 0.5) < 0.1
