"""Loads other people's code, cloned by the user outside this repository, as far as the benchmarks need it.

Expected, each only for the benchmark that names it: DIR/Singular-Value-Scaling, a clone of
github.com/LAIT-CVLab/Singular-Value-Scaling, which contains NVIDIA's StyleGAN2-ADA networks; DIR/NICKEL_AND_DIME of
github.com/SangyeopYeo/NICKEL_AND_DIME; DIR/Diff-Pruning of github.com/VainF/Diff-Pruning. Nothing of them is copied;
read their licences before use.
"""

import importlib
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.embeddings.torchvision_shim import imported

# Imported by their modules, used by nothing that runs here.
STAND_INS = {
    "skimage": ["color"],
    "skimage.measure": ["compare_ssim"],
    "skimage.transform": [],
    "IPython": ["embed"],
    "cv2": [],
}


def svs_folder(peers: Path | None) -> Path | None:
    """The clone's StyleGAN2 folder, or None with a message."""
    return clone(peers, "Singular-Value-Scaling/stylegan2-compression")


def clone(peers: Path | None, name: str) -> Path | None:
    """The folder of this name among the clones, or None with a message."""
    if peers is None:
        print("peers: skipped (name a folder with clones by --peers DIR)")
        return None
    folder = peers / name
    if not folder.is_dir():
        print(f"peers: skipped ({folder} does not exist)")
        return None
    return folder


@contextmanager
def _their_path(folder: Path) -> Iterator[None]:
    """Their modules are found first inside; their copy of lpips makes room for the installed one afterwards."""
    for name, attributes in STAND_INS.items():
        if name not in sys.modules:
            module = types.ModuleType(name)
            vars(module).update(dict.fromkeys(attributes))
            sys.modules[name] = module
    installed = _taken_out("lpips")
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        _taken_out("lpips")
        sys.modules.update(installed)


def _taken_out(package: str) -> dict[str, types.ModuleType]:
    names = [name for name in sys.modules if name.split(".")[0] == package]
    return {name: sys.modules.pop(name) for name in names}


def load(folder: Path, *names: str) -> list[Any]:
    """Modules of the clone by dotted name, imported together."""
    imported("torchvision")
    with _their_path(folder):
        return [importlib.import_module(name) for name in names]


def fitted(network: nn.Module, ours: nn.Module) -> nn.Module:
    """Their network with our weights; only their filter buffers may be left over."""
    missing, unexpected = network.load_state_dict(ours.state_dict(), strict=False)
    left = [name for name in missing if not name.endswith("resample_filter")]
    if left or unexpected:
        raise RuntimeError(f"weights do not fit: missing {left}, unexpected {unexpected}")
    return network
