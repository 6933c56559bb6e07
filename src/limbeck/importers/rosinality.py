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

from limbeck.errors import CheckpointError
from limbeck.importers import stylegan2
from limbeck.model import Model

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


def model(content: dict[str, Any], path: str | Path) -> Model:
    """Generator (`g_ema`, else `g`), discriminator `d` if there, and `latent_avg` if there.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    role, state = _generator_state(content)
    assert state is not None
    where = str(path)
    state = _without_prefix(state)
    depth = len([name for name in state if re.fullmatch(r"style\.\d+\.weight", name)])
    count = len([name for name in state if re.fullmatch(r"convs\.\d+\.conv\.weight", name)])
    if count % 2:
        raise CheckpointError(f"{where}: {count} entries 'convs.*.conv.weight', expected an even number")
    ours = _renamed(state, generator_names(4 << (count // 2), depth), where)
    average = content.get("latent_avg")
    if isinstance(average, Tensor):
        ours["mapping.w_avg"] = average.flatten()
    generator = stylegan2.generator(ours, where=where)
    facts: dict[str, Any] = {"format": "rosinality", "network": role, "file": os.path.basename(path)}
    discriminator = None
    if isinstance(content.get("d"), Mapping):
        renamed = _renamed(_without_prefix(content["d"]), discriminator_names(generator.resolution), where)
        discriminator = stylegan2.discriminator(renamed, where=where)
    return Model(generator, discriminator, terms=TERMS).after("import", **facts)


def _generator_state(content: dict[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    for role in ("g_ema", "g"):
        if isinstance(content.get(role), Mapping):
            return role, content[role]
    bare = any(str(name).removeprefix("module.") == "input.input" for name in content)
    return "bare", content if bare else None


def _without_prefix(state: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _renamed(state: dict[str, Any], names: Mapping[str, str], where: str) -> dict[str, Tensor]:
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
