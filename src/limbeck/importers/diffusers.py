"""Folders of Hugging Face diffusers with a `UNet2DModel`, from disk or from the Hub; diffusers itself is not needed.

Source: the public library's configuration keys, their defaults and module names; names and shapes only.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from limbeck.errors import CheckpointError, UserError
from limbeck.importers import ddpm, torch_file
from limbeck.model import Model

TERMS = "licence of the weights not stated in the folder; a student inherits its teacher's terms"
CLASSES = ("UNet2DModel", "PrunedUNet2DModel")
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "dropout": 0.0,
    "downsample_padding": 1,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
}
ONLY: dict[str, tuple[Any, ...]] = {  # keys whose other values would be another network
    "act_fn": ("silu", "swish"),
    "add_attention": (True,),
    "attn_norm_num_groups": (None,),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "downsample_type": ("conv",),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2D",),
    "num_class_embeds": (None,),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_type": ("positional",),
    "upsample_type": ("conv",),
    "prediction_type": ("epsilon",),
    "trained_betas": (None,),
}
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def recognized(folder: str | Path) -> bool:
    """Whether this is a folder of diffusers: of a pipeline, or of one network."""
    return any(os.path.isfile(Path(folder) / name) for name in ("model_index.json", "config.json", "unet/config.json"))


def load(folder: str | Path) -> Model:
    """The U-Net of the folder, with the noise schedule of its scheduler (DDPM's if there is none).

    Raises: CheckpointError if something is missing, unreadable, or of a kind that is not supported.
    """
    folder = Path(folder)
    home = folder / "unet" if (folder / "unet" / "config.json").is_file() else folder
    config = _checked(_json(home / "config.json"), home / "config.json")
    if config.get("_class_name") not in CLASSES:
        raise CheckpointError(f"{home}: holds a {config.get('_class_name')}, supported: {', '.join(CLASSES)}")
    state, terms = _state(home)
    try:
        arguments = {**_arguments(DEFAULTS | config, state, home), **_schedule(folder)}
    except TypeError as error:
        raise CheckpointError(f"{home / 'config.json'}: a value of another kind ({error})") from error
    network = ddpm.network(arguments, state, where=str(home))
    return Model(network, terms=terms).after("import", format="diffusers", file=folder.resolve().name)


def _arguments(config: Mapping[str, Any], state: Mapping[str, Tensor], home: Path) -> dict[str, Any]:
    attending = []
    for kind in ("down", "up"):
        plain, attends = f"{kind.title()}Block2D", f"Attn{kind.title()}Block2D"
        types = list(config[f"{kind}_block_types"])[:: 1 if kind == "down" else -1]
        if not set(types) <= {plain, attends}:
            raise CheckpointError(f"{home}: {kind}_block_types: {types}, supported: {plain}, {attends}")
        attending.append([index for index, name in enumerate(types) if name == attends])
    facts = ddpm.layout(state, str(home))
    found = {
        "down_block_types": (len(config["down_block_types"]), facts.pop("num_levels")),
        "up_block_types": (attending[1], attending[0]),
        "attention": (attending[0], facts["attention_levels"]),
        "layers_per_block": (config["layers_per_block"], facts["blocks_per_level"]),
        "out_channels": (config["out_channels"], config["in_channels"]),
    }
    for name, (stated, wanted) in found.items():
        if stated != wanted:
            raise CheckpointError(f"{home}: {name}: {stated} in the configuration, expected {wanted}")
    size = config["sample_size"]
    if isinstance(size, list) and len(set(size)) == 1:
        size = size[0]
    if not isinstance(size, int):
        raise CheckpointError(f"{home}: sample_size: {size}, expected one number")
    return {
        **facts,
        "resolution": size,
        "num_channels": config["in_channels"],
        "level_widths": config["block_out_channels"],
        "head_width": config["attention_head_dim"],
        "norm_groups": config["norm_num_groups"],
        "norm_eps": config["norm_eps"],
        "dropout": config["dropout"],
        "down_padding": config["downsample_padding"],
        "time_shift": config["freq_shift"],
        "cosine_first": config["flip_sin_to_cos"],
    }


def _schedule(folder: Path) -> dict[str, Any]:
    places = (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json")
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return {}
    config = {"beta_schedule": "linear", "num_train_timesteps": 1000, **_checked(_json(file), file)}
    if config["beta_schedule"] not in SCHEDULES:
        raise CheckpointError(f"{file}: beta_schedule={config['beta_schedule']!r}, supported: {', '.join(SCHEDULES)}")
    return {
        "num_train_steps": config["num_train_timesteps"],
        "beta_schedule": SCHEDULES[config["beta_schedule"]],
        "beta_start": config.get("beta_start", 1e-4),
        "beta_end": config.get("beta_end", 0.02),
    }


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: no such file; a diffusers folder needs it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: unreadable ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: expected names and values")
    return content


def _checked(config: dict[str, Any], file: Path) -> dict[str, Any]:
    for name, allowed in ONLY.items():
        if name in config and config[name] not in allowed:
            raise CheckpointError(f"{file}: {name}={config[name]!r}, supported: {', '.join(map(repr, allowed))}")
    return config


def _state(home: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors, under today's names and in their shapes, and the licence note if an export of ours left one."""
    file = next((home / name for name in WEIGHTS if (home / name).is_file()), None)
    if file is None:
        raise CheckpointError(f"{home}: no weights; expected {' or '.join(WEIGHTS)} (in one piece)")
    content, terms = (torch_file.read(file), TERMS) if file.suffix == ".bin" else _safetensors(file)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{file}: not a state dict")
    return {_new_name(str(name)): _in_shape(str(name), value) for name, value in content.items()}, terms


def _safetensors(file: Path) -> tuple[dict[str, Tensor], str]:
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            terms = (opened.metadata() or {}).get("terms", TERMS)
            return {name: opened.get_tensor(name) for name in opened.keys()}, terms  # noqa: SIM118 - not a mapping
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: unreadable ({' '.join(str(error).split())})") from error


def _new_name(name: str) -> str:
    """Attention layers were called otherwise before 2023."""
    block, _, rest = name.partition(".attentions.")
    parts = rest.split(".")
    if len(parts) == 3 and parts[1] in OLD_NAMES:
        return f"{block}.attentions.{parts[0]}.{OLD_NAMES[parts[1]]}.{parts[2]}"
    return name


def _in_shape(name: str, value: Tensor) -> Tensor:
    return ddpm.as_matrix(value) if ".attentions." in name else value


class Hub:
    """A teacher stage: the folder of a model on the Hugging Face Hub, from this machine's cache if it is there.

    name: "owner/name". revision: a commit or tag; None is the newest.
    """

    def __init__(self, name: str, *, revision: str | None = None):
        self.name = name
        self.revision = revision

    def __call__(self) -> Model:
        """Raises: UserError if it can be had neither from the network nor from the cache."""
        way_out = "or name a copy on disk: teacher=ddpm teacher.path=FOLDER"
        try:
            from huggingface_hub import snapshot_download
        except ImportError as error:
            raise UserError(f"teacher.name={self.name}: needs `pip install huggingface_hub`, {way_out}") from error
        try:
            wanted = ["*.json", "*/*.json", *WEIGHTS, *(f"*/{name}" for name in WEIGHTS)]
            folder = snapshot_download(self.name, revision=self.revision, allow_patterns=wanted)
        except Exception as error:  # no network, no such name, no right to it: dozens of types
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"teacher.name={self.name}: cannot be fetched ({type(error).__name__}: {reason}), {way_out}"
            ) from error
        return load(folder).after("import", hub=self.name)
