"""Checkpoints of the DDIM code base give that code's noise estimates."""

import pytest
import torch

import limbeck
from limbeck.importers import ddim
from limbeck.importers.foreign import Facts

from .ddim_reference import Reference

SHAPE = {"width": 32, "multipliers": [1, 2, 2, 4], "num_blocks": 2, "attention_level": 1}


def reference(**changes):
    network = Reference(**(SHAPE | changes)).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(torch.randn_like(parameter) * scale + ("norm" in name and name.endswith("weight")))
    return network


def saved(path, content):
    torch.save(content, path)
    return path


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"multipliers": [1, 1], "num_blocks": 1, "attention_level": 0}])
def test_same_estimates(tmp_path, changes):
    theirs = reference(**changes)
    model = limbeck.load(saved(tmp_path / "model-790000.ckpt", theirs.state_dict()))
    image, timestep = torch.randn(2, 3, 16, 16), torch.tensor([2, 903])
    expected = theirs(image, timestep)
    torch.testing.assert_close(model.generator(image, timestep), expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1
    assert model.discriminator is None
    entry = dict(model.history[0])
    guessed = entry.pop("guessed")
    assert entry == {"stage": "import", "format": "ddim", "network": "bare", "file": "model-790000.ckpt"}
    assert sorted(guessed) == ["beta_end", "beta_schedule", "beta_start", "num_train_steps", "resolution"]


def test_architecture_of_the_published_networks(tmp_path):
    with torch.device("meta"):
        cifar = Reference(width=128, multipliers=[1, 2, 2, 2], num_blocks=2, attention_level=1).state_dict()
        celeba = Reference(width=128, multipliers=[1, 2, 2, 2, 4], num_blocks=2, attention_level=2).state_dict()
    for state, resolution, widths in ((cifar, 32, [128, 256, 256, 256]), (celeba, 64, [128, 256, 256, 256, 512])):
        found = ddim._arguments(ddim.renamed(state, "here"), "here", {}, Facts())
        assert (found["resolution"], found["level_widths"]) == (resolution, widths)
        assert found["num_channels"] == 3


@torch.no_grad()
def test_the_list_of_training_gives_its_moving_average(tmp_path):
    average, online = reference(), reference()
    parallel = {f"module.{name}": value for name, value in online.state_dict().items()}
    optimizer = torch.optim.Adam(online.parameters()).state_dict()
    image = torch.randn(1, 3, 16, 16)
    content = [parallel, optimizer, 3, 5000]
    for extra, theirs, role in (([average.state_dict()], average, "ema"), ([], online, "network")):
        model = limbeck.load(saved(tmp_path / "ckpt.pth", content + extra))
        estimate = model.generator(image, 7)
        torch.testing.assert_close(estimate, theirs(image, torch.tensor([7])), rtol=0, atol=1e-4)
        assert model.history[0]["network"] == role


@torch.no_grad()
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.9])
def test_pruned_networks_of_forks(tmp_path, ratio):
    state = reference(width=64, multipliers=[1, 2, 2]).state_dict()
    names = dict(zip(ddim.renamed(state, ""), state, strict=True))
    model = limbeck.load(saved(tmp_path / "full.ckpt", state))
    student = limbeck.prune(model, "random", ratio=ratio)
    content = {}
    for name, value in student.generator.state_dict().items():
        content[names[name]] = value[:, :, None, None] if state[names[name]].ndim == 4 > value.ndim else value
    again = limbeck.load(saved(tmp_path / "pruned.ckpt", content))
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(again.generator(image, 5), student.generator(image, 5))
    own, other = (network.channel_groups() for network in (again.generator, student.generator))
    assert own == other


def test_convert_and_inspect(tmp_path, capsys):
    from limbeck.cli import main

    source = saved(tmp_path / "a.ckpt", reference().state_dict())
    main(["convert", str(source), str(tmp_path / "a.safetensors")])
    main(["inspect", str(tmp_path / "a.safetensors")])
    printed = capsys.readouterr().out
    assert "generator: ddpm UNet" in printed
    assert "level_widths: [32, 64, 64, 128]" in printed
    assert "discriminator: none" in printed
    assert "format=ddim" in printed


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda s: without(s, "mid.attn_1.k.bias"),
            r"'mid\.attn_1\.k\.bias' \(here '.*0\.to_k\.bias'\) is missing",
        ),
        (
            lambda s: without(s, "down.1.block.0.conv2.weight"),
            r"'down\.1\.block\.0\.conv2\.weight' \(here '.*",
        ),
        (lambda s: without(s, "conv_in.weight"), r"'conv_in\.weight' or levels of blocks are missing"),
        (lambda s: s | {"head.weight": torch.zeros(1)}, r"'head\.weight' does not belong to a U-Net of the DDIM"),
        (lambda s: s | {"conv_out.weight": torch.zeros(3, 4, 3, 3)}, r"'conv_out\.weight' has shape \(3, 4, 3, 3\)"),
        (lambda s: s | {"conv_in.bias": torch.full((32,), torch.nan)}, r"'conv_in\.bias' holds NaN"),
        (lambda s: s | {"conv_in.bias": 3}, r"'conv_in\.bias' is no tensor"),
        (lambda s: s | {"temb.dense.0.weight": torch.zeros(2)}, r"'temb\.dense\.0\.weight' .*has 1 axes"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, damage, message):
    path = saved(tmp_path / "a.ckpt", damage(dict(reference().state_dict())))
    with pytest.raises(limbeck.CheckpointError, match=message) as caught:
        limbeck.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_pickled_modules_are_refused(tmp_path):
    path = saved(tmp_path / "a.ckpt", [reference(), {}, 0, 0])
    with pytest.raises(limbeck.CheckpointError, match=r"unreadable or refused .*ddim_reference"):
        limbeck.load(path)
