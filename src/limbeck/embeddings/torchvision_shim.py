"""The door through which libraries that need torchvision come in: timm, lpips, torch_fidelity.

torchvision from the package index is built for CUDA. Beside a CPU build of torch its import stops at two operator
schemas (`nms`, `qnms`) that its compiled part would have declared. We declare them ourselves, only when that very
error occurs; models, transforms and utilities then work, the two operators themselves do not.
"""

import importlib
import sys
from types import ModuleType

import torch

MISSING = "operator torchvision::nms does not exist"
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # a Library's schemas vanish with it


def imported(name: str) -> ModuleType:
    """The module `name`, which may import torchvision.

    Raises: ImportError if it is not installed.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if MISSING not in str(error) or torch.version.cuda is not None:
            raise
        declare_operators()
    return importlib.import_module(name)


def declare_operators() -> None:
    """Declare the two missing schemas and forget the import that failed for want of them."""
    for module in [key for key in sys.modules if key.split(".")[0] == "torchvision"]:
        del sys.modules[module]
    if not _declared:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(operator + SCHEMA)
        _declared.append(library)
