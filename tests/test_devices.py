"""One place for device and precision; the GPU is a stand-in, because none may be at hand."""

import os
import subprocess
import sys
import tempfile

import pytest
import torch

from limbeck import devices


@pytest.fixture(autouse=True)
def undone():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    devices.choose()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")


def switches():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_auto_takes_the_gpu_if_there_is_one(gpu):
    devices.choose()
    assert devices.device() == torch.device("cuda", 3)
    assert devices.described() == "Card, no TF32"
    assert devices.accelerator() == "gpu"


def test_whoever_asks_for_the_cpu_gets_it_for_every_stage(gpu):
    devices.choose("cpu")
    assert devices.device() == torch.device("cpu")
    assert "the GPU is left alone" in devices.described()


def test_without_a_gpu_everything_is_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for asked in ("auto", "gpu", "cpu"):
        devices.choose(asked)
        assert devices.device() == torch.device("cpu")
    assert devices.accelerator("auto") == "cpu"
    assert devices.accelerator("gpu") == "gpu"  # Lightning says what is wrong


def test_float32_is_float32_but_where_rounding_is_asked_for(gpu):
    torch.backends.cudnn.allow_tf32 = True  # as torch starts
    devices.choose("gpu", tf32=True)
    assert switches() == (False, False)
    with devices.rounding(True):
        assert switches() == (True, True)
        with devices.exact():
            assert switches() == (False, False)
        assert switches() == (True, True)
    assert switches() == (False, False)
    assert "TF32 in ordinary steps" in devices.described()
    with pytest.raises(InterruptedError), devices.rounding(True):
        raise InterruptedError
    assert switches() == (False, False)


@pytest.mark.parametrize(
    ("asked", "accelerator", "expected"),
    [
        ("auto", "gpu", "bf16-mixed"),
        ("auto", "cuda", "bf16-mixed"),
        ("auto", "cpu", "32-true"),
        ("32-true", "gpu", "32-true"),
    ],
)
def test_one_precision_for_one_device(asked, accelerator, expected):
    assert devices.precision(asked, accelerator) == expected


TAKES = """
import os, sys, torch
torch.cuda.is_available = lambda: True
torch.cuda.current_device = lambda: 0
torch.cuda.device_count = lambda: 2
torch.cuda.set_device = lambda number: None
from limbeck import devices
devices.take_own_gpu()
first = devices.own_gpu()
devices.take_own_gpu()
print(first == devices.own_gpu(), first, os.getpid() % 2, flush=True)
sys.stdin.read()
"""


def test_runs_side_by_side_take_a_gpu_each_and_give_it_back(tmp_path):
    def start():
        environment = {**os.environ, "TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started = subprocess.Popen([sys.executable, "-c", TAKES], env=environment, **pipes)
        kept, own, rest = started.stdout.readline().split()
        assert kept == "True"
        return started, own, rest

    first, second, third = (start() for _ in range(3))
    assert [first[1], second[1]] == ["0", "1"]
    assert third[1] == third[2]  # all are taken: shared by process number
    first[0].kill()
    first[0].communicate()
    fourth = start()
    assert fourth[1] == "0"
    for process, *_ in (second, third, fourth):
        process.communicate()


def test_one_gpu_or_none_is_not_fought_for(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    devices.take_own_gpu()
    assert devices.own_gpu() is None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    devices.choose("cpu")
    devices.take_own_gpu()
    assert devices.own_gpu() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be taken away here")
def test_only_processors_that_one_may_use_count():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert devices.num_processors() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert devices.num_processors() == len(before)
