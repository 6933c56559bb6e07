"""Every Python block of README and docs runs, in a folder that holds a finished run."""

import re
import shutil
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
BLOCKS = [
    pytest.param(block, id=f"{page.name}:{number}")
    for page in (TOP / "README.md", *sorted((TOP / "docs").glob("*.md")))
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    )
]


def test_there_are_blocks():
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block, tmp_path, monkeypatch):
    run = tmp_path / "outputs" / "quickstart" / "default"
    run.mkdir(parents=True)
    shutil.copyfile(TOP / "src/limbeck/teachers/robohash32.safetensors", run / "student.safetensors")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "block", "exec"), {})
