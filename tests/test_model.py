"""Files: what is written comes back bit for bit; what does not fit is refused by name."""

import json
import os
from dataclasses import replace

import pytest
import safetensors.torch
import torch

import limbeck
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.cli import describe
from limbeck.model import FORMAT, Model, load_native, save


def small_model():
    generator = Generator(resolution=8, widths=[4, 3, 5, 2], z_dim=8, w_dim=8, mapping_depth=1, clamp=256.0).eval()
    return Model(generator, Discriminator(resolution=8, widths=[4, 4]), terms="research only").after("import", seed=1)


def rewritten(path, *, header=None, tensors=None):
    """The file with some tensors or parts of its header replaced."""
    with safetensors.safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    described = json.loads(metadata["limbeck"]) | (header or {})
    metadata["limbeck"] = json.dumps(described)
    safetensors.torch.save_file(state | (tensors or {}), path, metadata=metadata)
    return path


def test_round_trip_is_exact(tmp_path):
    model = small_model()
    limbeck.save(model, tmp_path / "deep" / "model.safetensors")
    again = limbeck.load(tmp_path / "deep" / "model.safetensors")
    for own, other in ((again.generator, model.generator), (again.discriminator, model.discriminator)):
        assert own.arguments == other.arguments
        for (name, value), expected in zip(own.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(value, expected), name
    assert (again.history, again.terms) == (model.history, model.terms)
    latent = torch.randn(2, 8)
    assert torch.equal(again.generator(latent), model.generator(latent))


def test_without_discriminator(tmp_path):
    model = Model(small_model().generator)
    assert load_native(save(model, tmp_path / "a.safetensors")).discriminator is None


def test_half_precision_file_is_half_as_large_and_loads_as_float32(tmp_path):
    model = small_model()
    full, half = save(model, tmp_path / "a.safetensors"), save(model, tmp_path / "b.safetensors", torch.float16)
    assert half.stat().st_size < 0.75 * full.stat().st_size
    value = load_native(half).generator.synthesis.b4.const
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, model.generator.synthesis.b4.const, rtol=1e-3, atol=1e-3)


def test_saving_twice_gives_the_same_bytes(tmp_path):
    model = small_model()
    assert save(model, tmp_path / "a").read_bytes() == save(model, tmp_path / "b").read_bytes()


def test_pruned_widths_travel_in_the_header(tmp_path):
    student = limbeck.prune(small_model(), "l1", ratio=0.5)
    again = load_native(save(student, tmp_path / "s.safetensors"))
    assert again.generator.arguments["widths"] == [2, 2, 3, 1]
    assert again.history[-1]["criterion"] == "l1"


def test_missing_file(tmp_path):
    with pytest.raises(limbeck.CheckpointError, match=r"not found: .*nowhere"):
        limbeck.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99])
def test_truncated_file(tmp_path, kept):
    path = save(small_model(), tmp_path / "a.safetensors")
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.truncate(int(kept * size) if isinstance(kept, float) else kept)
    with pytest.raises(limbeck.CheckpointError, match="unreadable safetensors"):
        load_native(path)


def test_safetensors_of_someone_else(tmp_path):
    safetensors.torch.save_file({"weight": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(limbeck.CheckpointError, match=f"not a {FORMAT} file"):
        load_native(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("os.path.join", "refused class 'os.path.join'"),
        ("limbeck.model.Model", "refused class"),
        ("limbeck.architectures.stylegan2.block_resolutions", "not a network"),
        ("limbeck.architectures.stylegan2.math", "not a network"),
        ("limbeck.architectures.nowhere.Generator", "cannot build"),
        ("limbeck.architectures.stylegan2.Nothing", "cannot build"),
    ],
)
def test_refused_classes(tmp_path, name, reason):
    path = save(small_model(), tmp_path / "a.safetensors")
    rewritten(path, header={"networks": {"generator": {"class": name, "arguments": {"resolution": 8}}}})
    with pytest.raises(limbeck.CheckpointError, match=reason):
        load_native(path)


def test_wrong_shape_is_named(tmp_path):
    path = save(small_model(), tmp_path / "a.safetensors")
    rewritten(path, tensors={"generator.synthesis.b4.const": torch.zeros(9, 4, 4)})
    with pytest.raises(
        limbeck.CheckpointError,
        match=r"generator: tensor 'synthesis\.b4\.const' has shape \(9, 4, 4\), expected \(4, 4, 4\)",
    ):
        load_native(path)


def test_header_that_does_not_build(tmp_path):
    model = small_model()
    path = save(model, tmp_path / "a.safetensors")
    entry = {"class": "limbeck.architectures.stylegan2.Generator", "arguments": {"resolution": 7}}
    rewritten(path, header={"networks": {"generator": entry}})
    with pytest.raises(limbeck.CheckpointError, match=r"cannot build .*resolution=7"):
        load_native(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(tmp_path, value):
    path = save(small_model(), tmp_path / "a.safetensors")
    rewritten(path, tensors={"generator.synthesis.b4.const": torch.full([4, 4, 4], value)})
    with pytest.raises(limbeck.CheckpointError, match=r"'synthesis\.b4\.const' holds NaN"):
        load_native(path)


def test_missing_and_surplus_tensors_are_named(tmp_path):
    path = save(small_model(), tmp_path / "a.safetensors")
    rewritten(path, tensors={"generator.extra": torch.zeros(1)})
    with pytest.raises(limbeck.CheckpointError, match="'extra' does not belong to a Generator"):
        load_native(path)
    rewritten(path, header={"networks": {}})
    with pytest.raises(limbeck.CheckpointError, match="damaged header"):
        load_native(path)


def test_a_header_cannot_ask_for_more_memory_than_the_file_has(tmp_path):
    path = save(small_model(), tmp_path / "a.safetensors")
    entry = {
        "class": "limbeck.architectures.stylegan2.Generator",
        "arguments": {"resolution": 8, "widths": [10**6] * 4},
    }
    rewritten(path, header={"networks": {"generator": entry}})
    with pytest.raises(limbeck.CheckpointError, match=r"shape|missing"):
        load_native(path)


def test_loaded_networks_train_and_keep_their_memory_format(tmp_path):
    generator = load_native(save(small_model(), tmp_path / "a.safetensors")).generator
    assert all(parameter.requires_grad for parameter in generator.parameters())
    assert generator.synthesis.b8.conv0.weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(tensor.is_meta for tensor in [*generator.parameters(), *generator.buffers()])
    state = torch.get_rng_state()
    load_native(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), state)


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save(small_model(), tmp_path / "a.safetensors")
    before = path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(limbeck.UserError, match="No space left"):
        save(small_model(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_masks_of_a_file_belong_to_parameters(tmp_path):
    path = save(small_model(), tmp_path / "a.safetensors")
    rewritten(path, header={"masks": ["synthesis.b4.conv1.noise_const"]})
    with pytest.raises(limbeck.CheckpointError, match=r"masks name 'synthesis\.b4\.conv1\.noise_const'"):
        load_native(path)
    rewritten(path, header={"masks": ["synthesis.b4.conv1.weight"]})
    with pytest.raises(limbeck.CheckpointError, match=r"'synthesis\.b4\.conv1\.weight:mask' is missing"):
        load_native(path)


def both_ways():
    other = small_model().after("import", file="b.pth")
    return replace(small_model(), reverse=replace(other, terms="other terms"))


def test_the_other_direction_is_saved_and_left_alone_by_pruning_and_refining(tmp_path):
    model = both_ways()
    again = load_native(save(model, tmp_path / "a.safetensors"))
    assert (again.reverse.history, again.reverse.terms) == (model.reverse.history, "other terms")
    assert again.terms == model.terms
    for own, other in (
        (again.generator, model.generator),
        (again.reverse.generator, model.reverse.generator),
        (again.reverse.discriminator, model.reverse.discriminator),
    ):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in own.state_dict().items())
    student = limbeck.initializers.svs(limbeck.prune(model, "l1", ratio=0.5))
    assert student.reverse is model.reverse
    assert student.generator.arguments["widths"] != model.generator.arguments["widths"]


def test_a_damaged_other_direction_is_named(tmp_path):
    path = save(both_ways(), tmp_path / "a.safetensors")
    rewritten(path, tensors={"reverse.discriminator.b4.out.bias": torch.zeros(3)})
    with pytest.raises(limbeck.CheckpointError, match=r"reverse\.discriminator: tensor 'b4\.out\.bias' has shape"):
        load_native(path)


def test_both_directions_are_described():
    lines = list(describe(both_ways()))
    assert [line for line in lines if line.startswith("reverse")] == [
        "reverse generator: stylegan2 Generator",
        "reverse discriminator: stylegan2 Discriminator",
    ]


def test_a_header_whose_length_looks_like_a_pickle_is_none(tmp_path):
    """Lengths are multiples of eight, so one file in 32 begins with the byte 128, as pickles do."""
    model, path = small_model(), tmp_path / "a.safetensors"
    for length in range(0, 300, 8):
        save(replace(model, terms="x" * length), path)
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    assert limbeck.load(path).terms == "x" * length
