"""What an entry point sets once, before torch is loaded: how threads wait, how memory is kept.

Neither changes the arithmetic; both are measured in `benchmarks/README.md`.

Memory: glibc's defaults hand every large tensor back to the kernel and fetch it again, which on a CPU costs page faults
in every step. The price of keeping it is that memory once used stays with the process until it ends.

Waiting: torch's threads wait for one another by spinning. Where other programs want the same cores, whoever spins keeps
those from working that are waited for, and a run falls to a fiftieth of its speed. After a short spin they sleep.
"""

import ctypes
import os
import sys
from typing import Literal

from limbeck.errors import UserError

Setting = Literal["tuned", "default"]
ALLOCATOR, SPIN = "LIMBECK_ALLOCATOR", "LIMBECK_SPIN"  # environment variables that switch either off: "default"

# Parameters of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
# The largest block threshold mallopt takes is 32 MiB, less than one activation, so mapped blocks are switched off.
TUNED = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 64 * 2**20))

SPIN_COUNT, SPINS = "GOMP_SPINCOUNT", 5000
WAITING = (SPIN_COUNT, "OMP_WAIT_POLICY", "KMP_BLOCKTIME")  # whoever sets one of these has said how threads wait


def prepare() -> None:
    """Set both; for entry points, before anything imports torch. Raises: UserError for a switch with another value."""
    set_spin()
    set_allocator()


def set_spin(setting: Setting = "tuned") -> bool:
    """Let threads sleep after a short spin ("tuned") or leave them alone ("default"); returns whether that was set.

    The environment variable LIMBECK_SPIN wins over `setting`, and the user's own GOMP_SPINCOUNT, OMP_WAIT_POLICY or
    KMP_BLOCKTIME over both. libgomp reads its variable when torch is loaded: afterwards nothing is set.

    Raises: UserError if the setting is neither "tuned" nor "default".
    """
    if _chosen(SPIN, "spin", setting) == "default" or "torch" in sys.modules:
        return False
    if any(name in os.environ for name in WAITING):
        return False
    os.environ[SPIN_COUNT] = str(SPINS)
    return True


def waiting() -> str:
    """How this process's threads wait, for a report: `GOMP_SPINCOUNT=5000`; empty if that is left to OpenMP."""
    return ", ".join(f"{name}={os.environ[name]}" for name in WAITING if name in os.environ)


def set_allocator(setting: Setting = "tuned") -> bool:
    """Tell glibc to keep freed blocks ("tuned") or leave it alone ("default"); returns whether it was told.

    Call it once, before the first large tensor. The environment variable LIMBECK_ALLOCATOR wins over `setting`. Does
    nothing outside Linux with glibc, or where MALLOC_..._ or GLIBC_TUNABLES already say how memory is to be kept.

    Raises: UserError if the setting is neither "tuned" nor "default".
    """
    if _chosen(ALLOCATOR, "allocator", setting) == "default":
        return False
    if not sys.platform.startswith("linux") or _set_by_environment():
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(parameter, value) == 1 for parameter, value in TUNED)


def _chosen(variable: str, argument: str, setting: str) -> str:
    source, chosen = (variable, os.environ[variable]) if variable in os.environ else (argument, setting)
    if chosen not in ("tuned", "default"):
        raise UserError(f"{source}={chosen!r}: must be 'tuned' or 'default'")
    return chosen


def _set_by_environment() -> bool:
    tunables = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return tunables or any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ)
