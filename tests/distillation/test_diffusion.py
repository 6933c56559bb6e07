"""Training of a denoiser in the real loop."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from limbeck.architectures.ddpm import UNet
from limbeck.distillation.diffusion import DiffusionDistillation
from limbeck.distillation.gan import GanDistillation
from limbeck.distillation.schedules import ema_decay
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.losses.adversarial import NonSaturatingDiscriminator, NonSaturatingGenerator
from limbeck.losses.block_features import BlockFeatures
from limbeck.losses.dime import Dime
from limbeck.losses.noise_prediction import NoisePrediction
from limbeck.losses.teacher_noise import TeacherNoise
from limbeck.losses.weighted import Term, Weighted
from limbeck.model import Model, Pair

from .training import adam

pl = imported("pytorch_lightning")
BATCH = 8


class Pixels(IterableDataset):
    def __iter__(self):
        source = torch.Generator().manual_seed(1)
        while True:
            yield torch.randint(256, (3, 8, 8), generator=source).to(torch.uint8), 0


class Noting(Term):
    """Adds nothing; keeps the steps it was shown."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def forward(self, step):
        self.steps.append(step)
        return 0.0 * next(step.players.student.parameters()).sum()


def denoiser(seed, **changes) -> UNet:
    torch.manual_seed(seed)
    return UNet(**{"resolution": 8, "level_widths": [8, 8], "blocks_per_level": 1, "norm_groups": 2, **changes})


@pytest.fixture
def pair() -> Pair:
    narrow = {"down_blocks.0.downsamplers.0.conv": 4, "up_blocks.1.resnets.0.conv2": 4}
    return Pair(Model(denoiser(0).eval()), Model(denoiser(1, widths=narrow).eval()))


def module_of(pair, *, steps=2, terms=None, optimizer=None, **settings) -> DiffusionDistillation:
    return DiffusionDistillation(
        pair,
        generator_terms={"noise_prediction": Weighted(term=NoisePrediction()), **(terms or {})},
        generator_optimizer=optimizer or adam(1e-3),
        kimg=steps * BATCH / 1000,
        batch_size=BATCH,
        **settings,
    )


def trained(pair, *, callbacks=(), precision="32-true", **settings) -> DiffusionDistillation:
    module = module_of(pair, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on loops it does not know
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=-1,
            logger=False,
            callbacks=list(callbacks),
            precision=precision,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        torch.manual_seed(0)
        trainer.fit(module, DataLoader(Pixels(), batch_size=BATCH))
    return module


def flat(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_the_student_learns_and_the_teacher_stays(pair):
    teacher, student = flat(pair.teacher.generator), flat(pair.student.generator)
    module = trained(pair, steps=3)
    assert torch.equal(flat(pair.teacher.generator), teacher)
    assert torch.equal(flat(module.teacher.network), teacher)
    assert torch.equal(flat(pair.student.generator), student)
    assert not torch.equal(flat(module.student), student)
    assert int(module.images_seen) == 3 * BATCH
    assert module.final_judge() is None


def test_a_few_steps_lower_the_loss(pair):
    first = trained(pair, steps=1).last_losses["loss/generator/noise_prediction"]
    later = trained(pair, steps=60, optimizer=adam(5e-3), log_every_kimg=0.04).last_losses
    assert 100 < first < 400  # 3 * 8 * 8 for an estimate of zeros
    assert later["loss/generator/noise_prediction"] < 0.9 * first


def test_micro_batches_give_the_update_of_the_whole_batch(pair):
    """Whole ones, and with a smaller last one."""
    plain = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=1.0)}  # Adam would magnify rounding
    joint = Dime(embeddings={"a": RandomProjection()}, weights={"a": 1.0}, statistics="batch", over="batch")
    plain["terms"] = {"dime": Weighted(term=joint, weight=100.0)}
    plain |= {"steps": 1, "image_share": 1.0}
    whole, *parted = (trained(pair, micro_batch_size=size, **plain) for size in (None, 2, 3, 5, 7))
    for parts in parted:
        torch.testing.assert_close(flat(parts.student), flat(whole.student), rtol=1e-4, atol=1e-5)
        assert parts.last_losses == pytest.approx(whole.last_losses, rel=1e-5)


def test_time_steps_come_in_pairs_and_fill_the_batch(pair):
    noting = Noting()
    trained(pair, steps=1, terms={"noting": Weighted(term=noting)}, micro_batch_size=4)
    assert [len(step.clean) for step in noting.steps] == [4, 4]
    steps = torch.cat([step.timestep for step in noting.steps])
    drawn = steps[: BATCH // 2 + 1]
    assert torch.equal(steps, torch.cat([drawn, 999 - drawn])[:BATCH])
    assert noting.steps[0].clean.abs().max() <= 1


def test_the_gradient_is_clipped_over_all_parameters(pair):
    def moved(limit):
        module = trained(pair, steps=1, optimizer=lambda p: torch.optim.SGD(p, lr=1.0), clip_gradient_norm=limit)
        return (flat(module.student) - flat(pair.student.generator)).norm().item(), module.last_losses

    (short, losses), (free, _) = moved(1.0), moved(None)
    assert short == pytest.approx(1.0, rel=1e-4)
    assert free == pytest.approx(losses["gradient/generator/norm"], rel=1e-3)
    assert free > 5


def test_the_average_moves_by_its_half_life(pair):
    module = trained(pair, steps=1, ema_half_life_kimg=0.008)
    expected = (flat(pair.student.generator) + flat(module.student)) / 2
    torch.testing.assert_close(flat(module.ema), expected)
    assert ema_decay(128, 887.2, 10**6) == pytest.approx(0.9999, abs=1e-8)


def test_dropout_is_the_students_alone(pair):
    module = module_of(pair, dropout=0.25)
    rates = [{m.p for m in network.modules() if isinstance(m, nn.Dropout)} for network in (module.student, module.ema)]
    assert rates == [{0.25}, {0.0}]
    assert module.student.training
    assert not module.ema.training


def test_without_a_term_that_asks_the_teacher_never_passes(pair):
    pair.teacher.generator.register_forward_pre_hook(lambda *_: pytest.fail("the teacher passed"))
    trained(pair, steps=1)
    trained(pair, steps=1, use_teacher=False)


def test_distillation_beside_the_noise(pair):
    settings = {"embeddings": {"a": RandomProjection()}, "weights": {"a": 1.0}}
    terms = {
        "teacher_noise": Weighted(term=TeacherNoise(), weight=0.7),
        "block_features": Weighted(term=BlockFeatures(), weight=10.0),
        "dime": Weighted(term=Dime(**settings, statistics="batch", over="batch"), weight=1.0, every_steps=2),
    }
    passes = []
    pair.teacher.generator.register_forward_hook(lambda *_: passes.append(1))
    module = trained(pair, steps=4, terms=terms, micro_batch_size=4)
    assert set(module.last_losses) >= {f"loss/generator/{name}" for name in terms}
    assert len(passes) == 1 + 2 * (4 + 2)  # once for the blocks' widths, then per micro-batch: ordinary and lazy steps
    (optimizer,) = module.trainer.optimizers
    adapters = [p for name, p in module.named_parameters() if "adapters" in name]
    assert adapters
    assert all(any(p is q for q in optimizer.param_groups[0]["params"]) for p in adapters)
    assert all(p in optimizer.state for p in adapters)
    assert any("adapters" in name for name in module.state_dict())


def test_whom_a_regime_does_not_know_is_refused(pair):
    judge = {"fresh": nn.Identity()}
    with pytest.raises(UserError, match="discriminator=fresh: a denoiser has no judges"):
        module_of(pair, judges=judge)
    with pytest.raises(UserError, match="loss/discriminator: the chosen distillation has no such player"):
        module_of(pair, discriminator_terms={"nonsaturating": Weighted(term=NonSaturatingDiscriminator())})
    with pytest.raises(UserError, match="'nonsaturating': reads a JudgedStep"):
        module_of(pair, terms={"nonsaturating": Weighted(term=NonSaturatingGenerator())})
    common = {"generator_optimizer": adam(1e-3), "kimg": 1, "batch_size": 8, "judges": {}}
    with pytest.raises(UserError, match="loss/generator: no term is selected"):
        DiffusionDistillation(pair, generator_terms={}, **common)
    with pytest.raises(UserError, match="'noise_prediction': reads a DenoisingStep"):
        GanDistillation(
            pair,
            generator_terms={"noise_prediction": Weighted(term=NoisePrediction())},
            discriminator_terms={"nonsaturating": Weighted(term=NonSaturatingDiscriminator())},
            discriminator_optimizer=adam(1e-3),
            **common,
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"clip_gradient_norm": 0.0},
        {"dropout": 1.0},
        {"image_share": 0.0},
        {"frozen_precision": "float16"},
        {"warmup_kimg": 5.0},
    ],
)
def test_impossible_settings_are_refused_by_name(pair, wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        module_of(copy.copy(pair), **wrong)
