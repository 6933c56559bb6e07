"""Folders of diffusers: read back bit for bit, and sampled from by that library."""

import json

import pytest
import torch

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Generator
from limbeck.cli import main
from limbeck.configured import configured
from limbeck.embeddings.torchvision_shim import imported
from limbeck.export import diffusers as diffusers_export
from limbeck.functional.diffusion import ddim, time_grid

SMALL = {
    "resolution": 8,
    "level_widths": [8, 16],
    "blocks_per_level": 1,
    "norm_groups": 4,
    "dropout": 0.1,
    "beta_schedule": "cosine",
    "num_train_steps": 100,
}


def full(**changes):
    network = UNet(**(SMALL | changes)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return limbeck.Model(network, terms="mine").after("train", kimg=3)


def pruned(**changes):
    return limbeck.prune(full(**changes), "random", ratio=0.5)


@pytest.mark.parametrize("make", [full, pruned])
def test_round_trip_is_bit_equal(tmp_path, make):
    model = make()
    path = configured("export", "diffusers")(model, tmp_path / "out" / "folder")
    again = limbeck.load(path)
    assert again.generator.arguments == model.generator.arguments
    for (name, value), expected in zip(
        again.generator.state_dict().items(), model.generator.state_dict().values(), strict=True
    ):
        assert torch.equal(value, expected), name
    assert again.terms == "mine"
    assert [entry.name for entry in path.parent.iterdir()] == ["folder"]
    text = (path / "README.md").read_text()
    assert "Terms: mine" in text
    assert '{"kimg": 3, "stage": "train"}' in text


def test_only_pruned_networks_bring_code(tmp_path):
    exporter = configured("export", "diffusers")
    plain, narrow = exporter(full(), tmp_path / "a"), exporter(pruned(), tmp_path / "b")
    assert not (plain / "unet" / "pruned_unet.py").exists()
    assert "limbeck" not in (narrow / "unet" / "pruned_unet.py").read_text()
    config = json.loads((narrow / "unet" / "config.json").read_text())
    assert config["layer_widths"]["conv_in"] == [3, 4]
    assert config["layer_widths"]["up_blocks.0.resnets.0.norm1"] == [16, 16]
    assert "conv_out" in config["layer_widths"]
    assert "layer_widths" not in json.loads((plain / "unet" / "config.json").read_text())


def the_library():
    imported("torchvision")
    return pytest.importorskip("diffusers")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
@pytest.mark.parametrize("make", [full, pruned])
@pytest.mark.parametrize("changes", [{}, {"head_width": 8, "beta_schedule": "linear", "num_train_steps": 1000}])
@pytest.mark.parametrize("clip_sample", [False, True])
def test_a_ddim_pipeline_samples_the_same_images(tmp_path, make, changes, clip_sample):
    library, model = the_library(), make(**changes)
    path = configured("export", "diffusers")(model, tmp_path / "folder")
    pipeline = library.DiffusionPipeline.from_pretrained(path, trust_remote_code=True)
    assert type(pipeline).__name__ == "DDIMPipeline"
    pipeline.scheduler.register_to_config(clip_sample=clip_sample)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        batch_size=2,
        num_inference_steps=10,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
        return_dict=False,
    )[0]
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    network = model.generator
    grid = time_grid(10, num_train_steps=network.arguments["num_train_steps"])
    drawn = ddim(network, noise, grid, network.alpha_bar(), clip_sample=clip_sample)
    expected = (drawn / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.01
    assert not clip_sample or not torch.allclose(drawn, ddim(network, noise, grid, network.alpha_bar()), atol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_the_loader_class_alone(tmp_path):
    the_library()
    from limbeck.export.pruned_unet import PrunedUNet2DModel

    model = pruned()
    path = configured("export", "diffusers")(model, tmp_path / "folder")
    unet = PrunedUNet2DModel.from_pretrained(path / "unet").eval()
    image, timestep = torch.randn(2, 3, 8, 8), torch.tensor([0, 99])
    expected = model.generator(image, timestep)
    torch.testing.assert_close(unet(image, timestep).sample, expected, rtol=0, atol=1e-5)
    unet.save_pretrained(tmp_path / "again")
    again = limbeck.load(tmp_path / "again").generator
    assert torch.equal(again(image, timestep), expected)


def test_command(tmp_path, capsys):
    source = limbeck.save(pruned(), tmp_path / "student.safetensors")
    main(["export", str(source), "--format", "diffusers", "-o", str(tmp_path / "folder")])
    assert f"written: {tmp_path / 'folder'}" in capsys.readouterr().out
    main(["inspect", str(tmp_path / "folder")])
    assert "ddpm UNet" in capsys.readouterr().out


def test_what_cannot_be_exported(tmp_path):
    generator = Generator(resolution=8, widths=[4, 4, 4, 4], z_dim=4, w_dim=4, mapping_depth=1)
    exporter = configured("export", "diffusers")
    with pytest.raises(limbeck.UserError, match="holds U-Nets of DDPM only, not Generator"):
        exporter(limbeck.Model(generator), tmp_path / "a")
    with pytest.raises(limbeck.UserError, match="holds StyleGAN2 only, not UNet"):
        configured("export", "rosinality")(full(), tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").touch()
    with pytest.raises(limbeck.UserError, match="exists; name a new or empty folder"):
        exporter(full(), tmp_path / "b")
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["b", "mine"]


def test_a_folder_that_differs_is_not_kept(tmp_path, monkeypatch):
    load = diffusers_export.diffusers.load

    def changed(folder, facts):
        model = load(folder, facts)
        with torch.no_grad():
            model.generator.conv_in.bias.add_(1)
        return model

    monkeypatch.setattr(diffusers_export.diffusers, "load", changed)
    with pytest.raises(limbeck.UserError, match=r"not kept, because tensor 'conv_in\.bias'"):
        diffusers_export.Diffusers()(full(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_train_steps", [100, 1000])
def test_readme_says_for_which_counts_of_steps_the_sampler_is_ours(num_train_steps):
    text = "\n".join(diffusers_export.drawing(UNet(**(SMALL | {"num_train_steps": num_train_steps}))))
    listed = text.partition("`num_inference_steps` is one of ")[2].partition(".\nOther counts")[0]
    equal = [
        count
        for count in range(1, num_train_steps + 1)
        # "leading" in diffusers: multiples of the rounded-down distance; the step before t lies that distance below it.
        if time_grid(count, "uniform", num_train_steps) == [i * (num_train_steps // count) for i in range(count)]
    ]
    assert [int(count) for count in listed.split(", ")] == equal
    assert "clip_sample=True" in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_the_library_s_sampler_is_ours_for_these_counts(tmp_path):
    imported("torchvision")
    diffusers = pytest.importorskip("diffusers")
    model = full(num_train_steps=60)
    path = configured("export", "diffusers")(model, tmp_path / "a")
    scheduler = diffusers.DDIMScheduler.from_pretrained(path / "scheduler")
    noise = torch.randn(2, 3, 8, 8)
    for count in range(1, 61):
        scheduler.set_timesteps(count)
        ours = time_grid(count, "uniform", 60)
        same = scheduler.timesteps.tolist() == ours[::-1]
        assert same == (count in diffusers_export.same_steps(60))
        if same and count <= 6:
            image = noise
            for step in scheduler.timesteps:
                image = scheduler.step(model.generator(image, step), step, image).prev_sample
            expected = ddim(model.generator, noise, ours, model.generator.alpha_bar())
            torch.testing.assert_close(image, expected, rtol=1e-3, atol=1e-3)
