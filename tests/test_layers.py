"""The direction of imports, and no configuration objects below the entry points."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "limbeck"
LAYERS = [
    {
        "arguments",
        "errors",
        "files",
        "cache",
        "parallel",
        "devices",
        "images",
        "startup",
        "lock",
        "stopping",
        "processes",
        "terminal",
        "seeds",
    },
    {"functional"},
    {"architectures", "embeddings"},
    {"masks", "masking"},
    {"model", "frozen", "configured"},
    {"importers", "pruning", "initializers", "losses", "metrics", "data", "profiling", "tickets"},
    {"evaluation", "loggers", "export"},
    {"callbacks"},
    {"distillation"},
    {
        "pipeline",
        "entry",
        "kinds",
        "identity",
        "choices",
        "commands",
        "sweep",
        "cli",
        "launcher",
        "stages",
        "publishing",
        "recipe",
        "forecast",
        "catalog",
        "completion",
        "__main__",
    },
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(SOURCE.rglob("*.py"))


def unit(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_units(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "limbeck":
            names = [f"limbeck.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("limbeck.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_downwards(path):
    own = unit(path)
    if own == "__init__":
        return
    assert own in LEVEL, f"{own}: give it a layer"
    upwards = {other for other in imported_units(path) if LEVEL[other] > LEVEL[own]}
    assert not upwards


def test_the_guard_sees_an_import_in_the_wrong_direction(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from limbeck.pipeline import Pipeline\nfrom limbeck import parallel\n")
    assert imported_units(wrong) == {"pipeline", "parallel"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_objects_receive_values_and_never_the_configuration(path):
    if unit(path) in {"entry", "configured", "sweep"}:
        return
    names = {node.arg for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.arg)}
    assert "cfg" not in names
    assert "DictConfig" not in path.read_text()


def module_name(path: Path, root: Path = SOURCE) -> str:
    parts = [root.name, *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> set[str]:
    """What a module names at its top level, for type checking too; imports inside functions are left out."""
    found: set[str] = set()

    def look(nodes):
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module:
                found.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
            elif isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.If | ast.Try):
                look([*node.body, *node.orelse])

    look(ast.parse(path.read_text()).body)
    return found


def circle(root: Path) -> list[str]:
    """Modules that import each other in a circle; empty if there is none. The package itself, lazy, is left out."""
    names = {module_name(path, root): path for path in root.rglob("*.py")}
    names.pop(root.name, None)
    edges = {name: sorted(imported_modules(path) & names.keys() - {name}) for name, path in names.items()}
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        found = next((below for other in edges[name] if (below := search(other, [*path, name]))), [])
        done.add(name)
        return found

    return next((found for name in names if (found := search(name, []))), [])


def test_no_modules_import_each_other_in_a_circle():
    assert not circle(SOURCE)


def test_the_guard_sees_a_circle_that_only_type_checking_closes(tmp_path):
    package = tmp_path / "house"
    package.mkdir()
    (package / "a.py").write_text("from house.b import f\n")
    (package / "b.py").write_text("if TYPE_CHECKING:\n    from house import a\n")
    assert sorted(set(circle(package))) == ["house.a", "house.b"]
