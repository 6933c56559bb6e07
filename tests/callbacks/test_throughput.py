"""Speed and memory in the log."""

from limbeck.callbacks import throughput
from limbeck.callbacks.throughput import Throughput

from .conftest import Counting


def test_one_row_per_interval_and_the_warm_up_is_not_counted(train, generator, monkeypatch):
    times = iter([1000.0, 1002.0, 1007.0, 1008.0])  # after the first step, then at 1, 2 and 2.5 kimg
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(times))
    rows = train(Counting(generator(), None, 2_500), Throughput(every_kimg=1.0)).rows
    assert [(row["kimg"], row["speed/images_per_second"]) for row in rows] == [(1.0, 450.0), (2.0, 200.0), (2.5, 500.0)]
    assert all(20 < row["memory/peak_mib"] < 1e6 for row in rows)


def test_resumed_run_reports_its_own_speed_at_the_same_kimg(train, generator):
    rows = train(Counting(generator(), None, 3_000), Throughput(every_kimg=1.0), start=1_500).rows
    assert [row["kimg"] for row in rows] == [2.0, 3.0]


def test_a_run_resumed_just_before_a_row_has_no_row_more(train, generator):
    """The first step after a resume is not timed, but counts."""
    rows = train(Counting(generator(), None, 3_000), Throughput(every_kimg=1.0), start=950).rows
    assert [row["kimg"] for row in rows] == [2.05, 3.05]
