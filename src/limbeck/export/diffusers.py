"""A folder of Hugging Face diffusers: a `DDIMPipeline` samples from it.

A network of full width is a plain `UNet2DModel`; a pruned one comes with the small class that loads it
(`pruned_unet.py`). diffusers itself is not needed to write it.
"""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from limbeck.architectures.ddpm import Normalization, UNet
from limbeck.errors import UserError
from limbeck.export.base import Exporter, require_equal
from limbeck.files import folder_written_aside
from limbeck.functional.diffusion import time_grid
from limbeck.importers import diffusers
from limbeck.importers.diffusers_config import SCHEDULES
from limbeck.importers.foreign import Facts
from limbeck.model import Model

LOADER = Path(__file__).with_name("pruned_unet.py")
VERSION = "0.35.0"  # the oldest that this was tried with


class Diffusers(Exporter):
    """Writes `unet/`, `scheduler/`, `model_index.json` and a README with the licence note and the history."""

    def __call__(self, model: Model, path: str | Path) -> Path:
        network = model.generator
        if not isinstance(network, UNet):
            raise UserError(f"format=diffusers: holds U-Nets of DDPM only, not {type(network).__name__}")
        narrow = layer_widths(network)
        with folder_written_aside(path) as aside:
            for name in ("unet", "scheduler"):
                (aside / name).mkdir(parents=True)
            written(aside / "unet" / "config.json", unet_config(network, narrow))
            written(aside / "scheduler" / "scheduler_config.json", scheduler_config(network))
            written(aside / "model_index.json", index(bool(narrow)))
            if narrow:
                (aside / "unet" / LOADER.name).write_text(LOADER.read_text())
            (aside / "README.md").write_text("\n".join(readme(model, network, bool(narrow))) + "\n")
            tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
            weights = aside / "unet" / diffusers.WEIGHTS[0]
            safetensors.torch.save_file(tensors, weights, metadata={"format": "pt", "terms": model.terms})
            require_equal(diffusers.load(aside, Facts()).generator, network, what=f"{path}: generator")
        return Path(path)


def layer_widths(network: UNet) -> dict[str, list[int]]:
    """[input, output] channels of every layer that is narrower than at full width, by name."""
    with torch.device("meta"):
        full = {name: layer.weight.shape for name, layer in UNet(**{**network.arguments, "widths": {}}).layers()}
    found = {}
    for name, layer in network.layers():
        if layer.weight.shape != full[name]:
            num_in = sum(channels.size for channels in layer.reads)
            found[name] = [num_in, num_in if isinstance(layer, Normalization) else layer.writes.size]
    return found


def unet_config(network: UNet, narrow: dict[str, list[int]]) -> dict[str, Any]:
    """The network's configuration in diffusers' words."""
    facts = network.arguments
    attends = [level in facts["attention_levels"] for level in range(len(facts["level_widths"]))]
    config = {
        "_class_name": "PrunedUNet2DModel" if narrow else "UNet2DModel",
        "_diffusers_version": VERSION,
        "attention_head_dim": facts["head_width"],
        "block_out_channels": facts["level_widths"],
        "down_block_types": ["AttnDownBlock2D" if attending else "DownBlock2D" for attending in attends],
        "downsample_padding": facts["down_padding"],
        "dropout": facts["dropout"],
        "flip_sin_to_cos": facts["cosine_first"],
        "freq_shift": facts["time_shift"],
        "in_channels": facts["num_channels"],
        "layers_per_block": facts["blocks_per_level"],
        "norm_eps": facts["norm_eps"],
        "norm_num_groups": facts["norm_groups"],
        "out_channels": facts["num_channels"],
        "sample_size": facts["resolution"],
        "up_block_types": ["AttnUpBlock2D" if attending else "UpBlock2D" for attending in reversed(attends)],
    }
    return {**config, "layer_widths": narrow} if narrow else config


def scheduler_config(network: UNet) -> dict[str, Any]:
    """DDIM as this package samples: uniform grid from step 0, no clipping, down to the clean image."""
    facts = network.arguments
    names = {ours: theirs for theirs, ours in SCHEDULES.items()}
    return {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": VERSION,
        "beta_end": facts["beta_end"],
        "beta_schedule": names[facts["beta_schedule"]],
        "beta_start": facts["beta_start"],
        "clip_sample": False,
        "num_train_timesteps": facts["num_train_steps"],
        "prediction_type": "epsilon",
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "timestep_spacing": "leading",
        **({"trained_betas": facts["betas"]} if "betas" in facts else {}),
    }


def index(pruned: bool) -> dict[str, Any]:
    """The list of the pipeline's parts."""
    unet = [LOADER.stem, "PrunedUNet2DModel"] if pruned else ["diffusers", "UNet2DModel"]
    return {
        "_class_name": "DDIMPipeline",
        "_diffusers_version": VERSION,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": unet,
    }


def same_steps(num_train_steps: int) -> list[int]:
    """Counts of steps for which diffusers' "leading" grid is our "uniform" one, e.g. those that divide the training's.

    That grid has multiples of the rounded-down distance, so it may begin below the noisiest steps: of 1,000 steps 600
    begin at step 599 there, at 998 here.
    """
    return [
        count
        for count in range(1, num_train_steps + 1)
        if time_grid(count, "uniform", num_train_steps)[-1] == (count - 1) * (num_train_steps // count)
    ]


def drawing(network: UNet) -> list[str]:
    """For which settings diffusers draws what this package draws, and how to say the others there."""
    counts = same_steps(network.arguments["num_train_steps"])
    lines = ["From the same noise the pipeline draws the images that Limbeck draws (`grid=uniform`,"]
    lines += [f"`clip_sample=false`) if `num_inference_steps` is one of {', '.join(map(str, counts))}."]
    lines += [
        "Other counts make another grid of time steps there, and other images; diffusers has no `grid=quadratic`."
    ]
    lines += ["", "`eta` is an argument of the pipeline. A protocol that clips (`clip_sample=true`) is followed by", ""]
    lines += ["```python", "from diffusers import DDIMScheduler", ""]
    lines += ["pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=True)", "```", ""]
    if network.alpha_bar()[-1] == 0:
        lines += [f"This schedule ends in pure noise, and with {counts[-1]} steps diffusers divides by 0 there.", ""]
    return lines


def readme(model: Model, network: UNet, pruned: bool) -> list[str]:
    """How to load the folder, its licence note, and what happened to the model."""
    trust = ", trust_remote_code=True" if pruned else ""
    lines = ["# U-Net of DDPM", "", "```python", "from diffusers import DiffusionPipeline", ""]
    lines += [f'pipeline = DiffusionPipeline.from_pretrained("FOLDER"{trust})']
    lines += ["images = pipeline(batch_size=4, num_inference_steps=100).images", "```", "", *drawing(network)]
    if pruned:
        lines += ["Its layers are narrower than `UNet2DModel` allows; `unet/pruned_unet.py` builds them.", ""]
    lines += [f"Terms: {model.terms or 'none stated'}", "", "History:", ""]
    return lines + [f"- {json.dumps(dict(entry), sort_keys=True)}" for entry in model.history]


def written(file: Path, content: dict[str, Any]) -> None:
    """Write names and values as JSON."""
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
