"""The files of two public SRGAN codes, leftthomas's and Lornatang's (also its SRResNet). Names and shapes only."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.architectures.base import Network
from limbeck.architectures.srgan import Discriminator, Generator
from limbeck.errors import CheckpointError
from limbeck.importers import renamed
from limbeck.importers.foreign import Facts
from limbeck.importers.renamed import size
from limbeck.model import Model

TERMS = "licence of the weights not stated in the file; a student inherits its teacher's terms"
MOST_BLOCKS, MOST_DOUBLINGS = 128, 4
NUM_LAYERS = 8  # convolutions of the discriminator


def leftthomas_modules(num_blocks: int, num_doublings: int) -> dict[str, str]:
    """Names of the modules of leftthomas's generator, ours to the file's."""
    mix, up = f"block{2 + num_blocks}", f"block{3 + num_blocks}"
    names = {"head.conv": "block1.0", "prelu": "block1.1", "mix.conv": f"{mix}.0", "mix.norm": f"{mix}.1"}
    inside = {
        "first.conv": "conv1",
        "first.norm": "bn1",
        "prelu": "prelu",
        "second.conv": "conv2",
        "second.norm": "bn2",
    }
    for block in range(num_blocks):
        names |= {f"blocks.{block}.{ours}": f"block{2 + block}.{theirs}" for ours, theirs in inside.items()}
    for index in range(num_doublings):
        names |= {f"ups.{index}.layer.conv": f"{up}.{index}.conv", f"ups.{index}.prelu": f"{up}.{index}.prelu"}
    return names | {"tail.conv": f"{up}.{num_doublings}"}


def lornatang_modules(num_blocks: int, num_doublings: int) -> dict[str, str]:
    """Names of the modules of Lornatang's generator, ours to the file's."""
    names = {"head.conv": "conv1.0", "prelu": "conv1.1", "mix.conv": "conv2.0", "mix.norm": "conv2.1"}
    inside = ("first.conv", "first.norm", "prelu", "second.conv", "second.norm")
    for block in range(num_blocks):
        names |= {f"blocks.{block}.{ours}": f"trunk.{block}.rcb.{index}" for index, ours in enumerate(inside)}
    for index in range(num_doublings):
        part = f"upsampling.{index}.upsample_block"
        names |= {f"ups.{index}.layer.conv": f"{part}.0", f"ups.{index}.prelu": f"{part}.2"}
    return names | {"tail.conv": "conv3"}


def discriminator_modules(*, flattened: bool) -> dict[str, str]:
    """Names of the modules of a discriminator, ours to the file's. flattened: Lornatang's, else leftthomas's."""
    part, hidden, out = ("features", "classifier.0", "classifier.2") if flattened else ("net", "net.24", "net.26")
    names = {"layers.0.conv": f"{part}.0"}
    for index in range(1, NUM_LAYERS):
        names |= {f"layers.{index}.conv": f"{part}.{3 * index - 1}", f"layers.{index}.norm": f"{part}.{3 * index}"}
    return names | {"hidden": hidden, "out": out}


def recognized(content: Any) -> bool:
    """Whether this is the state dict of such a generator, or Lornatang's container of one."""
    state = _state(content)
    return isinstance(state, Mapping) and ("trunk.0.rcb.0.weight" in state or "block2.conv1.weight" in state)


def model(content: Mapping[str, Any], path: str | Path, facts: Facts) -> Model:
    """The generator; of Lornatang's containers the trained weights, as its own tests read them, not their average.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    state = _state(content)
    first = "trunk.{}.rcb.0.weight" if "trunk.0.rcb.0.weight" in state else "block{}.conv1.weight"
    lornatang = first.startswith("trunk")
    blocks = [first.format(index if lornatang else index + 2) for index in range(MOST_BLOCKS)]
    blocks = [name for name in blocks if name in state]
    up = f"block{3 + len(blocks)}."
    ups = ["upsampling.{}.upsample_block.0.weight" if lornatang else up + "{}.conv.weight"][0]
    doublings = [name for name in map(ups.format, range(MOST_DOUBLINGS)) if name in state]
    modules = (lornatang_modules if lornatang else leftthomas_modules)(len(blocks), len(doublings))
    head = modules["head.conv"] + ".weight"
    widths = {"trunk": size(state, head, 0, path)}
    widths |= {f"blocks.{index}.inner": size(state, name, 0, path) for index, name in enumerate(blocks)}
    for index, name in enumerate(doublings, 1):
        entries = size(state, name, 0, path)
        if entries % 4:
            raise CheckpointError(f"{path}: tensor {name!r} makes {entries} channels, expected a multiple of 4")
        widths[f"up{index}"] = entries // 4
    arguments = {
        "resolution": facts.of("resolution", 256),
        "num_channels": size(state, head, 1, path),
        "width": widths["trunk"],
        "num_blocks": len(blocks),
        "num_doublings": len(doublings),
        "output": "clamp" if lornatang else "tanh",
        "bias": not lornatang,
        "widths": widths,
    }
    generator = renamed.network(Generator, arguments, modules, state, path)
    history = {"format": "srgan", "file": os.path.basename(path), **facts.entry(str(path))}
    return Model(generator, terms=TERMS).after("import", **history)


def recognized_judge(content: Any) -> bool:
    """Whether this is the state dict of such a discriminator alone, or Lornatang's container of one."""
    state = _state(content)
    return isinstance(state, Mapping) and ("classifier.2.weight" in state or "net.26.weight" in state)


def judge(content: Mapping[str, Any], path: str | Path) -> Network:
    """The discriminator of a state dict.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    state = _state(content)
    flattened = "classifier.2.weight" in state
    modules = discriminator_modules(flattened=flattened)
    first = modules["layers.0.conv"] + ".weight"
    width = size(state, first, 0, path)
    arguments = {
        "resolution": 256,
        "num_channels": size(state, first, 1, path),
        "width": width,
        "head": "flatten" if flattened else "mean",
        "bias": not flattened,
    }
    if flattened:
        pixels = size(state, "classifier.0.weight", 1, path, num_axes=2) // (8 * width)
        arguments["resolution"] = 16 * round(pixels**0.5)
    return renamed.network(Discriminator, arguments, modules, state, path)


def _state(content: Any) -> Any:
    """A state dict itself, or what a container of Lornatang's calls one."""
    inner = content.get("state_dict") if isinstance(content, Mapping) else None
    return inner if isinstance(inner, Mapping) else content
