"""What the terminal and the log file show."""

import re

import pytest

from limbeck.callbacks import progress
from limbeck.callbacks.progress import Progress, announce, clock, fitted, progress_line

from .conftest import Counting

LOSSES = {"loss/generator/pixel_l1": 0.125, "loss/generator/nonsaturating": 1.23456, "loss/discriminator/r1": 2.0}


def test_line_by_hand():
    line = progress_line(12_400, 30_000, 40.0, {**LOSSES, "logits/fresh/real": 1.0})
    assert line == "12.4/30 kimg  41 %  40 images/s  7:20 left  G: pixel_l1 0.125, nonsaturating 1.23  D: r1 2"


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (100, "1/2 kimg  G: pixel_l1 0.125, r1 2.5"),
        (35, "1/2 kimg  G: pixel_l1 0.125, r1 2.5"),
        (34, "1/2 kimg  G: pixel_l1 0.125"),
        (27, "1/2 kimg  G: pixel_l1 0.125"),
        (26, "1/2 kimg"),
        (5, "1/2 k"),
    ],
)
def test_narrow_terminals_lose_whole_entries(width, expected):
    assert fitted("1/2 kimg  G: pixel_l1 0.125, r1 2.5", width) == expected


def test_line_before_anything_is_known():
    assert progress_line(0, 30_000, 0.0, {}) == "0.0/30 kimg   0 %  0 images/s"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (2.5 * 86400, "2.5 days")],
)
def test_clock(seconds, expected):
    assert clock(seconds) == expected


def test_announce_prints_a_heading_on_the_first_process_only(capsys, monkeypatch):
    announce("prune", "70 % by L1")
    assert re.fullmatch(r" *\d+:\d\d(:\d\d)?  prune       70 % by L1\n", capsys.readouterr().out)
    monkeypatch.setenv("RANK", "1")
    announce("prune")
    assert capsys.readouterr().out == ""


class Clock:
    """A second passes with every look at it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def test_log_file_gets_sparse_lines_and_the_last_one(train, generator, capsys, monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", Clock())
    train(Counting(generator(), None, 20_000), Progress(log_every_seconds=40.0))
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


def test_terminal_line_is_redrawn_in_place_and_never_wraps(train, generator, capsys, monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", Clock())
    monkeypatch.setattr(progress.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    train(Counting(generator(), None, 1_000), Progress())
    out = capsys.readouterr().out
    drawn = [part for part in out.split("\r") if "kimg" in part]
    assert len(drawn) == 11
    assert all(len(part.rstrip("\n").removeprefix("\033[K")) <= 39 for part in drawn)
    assert out.endswith("\n")


def test_resumed_run_counts_its_rate_from_where_it_starts(train, generator, capsys, monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", Clock())
    train(Counting(generator(), None, 20_000), Progress(), start=19_000)
    assert "100 images/s" in capsys.readouterr().out
