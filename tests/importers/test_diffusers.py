"""Folders of diffusers: read without that library, as that library means them."""

import json
import sys

import pytest
import safetensors.torch
import torch

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.configured import configured
from limbeck.embeddings.torchvision_shim import imported
from limbeck.importers.diffusers import Hub

CONFIG = {
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [8, 16],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 4,
    "out_channels": 3,
    "sample_size": 8,
    "time_embedding_type": "positional",
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
SCHEDULER = {"_class_name": "DDPMScheduler", "beta_end": 0.01, "beta_schedule": "linear", "num_train_timesteps": 500}
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
SMALL = {"resolution": 8, "level_widths": [8, 16], "blocks_per_level": 1, "norm_groups": 4, "attention_levels": [1]}


def network():
    return UNet(**SMALL, beta_end=0.01, num_train_steps=500).eval()


def folder(path, config=CONFIG, state=None, scheduler=SCHEDULER, kind="safetensors", inner=""):
    home = path / inner
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.json").write_text(json.dumps(config))
    state = network().state_dict() if state is None else state
    if kind == "safetensors":
        contiguous = {name: value.contiguous() for name, value in state.items()}
        safetensors.torch.save_file(contiguous, home / "diffusion_pytorch_model.safetensors")
    elif kind == "bin":
        torch.save(state, home / "diffusion_pytorch_model.bin")
    if scheduler is not None:
        place = path / ("scheduler" if inner else "")
        place.mkdir(exist_ok=True)
        (place / "scheduler_config.json").write_text(json.dumps(scheduler))
    return path


def with_old_names(state):
    """As diffusers wrote attention before 2023: other names, some with 1x1 convolutions."""
    renamed = {}
    for name, value in state.items():
        for new, old in OLD.items():
            name = name.replace(f".{new}.", f".{old}.")
        renamed[name] = value
    return renamed


@pytest.mark.parametrize("inner", ["", "unet"])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_folder_of_a_network_or_of_a_pipeline(tmp_path, inner, kind):
    ours = network()
    model = limbeck.load(folder(tmp_path / "model", state=ours.state_dict(), kind=kind, inner=inner))
    assert model.generator.arguments == ours.arguments
    for name, value in model.generator.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name]), name
    sampler = {"class": "DDPMScheduler"}
    assert model.history == ({"stage": "import", "format": "diffusers", "file": "model", "sampler": sampler},)


def test_old_names(tmp_path):
    ours = network()
    model = limbeck.load(folder(tmp_path, state=with_old_names(ours.state_dict())))
    assert all(
        torch.equal(own, other) for own, other in zip(model.generator.parameters(), ours.parameters(), strict=True)
    )


def test_without_a_scheduler_the_noise_is_ddpms(tmp_path):
    arguments = limbeck.load(folder(tmp_path, scheduler=None)).generator.arguments
    assert (arguments["beta_schedule"], arguments["beta_start"], arguments["beta_end"]) == ("linear", 1e-4, 0.02)
    assert arguments["num_train_steps"] == 1000


def test_defaults_are_those_of_the_library(tmp_path):
    ours = UNet(**SMALL, head_width=8, norm_eps=1e-5, down_padding=1, time_shift=0, cosine_first=True)
    left_out = ("attention_head_dim", "norm_eps", "downsample_padding", "freq_shift", "flip_sin_to_cos", "out_channels")
    config = {name: value for name, value in CONFIG.items() if name not in left_out}
    model = limbeck.load(folder(tmp_path, config, ours.state_dict(), scheduler=None))
    assert model.generator.arguments == ours.arguments


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_folder_written_by_the_library(tmp_path):
    imported("torchvision")
    diffusers = pytest.importorskip("diffusers")
    defaults = diffusers.UNet2DModel(
        sample_size=16,
        block_out_channels=[32, 64],
        down_block_types=["DownBlock2D", "AttnDownBlock2D"],
        up_block_types=["AttnUpBlock2D", "UpBlock2D"],
    )
    scheduler = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", num_train_timesteps=50)
    diffusers.DDPMPipeline(defaults, scheduler).save_pretrained(tmp_path)
    model = limbeck.load(tmp_path)
    image, timestep = torch.randn(2, 3, 16, 16), torch.tensor([1, 40])
    expected = defaults.eval()(image, timestep).sample
    torch.testing.assert_close(model.generator(image, timestep), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.generator.alpha_bar().float(), scheduler.alphas_cumprod, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "_class_name='UNet2DConditionModel', supported: 'UNet2DModel'"),
        ({"act_fn": "gelu"}, "act_fn='gelu', supported: 'silu', 'swish'"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift='scale_shift'"),
        ({"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]}, "down_block_types: .*supported: DownBlock2D"),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, r"up_block_types: \[\] in the configuration, expected \[1\]"),
        ({"down_block_types": ["AttnDownBlock2D"]}, "down_block_types: 1 in the configuration, expected 2"),
        ({"layers_per_block": 10**9}, "layers_per_block: 1000000000 in the configuration, expected 1"),
        ({"out_channels": 6}, "out_channels: 6 in the configuration, expected 3"),
        ({"sample_size": None}, r"sample_size: not stated; say it with teacher\.resolution=PIXELS"),
        ({"block_out_channels": [8, 17]}, "cannot build UNet .*width 17"),
        ({"block_out_channels": [8, 16, 16]}, "block_out_channels: 3 in the configuration, expected 2"),
        ({"block_out_channels": 8}, "cannot build UNet|of another kind"),
        ({"down_block_types": 8}, "a value of another kind"),
        ({"norm_num_groups": "many"}, "cannot build UNet"),
        ({"norm_num_groups": 0}, "norm_groups=0: must be at least 1"),
        ({"cross_attention_dim": 768}, "cross_attention_dim=768: not a known key"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, changes, message):
    with pytest.raises(limbeck.CheckpointError, match=message) as caught:
        limbeck.load(folder(tmp_path, CONFIG | changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction_type": "v_prediction"}, "prediction_type='v_prediction', supported: 'epsilon'"),
        ({"beta_schedule": "laplace"}, "beta_schedule='laplace', supported: linear"),
        ({"trained_betas": [0.1, "a"]}, "no noise schedule"),
        ({"trained_betas": [0.1, 1.5]}, "betas: must be numbers from 0 to below 1"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas=True, supported: False"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "_class_name='FlowMatch.*supported: 'DDIMScheduler'"),
        ({"sigma_data": 0.5}, "sigma_data=0.5: not a known key"),
        ({"beta_end": 2}, "beta_end=2"),
    ],
)
def test_other_noise_is_refused(tmp_path, changes, message):
    with pytest.raises(limbeck.CheckpointError, match=message):
        limbeck.load(folder(tmp_path, scheduler=SCHEDULER | changes))


def test_incomplete_folders(tmp_path):
    with pytest.raises(limbeck.CheckpointError, match=r"no weights; expected diffusion_pytorch_model\.safetensors"):
        limbeck.load(folder(tmp_path / "a", kind="none"))
    path = folder(tmp_path / "b")
    (path / "config.json").write_text("{")
    with pytest.raises(limbeck.CheckpointError, match=r"config\.json: unreadable"):
        limbeck.load(path)
    (path / "config.json").unlink()
    (path / "model_index.json").write_text("{}")
    with pytest.raises(limbeck.CheckpointError, match=r"config\.json: no such file"):
        limbeck.load(path)
    path = folder(tmp_path / "c")
    (path / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(limbeck.CheckpointError, match=r"safetensors: unreadable"):
        limbeck.load(path)


def test_hub_name_offline(monkeypatch):
    import huggingface_hub

    def unreachable(*_arguments, **_settings):
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(
        limbeck.UserError, match=r"cannot be fetched .*no route to host.*teacher=ddpm teacher\.path=FOLDER"
    ):
        configured("teacher", "ddpm_hub")()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(limbeck.UserError, match=r"google/ddpm-cifar10-32: needs `pip install huggingface_hub`"):
        configured("teacher", "ddpm_hub")()


def test_hub_name_online(monkeypatch, tmp_path):
    import huggingface_hub

    asked = {}

    def downloaded(name, *, revision, allow_patterns):
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(folder(tmp_path))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", downloaded)
    model = Hub("owner/model", revision="abc")()
    assert (asked["name"], asked["revision"]) == ("owner/model", "abc")
    assert "*/diffusion_pytorch_model.safetensors" in asked["patterns"]
    assert model.history[-1] == {"stage": "import", "hub": "owner/model"}


SCHEDULERS = [
    {"rescale_betas_zero_snr": True, "num_train_timesteps": 100},
    {"rescale_betas_zero_snr": True, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"rescale_betas_zero_snr": True, "beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": [0.001, 0.01, 0.2, 0.3], "num_train_timesteps": 4},
    {"beta_schedule": "scaled_linear", "num_train_timesteps": 250},
    {"beta_schedule": "squaredcos_cap_v2"},
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_noise_of_every_kind_is_the_library_s(tmp_path):
    imported("torchvision")
    diffusers = pytest.importorskip("diffusers")
    cases = [(diffusers.DDIMScheduler, settings) for settings in SCHEDULERS]
    cases.append((diffusers.DDPMScheduler, {"beta_schedule": "sigmoid", "beta_end": 0.01}))
    for number, (kind, settings) in enumerate(cases):
        scheduler = kind(**settings)
        path = folder(tmp_path / str(number), scheduler={"_class_name": kind.__name__, **scheduler.config})
        found = limbeck.load(path).generator.alpha_bar()
        torch.testing.assert_close(found.float(), scheduler.alphas_cumprod, rtol=0, atol=1e-6)
        if settings.get("rescale_betas_zero_snr"):
            assert found[-1] == 0


def test_images_from_a_schedule_that_ends_in_pure_noise(tmp_path):
    settings = SCHEDULER | {"rescale_betas_zero_snr": True, "num_train_timesteps": 20, "beta_end": 0.3}
    model = limbeck.load(folder(tmp_path / "a", scheduler=settings))
    share = model.generator.alpha_bar()
    # By hand: sqrt(alpha_bar) of the plain schedule, shifted to end at 0, scaled to begin where it did.
    plain = limbeck.functional.diffusion.alpha_bar_schedule("linear", 20, 1e-4, 0.3).sqrt()
    torch.testing.assert_close(share.sqrt(), (plain - plain[-1]) * plain[0] / (plain[0] - plain[-1]))
    assert share[-1] == 0
    for eta in (0.0, 1.0):
        assert limbeck.sample(model, 2, steps=20, eta=eta).isfinite().all()
    again = limbeck.load(limbeck.save(model, tmp_path / "a.safetensors"))
    assert torch.equal(again.generator.alpha_bar(), share)
    assert again.history[0]["sampler"]["class"] == "DDPMScheduler"


def test_every_key_the_library_writes_is_known(tmp_path):
    """A folder with all keys of the two classes' own signatures, at their defaults."""
    written = {
        "sample_size": 8,
        "time_embedding_dim": None,
        "num_train_timesteps": None,
        "_diffusers_version": "0.35.0",
    }
    written |= {"dropout": 0.0, "attn_norm_num_groups": None, "class_embed_type": None, "num_class_embeds": None}
    written |= {"downsample_type": "conv", "upsample_type": "conv", "mid_block_type": "UNetMidBlock2D"}
    written |= {"add_attention": True, "resnet_time_scale_shift": "default"}
    ddim = {"clip_sample": True, "set_alpha_to_one": True, "steps_offset": 0, "thresholding": False}
    ddim |= {"dynamic_thresholding_ratio": 0.995, "clip_sample_range": 1.0, "sample_max_value": 1.0}
    ddim |= {"timestep_spacing": "leading", "rescale_betas_zero_snr": False, "trained_betas": None}
    ddim |= {"prediction_type": "epsilon", "_class_name": "DDIMScheduler"}
    model = limbeck.load(folder(tmp_path, CONFIG | written, scheduler=SCHEDULER | ddim))
    assert model.history[0]["sampler"]["clip_sample"] is True
