"""Maths shared by two or more plug-ins: torch only, no state, randomness passed in.

Each module is imported when first used: `limbeck.functional.diffusion.time_grid(100)` needs no import of its own.
"""

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    module = f"{__name__}.{name}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from error
