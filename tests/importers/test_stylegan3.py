"""NVIDIA's StyleGAN3 files, written here in their layout: pickles without their code, and plain state dicts."""

import pickle

import numpy
import pytest
import torch

import limbeck
from limbeck.architectures.stylegan2 import Discriminator
from limbeck.architectures.stylegan3 import Generator
from limbeck.configured import configured
from limbeck.export.nvlabs import stylegan3_state
from limbeck.model import Model

from ..architectures import stylegan3_reference as reference
from .test_nvlabs_pickle import discriminator_record, nvlabs_modules, tree, written

__all__ = ["nvlabs_modules"]  # a fixture that is active here too

CONFIGURATIONS = {"T": {}, "R": {"kernel": 1, "radial": True}}


def small_generator(configuration="T", **changes):
    settings = {"resolution": 32, "widths": [5, 6, 4, 7, 3], "num_layers": 4, "num_frequencies": 8, "z_dim": 6}
    settings |= {"w_dim": 6, "magnitude_beta": 0.9994456, **CONFIGURATIONS[configuration]}
    generator = Generator(**(settings | changes))
    with torch.no_grad():
        for name, value in generator.state_dict().items():
            value.copy_(torch.rand([]) + 0.5 if value.ndim == 0 else torch.randn_like(value))
            if name.endswith("transform"):
                value.copy_(torch.eye(3) + 0.1 * torch.randn(3, 3))
    return generator.eval()


def published_state(generator, widths=None):
    """Its tensors under NVIDIA's names, written by hand; filters by SciPy. widths: those in the names."""
    arguments = generator.arguments
    count, critical = arguments["num_layers"], arguments["num_critical"]
    plan = reference.quantities(arguments["resolution"], count, critical)
    widths = widths or [*arguments["widths"][1:], 3]
    named = {i: f"synthesis.L{i}_{plan[i][3]}_{widths[i]}" for i in range(count + 1)}
    state = {}
    for name, value in generator.state_dict().items():
        parts = name.split(".")
        if parts[1][0] == "L":
            name = ".".join([named[int(parts[1][1:])], *parts[2:]])
        state[name] = value.detach().clone(memory_format=torch.contiguous_format)
    for i in range(count):
        (cut_in, half_in, rate_in, _), (cut_out, half_out, rate_out, _) = plan[max(i - 1, 0)], plan[i]
        rate = 2 * max(rate_in, rate_out)
        up = reference.low_pass(6 * rate // rate_in, cut_in, half_in, rate)
        design = reference.radial_low_pass if arguments["radial"] and i < count - critical else reference.low_pass
        for name, taps in (("up", up), ("down", design(12, cut_out, half_out, rate))):
            state[f"{named[i]}.{name}_filter"] = torch.as_tensor(numpy.asarray(taps), dtype=torch.float32)
    return state


def record(generator, state=None, **changes):
    arguments = generator.arguments
    state = state or published_state(generator)
    layer = {"conv_clamp": arguments["clamp"], "magnitude_ema_beta": arguments["magnitude_beta"]}
    layer["in_size"] = numpy.broadcast_to(numpy.asarray(36), [2]).copy()
    settings = {".".join(name.split(".")[:2]): layer for name in state if name.startswith("synthesis.L")}
    settings["synthesis"] = {"num_critical": arguments["num_critical"], "output_scale": 0.25, **changes}
    settings["mapping.fc0"] = {"bias_gain": 0.01, "activation": "lrelu"}
    return tree(state, "Generator", settings)


@torch.no_grad()
@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_images_of_a_pickle(tmp_path, configuration, protocol):
    source = small_generator(configuration, num_classes=2)
    judge = Discriminator(resolution=8, widths=[4, 6], group_size=8, clamp=256.0, mapping_depth=2)
    content = {"G_ema": record(source), "D": discriminator_record(judge), "augment_pipe": None}
    model = limbeck.load(written(tmp_path / "a.pkl", content, protocol))
    assert model.generator.arguments == source.arguments
    assert model.discriminator is not None
    latent, label = torch.randn(2, 6), torch.tensor([1, 0])
    assert torch.equal(model.generator(latent, label=label), source(latent, label=label))
    styles = source.mapping(latent, label)[:, None].repeat(1, 6, 1)
    state = {name: value.double() for name, value in model.generator.state_dict().items()}
    expected = reference.image_of(state, source.arguments, styles.double(), state["synthesis.input.transform"])
    torch.testing.assert_close(model.generator(latent, label=label).double(), expected, rtol=0, atol=1e-4)
    assert model.history[0]["format"] == "nvlabs_pickle"
    assert "NVIDIA" in model.terms


@torch.no_grad()
def test_a_pruned_state_dict_with_its_teachers_names(tmp_path):
    """div_pruned_0.70.pth: bare, layers named by the widths before pruning."""
    student = small_generator()
    state = published_state(student, widths=[512, 512, 91, 64, 3])
    state.pop("synthesis.input.transform")
    student.synthesis.input.transform.copy_(torch.eye(3))
    torch.save(state, tmp_path / "div_pruned_0.70.pth")
    again = limbeck.load(tmp_path / "div_pruned_0.70.pth")
    assert again.generator.arguments == student.arguments | {"magnitude_beta": 0.999}
    assert again.history[0]["guessed"] == {"conv_clamp": 256.0, "magnitude_ema_beta": 0.999}
    told = limbeck.load(tmp_path / "div_pruned_0.70.pth", conv_clamp=None, magnitude_ema_beta=0.5)
    assert told.generator.arguments["magnitude_beta"] == 0.5
    latent = torch.randn(2, 6)
    assert torch.equal(again.generator(latent), student(latent))


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_native_and_foreign_round_trips(tmp_path, configuration):
    model = Model(small_generator(configuration), Discriminator(resolution=32, widths=[4, 4, 4, 4], clamp=256.0))
    limbeck.save(model, tmp_path / "a.safetensors")
    configured("export", "nvlabs")(model, tmp_path / "a.pt")
    for path in ("a.safetensors", "a.pt"):
        again = limbeck.load(tmp_path / path)
        assert again.generator.arguments == model.generator.arguments
        for name, value in model.generator.state_dict().items():
            assert torch.equal(again.generator.state_dict()[name], value), name
    published, ours = published_state(model.generator), stylegan3_state(model.generator)
    assert ours.keys() == published.keys()
    for name, value in published.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=3e-8, msg=name)


@pytest.mark.parametrize("name", [pytest.param("onnx", marks=pytest.mark.slow), "torch_export"])
def test_programs_draw_the_same_images(tmp_path, name):
    model = Model(small_generator("R", resolution=16, widths=[3, 4], num_layers=1, num_critical=0))
    assert configured("export", name)(model, tmp_path / "a.bin").exists()


def without(name):
    return lambda state: state.pop(name)


def changed(name, value):
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("synthesis.L1_52_4.weight"), r"'synthesis\.L1_52_4\.weight'|'synthesis\.L1\.weight' is missing"),
        (without("synthesis.L1_52_4.bias"), r"'synthesis\.L1_52_4\.bias'|'synthesis\.L1\.bias' is missing"),
        (changed("synthesis.L1_52_4.bias", torch.zeros(9)), r"'synthesis\.L1_52_4\.bias' .* has shape \(9,\)"),
        (changed("synthesis.L1_52_4.magnitude_ema", torch.tensor(torch.nan)), "holds NaN or infinity"),
        (changed("synthesis.L1_52_4.down_filter", torch.ones(12) / 12), r"L1_52_4\.down_filter' .*: a filter other"),
        (changed("synthesis.L1_52_4.down_filter", torch.ones(12, 12)), r"L1_52_4\.down_filter' .*: a filter other"),
        (
            changed("synthesis.L4_32_3.up_filter", torch.ones(12)),
            r"L4_32_3\.up_filter' .*: a filter where",
        ),
        (changed("synthesis.L1_36_9.bias", torch.zeros(4)), r"'synthesis\.L1_36_9\.bias': a layer that is there"),
        (changed("synthesis.extra", torch.zeros(4)), "'synthesis.extra' does not belong"),
    ],
)
def test_files_that_are_not_what_they_say(tmp_path, change, message):
    state = published_state(small_generator())
    change(state)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(limbeck.CheckpointError, match=message):
        limbeck.load(tmp_path / "a.pt")


def test_other_settings_are_refused(tmp_path):
    path = written(tmp_path / "a.pkl", {"G_ema": record(small_generator(), output_scale=0.5)})
    with pytest.raises(limbeck.CheckpointError, match=r"output scale 0\.5, expected 0\.25"):
        limbeck.load(path)
    state = {name.replace("L1_52", "L1_60"): value for name, value in published_state(small_generator()).items()}
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(limbeck.CheckpointError, match="layer 1 has maps of 60 samples, expected 52 at 32 px"):
        limbeck.load(tmp_path / "a.pt")
    torch.save(small_generator().state_dict(), tmp_path / "b.pt")
    with pytest.raises(limbeck.CheckpointError, match="resolution None, supported: 8 to 4096"):
        limbeck.load(tmp_path / "b.pt")
    assert limbeck.load(tmp_path / "b.pt", resolution=32).generator.resolution == 32


def test_the_source_in_the_file_is_not_executed(tmp_path):
    path = written(tmp_path / "a.pkl", {"G_ema": record(small_generator())})
    with pytest.raises((AssertionError, SystemExit)):
        pickle.loads(path.read_bytes())
    limbeck.load(path)
