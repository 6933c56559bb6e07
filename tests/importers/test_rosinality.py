"""rosinality's layout: names written out by hand, students of odd widths, older and damaged files."""

import argparse
import functools

import pytest
import torch

import limbeck
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.importers.rosinality import discriminator_names, generator_names

GENERATOR_8 = {
    "style.1.weight": ("mapping.fc0.weight", ()),
    "style.1.bias": ("mapping.fc0.bias", ()),
    "style.2.weight": ("mapping.fc1.weight", ()),
    "style.2.bias": ("mapping.fc1.bias", ()),
    "input.input": ("synthesis.b4.const", (0,)),
    "conv1.conv.weight": ("synthesis.b4.conv1.weight", (0,)),
    "conv1.conv.modulation.weight": ("synthesis.b4.conv1.affine.weight", ()),
    "conv1.conv.modulation.bias": ("synthesis.b4.conv1.affine.bias", ()),
    "conv1.noise.weight": ("synthesis.b4.conv1.noise_strength", (0,)),
    "conv1.activate.bias": ("synthesis.b4.conv1.bias", ()),
    "to_rgb1.conv.weight": ("synthesis.b4.torgb.weight", (0,)),
    "to_rgb1.conv.modulation.weight": ("synthesis.b4.torgb.affine.weight", ()),
    "to_rgb1.conv.modulation.bias": ("synthesis.b4.torgb.affine.bias", ()),
    "to_rgb1.bias": ("synthesis.b4.torgb.bias", (0, 2, 3)),
    "convs.0.conv.weight": ("synthesis.b8.conv0.weight", (0,)),
    "convs.0.conv.modulation.weight": ("synthesis.b8.conv0.affine.weight", ()),
    "convs.0.conv.modulation.bias": ("synthesis.b8.conv0.affine.bias", ()),
    "convs.0.noise.weight": ("synthesis.b8.conv0.noise_strength", (0,)),
    "convs.0.activate.bias": ("synthesis.b8.conv0.bias", ()),
    "convs.1.conv.weight": ("synthesis.b8.conv1.weight", (0,)),
    "convs.1.conv.modulation.weight": ("synthesis.b8.conv1.affine.weight", ()),
    "convs.1.conv.modulation.bias": ("synthesis.b8.conv1.affine.bias", ()),
    "convs.1.noise.weight": ("synthesis.b8.conv1.noise_strength", (0,)),
    "convs.1.activate.bias": ("synthesis.b8.conv1.bias", ()),
    "to_rgbs.0.conv.weight": ("synthesis.b8.torgb.weight", (0,)),
    "to_rgbs.0.conv.modulation.weight": ("synthesis.b8.torgb.affine.weight", ()),
    "to_rgbs.0.conv.modulation.bias": ("synthesis.b8.torgb.affine.bias", ()),
    "to_rgbs.0.bias": ("synthesis.b8.torgb.bias", (0, 2, 3)),
    "noises.noise_0": ("synthesis.b4.conv1.noise_const", (0, 1)),
    "noises.noise_1": ("synthesis.b8.conv0.noise_const", (0, 1)),
    "noises.noise_2": ("synthesis.b8.conv1.noise_const", (0, 1)),
}
DISCRIMINATOR_8 = {
    "convs.0.0.weight": "b8.fromrgb.weight",
    "convs.0.1.bias": "b8.fromrgb.bias",
    "convs.1.conv1.0.weight": "b8.conv0.weight",
    "convs.1.conv1.1.bias": "b8.conv0.bias",
    "convs.1.conv2.1.weight": "b8.conv1.weight",
    "convs.1.conv2.2.bias": "b8.conv1.bias",
    "convs.1.skip.1.weight": "b8.skip.weight",
    "final_conv.0.weight": "b4.conv.weight",
    "final_conv.1.bias": "b4.conv.bias",
    "final_linear.0.weight": "b4.fc.weight",
    "final_linear.0.bias": "b4.fc.bias",
    "final_linear.1.weight": "b4.out.weight",
    "final_linear.1.bias": "b4.out.bias",
}
KERNEL = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64


def noisy(network):
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.copy_(torch.randn_like(tensor))
    return network.eval()


def small_generator(widths=(5, 7, 6, 4), **changes):
    return noisy(Generator(resolution=8, widths=list(widths), z_dim=8, w_dim=8, mapping_depth=2, **changes))


def container(generator, discriminator=None, **extra):
    """What rosinality's training loop would save, made from our networks by the table above."""
    ours = generator.state_dict()
    state = {
        theirs: functools.reduce(torch.unsqueeze, axes, ours[name]).clone()
        for theirs, (name, axes) in GENERATOR_8.items()
    }
    state |= {"convs.0.conv.blur.kernel": 4 * KERNEL, "to_rgbs.0.upsample.kernel": 4 * KERNEL}
    content = {"g": state, "g_ema": state, "g_optim": {"state": {}}, "args": argparse.Namespace(size=8), **extra}
    if discriminator is not None:
        ours = discriminator.state_dict()
        content["d"] = {theirs: ours[name].clone() for theirs, name in DISCRIMINATOR_8.items()}
        content["d"] |= {"convs.1.conv2.0.kernel": KERNEL, "convs.1.skip.0.kernel": KERNEL}
    return content


def saved(content, path, **options):
    torch.save(content, path, **options)
    return path


def test_names_follow_the_table():
    assert generator_names(8, 2) == {theirs: name for theirs, (name, _) in GENERATOR_8.items()}
    assert discriminator_names(8) == DISCRIMINATOR_8


@pytest.mark.parametrize(("resolution", "num_parameters", "num_noises"), [(256, 110, 13), (1024, 138, 17)])
def test_published_numbers_of_entries(resolution, num_parameters, num_noises):
    names = generator_names(resolution, 8)
    noises = [name for name in names if name.startswith("noises.")]
    assert (len(names) - len(noises), len(noises)) == (num_parameters, num_noises)
    with torch.device("meta"):
        expected = set(Generator(resolution=resolution).state_dict())
        judged = set(Discriminator(resolution=resolution).state_dict())
    assert set(names.values()) == expected - {"mapping.w_avg"}
    assert set(discriminator_names(resolution).values()) == judged


@torch.no_grad()
@pytest.mark.parametrize("legacy", [False, True])
def test_images_and_logits_are_the_source_s(tmp_path, legacy):
    generator, discriminator = small_generator(), noisy(Discriminator(resolution=8, widths=[4, 6]))
    content = container(generator, discriminator, latent_avg=generator.mapping.w_avg.clone())
    path = saved(content, tmp_path / "000100.pt", _use_new_zipfile_serialization=not legacy)
    model = limbeck.load(path)
    latent, image = torch.randn(3, 8), torch.randn(4, 3, 8, 8)
    assert torch.equal(model.generator(latent, truncation=0.5), generator(latent, truncation=0.5))
    assert torch.equal(model.discriminator(image), discriminator(image))
    assert model.generator.arguments["widths"] == [5, 7, 6, 4]
    entry = {"stage": "import", "format": "rosinality", "network": "g_ema", "file": "000100.pt"}
    assert model.history == (entry,)


def test_training_copy_is_used_only_without_ema(tmp_path):
    content = container(small_generator())
    content["g"] = container(small_generator())["g"]
    first = limbeck.load(saved(content, tmp_path / "a.pt"))
    expected = content["g_ema"]["conv1.activate.bias"]
    assert torch.equal(first.generator.synthesis.b4.conv1.bias, expected)
    del content["g_ema"]
    second = limbeck.load(saved(content, tmp_path / "b.pt"))
    assert torch.equal(second.generator.synthesis.b4.conv1.bias, content["g"]["conv1.activate.bias"])
    assert second.history[0]["network"] == "g"


def test_prefixes_and_bare_state_dicts(tmp_path):
    generator = small_generator()
    state = container(generator)["g"]
    for content in ({"g_ema": {f"module.{name}": value for name, value in state.items()}}, state):
        again = limbeck.load(saved(content, tmp_path / "a.pt")).generator
        assert torch.equal(again.synthesis.b8.conv0.weight, generator.synthesis.b8.conv0.weight)


def test_students_of_any_width_and_1x1_kernels(tmp_path):
    generator = small_generator((2, 3, 1, 5), kernels=[3, 1])
    again = limbeck.load(saved(container(generator), tmp_path / "a.pth")).generator
    assert again.arguments == generator.arguments
    assert torch.equal(again(torch.ones(1, 8)), limbeck.load(tmp_path / "a.pth").generator(torch.ones(1, 8)))


@torch.no_grad()
def test_missing_noise_images_and_average_are_made_up_repeatably(tmp_path):
    content = container(small_generator())
    content["g_ema"] = {name: value for name, value in content["g_ema"].items() if not name.startswith("noises")}
    path = saved(content, tmp_path / "old.pt")
    first, again = limbeck.load(path).generator, limbeck.load(path).generator
    assert torch.equal(first.synthesis.b8.conv0.noise_const, again.synthesis.b8.conv0.noise_const)
    assert first.synthesis.b8.conv0.noise_const.std() > 0.5
    styles = first.mapping(torch.randn(20_000, 8))
    torch.testing.assert_close(first.mapping.w_avg, styles.mean(dim=0), atol=0.03 * styles.std().item(), rtol=0)


@pytest.mark.parametrize(
    ("role", "name", "change", "message"),
    [
        ("g_ema", "conv1.conv.weight", None, "conv1.weight"),
        (
            "g_ema",
            "input.input",
            torch.zeros(1, 9, 4, 4),
            r"'conv1\.conv\.weight' \(here '.*\) has shape",
        ),
        (
            "g_ema",
            "conv1.activate.bias",
            torch.full([7], float("nan")),
            r"'conv1\.activate\.bias' \(here .*\) holds NaN",
        ),
        ("g_ema", "conv1.activate.bias", torch.zeros(7, dtype=torch.int64), "has type torch.int64"),
        ("g_ema", "conv1.activate.bias", [0.0], "'conv1.activate.bias' is no tensor"),
        ("g_ema", "dwt.ll", torch.zeros(2, 2), "'dwt.ll' does not belong"),
        ("g_ema", "to_rgbs.0.upsample.kernel", torch.ones(4, 4), "filter other than"),
        ("g_ema", "convs.2.conv.weight", torch.zeros(1, 4, 4, 3, 3), r"'convs\.3\.conv\.weight' .*is missing"),
        ("g_ema", "style.1.weight", torch.zeros(8), r"'style\.1\.weight' .*has shape \(8,\)"),
        (
            "d",
            "final_conv.0.weight",
            torch.zeros(6, 6, 3, 3),
            r"'final_conv\.0\.weight' \(here .*has shape \(6, 6, 3, 3\), ",
        ),
        ("d", "final_linear.1.bias", None, r"'final_linear\.1\.bias' \(here 'b4\.out\.bias'\) is missing"),
    ],
)
def test_damaged_networks_are_named(tmp_path, role, name, change, message):
    content = container(small_generator(), noisy(Discriminator(resolution=8, widths=[4, 6])))
    content[role] = dict(content[role])
    if change is None:
        del content[role][name]
    else:
        content[role][name] = change
    with pytest.raises(limbeck.CheckpointError, match=message):
        limbeck.load(saved(content, tmp_path / "a.pt"))


def test_other_content_is_described(tmp_path):
    with pytest.raises(limbeck.CheckpointError, match=r"no known layout .*found: epoch, model"):
        limbeck.load(saved({"model": {}, "epoch": 3}, tmp_path / "a.pt"))
    with pytest.raises(limbeck.CheckpointError, match=r"no known layout .*found: Tensor"):
        limbeck.load(saved(torch.ones(3), tmp_path / "b.pt"))
