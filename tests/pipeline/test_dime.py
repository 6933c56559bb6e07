"""Whole runs with DiME and kernel MMD, as a user starts them: over named embeddings, resumed, on two processes."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from limbeck.loggers.table import read_table

from .conftest import ROOT, assert_same_student, command, end_after_a_checkpoint, environment, tiny

pytestmark = pytest.mark.slow
DIME = "loss.generator.dime.term"
MMD = "loss.generator.mmd.term"
LOSSES = [
    "loss/generator=[nonsaturating,dime,mmd]",
    "~loss.generator.pixel_l1",
    f"+embedding@{DIME}.embeddings.random=random_projection",
    f"+{DIME}.weights.random=20",
    f"{DIME}.weights.lite0=0",
    f"{DIME}.num_images=64",
    f"{DIME}.over=batch",
    f"+embedding@{MMD}.embeddings.random=random_projection",
    f"+{MMD}.weights.random=1",
    f"{MMD}.weights.lite0=0",
    f"{MMD}.teacher=queue",
    f"{MMD}.num_images=32",
    f"kernel@{MMD}.kernel=polynomial",
    "distillation.micro_batch_size=4",
    "kimg=0.08",
    "distillation.decay_kimg=0.02",
]


def arguments(folder: Path, *more: str) -> list[str]:
    replaced = [override for override in tiny(folder) if override.partition("=")[0] not in {"loss/generator", "kimg"}]
    return [*(o for o in replaced if not o.startswith("distillation.decay_kimg")), *LOSSES, *more]


def started(folder: Path, *more: str) -> subprocess.Popen:
    return subprocess.Popen(
        command("train.py", *arguments(folder, *more)),
        env={**environment(), "XDG_CACHE_HOME": str(folder.parent / "cache")},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(folder: Path, *more: str) -> str:
    process = started(folder, *more)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def test_a_run_makes_its_statistics_once_and_resumes_bit_for_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    said = finished(whole)
    assert "moments of 64 images of the teacher under random_projection" in said
    rows = read_table(whole / "metrics.csv")
    assert {"loss/generator/dime", "loss/generator/mmd"} <= set(rows[0])
    assert rows[-1]["kimg"] == 0.08
    report = json.loads((whole / "report.json").read_text())
    assert list(report["config"]["loss"]["generator"]) == ["nonsaturating", "dime", "mmd"]
    assert "random_projection" in (whole / "report.md").read_text()

    end_after_a_checkpoint(arguments(killed), killed, signal.SIGKILL, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert not (killed / "student.safetensors").is_file()
    assert "moments of" not in finished(killed)  # read from the cache
    assert_same_student(whole, killed)


def test_two_processes_hold_the_same_student(tmp_path):
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "distillation.micro_batch_size=2"]
    said = finished(tmp_path / "ddp", *two)  # the distiller itself refuses students that differ
    assert said.count("moments of 64 images") == 1
    assert read_table(tmp_path / "ddp" / "metrics.csv")[-1]["kimg"] == 0.08


def test_missing_weights_are_one_line_before_the_first_stage(tmp_path):
    folder = tmp_path / "missing"
    more = [f"+embedding@{DIME}.embeddings.dino=dino_resnet50", f"+{DIME}.weights.dino=20"]
    more += [f"{DIME}.embeddings.dino.source.path={tmp_path / 'absent.pth'}"]
    process = started(folder, *more)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 2, said
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: {DIME}.embeddings.dino: embedding dino_resnet50: source.path=")
    assert "dino_resnet50_pretrain.pth" in line
    assert "Traceback" not in said
    assert not (folder / "pruned.safetensors").is_file()
