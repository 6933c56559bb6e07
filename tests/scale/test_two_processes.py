"""What several processes do when nobody but they themselves sees to it that they end alike."""

import json
import signal
import subprocess
import sys
import time

import pytest
from safetensors import safe_open

from limbeck.callbacks.checkpoint import AGREE_EVERY
from limbeck.loggers.table import read_table

from ..pipeline.conftest import ROOT, assert_same_student, environment
from .conftest import SHORT, TWO, ranks_of, tiny

pytestmark = pytest.mark.slow
FIRST, SECOND = 0, 1


def error_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def kimg_of(folder) -> list[float]:
    return [row["kimg"] for row in read_table(folder / "metrics.csv")]


def metrics_of(folder) -> list[dict]:
    return [row["metrics"] for row in json.loads((folder / "report.json").read_text())["rows"]]


def test_a_run_is_finished_once_and_not_repeated(untouched):
    """By torchrun itself this time."""
    assert kimg_of(untouched)[-1] == 0.2
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, str(ROOT / "train.py"), *tiny(untouched, *SHORT, *TWO)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(),
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("nothing to do") == 1


@pytest.mark.parametrize("wrong", ["pruning.ratio=1.5", "pruning.ration=1"])
def test_what_is_refused_ends_both_with_one_line(started, tmp_path, wrong):
    codes, _, errors = started(tiny(tmp_path / "run", *SHORT, *TWO, wrong)).ended()
    assert codes == [2, 2], errors
    assert len(error_lines(errors)) == 1
    assert error_lines(errors)[0].startswith("error: ")


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([(SECOND, signal.SIGTERM, 0.0)], id="one"),
        pytest.param(
            [(FIRST, signal.SIGUSR1, 0.06), (SECOND, signal.SIGTERM, 0.0), (FIRST, signal.SIGTERM, 0.0)], id="skewed"
        ),
        pytest.param([(rank, signal.SIGTERM, 0.0) for rank in (FIRST, SECOND, FIRST, SECOND)], id="twice"),
    ],
)
def test_signals_save_and_end_both(started, untouched, tmp_path, told):
    """Whoever is told, and when: all agree every few steps, save once and end alike."""
    folder = tmp_path / "run"
    both = started(tiny(folder, *SHORT, *TWO, "checkpoint_kimg=10"))  # no checkpoint but the one that is asked for
    both.wait_until((folder / "metrics.csv").is_file)
    for rank, number, pause in told:
        both.signal(rank, number)
        time.sleep(pause)
    codes, said, errors = both.ended(200)
    assert codes == [143, 143], errors
    saved = [line for line in said.splitlines() if "the same command goes on" in line]
    assert len(saved) == 1
    images = round(float(saved[0].split("saved at ")[1].split()[0]) * 1000)
    assert images % (8 * AGREE_EVERY) == 0 or images == 200
    assert not (folder / "student.safetensors").is_file()
    codes, _, errors = started(tiny(folder, *SHORT, *TWO, "checkpoint_kimg=10")).ended()
    assert codes == [0, 0], errors
    assert_same_student(untouched, folder)
    assert kimg_of(folder) == kimg_of(untouched)


def test_a_signal_to_one_saves_the_scores_of_both(started, tmp_path):
    folder = tmp_path / "run"
    scoring = [
        "pruning=dcp",
        "pruning.ratio=0.5",
        "pruning.criterion.num_samples=20000",
        "pruning.criterion.num_pca=200",
    ]
    both = started(tiny(folder, *SHORT, *TWO, *scoring))
    both.wait_until(lambda: "steps" in both.said())  # the first line about its progress
    both.signal(SECOND, signal.SIGTERM)
    codes, said, errors = both.ended(200)
    assert codes == [143, 143], errors
    done = int(said.split("scored ")[1].split()[0])
    with safe_open(folder / "scores.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["limbeck"])["done"] == done
        steps = file.get_tensor("measures").numel()
    assert 0 < done < steps
    assert done % 2 == 0  # whole rounds
    assert not (folder / "pruned.safetensors").is_file()


@pytest.mark.parametrize(("how", "first_ends"), [(signal.SIGKILL, None), (signal.SIGTERM, 143)])
def test_a_run_lost_in_its_evaluation_is_finished_by_the_same_command(started, untouched, tmp_path, how, first_ends):
    """One is killed or told to stop, the other notices; the second command judges without training again."""
    folder = tmp_path / "run"
    both = started(tiny(folder, *SHORT, *TWO, "protocol.num_images=4000"))
    both.wait_until(lambda: "evaluate" in both.said())
    both.wait_until((folder / "student.safetensors").is_file)
    both.signal(SECOND, how)
    codes, _, errors = both.ended(200)
    assert codes[SECOND] == (-how if how == signal.SIGKILL else 143), errors
    assert codes[FIRST] not in (0, None) if first_ends is None else codes[FIRST] == first_ends, errors
    assert not (folder / "report.json").is_file()
    before = (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    codes, _, errors = started(tiny(folder, *SHORT, *TWO, "protocol.num_images=64")).ended()
    assert codes == [0, 0], errors
    assert (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    assert_same_student(untouched, folder)
    assert metrics_of(untouched) == metrics_of(folder)


def test_more_or_fewer_processes_are_the_same_run(started, tmp_path):
    """Begun by one, gone on by four, finished by two, the last under a logger and workers of their own."""
    folder = tmp_path / "run"
    settings = tiny(folder, *SHORT, "checkpoint_kimg=0.016")
    last = folder / "checkpoints" / "last.ckpt"
    for number, how, code in ((1, signal.SIGTERM, 143), (4, signal.SIGINT, 130)):
        before = last.stat().st_mtime_ns if last.is_file() else 0
        some = started([*settings, *ranks_of(number)], number=number)
        some.wait_until(lambda before=before: last.is_file() and last.stat().st_mtime_ns != before)
        some.signal(number - 1, how)
        codes, _, errors = some.ended(200)
        assert codes == [code] * number, errors
    codes, _, errors = started([*settings, *TWO, "logger=[csv]", "data.num_workers=1", "callback=[progress]"]).ended()
    assert codes == [0, 0], errors
    kimg = kimg_of(folder)
    assert kimg == sorted(set(kimg))
    assert kimg[0] < 0.1 < kimg[-1] == 0.2
    assert (folder / "report.json").is_file()


def test_the_evaluation_command_shares_its_work(started, untouched, tmp_path):
    arguments = [f"model={untouched}", f"hydra.run.dir={tmp_path / 'again'}"]
    codes, _, errors = started(arguments, number=4, script="evaluate.py").ended()
    assert codes == [0, 0, 0, 0], errors
    assert metrics_of(untouched)[-1] == metrics_of(tmp_path / "again")[-1]
