"""TensorFlow pickles: files written here in that layout, from our own networks by the inverse transpositions."""

import pickle
import sys
import types

import numpy as np
import pytest
import torch

import limbeck
from limbeck.architectures.stylegan2 import Discriminator, Generator


class Network:
    """Stands for dnnlib.tflib.network.Network while a file is written."""

    def __init__(self, variables, components=None, **static_kwargs):
        self.version, self.name, self.build_module_src = 5, "G", "raise SystemExit('executed')"
        self.variables, self.components, self.static_kwargs = variables, components or {}, static_kwargs


@pytest.fixture(autouse=True)
def tensorflow_module(monkeypatch):
    for name in ("dnnlib", "dnnlib.tflib", "dnnlib.tflib.network"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    Network.__module__ = "dnnlib.tflib.network"
    sys.modules["dnnlib.tflib.network"].Network = Network


def noisy(network):
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.copy_(torch.randn_like(tensor))
    return network.eval()


def small_generator():
    return noisy(Generator(resolution=8, widths=[5, 5, 6, 6], z_dim=8, w_dim=8, mapping_depth=2))


def small_discriminator():
    return noisy(Discriminator(resolution=8, widths=[6, 5]))


def stored_convolution(value, turned=False):
    """[out, in, k, k] to [k, k, in, out]; up-sampling kernels turned by 180 degrees."""
    value = value.permute(2, 3, 1, 0)
    return (value.flip(0, 1) if turned else value).contiguous().numpy()


def generator_record(generator, **static_kwargs):
    state = {name: value.detach() for name, value in generator.state_dict().items()}
    mapping = []
    for index in range(2):
        mapping.append((f"Dense{index}/weight", state[f"mapping.fc{index}.weight"].T.contiguous().numpy()))
        mapping.append((f"Dense{index}/bias", state[f"mapping.fc{index}.bias"].numpy()))
    synthesis = [("4x4/Const/const", state["synthesis.b4.const"][None].numpy())]
    layers = {
        "b4.conv1": ("4x4/Conv", "noise0"),
        "b8.conv0": ("8x8/Conv0_up", "noise1"),
        "b8.conv1": ("8x8/Conv1", "noise2"),
        "b4.torgb": ("4x4/ToRGB", None),
        "b8.torgb": ("8x8/ToRGB", None),
    }
    for ours, (theirs, noise) in layers.items():
        own = {key.removeprefix(f"synthesis.{ours}."): v for key, v in state.items() if f".{ours}." in key}
        synthesis += [
            (f"{theirs}/weight", stored_convolution(own["weight"], turned="up" in theirs)),
            (f"{theirs}/bias", own["bias"].numpy()),
            (f"{theirs}/mod_weight", own["affine.weight"].T.contiguous().numpy()),
            (f"{theirs}/mod_bias", (own["affine.bias"] - 1).numpy()),
        ]
        if noise:
            synthesis.append((f"{theirs}/noise_strength", np.float32(own["noise_strength"])))
            synthesis.append((noise, own["noise_const"][None, None].numpy()))
    components = {"mapping": Network(mapping), "synthesis": Network(synthesis)}
    return Network([("dlatent_avg", state["mapping.w_avg"].numpy())], components, **static_kwargs)


def discriminator_record(discriminator, **static_kwargs):
    layers = {"b8.fromrgb": "8x8/FromRGB", "b8.conv0": "8x8/Conv0", "b8.conv1": "8x8/Conv1_down", "b8.skip": "8x8/Skip"}
    layers |= {"b4.conv": "4x4/Conv", "b4.fc": "4x4/Dense0", "b4.out": "Output"}
    variables = []
    for name, value in discriminator.state_dict().items():
        layer, _, kind = name.rpartition(".")
        value = value.detach()
        if kind == "weight":
            value = stored_convolution(value) if value.ndim == 4 else value.T.contiguous().numpy()
        variables.append((f"{layers[layer]}/{kind}", np.asarray(value)))
    return Network(variables, **static_kwargs)


def written(path, generator, discriminator, protocol=4):
    path.write_bytes(pickle.dumps((generator_record(small_generator()), discriminator, generator), protocol))
    return path


@torch.no_grad()
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_images_and_logits_are_the_source_s(tmp_path, protocol):
    generator, discriminator = small_generator(), small_discriminator()
    records = generator_record(generator, resolution=8, conv_clamp=None), discriminator_record(discriminator)
    model = limbeck.load(written(tmp_path / "ffhq.pkl", *records, protocol))
    latent, image = torch.randn(4, 8), torch.randn(4, 3, 8, 8)
    expected = generator(latent, truncation=0.5)
    torch.testing.assert_close(model.generator(latent, truncation=0.5), expected, rtol=1e-5, atol=1e-4)
    assert torch.equal(model.discriminator(image), discriminator(image))
    assert model.generator.arguments == generator.arguments
    assert model.history[0]["format"] == "nvlabs_tensorflow"


def test_settings_without_trace_in_the_weights_are_kept(tmp_path):
    generator = generator_record(small_generator(), conv_clamp=256)
    discriminator = discriminator_record(small_discriminator(), conv_clamp=256, mbstd_group_size=8)
    model = limbeck.load(written(tmp_path / "a.pkl", generator, discriminator))
    assert model.generator.arguments["clamp"] == 256
    assert model.discriminator.arguments["clamp"] == 256
    assert model.discriminator.arguments["group_size"] == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "resnet"}, "architecture='resnet', expected 'skip'"),
        ({"mapping_lrmul": 0.1}, "mapping_lrmul=0.1, expected 0.01"),
        ({"resample_kernel": [1, 2, 1]}, "filter other than"),
    ],
)
def test_other_networks_are_refused_by_name(tmp_path, changes, message):
    path = written(
        tmp_path / "a.pkl", generator_record(small_generator(), **changes), discriminator_record(small_discriminator())
    )
    with pytest.raises(limbeck.CheckpointError, match=message):
        limbeck.load(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"variable 'synthesis/8x8/Conv1/weight' \(here 'synthesis\.b8\.conv1\.weight'\) is missing"),
        (np.zeros((3, 3), np.float32), r"variable 'synthesis/8x8/Conv1/weight' .*has shape \(3, 3\)"),
        (
            np.zeros((3, 3, 2, 6), np.float32),
            r"'synthesis/8x8/Conv1/weight' \(here .* has shape \(6, 2, 3, 3\), expected",
        ),
        (
            np.full((3, 3, 6, 6), np.nan, np.float32),
            r"'synthesis/8x8/Conv1/weight' \(here .*\) holds NaN",
        ),
        (np.zeros((3, 3, 6, 6), complex), "an array of type <c16"),
        (np.zeros((3, 3, 6, 6), object), "array of type"),
    ],
)
def test_damaged_variables_are_named(tmp_path, value, message):
    record = generator_record(small_generator())
    synthesis = record.components["synthesis"]
    synthesis.variables = [(name, array) for name, array in synthesis.variables if name != "8x8/Conv1/weight"]
    if value is not None:
        synthesis.variables.append(("8x8/Conv1/weight", value))
    with pytest.raises(limbeck.CheckpointError, match=message):
        limbeck.load(written(tmp_path / "a.pkl", record, discriminator_record(small_discriminator())))


def test_components_inside_themselves(tmp_path):
    record = generator_record(small_generator())
    record.components["mapping"].components["again"] = record
    with pytest.raises(limbeck.CheckpointError, match=r"nested too deep|recursion"):
        limbeck.load(written(tmp_path / "a.pkl", record, discriminator_record(small_discriminator())))
