"""StyleGAN2 against references written from the papers, and its exact counts."""

import math

import pytest
import torch
import torch.nn.functional as F

from limbeck.architectures.style_based import normalize_second_moment, one_hot
from limbeck.architectures.stylegan2 import (
    Discriminator,
    Generator,
    StyledConvolution,
    ToRGB,
    activated,
    block_resolutions,
    minibatch_deviation,
)
from limbeck.errors import UserError
from limbeck.profiling import profile
from limbeck.pruning.allocation import kept_count

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])


def noisy(network):
    """Every parameter random, biases and noise strengths too, so that no term is invisible."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return network


def small_generator(**changes):
    settings = {"resolution": 16, "widths": [6, 5, 7, 8, 4, 9], "z_dim": 10, "w_dim": 12, "mapping_depth": 2}
    generator = noisy(Generator(**(settings | changes))).eval()
    with torch.no_grad():
        for name, parameter in generator.mapping.named_parameters():
            parameter.mul_(100 if name.endswith("weight") else 10)
    return generator


# -- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resolution", "base", "ratio", "num_parameters", "macs"),
    [
        (256, 32768, 0.0, 30_034_338, 45_124_673_536),
        (256, 32768, 0.5, 10_206_434, 11_295_387_648),
        (256, 32768, 0.6, 7_661_682, 7_327_908_816),
        (256, 32768, 0.7, 5_573_364, 4_123_578_080),
        (256, 32768, 0.8, 3_955_202, 1_857_392_944),
        (256, 32768, 0.9, 2_798_888, 472_149_696),
        (256, 16384, 0.0, 24_767_458, 14_903_009_280),
        (256, 16384, 0.7, 4_959_947, 1_386_445_024),
        (256, 16384, 0.8, 3_636_512, 617_773_872),
        (1024, 32768, 0.0, 30_370_060, 74_266_894_336),
        (1024, 32768, 0.7, 5_647_891, 6_990_183_648),
        (1024, 32768, 0.8, 4_001_662, 3_164_876_592),
        (1024, 32768, 0.9, 2_822_155, 876_593_856),
    ],
)
def test_published_counts_of_the_generator(resolution, base, ratio, num_parameters, macs):
    with torch.device("meta"):
        full = Generator(resolution=resolution, channel_base=base)
        sizes = {group.name: kept_count(group.size, ratio) for group in full.channel_groups()}
        counted = profile(full.resized(sizes))
    assert (counted.num_parameters, counted.macs) == (num_parameters, macs)


def test_counts_of_the_toy_shape():
    counted = profile(Generator(resolution=16, widths=[8, 8, 8, 8, 4, 4]))
    assert (counted.num_parameters, counted.macs) == (2_132_370, 2_241_408)


@pytest.mark.parametrize(
    ("resolution", "base", "num_parameters"),
    [(256, 32768, 28_864_129), (256, 16384, 24_001_089), (1024, 32768, 29_012_513)],
)
def test_published_counts_of_the_discriminator(resolution, base, num_parameters):
    with torch.device("meta"):
        assert profile(Discriminator(resolution=resolution, channel_base=base)).num_parameters == num_parameters


def test_macs_of_the_discriminator_by_hand():
    discriminator = Discriminator(resolution=8, widths=[3, 5])
    by_hand = 3 * 3 * 64 + 9 * 3 * 3 * 64 + (9 * 3 * 5 + 3 * 5) * 16 + 9 * 6 * 5 * 16 + 5 * 16 * 5 + 5
    assert discriminator.macs() == by_hand


def test_resolutions_and_widths_that_are_refused():
    with pytest.raises(UserError, match="resolution=48"):
        Generator(resolution=48)
    with pytest.raises(UserError, match="expected 6 positive numbers"):
        Generator(resolution=16, widths=[8, 8])
    with pytest.raises(UserError, match="expected 3 positive numbers"):
        Discriminator(resolution=16, widths=[8, 8])


# -- the paper's layers, written out ----------------------------------------------------------------------------------


def grouped_convolution(x, weight, scale, *, demodulate, up):
    """Modulated convolution as in the paper: one weight per sample, demodulated, all samples as groups of one call."""
    n, i, h, w = x.shape
    o, _, k, _ = weight.shape
    per_sample = weight[None] * scale[:, None, :, None, None]
    if demodulate:
        per_sample = per_sample / torch.sqrt(per_sample.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, n * i, h, w)
    if not up:
        # One call per sample: torch 2.13's grouped 1x1 convolution gets some weight gradients wrong on a CPU.
        grouped = per_sample.reshape(n, o, i, k, k).unbind()
        slices = x.reshape(n, 1, i, h, w).unbind()
        y = torch.cat([F.conv2d(a, b, padding=k // 2) for a, b in zip(slices, grouped, strict=True)])
        return y.reshape(n, o, h, w)
    transposed = per_sample.transpose(1, 2).reshape(n * i, o, k, k)
    y = F.conv_transpose2d(x, transposed, stride=2, groups=n).reshape(n * o, 1, 2 * h + 1, 2 * w + 1)
    kernel = torch.outer(TAPS, TAPS) / TAPS.sum() ** 2 * 4
    return F.conv2d(F.pad(y, (1, 1, 1, 1)), kernel[None, None]).reshape(n, o, 2 * h, 2 * w)


def upsampled_image(image):
    """Zeros between the pixels, then the low-pass with gain 4, one channel at a time."""
    n, c, h, w = image.shape
    spread = torch.zeros(n * c, 1, 2 * h, 2 * w)
    spread[:, 0, ::2, ::2] = image.reshape(n * c, h, w)
    kernel = torch.outer(TAPS, TAPS) / TAPS.sum() ** 2 * 4
    return F.conv2d(F.pad(spread, (2, 1, 2, 1)), kernel[None, None]).reshape(n, c, 2 * h, 2 * w)


def reference_mapping(mapping, latent):
    x = latent / (latent.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for index in range(mapping.depth):
        layer = mapping.get_submodule(f"fc{index}")
        x = x @ (layer.weight * 0.01 / math.sqrt(x.shape[1])).T + layer.bias * 0.01
        x = torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)
    return x


def reference_affine(affine, style):
    return style @ (affine.weight / math.sqrt(style.shape[1])).T + affine.bias


def limited(x, limit):
    return x if limit is None else torch.minimum(torch.maximum(x, torch.tensor(-limit)), torch.tensor(limit))


def reference_layer(layer, x, style, noise, limit):
    y = grouped_convolution(x, layer.weight, reference_affine(layer.affine, style), demodulate=True, up=layer.up)
    if noise == "const":
        y = y + layer.noise_const * layer.noise_strength
    y = y + layer.bias[:, None, None]
    return limited(torch.where(y > 0, y, 0.2 * y) * math.sqrt(2), limit)


def reference_image(generator, styles, noise):
    """The skip generator, layer by layer; `styles` [n, num_styles, w_dim]."""
    synthesis, limit = generator.synthesis, generator.arguments["clamp"]
    x = synthesis.b4.const[None].repeat(len(styles), 1, 1, 1)
    image, index = None, 0
    for r in block_resolutions(generator.resolution):
        block = synthesis.get_submodule(f"b{r}")
        for name in ["conv1"] if r == 4 else ["conv0", "conv1"]:
            x = reference_layer(block.get_submodule(name), x, styles[:, index], noise, limit)
            index += 1
        scale = reference_affine(block.torgb.affine, styles[:, index]) / math.sqrt(x.shape[1])
        rgb = grouped_convolution(x, block.torgb.weight, scale, demodulate=False, up=False)
        rgb = limited(rgb + block.torgb.bias[:, None, None], limit)
        image = rgb if image is None else upsampled_image(image) + rgb
    return image


@pytest.mark.parametrize("noise", ["const", "none"])
@pytest.mark.parametrize("settings", [{}, {"kernels": [3, 1, 1]}, {"clamp": 0.5}])
@torch.no_grad()
def test_generator_equals_grouped_reference(noise, settings):
    generator = small_generator(**settings)
    latent = torch.randn(4, 10)
    style = reference_mapping(generator.mapping, latent)
    torch.testing.assert_close(generator.mapping(latent), style, rtol=1e-4, atol=1e-4)
    expected = reference_image(generator, style[:, None].repeat(1, 6, 1), noise)
    assert expected.std() > (0.3 if "clamp" in settings else 1)
    torch.testing.assert_close(generator(latent, noise=noise), expected, rtol=1e-4, atol=2e-4)


@torch.no_grad()
def test_one_style_per_layer():
    generator = small_generator()
    styles = torch.randn(3, generator.synthesis.num_styles, 12)
    expected = reference_image(generator, styles, "const")
    torch.testing.assert_close(generator.synthesis(styles), expected, rtol=1e-4, atol=2e-4)
    for index in range(generator.synthesis.num_styles):
        changed = styles.clone()
        changed[:, index] += 1
        assert not torch.allclose(generator.synthesis(changed), expected, atol=1e-2), index


def test_gradients_equal_those_of_the_reference():
    generator = small_generator()
    style = torch.randn(2, 6, 12)
    weights = torch.randn(2, 3, 16, 16)
    parameters = [p for name, p in generator.named_parameters() if name.startswith("synthesis")]
    ours = torch.autograd.grad((generator.synthesis(style) * weights).sum(), parameters)
    theirs = torch.autograd.grad((reference_image(generator, style, "const") * weights).sum(), parameters)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())


def test_second_derivatives_by_finite_differences():
    layer = noisy(StyledConvolution(3, 2, w_dim=4, resolution=4, up=True)).double()
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    style = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)

    def drawn(x, style):
        return layer(x, *layer.modulation(style), "const", None)

    assert torch.autograd.gradcheck(drawn, (x, style))
    assert torch.autograd.gradgradcheck(drawn, (x, style))


@torch.no_grad()
def test_features_are_the_block_outputs():
    generator = small_generator()
    style = generator.mapping(torch.randn(2, 10))
    image, features = generator.synthesis(style, return_features=(8, 16))
    assert {r: tuple(f.shape) for r, f in features.items()} == {8: (2, 8, 8, 8), 16: (2, 9, 16, 16)}
    torgb = generator.synthesis.b16.torgb
    last = torgb(features[16], torgb.modulation(style), None)
    without = image - last
    _, lower = generator.synthesis(style, return_features=(8,))
    torch.testing.assert_close(lower[8], features[8])
    generator.synthesis.b16.torgb.weight.zero_()
    generator.synthesis.b16.torgb.bias.zero_()
    torch.testing.assert_close(generator.synthesis(style), without, rtol=1e-4, atol=1e-4)


# -- noise, truncation, labels ----------------------------------------------------------------------------------------


@torch.no_grad()
def test_noise_modes():
    generator = small_generator()
    latent = torch.randn(2, 10)
    assert torch.equal(generator(latent), generator(latent, noise="const"))
    assert not torch.allclose(generator(latent, noise="random"), generator(latent, noise="random"), atol=1e-2)
    assert not torch.allclose(generator(latent, noise="none"), generator(latent), atol=1e-2)
    for module in generator.modules():
        if isinstance(module, StyledConvolution):
            module.noise_strength.zero_()
    for noise in ("const", "random"):
        torch.testing.assert_close(generator(latent, noise=noise), generator(latent, noise="none"))
    with pytest.raises(UserError, match="noise='loud'"):
        generator(latent, noise="loud")


@torch.no_grad()
def test_random_noise_has_the_strength_of_the_parameter():
    layer = StyledConvolution(1, 1, w_dim=2, resolution=64, up=False)
    layer.weight.zero_()
    layer.noise_strength.fill_(0.5)
    out = layer(torch.ones(4, 1, 64, 64), *layer.modulation(torch.randn(4, 2)), "random", None)
    drawn = torch.where(out > 0, out, out / 0.2) / math.sqrt(2)
    assert abs(drawn.std() - 0.5) < 0.02
    assert abs(drawn.mean()) < 0.02


@torch.no_grad()
def test_truncation_interpolates_towards_the_average_style():
    generator = small_generator()
    generator.mapping.w_avg.copy_(torch.randn(12))
    latent = torch.randn(2, 10)
    style, average = generator.mapping(latent), generator.mapping.w_avg
    torch.testing.assert_close(generator.mapping(latent, truncation=0.25), average + 0.25 * (style - average))
    expected = generator.synthesis(average[None].repeat(2, 1))
    torch.testing.assert_close(generator(latent, truncation=0.0), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_labels_as_indices_and_one_hot():
    generator = small_generator(num_classes=3)
    latent = torch.randn(2, 10)
    by_index = generator(latent, label=torch.tensor([0, 2]))
    by_row = generator(latent, label=torch.tensor([[1.0, 0, 0], [0, 0, 1]]))
    assert torch.equal(by_index, by_row)
    assert not torch.allclose(by_index, generator(latent, label=torch.tensor([1, 2])), atol=1e-2)
    with pytest.raises(UserError, match="label: missing"):
        generator(latent)
    with pytest.raises(UserError, match=r"0\.\.2"):
        generator(latent, label=torch.tensor([0, 3]))
    with pytest.raises(UserError, match="label: shape"):
        one_hot(torch.ones(2, 4), 3)


@torch.no_grad()
def test_conditional_mapping_by_hand():
    mapping = small_generator(num_classes=3).mapping
    latent, label = torch.randn(1, 10), torch.tensor([1])
    embedded = mapping.embed.weight[:, 1] / math.sqrt(3) + mapping.embed.bias
    joined = torch.cat([normalize_second_moment(latent), normalize_second_moment(embedded[None])], dim=1)
    for index in range(2):
        joined = F.leaky_relu(mapping.get_submodule(f"fc{index}")(joined), 0.2) * math.sqrt(2)
    torch.testing.assert_close(mapping(latent, label), joined)


def test_wrong_latent_is_named():
    with pytest.raises(UserError, match=r"latent: shape \(2, 7\), expected \[n, 10\]"):
        small_generator()(torch.randn(2, 7))


@torch.no_grad()
def test_clamp_limits_what_leaves_a_layer():
    """The limit acts after the gains: 256 means 256; the judge's residual branch carries sqrt(1/2), and so 181."""
    generator = small_generator(clamp=0.5)
    _, features = generator.synthesis(generator.mapping(torch.randn(2, 10)), return_features=(16,))
    assert features[16].max() == 0.5
    x = torch.tensor([1e6, 200.0, -1e6])
    assert activated(x.clone(), 256.0).tolist() == [256.0, 200.0, -256.0]
    main, limit = activated(x.clone(), 256.0, gain=math.sqrt(0.5)), 256 * math.sqrt(0.5)
    assert main.tolist() == pytest.approx([limit, limit, -limit])


# -- 16 bit -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_bfloat16_autocast_is_used_and_close():
    generator = small_generator(widths=[32, 32, 32, 32, 16, 16])
    latent = torch.randn(4, 10)
    exact = generator(latent)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image, features = generator.synthesis(generator.mapping(latent), return_features=(16,))
    assert features[16].dtype == torch.bfloat16
    assert image.dtype == torch.float32
    error = (image - exact).abs().max() / exact.abs().max()
    assert 1e-5 < error < 0.05


@torch.no_grad()
def test_discriminator_in_bfloat16():
    discriminator = Discriminator(resolution=16, widths=[16, 16, 16])
    image = torch.randn(4, 3, 16, 16)
    exact = discriminator(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = discriminator(image)
    assert logits.dtype == torch.float32
    assert 1e-6 < (logits - exact).abs().max() < 0.1


# -- discriminator ----------------------------------------------------------------------------------------------------


def convolve_slowly(x, weight, stride):
    """Cross-correlation without padding, one output pixel at a time."""
    n, _, h, w = x.shape
    o, _, k, _ = weight.shape
    rows, columns = (h - k) // stride + 1, (w - k) // stride + 1
    out = torch.zeros(n, o, rows, columns)
    for a in range(rows):
        for b in range(columns):
            patch = x[:, :, a * stride : a * stride + k, b * stride : b * stride + k]
            out[:, :, a, b] = torch.einsum("nikl,oikl->no", patch, weight)
    return out


def blur_slowly(x, padding):
    kernel = torch.outer(TAPS, TAPS) / TAPS.sum() ** 2
    channels = x.shape[1]
    weight = torch.zeros(channels, channels, 4, 4)
    for c in range(channels):
        weight[c, c] = kernel
    return convolve_slowly(F.pad(x, (padding,) * 4), weight, 1)


def reference_logits(d, image):
    """The residual discriminator from the paper, in plain loops."""
    scaled = lambda m: m.weight / math.sqrt(m.weight[0].numel())  # noqa: E731
    relu = lambda x: torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)  # noqa: E731
    convolved = lambda x: limited(relu(x), d.clamp)  # noqa: E731
    x = image
    for r in d.resolutions[:-1]:
        block = d.get_submodule(f"b{r}")
        if block.has_input:
            x = convolved(convolve_slowly(x, scaled(block.fromrgb), 1) + block.fromrgb.bias[:, None, None])
        y = convolved(convolve_slowly(F.pad(x, (1,) * 4), scaled(block.conv0), 1) + block.conv0.bias[:, None, None])
        y = convolve_slowly(blur_slowly(y, 2), scaled(block.conv1), 2)
        y = convolved(y + block.conv1.bias[:, None, None])
        skip = convolve_slowly(blur_slowly(x, 1)[:, :, ::2, ::2], scaled(block.skip), 1)
        x = (y + skip) / math.sqrt(2)
    x = deviation_slowly(x, d.b4.group_size)
    x = convolved(convolve_slowly(F.pad(x, (1,) * 4), scaled(d.b4.conv), 1) + d.b4.conv.bias[:, None, None])
    x = relu(x.flatten(1) @ scaled(d.b4.fc).T + d.b4.fc.bias)
    return (x @ scaled(d.b4.out).T + d.b4.out.bias)[:, 0]


def deviation_slowly(x, group_size):
    """NVIDIA's grouping: with n images and groups of g, image i is compared with i + n / g, i + 2 n / g, ..."""
    n, g = len(x), group_size
    extra = torch.zeros(n, 1, *x.shape[2:])
    for i in range(n):
        members = [j for j in range(n) if j % (n // g) == i % (n // g)]
        extra[i] = (x[members].var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
    return torch.cat([x, extra], dim=1)


@pytest.mark.parametrize("clamp", [None, 2.0])
@torch.no_grad()
def test_discriminator_equals_slow_reference(clamp):
    discriminator = noisy(Discriminator(resolution=16, widths=[4, 5, 6], group_size=2, clamp=clamp))
    image = torch.randn(6, 3, 16, 16)
    expected = reference_logits(discriminator, image)
    assert expected.std() > 0.01
    torch.testing.assert_close(discriminator(image), expected, rtol=1e-4, atol=1e-4)


def test_minibatch_deviation_by_hand():
    # Two images of one pixel: values 1 and 5 deviate by 2 from their mean.
    out = minibatch_deviation(torch.tensor([1.0, 5.0]).reshape(2, 1, 1, 1), group_size=4)
    torch.testing.assert_close(out[:, 1].flatten(), torch.tensor([2.0, 2.0]))
    # Groups of two among four: {0, 2} deviate by 1, {1, 3} by 3.
    out = minibatch_deviation(torch.tensor([0.0, 0.0, 2.0, 6.0]).reshape(4, 1, 1, 1), group_size=2)
    torch.testing.assert_close(out[:, 1].flatten(), torch.tensor([1.0, 3.0, 1.0, 3.0]))
    # Five images do not divide into fours: the largest smaller divisor is one, where nothing deviates.
    out = minibatch_deviation(torch.randn(5, 1, 1, 1), group_size=4)
    torch.testing.assert_close(out[:, 1].flatten(), torch.full([5], 1e-4))


@torch.no_grad()
def test_conditional_discriminator_projects_on_the_label():
    discriminator = noisy(Discriminator(resolution=8, widths=[4, 6], num_classes=3, mapping_depth=2))
    for name, parameter in discriminator.mapping.named_parameters():
        parameter.mul_(100 if name.startswith("fc") else 1)
    image = torch.randn(2, 3, 8, 8)
    zero, one = (discriminator(image, torch.tensor([c, c])) for c in (0, 1))
    assert zero.shape == (2,)
    assert not torch.allclose(zero, one, atol=1e-2)
    with pytest.raises(UserError, match="label: missing"):
        discriminator(image)


def test_wrong_image_is_named():
    with pytest.raises(UserError, match=r"image: shape \(1, 1, 8, 8\), expected"):
        Discriminator(resolution=8, widths=[4, 4])(torch.zeros(1, 1, 8, 8))


def test_discriminator_has_no_groups():
    discriminator = Discriminator(resolution=8, widths=[4, 4])
    assert discriminator.channel_groups() == ()
    with pytest.raises(UserError, match="no channel groups"):
        discriminator.resized({"b8": 2})


# -- rebuilding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [0, 3])
def test_arguments_rebuild_the_same_shapes(num_classes):
    for network in (
        small_generator(num_classes=num_classes, clamp=256.0, kernels=[3, 1, 1]),
        Discriminator(resolution=16, widths=[4, 5, 6], num_classes=num_classes, group_size=8),
    ):
        again = type(network)(**network.arguments)
        assert again.arguments == network.arguments
        again.load_state_dict(network.state_dict())


def test_example_inputs_run():
    for network in (small_generator(num_classes=2), Discriminator(resolution=8, widths=[4, 4], num_classes=2)):
        assert len(network(**network.example_inputs(3))) == 3


def test_refinable_parameters_at_256_pixels():
    with torch.device("meta"):
        generator = Generator(resolution=256)
        layers = [m for m in generator.modules() if isinstance(m, (StyledConvolution, ToRGB))]
    names = generator.refinable()
    touched = {*names.weights, *names.biases}
    untouched = {name for name, _ in generator.synthesis.named_parameters(prefix="synthesis")} - touched
    assert (len(names.weights), len(names.biases), len(layers)) == (40, 40, 20)
    assert len(untouched) == 14
    assert all(name.endswith(("const", "noise_strength")) for name in untouched)
    assert not any(name.startswith("mapping") for name in touched)
