"""A module that only counts images, and a Trainer around it: what callbacks see of a run."""

import warnings

import pytest
import torch
from torch.utils.data import DataLoader

from limbeck.architectures.stylegan2 import Generator
from limbeck.embeddings.torchvision_shim import imported
from limbeck.frozen import Frozen
from limbeck.loggers.base import RunLogger

pl = imported("pytorch_lightning")
LIGHTNING_WARNINGS = ("LeafSpec", "does not have many workers", "in eval mode at the start")


class Counting(pl.LightningModule):
    """Sees `batch_size` images a step and trains nothing."""

    automatic_optimization = False

    def __init__(self, generator, teacher, total_images, batch_size=100):
        super().__init__()
        self.ema, self.student = generator, generator
        self.teacher = None if teacher is None else Frozen(teacher)
        self.total_images, self.batch_size = total_images, batch_size
        self.images_seen = 0
        self.last_losses = {"loss/generator/pixel_l1": 0.125, "loss/discriminator/r1": 2.0, "logits/fresh/real": 1.0}

    def training_step(self, batch, batch_idx):
        self.images_seen += self.batch_size

    def configure_optimizers(self):
        return []


class Kept(RunLogger):
    """Remembers what it is told."""

    def __init__(self, folder):
        super().__init__(folder)
        self.rows, self.images, self.evaluations = [], [], []

    def log_metrics(self, metrics, step=None):
        assert round(metrics["kimg"] * 1000) == step
        self.rows.append(dict(metrics))

    def log_image(self, key, image, *, kimg):
        self.images.append((key, image, kimg))

    def log_evaluation(self, model, facts, *, kimg):
        self.evaluations.append((model, dict(facts), kimg))

    def close(self):
        pass


@pytest.fixture
def generator():
    """A StyleGAN2 generator of 8 px."""
    return lambda: Generator(resolution=8, widths=[4] * 4, z_dim=4, w_dim=4, mapping_depth=1).eval()


@pytest.fixture
def train(tmp_path):
    """Count images from `start` on with some callbacks; returns the logger."""

    def run(module, *callbacks, start=0):
        logger = Kept(tmp_path)
        module.images_seen = start
        trainer = pl.Trainer(
            max_epochs=1,
            logger=[logger],
            callbacks=list(callbacks),
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            log_every_n_steps=1,
            default_root_dir=tmp_path,
        )
        steps = -(-(module.total_images - start) // module.batch_size)
        with warnings.catch_warnings():
            for words in LIGHTNING_WARNINGS:
                warnings.filterwarnings("ignore", f".*{words}")
            trainer.fit(module, DataLoader(torch.zeros(steps, 1)))
        return logger

    return run
