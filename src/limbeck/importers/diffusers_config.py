"""The two JSON files of a diffusers folder: every key is honoured, known to be without influence, or refused.

Source: the public library's configuration keys, defaults and formulas of schedules; facts only.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import CheckpointError
from limbeck.functional.diffusion import alpha_bar_schedule
from limbeck.importers.ddpm import told_resolution, told_schedule
from limbeck.importers.foreign import Facts

# Network: keys that are read, with the library's defaults.
NETWORK: dict[str, Any] = {
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
# Network: keys of which only these values are read; others would be another network.
NETWORK_ONLY: dict[str, tuple[Any, ...]] = {
    "_class_name": ("UNet2DModel", "PrunedUNet2DModel"),
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
}
# Network: keys that change nothing here. Widths are read from the tensors' shapes, so the width of the time embedding
# and the layers of our own pruned exports need no key; steps of training matter to a learned embedding of time alone;
# the rest is what the library's moving average leaves behind.
NETWORK_IDLE = {
    "_diffusers_version", "_name_or_path", "_use_default_values", "time_embedding_dim", "layer_widths",
    "num_train_timesteps", "decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step",
    "use_ema_warmup",
}  # fmt: skip
# Scheduler: keys that make the noise schedule.
SCHEDULE = {
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr",
}  # fmt: skip
SCHEDULE_ONLY: dict[str, tuple[Any, ...]] = {
    "prediction_type": ("epsilon",),
    "timestep_values": (None,),
    "timestep_scaling": (10.0,),
    "use_flow_sigmas": (False,),
    "use_dynamic_shifting": (False,),
    "_class_name": tuple(
        f"{name}Scheduler"
        for name in (
            "DDIM", "DDIMInverse", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep",
            "DPMSolverMultistepInverse", "DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete",
            "HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "LCM", "LMSDiscrete", "PNDM", "SASolver", "TCD",
            "UniPCMultistep",
        )
    ),
}  # fmt: skip
# Scheduler: how the folder's own sampler walks down the schedule. The network and its schedule do not depend on it, and
# how we draw is said by `sample` or a protocol; the values are kept in the history.
SAMPLER = {
    "algorithm_type", "clip_sample", "clip_sample_range", "corrector_order", "disable_corrector",
    "dynamic_thresholding_ratio", "euler_at_final", "final_sigmas_type", "flow_shift", "interpolation_type",
    "lambda_min_clipped", "lower_order_final", "original_inference_steps", "predict_x0", "predictor_order",
    "sample_max_value", "set_alpha_to_one", "sigma_max", "sigma_min", "skip_prk_steps", "solver_order", "solver_p",
    "solver_type", "steps_offset", "tau_func", "thresholding", "time_shift_type", "timestep_spacing", "timestep_type",
    "shift_terminal", "use_beta_sigmas", "use_exponential_sigmas", "use_karras_sigmas", "use_lu_lambdas",
    "variance_type",
}  # fmt: skip
SCHEDULE_IDLE = {"_diffusers_version", "_name_or_path", "_use_default_values", "tensor_format"}
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}


def network_config(file: Path) -> dict[str, Any]:
    """The network's file, with defaults. Raises: CheckpointError naming a key or value that is not supported."""
    config = read_json(file)
    config.setdefault("_class_name", "")
    _check(config, file, set(NETWORK) | NETWORK_IDLE, NETWORK_ONLY)
    return NETWORK | config


def schedule(folder: Path, facts: Facts) -> tuple[dict[str, Any], dict[str, Any]]:
    """Constructor arguments for the noise schedule, and the folder's own sampler settings, for the history.

    Without a scheduler the schedule is what `facts` say, or a guess: DDPM's.
    Raises: CheckpointError naming a key or value that is not supported.
    """
    places = (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json")
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return told_schedule(facts), {}
    config = read_json(file)
    _check(config, file, SCHEDULE | SAMPLER | SCHEDULE_IDLE, SCHEDULE_ONLY)
    sampler = {name: value for name, value in sorted(config.items()) if name in SAMPLER}
    if "_class_name" in config:
        sampler = {"class": config["_class_name"], **sampler}
    try:
        return _noise(config, file, facts), sampler
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{file}: no noise schedule ({' '.join(str(error).split())})") from error


def _noise(config: Mapping[str, Any], file: Path, facts: Facts) -> dict[str, Any]:
    kind = config.get("beta_schedule", "linear")
    found = {
        "num_train_steps": config.get("num_train_timesteps", 1000),
        "beta_schedule": SCHEDULES.get(kind, kind),
        "beta_start": config.get("beta_start", 1e-4),
        "beta_end": config.get("beta_end", 0.02),
    }
    for name, value in found.items():
        facts.stated(name, value, str(file))
    if config.get("trained_betas") is not None:
        betas = torch.tensor(config["trained_betas"], dtype=torch.float64)
        found["num_train_steps"] = len(betas)
    elif kind == "sigmoid":
        steps = torch.linspace(-6, 6, found["num_train_steps"], dtype=torch.float64)
        betas = steps.sigmoid() * (found["beta_end"] - found["beta_start"]) + found["beta_start"]
    elif kind not in SCHEDULES:
        allowed = ", ".join([*SCHEDULES, "sigmoid"])
        raise CheckpointError(f"{file}: beta_schedule={kind!r}, supported: {allowed}")
    elif config.get("rescale_betas_zero_snr"):
        share = alpha_bar_schedule(
            found["beta_schedule"], found["num_train_steps"], found["beta_start"], found["beta_end"]
        )
        betas = 1 - share / torch.cat([share.new_ones(1), share[:-1]])
    else:
        return found
    if config.get("rescale_betas_zero_snr"):
        betas = zero_terminal(betas)
    return {"num_train_steps": found["num_train_steps"], "betas": betas.tolist()}


def zero_terminal(betas: Tensor) -> Tensor:
    """Betas [t] whose last step leaves no signal: sqrt(alpha_bar) is shifted to end at 0 and scaled to start as before.

    Source: Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", 2024, Algorithm 1.
    """
    root = (1 - betas).cumprod(dim=0).sqrt()
    share = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
    return 1 - share / torch.cat([share.new_ones(1), share[:-1]])


def square(size: Any, num_levels: int, where: Path, facts: Facts) -> int:
    """The resolution: `sample_size`, or what `facts` say where there is none."""
    if size is None:
        if "resolution" not in facts.told:
            raise CheckpointError(
                f"{where}: sample_size: not stated; say it with teacher.resolution=PIXELS, in Python resolution=PIXELS"
            )
        return told_resolution(facts, 0, num_levels)
    if isinstance(size, list) and len(set(size)) == 1:
        size = size[0]
    if type(size) is not int:
        raise CheckpointError(f"{where}: sample_size: {size}, expected one number")
    return facts.stated("resolution", size, str(where))


def read_json(file: Path) -> dict[str, Any]:
    """Names and values of a JSON file. Raises: CheckpointError if it is missing or holds something else."""
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: no such file; a diffusers folder needs it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: unreadable ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: expected names and values")
    return content


def _check(config: Mapping[str, Any], file: Path, known: set[str], only: Mapping[str, tuple[Any, ...]]) -> None:
    for name, value in config.items():
        if name in only:
            if value not in only[name]:
                allowed = ", ".join(map(repr, only[name]))
                raise CheckpointError(f"{file}: {name}={value!r}, supported: {allowed}")
        elif name not in known:
            raise CheckpointError(f"{file}: {name}={_short(value)}: not a known key, so this may be another network")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."
