"""An LMDB database of encoded images as a source: `data=lmdb data.path=FOLDER_OR_FILE`.

Two kinds are in use: LSUN's own (a value per image, any key) and those that rosinality's StyleGAN2 prepares (keys such
as 256-00042, several sizes in one database, and an entry `length`).
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import IO, Any

from limbeck.data.files import Files, checksums_of
from limbeck.data.image_files import ImageFiles
from limbeck.data.names import EXTENSIONS
from limbeck.errors import UserError

ALLOWED = "allowed with data=lmdb: a database of images, the folder of data.mdb or a single file"


class Database(Files):
    """The entries of an LMDB database whose keys begin with `prefix`, in the order of their keys.

    An image's name is its key, with an ending for its format where it has none (`ab12.webp`), as if in a folder.
    """

    def __init__(self, path: str | Path | None, *, prefix: str = "") -> None:
        self.path, self.prefix = path, prefix

    def names(self) -> list[str]:
        start = _key(self.prefix)
        with self._transaction() as entries:
            cursor = entries.cursor()
            cursor.set_range(start)
            following = ((bytes(key), bytes(value[:12])) for key, value in cursor)
            return sorted(_name(key, begins) for key, begins in takewhile(lambda f: f[0].startswith(start), following))

    def read(self, name: str) -> bytes:
        with self._transaction() as entries:
            for key in (name, name.rpartition(".")[0]):
                if key and (content := entries.get(_key(key))) is not None:
                    return bytes(content)
        raise UserError(f"{self.described(name)}: no such entry")

    def stream(self, name: str) -> IO[bytes]:
        return BytesIO(self.read(name))

    def begins(self, name: str, size: int) -> bytes:
        return self.read(name)[:size]

    def fingerprint(self, names: Sequence[str]) -> str:
        """Of the database as a whole: its place, size and date."""
        file = Path(str(self.path)) / "data.mdb" if Path(str(self.path)).is_dir() else Path(str(self.path))
        found = file.stat()
        facts = [str(file.resolve()), found.st_size, found.st_mtime_ns, *names]
        return hashlib.sha256(repr(facts).encode("utf-8", errors="surrogateescape")).hexdigest()

    def checksums(self, names: Sequence[str]) -> list[int]:
        return checksums_of(self, names)

    def described(self, name: str) -> str:
        return f"{self.path}:{name or self.prefix}" if name or self.prefix else str(self.path)

    def _transaction(self) -> Any:
        """Values come as views of the file, which end with it."""
        if self.path is None:
            raise UserError(f"data.path: not set; {ALLOWED}")
        return _environment(str(self.path)).begin(buffers=True)


def lmdb(*, path: str | Path | None = None, prefix: str = "", **options: Any) -> ImageFiles:
    """Images of an LMDB database as a source; `options` are those of `ImageFiles`."""
    return ImageFiles(Database(path, prefix=prefix), **options)


@cache
def _environment(path: str) -> Any:
    """Opened once in a process, as LMDB demands; forked readers may go on with it, because nothing is locked."""
    try:
        from lmdb import Error, open
    except ImportError as error:
        raise UserError("data=lmdb: needs lmdb; pip install limbeck[lmdb]") from error
    if not Path(path).exists():
        raise UserError(f"data.path={path}: no such file or folder; {ALLOWED}")
    try:
        return open(path, subdir=Path(path).is_dir(), readonly=True, lock=False, readahead=False)
    except Error as error:
        raise UserError(f"data.path={path}: not a readable LMDB database ({error}); {ALLOWED}") from error


def _key(name: str) -> bytes:
    return name.encode("utf-8", errors="surrogateescape")


def _name(key: bytes, begins: bytes) -> str:
    """A file name for an entry whose value begins with these twelve bytes; no ending for what is no image."""
    name = key.decode("utf-8", errors="surrogateescape")
    if PurePosixPath(name).suffix.lower() in EXTENSIONS:
        return name
    if begins[:4] == b"RIFF" and begins[8:] == b"WEBP":
        return name + ".webp"
    kinds = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp"}
    return name + next((ending for magic, ending in kinds.items() if begins.startswith(magic)), "")
