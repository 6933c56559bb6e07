"""Sparse students through whole runs: two processes, masks in every file, channels that leave in the end."""

import json

import pytest
import torch

import limbeck

from .conftest import run, tiny

pytestmark = pytest.mark.slow
SHORT = ("kimg=0.048", "batch_size=8", "checkpoint_kimg=0.016", "distillation.decay_kimg=0", "initializer=keep")


def assert_masked(model) -> None:
    assert model.masks
    for name, mask in model.masks.items():
        weight = model.generator.get_parameter(name)
        assert not weight[~mask].any()
        assert (weight[mask] != 0).float().mean() > 0.9


def test_two_of_four_by_two_processes_in_bf16(tmp_path):
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=bf16-mixed")
    pruning = ("pruning=magnitude", "pruning.ratio=0.5", "pruning.granularity=2:4")
    done = run("train.py", *tiny(tmp_path / "run", *SHORT, *two, *pruning))
    assert done.returncode == 0, done.stderr
    pruned, student = (limbeck.load(tmp_path / "run" / f"{stage}.safetensors") for stage in ("pruned", "student"))
    assert_masked(pruned)
    assert_masked(student)
    assert all(torch.equal(student.masks[name], mask) for name, mask in pruned.masks.items())
    rows = {row["name"]: row for row in json.loads((tmp_path / "run" / "report.json").read_text())["rows"]}
    assert set(rows["student"]["sparsity"].values()) == {0.5}
    assert rows["student"]["num_effective"] < rows["teacher"]["num_effective"]
    assert rows["student"]["size_mib"] < 0.75 * rows["teacher"]["size_mib"]
    assert "do not make dense hardware faster" in (tmp_path / "run" / "report.md").read_text()


def test_filters_go_gradually_and_leave_in_the_end(tmp_path):
    gradual = ("pruning=none", "companion=[agp]", "companion.agp.granularity=filter", "companion.agp.target=0.5")
    done = run("train.py", *tiny(tmp_path / "run", *SHORT, *gradual))
    assert done.returncode == 0, done.stderr
    student = limbeck.load(tmp_path / "run" / "student.safetensors")
    assert student.generator.arguments["widths"] == [16, *[8] * 7]  # the learned constant is no layer
    assert not student.masks
    schedule = {"target": 0.5, "start": 0.05, "horizon": 0.5, "granularity": "filter"}
    assert student.history[-1]["companion_agp"] == schedule


def test_wrong_settings_are_one_line_before_any_work(tmp_path):
    done = run("train.py", *tiny(tmp_path / "run"), "pruning=magnitude", "pruning.ratio=0.4", "pruning.granularity=2:4")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "2:4 switches off one half" in line
    assert not list((tmp_path / "run").glob("*.safetensors"))
