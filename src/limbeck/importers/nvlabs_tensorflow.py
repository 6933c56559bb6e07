"""The original TensorFlow pickles of StyleGAN2 and StyleGAN2-ADA: generator, discriminator, averaged generator.

Each network is a record of nested components, each with a list of named NumPy arrays. Weights are stored transposed
and, for up-sampling convolutions, spatially flipped; style biases without their one.
Source: the variable names and the transpositions in NVIDIA's public conversion code (legacy.py); facts only.
"""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import CheckpointError
from limbeck.importers import nvlabs_state, stylegan2
from limbeck.importers.restricted_pickle import FileBytes, Record
from limbeck.model import Model

Arrays = dict[str, np.ndarray]
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


def recognized(content: Any) -> bool:
    """Whether these are the three networks of such a file."""
    return isinstance(content, tuple) and len(content) == 3 and all(_is_network(network) for network in content)


def model(content: tuple[Record, Record, Record], path: str | Path) -> Model:
    """The averaged generator and the discriminator.

    Raises: CheckpointError if a variable is missing or of another shape, or the networks are not StyleGAN2's.
    """
    where = str(path)
    _, judge, averaged = content
    for network, architecture in ((averaged, "skip"), (judge, "resnet")):
        _check_arguments(network.state["static_kwargs"], architecture, where)
    settings = averaged.state["static_kwargs"]
    budget = [2 * os.path.getsize(path)]
    generator = stylegan2.generator(
        generator_state(_arrays(averaged, budget), where), where=where, clamp=settings.get("conv_clamp")
    )
    settings = judge.state["static_kwargs"]
    if settings.get("label_size", 0):
        raise CheckpointError(f"{where}: class-conditional TensorFlow pickles are not read")
    discriminator = stylegan2.discriminator(
        discriminator_state(_arrays(judge, budget), where),
        where=where,
        clamp=settings.get("conv_clamp"),
        group_size=settings.get("mbstd_group_size") or 4,
    )
    facts = {"format": "nvlabs_tensorflow", "network": "Gs", "file": os.path.basename(path)}
    return Model(generator, discriminator, terms=nvlabs_state.TERMS).after("import", **facts)


def generator_state(arrays: Arrays, where: str) -> dict[str, Tensor]:
    """A generator's variables under the official PyTorch names."""
    take = _taker(arrays, where)
    state = {"mapping.w_avg": take("dlatent_avg")}
    for index in range(sum(name.startswith("mapping/Dense") and name.endswith("/weight") for name in arrays)):
        state[f"mapping.fc{index}.weight"] = take(f"mapping/Dense{index}/weight", dense)
        state[f"mapping.fc{index}.bias"] = take(f"mapping/Dense{index}/bias")
    state["synthesis.b4.const"] = take("synthesis/4x4/Const/const", lambda value: value[0])
    for r in _resolutions(arrays, "synthesis/"):
        layers = [("conv1", "Conv")] if r == 4 else [("conv0", "Conv0_up"), ("conv1", "Conv1")]
        for ours, theirs in [*layers, ("torgb", "ToRGB")]:
            name, stored = f"synthesis.b{r}.{ours}", f"synthesis/{r}x{r}/{theirs}"
            state[f"{name}.weight"] = take(f"{stored}/weight", flipped if theirs == "Conv0_up" else convolution)
            state[f"{name}.bias"] = take(f"{stored}/bias")
            state[f"{name}.affine.weight"] = take(f"{stored}/mod_weight", dense)
            state[f"{name}.affine.bias"] = take(f"{stored}/mod_bias", lambda value: value + 1)
            if ours != "torgb":
                number = 2 * int(math.log2(r)) - (5 if ours == "conv0" else 4)
                state[f"{name}.noise_strength"] = take(f"{stored}/noise_strength")
                state[f"{name}.noise_const"] = take(f"synthesis/noise{number}", lambda value: value[0, 0])
    return state


def discriminator_state(arrays: Arrays, where: str) -> dict[str, Tensor]:
    """A discriminator's variables under the official PyTorch names."""
    take = _taker(arrays, where)
    resolutions = _resolutions(arrays, "")
    pairs = [(f"b{resolutions[-1]}.fromrgb", f"{resolutions[-1]}x{resolutions[-1]}/FromRGB"), ("b4.conv", "4x4/Conv")]
    for r in resolutions[1:]:
        pairs += [
            (f"b{r}.{ours}", f"{r}x{r}/{theirs}") for ours, theirs in (("conv0", "Conv0"), ("conv1", "Conv1_down"))
        ]
    state = {f"b{r}.skip.weight": take(f"{r}x{r}/Skip/weight", convolution) for r in resolutions[1:]}
    for ours, theirs in pairs:
        state |= {f"{ours}.weight": take(f"{theirs}/weight", convolution), f"{ours}.bias": take(f"{theirs}/bias")}
    for ours, theirs in (("b4.fc", "4x4/Dense0"), ("b4.out", "Output")):
        state |= {f"{ours}.weight": take(f"{theirs}/weight", dense), f"{ours}.bias": take(f"{theirs}/bias")}
    return state


def dense(value: np.ndarray) -> np.ndarray:
    """[in, out] to [out, in]."""
    return value.transpose()


def convolution(value: np.ndarray) -> np.ndarray:
    """[k, k, in, out] to [out, in, k, k]."""
    return value.transpose(3, 2, 0, 1)


def flipped(value: np.ndarray) -> np.ndarray:
    """The same for transposed convolutions, whose kernels TensorFlow turns by 180 degrees."""
    return convolution(value[::-1, ::-1])


def _taker(arrays: Arrays, where: str) -> Callable[..., Tensor]:
    def take(name: str, change: Callable[[np.ndarray], np.ndarray] = lambda value: value) -> Tensor:
        if name not in arrays:
            raise CheckpointError(f"{where}: not a StyleGAN2 network: variable {name!r} is missing")
        try:
            return torch.from_numpy(np.array(change(arrays[name]), dtype=np.float32, order="C"))
        except (ValueError, IndexError) as error:
            raise CheckpointError(f"{where}: variable {name!r} has shape {arrays[name].shape}") from error

    return take


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
