"""Signals that wait for a good moment: which of several counts, and who hears of them afterwards."""

import os
import signal

import pytest

from limbeck.stopping import SIGNALS, Listening


def heard(*numbers: int) -> Listening:
    with Listening() as listening:
        for number in numbers:
            os.kill(os.getpid(), number)
        assert listening.told
        listening.follow(listening.told)
    raise AssertionError("follow returned")


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ((signal.SIGTERM,), 143),
        ((signal.SIGUSR1, signal.SIGUSR1), 143),
        ((signal.SIGTERM, signal.SIGTERM), 143),
        ((signal.SIGINT,), 130),
        ((signal.SIGINT, signal.SIGTERM), 143),
        ((signal.SIGTERM, signal.SIGINT), 143),
    ],
)
def test_exit_codes(numbers, code):
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(SystemExit) as stop:
        heard(*numbers)
    assert stop.value.code == code
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_nothing_is_told_without_a_signal():
    with Listening() as listening:
        assert listening.told == 0


def test_a_second_ctrl_c_does_not_wait():
    with pytest.raises(KeyboardInterrupt):
        heard(signal.SIGINT, signal.SIGINT)


@pytest.mark.parametrize(
    "numbers", [(signal.SIGUSR2,), (signal.SIGUSR2, signal.SIGTERM), (signal.SIGTERM, signal.SIGUSR2)]
)
def test_whoever_listened_to_sigusr2_hears_of_it_whatever_comes_after(numbers):
    """submitit requeues on SIGUSR2; SLURM sends SIGTERM too when the time of grace is over."""
    told = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: told.append(number))
    try:
        with pytest.raises(SystemExit):
            heard(*numbers)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert told == [signal.SIGUSR2]


def test_a_process_that_heard_nothing_follows_what_another_heard():
    told = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: told.append(number))
    try:
        with Listening() as listening, pytest.raises(SystemExit):
            listening.follow(SIGNALS.index(signal.SIGUSR2) + 1)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert told == [signal.SIGUSR2]
