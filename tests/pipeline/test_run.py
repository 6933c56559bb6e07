"""Whole runs through the command, as a user starts them."""

import json
import signal

import pytest

import limbeck
from limbeck.loggers.table import read_table

from .conftest import assert_same_student, end_after_a_checkpoint, run, tiny

pytestmark = pytest.mark.slow


def test_the_run_folder_is_complete(finished):
    expected = """config.yaml pruned.safetensors initialized.safetensors checkpoints/last.ckpt student.safetensors
        metrics.csv report.json report.md report.html"""
    missing = [name for name in expected.split() if not (finished / name).is_file()]
    assert not missing
    assert list((finished / "samples").glob("kimg*.png"))
    assert not list(finished.rglob("*.part"))


def test_the_report_compares_all_stages(finished):
    report = json.loads((finished / "report.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == ["teacher", "pruned", "initialized", "student"]
    assert rows["student"]["num_parameters"] == rows["pruned"]["num_parameters"] < rows["teacher"]["num_parameters"]
    assert rows["student"]["macs"] < rows["teacher"]["macs"]
    assert all("kid_random" in row["metrics"] for row in rows.values())
    assert report["protocol"]["num_images"] == 64


def test_the_log_counts_images(finished):
    rows = read_table(finished / "metrics.csv")
    assert rows[-1]["kimg"] == 0.2
    assert {"loss/generator/nonsaturating", "loss/discriminator/r1", "logits/teacher/real"} <= set(rows[0])


def test_the_student_loads_without_pruning_code(finished):
    student = limbeck.load(finished / "student.safetensors")
    assert student.generator.arguments["widths"] == [8] * 8
    assert [entry["stage"] for entry in student.history] == ["import", "prune", "initialize", "distil"]


def test_a_finished_run_is_not_repeated(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    again = run("train.py", *tiny(finished))
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()} == before


def logged(folder) -> list[dict]:
    """All rows of a log, without speed and memory."""
    rows = read_table(folder / "metrics.csv")
    return [{k: v for k, v in row.items() if not k.startswith(("speed/", "memory/"))} for row in rows]


def test_a_killed_run_resumes_bit_for_bit(finished, tmp_path):
    folder = tmp_path / "killed"
    end_after_a_checkpoint(tiny(folder), folder, signal.SIGKILL)
    assert not (folder / "student.safetensors").is_file()
    done = run("train.py", *tiny(folder))
    assert done.returncode == 0, done.stderr
    assert_same_student(finished, folder)
    assert logged(folder) == logged(finished)  # the checkpoint lies within a row, not at its end


def test_a_terminated_run_saves_and_resumes(finished, tmp_path):
    folder = tmp_path / "terminated"
    assert end_after_a_checkpoint(tiny(folder), folder, signal.SIGTERM) == 143
    done = run("train.py", *tiny(folder))
    assert done.returncode == 0, done.stderr
    assert_same_student(finished, folder)


def test_two_processes_make_one_report(tmp_path):
    folder = tmp_path / "ddp"
    done = run("train.py", *tiny(folder, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"), timeout=400)
    assert done.returncode == 0, done.stderr
    rows = read_table(folder / "metrics.csv")
    assert rows[-1]["kimg"] == 0.2  # images are counted over both processes
    assert (folder / "report.json").is_file()


def test_the_evaluation_command_repeats_the_report(finished, tmp_path):
    done = run("evaluate.py", f"model={finished}", f"hydra.run.dir={tmp_path / 'again'}")
    assert done.returncode == 0, done.stderr
    row = next(r for r in json.loads((finished / "report.json").read_text())["rows"] if r["name"] == "student")
    again = next(
        r for r in json.loads((tmp_path / "again" / "report.json").read_text())["rows"] if r["name"] == "student"
    )
    assert again["metrics"] == row["metrics"]
    assert again["num_parameters"] == row["num_parameters"]


def test_a_run_killed_before_its_first_checkpoint_starts_over_the_same(tmp_path):
    whole, again = tmp_path / "whole", tmp_path / "again"
    more = ["discriminator=fresh", "kimg=0.016", "distillation.decay_kimg=0", "checkpoint_kimg=1"]
    assert run("train.py", *tiny(whole, *more)).returncode == 0
    again.mkdir()
    for name in ("config.yaml", "pruned.safetensors", "initialized.safetensors"):
        (again / name).write_bytes((whole / name).read_bytes())
    assert run("train.py", *tiny(again, *more)).returncode == 0
    assert_same_student(whole, again)


def test_a_run_with_nothing_chosen_is_judged_by_its_costs(tmp_path):
    """No metrics, callbacks or loggers; then the same student by a metric, which is no other run but another report."""
    folder = tmp_path / "run"
    few = ["kimg=0.016", "checkpoint_kimg=1", "callback=[]", "logger=[]", "metric=[]"]
    done = run("train.py", *tiny(folder, *few))
    assert done.returncode == 0, done.stderr
    row = json.loads((folder / "report.json").read_text())["rows"][-1]
    assert row["metrics"] == {}
    assert row["num_parameters"] > 0
    assert not (folder / "metrics.csv").exists()
    refused = run("train.py", *tiny(folder, *few[:-1]))
    assert refused.returncode == 2
    assert "metric.kid_random" in refused.stderr
    assert f"evaluate.py model={folder}" in refused.stderr
    (folder / "report.json").unlink()  # as if the evaluation had not worked
    again = run("train.py", *tiny(folder, *few[:-1]))
    assert again.returncode == 0, again.stderr
    assert "kid_random" in json.loads((folder / "report.json").read_text())["rows"][-1]["metrics"]
