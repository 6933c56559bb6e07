"""A zip archive of images as a source: `data=zip data.path=FILE.zip`.

Made for NVIDIA's data set archives (uncompressed, images in folders, class numbers in `dataset.json`); any other zip of
images will do, compressed or not.
"""

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from limbeck.data.image_files import Files, ImageFiles
from limbeck.errors import UserError

# What zipfile raises for damaged, encrypted, or unknown kinds of entries.
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)


class Archive(Files):
    """The files of a zip archive. Every process opens it for itself: a shared file position would mix up reads."""

    def __init__(self, path: str | Path | None) -> None:
        self.path = path
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_opened": None}

    def names(self) -> list[str]:
        return sorted({entry.filename for entry in self._archive().infolist() if not entry.is_dir()})

    def read(self, name: str) -> bytes:
        try:
            return self._archive().read(name)
        except UNREADABLE as error:
            raise UserError(f"{self.described(name)}: damaged entry ({_one_line(error)})") from error

    def stream(self, name: str) -> IO[bytes]:
        try:
            return self._archive().open(name)
        except UNREADABLE as error:
            raise UserError(f"{self.described(name)}: damaged entry ({_one_line(error)})") from error

    def checksums(self, names: Sequence[str]) -> list[int]:
        return [self._archive().getinfo(name).CRC for name in names]

    def described(self, name: str) -> str:
        return f"{self.path}:{name}" if name else str(self.path)

    def _archive(self) -> zipfile.ZipFile:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def _open(self) -> zipfile.ZipFile:
        if self.path is None:
            raise UserError("data.path: not set; allowed with data=zip: data.path=FILE.zip, an archive of images")
        if os.path.isdir(self.path):
            raise UserError(
                f"data.path={self.path}: a folder; allowed with data=zip: a file (folder: data=image_folder)"
            )
        if not os.path.isfile(self.path):
            raise UserError(f"data.path={self.path}: no such file; allowed with data=zip: an archive of images")
        try:
            return zipfile.ZipFile(self.path)
        except UNREADABLE as error:
            raise UserError(f"data.path={self.path}: not a readable zip archive ({_one_line(error)})") from error


def zip_archive(*, path: str | Path | None = None, **options: Any) -> ImageFiles:
    """Images of a zip archive as a source; `options` are those of `ImageFiles`."""
    return ImageFiles(Archive(path), **options)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
