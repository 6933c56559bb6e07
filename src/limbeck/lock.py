"""One process to a folder: two commands that train in the same one would mix their logs and checkpoints."""

import contextlib
import errno
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from limbeck.errors import UserError

NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; whoever comes second is refused.

    The lock is the kernel's (POSIX record lock on `folder/.lock`, known to network file systems too), so it ends with
    its process however that ends; the file only says whose it is. Where a file system has no locks, nothing is held.

    Raises: UserError naming host and process that hold it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    handle = taken(path)
    if handle is None:
        holder = path.read_text(errors="replace").strip() or "another process"
        raise UserError(f"{folder}: {holder} works in this folder; wait for it, or choose another hydra.run.dir")
    try:
        os.truncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def taken(path: Path) -> int | None:
    """A handle of the file, locked; None if another process has it."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                os.close(handle)
                return None
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)  # its holder removed the file meanwhile
