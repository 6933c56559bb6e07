"""Conditional generators are judged on the classes that the data has, in its shares."""

import json

import numpy as np
import pytest
import torch

from limbeck.data.base import ImageDataset, ImageFacts, ImageSource
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.errors import UserError
from limbeck.evaluation.image_store import ImageStore
from limbeck.evaluation.protocol import protocol_lines
from limbeck.evaluation.sampling import input_batches, inputs_of
from limbeck.metrics.frechet import FrechetDistance
from limbeck.metrics.label_agreement import LabelAgreement

from .conftest import NoiseSource, protocol, tiny_model

COUNTS = (2700, 270, 30)
COLORS = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]])


def of_class(label: torch.Tensor, source: torch.Generator) -> torch.Tensor:
    """Images of a class: its color with a little noise, in [-1, 1]."""
    return COLORS[label][:, :, None, None] + 0.1 * torch.randn(len(label), 3, 16, 16, generator=source)


class Colors(ImageDataset):
    """Images of `COUNTS` in three classes."""

    def __init__(self):
        self.label = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))
        image = of_class(self.label, torch.Generator().manual_seed(1))
        self.images = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)

    def __len__(self):
        return len(self.label)

    def batch(self, indices: np.ndarray):
        return self.images[indices], self.label[indices]


class ColorSource(ImageSource):
    mirror, num_workers = False, 0

    def __init__(self, num_classes=3):
        self.images, self.num_classes = Colors(), num_classes

    def open(self):
        return ImageFacts(16, 3, self.num_classes, len(self.images))

    def train(self):
        return self.images

    def heldout(self):
        return self.images

    def digest(self):
        return "colors"


def perfect(num_classes=3):
    """A generator that draws each class as it is."""
    model = tiny_model(num_classes=num_classes)

    def draw(latent, label, **how):
        return of_class(label, torch.Generator().manual_seed(int(latent.abs().sum() * 1e4)))

    model.generator.draw = draw
    return model


def test_a_generator_that_is_perfect_class_by_class_is_judged_so():
    judge = protocol({"frechet": FrechetDistance(embedding=RandomProjection(num_features=12))}, num_images=3000)
    (good,) = judge(perfect(), data=ColorSource()).values()
    (even,) = judge(perfect(), data=ColorSource(num_classes=0)).values()
    assert good < 0.02 * even


@pytest.mark.parametrize(("shift", "share"), [(0, 1.0), (1, 0.0)])
def test_drawn_classes_agree_with_those_asked_for(shift, share):
    """Labels and features are in one order, on both sides."""
    model = perfect()
    draw = model.generator.draw
    model.generator.draw = lambda latent, label, **how: draw(latent, (label + shift) % 3)
    judge = protocol({"labels": LabelAgreement(embedding=RandomProjection(num_features=12))}, num_images=300)
    found = judge(model, data=ColorSource())
    assert found["label_agreement_random"] == pytest.approx(share, abs=0.02)
    assert found["label_agreement_real_random"] > 0.98
    assert judge(model, data=ColorSource(num_classes=0)) == {}


def test_labels_have_the_datas_shares_and_do_not_move_the_latents():
    generator, data = perfect().generator, ColorSource()
    drawn, even = inputs_of(generator, 3000, 0, data=data), inputs_of(generator, 3000, 0)
    assert drawn.label.bincount().tolist() == pytest.approx([2700, 270, 30], abs=60)
    assert min(even.label.bincount().tolist()) > 900
    assert torch.equal(drawn.source, even.source)
    assert torch.equal(drawn.label, inputs_of(generator, 3000, 0, data=data).label)
    assert not torch.equal(drawn.label, inputs_of(generator, 3000, 1, data=data).label)
    parts = [part.label for _, part in input_batches(generator, 3000, 0, 64, data=data)]
    assert torch.equal(torch.cat(parts), drawn.label)


def test_the_report_says_which_classes_were_drawn():
    generator, judge = perfect().generator, protocol({})
    facts = json.loads(json.dumps(judge.describe(ColorSource(), generator)))
    assert facts["labels"] == "classes of random reference images"
    assert "labels classes of random reference images" in protocol_lines(facts)[0]
    assert judge.describe(NoiseSource(), generator)["labels"] == "all classes evenly"
    assert "labels" not in judge.describe(ColorSource(), tiny_model().generator)


def test_other_classes_than_the_datas_are_refused_before_anything_is_drawn():
    with pytest.raises(UserError, match="the model draws 4 classes, the data has 3"):
        protocol({})(perfect(num_classes=4), data=ColorSource())


def test_kept_images_are_those_of_their_classes(tmp_path):
    """Images that an interrupted evaluation left belong to the labels they were drawn for."""
    judge = protocol({"frechet": FrechetDistance(embedding=RandomProjection())}, num_images=64, keep_drawn=True)
    found = [
        judge(perfect(), data=ColorSource(num_classes), store=ImageStore(tmp_path / "drawn"))
        for num_classes in (0, 3, 0, 3)
    ]
    assert found[0] == found[2] != found[1] == found[3]
