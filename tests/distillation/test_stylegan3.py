"""StyleGAN3 in the training loop that StyleGAN2 has: every term, its magnitudes, and resuming."""

import copy

import pytest
import torch

from limbeck.architectures.stylegan2 import Discriminator
from limbeck.architectures.stylegan3 import Generator, Layer
from limbeck.callbacks.checkpoint import Checkpoint
from limbeck.distillation.discriminators import Both, Fresh
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.losses.intermediate_l1 import IntermediateL1
from limbeck.losses.nickel import Nickel
from limbeck.losses.perceptual import Perceptual
from limbeck.losses.pixel_l1 import PixelL1
from limbeck.losses.regularization import R1, PathLength
from limbeck.losses.relation import Relation
from limbeck.losses.self_supervised import SelfSupervised
from limbeck.losses.style_sparsity import StyleSparsity
from limbeck.losses.weighted import Weighted
from limbeck.model import Model, Pair

from .training import same, state

pl = imported("pytorch_lightning")


def generator(width):
    settings = {"resolution": 16, "num_layers": 3, "num_critical": 1, "z_dim": 8, "w_dim": 8}
    return Generator(widths=[width] * 4, num_frequencies=6, **settings)


@pytest.fixture
def pair() -> Pair:
    teacher = Model(generator(6), Discriminator(resolution=16, widths=[8, 8, 8], group_size=1))
    return Pair(teacher, Model(generator(3), copy.deepcopy(teacher.discriminator)))


def magnitudes(network):
    return {name: value for name, value in state(network).items() if name.endswith("magnitude_ema")}


def terms():
    generator_terms = {
        "pixel_l1": PixelL1(),
        "perceptual": Perceptual(embedding=RandomProjection()),
        "relation": Relation(),
        "self_supervised": SelfSupervised(),
        "style_sparsity": StyleSparsity(),
    }
    return {
        "generator_terms": {name: Weighted(term=term) for name, term in generator_terms.items()}
        | {"path_length": Weighted(term=PathLength(), every_steps=2, batch_share=0.5)},
        "discriminator_terms": {"nickel": Weighted(term=Nickel()), "r1": Weighted(term=R1(), every_steps=2)},
    }


def test_every_term_reaches_the_student(train, pair):
    teacher = state(pair.teacher.generator)
    module = train(Both()(pair), steps=2, **terms())
    assert same(teacher, state(module.teacher.network))
    before, after = state(pair.student.generator), state(module.student)
    unchanged = {name for name in before if torch.equal(before[name], after[name])}
    assert unchanged == {f"synthesis.input.{name}" for name in ("freqs", "phases", "transform")}
    assert all(value.isfinite() for value in map(torch.tensor, module.last_losses.values()))
    assert magnitudes(module.ema) == magnitudes(module.student)


def test_magnitudes_move_in_the_judges_turn_alone_once_a_step(train, pair, monkeypatch):
    asked, measure = [], Layer.measure

    def noted(self, x, average, decay):
        asked.append(decay)
        measure(self, x, average, decay)

    monkeypatch.setattr(Layer, "measure", noted)
    generator_terms = {"path_length": Weighted(term=PathLength()), "pixel_l1": Weighted(term=PixelL1())}
    discriminator_terms = {"r1": Weighted(term=R1(), every_steps=2)}
    settings = {"generator_terms": generator_terms, "discriminator_terms": discriminator_terms}
    module = train(Fresh()(pair), steps=3, statistics_half_life_kimg=0.008, **settings)
    assert asked == pytest.approx([0.5**0.5] * 4 * 3)  # batches of 4 images, four layers, three steps
    assert magnitudes(module.student) != magnitudes(pair.student.generator)
    asked.clear()
    train(Fresh()(pair), steps=1, micro_batch_size=2, statistics_half_life_kimg=0.008)
    assert asked == pytest.approx([0.5**0.25] * 4 * 2)


class Killed(pl.Callback):
    def on_train_batch_end(self, trainer, module, *_):
        if int(module.images_seen) == 8:
            raise InterruptedError


def test_a_run_resumes_bit_for_bit(train, pair, tmp_path):
    def trained(**settings):
        torch.manual_seed(3)
        return train(Fresh()(pair), steps=4, noise="random", **terms(), **settings)

    whole, path = trained(), tmp_path / "last.ckpt"
    with pytest.raises(InterruptedError):
        trained(callbacks=[Checkpoint(tmp_path, every_kimg=0.008), Killed()])
    resumed = trained(callbacks=[Checkpoint(tmp_path / "other", every_kimg=1.0)], resume=(path, 2))
    assert same(state(whole), state(resumed))


def test_images_on_the_way_there_are_none(train, pair):
    with pytest.raises(UserError, match=r"'intermediate_l1': stylegan3 has no images on the way; leave it out"):
        train(Fresh()(pair), generator_terms={"intermediate_l1": Weighted(term=IntermediateL1())})
