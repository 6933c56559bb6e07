"""What is set before torch: the allocator, read back from glibc's counters, and the spin, from OpenMP's list."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from limbeck import startup
from limbeck.errors import UserError
from limbeck.startup import ALLOCATOR, set_allocator, set_spin, waiting

PROBE = """
import ctypes, sys
from limbeck.startup import set_allocator

class Counters(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

def counters():
    read = ctypes.CDLL(None).mallinfo2
    read.restype = Counters
    return read()

told = set_allocator(*sys.argv[1:])
before = counters()
block = bytearray(64 * 2**20)
mapped = counters().hblkhd - before.hblkhd
del block
print(told, mapped >= 64 * 2**20, counters().arena - before.arena >= 64 * 2**20)
"""

CAPTURED = {"capture_output": True, "text": True, "check": True}
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's counters")


def probe(*arguments: str, **environment: str) -> list[str]:
    """[setting was applied, block was mapped, block is still held after it was freed]."""
    clean = {k: v for k, v in os.environ.items() if k != ALLOCATOR and not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PROBE, *arguments]
    return subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True).stdout.split()


@linux_only
def test_tuned_keeps_large_blocks():
    assert probe() == ["True", "False", "True"]


@linux_only
def test_default_gives_large_blocks_back():
    assert probe("default") == ["False", "True", "False"]


@linux_only
@pytest.mark.parametrize(
    ("argument", "environment"),
    [
        ("tuned", {ALLOCATOR: "default"}),
        ("tuned", {"MALLOC_TOP_PAD_": "131072"}),
        ("tuned", {"GLIBC_TUNABLES": "glibc.malloc.top_pad=131072"}),
    ],
)
def test_environment_wins(argument, environment):
    assert probe(argument, **environment)[0] == "False"


def test_environment_can_switch_it_on():
    assert probe("default", **{ALLOCATOR: "tuned"})[0] == str(sys.platform.startswith("linux"))


def test_unknown_setting_is_refused(monkeypatch):
    monkeypatch.delenv(ALLOCATOR, raising=False)
    with pytest.raises(UserError, match="allocator='fast': must be"):
        set_allocator("fast")
    monkeypatch.setenv(ALLOCATOR, "on")
    with pytest.raises(UserError, match=f"{ALLOCATOR}='on'"):
        set_allocator()


WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "LIMBECK_SPIN")
COMMANDS = {
    "train": ["train.py", "teacher=stylegan2", "teacher.path=nowhere.pkl"],
    "evaluate": ["evaluate.py", "model=nowhere.safetensors"],
    "limbeck": ["-c", "from limbeck.cli import main; main(['inspect', 'nowhere.pt'])"],
}


def spins(command: list[str], **environment: str) -> str | None:
    """What OpenMP says of itself when a command loads torch."""
    clean = {k: v for k, v in os.environ.items() if k not in WAITING}
    done = subprocess.run(
        [sys.executable, *command],
        env=clean | {"OMP_DISPLAY_ENV": "VERBOSE", **environment},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert "nowhere" in done.stderr
    found = re.search(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    return found[1] if found else None


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_loads_torch_with_a_short_spin(command):
    assert spins(command) in ("5000", None)  # None: an OpenMP of another maker


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT"])
def test_the_users_own_way_of_waiting_stays(monkeypatch, name):
    for other in WAITING:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv(name, "7")
    assert not set_spin()
    assert waiting() == f"{name}=7"


def test_the_spin_is_set_once_can_be_switched_off_and_never_claimed_in_vain(monkeypatch):
    for other in WAITING:
        monkeypatch.delenv(other, raising=False)
    assert not set_spin()  # torch is loaded: too late
    assert waiting() == ""
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv(startup.SPIN, "default")
    assert not set_spin()
    monkeypatch.setenv(startup.SPIN, "off")
    with pytest.raises(UserError, match="LIMBECK_SPIN='off'"):
        set_spin()
    monkeypatch.delenv(startup.SPIN)
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that it is put back
    monkeypatch.delenv("GOMP_SPINCOUNT")
    assert set_spin()
    assert waiting() == "GOMP_SPINCOUNT=5000"


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("limbeck.commands", ["torch", "numpy", "PIL"]),
        ("limbeck.sweep.after_sweep", ["torch"]),
        ("limbeck.pipeline", ["pytorch_lightning", "torchmetrics", "torchvision", "matplotlib"]),
        ("limbeck.sweep.runs", ["pytorch_lightning", "matplotlib"]),
    ],
)
def test_what_a_command_needs_first_is_light(module, unwanted):
    code = f"import sys, {module}; print([name for name in {unwanted} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], **CAPTURED).stdout == "[]\n"
