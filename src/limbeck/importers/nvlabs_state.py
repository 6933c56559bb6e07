"""Plain state dicts in NVIDIA's names of StyleGAN2 and 3, as `limbeck export --format nvlabs` makes them.

A container of `G_ema` (or `G`) and `D`, or one bare generator (also DCP-GAN's and SVS's pruned StyleGAN3); optional
plain numbers `conv_clamp`, `mbstd_group_size` and `magnitude_ema_beta` for what leaves no trace in the tensors.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.architectures.stylegan2 import Discriminator
from limbeck.errors import CheckpointError
from limbeck.importers import stylegan2, stylegan3
from limbeck.importers.foreign import Facts
from limbeck.model import Model

TERMS = (
    "weights in NVIDIA's layout: NVIDIA's licences allow research or evaluation only, unless the owner says otherwise"
)
MARKS = ("synthesis.b4.const", stylegan3.MARK)  # a tensor that every generator of StyleGAN2, and of 3, has


def recognized(content: Any) -> bool:
    """Whether this is such a container or state dict."""
    return isinstance(content, dict) and any(set(MARKS) & set(state) for state in _generators(content).values())


def model(content: dict[str, Any], path: str | Path, facts: Facts) -> Model:
    """Generator, and discriminator if there is one.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    where = str(path)
    role, state = next((role, s) for role, s in _generators(content).items() if set(MARKS) & set(s))
    tensors = without_filters(state, where)
    generator: Network
    if stylegan3.MARK in state:
        clamp = _setting(content, "conv_clamp", 256.0, facts, where)
        beta = _setting(content, "magnitude_ema_beta", 0.999, facts, where)
        settings = stylegan3.Settings(clamp, beta, content.get("num_critical", 2))
        generator = stylegan3.generator(tensors, settings, where=where, facts=facts)
    else:
        clamp = _setting(content, "conv_clamp", None, facts, where)
        generator = stylegan2.generator(tensors, where=where, clamp=clamp, facts=facts)
    discriminator = None
    if isinstance(content.get("D"), Mapping):
        group_size = _setting(content, "mbstd_group_size", 4, facts, where)
        judged = without_filters(content["D"], where)
        discriminator = stylegan2.discriminator(judged, where=where, clamp=clamp, group_size=group_size)
    history = {"format": "nvlabs_state", "network": role, "file": os.path.basename(path), **facts.entry(where)}
    return Model(generator, discriminator, terms=TERMS).after("import", **history)


def recognized_judge(content: Any) -> bool:
    """Whether this is the bare state dict of such a discriminator."""
    return isinstance(content, Mapping) and "b4.out.weight" in content


def judge(state: Mapping[str, Any], path: str | Path) -> Discriminator:
    """The discriminator of a state dict, without clamp and with groups of four.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    return stylegan2.discriminator(without_filters(state, str(path)), where=str(path))


def _setting(content: Mapping[str, Any], name: str, guess: Any, facts: Facts, where: str) -> Any:
    """What leaves no trace in the tensors: as the file or the user says, else a guess."""
    if name in content:
        return facts.stated(name, content[name], where)
    return facts.of(name, guess)


def without_filters(state: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors but for the low-pass filters, which are checked to be StyleGAN2's."""
    kept = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{where}: {name!r} is no tensor")
        if name.endswith("resample_filter"):
            stylegan2.check_filter(value, f"{where}: {name}")
        else:
            kept[name] = value
    return kept


def _generators(content: dict[str, Any]) -> dict[str, Mapping[str, Any]]:
    named = {role: content[role] for role in ("G_ema", "G") if isinstance(content.get(role), Mapping)}
    return named | {"bare": content}
