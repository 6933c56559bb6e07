"""What the terminal and the log file show of long work."""

import re

import pytest

from limbeck import terminal
from limbeck.terminal import LiveLine, announce, clock, counted, fitted, tracked


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


@pytest.mark.parametrize(
    ("done", "rate", "expected"),
    [
        (12, 1.5, "12/40 batches  30 %  1.5 batches/s  0:19 left"),
        (12, 0.05, "12/40 batches  30 %  20 s each  9:20 left"),
        (0, 0.0, "0/40 batches   0 %"),
    ],
)
def test_counted_work_by_hand(done, rate, expected):
    assert counted(done, 40, rate, "batches") == expected


def test_tracked_shows_only_what_takes_long(capsys, monkeypatch):
    assert list(tracked("abc", 3, "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(LiveLine, "due", lambda self: True)
    assert list(tracked(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    assert re.findall(r"(\d)/3 letters", capsys.readouterr().out) == ["0", "1", "2"]


def test_line_is_silent_on_other_processes(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(terminal.time, "monotonic", iter(range(0, 10_000, 100)).__next__)
    line = LiveLine()
    assert not line.due()
    line.end()
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RANK", "0")
    assert line.due()


def test_rate_counts_from_where_the_work_starts(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    line = LiveLine(done=100)
    assert line.rate(100) == 0.0
    now[0] = 10.0
    assert line.rate(120) == 2.0
    now[0] = 60.0  # older than half a minute is forgotten
    assert line.rate(120 + 50 * 4) == 4.0
