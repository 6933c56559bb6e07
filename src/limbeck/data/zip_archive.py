"""A zip archive of images as a source: `data=zip data.path=FILE.zip`.

Made for NVIDIA's data set archives (uncompressed, images in folders, class numbers in `dataset.json`); any other zip of
images will do, compressed or not.
"""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from limbeck.data.files import Files
from limbeck.data.image_files import ImageFiles
from limbeck.errors import UserError

LOCAL_HEADER = 30  # bytes in front of an entry's name and extra fields
GUESSED_EXTRA = 64
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
        return sorted({name for name in self._archive().NameToInfo if not name.endswith(("/", "\\"))})

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

    def begins(self, name: str, size: int) -> bytes:
        """Read at the entry's place, past `zipfile`, which takes ten times as long to open an entry."""
        try:
            archive = self._archive()
            entry = archive.getinfo(name)
            plain = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not entry.flag_bits & 1
            if not plain or archive.fp is None:
                with archive.open(name) as file:
                    return file.read(size)
            handle, place = archive.fp.fileno(), entry.header_offset
            local = os.pread(handle, LOCAL_HEADER + GUESSED_EXTRA + len(entry.filename) + size, place)
            if local[:4] != b"PK\x03\x04":
                raise zipfile.BadZipFile("no entry where the table of contents has it")
            start = LOCAL_HEADER + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
            content = local[start : start + size]
            wanted = min(size, entry.compress_size)
            if len(content) < wanted:
                content = os.pread(handle, wanted, place + start)
            content = content[:wanted]
            if entry.compress_type == zipfile.ZIP_DEFLATED:
                content = zlib.decompressobj(-15).decompress(content, size)
            return content
        except UNREADABLE as error:
            raise UserError(f"{self.described(name)}: damaged entry ({_one_line(error)})") from error

    def fingerprint(self, names: Sequence[str]) -> str:
        """Of the archive as a whole: its place, size and date."""
        try:
            found = os.stat(str(self.path))
        except OSError as error:
            raise UserError(f"data.path={self.path}: {error.strerror or error}") from error
        facts = [os.path.abspath(str(self.path)), found.st_size, found.st_mtime_ns, *names]
        return hashlib.sha256(repr(facts).encode("utf-8", errors="surrogateescape")).hexdigest()

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
