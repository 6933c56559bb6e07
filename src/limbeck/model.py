"""The value that passes through the stages: a model (generator, discriminator, history) and a teacher-student pair.

Models are stored as safetensors whose JSON header holds class paths and constructor arguments, so that a file
of any stage can be the start of a run and loads without pickle and without pruning code.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from limbeck.architectures.base import Network, class_path, network_class
from limbeck.arguments import kind
from limbeck.errors import CheckpointError, UserError
from limbeck.files import written_aside
from limbeck.masking import Masks, check_masks, packed, unpacked

FORMAT = "limbeck-1"


@dataclass(frozen=True)
class Model:
    """Networks by role: the generator (for diffusion: the denoiser) is what is compressed and shipped, the others only
    play along and are kept for training; and where all of them come from.

    discriminator: what the generator was trained against.
    reverse: the model of the other direction, of translations that are trained in both.
    history: one mapping per stage passed, oldest first, e.g. {"stage": "prune", "ratio": 0.7}.
    terms: licence note of the weights; a student inherits its teacher's.
    masks: of the generator's parameters, by name; false where a weight is switched off and stays zero.
    """

    generator: Network
    discriminator: Network | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    terms: str = ""
    masks: Masks = field(default_factory=dict)
    reverse: "Model | None" = None

    def after(self, stage: str, **facts: Any) -> "Model":
        """The same networks with one more entry in the history."""
        return replace(self, history=(*self.history, {"stage": stage, **facts}))

    def turned(self) -> "Model":
        """The other direction, with this one at its `reverse`. Raises: UserError if there is none."""
        if self.reverse is None:
            raise UserError("backward: this model has no other direction")
        return replace(self.reverse, reverse=replace(self, reverse=None))


@dataclass(frozen=True)
class Pair:
    """The frozen teacher and the student made from it; every stage takes one and returns a new one."""

    teacher: Model
    student: Model


def save(model: Model, path: str | Path, dtype: torch.dtype | None = None) -> Path:
    """Write a model as safetensors, aside and renamed; `dtype` stores floating-point weights narrower."""
    kind(model, "model", Model, "a Model, as limbeck.load gives it")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise UserError(f"dtype={dtype!r}: must be a floating-point type of torch, or None")
    header, tensors = _contents(model, dtype)
    header = {"format": FORMAT, **header}
    # One entry only: safetensors writes several in random order, and equal models shall be equal files.
    metadata = {"limbeck": json.dumps(header, sort_keys=True)}
    with written_aside(path) as aside:
        safetensors.torch.save_file(tensors, aside, metadata=metadata)
    return Path(path)


def digest(model: Model) -> str:
    """Hexadecimal SHA-256 of all networks: architectures, arguments, weights, masks; not of where they come from."""

    def networks(node: dict[str, Any]) -> dict[str, Any]:
        return {k: networks(v) if k == "reverse" else v for k, v in node.items() if k not in ("history", "terms")}

    header, tensors = _contents(model, None)
    summary = hashlib.sha256(json.dumps(networks(header), sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        summary.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        summary.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return summary.hexdigest()


def _contents(model: Model, dtype: torch.dtype | None) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What the header says of a model, and its tensors by role and name."""
    networks = {"generator": model.generator, "discriminator": model.discriminator}
    check_masks(model.generator, model.masks)
    header: dict[str, Any] = {
        "networks": {
            role: {"class": class_path(net), "arguments": net.arguments}
            for role, net in networks.items()
            if net is not None
        },
        "history": list(model.history),
        "terms": model.terms,
    }
    if model.masks:
        header["masks"] = sorted(model.masks)
    tensors = {
        f"{role}.{name}": value
        for role, net in networks.items()
        if net is not None
        for name, value in stored(net, model.masks if role == "generator" else {}, dtype).items()
    }
    if model.reverse is not None:
        header["reverse"], others = _contents(model.reverse, dtype)
        tensors |= {f"reverse.{name}": value for name, value in others.items()}
    return header, tensors


def stored(network: Network, masks: Masks, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """What a file holds of a network: its state, masked tensors in packed form. dtype: see `save`."""
    held: dict[str, torch.Tensor] = {}
    for name, value in network.packed(network.state_dict()).items():
        held |= dict(packed(name, value, masks[name])) if name in masks else {name: value}
    return {name: _stored(value, dtype) for name, value in held.items()}


def load_native(path: str | Path) -> Model:
    """Read a model written by `save`.

    Raises: CheckpointError if the file is missing, damaged, from elsewhere, or does not fit its own header.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f"model file not found: {path}")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("limbeck", "{}"))
            if header.get("format") != FORMAT:
                raise CheckpointError(f"{path}: not a {FORMAT} file (format: {header.get('format', 'none stated')})")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return _model(path, header, tensors)
    except (safetensors.SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: unreadable safetensors file ({_one_line(error)})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged header ({type(error).__name__}: {_one_line(error)})") from error


def _model(path: str | Path, header: dict[str, Any], tensors: dict[str, torch.Tensor], part: str = "") -> Model:
    """The model that a header describes. part: what stands before its roles in the names of tensors."""
    masks: dict[str, Any] = dict.fromkeys(header.get("masks", ()))
    networks = {
        role: _rebuilt(path, part + role, entry, tensors, masks if role == "generator" else {})
        for role, entry in header["networks"].items()
    }
    return Model(
        generator=networks["generator"],
        discriminator=networks.get("discriminator"),
        history=tuple(header["history"]),
        terms=header["terms"],
        masks=masks,
        reverse=_model(path, header["reverse"], tensors, f"{part}reverse.") if "reverse" in header else None,
    )


def _rebuilt(
    path: str | Path, role: str, entry: dict[str, Any], tensors: dict[str, torch.Tensor], masks: dict[str, Any]
) -> Network:
    try:
        found = network_class(entry["class"])
    except UserError as error:
        raise CheckpointError(f"{path}: {error}") from error
    prefix = f"{role}."
    state = {key.removeprefix(prefix): tensors.pop(key) for key in list(tensors) if key.startswith(prefix)}
    return filled(found, entry["arguments"], state, masks, where=f"{path}: {role}")


def filled(
    built: type[Network],
    arguments: Mapping[str, Any],
    state: dict[str, torch.Tensor],
    masks: dict[str, Any] | None = None,
    *,
    where: str,
    names: Mapping[str, str] | None = None,
) -> Network:
    """A network in eval mode that holds the given tensors; `state` is emptied on the way, to keep memory low.

    Shapes are compared before any memory is taken, so a file cannot ask for more than it contains.

    masks: names of the tensors that are packed in `state`; gets their masks. where: opens every error message.
    names: our names of tensors to the file's own, where they differ.
    Raises: CheckpointError naming the first tensor that is missing, left over, misshaped, or not a finite number.
    """
    try:
        with torch.device("meta"):
            network = built(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{where}: cannot build {built.__name__} ({_one_line(error)})") from error
    try:
        state = network.unpacked(state)
    except UserError as error:
        raise CheckpointError(f"{where}: {error}") from error
    expected = network.state_dict()
    for name in masks or ():
        if name not in dict(network.named_parameters()):
            raise CheckpointError(f"{where}: masks name {name!r}, which a {built.__name__} does not have")
        state[name], masks[name] = unpacked(name, state, expected[name].shape, where=where)  # type: ignore[index]
    for name in (*expected, *state):
        called = called_in_file(name, names)
        if name not in state or name not in expected:
            problem = "is missing" if name in expected else f"does not belong to a {built.__name__}"
            raise CheckpointError(f"{where}: tensor {called} {problem}")
        if state[name].shape != expected[name].shape:
            found, wanted = tuple(state[name].shape), tuple(expected[name].shape)
            raise CheckpointError(f"{where}: tensor {called} has shape {found}, expected {wanted}")
        if state[name].is_floating_point() != expected[name].is_floating_point():
            raise CheckpointError(
                f"{where}: tensor {called} has type {state[name].dtype}, expected {expected[name].dtype}"
            )
        if state[name].is_floating_point() and not state[name].isfinite().all():
            raise CheckpointError(f"{where}: tensor {called} holds NaN or infinity")
    for name, meta in expected.items():
        # In the network's own type and memory format; `empty_like` would load sympy for the meta device.
        expected[name] = torch.empty_strided(meta.shape, meta.stride(), dtype=meta.dtype).copy_(state.pop(name))
    network.load_state_dict(expected, assign=True)
    return network.eval()


def called_in_file(name: str, names: Mapping[str, str] | None) -> str:
    """A tensor as an error message should call it: by the file's own name, and by ours if that is another."""
    own = (names or {}).get(name, name)
    return repr(name) if own == name else f"{own!r} (here {name!r})"


def _stored(value: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    return value.to(dtype) if dtype is not None and value.is_floating_point() else value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
