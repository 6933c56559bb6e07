"""Whole runs with the papers' distillation objectives, as a user starts them."""

from pathlib import Path

import pytest

from limbeck.loggers.table import read_table

from .conftest import run, tiny

pytestmark = pytest.mark.slow


def test_all_objectives_at_once_on_the_bundled_teacher(tmp_path):
    names = ["nonsaturating", "pixel_l1", "intermediate_l1", "perceptual", "relation", "self_supervised", "gcc"]
    arguments = [
        f"loss/generator=[{','.join(names)}]",
        "loss/discriminator=[nonsaturating,r1,nickel]",
        "discriminator=both",
        "metric=[kid_random]",
        "protocol.num_images=64",
        "protocol.batch_size=32",
        "kimg=0.1",
        "batch_size=8",
        "distillation.decay_kimg=0",
        "distillation.micro_batch_size=4",
        "distillation.log_every_kimg=0.05",
        "callback=[progress]",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    done = run("train.py", *arguments)
    assert done.returncode == 0, done.stderr
    rows = read_table(tmp_path / "run" / "metrics.csv")
    expected = {f"loss/generator/{name}" for name in names} | {"loss/discriminator/nickel"}
    assert expected <= rows[0].keys()
    assert {f"logits/{judge}/fake" for judge in ("fresh", "teacher")} <= rows[0].keys()
    assert rows[-1]["kimg"] >= 0.1


def gcc(folder: Path) -> list[str]:
    kept = [o for o in tiny(folder) if not o.startswith(("loss/generator", "kimg", "distillation.decay_kimg"))]
    return [
        *(o for o in kept if "pixel_l1" not in o),
        "~loss.generator.pixel_l1",
        "loss/generator=[nonsaturating,gcc]",
        "loss/discriminator=[nonsaturating,r1,nickel]",
        "discriminator=gated",
        "distillation=gcc",
        "kimg=0.12",
        "distillation.decay_kimg=0.05",
    ]


def test_online_teacher_and_gates_on_two_processes(tmp_path):
    arguments = [*gcc(tmp_path / "run"), "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    done = run("train.py", *arguments, timeout=400)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.json").is_file()
    rows = read_table(tmp_path / "run" / "metrics.csv")
    assert {"loss/gates/architecture", "loss/teacher_generator/path_length", "loss/generator/gcc"} <= rows[0].keys()
