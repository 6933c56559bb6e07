"""A teacher from a file, whatever its layout; the layout is recognized by content, never by the name's ending."""

import os
from pathlib import Path

from limbeck.errors import CheckpointError, UserError
from limbeck.importers import ddim, diffusers, nvlabs_pickle, nvlabs_state, rosinality, torch_file
from limbeck.model import Model, load_native


def load(path: str | Path) -> Model:
    """Read a model without executing anything the file holds.

    path: a native .safetensors, rosinality's .pt (also CAGAN, StyleKD, DCP-GAN), NVIDIA's .pkl or state dict, the DDIM
        code base's .ckpt, a folder of diffusers, or the folder of a finished run.

    Raises: CheckpointError if the file is missing, unreadable, unsafe or of another shape.
    """
    if os.path.isdir(path):
        if diffusers.recognized(path):
            return diffusers.load(path)
        return load_native(Path(path) / "student.safetensors")
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise CheckpointError(f"model file not found: {path}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if torch_file.recognized(head):
        return _from_torch_file(path)
    if head.startswith(b"\x80"):
        return nvlabs_pickle.load(path)
    return load_native(path)


def _from_torch_file(path: str | Path) -> Model:
    content = torch_file.read(path)
    for layout in (rosinality, nvlabs_state, ddim):
        if layout.recognized(content):
            return layout.model(content, path)
    found = ", ".join(sorted(map(str, content))[:8]) if isinstance(content, dict) else type(content).__name__
    raise CheckpointError(f"{path}: no known layout of networks in it; found: {found}")


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
        # A foreign file's reader has said where the model is from; a native file only knows its earlier stages.
        foreign = model.history and model.history[-1].get("format")
        return model if foreign else model.after("import", path=os.path.basename(self.path))


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
