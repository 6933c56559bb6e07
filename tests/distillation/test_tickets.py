"""A ticket in the ordinary loop: moments without a judge move its scores and nothing else."""

import warnings

import pytest
import torch
from torch.utils.data import DataLoader

import limbeck
from limbeck.architectures.residual_generator import sngan
from limbeck.architectures.ticket import Ticket
from limbeck.distillation.gan import GanDistillation
from limbeck.embeddings.torchvision_shim import imported
from limbeck.losses.moment_matching import MomentMatching
from limbeck.losses.weighted import Weighted
from limbeck.model import Model, Pair

from ..losses.test_moment_matching import Images, Pixels
from .test_diffusion import Pixels as EightPixels
from .training import adam, same, state

pl = imported("pytorch_lightning")
BATCH = 8


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def trained(pair, steps):
    term = MomentMatching(embedding=Pixels(), data=Images(), batch_size=BATCH, learning_rate=0.01)
    module = GanDistillation(
        pair,
        judges={},
        generator_terms={"moment_matching": Weighted(term=term)},
        discriminator_terms={},
        generator_optimizer=adam(0.02),
        kimg=steps * BATCH / 1000,
        batch_size=BATCH,
        use_teacher=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on loops it does not know
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        torch.manual_seed(0)
        trainer.fit(module, DataLoader(EightPixels(), batch_size=BATCH))
    return module


def test_only_scores_averages_and_statistics_move(tmp_path):
    teacher = Model(sngan(resolution=8, width=12, z_dim=6).eval())
    ticket = Model(Ticket.of(teacher.generator, keep_ratio=0.3).eval())
    before = state(ticket.generator)
    module = trained(Pair(teacher, ticket), 10)
    assert same(before, state(ticket.generator))
    for network in (module.student, module.ema):
        after = state(network)
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        kinds = {name.partition(".")[0] if name.startswith("scores") else name.rpartition(".")[2] for name in moved}
        assert kinds == {"scores", "running_mean", "running_var", "num_batches_tracked"}
    assert sum(p.numel() for p in module.student.parameters()) == sum(
        mask.numel() for mask in limbeck.tickets.masks(ticket).values()
    )
    result = Model(module.ema.eval())
    again = limbeck.load(limbeck.save(result, tmp_path / "ticket.safetensors"))
    latent = torch.randn(3, 6)
    assert torch.equal(again.generator(latent), result.generator(latent))
    assert any(
        not torch.equal(mask, limbeck.tickets.masks(ticket)[name])
        for name, mask in limbeck.tickets.masks(again).items()
    )
