"""The real training module around tiny networks, driven by a real Trainer on one thread."""

import copy
import itertools
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.distillation.gan import GanDistillation
from limbeck.embeddings.torchvision_shim import imported
from limbeck.model import Model, Pair

from .training import adversarial

pl = imported("pytorch_lightning")
BATCH = 4


class Pixels(IterableDataset):
    """Endless random images of 16 x 16, the same ones in every run."""

    def __init__(self, start):
        self.start = start

    def __iter__(self):
        for index in itertools.count(self.start):
            yield torch.randint(256, (3, 16, 16), generator=torch.Generator().manual_seed(index)).to(torch.uint8), 0


def generator(width=8) -> Generator:
    network = Generator(resolution=16, widths=[width] * 6, z_dim=8, w_dim=8, mapping_depth=2)
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    return network


@pytest.fixture
def pair() -> Pair:
    teacher = Model(generator(8), Discriminator(resolution=16, widths=[8, 8, 8], group_size=1))
    return Pair(teacher, Model(generator(4), copy.deepcopy(teacher.discriminator)))


@pytest.fixture
def train(pair):
    """Train for some steps; returns the module. Further arguments are GanDistillation's.

    resume: (checkpoint, number of steps it has seen).
    """

    def run(
        judges,
        *,
        steps=2,
        generator_terms=None,
        discriminator_terms=None,
        discriminator_lr=1e-3,
        make=lambda p, lr: torch.optim.Adam(p, lr=lr, betas=(0.0, 0.99)),
        callbacks=(),
        resume=(None, 0),
        pair=pair,
        **settings,
    ):
        ours, theirs = adversarial() if judges else ({}, {})
        settings = {"noise": "const", "mixing_probability": 0.0, "log_every_kimg": 1.0, **settings}
        module = GanDistillation(
            pair,
            judges=judges,
            generator_terms={**ours, **(generator_terms or {})},
            discriminator_terms={**theirs, **(discriminator_terms or {})},
            generator_optimizer=lambda p: make(p, 1e-3),
            discriminator_optimizer=lambda p: make(p, discriminator_lr),
            kimg=steps * BATCH / 1000,
            batch_size=BATCH,
            **settings,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's advice on loops it does not know
            trainer = pl.Trainer(
                accelerator="cpu",
                devices=1,
                max_epochs=-1,
                max_steps=-1,
                logger=False,
                callbacks=list(callbacks),
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            torch.manual_seed(0)
            loader = DataLoader(Pixels(resume[1] * BATCH), batch_size=BATCH)
            trainer.fit(module, loader, ckpt_path=resume[0], weights_only=True)
        return module

    return run
