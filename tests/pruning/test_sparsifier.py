"""Masked students: exact counts, files, and channels that leave."""

import math

import pytest
import torch

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Generator
from limbeck.initializers import svs
from limbeck.initializers.random import Random
from limbeck.masking import layer_sparsity, num_effective
from limbeck.model import Model, Pair
from limbeck.pruning.criteria.l1 import L1
from limbeck.pruning.criteria.magnitude import Magnitude
from limbeck.pruning.settling import settled
from limbeck.pruning.sparsifier import Sparsifier


def generator(**changes):
    arguments = {"resolution": 8, "widths": [8, 12, 8, 16], "z_dim": 8, "w_dim": 8, "mapping_depth": 1, **changes}
    network = Generator(**arguments).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # biases and noise strengths too
    return network


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model(generator())


@pytest.mark.parametrize("granularity", ["element", "vector", "kernel", "filter", "2:4"])
def test_masked_weights_are_zero_and_the_rest_is_untouched(model, granularity):
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    sparse = limbeck.sparsify(model, ratio=0.5, granularity=granularity)
    assert all(torch.equal(value, before[name]) for name, value in model.generator.state_dict().items())
    for name, value in sparse.generator.state_dict().items():
        mask = sparse.masks.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(value, torch.where(mask, before[name], 0.0)), name
    assert sparse.history[-1] == {
        "stage": "prune",
        "criterion": "magnitude",
        "ratio": 0.5,
        "granularity": granularity,
    }


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.75, 0.9])
def test_every_layer_loses_exactly_its_share(model, ratio):
    sparse = limbeck.sparsify(model, ratio=ratio)
    for layer in model.generator.maskable():
        zeros = int((sparse.generator.get_parameter(layer.weight) == 0).sum())
        size = sparse.masks[layer.weight].numel()
        assert zeros == math.floor(round(ratio * 100) * size / 100)
        assert layer_sparsity(sparse.generator, sparse.masks)[layer.weight] == zeros / size
    total = sum(p.numel() for p in model.generator.parameters())
    assert num_effective(sparse.generator, sparse.masks) == total - sum(int((~m).sum()) for m in sparse.masks.values())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ratio": 1.0}, r"ratio=1\.0: must be a number in \[0, 1\)"),
        ({"ratio": -0.1}, r"ratio=-0\.1"),
        ({"ratio": 0.5, "granularity": "rows"}, "granularity='rows': unknown; allowed: element"),
        ({"ratio": 0.4, "granularity": "2:4"}, r"ratio=0\.4.*must be 0\.5"),
    ],
)
def test_wrong_arguments_are_one_line(model, settings, words):
    with pytest.raises(ValueError, match=words) as raised:
        limbeck.sparsify(model, **settings)
    assert "\n" not in str(raised.value)


def test_networks_without_declared_layers_are_refused(model):
    judge = limbeck.architectures.stylegan2.Discriminator(resolution=8, widths=[4, 4])
    with pytest.raises(ValueError, match="Discriminator: declares no layers"):
        limbeck.sparsify(Model(judge), ratio=0.5)


@pytest.mark.parametrize("granularity", ["element", "vector", "filter", "2:4"])
def test_files_are_compact_and_exact(model, granularity, tmp_path):
    sparse = limbeck.sparsify(model, ratio=0.5, granularity=granularity)
    path = limbeck.save(sparse, tmp_path / "sparse.safetensors")
    again = limbeck.load(path)
    for name, value in sparse.generator.state_dict().items():
        loaded = again.generator.state_dict()[name]
        assert torch.equal(loaded, value), name
        assert loaded.stride() == value.stride()
    assert set(again.masks) == set(sparse.masks)
    assert all(torch.equal(again.masks[name], mask) for name, mask in sparse.masks.items())
    bits = sum(math.ceil(mask.numel() / 8) for mask in sparse.masks.values())
    saved = sum(int((~mask).sum()) for mask in sparse.masks.values()) * 4 - bits
    dense = limbeck.save(model, tmp_path / "dense.safetensors")
    assert dense.stat().st_size - path.stat().st_size > saved - 3000  # the header is longer
    latent = torch.randn(2, 8)
    assert torch.equal(again.generator(latent), sparse.generator(latent))


def test_a_kept_zero_is_no_masked_weight(model, tmp_path):
    sparse = limbeck.sparsify(model, ratio=0.25)
    name = model.generator.maskable()[0].weight
    with torch.no_grad():
        weight = sparse.generator.get_parameter(name)
        place = tuple(sparse.masks[name].nonzero()[0].tolist())
        weight[place] = -0.0
    again = limbeck.load(limbeck.save(sparse, tmp_path / "a.safetensors"))
    assert bool(again.masks[name][place])
    assert bool(again.generator.get_parameter(name)[place].signbit())


def test_masks_of_another_shape_are_refused_before_anything_is_written(model, tmp_path):
    name = model.generator.maskable()[0].weight
    for masks, words in (
        ({name: torch.ones(3, dtype=torch.bool)}, r"expected torch\.bool \(12, 8, 3, 3\)"),
        ({name: torch.ones(12, 8, 3, 3)}, r"is torch\.float32"),
        ({"nothing": torch.ones(3, dtype=torch.bool)}, "'nothing': no such parameter"),
    ):
        with pytest.raises(limbeck.UserError, match=words):
            limbeck.save(Model(model.generator, masks=masks), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_silent_channels_leave_and_the_network_draws_the_same(model):
    masked = limbeck.sparsify(model, ratio=0.5, granularity="filter")
    slim = settled(masked)
    assert slim.generator.arguments["widths"] == [8, 6, 4, 8]  # the constant is no layer
    assert not slim.masks
    latent = torch.randn(3, 8)
    for noise in ("const", "none"):
        torch.testing.assert_close(
            slim.generator(latent, noise=noise), masked.generator(latent, noise=noise), rtol=1e-5, atol=1e-5
        )


def test_single_masked_weights_do_not_leave(model):
    sparse = limbeck.sparsify(model, ratio=0.9)
    assert settled(sparse) is sparse


def test_the_stage_lets_channels_leave_at_once(model):
    pair = Sparsifier(Magnitude(), ratio=0.5, granularity="filter")(Pair(model, model))
    assert pair.teacher is model
    assert pair.student.generator.arguments["widths"] == [8, 6, 4, 8]
    with pytest.raises(limbeck.UserError, match=r"pruning\.ratio=2"):
        Sparsifier(Magnitude(), ratio=2)(Pair(model, model))


def test_filters_of_a_denoiser_respect_its_normalization_groups():
    torch.manual_seed(0)
    unet = UNet(resolution=8, level_widths=[8, 16], blocks_per_level=1, attention_levels=[1], norm_groups=4)
    slim = settled(limbeck.sparsify(Model(unet), ratio=0.5, granularity="filter"))
    sizes = {group.name: group.size for group in slim.generator.channel_groups()}
    full = {group.name: group.size for group in unet.channel_groups()}
    assert all(sizes[name] == full[name] // 2 for name in full if not name.startswith("time_embedding"))
    assert sizes["time_embedding.linear_1"] == full["time_embedding.linear_1"]


@pytest.mark.parametrize("granularity", ["element", "2:4"])
def test_masks_survive_initializers_and_channel_pruning(model, granularity):
    sparse = limbeck.sparsify(model, ratio=0.5, granularity=granularity)
    for made in (svs(sparse), Random(keep=[])(Pair(model, sparse)).student):
        for name, mask in made.masks.items():
            weight = made.generator.get_parameter(name)
            assert (weight[~mask] == 0).all()
            assert (weight[mask] != 0).all()
    pruned = limbeck.prune(sparse, L1(), ratio=0.5)
    for name, mask in pruned.masks.items():
        weight = pruned.generator.get_parameter(name)
        assert mask.shape == weight.shape
        assert torch.equal(weight != 0, mask)


def test_a_second_stage_never_switches_weights_on_again(model):
    first = limbeck.sparsify(model, ratio=0.5, granularity="kernel")
    second = limbeck.sparsify(first, ratio=0.3)
    for name, mask in first.masks.items():
        assert not second.masks[name][~mask].any()


def test_prune_takes_the_stage_s_name_too(model):
    sparse = limbeck.prune(model, "magnitude", ratio=0.25, granularity="vector")
    assert sparse.history[-1]["granularity"] == "vector"
    assert sparse.masks
