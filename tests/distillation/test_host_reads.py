"""How often a step makes the host wait for the device: reads of a tensor's value, counted on a CPU."""

import collections
import traceback

import pytest
import torch

from limbeck.callbacks.checkpoint import Checkpoint
from limbeck.callbacks.progress import Progress
from limbeck.callbacks.sample_grid import SampleGrid
from limbeck.callbacks.throughput import Throughput
from limbeck.distillation.discriminators import Fresh
from limbeck.losses.pixel_l1 import PixelL1
from limbeck.losses.regularization import R1, PathLength
from limbeck.losses.weighted import Weighted

STEPS = 24


@pytest.fixture
def reads(monkeypatch):
    """Where values were read, and how often."""
    found: collections.Counter = collections.Counter()

    def counted(name, real):
        def read(tensor, *arguments, **more):
            frames = traceback.extract_stack()[:-1]
            # Adam's step counts lie on the CPU; at the end of training networks are moved there.
            if not any("torch/optim" in frame.filename or frame.name == "teardown" for frame in frames):
                ours = [frame for frame in frames if "/limbeck/" in frame.filename] or frames
                found[f"{ours[-1].filename.rpartition('/')[2]}:{ours[-1].lineno}"] += 1
            return real(tensor, *arguments, **more)

        return read

    for name in ("item", "__bool__", "__int__", "__float__", "__index__", "cpu", "tolist", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, counted(name, getattr(torch.Tensor, name)))
    return found


def test_a_step_reads_hardly_anything(train, pair, tmp_path, reads):
    """Path length every 4 steps, R1 every 16, mixing, micro-batches, a run's callbacks, a row of the log every 6."""
    torch.manual_seed(3)
    train(
        Fresh()(pair),
        steps=STEPS,
        generator_terms={
            "pixel_l1": Weighted(term=PixelL1()),
            "path_length": Weighted(term=PathLength(), weight=2.0, every_steps=4, batch_share=0.5),
        },
        discriminator_terms={"r1": Weighted(term=R1(), every_steps=16)},
        mixing_probability=0.9,
        micro_batch_size=2,
        log_every_kimg=0.024,
        callbacks=[
            Checkpoint(tmp_path, every_kimg=1.0),
            Throughput(every_kimg=0.024),
            SampleGrid(every_kimg=1.0),
            Progress(),
        ],
    )
    assert sum(reads.values()) / STEPS <= 1.0, reads
