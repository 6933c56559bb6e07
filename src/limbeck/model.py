"""The value that passes through the stages: a model (generator, discriminator, history) and a teacher-student pair.

Models are stored as safetensors whose JSON header holds class paths and constructor arguments, so that a file
of any stage can be the start of a run and loads without pickle and without pruning code.
"""

import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from limbeck.architectures.base import Network
from limbeck.errors import CheckpointError
from limbeck.files import written_aside

FORMAT = "limbeck-1"
ARCHITECTURES = "limbeck.architectures."


@dataclass(frozen=True)
class Model:
    """A generator (for diffusion: the denoiser), the discriminator it was trained against, and where both come from.

    history: one mapping per stage passed, oldest first, e.g. {"stage": "prune", "ratio": 0.7}.
    terms: licence note of the weights; a student inherits its teacher's.
    """

    generator: Network
    discriminator: Network | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    terms: str = ""

    def after(self, stage: str, **facts: Any) -> "Model":
        """The same networks with one more entry in the history."""
        return replace(self, history=(*self.history, {"stage": stage, **facts}))


@dataclass(frozen=True)
class Pair:
    """The frozen teacher and the student made from it; every stage takes one and returns a new one."""

    teacher: Model
    student: Model


def save(model: Model, path: str | Path, dtype: torch.dtype | None = None) -> Path:
    """Write a model as safetensors, aside and renamed; `dtype` stores floating-point weights narrower."""
    networks = {"generator": model.generator, "discriminator": model.discriminator}
    header = {
        "networks": {
            role: {"class": f"{type(net).__module__}.{type(net).__name__}", "arguments": net.arguments}
            for role, net in networks.items()
            if net is not None
        },
        "history": list(model.history),
        "terms": model.terms,
    }
    tensors = {
        f"{role}.{name}": _stored(value, dtype)
        for role, net in networks.items()
        if net is not None
        for name, value in net.state_dict().items()
    }
    metadata = {"format": FORMAT, "limbeck": json.dumps(header, sort_keys=True)}
    with written_aside(path) as aside:
        safetensors.torch.save_file(tensors, aside, metadata=metadata)
    return Path(path)


def load_native(path: str | Path) -> Model:
    """Read a model written by `save`.

    Raises: CheckpointError if the file is missing, damaged, from elsewhere, or does not fit its own header.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f"model file not found: {path}")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(f"{path}: not a {FORMAT} file (format: {metadata.get('format', 'none stated')})")
            header = json.loads(metadata["limbeck"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: unreadable safetensors file ({_one_line(error)})") from error
    networks = {role: _rebuilt(path, role, entry, tensors) for role, entry in header["networks"].items()}
    return Model(
        generator=networks["generator"],
        discriminator=networks.get("discriminator"),
        history=tuple(header["history"]),
        terms=header["terms"],
    )


def _rebuilt(path: str | Path, role: str, entry: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Network:
    module, _, name = entry["class"].rpartition(".")
    if not module.startswith(ARCHITECTURES):
        raise CheckpointError(f"{path}: refused class {entry['class']!r}; only {ARCHITECTURES}* is built from a file")
    try:
        network = getattr(importlib.import_module(module), name)(**entry["arguments"])
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot build {entry['class']} ({_one_line(error)})") from error
    if not isinstance(network, Network):
        raise CheckpointError(f"{path}: {entry['class']} is not a network of limbeck.architectures")
    prefix = f"{role}."
    state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {role} does not fit its header ({_one_line(error)})") from error
    return network.eval()


def _stored(value: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    return value.to(dtype) if dtype is not None and value.is_floating_point() else value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
