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
from limbeck.model import Model

TERMS = "licence of the weights not stated in the file; a student inherits its teacher's terms"
MARK = "temb.dense.0.weight"
ATTENTION_SIDE = 16  # all published networks attend at this resolution; the files themselves do not tell their size
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


def model(content: Any, path: str | Path) -> Model:
    """The network, of its moving average if the file has one; the noise schedule is DDPM's.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    role, state = _network_state(content)
    assert state is not None
    where = str(path)
    ours = renamed(state, where)
    network = ddpm.network(_arguments(ours, where), ours, where=where)
    facts = {"format": "ddim", "network": role, "file": os.path.basename(path)}
    return Model(network, terms=TERMS).after("import", **facts)


def renamed(state: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors under diffusers' names and in their shapes."""
    levels = [int(match[1]) for name in state if (match := re.match(r"down\.(\d+)\.", name))]
    ours = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{where}: {name!r} is no tensor")
        new = _new_name(name, max(levels, default=0))
        if new is None:
            raise CheckpointError(f"{where}: tensor {name!r} does not belong to a U-Net of the DDIM code base")
        ours[new] = ddpm.as_matrix(value) if ".attentions." in new else value
    return ours


def _new_name(name: str, last_level: int) -> str | None:
    for pattern, rename in BLOCKS:
        if match := re.match(pattern, name):
            block, rest = rename(match, last_level), name[match.end() :]
            layer, _, kind = rest.rpartition(".")
            names = next((names for kind_of_block, names in LAYERS.items() if kind_of_block in block), {})
            return block + ".".join(part for part in (names.get(layer, layer), kind) if part)
    return None


def _arguments(state: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """Constructor arguments at full width.

    Of a pruned network the full widths are not known; what matters of them is which blocks have shortcuts, so widths
    are made up that tell the same.
    """
    facts = ddpm.layout(state, where)
    try:
        width = state["time_embedding.linear_1.weight"].shape[1]
        level_widths = [width]
        for level in range(1, facts.pop("num_levels")):
            if f"down_blocks.{level}.resnets.0.conv_shortcut.weight" in state:
                found = state[f"down_blocks.{level}.resnets.0.conv2.weight"].shape[0]
                width = found if found != width else 2 * width
            level_widths.append(width)
        num_channels = state["conv_in.weight"].shape[1]
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{where}: not a U-Net of DDPM ({error})") from error
    attending = facts["attention_levels"]
    level, side = (attending[-1], ATTENTION_SIDE) if attending else (len(level_widths) - 1, 4)
    return {**facts, "level_widths": level_widths, "num_channels": num_channels, "resolution": side << level}


def _network_state(content: Any) -> tuple[str, dict[str, Any] | None]:
    """What is taken of the file ("ema", "network" or "bare"), and its tensors without parallel training's prefix."""
    candidates = {"bare": content}
    if isinstance(content, (list, tuple)) and content:
        candidates = {"ema": content[-1], "network": content[0]}
    for role, candidate in candidates.items():
        if isinstance(candidate, Mapping):
            state = {str(name).removeprefix("module."): value for name, value in candidate.items()}
            if MARK in state:
                return role, state
    return "", None
