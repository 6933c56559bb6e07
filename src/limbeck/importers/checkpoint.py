"""A teacher from a file, whatever its layout; the layout is recognized by content, never by the name's ending."""

import os
from pathlib import Path

from limbeck.errors import CheckpointError, UserError
from limbeck.model import Model, load_native


def load(path: str | Path) -> Model:
    """Read a model without executing anything the file holds.

    Raises: CheckpointError if the file is missing, unreadable, unsafe or of another shape.
    """
    if not os.path.exists(path):
        raise CheckpointError(f"model file not found: {path}")
    return load_native(path)


class File:
    """A teacher stage: reads the checkpoint when called, not when configured.

    path: the file; None means that the user has to name it.
    obtain: where such a file comes from, told when it is missing.
    """

    def __init__(self, path: str | Path | None = None, *, obtain: str = ""):
        self.path = path
        self.obtain = obtain

    def __call__(self) -> Model:
        hint = f" ({self.obtain})" if self.obtain else ""
        if self.path is None:
            raise UserError(f"teacher.path: not set; name the teacher's checkpoint{hint} with teacher.path=FILE")
        if not os.path.exists(self.path):
            raise UserError(f"teacher.path={self.path}: no such file; put the checkpoint{hint} there or name another")
        model = load(self.path)
        return model.after("import", path=os.path.basename(self.path))


class Bundled:
    """A teacher that comes with the package; its card (recipe, figures, credits) lies beside it.

    name: of a file in `limbeck/teachers/`, without its ending.
    """

    def __init__(self, name: str):
        self.name = name

    def __call__(self) -> Model:
        folder = Path(__file__).parents[1] / "teachers"
        path = folder / f"{self.name}.safetensors"
        if not path.is_file():
            found = sorted(file.stem for file in folder.glob("*.safetensors"))
            raise UserError(f"teacher.name={self.name!r}: not bundled; allowed: {', '.join(found) or 'none'}")
        return load(path).after("import", bundled=self.name)
