"""Latency as run on this machine, by a clock that the test winds."""

from contextlib import nullcontext

import pytest
import torch

import limbeck
from limbeck.architectures.dcgan import Generator
from limbeck.export.runtimes import Runtime
from limbeck.export.stopwatch import Stopwatch
from limbeck.profiling.measured import latency


def generator():
    return Generator(resolution=8, num_channels=3, z_dim=4, width=4).eval()


class Absent(Runtime):
    name, package, extra = "Absent", "no_such_package", "none"

    def program(self, path):
        raise AssertionError("not there")


@pytest.fixture
def clock(monkeypatch):
    """Passes take 3, 1, 2, 1, 9 milliseconds, over and over."""

    class Wound:
        now, passes = 0.0, 0

        def elapse(self, *_):
            self.now += (3, 1, 2, 1, 9)[self.passes % 5] / 1e3
            self.passes += 1

    wound = Wound()
    monkeypatch.setattr("time.perf_counter", lambda: wound.now)
    monkeypatch.setattr("limbeck.profiling.measured.own_wait", lambda: nullcontext(lambda: 0.0))
    monkeypatch.setattr("limbeck.profiling.measured.others_wait", lambda: 0.0)
    return wound


def test_it_is_the_figure_of_the_report(clock):
    network = generator()
    network.register_forward_hook(clock.elapse)
    assert Stopwatch(rounds=4)(network) == pytest.approx(1.0)
    clock.passes = 0
    assert latency(network, rounds=4).latency_ms == pytest.approx(1.0)


class Present(Absent):
    name, package = "Present", "torch"


def test_the_first_runtime_that_is_installed_measures(clock, monkeypatch):
    monkeypatch.setattr("limbeck.export.stopwatch.write_onnx", lambda model, path: path.write_bytes(b"onnx"))
    monkeypatch.setattr(Present, "program", lambda self, path: clock.elapse if path.is_file() else None)
    watch = Stopwatch(runtimes={"absent": Absent(), "present": Present()}, rounds=5)
    assert str(watch).startswith("Present, ")
    assert watch(generator()) == pytest.approx(1.0)  # after two to warm up: 2, 1, 9, 3, 1
    assert str(Stopwatch(runtimes={"absent": Absent()})).startswith("PyTorch on CPU, ")


def test_a_target_is_met_by_what_was_measured():
    """Nothing is said of which ratio it is: a real clock decides."""
    model = limbeck.Model(generator())
    torch.set_num_threads(1)
    student = limbeck.prune(model, "l1", target_latency_ms=1e4)
    assert student.history[-1]["ratio"] == 0.0
    assert 0 < student.history[-1]["latency_ms"] < 1e4
