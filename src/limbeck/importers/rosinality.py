"""rosinality's StyleGAN2 `.pt` layout, also that of CAGAN, StyleKD and DCP-GAN: names, and reading such files.

The names in `generator_names` and `discriminator_names` serve both directions; see `export.rosinality` for the other.
Source: the public repository's `state_dict` layout; names and shapes only.
"""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.architectures.stylegan2 import Discriminator
from limbeck.errors import CheckpointError
from limbeck.importers import stylegan2
from limbeck.importers.foreign import Facts, inverse
from limbeck.model import Model

MOST_LAYERS = 64
TERMS = "licence of the weights not stated in the file; a student inherits its teacher's terms"


def layer_names(theirs: str, ours: str, *, torgb: bool = False) -> dict[str, str]:
    """Names of one modulated layer, rosinality's to ours."""
    names = {
        f"{theirs}.conv.weight": f"{ours}.weight",
        f"{theirs}.conv.modulation.weight": f"{ours}.affine.weight",
        f"{theirs}.conv.modulation.bias": f"{ours}.affine.bias",
    }
    if torgb:
        return names | {f"{theirs}.bias": f"{ours}.bias"}
    return names | {f"{theirs}.noise.weight": f"{ours}.noise_strength", f"{theirs}.activate.bias": f"{ours}.bias"}


def generator_names(resolution: int, mapping_depth: int) -> dict[str, str]:
    """All parameters and noise images of a generator, rosinality's names to ours."""
    names = {"input.input": "synthesis.b4.const", "noises.noise_0": "synthesis.b4.conv1.noise_const"}
    for index in range(mapping_depth):
        for kind in ("weight", "bias"):
            names[f"style.{index + 1}.{kind}"] = f"mapping.fc{index}.{kind}"
    names |= layer_names("conv1", "synthesis.b4.conv1")
    names |= layer_names("to_rgb1", "synthesis.b4.torgb", torgb=True)
    for block in range(int(math.log2(resolution)) - 2):
        ours = f"synthesis.b{8 << block}"
        for half in (0, 1):
            names |= layer_names(f"convs.{2 * block + half}", f"{ours}.conv{half}")
            names[f"noises.noise_{2 * block + half + 1}"] = f"{ours}.conv{half}.noise_const"
        names |= layer_names(f"to_rgbs.{block}", f"{ours}.torgb", torgb=True)
    return names


def discriminator_names(resolution: int) -> dict[str, str]:
    """All parameters of a discriminator, rosinality's names to ours."""
    pairs = {"convs.0.0.weight": f"b{resolution}.fromrgb.weight", "convs.0.1.bias": f"b{resolution}.fromrgb.bias"}
    for index in range(1, int(math.log2(resolution)) - 1):
        theirs, ours = f"convs.{index}", f"b{resolution >> (index - 1)}"
        pairs |= {
            f"{theirs}.conv1.0.weight": f"{ours}.conv0.weight",
            f"{theirs}.conv1.1.bias": f"{ours}.conv0.bias",
            f"{theirs}.conv2.1.weight": f"{ours}.conv1.weight",
            f"{theirs}.conv2.2.bias": f"{ours}.conv1.bias",
            f"{theirs}.skip.1.weight": f"{ours}.skip.weight",
        }
    pairs |= {"final_conv.0.weight": "b4.conv.weight", "final_conv.1.bias": "b4.conv.bias"}
    for theirs, ours in (("final_linear.0", "b4.fc"), ("final_linear.1", "b4.out")):
        pairs |= {f"{theirs}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias")}
    return pairs


def recognized(content: Any) -> bool:
    """Whether this is such a container, or the bare state dict of such a generator."""
    return isinstance(content, dict) and _generator_state(content)[1] is not None


def model(content: dict[str, Any], path: str | Path, facts: Facts) -> Model:
    """Generator (`g_ema`, else `g`), discriminator `d` if there, and `latent_avg` if there.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    role, state = _generator_state(content)
    assert state is not None
    where = str(path)
    last, depth = _last(state, r"convs\.(\d+)\."), _last(state, r"style\.(\d+)\.")
    names = generator_names(4 << ((last + 2) // 2), depth)
    ours = _renamed(state, names, where)
    average = content.get("latent_avg")
    if isinstance(average, Tensor):
        ours["mapping.w_avg"] = average.flatten()
    generator = stylegan2.generator(ours, where=where, names=inverse(names), facts=facts)
    found = judge(content["d"], path) if isinstance(content.get("d"), Mapping) else None
    history = {"format": "rosinality", "network": role, "file": os.path.basename(path), **facts.entry(where)}
    return Model(generator, found, terms=TERMS).after("import", **history)


def recognized_judge(content: Any) -> bool:
    """Whether this is the bare state dict of such a discriminator."""
    return isinstance(content, Mapping) and "convs.0.0.weight" in content


def judge(state: Mapping[str, Any], path: str | Path) -> Discriminator:
    """The discriminator of a state dict.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    names = discriminator_names(4 << _last(state, r"convs\.(\d+)\."))
    return stylegan2.discriminator(_renamed(state, names, str(path)), where=str(path), names=inverse(names))


def _generator_state(content: dict[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    for role in ("g_ema", "g"):
        if isinstance(content.get(role), Mapping):
            return role, content[role]
    return "bare", content if "input.input" in content else None


def _last(state: Mapping[str, Any], pattern: str) -> int:
    """The highest number in the names; -1 if there is none, bounded, because a file may say anything."""
    numbers = (int(match[1]) for name in state if (match := re.match(pattern, str(name))))
    return min(max(numbers, default=-1), MOST_LAYERS)


def _renamed(state: Mapping[str, Any], names: Mapping[str, str], where: str) -> dict[str, Tensor]:
    """The tensors under our names and in our shapes; low-pass kernels are checked and left out."""
    renamed = {}
    for theirs, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{where}: {theirs!r} is no tensor")
        if theirs.endswith(".kernel"):
            stylegan2.check_filter(value, f"{where}: {theirs}")
        elif theirs not in names:
            raise CheckpointError(f"{where}: tensor {theirs!r} does not belong to a StyleGAN2 network of this layout")
        else:
            renamed[names[theirs]] = without_extra_axes(value, names[theirs])
    return renamed


def without_extra_axes(value: Tensor, ours: str) -> Tensor:
    """Drop the axes of size 1 that only this layout has; `with_extra_axes` in `export.rosinality` is the inverse."""
    if ours.endswith(".noise_strength") and value.numel() == 1:
        return value.reshape([])
    if ours.endswith(".torgb.bias"):
        return value.flatten()
    num_axes = {"const": 3, "noise_const": 2}.get(ours.rpartition(".")[2], value.ndim)
    if ours.startswith("synthesis.") and ours.endswith(".weight") and not ours.endswith(".affine.weight"):
        num_axes = 4
    while value.ndim > num_axes and value.shape[0] == 1:
        value = value[0]
    return value
