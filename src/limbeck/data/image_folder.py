"""A folder of images and its sub-folders as a source: `data=image_folder data.path=FOLDER`."""

import hashlib
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from limbeck.data.files import Files, checksums_of
from limbeck.data.image_files import ImageFiles
from limbeck.errors import UserError


class Folder(Files):
    """All files below one folder; links are followed. wanted: what `data.path` should be, for messages."""

    def __init__(self, path: str | Path | None, wanted: str = "with data=image_folder: data.path=FOLDER") -> None:
        self.path = path
        self.wanted = wanted

    def names(self) -> list[str]:
        if self.path is None:
            raise UserError(f"data.path: not set; allowed {self.wanted}, a folder of images")
        if os.path.isfile(self.path):
            raise UserError(f"data.path={self.path}: a file; allowed with data=image_folder: a folder (zip: data=zip)")
        if not os.path.isdir(self.path):
            raise UserError(f"data.path={self.path}: no such folder; allowed {self.wanted}, a folder of images")
        top, found = os.path.join(self.path, ""), []
        for folder, _, files in os.walk(top, onerror=_refuse, followlinks=True):
            relative = folder.removeprefix(top).replace(os.sep, "/")
            found += [f"{relative}/{file}" for file in files] if relative else files
        return sorted(found)

    def read(self, name: str) -> bytes:
        with self.stream(name) as file:
            try:
                return file.read()
            except OSError as error:
                raise UserError(f"{self.described(name)}: {error.strerror or error}") from error

    def stream(self, name: str) -> IO[bytes]:
        try:
            return open(self.described(name), "rb")
        except OSError as error:
            raise UserError(f"{self.described(name)}: {error.strerror or error}") from error

    def begins(self, name: str, size: int) -> bytes:
        try:
            handle = os.open(self.described(name), os.O_RDONLY)
            try:
                return os.read(handle, size)
            finally:
                os.close(handle)
        except OSError as error:
            raise UserError(f"{self.described(name)}: {error.strerror or error}") from error

    def fingerprint(self, names: Sequence[str]) -> str:
        top = os.path.join(str(self.path), "")
        facts = array("q")
        for name in names:
            try:
                found = os.stat(top + name)
            except OSError as error:
                raise UserError(f"{self.described(name)}: {error.strerror or error}") from error
            facts.append(found.st_size)
            facts.append(found.st_mtime_ns)
        called = "\0".join([os.path.abspath(str(self.path)), *names])
        return hashlib.sha256(called.encode("utf-8", errors="surrogateescape") + b"\0\0" + facts.tobytes()).hexdigest()

    def checksums(self, names: Sequence[str]) -> list[int]:
        return checksums_of(self, names)

    def described(self, name: str) -> str:
        return os.path.join(str(self.path), name) if name else str(self.path)


def image_folder(*, path: str | Path | None = None, **options: Any) -> ImageFiles:
    """Images of a folder, sub-folders included, as a source; `options` are those of `ImageFiles`."""
    return ImageFiles(Folder(path), **options)


def _refuse(error: OSError) -> None:
    raise UserError(f"data.path: cannot list {error.filename}: {error.strerror or error}") from error
