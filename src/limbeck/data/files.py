"""Where the bytes of image files come from: what folders, archives and databases have in common."""

import contextlib
import gc
import itertools
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TypeVar

import torch

from limbeck.cache import cache_path, read_cached, write_cached
from limbeck.terminal import tracked

WORTH_KEEPING = 1000  # files; fewer are looked at again faster than a file is written
CHUNK = 64  # files to a task of a thread: data sets have millions
T = TypeVar("T")


class Files(ABC):
    """Named byte strings; names are relative paths as they are stored. May be sent to, or forked into, workers."""

    @abstractmethod
    def names(self) -> list[str]:
        """All files, sorted. Raises: UserError if the place is missing or unreadable."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A file's content. Raises: UserError naming the file."""

    @abstractmethod
    def stream(self, name: str) -> IO[bytes]:
        """A file to read the beginning of. Raises: UserError naming the file."""

    @abstractmethod
    def begins(self, name: str, size: int) -> bytes:
        """The first `size` bytes of a file, fewer if it is shorter. Raises: UserError naming the file."""

    @abstractmethod
    def fingerprint(self, names: Sequence[str]) -> str:
        """A digest of names, sizes and dates: another one whenever a file may have changed."""

    @abstractmethod
    def checksums(self, names: Sequence[str]) -> list[int]:
        """CRC-32 of each file's content. Raises: UserError naming a file."""

    @abstractmethod
    def described(self, name: str) -> str:
        """The file as an error message should call it."""


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """No search for circular garbage inside, which costs as much as listing a million files does."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def of_each(function: Callable[[str], T], names: Sequence[str], what: str) -> Iterator[T]:
    """`function` of every name, in their order, several at a time (reading lets other threads run).

    what: is counted, for the line about how far it is.
    """

    def of_some(start: int) -> list[T]:
        return [function(name) for name in names[start : start + CHUNK]]

    with ThreadPoolExecutor() as pool:
        found = itertools.chain.from_iterable(pool.map(of_some, range(0, len(names), CHUNK)))
        yield from tracked(found, len(names), what)


def checksums_of(files: Files, names: Sequence[str]) -> list[int]:
    """CRC-32 of each file by reading it whole, once for as long as names, sizes and dates stay as they are."""
    path = cache_path("checksums", "crc32", [files.fingerprint(names)])
    if (stored := read_cached(path, {"crc32": (len(names),)})) is not None:
        return stored["crc32"].tolist()
    found = list(of_each(lambda name: zlib.crc32(files.read(name)), names, "checksums"))
    if len(names) >= WORTH_KEEPING:
        write_cached(path, {"crc32": torch.tensor(found, dtype=torch.int64)})
    return found
