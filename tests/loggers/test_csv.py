"""The CSV logger as Lightning calls it."""

import csv
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from limbeck.embeddings.torchvision_shim import imported
from limbeck.loggers.csv import Csv

pl = imported("pytorch_lightning")


class Counting(pl.LightningModule):
    """Logs through Lightning's own self.log as well as directly."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        images = 4 * (batch_idx + 1)
        for logger in self.trainer.loggers:
            logger.log_metrics({"kimg": images / 1000, "loss/generator/a": 1.0 / images}, step=images)

    def configure_optimizers(self):
        return []


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:.*many workers", "ignore:.*_pytree")
def test_metrics_csv_lies_in_the_run_folder_itself(tmp_path):
    loggers = [Csv(tmp_path)]
    trainer = pl.Trainer(
        max_steps=-1,
        max_epochs=1,
        logger=loggers,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        log_every_n_steps=1,
    )
    trainer.fit(Counting(), DataLoader(torch.zeros(3, 1)))
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["kimg"] for row in rows] == ["0.004", "0.008", "0.012"]
    assert [float(row["loss/generator/a"]) for row in rows] == [0.25, 0.125, float(f"{1 / 12:.9g}")]
    assert [path.name for path in Path(tmp_path).iterdir()] == ["metrics.csv"]
    assert Path(trainer.log_dir) == tmp_path
