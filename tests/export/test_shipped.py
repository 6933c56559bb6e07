"""What leaves the house: fewer bits, other runtimes, and how fast it is there."""

import json

import onnx
import pytest
import torch

import limbeck
from limbeck.architectures import srgan
from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Generator
from limbeck.configured import configured
from limbeck.data.base import ImageDataset, ImageFacts, ImageSource
from limbeck.errors import UserError
from limbeck.evaluation.protocol import Protocol
from limbeck.evaluation.shipped import BATCHES, EAGER, shipped_latencies
from limbeck.export.base import standing_in
from limbeck.export.calibration import OfData, OwnInputs, recorded_inputs
from limbeck.export.int8_graph import (
    beside_an_image,
    phases,
    with_factors_as_maps,
    without_transposed_convolutions,
)
from limbeck.export.onnx import write_onnx
from limbeck.export.runtimes import OnnxRuntime, OpenVino
from limbeck.stages import exporter_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = Generator(resolution=16, widths=[16] * 6, z_dim=8, w_dim=8, mapping_depth=2)
    return limbeck.Model(network.eval().requires_grad_(False), terms="mine")


def test_a_transposed_convolution_is_one_of_its_phases():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 5, 4), torch.randn(3, 6, 3, 3)
    turned = torch.nn.functional.conv2d(x, torch.from_numpy(phases(weight.numpy())), padding=1)
    found = torch.nn.functional.pixel_shuffle(turned, 2)
    torch.testing.assert_close(found[..., :-1, :-1], torch.nn.functional.conv_transpose2d(x, weight, stride=2))
    assert found[..., -1, :].abs().max() == found[..., :, -1].abs().max() == 0


def test_a_graph_for_int8_kernels_draws_the_same(model, tmp_path):
    """Both rewrites on float32, so that nothing but rounding may differ."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = tmp_path / "a.onnx"
    write_onnx(model, path)
    quant_pre_process(str(path), str(path), skip_symbolic_shape=True)
    made = onnx.load(path)
    assert without_transposed_convolutions(made) == 2  # 8 and 16 pixels
    assert "DepthToSpace" in {node.op_type for node in made.graph.node}
    before = len(made.graph.node)
    assert with_factors_as_maps(made) == len(made.graph.node) - before > 10
    onnx.save(made, path)
    inputs = {"latent": torch.randn(3, 8)}
    for runtime in (OnnxRuntime(), OpenVino()):
        torch.testing.assert_close(runtime.program(path)(inputs), model.generator(**inputs), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["onnx_float16", "onnx_int8"])
def test_fewer_bits_state_what_they_lost(model, tmp_path, name):
    exporter = configured("export", name, num_images=16)
    path = exporter(model, tmp_path / "small.onnx")
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert facts["terms"] == "mine"
    stated = json.loads(facts["quality"])["error"]
    inputs = recorded_inputs(model.generator, 32, seed=7)[0]
    expected, found = model.generator(**inputs).clamp(-1, 1), OnnxRuntime().program(path)(inputs).clamp(-1, 1)
    error = ((found - expected).square().mean() / expected.square().mean()).sqrt().item()
    assert 1e-6 < error < exporter.most["error"]  # not the source's own program
    assert error == pytest.approx(stated, rel=1.0)
    configured("export", "onnx")(model, tmp_path / "whole.onnx")
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert ("QuantizeLinear" in kinds) is (name == "onnx_int8")
    with pytest.raises(UserError, match=r"not kept, its error is .*; most.error is 1e-07"):
        configured("export", name, num_images=16, most={"error": 1e-7})(model, tmp_path / "none.onnx")
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


def denoiser():
    torch.manual_seed(0)
    return UNet(resolution=8, level_widths=[8, 8], blocks_per_level=1, norm_groups=2, num_train_steps=50).eval()


def test_inputs_of_a_denoiser_are_those_on_its_way():
    found = recorded_inputs(denoiser(), 4, seed=0)
    assert len(found) == 10
    assert all(set(part) == {"noisy_image", "timestep"} for part in found)
    steps = [int(part["timestep"][0]) for part in found]
    assert steps == sorted(steps, reverse=True)


class EightPixels(ImageSource):
    """Images that are all 200 of 255: noise and nothing else differs."""

    mirror, num_workers = False, 0

    def open(self):
        return ImageFacts(resolution=8, num_channels=3, num_classes=0, num_images=40)

    def train(self):
        return Grey()

    def heldout(self):
        return Grey()

    def digest(self):
        return "0" * 64


class Grey(ImageDataset):
    def __len__(self):
        return 40

    def batch(self, indices):
        return torch.full((len(indices), 3, 8, 8), 200, dtype=torch.uint8), torch.zeros(len(indices), dtype=torch.long)


def test_inputs_made_of_data_are_noisy_images_of_every_time():
    network = denoiser()
    found = OfData()(network, EightPixels(), 50, seed=0)
    steps = torch.cat([part["timestep"] for part in found])
    assert steps.tolist() == list(range(50))
    images = torch.cat([part["noisy_image"] for part in found])
    share = network.alpha_bar()[:, None, None, None]
    noise = (images - share.sqrt() * (200 / 127.5 - 1)) / (1 - share).sqrt()
    assert noise.mean().abs() < 0.05
    assert noise.std() == pytest.approx(1, abs=0.05)
    assert torch.equal(torch.cat([part["noisy_image"] for part in OfData()(network, EightPixels(), 50, 0)]), images)


def test_calibration_without_data_where_it_needs_some_is_one_line(model):
    with pytest.raises(UserError, match=r"calibration=data: needs images; --set data=CHOICE data.path="):
        OfData()(denoiser(), None, 4, 0)
    with pytest.raises(UserError, match=r"calibration=data: Generator draws from latents, .* use calibration=own"):
        OfData()(model.generator, EightPixels(), 4, 0)
    translator = srgan.Generator(resolution=4, width=4, num_blocks=1, num_doublings=1)
    with pytest.raises(UserError, match=r"Generator draws from images, so it needs some: --set data=CHOICE"):
        OwnInputs()(translator, None, 4, 0)


def test_a_program_stands_in_for_its_network(model):
    network = model.generator
    actor = standing_in(lambda inputs: 2 * network(**inputs), network)
    latent = torch.randn(2, 8)
    assert torch.equal(actor.draw(latent, noise="const"), 2 * network(latent))
    assert torch.equal(network(latent), actor.draw(latent) / 2)  # the network itself is as it was


def test_a_metric_of_the_protocol_can_refuse_a_file(model, tmp_path):
    protocol = Protocol(metrics={"ssim": configured("metric", "ssim")["ssim"]}, num_images=4)
    exporter = configured("export", "onnx_float16", num_images=4, protocol=protocol, most={"ssim": 0.5})
    with pytest.raises(UserError, match=r"not kept, its ssim is 0.99\d|not kept, its ssim is 1; most.ssim is 0.5"):
        exporter(model, tmp_path / "a.onnx")
    with pytest.raises(UserError, match=r"most.fid: not measured; allowed: error, ssim"):
        configured("export", "onnx_float16", num_images=4, protocol=protocol, most={"fid": 1})(
            model, tmp_path / "a.onnx"
        )


def test_convolutions_beside_an_image_stay_in_float32(tmp_path):
    exporter = configured("export", "onnx_int8", num_images=8, most={})
    path = exporter(limbeck.Model(denoiser()), tmp_path / "a.onnx")
    made = onnx.load(path)
    scales = {node.output[0] for node in made.graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in made.graph.node if node.op_type == "Conv"]
    plain = [node for node in convolutions if node.input[1] not in scales and not node.name.endswith("_map")]
    ends = [node for node in convolutions if not node.name.endswith("_map")]
    assert [node.name for node in plain] == [ends[0].name, ends[-1].name]
    assert set(beside_an_image(made)) == {node.name for node in plain}


def test_settings_of_an_export_are_those_of_its_configuration(tmp_path):
    settings = ["export.protocol=null", "export.most.error=0.05", "calibration=data", "data=robohash"]
    exporter = exporter_of("onnx_int8", settings)
    assert (exporter.protocol, exporter.most) == (None, {"error": 0.05})
    assert isinstance(exporter.calibration, OfData)
    assert type(exporter.data).__name__ == "RoboHash"
    assert exporter_of("onnx_float16").data is None
    with pytest.raises(UserError, match=r"--set data: must be KEY=VALUE"):
        exporter_of("onnx", ["data"])
    with pytest.raises(UserError, match="nonsense"):
        exporter_of("onnx_int8", ["calibration=nonsense"])
