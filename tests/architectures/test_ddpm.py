"""The U-Net: published counts, diffusers' network with the same weights, and its parts by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

import limbeck
from limbeck.architectures.ddpm import Attention, Plan, ResidualBlock, UNet, fixed, sinusoids
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.pruning.allocation import Uniform, rounded_counts
from limbeck.pruning.slimming import slim

CELEBA = {"resolution": 64, "level_widths": [128, 256, 256, 256, 512], "attention_levels": [2]}
LSUN = {"resolution": 256, "level_widths": [128, 128, 256, 256, 512, 512], "attention_levels": [4]}
SMALL = {"resolution": 8, "level_widths": [8, 16], "blocks_per_level": 1, "norm_groups": 4}


def noisy(network):
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(torch.randn_like(parameter) * scale + ("norm" in name and name.endswith("weight")))
    return network.eval()


def unscored(network):
    """Scores that say nothing, for allocations that count channels alone."""
    return {group.name: torch.zeros(group.size) for group in network.channel_groups()}


# -- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "ratio", "num_parameters", "macs"),
    [
        ({}, 0, 35_746_307, 6_065_456_000),
        ({}, 0.3, 19_851_157, 3_392_819_008),
        ({}, 0.5, 8_968_451, 1_521_027_008),
        ({}, 0.7, 5_120_462, 1_076_632_355),
        ({}, 0.9, 661_496, 194_837_087),
        (CELEBA, 0, 78_700_803, 23_922_959_232),
        (CELEBA, 0.3, 43_735_002, 13_322_085_936),
        (CELEBA, 0.5, 19_714_179, 5_997_922_752),
        (CELEBA, 0.7, 9_252_711, 4_182_864_243),
        (CELEBA, 0.9, 1_312_076, 768_237_695),
        (LSUN, 0, 113_673_219, 248_691_174_144),
        (LSUN, 0.3, 63_205_897, 138_873_356_464),
        (LSUN, 0.4, 44_957_930, 126_424_810_703),
        (LSUN, 0.5, 28_463_619, 62_415_443_328),
    ],
)
def test_published_counts(settings, ratio, num_parameters, macs):
    with torch.device("meta"):
        network = UNet(**settings)
        pruned = network.resized(rounded_counts(network, Uniform()(network, unscored(network), ratio), 1))
    counted = limbeck.profile(pruned)
    assert (counted.num_parameters, counted.macs) == (num_parameters, macs)


@pytest.mark.parametrize(
    ("ratio", "normalized", "free"),
    [
        (0.3, {128: 96, 256: 192, 512: 384}, {256: 179, 512: 358}),
        (0.5, {128: 64, 256: 128, 512: 256}, {256: 128, 512: 256}),
        (0.7, {128: 64, 256: 96, 512: 160}, {256: 76, 512: 153}),
        (0.9, {128: 32, 256: 32, 512: 64}, {256: 25, 512: 51}),
    ],
)
def test_published_widths(ratio, normalized, free):
    with torch.device("meta"):
        network = UNet(**CELEBA)
    counts = rounded_counts(network, Uniform()(network, unscored(network), ratio), 1)
    groups = network.channel_groups()
    assert {g.size: counts[g.name] for g in groups if g.norm_groups == 32} == normalized
    assert {g.size: counts[g.name] for g in groups if g.norm_groups == 1} == free


def test_number_of_groups():
    with torch.device("meta"):
        groups = {group.name: group for group in UNet().channel_groups()}
    assert len(groups) == 50
    # A level's stream: conv_in, two residual blocks, the downsampling, and two blocks of the way up read it.
    assert len([a for a in groups["conv_in"].axes if a.role == "output"]) == 3
    # Where the width stays, the downsampling's output goes on through identity shortcuts.
    assert "down_blocks.1.downsamplers.0.conv" in groups
    assert "down_blocks.2.resnets.0.conv2" not in groups


def test_counts_by_hand():
    network = UNet(resolution=2, level_widths=[4], blocks_per_level=1, attention_levels=[], norm_groups=2)
    time = (4 * 16 + 16) + (16 * 16 + 16)
    edges = (3 * 4 * 9 + 4) + (4 * 3 * 9 + 3) + 8
    block = 8 + (4 * 4 * 9 + 4) + (16 * 4 + 4) + 8 + (4 * 4 * 9 + 4)
    up = 16 + (8 * 4 * 9 + 4) + (16 * 4 + 4) + 8 + (4 * 4 * 9 + 4) + (8 * 4 + 4)
    attention = 8 + 4 * (4 * 4 + 4)
    counted = limbeck.profile(network)
    assert counted.num_parameters == time + edges + 3 * block + 2 * up + attention
    projections = 5 * (16 * 4 + 4)
    assert counted.macs == time + projections + 4 * (counted.num_parameters - time - projections)


# -- an independent network -------------------------------------------------------------------------------------------

OTHER = {
    "resolution": 16,
    "level_widths": [32, 64, 96],
    "blocks_per_level": 1,
    "attention_levels": [0, 2],
    "head_width": 8,
    "norm_groups": 8,
    "norm_eps": 1e-5,
    "down_padding": 1,
    "time_shift": 0.0,
    "cosine_first": True,
}


def of_diffusers(arguments):
    """diffusers' own network for these arguments."""
    imported("torchvision")
    diffusers = pytest.importorskip("diffusers")
    attending = [index in arguments["attention_levels"] for index in range(len(arguments["level_widths"]))]
    return diffusers.UNet2DModel(
        sample_size=arguments["resolution"],
        block_out_channels=arguments["level_widths"],
        down_block_types=["AttnDownBlock2D" if attends else "DownBlock2D" for attends in attending],
        up_block_types=["AttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attending)],
        layers_per_block=arguments["blocks_per_level"],
        attention_head_dim=arguments["head_width"],
        norm_num_groups=arguments["norm_groups"],
        norm_eps=arguments["norm_eps"],
        downsample_padding=arguments["down_padding"],
        flip_sin_to_cos=arguments["cosine_first"],
        freq_shift=arguments["time_shift"],
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", [{}, OTHER])
@torch.no_grad()
def test_same_estimates_as_diffusers(settings):
    network = UNet(**settings)
    theirs = noisy(of_diffusers(network.arguments))
    network.load_state_dict(theirs.state_dict())
    image, timestep = torch.randn(2, 3, network.resolution, network.resolution), torch.tensor([3, 712])
    expected = theirs(image, timestep).sample
    torch.testing.assert_close(network.eval()(image, timestep), expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1


# -- parts by hand ----------------------------------------------------------------------------------------------------


def test_sinusoids_by_hand():
    waves = sinusoids(torch.tensor([0, 2]), 4, shift=1.0, cosine_first=False)
    torch.testing.assert_close(waves[0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    expected = [math.sin(2), math.sin(2e-4), math.cos(2), math.cos(2e-4)]
    torch.testing.assert_close(waves[1], torch.tensor(expected))
    other = sinusoids(torch.tensor([2]), 5, shift=0.0, cosine_first=True)
    expected = [math.cos(2), math.cos(2e-2), math.sin(2), math.sin(2e-2), 0.0]
    torch.testing.assert_close(other[0], torch.tensor(expected))


def plan(**changes):
    settings = {"widths": {}, "norm_groups": 2, "norm_eps": 1e-6, "dropout": 0.0, "head_width": None}
    return Plan(**(settings | {"down_padding": 0, "time": fixed(5)} | changes))


@torch.no_grad()
@pytest.mark.parametrize(("head_width", "num_heads"), [(None, 1), (2, 3)])
def test_attention_written_out(head_width, num_heads):
    layer = noisy(Attention(plan(head_width=head_width), "a", fixed(6), side=2))
    image = torch.randn(1, 6, 2, 3)
    tokens = layer.group_norm(image)[0].flatten(1).T
    query, key, value = (part(tokens) for part in (layer.to_q, layer.to_k, layer.to_v))
    mixed = torch.empty(6, 6)
    for head in range(num_heads):
        own = slice(head * 6 // num_heads, (head + 1) * 6 // num_heads)
        logits = query[:, own] @ key[:, own].T / math.sqrt(6 // num_heads)
        mixed[:, own] = logits.exp() / logits.exp().sum(dim=1, keepdim=True) @ value[:, own]
    expected = image + layer.to_out[0](mixed).T.reshape(1, 6, 2, 3)
    torch.testing.assert_close(layer(image), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_residual_block_written_out():
    block = noisy(ResidualBlock(plan(), "b", [fixed(4), fixed(2)], 8, side=4))
    image, time = torch.randn(2, 6, 4, 4), torch.randn(2, 5)
    state = block.state_dict()

    def normal(x, name):
        groups = x.reshape(2, 2, -1)
        groups = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, keepdim=True, unbiased=False) + 1e-6).sqrt()
        weight, bias = (state[f"{name}.{kind}"][:, None, None] for kind in ("weight", "bias"))
        return groups.reshape(x.shape) * weight + bias

    def swish(x):
        return x / (1 + (-x).exp())

    inner = F.conv2d(swish(normal(image, "norm1")), state["conv1.weight"], state["conv1.bias"], padding=1)
    inner = inner + (time @ state["time_emb_proj.weight"].T + state["time_emb_proj.bias"])[:, :, None, None]
    change = F.conv2d(swish(normal(inner, "norm2")), state["conv2.weight"], state["conv2.bias"], padding=1)
    shortcut = F.conv2d(image, state["conv_shortcut.weight"], state["conv_shortcut.bias"])
    torch.testing.assert_close(block(image, time), shortcut + change, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_features_and_time_steps():
    network = noisy(UNet(**SMALL))
    image = torch.randn(2, 3, 8, 8)
    estimate = network(image, torch.tensor([5, 5]))
    assert torch.equal(network(image, 5), estimate)
    assert torch.equal(network(image, torch.tensor(5)), estimate)
    assert not torch.allclose(network(image, 6), estimate)
    again, features = network(image, 5, return_features=["up_blocks.0", "mid_block"])
    assert torch.equal(again, estimate)
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        "up_blocks.0": (2, 16, 8, 8),
        "mid_block": (2, 16, 4, 4),
    }
    whole = network(torch.randn(2, 3, 12, 16), 5)
    assert whole.shape == (2, 3, 12, 16)


def test_gradients_are_the_same_with_activations_in_place_or_not():
    network = noisy(UNet(**SMALL))
    image = torch.randn(1, 3, 8, 8)
    estimate = network(image, 3)
    with torch.no_grad():
        torch.testing.assert_close(network(image, 3), estimate)
    estimate.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@torch.no_grad()
def test_half_precision():
    network = noisy(UNet(**SMALL))
    image = torch.randn(2, 3, 8, 8)
    expected = network(image, 3)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(image, 3)
    whole = network.bfloat16()(image, 3)
    for estimate in (mixed, whole):
        assert estimate.dtype == torch.float32
        assert (estimate - expected).abs().max() < 0.1 * expected.abs().max()


# -- pruning ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_keeping_all_is_bit_identical_and_pruned_networks_come_back_from_their_file(tmp_path):
    network = noisy(UNet(**SMALL))
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(slim(network, {})(image, 9), network(image, 9))
    for ratio in (0.3, 0.5, 0.7):
        student = limbeck.prune(limbeck.Model(network), "random", ratio=ratio)
        again = limbeck.load(limbeck.save(student, tmp_path / "student.safetensors"))
        assert again.generator.arguments == student.generator.arguments
        assert torch.equal(again.generator(image, 9), student.generator(image, 9))
        assert again.generator(image, 9).shape == image.shape
        norms = [module for module in again.generator.modules() if isinstance(module, torch.nn.GroupNorm)]
        assert {norm.num_groups for norm in norms} == {4}


@torch.no_grad()
def test_slimmed_attention_equals_masked_after_gain_correction():
    network = noisy(UNet(**SMALL, head_width=4))
    names = [group.name for group in network.channel_groups() if group.name.endswith(".to_q")]
    assert len(names) == 1 + 1 + 2
    keep = {name: torch.tensor([0, 2, 5, 6, 8, 9, 12, 15]) for name in names}
    state = network.state_dict()
    for name in names:
        gone = [index for index in range(16) if index not in keep[name].tolist()]
        for layer in ("to_q", "to_k", "to_v"):
            for kind in ("weight", "bias"):
                state[f"{name.removesuffix('to_q')}{layer}.{kind}"][gone] = 0
    image = torch.randn(1, 3, 8, 8)
    expected = network(image, 9)
    torch.testing.assert_close(slim(network, keep, correct_gain=True)(image, 9), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(slim(network, keep)(image, 9), expected, rtol=1e-3, atol=1e-3)


def test_refined_are_all_layers_but_norms():
    with torch.device("meta"):
        names = UNet().refinable()
        whole = {name for name, _ in UNet().named_parameters()}
    assert (len(names.weights), len(names.biases), len(names.norm_weights), len(names.norm_biases)) == (
        113,
        113,
        51,
        51,
    )
    assert {*names.weights, *names.biases, *names.norm_weights, *names.norm_biases} == whole
    assert all("norm" in name for name in (*names.norm_weights, *names.norm_biases))


@torch.no_grad()
def test_svs_resets_the_norms():
    model = limbeck.Model(noisy(UNet(**SMALL)))
    refined = limbeck.initializers.svs(model).generator
    for name, value in refined.state_dict().items():
        if "norm" in name:
            assert torch.equal(value, torch.full_like(value, float(name.endswith("weight")))), name
    before = torch.linalg.svdvals(model.generator.conv_in.weight.flatten(1))
    after = torch.linalg.svdvals(refined.conv_in.weight.flatten(1))
    torch.testing.assert_close(after, before.sqrt())
    bias = model.generator.conv_out.bias
    torch.testing.assert_close(refined.conv_out.bias.norm(), bias.norm().sqrt())


# -- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 9}, "resolution=9: must be a multiple of 2"),
        ({"level_widths": []}, r"level_widths=\[\]"),
        (
            {"level_widths": [8, 18]},
            r"width 18 of 'down_blocks.1.resnets.0.conv\d': must be a multiple of norm_groups=4",
        ),
        ({"attention_levels": [2]}, r"attention_levels=\[2\]: must be within 0..1"),
        ({"attention_levels": [1], "head_width": 3}, "head_width=3: must divide"),
        ({"down_padding": 2}, "down_padding=2: must be 0 or 1"),
        ({"widths": {"conv_in": 6}}, "width 6 of 'conv_in'"),
        ({"widths": {"conv_on": 8}}, r"widths\['conv_on'\]: no such channel group"),
        ({"widths": {"time_embedding.linear_1": 0}}, r"widths\['time_embedding.linear_1'\]=0"),
        ({"beta_schedule": "square"}, "beta_schedule='square': must be one of linear"),
    ],
)
def test_impossible_networks_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        UNet(**(SMALL | changes))


@pytest.mark.parametrize(
    ("image", "timestep", "message"),
    [
        (torch.zeros(1, 1, 8, 8), 0, r"noisy_image: shape \(1, 1, 8, 8\), expected \[n, 3, h, w\]"),
        (torch.zeros(1, 3, 7, 8), 0, "noisy_image"),
        (torch.zeros(3, 3, 8, 8), torch.zeros(2), r"timestep: shape \(2,\), expected \[3\]"),
    ],
)
def test_wrong_inputs_are_refused(image, timestep, message):
    with pytest.raises(UserError, match=message):
        UNet(**SMALL)(image, timestep)


def test_unknown_feature():
    with pytest.raises(UserError, match=r"'side' unknown; allowed: down_blocks\.0, down_blocks\.1, mid_block"):
        UNet(**SMALL)(torch.zeros(1, 3, 8, 8), 0, return_features=["side"])


def test_block_names_are_those_that_can_be_returned():
    network = noisy(UNet(**SMALL))
    assert network.block_names == ("down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1")
    _, features = network(**network.example_inputs(2), return_features=network.block_names)
    assert tuple(features) == network.block_names
