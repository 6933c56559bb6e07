"""Programs for torch.export and ONNX: the network's own images, for any number of them, without this package."""

import json
import subprocess
import sys

import pytest
import torch

import limbeck
from limbeck.architectures import dcgan, residual_generator
from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Generator
from limbeck.cli import main
from limbeck.configured import configured
from limbeck.export import base

pytestmark = pytest.mark.slow
FORMATS = {"torch_export": "a.pt2", "onnx": "a.onnx"}


def noisy(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return limbeck.Model(network, terms="mine").after("train", kimg=3)


def generator():
    settings = {"z_dim": 8, "w_dim": 8, "mapping_depth": 2, "num_classes": 3}
    return noisy(Generator(resolution=16, widths=[5, 7, 6, 4, 3, 1], **settings)), ("latent", "label")


def denoiser():
    settings = {"level_widths": [8, 16], "blocks_per_level": 1, "norm_groups": 4, "dropout": 0.5}
    model = noisy(UNet(resolution=8, attention_levels=[1], **settings))
    return limbeck.prune(model, "random", ratio=0.5), ("noisy_image", "timestep")


def plain():
    return limbeck.prune(noisy(dcgan.Generator(resolution=16, width=4, z_dim=6)), "l1", ratio=0.4), ("latent",)


def residual():
    return noisy(residual_generator.sngan(16, 6, z_dim=6)), ("latent",)


def run_elsewhere(path, inputs, tmp_path):
    """The output of the program in a process that never imports this package."""
    torch.save(inputs, tmp_path / "inputs")
    lines = ["import sys, torch", f"inputs = torch.load({str(tmp_path / 'inputs')!r})"]
    if path.suffix == ".pt2":
        lines += [f"image = torch.export.load({str(path)!r}).module()(**inputs)"]
    else:
        lines += ["import onnxruntime", f"session = onnxruntime.InferenceSession({str(path)!r})"]
        lines += ["(image,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})"]
    lines += ["assert not any(name.split('.')[0] == 'limbeck' for name in sys.modules)"]
    lines += [f"torch.save(torch.as_tensor(image), {str(tmp_path / 'image')!r})"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, cwd=tmp_path)
    return torch.load(tmp_path / "image", weights_only=True)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("make", [generator, denoiser, plain, residual])
def test_the_program_draws_the_networks_images(tmp_path, make, name):
    model, names = make()
    model.generator.train()  # dropout stays out of the program all the same
    path = configured("export", name)(model, tmp_path / "out" / FORMATS[name])
    assert model.generator.training
    first = torch.randn(5, *model.generator.example_inputs()[names[0]].shape[1:])
    inputs = {names[0]: first} | {name: torch.tensor([0, 2, 1, 1, 2]) for name in names[1:]}
    model.generator.eval()
    with torch.no_grad():
        torch.testing.assert_close(run_elsewhere(path, inputs, tmp_path), model.generator(**inputs))
    beside = {"a_sampler.py"} if name == "onnx" and names[0] == "noisy_image" else set()
    assert {entry.name for entry in path.parent.iterdir()} == {path.name} | beside


def test_terms_and_history_travel_with_the_weights(tmp_path):
    onnx = pytest.importorskip("onnx")
    model, _ = generator()
    said = {"terms": "", "history": ""}
    torch.export.load(configured("export", "torch_export")(model, tmp_path / "a.pt2"), extra_files=said)
    made = onnx.load(configured("export", "onnx")(model, tmp_path / "a.onnx"))
    for found in (said, {entry.key: entry.value for entry in made.metadata_props}):
        assert found["terms"] == "mine"
        assert json.loads(found["history"])[-1] == {"kimg": 3, "stage": "train"}


@pytest.mark.parametrize("name", FORMATS)
def test_what_deviates_is_not_kept(tmp_path, monkeypatch, name):
    monkeypatch.setattr(base, "TOLERANCE", -1.0)
    with pytest.raises(limbeck.UserError, match=r"generator: not kept, because it deviates by \d"):
        configured("export", name)(generator()[0], tmp_path / FORMATS[name])
    assert not list(tmp_path.iterdir())


def test_deviation_is_relative_to_the_largest_value():
    model, _ = denoiser()
    network = base.inference_copy(model.generator)
    base.require_close(lambda inputs: network(**inputs) * (1 + 0.9 * base.TOLERANCE), network, what="a")
    with pytest.raises(limbeck.UserError, match=r"1\.1e-04"):
        base.require_close(lambda inputs: network(**inputs) * (1 + 1.1 * base.TOLERANCE), network, what="a")
    with pytest.raises(limbeck.UserError, match="nan"):
        base.require_close(lambda inputs: network(**inputs) * torch.nan, network, what="a")


def test_a_missing_package_costs_one_line(tmp_path, monkeypatch, capsys):
    limbeck.save(generator()[0], tmp_path / "a.safetensors")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    arguments = ["export", str(tmp_path / "a.safetensors"), "--format", "onnx", "-o", str(tmp_path / "a.onnx")]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: format=onnx: needs onnxscript; pip install")
