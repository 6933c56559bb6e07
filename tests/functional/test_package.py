"""What the interface promises of the package itself."""

import subprocess
import sys

import pytest

import limbeck


def test_modules_come_with_the_package():
    """In a fresh interpreter: nothing imported beforehand."""
    code = "import limbeck; print(limbeck.functional.diffusion.time_grid(4, kind='quadratic', num_train_steps=20))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[0, 1, 7, 16]"


def test_unknown_names():
    with pytest.raises(AttributeError, match=r"module 'limbeck\.functional' has no attribute 'alchemy'"):
        limbeck.functional.alchemy  # noqa: B018 - the access itself is the test
