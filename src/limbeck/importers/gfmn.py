"""Files of GFMN's generators and of the lottery tickets in them: `netG.pth`, `netG_best.tar`. Names and shapes only.

A ticket's file has for each layer a `flag`, which at the time of writing is its mask, and `scores`; its weights serve
where the flag is 1.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.architectures.residual_generator import Generator
from limbeck.errors import CheckpointError
from limbeck.importers import renamed
from limbeck.importers.foreign import Facts
from limbeck.importers.renamed import size
from limbeck.masking import switch_off
from limbeck.model import Model

TERMS = "licence of the weights not stated in the file; a student inherits its teacher's terms"
SNGAN_BLOCK = re.compile(r"block(\d+)\.c1\.weight")
GFMN_BLOCK = re.compile(r"net\.resblock_(\d+)\.conv1\.weight")
# Every convolution of GFMN's blocks is listed twice, by its name and by its place.
SECOND_NAMES = re.compile(r"net\.resblock_\d+\.(?:model\.[36]|bypass\.0)\.")
TICKET = re.compile(r"(.*)\.(flag|scores|bias_flag|bias_scores)")


def sngan_modules(blocks: list[int]) -> dict[str, str]:
    """Names of the modules of SNGAN, ours to the file's. blocks: their numbers in the file."""
    inside = {"norm1": "b1", "conv1.conv": "c1", "norm2": "b2", "conv2.conv": "c2", "shortcut.conv": "c_sc"}
    names = {"start": "l1", "norm": "b5", "last.conv": "c5"}
    for index, number in enumerate(blocks):
        names |= {f"blocks.{index}.{ours}": f"block{number}.{theirs}" for ours, theirs in inside.items()}
    return names


def gfmn_modules(blocks: list[int]) -> dict[str, str]:
    """Names of the modules of GFMN's residual generator, ours to the file's. blocks: their numbers in the file."""
    inside = {
        "norm1": "model.0",
        "conv1.conv": "conv1",
        "norm2": "model.4",
        "conv2.conv": "conv2",
        "shortcut.conv": "conv_bypass",
    }
    names = {"start.conv": "net.firstConv", "norm": "net.batchNorm", "last.conv": "net.lastConv"}
    for index, number in enumerate(blocks):
        names |= {f"blocks.{index}.{ours}": f"net.resblock_{number}.{theirs}" for ours, theirs in inside.items()}
    return names


def recognized(content: Any) -> bool:
    """Whether this is the state dict of one of the two generators."""
    if not isinstance(content, Mapping):
        return False
    return "net.firstConv.weight" in content or ("l1.weight" in content and "block2.c1.weight" in content)


def model(content: Mapping[str, Any], path: str | Path, facts: Facts) -> Model:
    """The generator, and, of a ticket, its masks.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    is_sngan = "l1.weight" in content
    pattern = SNGAN_BLOCK if is_sngan else GFMN_BLOCK
    blocks = sorted(int(found[1]) for name in content if (found := pattern.fullmatch(str(name))))
    if not blocks:
        raise CheckpointError(f"{path}: a generator without residual blocks")
    modules = (sngan_modules if is_sngan else gfmn_modules)(blocks)
    state = {str(name): value for name, value in content.items() if not SECOND_NAMES.match(str(name))}
    flags = {name: state.pop(name) for name in list(state) if TICKET.fullmatch(name)}
    generator = renamed.network(Generator, _arguments(state, modules, len(blocks), facts, path), modules, state, path)
    masks = _masks(flags, modules, generator, path)
    switch_off(generator, masks)
    history = {"format": "sngan" if is_sngan else "gfmn", "file": os.path.basename(path), **facts.entry(str(path))}
    return Model(generator, terms=TERMS, masks=masks).after("import", **history)


def recognized_judge(content: Any) -> bool:
    """No discriminator goes with these."""
    return False


def _arguments(
    state: Mapping[str, Any], modules: Mapping[str, str], num_blocks: int, facts: Facts, path: str | Path
) -> dict[str, Any]:
    def of(name: str, axis: int, num_axes: int = 4) -> int:
        return size(state, f"{modules[name]}.weight", axis, path, num_axes=num_axes)

    linear = "start" in modules
    resolution = 4 * 2**num_blocks
    widths = {"map4": of("start", 0, 2) // 16 if linear else of("start.conv", 1)}
    for index in range(num_blocks):
        widths[f"inner{8 * 2**index}"] = of(f"blocks.{index}.conv1.conv", 0)
        widths[f"map{8 * 2**index}"] = of(f"blocks.{index}.conv2.conv", 0)
    return {
        "resolution": facts.stated("resolution", resolution, str(path)),
        "num_channels": of("last.conv", 0),
        "z_dim": of("start", 1, 2) if linear else of("start.conv", 0),
        "width": widths[f"map{resolution}"],
        "start": "linear" if linear else "convolution",
        "doubling": not linear,
        "early_shortcut": not linear,
        "widths": widths,
    }


def _masks(
    flags: Mapping[str, Any], modules: Mapping[str, str], generator: Network, path: str | Path
) -> dict[str, Tensor]:
    """Where a ticket's flags are 1, by the names of what they cover; a layer without bias has a number for its flag."""
    ours, masks = {theirs: name for name, theirs in modules.items()}, {}
    parameters = dict(generator.named_parameters())
    for name, value in flags.items():
        layer, _, kind = name.rpartition(".")
        covered = f"{ours.get(layer)}.{'bias' if kind == 'bias_flag' else 'weight'}"
        if kind not in ("flag", "bias_flag") or covered not in parameters:
            continue
        wanted = parameters[covered].shape
        if not isinstance(value, Tensor) or value.shape != wanted or not ((value == 0) | (value == 1)).all():
            raise CheckpointError(f"{path}: tensor {name!r} is no mask: expected zeros and ones of {tuple(wanted)}")
        masks[covered] = value.bool()
    return masks
