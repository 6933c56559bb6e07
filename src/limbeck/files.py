"""Files that are whole or absent: everything a run writes goes to a temporary name first and is then renamed."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from limbeck.errors import UserError


@contextlib.contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces `path`, on failure `path` stays as it was.

    Raises: UserError if the disk is full or the folder cannot be written.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(aside, 0o666 & ~_umask())  # some writers make private files
        os.replace(aside, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; the old file, if any, is intact") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_aside(path: str | Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; on success it gets that name, on failure nothing is left.

    Raises: UserError if `path` is a file or a folder with something in it, or the disk is full or not writable.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path}: exists; name a new or empty folder")
        aside.mkdir(parents=True)
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
