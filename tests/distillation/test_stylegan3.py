"""StyleGAN3 in the training loop that StyleGAN2 has: every term, its magnitudes, and resuming."""

import copy
import warnings

import pytest
import torch
from torch.utils.data import DataLoader

import limbeck
from limbeck.architectures.stylegan2 import Discriminator
from limbeck.architectures.stylegan3 import Generator, Layer
from limbeck.callbacks.checkpoint import Checkpoint
from limbeck.distillation.discriminators import Both, Fresh
from limbeck.distillation.gan import GanDistillation
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.losses.dime import Dime
from limbeck.losses.gcc import Collaborative
from limbeck.losses.intermediate_l1 import IntermediateL1
from limbeck.losses.lpips import Lpips
from limbeck.losses.mmd import Gaussian, Mmd
from limbeck.losses.nickel import Nickel
from limbeck.losses.perceptual import Perceptual
from limbeck.losses.pixel_l1 import PixelL1
from limbeck.losses.regularization import R1, PathLength
from limbeck.losses.relation import Relation
from limbeck.losses.self_supervised import SelfSupervised
from limbeck.losses.style_sparsity import StyleSparsity
from limbeck.losses.weighted import Weighted
from limbeck.model import Model, Pair
from limbeck.pruning.criteria.dcp import DCP

from .training import adam, adversarial, same, state

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


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test touches the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def terms():
    statistics = {"embeddings": {"random": RandomProjection()}, "weights": {"random": 1.0}, "num_images": 16}
    generator_terms = {
        "pixel_l1": PixelL1(),
        "perceptual": Perceptual(embedding=RandomProjection()),
        "relation": Relation(),
        "self_supervised": SelfSupervised(),
        "style_sparsity": StyleSparsity(),
        "gcc": Collaborative(),
        "dime": Dime(**statistics),
        "mmd": Mmd(**statistics, kernel=Gaussian()),
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


def test_lpips_reaches_the_student(train, pair, tmp_path):
    features = imported("torchvision.models").vgg16(weights=None).features.state_dict()
    trunk = tmp_path / "vgg16.pth"
    torch.save({f"features.{name}": value for name, value in features.items()}, trunk)
    lpips = Weighted(term=Lpips(trunk_path=str(trunk)), weight=3.0)

    def trained(chosen):
        torch.manual_seed(0)
        return train(Fresh()(pair), steps=2, generator_terms=chosen)

    alone, again, beside = (trained(chosen) for chosen in ({}, {}, {"lpips": lpips}))
    assert beside.last_losses["loss/generator/lpips"] > 0
    assert same(state(alone.student), state(again.student))
    assert not same(state(alone.student), state(beside.student))


@pytest.mark.slow
def test_the_published_t_256_student_from_pruning_to_samples():
    """23.3 M parameters to 3.2 M by DCP at 0.7, SVS, two training steps, a sample: full size on a CPU."""
    torch.manual_seed(0)
    teacher = Model(Generator(resolution=256, channel_base=16384), Discriminator(resolution=256, channel_base=512))
    criterion = DCP(num_samples=1, batch_size=1, num_directions=1, num_pca=16)
    student = limbeck.initializers.svs(limbeck.prune(teacher, criterion, ratio=0.7))
    counted = limbeck.profile(student.generator)
    assert (counted.num_parameters, counted.macs) == (3_179_876, 9_008_296_112)
    generator_terms, discriminator_terms = adversarial()
    module = GanDistillation(
        Pair(teacher, student),
        judges=Fresh()(Pair(teacher, student)),
        generator_terms={**generator_terms, "pixel_l1": Weighted(term=PixelL1(), weight=3.0)},
        discriminator_terms=discriminator_terms,
        generator_optimizer=adam(2.5e-3),
        discriminator_optimizer=adam(2e-3),
        mixing_probability=0.0,
        kimg=0.002,
        batch_size=1,
    )
    real = [(torch.randint(256, (3, 256, 256)).to(torch.uint8), 0)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = pl.Trainer(accelerator="cpu", devices=1, max_epochs=1, enable_model_summary=False, **quiet)
        trainer.fit(module, DataLoader(real, batch_size=1))
    assert int(module.images_seen) == 2
    assert all(value == value for value in module.last_losses.values())
    image = limbeck.sample(Model(module.ema), 1)
    assert image.shape == (1, 3, 256, 256)
    assert image.std() > 0
