"""What the package declares: dependencies are those it imports, every choice says what it is."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import limbeck
from limbeck.catalog import choices, groups, opening_comment

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
# Plug-ins of Hydra that YAML files and users name and nothing imports.
BY_NAME = {"hydra-joblib-launcher", "hydra-submitit-launcher", "hydra-ray-launcher"}
# What only tests and tools need.
TOOLS = {"dev", "docs", "test"}


def names(requirements: list[str]) -> set[str]:
    found = {re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-") for requirement in requirements}
    return found - {"limbeck"}


def imported() -> set[str]:
    """Top-level modules that the sources import, in functions too, by statement or by name."""
    found = set()
    for path in [*(TOP / "src").rglob("*.py"), TOP / "train.py", TOP / "evaluate.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and node.args and called(node) in ("imported", "find_spec"):
                first = node.args[0]
                found |= {str(first.value).split(".")[0]} if isinstance(first, ast.Constant) else set()
    return found - set(sys.stdlib_module_names) - {"limbeck", "__future__"}


def called(node: ast.Call) -> str:
    return getattr(node.func, "id", "") or getattr(node.func, "attr", "")


def packages(modules: set[str]) -> set[str]:
    """The distributions that bring these modules."""
    known = metadata.packages_distributions()
    return names([distribution for module in modules for distribution in known.get(module, [module])])


def test_what_is_imported_is_declared():
    extras = {name for extra, some in PROJECT["optional-dependencies"].items() if extra not in TOOLS for name in some}
    declared = names([*PROJECT["dependencies"], *extras])
    assert packages(imported()) <= declared


def test_what_is_declared_is_imported():
    extras = {name for extra, some in PROJECT["optional-dependencies"].items() if extra not in TOOLS for name in some}
    assert names([*PROJECT["dependencies"], *extras]) - packages(imported()) <= BY_NAME


def test_version_is_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+", limbeck.__version__)


@pytest.mark.parametrize("group", groups())
def test_every_choice_says_what_it_is(group):
    found = choices(group)
    assert found
    assert [choice.name for choice in found if not choice.line] == []


def test_first_sentences(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(
        "# @package _global_\n# Weights, e.g. those of\n# a file. More.\n#\n# Not this.\n_target_: x\n# nor this\n"
    )
    assert opening_comment(file) == "Weights, e.g. those of a file. More."
    from limbeck.catalog import Choice

    assert Choice("g", "a", opening_comment(file)).line == "Weights, e.g. those of a file."
