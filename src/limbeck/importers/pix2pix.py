"""The files of the public pix2pix and CycleGAN code: generators (U-Net, ResNet), PatchGAN, both directions of a folder.

Also those of repositories that took its networks over (GAN Compression, DMAD, GCC). Names and shapes only.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.architectures.patchgan import PatchGAN
from limbeck.architectures.translation_resnet import ResNet
from limbeck.architectures.translation_unet import UNet
from limbeck.importers import renamed, torch_file
from limbeck.importers.foreign import Facts, unwrapped
from limbeck.importers.renamed import size
from limbeck.model import Model

TERMS = "licence of the weights not stated in the file; a student inherits its teacher's terms"
MOST_LEVELS, MOST_LAYERS = 16, 32
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# Whole model first: in a folder of a CycleGAN the forward direction is the generator, the other one plays along.
FORWARD, BACKWARD = ("latest_net_G_A.pth", "latest_net_D_A.pth"), ("latest_net_G_B.pth", "latest_net_D_B.pth")
ONE_WAY = ("latest_net_G.pth", "latest_net_D.pth")


def resnet_modules(num_blocks: int, *, has_dropout: bool) -> dict[str, str]:
    """Names of the modules of a residual generator, ours to the file's. has_dropout: as a layer in each block."""
    up = 10 + num_blocks
    layers = {"stem": 1, "down1": 4, "down2": 7, "up1": up, "up2": up + 3, "last": up + 7}
    names = {f"{ours}.conv": f"model.{index}" for ours, index in layers.items()}
    names |= {f"{ours}.norm": f"model.{index + 1}" for ours, index in layers.items()}
    for block in range(num_blocks):
        for ours, index in (("first", 1), ("second", 6 if has_dropout else 5)):
            names[f"blocks.{block}.{ours}.conv"] = f"model.{10 + block}.conv_block.{index}"
            names[f"blocks.{block}.{ours}.norm"] = f"model.{10 + block}.conv_block.{index + 1}"
    return names


def unet_modules(num_levels: int) -> dict[str, str]:
    """Names of the modules of a U-Net, ours to the file's; each level lies inside the one above it."""
    names = {"down.1.conv": "model.model.0", "up.1.conv": "model.model.3"}
    part = "model.model.1.model."
    for level in range(2, num_levels):
        places = {f"down.{level}.conv": 1, f"down.{level}.norm": 2, f"up.{level}.conv": 5, f"up.{level}.norm": 6}
        names |= {ours: f"{part}{index}" for ours, index in places.items()}
        part += "3.model."
    innermost = {f"down.{num_levels}.conv": 1, f"up.{num_levels}.conv": 3, f"up.{num_levels}.norm": 4}
    return names | {ours: f"{part}{index}" for ours, index in innermost.items()}


def patchgan_modules(num_layers: int) -> dict[str, str]:
    """Names of the modules of a PatchGAN, ours to the file's; 0 layers is the pixel discriminator."""
    if not num_layers:
        return {"layers.0.conv": "net.0", "layers.1.conv": "net.2", "layers.1.norm": "net.3", "layers.2.conv": "net.5"}
    names = {"layers.0.conv": "model.0"}
    for index in range(1, num_layers + 2):
        names |= {f"layers.{index}.conv": f"model.{3 * index - 1}", f"layers.{index}.norm": f"model.{3 * index}"}
    return names


def recognized(content: Any) -> bool:
    """Whether this is the state dict of such a generator, or DMAD's container of one ("G") and its discriminator."""
    if isinstance(content, Mapping) and isinstance(content.get("G"), Mapping):
        content = content["G"]
    return isinstance(content, Mapping) and ("model.model.0.weight" in content or _block(0, 1) in content)


def model(content: Mapping[str, Any], path: str | Path, facts: Facts) -> Model:
    """The generator, and the discriminator if the file has one.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    both = isinstance(content.get("G"), Mapping)
    state = content["G"] if both else content
    read = _unet if "model.model.0.weight" in state else _resnet
    generator = read(state, path, facts)
    found = judge(content["D"], path) if both and isinstance(content.get("D"), Mapping) else None
    history = {"format": "pix2pix", "file": os.path.basename(path), **facts.entry(str(path))}
    return Model(generator, found, terms=TERMS).after("import", **history)


def recognized_judge(content: Any) -> bool:
    """Whether this is the state dict of a PatchGAN or a pixel discriminator alone."""
    if not isinstance(content, Mapping):
        return False
    first = content.get("model.0.weight", content.get("net.0.weight"))
    kernel = 4 if "model.0.weight" in content else 1
    return isinstance(first, Tensor) and first.ndim == 4 and first.shape[2] == kernel


def judge(content: Mapping[str, Any], path: str | Path) -> Network:
    """The discriminator of a state dict.

    Raises: CheckpointError naming a tensor that is missing, misshaped or unknown.
    """
    pixel = "net.0.weight" in content
    kernels = _numbers(content, r"model\.(\d+)\.weight", axes=4)
    num_layers = 0 if pixel else min((max(kernels, default=0) - 2) // 3, MOST_LAYERS)
    modules = patchgan_modules(max(num_layers, 0))
    norms = [theirs for ours, theirs in modules.items() if ours.endswith(".norm")]
    norm = _norm(content, norms)
    first = modules["layers.0.conv"] + ".weight"
    arguments = {
        "in_channels": size(content, first, 1, path),
        "width": size(content, first, 0, path),
        "num_layers": max(num_layers, 0),
        "norm": norm,
    }
    return renamed.network(PatchGAN, arguments, modules, _used(content, norms, norm), path)


def recognized_folder(folder: Path) -> bool:
    """Whether generators of such training lie in the folder."""
    return any((folder / name).is_file() for name in (FORWARD[0], ONE_WAY[0]))


def folder_model(folder: Path, facts: Facts) -> Model:
    """The model of the forward direction, with the other one at `reverse` if it is there.

    Raises: CheckpointError if a file cannot be read.
    """
    one_way = not (folder / FORWARD[0]).is_file()
    forward = _from_files(folder, *(ONE_WAY if one_way else FORWARD), facts=facts)
    if one_way or not (folder / BACKWARD[0]).is_file():
        return forward
    backward = _from_files(folder, *BACKWARD, facts=Facts(facts.told))
    return Model(forward.generator, forward.discriminator, forward.history, forward.terms, reverse=backward)


def _from_files(folder: Path, generator: str, discriminator: str, *, facts: Facts) -> Model:
    path = folder / generator
    found = model(unwrapped(torch_file.read(path), str(path)), path, facts)
    path = folder / discriminator
    if not path.is_file():
        return found
    judged = judge(unwrapped(torch_file.read(path), str(path)), path)
    history = (*found.history[:-1], {**found.history[-1], "discriminator": discriminator})
    return Model(found.generator, judged, history, found.terms)


def _resnet(state: Mapping[str, Any], path: str | Path, facts: Facts) -> Network:
    first = 0
    while first < MOST_LAYERS * 4 and _block(first, 1) in state:
        first += 1
    sixth = state.get(_block(0, 6))  # a norm's, or after a layer of dropout the second convolution's
    has_dropout = isinstance(sixth, Tensor) and sixth.ndim == 4
    modules = resnet_modules(first, has_dropout=has_dropout)
    norms = [theirs for ours, theirs in modules.items() if ours.endswith(".norm")]
    norm = _norm(state, norms)
    widths = {name: size(state, f"{modules[f'{name}.conv']}.weight", 0, path) for name in ("stem", "down1")}
    widths["trunk"] = size(state, f"{modules['down2.conv']}.weight", 0, path)
    for block in range(first):
        widths[f"blocks.{block}.inner"] = size(state, _block(block, 1), 0, path)
    widths |= {name: size(state, f"{modules[f'{name}.conv']}.weight", 1, path) for name in ("up1", "up2")}
    arguments = {
        "resolution": facts.of("resolution", 256),
        "in_channels": size(state, f"{modules['stem.conv']}.weight", 1, path),
        "num_channels": size(state, f"{modules['last.conv']}.weight", 0, path),
        "width": widths["stem"],
        "num_blocks": first,
        "norm": norm,
        "dropout": facts.of("dropout", 0.5) if has_dropout else None,
        "widths": widths,
    }
    return renamed.network(ResNet, arguments, modules, _used(state, norms, norm), path)


def _unet(state: Mapping[str, Any], path: str | Path, facts: Facts) -> Network:
    # What lies inside a level ends in 1 (down), and in 3 or 5 (up): the downs count the levels.
    downs = [name for name in state if re.fullmatch(r"model\.model\.1\.model\.(3\.model\.)*1\.weight", str(name))]
    num_levels = min(len(downs) + 1, MOST_LEVELS)
    modules = unet_modules(num_levels)
    norms = [theirs for ours, theirs in modules.items() if ours.endswith(".norm")]
    norm = _norm(state, norms)
    widths = {
        f"down{level}": size(state, f"{modules[f'down.{level}.conv']}.weight", 0, path)
        for level in range(1, num_levels + 1)
    }
    for level in range(num_levels, 1, -1):
        widths[f"up{level}"] = size(state, f"{modules[f'up.{level}.conv']}.weight", 1, path)
    arguments = {
        "resolution": facts.of("resolution", 2**num_levels),
        "in_channels": size(state, "model.model.0.weight", 1, path),
        "num_channels": size(state, "model.model.3.weight", 1, path),
        "width": widths["down1"],
        "num_levels": num_levels,
        "norm": norm,
        "dropout": facts.of("dropout", 0.5),
        "widths": widths,
    }
    return renamed.network(UNet, arguments, modules, _used(state, norms, norm), path)


def _block(block: int, index: int) -> str:
    return f"model.{10 + block}.conv_block.{index}.weight"


def _norm(state: Mapping[str, Any], norms: Iterable[str]) -> str:
    """Batch norm has weights where the norms stand, this code's instance norm has none."""
    return "batch" if any(f"{norm}.weight" in state for norm in norms) else "instance"


def _used(state: Mapping[str, Any], norms: Iterable[str], norm: str) -> dict[str, Any]:
    """The state without the running statistics of instance norms, which files of 2018 hold and nothing ever used."""
    unused = {f"{name}.{entry}" for name in norms for entry in STATISTICS} if norm == "instance" else set()
    return {str(name): value for name, value in state.items() if name not in unused}


def _numbers(state: Mapping[str, Any], pattern: str, *, axes: int) -> list[int]:
    found = ((re.fullmatch(pattern, str(name)), value) for name, value in state.items())
    return [int(match[1]) for match, value in found if match and isinstance(value, Tensor) and value.ndim == axes]
