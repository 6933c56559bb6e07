"""A run that timed its networks in OpenVINO can still be told to stop."""

import signal
import subprocess
import sys

import pytest

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.configured import configured
from limbeck.stopping import SIGNALS

pytestmark = pytest.mark.slow
TOLD = """
import ctypes, os, signal, sys
from limbeck.export.runtimes import OpenVino
from limbeck.stopping import Listening
def stack():
    found = ctypes.create_string_buffer(24)
    ctypes.CDLL(None).sigaltstack(None, found)
    return found.raw
before = stack()
programs = [OpenVino().program(sys.argv[1]) for _ in range(2)]
assert stack() == before, "another signal stack"
del programs[0], programs[0]
assert stack() == before, "that of a program that is gone"
with Listening() as listening:
    os.kill(os.getpid(), signal.SIGUSR1)
print("told", listening.told)
"""


def test_signals_are_heard_after_openvino_has_compiled(tmp_path):
    """In a process of its own: OpenVINO sets a signal stack of its own and takes it away with the program."""
    sizes = {"resolution": 8, "level_widths": [8], "blocks_per_level": 1, "norm_groups": 4, "attention_levels": []}
    model = limbeck.Model(UNet(**sizes, num_train_steps=10).eval())
    configured("export", "onnx")(model, tmp_path / "a.onnx")
    command = [sys.executable, "-c", TOLD, str(tmp_path / "a.onnx")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["told", str(SIGNALS.index(signal.SIGUSR1) + 1)]
