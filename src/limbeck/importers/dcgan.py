"""The files of PyTorch's public DCGAN example, `netG_epoch_N.pth` and `netD_epoch_N.pth`. Names and shapes only."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.architectures.dcgan import Discriminator, Generator
from limbeck.errors import CheckpointError
from limbeck.importers import renamed
from limbeck.importers.foreign import Facts
from limbeck.importers.renamed import size
from limbeck.model import Model

TERMS = "licence of the weights not stated in the file; a student inherits its teacher's terms"
MOST_LAYERS = 12


def generator_modules(num_layers: int) -> dict[str, str]:
    """Names of the modules of a generator, ours to the file's: convolution, norm and ReLU by turns."""
    names = {f"layers.{index}.conv": f"main.{3 * index}" for index in range(num_layers)}
    return names | {f"layers.{index}.norm": f"main.{3 * index + 1}" for index in range(num_layers - 1)}


def discriminator_modules(num_layers: int) -> dict[str, str]:
    """Names of the modules of a discriminator, ours to the file's: no norm in the first layer and the last."""
    names = {f"layers.{index}.conv": f"main.{max(0, 3 * index - 1)}" for index in range(num_layers)}
    return names | {f"layers.{index}.norm": f"main.{3 * index}" for index in range(1, num_layers - 1)}


def recognized(content: Any) -> bool:
    """Whether this is the state dict of such a generator."""
    return _has_kernel(content) and "main.1.running_mean" in content and "main.3.weight" in content


def model(content: Mapping[str, Any], path: str | Path, facts: Facts) -> Model:
    """The generator; every second convolution doubles the size, so the number of layers tells the size of the images.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    num_layers = _count(content, lambda index: 3 * index)
    modules = generator_modules(num_layers)
    made = [size(content, f"{modules[f'layers.{index}.conv']}.weight", 1, path) for index in range(num_layers)]
    resolution = facts.stated("resolution", 2 ** (num_layers + 1), str(path))
    arguments = {
        "resolution": resolution,
        "num_channels": made[-1],
        "z_dim": size(content, "main.0.weight", 0, path),
        "width": made[-2],
        "widths": {f"map{4 * 2**index}": width for index, width in enumerate(made[:-1])},
    }
    generator = renamed.network(Generator, arguments, modules, content, path)
    history = {"format": "dcgan", "file": os.path.basename(path), **facts.entry(str(path))}
    return Model(generator, terms=TERMS).after("import", **history)


def recognized_judge(content: Any) -> bool:
    """Whether this is the state dict of such a discriminator alone."""
    return _has_kernel(content) and "main.3.running_mean" in content and "main.1.weight" not in content


def judge(content: Mapping[str, Any], path: str | Path) -> Network:
    """The discriminator of a state dict; its sigmoid, which is not in the file, is left to the loss.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    num_layers = _count(content, lambda index: max(0, 3 * index - 1))
    arguments = {
        "resolution": 2 ** (num_layers + 1),
        "num_channels": size(content, "main.0.weight", 1, path),
        "width": size(content, "main.0.weight", 0, path),
    }
    return renamed.network(Discriminator, arguments, discriminator_modules(num_layers), content, path)


def _count(content: Mapping[str, Any], place: Any) -> int:
    count = 0
    while count < MOST_LAYERS and f"main.{place(count)}.weight" in content:
        count += 1
    if count < 3:
        raise CheckpointError(f"tensor 'main.{place(count)}.weight' is missing")
    return count


def _has_kernel(content: Any) -> bool:
    """Whether the first layer is a convolution of 4 x 4 without a bias, as in no other family of such names."""
    first = content.get("main.0.weight") if isinstance(content, Mapping) else None
    return isinstance(first, Tensor) and first.shape[2:] == (4, 4) and "main.0.bias" not in content
