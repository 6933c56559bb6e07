"""Export to rosinality's and NVIDIA's names: import(export(x)) is x, bit for bit."""

import logging

import pytest
import torch

import limbeck
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.configured import configured
from limbeck.export import nvlabs as nvlabs_export
from limbeck.export import rosinality as rosinality_export


def noisy(network):
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.copy_(torch.randn_like(tensor))
    return network.eval()


def small_model(**changes):
    settings = {"resolution": 16, "widths": [5, 7, 6, 4, 3, 1], "z_dim": 8, "w_dim": 8, "mapping_depth": 2}
    return limbeck.Model(
        noisy(Generator(**(settings | changes))), noisy(Discriminator(resolution=16, widths=[4, 6, 5]))
    )


@pytest.mark.parametrize("name", ["rosinality", "nvlabs"])
@pytest.mark.parametrize("changes", [{}, {"kernels": [3, 1, 1]}, {"widths": [1, 1, 1, 1, 1, 1]}])
def test_round_trip_is_bit_equal(tmp_path, name, changes):
    model = small_model(**changes)
    path = configured("export", name)(model, tmp_path / "out" / "a.pt")
    again = limbeck.load(path)
    for own, other in ((again.generator, model.generator), (again.discriminator, model.discriminator)):
        assert own.arguments | {"mapping_depth": 0} == other.arguments | {"mapping_depth": 0}
        for (key, value), expected in zip(own.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(value, expected), key
    latent = torch.randn(2, 8)
    assert torch.equal(again.generator(latent, truncation=0.5), model.generator(latent, truncation=0.5))


def test_nvidia_names_keep_labels_clamp_and_group_size(tmp_path):
    generator = noisy(
        Generator(resolution=4, widths=[3, 2], z_dim=8, w_dim=8, mapping_depth=1, num_classes=3, clamp=9.0)
    )
    discriminator = noisy(Discriminator(resolution=8, widths=[4, 6], num_classes=3, group_size=8, clamp=9.0))
    path = configured("export", "nvlabs")(limbeck.Model(generator, discriminator), tmp_path / "a.pt")
    again = limbeck.load(path)
    assert again.generator.arguments == generator.arguments
    assert again.discriminator.arguments == discriminator.arguments


def test_entries_of_a_full_size_generator():
    generator = Generator(resolution=256, channel_base=512)
    state = rosinality_export.generator_state(generator)
    kernels = [name for name in state if name.endswith("kernel")]
    noises = [name for name in state if name.startswith("noises.")]
    assert (len(state), len(kernels), len(noises)) == (135, 12, 13)
    assert state["conv1.conv.weight"].shape == (1, 128, 128, 3, 3)
    assert state["to_rgbs.5.bias"].shape == (1, 3, 1, 1)
    assert state["convs.0.conv.blur.kernel"].sum() == 4


def test_filters_stand_where_nvidia_keeps_them():
    generator = nvlabs_export.network_state(small_model().generator)
    filters = {name.removesuffix(".resample_filter") for name in generator if name.endswith("resample_filter")}
    layers = {"synthesis.b4.conv1", *(f"synthesis.b{r}.conv{i}" for r in (8, 16) for i in (0, 1))}
    assert filters == layers | {f"synthesis.b{r}" for r in (4, 8, 16)}
    judge = nvlabs_export.network_state(small_model().discriminator)
    filters = {name.removesuffix(".resample_filter") for name in judge if name.endswith("resample_filter")}
    blocks = {f"b{r}{layer}" for r in (8, 16) for layer in ("", ".conv0", ".conv1", ".skip")}
    assert filters == blocks | {"b16.fromrgb", "b4.conv"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_classes": 2}, "num_classes=2"), ({"num_channels": 1}, "num_channels=1"), ({"z_dim": 5}, "z_dim=5")],
)
def test_what_the_layout_cannot_hold_is_refused(tmp_path, changes, message):
    with pytest.raises(limbeck.UserError, match=f"format=rosinality: {message}, but the layout requires"):
        configured("export", "rosinality")(small_model(**changes), tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_out_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        configured("export", "rosinality")(small_model(clamp=256.0), tmp_path / "a.pt")
    assert "no activation clamp" in caplog.text


def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(rosinality_export, "stored", lambda value: value.detach() * 2)
    with pytest.raises(limbeck.UserError, match=r"generator: not kept, because tensor 'mapping\.w_avg|not kept"):
        configured("export", "rosinality")(small_model(), tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []
