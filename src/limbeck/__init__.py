"""Compress generative models: prune, refine, distil, evaluate, export.

The names below are the Python interface; each is imported when first used, so `import limbeck` stays light and needs
neither Hydra nor Lightning.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck import data, functional, initializers, tickets
    from limbeck.errors import CheckpointError, UserError
    from limbeck.evaluation.sampling import sample
    from limbeck.importers.checkpoint import load
    from limbeck.model import Model, Pair, save
    from limbeck.profiling import profile
    from limbeck.pruning.pruner import prune
    from limbeck.pruning.sparsifier import sparsify
    from limbeck.stages import distil, evaluate

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "Model",
    "Pair",
    "UserError",
    "__version__",
    "data",
    "distil",
    "evaluate",
    "functional",
    "initializers",
    "load",
    "profile",
    "prune",
    "sample",
    "save",
    "sparsify",
    "tickets",
]

_HOMES = {
    "CheckpointError": "limbeck.errors",
    "Model": "limbeck.model",
    "Pair": "limbeck.model",
    "UserError": "limbeck.errors",
    "distil": "limbeck.stages",
    "evaluate": "limbeck.stages",
    "load": "limbeck.importers.checkpoint",
    "profile": "limbeck.profiling",
    "prune": "limbeck.pruning.pruner",
    "sample": "limbeck.evaluation.sampling",
    "save": "limbeck.model",
    "sparsify": "limbeck.pruning.sparsifier",
}


def __getattr__(name: str) -> Any:
    if name in ("data", "functional", "initializers", "tickets"):
        return importlib.import_module(f"limbeck.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
