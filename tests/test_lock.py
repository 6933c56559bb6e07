"""One process to a folder."""

import os
import subprocess
import sys

import pytest

from limbeck.errors import UserError
from limbeck.lock import NAME, locked

HOLD = """
import sys, time
from pathlib import Path
from limbeck.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_whoever_comes_second_is_refused_and_told_who_holds_it(tmp_path, holder):
    with pytest.raises(UserError, match=f"process {holder.pid} on .* works in this folder"), locked(tmp_path):
        pass
    with pytest.raises(UserError), locked(tmp_path):  # a refused attempt does not loosen it
        pass


def test_a_killed_process_holds_nothing(tmp_path, holder):
    holder.kill()  # SIGKILL
    holder.wait()
    assert (tmp_path / NAME).is_file()
    with locked(tmp_path):
        assert (tmp_path / NAME).read_text().startswith(f"process {os.getpid()} on ")
    assert not (tmp_path / NAME).exists()


def test_the_lock_ends_with_the_work(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "new" / "folder"):
            pass
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        _ = 1 / 0
    with locked(tmp_path):
        pass
