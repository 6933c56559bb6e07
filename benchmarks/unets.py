"""The U-Nets that `diffusion.py` compares: ours, the same weights in diffusers' classes, and in Diff-Pruning's code."""

import argparse
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DModel
from peers import clone, load
from torch import Tensor, nn

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.export.diffusers import layer_widths, scheduler_config, unet_config
from limbeck.export.pruned_unet import PrunedUNet2DModel
from limbeck.importers import ddim
from limbeck.model import Model

DROPOUT = 0.1  # CIFAR-10's


def teacher(options: argparse.Namespace) -> UNet:
    """The denoiser in `options.model`, or one of DDPM's kind with random weights and the given level widths."""
    if options.model:
        return limbeck.load(options.model).generator.eval()
    torch.manual_seed(0)
    widths, attention = options.level_widths, [1] if len(options.level_widths) > 1 else []
    shape = {"resolution": options.resolution, "level_widths": widths, "attention_levels": attention}
    return UNet(**shape, dropout=DROPOUT).eval()


def students(whole: UNet, ratios: Sequence[float]) -> dict[str, UNet]:
    """The teacher and what pruning by the published rule leaves of it, by name."""
    model = Model(whole)
    found = {f"ratio {r}": limbeck.prune(model, "random", ratio=r).generator.eval() for r in ratios}
    return {"teacher": whole, **found}


def theirs(ours: UNet, *, channels_last: bool = False) -> nn.Module:
    """diffusers' class with the same weights; the narrow layers of a pruned network are those of our exporter."""
    widths = layer_widths(ours)
    config = {name: value for name, value in unet_config(ours, widths).items() if not name.startswith("_")}
    made: Any = (PrunedUNet2DModel if widths else UNet2DModel)(**config)
    made.load_state_dict(ours.state_dict())
    made.eval()
    return made.to(memory_format=torch.channels_last) if channels_last else made


def their_sampler(network: Any, ours: UNet, noise: Tensor, steps: int, *, half: bool = False) -> Callable[[], Tensor]:
    """The loop of `DDIMPipeline` without its progress bar and without making pictures."""
    facts = {name: value for name, value in scheduler_config(ours).items() if not name.startswith("_")}
    scheduler: Any = DDIMScheduler(**facts)

    def run() -> Tensor:
        image = noise
        scheduler.set_timesteps(steps)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            for step in scheduler.timesteps:
                estimate = network(image, step).sample
                image = scheduler.step(estimate, step, image, eta=0.0).prev_sample
        return image

    return run


def released(options: argparse.Namespace) -> tuple[nn.Module, Callable, UNet] | None:
    """Diff-Pruning's model, its loss, and our network with the same weights; None if there is no clone."""
    folder: Path | None = clone(options.peers, "Diff-Pruning/ddpm_exp")
    if folder is None:
        return None
    models, losses = load(folder, "models.diffusion", "functions.losses")
    widths, first = options.level_widths, options.level_widths[0]
    model = {"in_channels": 3, "out_ch": 3, "ch": first, "ch_mult": [w // first for w in widths], "num_res_blocks": 2}
    # Attention stands in the second level; our reader of their files assumes 16 px there, as in all published ones.
    model |= {"attn_resolutions": [options.resolution // 2], "dropout": DROPOUT, "resamp_with_conv": True}
    parts = {"model": model | {"type": "simple"}, "data": {"image_size": options.resolution}}
    parts |= {"diffusion": {"num_diffusion_timesteps": 1000}}
    network = models.Model(types.SimpleNamespace(**{k: types.SimpleNamespace(**v) for k, v in parts.items()})).eval()
    return network, losses.noise_estimation_loss, ddim.model(network.state_dict(), "clone").generator
