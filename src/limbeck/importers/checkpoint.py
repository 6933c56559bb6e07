"""A teacher from a file, whatever its layout; the layout is recognized by content, never by the name's ending."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from limbeck.architectures.base import Network
from limbeck.errors import CheckpointError, UserError
from limbeck.importers import (
    dcgan,
    ddim,
    diffusers,
    gfmn,
    hub,
    nvlabs_pickle,
    nvlabs_state,
    pix2pix,
    rosinality,
    srgan,
    stargan,
    torch_file,
)
from limbeck.importers.foreign import Facts, places, unwrapped
from limbeck.model import Model, load_native

# Of torch's files: `recognized` and `model`.
LAYOUTS = (rosinality, nvlabs_state, ddim, pix2pix, stargan, srgan, dcgan, gfmn)
MASKED = 2  # entries of a label that say which of two data sets it is of
# Layouts with files of a discriminator alone: `recognized_judge` and `judge`.
JUDGES = (rosinality, nvlabs_state, pix2pix, stargan, srgan, dcgan)


def load(path: str | Path, *, discriminator: str | Path | None = None, **facts: Any) -> Model:
    """Read a model without executing anything the file holds.

    path: a native .safetensors, rosinality's .pt (also CAGAN, StyleKD, DCP-GAN), NVIDIA's .pkl or state dict, the DDIM
        code base's .ckpt, the public files of pix2pix, CycleGAN, StarGAN, SRGAN, DCGAN, SNGAN and GFMN; a folder of
        diffusers, of a finished run, or of a CycleGAN's latest_net_{G_A,G_B,D_A,D_B}.pth; or "hub:OWNER/NAME" for what
        lies on a Hugging Face Hub.
    discriminator: a second file, of the discriminator alone or of a model that has one; it replaces what `path` has.
    facts: what the file does not say, by name: `resolution` and `num_train_steps`, `beta_schedule`, `beta_start`,
        `beta_end` of a denoiser; `conv_clamp`, `mbstd_group_size`, `magnitude_ema_beta`, `resolution` of a bare state
        dict of NVIDIA's; `resolution`, `dropout` of a translation network. Without them they are guessed; the history
        tells ("guessed").

    Raises: CheckpointError if a file is missing, unreadable, unsafe or of another shape; UserError for a fact that the
        file states otherwise, or that is no question there.
    """
    for name, file in (("path", path), ("discriminator", discriminator or "")):
        if not isinstance(file, (str, os.PathLike)):
            raise UserError(f"{name}={file!r}: must be the path of a file or folder")
    told = Facts(facts)
    place = hub.fetched(path) if hub.recognized(path) else Path(os.path.expanduser(path))
    model = _model(place, told)
    if discriminator is None:
        return model
    second = Path(os.path.expanduser(discriminator))
    if "steps" in model.generator.draw_settings:
        raise UserError(f"discriminator={second}: {path} holds a denoiser, which has none; leave it out")
    judge = _judge(second)
    _check_judge(judge, model.generator, second)
    model = replace(model, discriminator=judge)
    # A note in the last entry, which tells where the networks are from.
    last = {**(model.history[-1] if model.history else {"stage": "import"}), "discriminator": second.name}
    return replace(model, history=(*model.history[:-1], last))


def _model(path: Path, facts: Facts) -> Model:
    if path.is_dir():
        if diffusers.recognized(path):
            return diffusers.load(path, facts)
        if pix2pix.recognized_folder(path):
            return pix2pix.folder_model(path, facts)
        return _native(path / "student.safetensors", facts)
    head = _beginning(path)
    if torch_file.recognized(head):
        return _from_torch_file(path, facts)
    if head.startswith(b"\x80") and not _is_safetensors(path, head):
        return nvlabs_pickle.load(path, facts)
    return _native(path, facts)


def _native(path: Path, facts: Facts) -> Model:
    model = load_native(path)
    facts.entry(f"{path}, which states everything")
    return model


def _is_safetensors(path: Path, head: bytes) -> bool:
    """Whether it begins with the length of a JSON header and that header; such a length may look like a pickle."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= path.stat().st_size


def _beginning(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(16)
    except FileNotFoundError as error:
        raise CheckpointError(f"model file not found: {path}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def _from_torch_file(path: Path, facts: Facts) -> Model:
    content = unwrapped(torch_file.read(path), str(path))
    for _, place in places(content):
        for layout in LAYOUTS:
            if layout.recognized(place):
                return layout.model(place, path, facts)
    for _, place in places(content):
        if any(layout.recognized_judge(place) for layout in JUDGES):
            raise CheckpointError(f"{path}: holds a discriminator alone; name it beside its generator: discriminator=")
    found = ", ".join(sorted(map(str, content))[:8]) if isinstance(content, dict) else type(content).__name__
    raise CheckpointError(f"{path}: no known layout of networks in it; found: {found}")


def _judge(path: Path) -> Network:
    """The discriminator of a file that holds it alone, or beside a generator."""
    if path.is_file() and torch_file.recognized(_beginning(path)):
        content = unwrapped(torch_file.read(path), str(path))
        for _, place in places(content):
            for layout in JUDGES:
                if layout.recognized_judge(place):
                    return layout.judge(place, path)
    judge = _model(path, Facts()).discriminator
    if judge is None:
        raise CheckpointError(f"{path}: no discriminator in it")
    return judge


def _check_judge(judge: Network, generator: Network, path: Path) -> None:
    pairs = generator.num_channels + generator.latent_shape[0]
    for name in ("resolution", "num_channels", "num_classes"):
        found, wanted = getattr(judge, name), getattr(generator, name)
        if name == "resolution" and (judge.any_size or generator.any_size):
            continue
        if name == "num_channels" and generator.draws_from == "images" and found == pairs:
            continue  # it judges the source beside the image
        if name == "num_classes" and generator.draws_from == "images" and found == wanted - MASKED:
            continue  # StarGAN of two data sets: the generator is told too which set a label is of
        if found != wanted:
            raise CheckpointError(f"{path}: the discriminator's {name} is {found}, the generator's {wanted}")


class File:
    """A teacher stage: reads the checkpoint when called, not when configured.

    path: the file; None means that the user has to name it. discriminator: a second file, see `load`.
    backward: whether the other direction of a CycleGAN is the teacher, and the forward one its reverse.
    obtain: where such a file comes from, told when it is missing. facts: what the file does not say, see `load`.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        discriminator: str | Path | None = None,
        obtain: str = "",
        backward: bool = False,
        **facts: Any,
    ):
        self.path = path
        self.backward = backward
        self.discriminator = discriminator
        self.obtain = obtain
        self.facts = facts

    def __call__(self) -> Model:
        hint = f" ({self.obtain})" if self.obtain else ""
        if self.path is None:
            raise UserError(f"teacher.path: not set; name the teacher's checkpoint{hint} with teacher.path=FILE")
        if not os.path.exists(os.path.expanduser(self.path)):
            raise UserError(f"teacher.path={self.path}: no such file; put the checkpoint{hint} there or name another")
        if self.discriminator is not None and not os.path.exists(os.path.expanduser(self.discriminator)):
            raise UserError(f"teacher.discriminator={self.discriminator}: no such file; name another, or null")
        model = load(self.path, discriminator=self.discriminator, **self.facts)
        if self.backward:
            model = model.turned()
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
