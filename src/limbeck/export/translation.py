"""State dicts that the public codes of pix2pix and CycleGAN, StarGAN and SRGAN load into their own networks.

Each holds the generator alone, as theirs do. A student's channels are as many as it has: their constructors must be
told. What only played along in training (discriminators, the other direction) is not shipped.
"""

from pathlib import Path
from typing import Any

import torch

from limbeck.architectures import srgan, stargan
from limbeck.architectures.base import Network
from limbeck.architectures.translation_resnet import ResNet
from limbeck.architectures.translation_unet import UNet
from limbeck.errors import UserError
from limbeck.export.base import Exporter, require_equal
from limbeck.files import written_aside
from limbeck.importers import checkpoint
from limbeck.importers.pix2pix import resnet_modules, unet_modules
from limbeck.importers.renamed import state_of
from limbeck.importers.srgan import leftthomas_modules, lornatang_modules
from limbeck.importers.stargan import generator_modules
from limbeck.model import Model


class Pix2Pix(Exporter):
    """`latest_net_G.pth` of the pix2pix and CycleGAN code, for its U-Net or its ResNet."""

    def __call__(self, model: Model, path: str | Path) -> Path:
        facts, generator = model.generator.arguments, model.generator
        if isinstance(generator, UNet):
            return written(generator, unet_modules(facts["num_levels"]), path, told=("resolution", "dropout"))
        if not isinstance(generator, ResNet):
            raise UserError(f"format=pix2pix: holds the U-Net and the ResNet, not {_named(generator)}")
        has_dropout = facts["dropout"] is not None
        told = ("resolution", "dropout") if has_dropout else ("resolution",)
        return written(generator, resnet_modules(facts["num_blocks"], has_dropout=has_dropout), path, told=told)


class StarGAN(Exporter):
    """`NUMBER-G.ckpt` of the StarGAN code."""

    def __call__(self, model: Model, path: str | Path) -> Path:
        generator = model.generator
        if not isinstance(generator, stargan.Generator):
            raise UserError(f"format=stargan: holds StarGAN's generator, not {_named(generator)}")
        return written(generator, generator_modules(generator.arguments["num_blocks"]), path, told=("resolution",))


class SRGAN(Exporter):
    """A state dict of leftthomas's SRGAN for networks that end in tanh, of Lornatang's for those that are cut off."""

    def __call__(self, model: Model, path: str | Path) -> Path:
        generator, facts = model.generator, model.generator.arguments
        if not isinstance(generator, srgan.Generator):
            raise UserError(f"format=srgan: holds super-resolution networks, not {_named(generator)}")
        thomas = facts["output"] == "tanh"
        if facts["bias"] != thomas:
            raise UserError(f"format=srgan: bias={facts['bias']} with output={facts['output']!r} is neither's layout")
        modules = leftthomas_modules if thomas else lornatang_modules
        names = modules(facts["num_blocks"], facts["num_doublings"])
        return written(generator, names, path, told=("resolution",), container=None if thomas else "state_dict")


def written(
    generator: Network,
    modules: dict[str, str],
    path: str | Path,
    *,
    told: tuple[str, ...],
    container: str | None = None,
) -> Path:
    """Write the network's tensors under a layout's names, once what is read back equals it bit for bit.

    told: arguments of the network that the layout has no place for. container: the entry that holds the tensors.
    """
    state: Any = state_of(generator, modules)
    with written_aside(path) as aside:
        torch.save(state if container is None else {container: state}, aside)
        again = checkpoint.load(aside, **{name: generator.arguments[name] for name in told})
        require_equal(again.generator, generator, what=f"{path}: generator")
    return Path(path)


def _named(network: Network) -> str:
    return f"{network.family} {type(network).__name__}"
