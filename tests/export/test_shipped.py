"""What leaves the house: fewer bits, other runtimes, and how fast it is there."""

import json

import onnx
import pytest
import torch

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Generator
from limbeck.configured import configured
from limbeck.errors import UserError
from limbeck.evaluation.shipped import BATCHES, EAGER, shipped_latencies
from limbeck.export.compact_onnx import recorded_inputs
from limbeck.export.runtimes import OnnxRuntime, OpenVino

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = Generator(resolution=16, widths=[16] * 6, z_dim=8, w_dim=8, mapping_depth=2)
    return limbeck.Model(network.eval().requires_grad_(False), terms="mine")


@pytest.mark.parametrize("name", ["onnx_float16", "onnx_int8"])
def test_fewer_bits_state_what_they_lost(model, tmp_path, name):
    exporter = configured("export", name, judge=None, num_images=16)
    path = exporter(model, tmp_path / "small.onnx")
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert facts["terms"] == "mine"
    stated = json.loads(facts["quality"])["error"]
    inputs = recorded_inputs(model.generator, 32, seed=7)[0]
    expected, found = model.generator(**inputs), OnnxRuntime().program(path)(inputs)
    error = ((found - expected).square().mean() / expected.square().mean()).sqrt().item()
    assert 1e-6 < error < exporter.most_error  # not the source's own program
    assert error == pytest.approx(stated, rel=1.0)
    configured("export", "onnx")(model, tmp_path / "whole.onnx")
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert ("QuantizeLinear" in kinds) is (name == "onnx_int8")
    with pytest.raises(UserError, match=r"not kept, its output is .* off the source"):
        configured("export", name, judge=None, num_images=16, most_error=1e-7)(model, tmp_path / "none.onnx")
    assert not (tmp_path / "none.onnx").exists()


def test_openvino_draws_the_networks_images(model, tmp_path):
    path = configured("export", "openvino")(model, tmp_path / "a.xml")
    assert path.with_suffix(".bin").is_file()
    inputs = {"latent": torch.randn(3, 8)}
    assert torch.allclose(OpenVino().program(path)(inputs), model.generator(**inputs), atol=1e-4)
    with pytest.raises(UserError, match=r"must end in .xml"):
        configured("export", "openvino")(model, tmp_path / "a.onnx")


def test_every_runtime_and_batch_is_timed_and_equal_shapes_once(model):
    half = limbeck.prune(model, "l1", ratio=0.5)
    stages = {"teacher": model, "pruned": half, "student": limbeck.initializers.svs(half)}
    found, notes = shipped_latencies(stages, [OnnxRuntime(), OpenVino()], rounds=3)
    assert notes == []
    expected = [(name, number) for number in BATCHES for name in (EAGER, "ONNX Runtime", "OpenVINO")]
    assert [(t["runtime"], t["num_images"]) for t in found["teacher"]] == expected
    assert all(t["latency_ms"] > 0 and t["spread"] >= 0 for times in found.values() for t in times)
    assert found["pruned"] is found["student"]


def test_what_is_not_installed_is_said(model, monkeypatch):
    monkeypatch.setattr(OpenVino, "package", "no_such_runtime")
    found, notes = shipped_latencies({"teacher": model}, [OpenVino()])
    assert found == {}
    assert notes == ["OpenVINO is not installed: pip install limbeck[openvino]"]
    with pytest.raises(UserError, match=r"OpenVINO: needs no_such_runtime; pip install limbeck\[openvino\]"):
        OpenVino().require()


def test_inputs_of_a_denoiser_are_those_on_its_way():
    torch.manual_seed(0)
    network = UNet(resolution=8, level_widths=[8, 8], blocks_per_level=1, norm_groups=2, num_train_steps=50).eval()
    found = recorded_inputs(network, 4, seed=0)
    assert len(found) == 10
    assert all(set(part) == {"noisy_image", "timestep"} for part in found)
    steps = [int(part["timestep"][0]) for part in found]
    assert steps == sorted(steps, reverse=True)
