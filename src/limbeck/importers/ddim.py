"""Checkpoints of the DDIM code base (`.ckpt`, `.pth`), also those of its forks that prune: names, and reading them.

Either a bare state dict (the published conversions of DDPM's weights), or the list that training writes: network,
optimizer, epoch, step and, if there is one, the moving average of the weights, which is taken then.

Source: the public repository's module names and training loop; names and shapes only.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.errors import CheckpointError
from limbeck.importers import ddpm
from limbeck.importers.foreign import Facts
from limbeck.model import Model, called_in_file

TERMS = "licence of the weights not stated in the file; a student inherits its teacher's terms"
MARK = "temb.dense.0.weight"
ATTENTION_SIDE = 16  # all published networks attend at this resolution; the files themselves do not tell their size
MOST_LEVELS, MOST_BLOCKS = 16, 8
BLOCKS = (
    (r"temb\.dense\.(\d)\.", lambda m, _: f"time_embedding.linear_{int(m[1]) + 1}."),
    (r"conv_in\.", lambda m, _: m[0]),
    (r"conv_out\.", lambda m, _: m[0]),
    (r"norm_out\.", lambda m, _: "conv_norm_out."),
    (r"mid\.block_([12])\.", lambda m, _: f"mid_block.resnets.{int(m[1]) - 1}."),
    (r"mid\.attn_1\.", lambda m, _: "mid_block.attentions.0."),
    (r"down\.(\d+)\.block\.(\d+)\.", lambda m, _: f"down_blocks.{m[1]}.resnets.{m[2]}."),
    (r"down\.(\d+)\.attn\.(\d+)\.", lambda m, _: f"down_blocks.{m[1]}.attentions.{m[2]}."),
    (r"down\.(\d+)\.downsample\.", lambda m, _: f"down_blocks.{m[1]}.downsamplers.0."),
    (r"up\.(\d+)\.block\.(\d+)\.", lambda m, last: f"up_blocks.{last - int(m[1])}.resnets.{m[2]}."),
    (r"up\.(\d+)\.attn\.(\d+)\.", lambda m, last: f"up_blocks.{last - int(m[1])}.attentions.{m[2]}."),
    (r"up\.(\d+)\.upsample\.", lambda m, last: f"up_blocks.{last - int(m[1])}.upsamplers.0."),
)
LAYERS = {
    "resnets": {"temb_proj": "time_emb_proj", "nin_shortcut": "conv_shortcut"},
    "attentions": {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"},
}


def recognized(content: Any) -> bool:
    """Whether this is such a state dict or list."""
    return _network_state(content)[1] is not None


def model(content: Any, path: str | Path, facts: Facts) -> Model:
    """The network, of its moving average if the file has one.

    facts: resolution and noise schedule, which such files do not hold; guessed are attention at 16 pixels and DDPM's
    schedule, as in all published networks.
    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    role, state = _network_state(content)
    assert state is not None
    where = str(path)
    names = own_names(state)
    ours = renamed(state, where)
    network = ddpm.network(_arguments(ours, where, names, facts), ours, where=where, names=names)
    history = {"format": "ddim", "network": role, "file": os.path.basename(path), **facts.entry(where)}
    return Model(network, terms=TERMS).after("import", **history)


def renamed(state: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors under diffusers' names and in their shapes."""
    ours, last = {}, _last_level(state)
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{where}: {name!r} is no tensor")
        new = _new_name(name, last)
        if new is None:
            raise CheckpointError(f"{where}: tensor {name!r} does not belong to a U-Net of the DDIM code base")
        ours[new] = ddpm.as_matrix(value) if ".attentions." in new else value
    return ours


def own_names(state: Mapping[str, Any]) -> dict[str, str]:
    """Our names to the file's, also of tensors that it ought to have and has not."""
    last = _last_level(state)
    block = ("norm1", "conv1", "temb_proj", "norm2", "conv2", "nin_shortcut")
    layers = ["temb.dense.0", "temb.dense.1", "conv_in", "conv_out", "norm_out"]
    layers += [f"mid.{name}.{layer}" for name in ("block_1", "block_2") for layer in block]
    layers += [f"mid.attn_1.{layer}" for layer in LAYERS["attentions"]]
    for level in range(last + 1):
        for way, move in (("down", "downsample"), ("up", "upsample")):
            layers.append(f"{way}.{level}.{move}.conv")
            for index in range(MOST_BLOCKS + 1):
                layers += [f"{way}.{level}.block.{index}.{layer}" for layer in block]
                layers += [f"{way}.{level}.attn.{index}.{layer}" for layer in LAYERS["attentions"]]
    theirs = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    return {ours: name for name in theirs if (ours := _new_name(name, last)) is not None}


def _last_level(state: Mapping[str, Any]) -> int:
    levels = [int(match[1]) for name in state if (match := re.match(r"down\.(\d+)\.", str(name)))]
    return min(max(levels, default=0), MOST_LEVELS)


def _new_name(name: str, last_level: int) -> str | None:
    for pattern, rename in BLOCKS:
        if match := re.match(pattern, name):
            block, rest = rename(match, last_level), name[match.end() :]
            layer, _, kind = rest.rpartition(".")
            names = next((names for kind_of_block, names in LAYERS.items() if kind_of_block in block), {})
            return block + ".".join(part for part in (names.get(layer, layer), kind) if part)
    return None


def _arguments(state: Mapping[str, Tensor], where: str, names: Mapping[str, str], facts: Facts) -> dict[str, Any]:
    """Constructor arguments at full width.

    Of a pruned network the full widths are not known; what matters of them is which blocks have shortcuts, so widths
    are made up that tell the same.
    """
    found = ddpm.layout(state, where)
    num_levels = found.pop("num_levels")

    def size(name: str, axis: int) -> int:
        called = called_in_file(name, names)
        if name not in state:
            raise CheckpointError(f"{where}: not a U-Net of DDPM: tensor {called} is missing")
        if state[name].ndim <= axis:
            raise CheckpointError(f"{where}: not a U-Net of DDPM: tensor {called} has {state[name].ndim} axes")
        return state[name].shape[axis]

    width = size("time_embedding.linear_1.weight", 1)
    level_widths = [width]
    for level in range(1, num_levels):
        if f"down_blocks.{level}.resnets.0.conv_shortcut.weight" in state:
            written = size(f"down_blocks.{level}.resnets.0.conv2.weight", 0)
            width = written if written != width else 2 * width
        level_widths.append(width)
    attending = found["attention_levels"]
    level, side = (attending[-1], ATTENTION_SIDE) if attending else (num_levels - 1, 4)
    return {
        **found,
        **ddpm.told_schedule(facts),
        "level_widths": level_widths,
        "num_channels": size("conv_in.weight", 1),
        "resolution": ddpm.told_resolution(facts, side << level, num_levels),
    }


def _network_state(content: Any) -> tuple[str, Mapping[str, Any] | None]:
    """What is taken of the file ("ema", "network" or "bare"), and its tensors."""
    candidates = {"bare": content}
    if isinstance(content, (list, tuple)) and content:
        candidates = {"ema": content[-1], "network": content[0]}
    for role, candidate in candidates.items():
        if isinstance(candidate, Mapping) and MARK in candidate:
            return role, candidate
    return "", None
