"""Translation and super-resolution networks: published costs, modes, exact slimming, refused input."""

import pytest
import torch

import limbeck
from limbeck.architectures.patchgan import PatchGAN
from limbeck.architectures.srgan import Discriminator as SuperResolutionDiscriminator
from limbeck.architectures.srgan import Generator as SuperResolution
from limbeck.architectures.stargan import Discriminator as StarDiscriminator
from limbeck.architectures.stargan import Generator as StarGAN
from limbeck.architectures.translation_resnet import ResNet
from limbeck.architectures.translation_unet import UNet
from limbeck.pruning.slimming import slim

GENERATORS = {
    "unet": lambda: UNet(width=4, num_levels=5),
    "resnet": lambda: ResNet(resolution=16, width=4, num_blocks=2),
    "stargan": lambda: StarGAN(resolution=16, num_classes=2, width=4, num_blocks=2),
    "srgan_tanh": lambda: SuperResolution(resolution=32, width=6, num_blocks=2, output="tanh", bias=True),
    "srgan_clamp": lambda: SuperResolution(resolution=32, width=6, num_blocks=2),
}
# Parameters and MACs: whole, at ratio 0.5, at 0.5 with the trunk kept whole. Counted independently of this code.
COSTS = {
    "unet_256": (
        lambda: UNet(),
        [(54_413_955, 6_048_186_368), (13_608_259, 1_549_795_328)],
    ),
    "unet_128": (
        lambda: UNet(num_levels=7),
        [(41_828_995, 1_505_755_136), (10_461_507, 385_875_968)],
    ),
    "resnet_9": (
        lambda: ResNet(),
        [(11_378_179, 49_551_507_456), (2_850_563, 12_696_158_208), (5_653_507, 24_171_773_952)],
    ),
    "resnet_6": (
        lambda: ResNet(num_blocks=6),
        [(7_837_699, 35_055_992_832), (1_965_059, 9_072_279_552), (3_882_883, 16_924_016_640)],
    ),
    "stargan": (
        lambda: StarGAN(),
        [(8_430_528, 9_960_423_424), (2_118_112, 2_631_401_472), (4_151_520, 4_711_776_256)],
    ),
    "srgan_leftthomas": (
        lambda: SuperResolution(num_blocks=5, output="tanh", bias=True),
        [(734_219, 5_763_760_128), (192_011, 1_711_669_248), (357_067, 2_385_248_256)],
    ),
    "srgan_lornatang": (
        lambda: SuperResolution(),
        [(1_547_350, 9_085_648_896), (395_830, 2_542_141_440), (764_150, 4_046_192_640)],
    ),
}
JUDGES = {
    "patchgan": (lambda: PatchGAN(), 2_764_737),
    "patchgan_pairs": (lambda: PatchGAN(in_channels=6, norm="batch"), 2_768_705),
    "stargan": (lambda: StarDiscriminator(), 44_762_048),
    "srgan_leftthomas": (lambda: SuperResolutionDiscriminator(head="mean", bias=True), 5_215_425),
    "srgan_lornatang": (lambda: SuperResolutionDiscriminator(), 23_563_649),
}


def halved(network, kept=()):
    return network.resized({g.name: -(-g.size // 2) for g in network.channel_groups() if g.name not in kept})


@pytest.mark.parametrize("name", COSTS)
def test_published_costs(name):
    make, expected = COSTS[name]
    with torch.device("meta"):
        whole = make()
        networks = [whole, halved(whole), halved(whole, kept=("trunk",))]
        found = [limbeck.profile(network) for network in networks[: len(expected)]]
    assert [(profile.num_parameters, profile.macs) for profile in found] == expected


@pytest.mark.parametrize("name", JUDGES)
def test_published_sizes_of_the_discriminators(name):
    make, expected = JUDGES[name]
    with torch.device("meta"):
        assert limbeck.profile(make()).num_parameters == expected


def test_a_transposed_convolution_counts_at_its_input():
    network = ResNet(resolution=8, in_channels=1, num_channels=1, width=1, num_blocks=1)
    stem, down1, down2, block, up1, up2, last = (
        49 * 64,
        2 * 9 * 16,
        8 * 9 * 4,
        2 * 16 * 9 * 4,
        8 * 9 * 4,
        2 * 9 * 16,
        49 * 64,
    )
    assert network.macs() == stem + down1 + down2 + block + up1 + up2 + last


def test_half_the_channels_at_ratio_half_and_the_trunk_by_name():
    model = limbeck.Model(GENERATORS["resnet"]())
    whole, kept = (limbeck.prune(model, "l1", ratio=0.5, keep_groups=keep) for keep in ([], ["trunk"]))
    inner = {"blocks.0.inner": 8, "blocks.1.inner": 8}
    assert whole.generator.widths == {"stem": 2, "down1": 4, "trunk": 8, **inner, "up1": 4, "up2": 2}
    assert kept.generator.widths == {**whole.generator.widths, "trunk": 16}
    assert kept.history[-1]["kept_groups"] == ["trunk"]
    only = limbeck.prune(model, "l1", ratio=0.5, groups=["inner"]).generator.widths
    assert only == {**model.generator.widths, **inner}


def trained_looking(network):
    """Every norm with statistics and weights of its own, so that nothing is 0 or 1 by accident."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim == 1 and len(tensor) > 1:
                tensor.add_(0.3 * torch.rand_like(tensor) if name.endswith("var") else 0.3 * torch.randn_like(tensor))
    return network.eval()


def inputs_of(network, num_images=2):
    drawn = {name: torch.rand_like(value) * 2 - 1 for name, value in network.example_inputs(num_images).items()}
    return drawn | ({"label": drawn["label"].sign().relu()} if "label" in drawn else {})


def without(network, dead):
    """Zero wherever the dead channels of each group stand."""
    state = network.state_dict()
    for group in network.channel_groups():
        for axis in group.axes:
            for channel in dead[group.name].tolist():
                start = axis.offset + channel * axis.repeat
                state[axis.parameter].narrow(axis.dim, start, axis.repeat).zero_()
    return network


@torch.no_grad()
@pytest.mark.parametrize("name", GENERATORS)
def test_dead_channels_go_and_the_image_stays(name):
    network = trained_looking(GENERATORS[name]())
    dead = {g.name: torch.randperm(g.size)[: g.size // 2].sort().values for g in network.channel_groups()}
    without(network, dead)
    student = limbeck.prune(limbeck.Model(network), "l1", ratio=0.5).generator
    inputs = inputs_of(network)
    image = network(**inputs)
    assert image.std() > 0.01
    torch.testing.assert_close(student(**inputs), image, rtol=0, atol=2e-6)
    alive = {g.name: sorted(set(range(g.size)) - set(dead[g.name].tolist())) for g in network.channel_groups()}
    expected = slim(network, {group: torch.tensor(indices) for group, indices in alive.items()}).state_dict()
    for key, value in student.state_dict().items():
        assert torch.equal(value, expected[key]), key


@torch.no_grad()
@pytest.mark.parametrize("name", GENERATORS)
def test_native_round_trip_is_bit_equal(tmp_path, name):
    student = limbeck.prune(limbeck.Model(trained_looking(GENERATORS[name]())), "random", ratio=0.3)
    again = limbeck.load(limbeck.save(student, tmp_path / "a.safetensors"))
    inputs = inputs_of(student.generator)
    assert again.generator.arguments == student.generator.arguments
    assert torch.equal(again.generator(**inputs), student.generator(**inputs))


@torch.no_grad()
@pytest.mark.parametrize("name", GENERATORS)
def test_an_image_does_not_depend_on_the_others_in_evaluation(name):
    network = trained_looking(GENERATORS[name]())
    inputs = inputs_of(network, 3)
    alone = {key: value[:1] for key, value in inputs.items()}
    torch.testing.assert_close(network(**inputs)[:1], network(**alone), rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_unet_is_noisy_in_training_mode_only():
    network = UNet(width=4, num_levels=7)
    image = torch.randn(1, 3, 128, 128)
    statistics = network.up["7"].norm.running_mean.clone()
    assert not torch.equal(network.train()(image), network(image))
    assert not torch.equal(network.up["7"].norm.running_mean, statistics)
    assert torch.equal(network.eval()(image), network(image))
    silent = UNet(width=4, num_levels=7, dropout=0.0)
    silent.load_state_dict(network.state_dict())
    assert torch.equal(silent.eval()(image), network(image))
    assert torch.equal(silent.train()(image), silent(image))  # batch statistics alone are no noise


@torch.no_grad()
@pytest.mark.parametrize(("num_levels", "noisy"), [(5, 0), (6, 1), (8, 3)])
def test_dropout_stands_on_the_levels_between(monkeypatch, num_levels, noisy):
    shapes = []
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, p, training: shapes.append(x.shape[2]) or x)
    UNet(width=1, num_levels=num_levels)(torch.zeros(2, 3, 2**num_levels, 2**num_levels))
    assert shapes == [4 * 2**index for index in range(noisy)]


@torch.no_grad()
def test_stargan_draws_with_the_image_s_own_statistics_in_both_modes():
    network = trained_looking(GENERATORS["stargan"]())
    inputs, before = inputs_of(network), {k: v.clone() for k, v in network.state_dict().items()}
    image = network(**inputs)
    assert torch.equal(network.train()(**inputs), image)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
        if key.endswith(("running_mean", "running_var")):
            value.add_(1.0)
    assert torch.equal(network.eval()(**inputs), image)


@torch.no_grad()
def test_labels_choose_the_image_and_are_checked():
    network = trained_looking(GENERATORS["stargan"]())
    image = torch.randn(2, 3, 16, 16)
    one, other = (network(image, torch.tensor([row, row])) for row in ([0.0, 1.0], [1.0, 0.0]))
    assert (one - other).abs().max() > 1e-3
    for wrong in (torch.zeros(2, 3), torch.zeros(1, 2), torch.zeros(2), None):
        with pytest.raises(ValueError, match=r"label: shape .*, expected \[2, 2\]"):
            network(image, wrong)


@torch.no_grad()
def test_discriminators_answer_in_their_own_shapes():
    image = torch.randn(2, 3, 64, 64)
    assert PatchGAN(width=2)(torch.randn(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    assert PatchGAN(width=2, num_layers=0)(image).shape == (2, 1, 64, 64)
    pairs = PatchGAN(width=2, in_channels=6, norm="batch").eval()
    source = torch.randn(2, 3, 64, 64)
    assert torch.equal(pairs(image, source), pairs(torch.cat([source, image], dim=1)))
    with pytest.raises(limbeck.UserError, match=r"image: shape \(2, 3, 64, 64\), expected \[n, 6, h, w\]"):
        pairs(image)
    realness, classes = StarDiscriminator(resolution=64, num_classes=3, width=2, num_layers=5)(image)
    assert (realness.shape, classes.shape) == ((2, 1, 2, 2), (2, 3))
    assert SuperResolutionDiscriminator(resolution=96, width=2, head="mean")(image).shape == (2,)
    with pytest.raises(limbeck.UserError, match="expected sides of 96"):
        SuperResolutionDiscriminator(resolution=96, width=2)(image)


@torch.no_grad()
def test_sizes_other_than_the_published_one():
    assert GENERATORS["resnet"]()(torch.zeros(1, 3, 20, 28)).shape == (1, 3, 20, 28)
    assert GENERATORS["unet"]()(torch.zeros(1, 3, 64, 32)).shape == (1, 3, 64, 32)
    assert GENERATORS["srgan_tanh"]()(torch.zeros(1, 3, 5, 7)).shape == (1, 3, 20, 28)
    with pytest.raises(limbeck.UserError, match=r"image: shape .*h and w multiples of 4"):
        GENERATORS["resnet"]()(torch.zeros(1, 3, 18, 16))
    with pytest.raises(limbeck.UserError, match=r"image: shape .*h and w multiples of 32"):
        GENERATORS["unet"]()(torch.zeros(1, 3, 48, 32))


def test_super_resolution_stays_in_range():
    network = trained_looking(GENERATORS["srgan_clamp"]())
    image = torch.randn(2, 3, 8, 8)
    for offset, extreme in ((-9.0, -1), (9.0, 1)):
        network.tail.conv.bias.data.fill_(offset)
        assert (network(image) == extreme).all()
    network.tail.conv.weight.data.zero_()
    network.tail.conv.bias.data.fill_(0.75)
    assert (network(image) == 0.5).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet(widths={"block9": 4}), r"widths\['block9'\]: no such channel group; groups: stem, down1"),
        (lambda: ResNet(widths={"stem": 0}), r"widths\['stem'\]=0"),
        (lambda: ResNet(norm="layer"), "norm='layer'"),
        (lambda: ResNet(dropout=1.0), "dropout=1.0"),
        (lambda: UNet(num_levels=4), "num_levels=4: must be from 5 to 12"),
        (lambda: UNet(num_levels=6, resolution=32), "resolution=32: must be a multiple of 64"),
        (lambda: PatchGAN(num_layers=-1), "num_layers=-1"),
        (lambda: StarGAN(num_classes=0), "num_classes=0"),
        (lambda: SuperResolution(output="sigmoid"), "output='sigmoid'"),
        (lambda: SuperResolution(resolution=30), "resolution=30: must be a multiple of 4"),
        (lambda: SuperResolutionDiscriminator(head="max"), "head='max'"),
    ],
)
def test_impossible_networks_are_named(make, message):
    with pytest.raises(limbeck.UserError, match=message):
        make()


def test_scaling_the_singular_values_of_a_transposed_convolution_works_on_its_outputs():
    network = GENERATORS["resnet"]()
    scaled = limbeck.initializers.svs(limbeck.Model(network)).generator
    for name in ("up1.conv.weight", "down1.conv.weight"):
        before, after = network.get_parameter(name), scaled.get_parameter(name)
        if name.startswith("up"):
            before, after = before.transpose(0, 1), after.transpose(0, 1)
        values = torch.linalg.svdvals(before.detach().flatten(1))
        torch.testing.assert_close(torch.linalg.svdvals(after.detach().flatten(1)), values.sqrt(), rtol=1e-4, atol=1e-6)
