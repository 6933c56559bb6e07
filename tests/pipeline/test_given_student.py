"""A run whose student comes from a file."""

import json

import pytest

import limbeck

from .conftest import run, tiny

pytestmark = pytest.mark.slow


def test_a_student_from_elsewhere_passes_the_other_stages(finished, tmp_path):
    few = ["kimg=0.016", "checkpoint_kimg=1", "metric=[]"]
    file = tmp_path / "theirs"
    file.write_bytes((finished / "student.safetensors").read_bytes())
    command = tiny(tmp_path / "run", *few, "forecast_steps=1")
    done = run("train.py", *command, f"student.path={file}")
    assert done.returncode == 0, done.stderr
    assert "forecast    student of " in done.stdout
    assert " read\n" in done.stdout
    assert " prune\n" not in done.stdout
    student = limbeck.load(tmp_path / "run" / "student.safetensors")
    assert [entry["stage"] for entry in student.history[-3:]] == ["given", "initialize", "distil"]
    rows = {row["name"]: row for row in json.loads((tmp_path / "run" / "report.json").read_text())["rows"]}
    assert rows["student"]["num_parameters"] == limbeck.profile(student.generator).num_parameters

    moved = file.rename(tmp_path / "moved")
    assert "nothing to do" in run("train.py", *command, f"student.path={moved}").stdout
    for other in ([f"student.path={finished / 'pruned.safetensors'}"], []):
        refused = run("train.py", *command, *other)
        assert refused.returncode == 2
        assert "student" in refused.stderr
