"""The allocator setting, read back from glibc's own counters in a fresh process."""

import os
import subprocess
import sys

import pytest

from limbeck.allocator import VARIABLE, set_allocator
from limbeck.errors import UserError

PROBE = """
import ctypes, sys
from limbeck.allocator import set_allocator

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

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's counters")


def probe(*arguments: str, **environment: str) -> list[str]:
    """[setting was applied, block was mapped, block is still held after it was freed]."""
    clean = {k: v for k, v in os.environ.items() if k != VARIABLE and not k.startswith(("MALLOC_", "GLIBC_"))}
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
        ("tuned", {VARIABLE: "default"}),
        ("tuned", {"MALLOC_TOP_PAD_": "131072"}),
        ("tuned", {"GLIBC_TUNABLES": "glibc.malloc.top_pad=131072"}),
    ],
)
def test_environment_wins(argument, environment):
    assert probe(argument, **environment)[0] == "False"


def test_environment_can_switch_it_on():
    assert probe("default", **{VARIABLE: "tuned"})[0] == str(sys.platform.startswith("linux"))


def test_unknown_setting_is_refused(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UserError, match="allocator='fast': must be"):
        set_allocator("fast")
    monkeypatch.setenv(VARIABLE, "on")
    with pytest.raises(UserError, match=f"{VARIABLE}='on'"):
        set_allocator()
