"""Keep freed memory in the process: glibc's defaults hand every large tensor back to the kernel and fetch it again.

On a CPU that costs page faults in every step (measured: `benchmarks/README.md`). The arithmetic is the same, bit for
bit; the price is that memory once used stays with the process until it ends.
"""

import ctypes
import os
import sys
from typing import Literal

from limbeck.errors import UserError

Setting = Literal["tuned", "default"]
VARIABLE = "LIMBECK_ALLOCATOR"

# Parameters of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
# The largest block threshold mallopt takes is 32 MiB, less than one activation, so mapped blocks are switched off.
TUNED = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 64 * 2**20))


def set_allocator(setting: Setting = "tuned") -> bool:
    """Tell glibc to keep freed blocks ("tuned") or leave it alone ("default"); returns whether it was told.

    Call it once, before the first large tensor. The environment variable LIMBECK_ALLOCATOR wins over `setting`. Does
    nothing outside Linux with glibc, or where MALLOC_..._ or GLIBC_TUNABLES already say how memory is to be kept.

    Raises: UserError if the setting is neither "tuned" nor "default".
    """
    source, chosen = (VARIABLE, os.environ[VARIABLE]) if VARIABLE in os.environ else ("allocator", setting)
    if chosen not in ("tuned", "default"):
        raise UserError(f"{source}={chosen!r}: must be 'tuned' or 'default'")
    if chosen == "default" or not sys.platform.startswith("linux") or _set_by_environment():
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(parameter, value) == 1 for parameter, value in TUNED)


def _set_by_environment() -> bool:
    tunables = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return tunables or any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ)
