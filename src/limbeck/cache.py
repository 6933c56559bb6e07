"""Tensors that are expensive to make, kept in the user's cache folder under a digest of everything they depend on.

A cached file is never trusted beyond its shapes, and a cache that cannot be written costs time, never the result.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.files import written_aside


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/limbeck`, by default `~/.cache/limbeck`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limbeck"


def cache_path(kind: str, name: str, facts: Any) -> Path:
    """`<cache folder>/<kind>/<name>-<digest of facts>.safetensors`. facts: JSON values."""
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    return cache_folder() / kind / f"{name.replace('/', '.')}-{key}.safetensors"


def read_cached(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor] | None:
    """The tensors of these names and shapes; None if the file is absent, damaged, or holds others or infinities."""
    if not path.is_file():
        return None
    try:
        stored = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError):
        return None
    sound = {name: tuple(value.shape) for name, value in stored.items()} == dict(shapes)
    return stored if sound and all(bool(value.isfinite().all()) for value in stored.values()) else None


def write_cached(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Keep the tensors; warns if they cannot be kept."""
    try:
        with written_aside(path) as aside:
            safetensors.torch.save_file({name: value.contiguous() for name, value in tensors.items()}, aside)
    except (UserError, safetensors.SafetensorError) as error:
        warnings.warn(f"{path.parent.name}: not kept in the cache: {error}", stacklevel=2)


def state_digest(network: nn.Module) -> str:
    """Hexadecimal SHA-256 of all parameters and buffers: names, types, shapes, values."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
