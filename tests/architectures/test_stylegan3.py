"""StyleGAN3 against a slow reference written from the paper's facts, and its exact counts."""

import pytest
import torch

from limbeck.architectures.stylegan2 import Discriminator
from limbeck.architectures.stylegan3 import Generator, bands, standard_widths
from limbeck.errors import UserError
from limbeck.functional.alias_free import filter_macs
from limbeck.profiling import profile
from limbeck.pruning.allocation import Uniform, allocated
from limbeck.pruning.slimming import slim

from . import stylegan3_reference as reference

CONFIGURATIONS = {"T": {"kernel": 3, "radial": False}, "R": {"kernel": 1, "radial": True}}
TURN = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def noisy(network):
    """Every parameter random, and magnitudes that differ, so that no term is invisible."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("magnitude_ema"):
                tensor.copy_(torch.rand([]) + 0.5)
            elif name.startswith("synthesis.input.affine"):
                tensor.add_(torch.randn_like(tensor) * 0.1)
            elif not name.endswith(("freqs", "phases", "transform")):
                # Larger biases would leave deep networks without contrast.
                size = 0.1 if name.endswith(".bias") and "affine" not in name else 1.0
                tensor.copy_(torch.randn_like(tensor) * size)
    return network.eval()


def small_generator(configuration="T", **changes):
    settings = {
        "resolution": 32,
        "widths": [6, 5, 7, 4, 6, 5, 8],
        "num_layers": 6,
        "num_frequencies": 9,
        "z_dim": 10,
        "w_dim": 12,
    }
    generator = noisy(Generator(**(CONFIGURATIONS[configuration] | settings | changes)))
    with torch.no_grad():
        for name, parameter in generator.mapping.named_parameters():
            parameter.mul_(100 if name.endswith("weight") else 10)
    return generator


# -- the plan and the counts ------------------------------------------------------------------------------------------


def test_the_published_table_at_256():
    plan = bands(256)
    assert [band.size for band in plan] == [36, 36, 36, 52, 52, 84, 84, 148, 148, 148, 276, 276, 276, 256, 256]
    assert [band.rate for band in plan] == [16, 16, 16, 32, 32, 64, 64, 128, 128, 128, 256, 256, 256, 256, 256]
    cutoffs = [2, 2.8284, 4, 5.6569, 8, 11.3137, 16, 22.6274, 32, 45.2548, 64, 90.5097, 128, 128, 128]
    halves = [6, 5.1716, 4, 10.3431, 8, 20.6863, 16, 41.3726, 32, 18.7452, 64, 37.4903, 29.5865, 29.5865, 29.5865]
    assert [band.cutoff for band in plan] == pytest.approx(cutoffs, abs=6e-5)
    assert [band.half_width for band in plan] == pytest.approx(halves, abs=6e-5)
    with torch.device("meta"):
        layers = [layer for _, layer in Generator(resolution=256).synthesis.named_children()][1:-1]
    assert [layer.crop for layer in layers] == [2, 2, 2, 29, 2, 29, 2, 29, 2, 2, 29, 2, 2, 22]
    assert [layer.temporary for layer in layers] == [82] * 3 + [114] * 2 + [178] * 2 + [306] * 3 + [562] * 3 + [522]


def test_rotation_equivariant_layers_crop_nothing_but_where_the_rate_doubles():
    with torch.device("meta"):
        layers = [layer for _, layer in Generator(resolution=256, kernel=1).synthesis.named_children()][1:-1]
    assert [layer.crop for layer in layers] == [0, 0, 0, 25, 0, 25, 0, 25, 0, 0, 25, 0, 0, 20]


@pytest.mark.parametrize(
    ("resolution", "base", "widths", "sizes"),
    [
        (256, (16384, 512), [512] * 7 + [362, 256, 181, 128, 91, 64, 64], None),
        (256, (32768, 1024), [1024] * 7 + [724, 512, 362, 256, 181, 128, 128], None),
        (512, (65536, 1024), [1024] * 7 + [967, 645, 431, 287, 192, 128, 128], [532, 532, 532, 512, 512]),
        (512, (32768, 512), [512] * 7 + [483, 323, 215, 144, 96, 64, 64], [532, 532, 532, 512, 512]),
        (1024, (32768, 512), [512] * 7 + [323, 203, 128, 81, 51, 32, 32], [1044, 1044, 1044, 1024, 1024]),
        (1024, (65536, 1024), [1024] * 7 + [645, 406, 256, 161, 102, 64, 64], [1044, 1044, 1044, 1024, 1024]),
    ],
)
def test_published_widths(resolution, base, widths, sizes):
    plan = bands(resolution)
    assert standard_widths(plan, *base)[1:] == widths
    assert sizes is None or [band.size for band in plan][-5:] == sizes


def full_size(configuration, resolution, base):
    doubled = 2 if configuration == "R" else 1
    settings = {"channel_base": base * doubled, "channel_max": 512 * doubled}
    return Generator(resolution=resolution, **settings, **CONFIGURATIONS[configuration])


@pytest.mark.parametrize(
    ("configuration", "resolution", "base", "ratio", "num_parameters", "macs", "filters"),
    [
        ("T", 256, 16384, 0, 23_320_443, 100_519_876_608, 4.04),
        ("T", 256, 16384, 0.5, 6_962_879, 25_167_281_664, 2.02),
        ("T", 256, 16384, 0.7, 3_179_876, 9_008_296_112, 1.20),
        ("T", 256, 16384, 0.8, 1_901_623, 4_008_533_472, 0.79),
        ("T", 256, 16384, 0.9, 1_016_989, 1_009_989_360, 0.39),
        ("T", 256, 32768, 0, 28_472_133, 224_021_061_120, 6.83),
        ("T", 256, 32768, 0.7, 3_740_597, 20_015_891_024, 2.04),
        ("T", 256, 32768, 0.8, 2_183_387, 8_913_837_776, 1.36),
        ("R", 256, 16384, 0, 15_779_565, 45_878_248_960, 17.94),
        ("R", 256, 16384, 0.7, 3_247_397, 4_398_298_096, 5.36),
        ("R", 256, 16384, 0.8, 2_158_605, 2_038_003_472, 3.57),
        ("R", 256, 32768, 0, 18_816_387, 100_817_232_896, 29.84),
        ("R", 256, 32768, 0.7, 3_722_025, 9_327_975_952, 8.93),
        ("T", 512, 32768, 0, 24_873_519, 265_258_007_520, 12.59),
        ("T", 512, 32768, 0.7, 3_343_433, 23_558_426_624, 3.74),
        ("R", 512, 32768, 0, 16_665_594, 119_149_904_496, 55.63),
        ("R", 512, 32768, 0.7, 3_380_306, 10_972_525_920, 16.62),
        ("T", 1024, 32768, 0, 22_313_167, 279_055_619_648, 22.32),
        ("T", 1024, 32768, 0.7, 3_056_438, 24_571_847_024, 6.54),
        ("T", 1024, 32768, 0.8, 1_836_917, 10_927_406_912, 4.35),
        ("R", 1024, 32768, 0, 15_093_151, 125_156_512_576, 98.31),
        ("R", 1024, 32768, 0.7, 3_121_515, 11_468_818_720, 29.23),
    ],
)
def test_published_counts(configuration, resolution, base, ratio, num_parameters, macs, filters):
    with torch.device("meta"):
        full = full_size(configuration, resolution, base)
        scores = {group.name: torch.arange(group.size, device="cpu") for group in full.channel_groups()}
        keep = allocated(full, scores, Uniform(), ratio=float(ratio))
        counted = full.resized({name: len(kept) for name, kept in keep.items()})
    found = profile(counted)
    assert (found.num_parameters, found.macs) == (num_parameters, macs)
    assert round(found.filter_macs / 1e9, 2) == filters


@pytest.mark.parametrize(("base", "num_parameters"), [(16384, 24_001_089), (32768, 28_864_129)])
def test_the_discriminator_is_stylegan2_s(base, num_parameters):
    with torch.device("meta"):
        assert profile(Discriminator(resolution=256, channel_base=base, clamp=256.0)).num_parameters == num_parameters


def test_narrow_groups_keep_three_channels_or_all():
    generator = small_generator(widths=[20, 10, 9, 4, 3, 2, 1])
    scores = {group.name: torch.arange(group.size) for group in generator.channel_groups()}
    keep = allocated(generator, scores, Uniform(), ratio=0.7)
    assert [len(kept) for kept in keep.values()] == [6, 3, 3, 3, 3, 2, 1]


def test_settings_that_are_refused():
    for wrong, message in (
        ({"resolution": 48}, "resolution=48"),
        ({"widths": [8, 8]}, "expected 7 positive numbers"),
        ({"kernel": 2}, "kernel=2"),
        ({"num_critical": 6}, "num_critical=6"),
    ):
        with pytest.raises(UserError, match=message):
            small_generator(**wrong)


# -- the paper's layers, written out ----------------------------------------------------------------------------------


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@torch.no_grad()
def test_images_are_the_reference_s(configuration):
    generator = small_generator(configuration, clamp=0.25)
    styles = torch.randn(2, 8, 12)
    expected, _ = reference.image(generator, styles.double())
    assert expected.abs().max() == 0.0625  # the clamp is met
    assert expected.std() > 0.02
    torch.testing.assert_close(generator.synthesis(styles).double(), expected, rtol=0, atol=2e-5)
    for index in range(8):
        changed = styles.clone()
        changed[:, index] += 1
        assert not torch.allclose(generator.synthesis(changed).double(), expected, atol=5e-3), index


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@torch.no_grad()
def test_images_of_the_published_depth_under_transforms(configuration):
    generator = small_generator(configuration, widths=[12] * 15, num_layers=14, num_frequencies=20)
    latent = torch.randn(1, 10)
    style = generator.mapping(latent)[:, None].expand(-1, 16, -1)
    turned = torch.tensor([[0.8, -0.6, 0.1], [0.6, 0.8, -0.2], [0, 0, 1]])
    for transform in (None, turned, torch.diag(torch.tensor([3.0, 3.0, 1.0]))):  # the last one makes waves fade
        expected, _ = reference.image(generator, style.double(), transform)
        contrast = expected.std(dim=(2, 3)).max().item()
        assert contrast > 1e-3
        found = generator(latent, transform=transform).double()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * contrast)


@pytest.mark.slow
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@torch.no_grad()
def test_images_at_the_published_size(configuration):
    generator = small_generator(configuration, resolution=256, widths=[6] * 15, num_layers=14)
    style = generator.mapping(torch.randn(1, 10))[:, None].expand(-1, 16, -1)
    expected, _ = reference.image(generator, style.double())
    contrast = expected.std(dim=(2, 3)).max().item()
    torch.testing.assert_close(generator.synthesis(style).double(), expected, rtol=0, atol=1e-3 * contrast)
    if configuration == "R":
        separable = Generator(**generator.arguments | {"radial": False})
        separable.load_state_dict(generator.state_dict())
        assert (separable.synthesis(style).double() - expected).abs().max() > 4e-3 * contrast


def test_gradients_are_the_reference_s():
    generator = small_generator()
    styles = torch.randn(2, 8, 12).double().requires_grad_()
    weights = torch.randn(2, 3, 32, 32).double()
    state = {name: value.double() for name, value in generator.state_dict().items()}
    names = [name for name, _ in generator.named_parameters() if name.startswith("synthesis.L")]
    names.append("synthesis.input.weight")
    wanted = [styles, *(state[name].requires_grad_() for name in names)]
    drawn = reference.image_of(state, generator.arguments, styles)
    expected = torch.autograd.grad((drawn * weights).sum(), wanted)
    own = styles.detach().float().requires_grad_()
    parameters = [own, *(generator.get_parameter(name) for name in names)]
    found = torch.autograd.grad((generator.synthesis(own) * weights.float()).sum(), parameters)
    for index in range(8):  # the input's own style too, whose gradient is of another size
        largest = expected[0][:, index].abs().max().item()
        torch.testing.assert_close(found[0][:, index].double(), expected[0][:, index], rtol=0, atol=1e-4 * largest)
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


def test_second_derivatives_by_finite_differences():
    layer = small_generator("R").double().synthesis.L3
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    style = torch.randn(2, 12, dtype=torch.float64, requires_grad=True)
    layer.crop = 0  # so small a map would be cut away

    def activated(x, style):
        return layer(x, *layer.modulation(style), 256.0)

    assert torch.autograd.gradcheck(activated, (x, style))
    assert torch.autograd.gradgradcheck(activated, (x, style))


# -- equivariance without any reference -------------------------------------------------------------------------------


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@torch.no_grad()
def test_shifts_by_samples_of_every_layer_are_exact(configuration):
    # At 16 px every layer has the image's own rate, so a whole pixel is a whole sample everywhere.
    generator = small_generator(configuration, resolution=16)
    latent, shift = torch.randn(2, 10), torch.eye(3)
    shift[0, 2], shift[1, 2] = -3 / 16, 2 / 16
    before, after = generator(latent), generator(latent, transform=shift)
    assert before.std() > 0.03
    # Nearer to the border the zeros around the maps are felt, and they do not move.
    torch.testing.assert_close(after[:, :, 4:-6, 7:-4], before[:, :, 6:-4, 4:-7], rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_quarter_turn_is_exact_in_r_alone():
    generator = small_generator("R", widths=[12] * 15, num_layers=14, num_frequencies=20)
    latent = torch.randn(2, 10)
    image = generator(latent)
    torch.testing.assert_close(generator(latent, transform=TURN), image.rot90(1, (2, 3)), rtol=0, atol=1e-5)
    generator = small_generator("T", widths=[12] * 15, num_layers=14, num_frequencies=20)
    image = generator(latent)
    difference = (generator(latent, transform=TURN) - image.rot90(1, (2, 3))).abs().max()
    assert difference > 0.1 * image.std(dim=(2, 3)).max()


@torch.no_grad()
def test_the_stored_transform_is_the_default_one():
    generator = small_generator()
    latent = torch.randn(1, 10)
    expected = generator(latent, transform=TURN)
    assert not torch.allclose(expected, generator(latent), atol=1e-2)
    generator.synthesis.input.transform.copy_(TURN)
    assert torch.equal(generator(latent), expected)
    with pytest.raises(UserError, match=r"transform: shape \(2, 2\)"):
        generator(latent, transform=torch.eye(2))


# -- magnitudes, noise, batches, labels -------------------------------------------------------------------------------


def magnitudes(generator):
    return {name: value.clone() for name, value in generator.state_dict().items() if name.endswith("magnitude_ema")}


@torch.no_grad()
def test_magnitudes_move_before_they_are_used_and_only_if_asked():
    generator = small_generator(magnitude_beta=0.75).train()
    styles, before = torch.randn(3, 8, 12), magnitudes(generator)
    plain = generator.synthesis(styles)
    assert len(before) == 7
    assert magnitudes(generator) == before
    expected, state = reference.image(generator, styles.double(), update=0.75)
    moved = generator.synthesis(styles, update_magnitudes=True)
    torch.testing.assert_close(moved.double(), expected, rtol=0, atol=2e-5 * expected.abs().max().item())
    for name, value in magnitudes(generator).items():
        assert value != before[name]
        torch.testing.assert_close(value.double(), state[name], rtol=1e-5, atol=0)
    assert not torch.allclose(moved, plain, atol=1e-3)
    assert torch.equal(generator.synthesis(styles), moved)


@torch.no_grad()
def test_magnitudes_over_processes_and_other_decays():
    generator = small_generator()
    style, before = torch.randn(2, 12), magnitudes(generator)
    asked = []
    with generator.measuring(lambda value: asked.append(value) or torch.tensor(4.0), 0.5):
        generator.synthesis(style)
    assert len(asked) == 7
    for name, value in magnitudes(generator).items():
        torch.testing.assert_close(value, (before[name] + 4) / 2)
    generator.synthesis(style)
    assert len(asked) == 7


@torch.no_grad()
def test_noise_changes_nothing():
    generator, latent = small_generator(), torch.randn(2, 10)
    for noise in ("random", "const", "none"):
        assert torch.equal(generator(latent, noise=noise), generator(latent))
    with pytest.raises(UserError, match="noise='loud'"):
        generator(latent, noise="loud")


@torch.no_grad()
def test_an_image_alone_is_the_one_in_a_batch():
    generator, latent = small_generator(), torch.randn(3, 10)
    batch = generator(latent)
    for index in range(3):
        torch.testing.assert_close(generator(latent[index : index + 1])[0], batch[index], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_filter_of_zeros_gives_numbers():
    generator = small_generator()
    generator.synthesis.L2.weight[1].zero_()
    assert generator(torch.randn(1, 10)).isfinite().all()


@torch.no_grad()
def test_labels_and_truncation():
    generator, latent = small_generator(num_classes=3), torch.randn(2, 10)
    by_index = generator(latent, label=torch.tensor([0, 2]))
    assert torch.equal(by_index, generator(latent, label=torch.tensor([[1.0, 0, 0], [0, 0, 1]])))
    assert not torch.allclose(by_index, generator(latent, label=torch.tensor([1, 2])), atol=1e-2)
    label = torch.tensor([1, 1])
    average = generator.mapping.w_avg.normal_()
    expected = generator.synthesis(average.lerp(generator.mapping(latent, label), 0.3))
    torch.testing.assert_close(generator(latent, label=label, truncation=0.3), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_features_are_the_layers_outputs():
    generator, style = small_generator(), torch.randn(2, 12)
    image, features = generator.synthesis(style, return_features=(1, 4))
    assert torch.equal(image, generator.synthesis(style))
    assert {k: tuple(v.shape) for k, v in features.items()} == {1: (2, 7, 36, 36), 4: (2, 5, 52, 52)}
    alone = generator.synthesis.features(style, (1, 4))
    assert all(torch.equal(alone[k], features[k]) for k in features)
    assert generator.synthesis.style_weights(2) is generator.synthesis.L2.affine.weight


def test_the_mixed_precision_pass_is_close():
    generator, latent = small_generator(), torch.randn(2, 10)
    exact = generator(latent)
    with torch.autocast("cpu", torch.bfloat16):
        half = generator(latent)
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.1 * exact.abs().max()


# -- slices -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@torch.no_grad()
def test_sliced_is_masked_once_the_last_gain_is_corrected(configuration):
    generator, latent = small_generator(configuration, num_layers=14, widths=[8] * 15), torch.randn(2, 10)
    order = torch.Generator().manual_seed(3)
    keep = {g.name: torch.randperm(8, generator=order)[:4].sort().values for g in generator.channel_groups()}
    masked = generator.resized({})
    masked.load_state_dict(generator.state_dict())
    for group in generator.channel_groups():
        gone = torch.ones(8, dtype=torch.bool)
        gone[keep[group.name]] = False
        reading = next(axis for axis in group.axes if axis.role == "input")
        masked.get_parameter(reading.parameter)[:, gone] = 0
    expected = masked(latent)
    tolerance = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(slim(generator, keep, correct_gain=True)(latent), expected, rtol=0, atol=tolerance)
    as_published = slim(generator, keep)(latent)
    assert not torch.allclose(as_published, expected, atol=100 * tolerance)
    for name in ("freqs", "phases", "transform"):
        ours, theirs = (g.synthesis.input.get_buffer(name) for g in (slim(generator, keep), generator))
        assert torch.equal(ours, theirs)
    assert magnitudes(slim(generator, keep)) == magnitudes(generator)


@torch.no_grad()
def test_filter_macs_are_the_sum_of_the_layers():
    generator = small_generator(resolution=16, widths=[2, 3, 4], num_layers=2, num_critical=1)
    # 36 + 2 samples to 82 to 36, three channels; 36 + 2 to 42 to 16, four channels.
    by_hand = 3 * filter_macs(38, 82, 36, num_taps=12, radial=False)
    by_hand += 4 * filter_macs(38, 42, 16, num_taps=12, radial=False)
    assert generator.filter_macs() == by_hand
