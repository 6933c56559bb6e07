"""Files that are whole or absent: everything a run writes goes to a temporary name first and is then renamed."""

import contextlib
import errno
import glob
import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from limbeck.errors import UserError


@contextlib.contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces `path`, on failure `path` stays as it was.

    Raises: UserError if the disk is full or the folder cannot be written.
    """
    path = Path(path)
    aside = _aside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _forget_killed(path)
        yield aside
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(aside, 0o666 & ~_umask())  # some writers make private files
        os.replace(aside, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        if (reason := _refusal(error)) is None:
            raise
        raise UserError(f"cannot write {path}: {reason}; the old file, if any, is intact") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_aside(path: str | Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; on success it gets that name, on failure nothing is left.

    Raises: UserError if `path` is a file or a folder with something in it, or the disk is full or not writable.
    """
    path = Path(path)
    aside = _aside(path)
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path}: exists; name a new or empty folder")
        aside.mkdir(parents=True)
        _forget_killed(path)
        yield aside
        os.replace(aside, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        if (reason := _refusal(error)) is None:
            raise
        raise UserError(f"cannot write {path}: {reason}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def keep_also(path: Path, as_path: Path) -> None:
    """Let `as_path` be what `path` is now, at no cost where the file system knows hard links."""
    with written_aside(as_path) as aside:
        try:
            os.link(path, aside)
        except OSError:
            shutil.copyfile(path, aside)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that killed processes left below a folder in which nobody else is at work."""
    for aside in [*folder.rglob(".*.part")]:
        _remove(aside)


def _forget_killed(path: Path) -> None:
    """Remove what processes of this machine that are gone left while they wrote the same file."""
    for aside in [*path.parent.glob(f".{glob.escape(path.name)}.{_host()}-*.part")]:
        process = aside.name.rpartition(".part")[0].rpartition(".")[2].split("-")[1]
        if os.name == "posix" and process.isdigit() and not _runs(int(process)):
            _remove(aside)


def _remove(aside: Path) -> None:
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _aside(path: Path) -> Path:
    """A name of its own, even where two containers have equal names and process numbers."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part")


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _refusal(error: Exception) -> str | None:
    """Why the system would not take the data; None if the error is of another kind.

    Neither torch (RuntimeError of its zip writer) nor safetensors raises an OSError for a full disk.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error)
    if isinstance(error, SafetensorError):
        found = re.search(r"os error (\d+)", text)
        return os.strerror(int(found[1])) if found else None
    return os.strerror(errno.ENOSPC) if "inline_container" in text or "PytorchStreamWriter" in text else None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
