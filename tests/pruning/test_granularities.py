"""Every granularity by hand: which weights of a layer are switched off together, and exactly how many."""

import math

import pytest
import torch
from torch import nn

import limbeck
from limbeck.architectures import dcgan
from limbeck.architectures.base import Axis, ChannelGroup, Maskable, Network, Refinable
from limbeck.architectures.stylegan2 import Generator
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.pruning import granularities
from limbeck.pruning.criteria.magnitude import Magnitude
from limbeck.pruning.criteria.random_weights import RandomWeights
from limbeck.pruning.granularities import granularity


class Two(Network):
    """A transposed convolution 3 -> 8 (weight [3, 8, 4, 4]), normalization, a convolution 8 -> 2 as output layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.ConvTranspose2d(3, 8, 4)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 2, 3)

    arguments = property(lambda self: {})

    def resized(self, sizes):
        return Two()

    def macs(self):
        return 0

    def refinable(self):
        return Refinable()

    def example_inputs(self, num_images=1):
        return {}

    def maskable(self):
        return (Maskable("first.weight", "first.bias", output_dim=1, input_dim=0), Maskable("last.weight", "last.bias"))

    def channel_groups(self):
        axes = [Axis("first.weight", 1, "output"), Axis("first.bias", 0), Axis("norm.weight", 0), Axis("norm.bias", 0)]
        return (ChannelGroup("first", 8, (*axes, Axis("norm.running_mean", 0), Axis("last.weight", 1, "input"))),)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Two()


def masks_by(name, network, ratio):
    function = granularity(name)
    return function(network, Magnitude()(network), ratio)


def units_of(name, weight, output_first):
    """The weight's magnitudes as [units, weights of a unit], written out loop by loop."""
    oriented = weight.detach().abs() if output_first else weight.detach().abs().transpose(0, 1)
    out, inputs, height, _ = oriented.shape
    found = []
    for o in range(out):
        for i in range(inputs):
            if name == "kernel":
                found.append(oriented[o, i].flatten())
            for y in range(height):
                if name == "vector":
                    found.append(oriented[o, i, y])
                if name == "element":
                    found += list(oriented[o, i, y].reshape(-1, 1))
    return torch.stack(found)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("name", ["element", "vector", "kernel"])
def test_the_least_units_of_each_layer_go(network, name, ratio):
    masks = masks_by(name, network, ratio)
    assert set(masks) == {"first.weight", "last.weight"}
    for layer, weight in (("first", network.first.weight), ("last", network.last.weight)):
        mask = masks[f"{layer}.weight"]
        assert mask.shape == weight.shape
        sums = units_of(name, weight, layer == "last").sum(dim=1)
        kept = units_of(name, mask.float(), layer == "last")
        assert (kept == kept[:, :1]).all()  # a unit stays or goes as a whole
        gone = kept[:, 0] == 0
        assert int(gone.sum()) == math.floor(ratio * len(sums))
        if gone.any():
            assert sums[gone].max() < sums[~gone].min()


def test_filters_take_what_belongs_to_them_and_leave_the_output_layer(network):
    masks = masks_by("filter", network, 0.4)
    assert set(masks) == {"first.weight", "first.bias", "norm.weight", "norm.bias"}
    norms = network.first.weight.detach().abs().sum(dim=(0, 2, 3))
    stays = torch.zeros(8, dtype=torch.bool)
    stays[norms.topk(5).indices] = True  # floor(0.4 * 8) = 3 go
    for name in ("first.bias", "norm.weight", "norm.bias"):
        assert torch.equal(masks[name], stays)
    assert torch.equal(masks["first.weight"], stays[None, :, None, None].expand(3, 8, 4, 4))


def test_two_of_every_four_input_channels(network):
    masks = masks_by("2:4", network, 0.5)
    assert set(masks) == {"last.weight"}  # four does not divide 3
    mask, weight = masks["last.weight"], network.last.weight.detach().abs()
    for o in range(2):
        for y in range(3):
            for x in range(3):
                for start in (0, 4):
                    four, kept = weight[o, start : start + 4, y, x], mask[o, start : start + 4, y, x]
                    assert int(kept.sum()) == 2
                    assert four[~kept].max() < four[kept].min()


@pytest.mark.parametrize("ratio", [0.25, 0.9])
def test_blocks_of_four_output_channels(network, ratio):
    masks = masks_by("block", network, ratio)
    assert set(masks) == {"first.weight"}  # four does not divide 2
    blocks = masks["first.weight"].transpose(0, 1).unflatten(0, (2, 4))  # [block, 4, input, y, x]
    sums = network.first.weight.detach().abs().transpose(0, 1).unflatten(0, (2, 4)).sum(dim=1)
    assert (blocks == blocks[:, :1]).all()
    kept = blocks[:, 0]
    assert int((~kept).sum()) == math.floor(ratio * kept.numel())
    assert sums[~kept].max() < sums[kept].min()


def test_torchs_semi_structured_kernels_take_two_of_four():
    """Their compression, on a CPU: what it keeps and the places of it make the dense matrix again."""
    from torch.sparse import _semi_structured_conversions as kernels

    torch.manual_seed(0)
    network = dcgan.Generator(resolution=16, width=32, z_dim=64)
    sparse = limbeck.sparsify(Model(network), ratio=0.5, granularity="2:4")
    assert len(sparse.masks) == len(network.maskable())
    for layer in network.maskable()[:2]:  # transposed convolutions; the last has 3 outputs, too few for the kernels
        before, weight = (model.get_parameter(layer.weight).detach() for model in (network, sparse.generator))
        matrix = layer.matrix(weight)
        assert matrix.shape == (weight.shape[1], 16 * weight.shape[0])
        assert ((matrix.unflatten(1, (-1, 4)) != 0).sum(dim=2) == 2).all()
        half = matrix.half()
        kept, places = kernels.sparse_semi_structured_from_dense_cutlass(half)
        assert kept.shape == (matrix.shape[0], matrix.shape[1] // 2)
        assert torch.equal(kernels.sparse_semi_structured_to_dense_cutlass(kept, places), half)
        dense = layer.matrix(before).half()  # the check can fail: of a dense matrix half is lost
        assert not torch.equal(
            kernels.sparse_semi_structured_to_dense_cutlass(*kernels.sparse_semi_structured_from_dense_cutlass(dense)),
            dense,
        )


def test_the_matrix_is_the_layer_over_patches():
    layer, convolution, image = Maskable("weight"), nn.Conv2d(8, 4, 3, bias=False), torch.randn(1, 8, 5, 5)
    patches = image.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 4, 5, 1).flatten(3)  # [1, 3, 3, 9 * 8]
    made = nn.functional.linear(patches, layer.matrix(convolution.weight)).permute(0, 3, 1, 2)
    torch.testing.assert_close(made, convolution(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ratio", [0.25, 0.0, 0.75])
def test_two_of_four_is_one_half(network, ratio):
    with pytest.raises(UserError, match=r"ratio=.*2:4.*must be 0\.5"):
        masks_by("2:4", network, ratio)


@pytest.mark.parametrize("name", ["row", "2_4", "granularity", ""])
def test_unknown_names_are_refused_with_the_known_ones(name):
    known = r"allowed: element, vector, kernel, filter, 2:4"
    with pytest.raises(UserError, match=known):
        granularity(name)


def test_a_new_granularity_is_one_function(network, monkeypatch):
    def by_layer(network, scores, ratio):
        return {"last.weight": torch.zeros(2, 8, 3, 3, dtype=torch.bool)}

    monkeypatch.setattr(granularities, "by_layer", by_layer, raising=False)
    assert not masks_by("layer", network, 0.5)["last.weight"].any()


def test_random_weights_are_a_control():
    generator = Generator(resolution=8, widths=[4, 4, 4, 4], z_dim=4, w_dim=4, mapping_depth=1)
    first, again, other = RandomWeights(seed=1)(generator), RandomWeights(seed=1)(generator), RandomWeights()(generator)
    name = generator.maskable()[0].weight
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
