import errno
import signal
import subprocess
import sys

import pytest
from safetensors import SafetensorError

from limbeck.errors import UserError
from limbeck.files import folder_written_aside, keep_also, remove_leftovers, written_aside


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fill_the_disk():
        with written_aside(path) as aside:
            aside.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        fill_the_disk()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_between_write_and_rename_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with written_aside(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_folder_that_cannot_be_made_is_named():
    with pytest.raises(UserError, match="/dev/null"), written_aside("/dev/null/file") as aside:
        aside.write_text("")


FULL = {
    "system": OSError(errno.ENOSPC, "No space left on device"),
    "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"),
}


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
@pytest.mark.parametrize("writer", [written_aside, folder_written_aside])
def test_a_full_disk_is_one_line_whoever_writes(tmp_path, error, writer):
    with (
        pytest.raises(UserError, match=r"cannot write .*/result: No space left on device"),
        writer(tmp_path / "result"),
    ):
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), SafetensorError("invalid header")])
def test_other_errors_of_the_writer_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error), match=str(error)), written_aside(tmp_path / "result"):
        raise error


LIMITED = """
import resource, signal, sys
import safetensors.torch, torch
from limbeck.errors import UserError
from limbeck.files import written_aside
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
for save in (torch.save, safetensors.torch.save_file):
    try:
        with written_aside(sys.argv[1]) as aside:
            save({"x": torch.zeros(100_000)}, aside)
    except UserError as error:
        print(error)
"""


def test_what_torch_and_safetensors_really_say_is_understood(tmp_path):
    """A process that may write no more than 10 kB to a file meets the same errors as on a full disk."""
    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path / "x"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"cannot write {tmp_path / 'x'}"] * 2
    assert list(tmp_path.iterdir()) == []


def test_the_file_before_is_kept_too(tmp_path):
    new, old = tmp_path / "last", tmp_path / "previous"
    for text in ("one", "two", "three"):
        with written_aside(new) as aside:
            aside.write_text(text)
            if new.is_file():
                keep_also(new, old)
    assert (new.read_text(), old.read_text()) == ("three", "two")


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for name in ("checkpoints/.last.ckpt.4711.part", ".config.yaml.ab12.part"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".folder.12.part").mkdir()
    (tmp_path / "kept.part.yaml").write_text("")
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"checkpoints", "kept.part.yaml"}


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_a_killed_process_was_writing_goes_when_it_is_written_again(tmp_path, what):
    """Outside of run folders too: exports, converted models, caches. Whoever still writes is left alone."""
    name = f"with [brackets] {what}"
    writer = (
        "import os, signal, sys; from pathlib import Path; from limbeck import files\n"
        f"with files.{'written_aside' if what == 'file' else 'folder_written_aside'}(sys.argv[1]) as aside:\n"
        "    (aside if not aside.is_dir() else aside / 'part').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", writer, str(tmp_path / name)])
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    again = written_aside if what == "file" else folder_written_aside
    with again(tmp_path / name) as aside:
        (aside if what == "file" else aside / "part").write_text("whole")
        assert list(tmp_path.iterdir()) == [aside]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_who_writes_the_same_file_at_the_same_time_is_left_alone(tmp_path):
    with written_aside(tmp_path / "file") as one:
        one.write_text("one")
        with written_aside(tmp_path / "file") as other:
            other.write_text("other")
        assert one.is_file()
    assert (tmp_path / "file").read_text() == "one"
