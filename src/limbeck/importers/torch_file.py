"""Files written by `torch.save`: read in weights-only mode, mapped instead of copied, and checked for bombs."""

import argparse
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import CheckpointError

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def recognized(head: bytes) -> bool:
    """Whether a file that starts with these bytes was written by `torch.save`, in the zip or the older layout."""
    return head.startswith((b"PK\x03\x04", LEGACY_MAGIC))


def read(path: str | Path) -> Any:
    """The file's content; only tensors, containers, plain values and `argparse.Namespace` (a holder of options).

    Raises: CheckpointError if anything else is in it, it is damaged, or it claims more data than it has.
    """
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _refuse_compressed(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip or None)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged or hostile file fails in any way it likes
        raise CheckpointError(f"{path}: unreadable or refused ({reason(error)})") from error
    _refuse_expanded(content, path)
    return content


def reason(error: Exception) -> str:
    """What torch says in one line: of its long advice, the line that names what was refused."""
    line = next((line for line in str(error).splitlines() if "global" in line.lower()), str(error))
    return " ".join(line.split())[:300] or type(error).__name__


def _refuse_compressed(path: str | Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged archive ({error})") from error
    total = sum(entry.file_size for entry in entries)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or total > os.path.getsize(path):
        raise CheckpointError(f"{path}: refused: a compressed archive; torch.save never compresses")


def _refuse_expanded(content: Any, path: str | Path) -> None:
    """Tensors that claim more elements than are stored would be a bomb once copied."""
    total = 0
    for tensor in _tensors(content):
        size = tensor.numel() * tensor.element_size()
        total += size
        if tensor.layout != torch.strided or tensor.is_meta or size > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"{path}: refused: a tensor of shape {tuple(tensor.shape)} without its data")
    if total > 2 * os.path.getsize(path):
        raise CheckpointError(f"{path}: refused: tensors of {total} bytes in a file of {os.path.getsize(path)}")


def _tensors(content: Any) -> Iterator[Tensor]:
    """All tensors in nested mappings and sequences; each container is visited once."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Tensor):
            yield node
        elif isinstance(node, (Mapping, list, tuple, argparse.Namespace)) and id(node) not in seen:
            seen.add(id(node))
            inner = vars(node) if isinstance(node, argparse.Namespace) else node
            waiting.extend(inner.values() if isinstance(inner, Mapping) else inner)
