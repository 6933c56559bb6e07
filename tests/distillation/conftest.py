"""The real training module around tiny networks, driven by a real Trainer on one thread."""

import copy
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.distillation.gan import GanDistillation
from limbeck.embeddings.torchvision_shim import imported
from limbeck.losses.adversarial import NonSaturatingDiscriminator, NonSaturatingGenerator
from limbeck.losses.weighted import Weighted
from limbeck.model import Model, Pair

pl = imported("pytorch_lightning")
BATCH = 4


class Pixels(Dataset):
    """Random images of 16 x 16, the same ones in every run."""

    def __init__(self, num_batches):
        self.images = torch.randint(256, (num_batches * BATCH, 3, 16, 16), generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index].to(torch.uint8), 0


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


def adversarial() -> tuple[dict, dict]:
    return {"nonsaturating": Weighted(term=NonSaturatingGenerator())}, {
        "nonsaturating": Weighted(term=NonSaturatingDiscriminator())
    }


@pytest.fixture
def train(pair):
    """Train for some steps; returns the module. Further arguments are GanDistillation's."""

    def run(judges, *, steps=2, generator_terms=None, discriminator_terms=None, discriminator_lr=1e-3, **settings):
        ours, theirs = adversarial()
        settings = {"noise": "const", "mixing_probability": 0.0, "log_every_kimg": 1.0, **settings}
        module = GanDistillation(
            pair,
            judges=judges,
            generator_terms={**ours, **(generator_terms or {})},
            discriminator_terms={**theirs, **(discriminator_terms or {})},
            generator_optimizer=lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.0, 0.99)),
            discriminator_optimizer=lambda p: torch.optim.Adam(p, lr=discriminator_lr, betas=(0.0, 0.99)),
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
                limit_train_batches=steps,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            torch.manual_seed(0)
            trainer.fit(module, DataLoader(Pixels(steps), batch_size=BATCH))
        return module

    return run
