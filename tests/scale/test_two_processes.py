"""What two processes do when nobody but they themselves sees to it that they end alike."""

import json
import signal
import time

import pytest

from limbeck.loggers.table import read_table

from ..pipeline.conftest import assert_same_student, run, tiny
from .conftest import SHORT, TWO, Ranks

pytestmark = pytest.mark.slow


def error_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_a_run_is_finished_once_and_not_repeated(untouched):
    assert (untouched / "report.json").is_file()
    assert read_table(untouched / "metrics.csv")[-1]["kimg"] == 0.2
    codes, said, errors = Ranks(tiny(untouched, *SHORT, *TWO)).ended()
    assert (codes, error_lines(errors)) == ([0, 0], [])
    assert said.count("nothing to do") == 1


@pytest.mark.parametrize("wrong", ["pruning.ratio=1.5", "pruning.ration=1"])
def test_what_is_refused_ends_both_with_one_line(tmp_path, wrong):
    codes, _, errors = Ranks(tiny(tmp_path / "run", *SHORT, *TWO, wrong)).ended()
    assert codes == [2, 2], errors
    assert len(error_lines(errors)) == 1
    assert error_lines(errors)[0].startswith("error: ")


def test_a_signal_to_one_of_them_saves_and_ends_both(untouched, tmp_path):
    folder = tmp_path / "run"
    both = Ranks(tiny(folder, *SHORT, *TWO))
    both.wait_until((folder / "checkpoints" / "last.ckpt").is_file)
    both.processes[1].send_signal(signal.SIGTERM)
    codes, said, errors = both.ended(200)
    assert codes == [143, 143], errors
    assert "the same command goes on" in said
    assert not (folder / "student.safetensors").is_file()
    codes, _, errors = Ranks(tiny(folder, *SHORT, *TWO)).ended()
    assert codes == [0, 0], errors
    assert_same_student(untouched, folder)


def test_a_run_lost_in_its_evaluation_is_finished_by_the_same_command(untouched, tmp_path):
    """One process is killed; the other notices, and the second command judges without training again."""
    folder = tmp_path / "run"
    more = ["protocol.num_images=4000"]
    both = Ranks(tiny(folder, *SHORT, *TWO, *more))
    both.wait_until((folder / "student.safetensors").is_file)
    time.sleep(1.0)
    both.processes[1].kill()
    codes, _, errors = both.ended(200)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0
    assert not (folder / "report.json").is_file()
    before = (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    codes, _, errors = Ranks(tiny(folder, *SHORT, *TWO, "protocol.num_images=64")).ended()
    assert codes == [0, 0], errors
    assert (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    assert_same_student(untouched, folder)
    rows = [json.loads((f / "report.json").read_text())["rows"][-1]["metrics"] for f in (untouched, folder)]
    assert rows[0] == rows[1]


def test_one_process_more_or_less_is_the_same_run(untouched, tmp_path):
    """Stopped on two processes, finished on one, under a logger and workers of its own."""
    folder = tmp_path / "run"
    both = Ranks(tiny(folder, *SHORT, *TWO))
    both.wait_until((folder / "checkpoints" / "last.ckpt").is_file)
    both.processes[0].send_signal(signal.SIGINT)
    codes, _, errors = both.ended(200)
    assert codes == [130, 130], errors
    done = run("train.py", *tiny(folder, *SHORT, "logger=[]", "data.num_workers=1", "callback=[progress]"))
    assert done.returncode == 0, done.stderr
    assert (folder / "report.json").is_file()
    started = [line for line in done.stdout.splitlines() if "kimg" in line and "/0.2" in line]
    assert all(float(line.split("/")[0]) > 0.03 for line in started)  # it did not begin anew


def test_the_evaluation_command_shares_its_work(untouched, tmp_path):
    codes, _, errors = Ranks(
        [f"model={untouched}", f"hydra.run.dir={tmp_path / 'again'}"], script="evaluate.py"
    ).ended()
    assert codes == [0, 0], errors
    reports = [json.loads((folder / "report.json").read_text()) for folder in (untouched, tmp_path / "again")]
    assert reports[0]["rows"][-1]["metrics"] == reports[1]["rows"][-1]["metrics"]
