"""What the terminal and the log file show."""

import pytest

from limbeck import terminal
from limbeck.callbacks import progress
from limbeck.callbacks.progress import Pace, Progress, progress_line

from .conftest import Counting, pl

LOSSES = {"loss/generator/pixel_l1": 0.125, "loss/generator/nonsaturating": 1.23456, "loss/discriminator/r1": 2.0}


def test_line_by_hand():
    line = progress_line(12_400, 30_000, 40.0, {**LOSSES, "logits/fresh/real": 1.0})
    assert line == "12.4/30 kimg  41 %  40 images/s  7:20 left  G: pixel_l1 0.125, nonsaturating 1.23  D: r1 2"


def test_line_before_anything_is_known():
    assert progress_line(0, 30_000, 0.0, {}) == "0.0/30 kimg   0 %  0 images/s"


def test_a_last_batch_that_goes_beyond_the_end():
    assert progress_line(256, 200, 50.0, {}) == "0.2/0.2 kimg 100 %  50 images/s  0:00 left"


class Clock(pl.Callback):
    """A second passes with every training step."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(terminal.time, "monotonic", lambda: self.now)

    def on_train_batch_start(self, *args):
        self.now += 1.0


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_log_file_gets_sparse_lines_and_the_last_one(train, generator, capsys, clock):
    train(Counting(generator(), None, 20_000), clock, Progress(log_every_seconds=40.0))
    lines = [line for line in capsys.readouterr().out.splitlines() if "kimg" in line]
    done = [float(line.split("/")[0]) for line in lines]
    assert 4 <= len(done) <= 10  # of 200 steps
    assert done == sorted(done)
    assert done[0] < 1.0
    assert done[-1] == 20.0
    assert "\r" not in "".join(lines)
    assert "100 %" in lines[-1]
    assert "pixel_l1 0.125" in lines[-1]
    assert "100 images/s" in lines[3]  # 100 images a step, a second a step


def test_terminal_line_is_redrawn_in_place_and_never_wraps(train, generator, capsys, clock, monkeypatch):
    monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    train(Counting(generator(), None, 1_000), clock, Progress())
    out = capsys.readouterr().out
    drawn = [part for part in out.split("\r") if "kimg" in part]
    assert len(drawn) == 11
    assert all(len(part.rstrip("\n").removeprefix("\033[K")) <= 39 for part in drawn)
    assert out.endswith("\n")


def test_resumed_run_counts_its_rate_from_where_it_starts(train, generator, capsys, clock):
    train(Counting(generator(), None, 20_000), clock, Progress(), start=19_000)
    assert "100 images/s" in capsys.readouterr().out


def test_a_collapse_is_said_once():
    pace = Pace()
    fast, slow = (100, 1.0), (100, 4.0)
    assert not any(pace.collapsed(*fast) for _ in range(60))
    assert not any(pace.collapsed(100, 2.5) for _ in range(24))  # 40 of 100 images/s: slower, no collapse
    found = [pace.collapsed(*slow) for _ in range(50)]
    assert [f for f in found if f] == [(25.0, 100.0)]
    assert found.index((25.0, 100.0)) == 4  # the first stretch of 20 s


def test_a_run_that_is_slow_from_the_start_is_its_own_measure():
    pace = Pace()
    assert not any(pace.collapsed(1, 30.0) for _ in range(10))


def test_the_line_about_a_collapse_names_the_way_out(train, generator, capsys, clock, monkeypatch):
    found = iter([None, (1.0, 90.0)])
    monkeypatch.setattr(progress.Pace, "collapsed", lambda self, count, seconds: next(found, None))
    train(Counting(generator(), None, 600), clock, Progress())
    assert "slow: 1 images/s, 90 at best" in capsys.readouterr().out
