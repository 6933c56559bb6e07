"""The original TensorFlow pickles of StyleGAN2 and StyleGAN2-ADA: generator, discriminator, averaged generator.

Each network is a record of nested components, each with a list of named NumPy arrays. Weights are stored transposed
and, for up-sampling convolutions, spatially flipped; style biases without their one.
Source: the variable names and the transpositions in NVIDIA's public conversion code (legacy.py); facts only.
"""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import CheckpointError
from limbeck.importers import nvlabs_state, stylegan2
from limbeck.importers.foreign import Facts
from limbeck.importers.restricted_pickle import FileBytes, Record
from limbeck.model import Model, called_in_file

Arrays = dict[str, np.ndarray]
MOST_LAYERS = 64
TYPES = {"f2", "f4", "f8", "i4", "i8"}
# Constructor arguments that would change the network, with the only value read here.
EXPECTED = {
    "architecture": None,
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "mapping_lrmul": 0.01,
    "normalize_latents": True,
    "use_noise": True,
    "mbstd_num_features": 1,
}


class Variable(NamedTuple):
    """One array of a file: our name, the file's, and how it becomes the other layout's."""

    ours: str
    theirs: str
    change: Callable[[np.ndarray], np.ndarray] = np.asarray


def recognized(content: Any) -> bool:
    """Whether these are the three networks of such a file."""
    return isinstance(content, tuple) and len(content) == 3 and all(_is_network(network) for network in content)


def model(content: tuple[Record, Record, Record], path: str | Path, facts: Facts) -> Model:
    """The averaged generator and the discriminator.

    Raises: CheckpointError if a variable is missing or of another shape, or the networks are not StyleGAN2's.
    """
    where = str(path)
    _, judge, averaged = content
    for network, architecture in ((averaged, "skip"), (judge, "resnet")):
        _check_arguments(network.state["static_kwargs"], architecture, where)
    settings = averaged.state["static_kwargs"]
    budget = [2 * os.path.getsize(path)]
    arrays = _arrays(averaged, budget)
    variables = generator_variables(arrays)
    generator = stylegan2.generator(
        _state(arrays, variables, where),
        where=where,
        clamp=settings.get("conv_clamp"),
        names={variable.ours: variable.theirs for variable in variables},
    )
    settings = judge.state["static_kwargs"]
    if settings.get("label_size", 0):
        raise CheckpointError(f"{where}: class-conditional TensorFlow pickles are not read")
    arrays = _arrays(judge, budget)
    variables = discriminator_variables(arrays)
    discriminator = stylegan2.discriminator(
        _state(arrays, variables, where),
        where=where,
        clamp=settings.get("conv_clamp"),
        group_size=settings.get("mbstd_group_size") or 4,
        names={variable.ours: variable.theirs for variable in variables},
    )
    history = {"format": "nvlabs_tensorflow", "network": "Gs", "file": os.path.basename(path), **facts.entry(where)}
    return Model(generator, discriminator, terms=nvlabs_state.TERMS).after("import", **history)


def generator_variables(arrays: Arrays) -> list[Variable]:
    """A generator's variables with the official PyTorch names."""
    depth = max((int(match[1]) for name in arrays if (match := re.match(r"mapping/Dense(\d+)/", name))), default=-1) + 1
    found = [Variable("mapping.w_avg", "dlatent_avg")]
    for index in range(min(depth, MOST_LAYERS)):
        found.append(Variable(f"mapping.fc{index}.weight", f"mapping/Dense{index}/weight", dense))
        found.append(Variable(f"mapping.fc{index}.bias", f"mapping/Dense{index}/bias"))
    found.append(Variable("synthesis.b4.const", "synthesis/4x4/Const/const", lambda value: value[0]))
    for r in _resolutions(arrays, "synthesis/"):
        layers = [("conv1", "Conv")] if r == 4 else [("conv0", "Conv0_up"), ("conv1", "Conv1")]
        for ours, theirs in [*layers, ("torgb", "ToRGB")]:
            name, stored = f"synthesis.b{r}.{ours}", f"synthesis/{r}x{r}/{theirs}"
            found += [
                Variable(f"{name}.weight", f"{stored}/weight", flipped if theirs == "Conv0_up" else convolution),
                Variable(f"{name}.bias", f"{stored}/bias"),
                Variable(f"{name}.affine.weight", f"{stored}/mod_weight", dense),
                Variable(f"{name}.affine.bias", f"{stored}/mod_bias", lambda value: value + 1),
            ]
            if ours != "torgb":
                number = 2 * int(math.log2(r)) - (5 if ours == "conv0" else 4)
                found.append(Variable(f"{name}.noise_strength", f"{stored}/noise_strength"))
                found.append(Variable(f"{name}.noise_const", f"synthesis/noise{number}", lambda value: value[0, 0]))
    return found


def discriminator_variables(arrays: Arrays) -> list[Variable]:
    """A discriminator's variables with the official PyTorch names."""
    resolutions = _resolutions(arrays, "")
    top = resolutions[-1] if resolutions else 4
    found = [Variable(f"b{r}.skip.weight", f"{r}x{r}/Skip/weight", convolution) for r in resolutions[1:]]
    pairs = [(f"b{top}.fromrgb", f"{top}x{top}/FromRGB"), ("b4.conv", "4x4/Conv")]
    for r in resolutions[1:]:
        pairs += [(f"b{r}.conv0", f"{r}x{r}/Conv0"), (f"b{r}.conv1", f"{r}x{r}/Conv1_down")]
    layers = [(*pair, convolution) for pair in pairs] + [("b4.fc", "4x4/Dense0", dense), ("b4.out", "Output", dense)]
    for ours, theirs, change in layers:
        found += [
            Variable(f"{ours}.weight", f"{theirs}/weight", change),
            Variable(f"{ours}.bias", f"{theirs}/bias"),
        ]
    return found


def dense(value: np.ndarray) -> np.ndarray:
    """[in, out] to [out, in]."""
    return value.transpose()


def convolution(value: np.ndarray) -> np.ndarray:
    """[k, k, in, out] to [out, in, k, k]."""
    return value.transpose(3, 2, 0, 1)


def flipped(value: np.ndarray) -> np.ndarray:
    """The same for transposed convolutions, whose kernels TensorFlow turns by 180 degrees."""
    return convolution(value[::-1, ::-1])


def _state(arrays: Arrays, variables: Sequence[Variable], where: str) -> dict[str, Tensor]:
    state = {}
    for variable in variables:
        called = called_in_file(variable.ours, {variable.ours: variable.theirs})
        if variable.theirs not in arrays:
            raise CheckpointError(f"{where}: not a StyleGAN2 network: variable {called} is missing")
        value = arrays[variable.theirs]
        try:
            state[variable.ours] = torch.from_numpy(np.array(variable.change(value), dtype=np.float32, order="C"))
        except (ValueError, IndexError) as error:
            raise CheckpointError(f"{where}: variable {called} has shape {value.shape}") from error
    return state


def _resolutions(arrays: Arrays, prefix: str) -> list[int]:
    heads = {name.removeprefix(prefix).split("/")[0] for name in arrays if name.startswith(prefix)}
    return sorted(int(head.split("x")[0]) for head in heads if head.split("x")[0].isdigit() and "x" in head)


def _is_network(value: Any) -> bool:
    return isinstance(value, Record) and isinstance(value.state, dict) and "variables" in value.state


def _check_arguments(arguments: Mapping[str, Any], architecture: str, where: str) -> None:
    for name, expected in (EXPECTED | {"architecture": architecture}).items():
        if arguments.get(name, expected) != expected:
            raise CheckpointError(f"{where}: {name}={arguments[name]!r}, expected {expected!r}")
    if list(arguments.get("resample_kernel") or [1, 3, 3, 1]) != [1, 3, 3, 1]:
        raise CheckpointError(f"{where}: a filter other than [1, 3, 3, 1]")


def _arrays(network: Record, budget: list[int], prefix: str = "") -> Arrays:
    """Variables of a network and its components, named by their path; `budget` bounds the bytes taken from the file."""
    arrays = {prefix + name: _array(value, budget) for name, value in network.state["variables"]}
    for name, component in network.state["components"].items():
        if prefix.count("/") > 2:
            raise CheckpointError("components nested too deep")
        arrays |= _arrays(component, budget, f"{prefix}{name}/")
    return arrays


def _array(value: Any, budget: list[int]) -> np.ndarray:
    """A NumPy array from the state of its record: (version, shape, type, column-major, bytes); or a scalar."""
    if not isinstance(value, Record):
        return np.asarray(float(value))
    if value.arguments[0] == "scalar":
        shape, kind, column_major, data = (), value.arguments[1], False, value.arguments[2]
    else:
        _, shape, kind, column_major, data = value.state
    code, order = kind.arguments[1], kind.state[1] if kind.state else "<"
    if code not in TYPES or order not in "<>" or column_major:
        raise CheckpointError(f"an array of type {order}{code}{', column-major' if column_major else ''}")
    data = data.read() if isinstance(data, FileBytes) else data
    budget[0] -= len(data)
    if budget[0] < 0:
        raise CheckpointError("refused: arrays larger than the file")
    return np.frombuffer(data, dtype=np.dtype(order + code)).reshape(shape)
