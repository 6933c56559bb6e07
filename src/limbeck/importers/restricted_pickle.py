"""Reading pickles without executing anything: an explicit list of harmless names, everything else refused by name.

Pickle is a small program that may call whatever it can name. Here it can name only what `allowed` holds: builders of
inert records. The pure-Python unpickler is used on purpose: its memo is a dictionary, so a file cannot make it reserve
memory by naming a huge memo index, and state setting (BUILD) can be confined to our own records. Long bytes objects
stay in the file (`FileBytes`).
"""

import os
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from limbeck.errors import CheckpointError

Allowed = Mapping[tuple[str, str], Callable[..., Any]]


class FileBytes:
    """A long bytes object left in its file until it is read: most of a network file is never needed."""

    __slots__ = ("length", "offset", "path")

    def __init__(self, path: str, offset: int, length: int):
        self.path, self.offset, self.length = path, offset, length

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


class Record:
    """An inert object of the file: what it was called with, and the state it was given; never acts on either."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any):
        self.arguments = arguments
        self.state: Any = None


LONG = 1 << 16
_PythonUnpickler: Any = pickle._Unpickler


class _Unpickler(_PythonUnpickler):
    dispatch: ClassVar = dict(_PythonUnpickler.dispatch)

    def __init__(self, file: BinaryIO, allowed: Allowed):
        super().__init__(file)
        self.file = file
        self.allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise CheckpointError(
                f"refused: the file wants {module}.{name}, which is not on the list of harmless names"
            )
        return self.allowed[module, name]

    def persistent_load(self, _pid: Any) -> Any:
        raise CheckpointError("refused: the file refers to objects outside itself")

    def get_extension(self, code: int) -> Any:
        raise CheckpointError(f"refused: the file uses extension code {code}")

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
            return
        if type(target).__name__ != "OrderedDict" or state:
            raise CheckpointError(f"refused: the file sets the state of a {type(target).__name__}")

    def load_binbytes(self) -> None:
        self._bytes_of_length(struct.unpack("<I", self.read(4))[0])

    def load_binbytes8(self) -> None:
        self._bytes_of_length(struct.unpack("<Q", self.read(8))[0])

    def _bytes_of_length(self, length: int) -> None:
        # Long bytes stand outside the frames of newer pickles, so the file is at their start.
        if length < LONG or self._unframer.current_frame:
            self.append(self.read(length))
            return
        start = self.file.tell()
        if length > os.fstat(self.file.fileno()).st_size - start:
            raise EOFError("Ran out of input")
        self.file.seek(length, os.SEEK_CUR)
        self.append(FileBytes(self.file.name, start, length))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BINBYTES[0]] = load_binbytes
    dispatch[pickle.BINBYTES8[0]] = load_binbytes8


def read(path: str | Path, allowed: Allowed) -> Any:
    """What the pickle describes, built from allowed names only.

    Raises: CheckpointError naming the first name that is not allowed, or saying that the file is damaged.
    """
    try:
        with open(path, "rb") as file:
            return _Unpickler(file, allowed).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # a damaged or hostile pickle fails in any way it likes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{path}: damaged pickle ({reason[:200]})") from error
