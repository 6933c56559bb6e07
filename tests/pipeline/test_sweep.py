"""A sweep skips what is finished, resumes what is not, and ends in a summary."""

import csv

import pytest

from .conftest import TINY, run

pytestmark = pytest.mark.slow


def test_a_sweep_is_resumable_and_ends_in_a_table(tmp_path):
    arguments = [a for a in TINY if not a.startswith(("pruning", "kimg", "distillation.decay", "checkpoint"))]
    arguments = [
        "-m",
        *arguments,
        "pruning.ratio=0.25,0.5",
        "kimg=0.04",
        "checkpoint_kimg=1",
    ]
    arguments += ["distillation.decay_kimg=0"]
    first = run("train.py", *arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "outputs" / "quickstart"
    reports = sorted(folder.rglob("report.json"))
    assert len(reports) == 2
    assert (folder / "sweep.md").is_file()
    assert (folder / "sweep.png").is_file()
    rows = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    assert len(rows) >= 2

    before = reports[0].stat().st_mtime_ns
    reports[1].unlink()
    second = run("train.py", *arguments, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("nothing to do") == 1
    assert reports[0].stat().st_mtime_ns == before
    assert reports[1].is_file()


def test_a_run_that_fails_does_not_stop_the_others(tmp_path):
    """The first of the two is refused; the second is finished all the same, and the sweep says so and fails.

    Neither has callbacks, loggers or metrics.
    """
    arguments = [argument for argument in TINY if not argument.startswith("pruning.ratio")]
    done = run(
        "train.py", "-m", *arguments, "pruning.ratio=1.5,0.5", "callback=[]", "logger=[]", "metric=[]", cwd=tmp_path
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 2
    assert "ratio" in next(line for line in lines if line.startswith("error: "))
    assert "python -m limbeck.sweep" in lines[-1]
    assert len(list(tmp_path.rglob("report.json"))) == 1


def test_several_processes_inside_a_sweep_are_refused(tmp_path):
    done = run("train.py", "-m", *TINY, "seed=0,1", "trainer=ddp", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 2
    assert "trainer=ddp with -m" in done.stderr
