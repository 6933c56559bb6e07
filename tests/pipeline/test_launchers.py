"""Sweeps and searches through the launchers that users have: every run ends, and the summary says so."""

import json
import signal
import subprocess
import time

import pytest

from limbeck.evaluation.figures import short
from limbeck.sweep.search import NAME, STUDY

from .conftest import ROOT, TINY, command, environment, run

pytestmark = pytest.mark.slow
APART = ("pruning", "kimg", "distillation.decay", "checkpoint", "loss/generator", "protocol")
SHORT = [argument for argument in TINY if not argument.startswith(APART)]
SHORT += ["loss/generator=[nonsaturating]", "loss/discriminator=[nonsaturating]", "distillation.decay_kimg=0"]
SHORT += ["protocol.num_images=16", "protocol.num_reference=16", "callback=[progress]", "kimg=0.016"]
SEARCH = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "pruning.ratio=interval(0.3,0.7)"]


def sweep(folder, *arguments):
    return ["-m", *SHORT, f"hydra.sweep.dir={folder}", *arguments]


def reports(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("report.json"))]


def test_a_search_by_joblib_and_its_front(tmp_path):
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2"]
    done = run("train.py", *sweep(tmp_path, *SEARCH, *launcher, "objective=[kid_random,macs]"), timeout=600)
    assert done.returncode == 0, done.stderr
    rows = [report["rows"][-1] for report in reports(tmp_path)]
    assert len(rows) == 2
    assert len({row["macs"] for row in rows}) == 2
    assert (tmp_path / "sweep_front.png").is_file()
    table = (tmp_path / "sweep.md").read_text()
    assert "Pareto front of 2 finished runs" in table
    best = min(rows, key=lambda row: row["metrics"]["kid_random"])
    first = table.partition("Pareto front")[2].splitlines()[4]
    assert first.endswith(f"{short(best['metrics']['kid_random'])} | {short(best['macs'])} |")


def test_a_killed_search_is_finished_by_the_same_command(tmp_path):
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    arguments = sweep(tmp_path, *SEARCH, "objective=macs", "metric=[]", "kimg=0.2", "checkpoint_kimg=0.04")
    process = subprocess.Popen(
        command("train.py", *arguments), env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 200
    while not list(tmp_path.rglob("last.ckpt")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 143, errors
    assert reports(tmp_path) == []
    done = run("train.py", *arguments)
    assert done.returncode == 0, done.stderr
    started = [line for line in done.stdout.splitlines() if "/0.2 kimg" in line]
    assert float(started[0].split("/")[0]) > 0.03  # the first run did not begin anew
    storage = JournalStorage(JournalFileBackend(str(tmp_path / STUDY)))
    trials = optuna.load_study(storage=storage, study_name=NAME).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    found = {report["config"]["pruning"]["ratio"]: report["rows"][-1]["macs"] for report in reports(tmp_path)}
    assert {trial.params["pruning.ratio"]: trial.value for trial in trials} == found


def test_a_sweep_by_submitit(tmp_path):
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10", "metric=[]"]
    done = run("train.py", *sweep(tmp_path, *launcher, "pruning.ratio=0.5"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(reports(tmp_path)) == 1
    assert (tmp_path / "sweep.md").is_file()


def test_what_cannot_be_sought_is_refused_before_any_run(tmp_path):
    done = run("train.py", *sweep(tmp_path, *SEARCH, "objective=fid"))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: objective=fid: not measured by this protocol; allowed: num_parameters, macs, size_mib, latency_ms, "
        "kid_random"
    ]
    assert not list(tmp_path.rglob("config.yaml"))
