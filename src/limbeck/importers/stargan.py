"""The files of the public StarGAN code, `NUMBER-G.ckpt` and `NUMBER-D.ckpt`: names and shapes only."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.architectures.base import Network
from limbeck.architectures.stargan import Discriminator, Generator
from limbeck.errors import CheckpointError
from limbeck.importers import renamed
from limbeck.importers.foreign import Facts
from limbeck.importers.renamed import size
from limbeck.model import Model

TERMS = "licence of the weights not stated in the file; a student inherits its teacher's terms"
MOST_BLOCKS, MOST_LAYERS = 64, 12


def generator_modules(num_blocks: int) -> dict[str, str]:
    """Names of the modules of a generator, ours to the file's."""
    up = 9 + num_blocks
    layers = {"stem": 0, "down1": 3, "down2": 6, "up1": up, "up2": up + 3, "last": up + 6}
    names = {f"{ours}.conv": f"main.{index}" for ours, index in layers.items()}
    names |= {f"{ours}.norm": f"main.{index + 1}" for ours, index in layers.items()}
    for block in range(num_blocks):
        for ours, index in (("first", 0), ("second", 3)):
            names[f"blocks.{block}.{ours}.conv"] = f"main.{9 + block}.main.{index}"
            names[f"blocks.{block}.{ours}.norm"] = f"main.{9 + block}.main.{index + 1}"
    return names


def discriminator_modules(num_layers: int) -> dict[str, str]:
    """Names of the modules of a discriminator, ours to the file's."""
    names = {f"layers.{index}.conv": f"main.{2 * index}" for index in range(num_layers)}
    return names | {"realness.conv": "conv1", "classes.conv": "conv2"}


def recognized(content: Any) -> bool:
    """Whether this is the state dict of such a generator."""
    return isinstance(content, Mapping) and "main.9.main.0.weight" in content


def model(content: Mapping[str, Any], path: str | Path, facts: Facts) -> Model:
    """The generator.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    num_blocks = 0
    while num_blocks < MOST_BLOCKS and f"main.{9 + num_blocks}.main.0.weight" in content:
        num_blocks += 1
    modules = generator_modules(num_blocks)
    made = {"stem": "stem", "down1": "down1", "trunk": "down2"}
    widths = {group: size(content, f"{modules[f'{layer}.conv']}.weight", 0, path) for group, layer in made.items()}
    for block in range(num_blocks):
        widths[f"blocks.{block}.inner"] = size(content, f"main.{9 + block}.main.0.weight", 0, path)
    widths |= {name: size(content, f"{modules[f'{name}.conv']}.weight", 1, path) for name in ("up1", "up2")}
    num_channels = size(content, f"{modules['last.conv']}.weight", 0, path)
    num_classes = size(content, "main.0.weight", 1, path) - num_channels
    if num_classes < 1:
        raise CheckpointError(f"{path}: tensor 'main.0.weight' reads {num_channels + num_classes} channels, no labels")
    arguments = {
        "resolution": facts.of("resolution", 128),
        "num_channels": num_channels,
        "num_classes": num_classes,
        "width": widths["stem"],
        "num_blocks": num_blocks,
        "widths": widths,
    }
    generator = renamed.network(Generator, arguments, modules, content, path)
    history = {"format": "stargan", "file": os.path.basename(path), **facts.entry(str(path))}
    return Model(generator, terms=TERMS).after("import", **history)


def recognized_judge(content: Any) -> bool:
    """Whether this is the state dict of such a discriminator alone."""
    return isinstance(content, Mapping) and "conv2.weight" in content and "main.0.weight" in content


def judge(content: Mapping[str, Any], path: str | Path) -> Network:
    """The discriminator of a state dict; its last kernel tells the size of the images.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    num_layers = 0
    while num_layers < MOST_LAYERS and f"main.{2 * num_layers}.weight" in content:
        num_layers += 1
    arguments = {
        "resolution": size(content, "conv2.weight", 2, path) * 2**num_layers,
        "num_channels": size(content, "main.0.weight", 1, path),
        "num_classes": size(content, "conv2.weight", 0, path),
        "width": size(content, "main.0.weight", 0, path),
        "num_layers": num_layers,
    }
    return renamed.network(Discriminator, arguments, discriminator_modules(num_layers), content, path)
