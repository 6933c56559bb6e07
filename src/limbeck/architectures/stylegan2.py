"""StyleGAN2: mapping network, skip-architecture synthesis with any width per layer, residual discriminator.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, with the layout of the
official PyTorch release (2020, "ADA"); parameter names follow that release, so its state dicts fit as they are.
Differs: modulation always scales activations, never builds per-sample weights (equal up to rounding, faster, and
exportable); gains of demodulated layers are folded into the demodulation factor.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.architectures.base import Axis, ChannelGroup, Maskable, Refinable
from limbeck.architectures.style_based import (
    GAIN,
    SLOPE,
    EqualLinear,
    MappingNetwork,
    Noise,
    StyleBased,
    compute_dtype,
    demodulation,
)
from limbeck.architectures.uncut import Judge
from limbeck.errors import UserError
from limbeck.functional.resampling import blur, upsample, upsampling_convolution


def standard_widths(resolution: int, channel_base: int = 32768, channel_max: int = 512) -> list[int]:
    """Channels [S_0 ... S_n]: the constant, then the output of each styled convolution.

    channel_base 32768 is "base" (config F), 16384 is "small" (paper256).
    """
    widths = [min(channel_base // r, channel_max) for r in block_resolutions(resolution) for _ in range(2)]
    return widths


def block_resolutions(resolution: int) -> list[int]:
    """[4, 8, ..., resolution]."""
    if resolution < 4 or resolution & (resolution - 1):
        raise UserError(f"resolution={resolution}: must be a power of two, at least 4")
    return [2**k for k in range(2, int(math.log2(resolution)) + 1)]


class StyledConvolution(nn.Module):
    """3x3 (or 1x1) modulated, demodulated convolution, noise, bias, leaky ReLU; doubles the size if `up`."""

    noise_const: Tensor

    def __init__(self, num_in: int, num_out: int, *, w_dim: int, resolution: int, up: bool, kernel: int = 3):
        super().__init__()
        self.up, self.resolution = up, resolution
        self.affine = EqualLinear(w_dim, num_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(num_out, num_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(num_out))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def modulation(self, style: Tensor) -> tuple[Tensor, Tensor]:
        """Input scale [n, i] and output factor [n, o], in float32."""
        scale = self.affine(style)
        return scale, demodulation(self.weight.to(scale.dtype), scale)

    def forward(self, x: Tensor, scale: Tensor, factor: Tensor, noise: Noise, clamp: float | None) -> Tensor:
        weight = self.weight.to(x.dtype)
        x = x * scale.to(x.dtype)[:, :, None, None]
        if self.up:
            x = upsampling_convolution(x, weight)
        else:
            x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        factor = (factor * GAIN).to(x.dtype)[:, :, None, None]
        if torch.compiler.is_exporting():
            return self._finished(x, factor, noise, clamp)
        offset = self._offset(noise, x.dtype)
        # Without gradients nobody else reads the convolution's output, so the steps after it need no new memory.
        # (A compiled program sees to its memory itself.)
        read = x.requires_grad or offset.requires_grad or factor.requires_grad or torch.compiler.is_compiling()
        target = None if read else x
        x = torch.addcmul(offset, x, factor, out=target)
        if noise == "random":
            drawn = torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device, dtype=torch.float32)
            x.add_((drawn * (self.noise_strength * GAIN)).to(x.dtype))
        x = F.leaky_relu(x, SLOPE, inplace=True)
        return x if clamp is None else torch.clamp(x, -clamp, clamp, out=target)

    def _finished(self, x: Tensor, factor: Tensor, noise: Noise, clamp: float | None) -> Tensor:
        """What follows the convolution, for runtimes: bias and noise apart, because their sum is as large as the map.

        The bias is one per image, or they would be added while the program is read, and the constant's layout would
        be the activations' as well.
        """
        x = x * factor + (self.bias * GAIN).to(x.dtype).expand(x.shape[0], -1)[:, :, None, None]
        if noise == "const":
            x = x + (self.noise_const * (self.noise_strength * GAIN)).to(x.dtype)
        x = F.leaky_relu(x, SLOPE)
        return x if clamp is None else torch.clamp(x, -clamp, clamp)

    def _offset(self, noise: Noise, dtype: torch.dtype) -> Tensor:
        """Bias, and the stored noise if asked for, to be added to every image: [1, o, 1, 1] or [1, o, h, w]."""
        offset = (self.bias * GAIN)[None, None]
        if noise == "const":
            # Summed with channels last, as the activations lie: other layouts make the addition several times slower.
            offset = offset + (self.noise_const * (self.noise_strength * GAIN))[:, :, None]
        return offset.to(dtype).permute(2, 0, 1)[None]


class ToRGB(nn.Module):
    """1x1 modulated convolution without demodulation; its run-time gain is 1 / sqrt(input channels)."""

    def __init__(self, num_in: int, num_out: int, *, w_dim: int):
        super().__init__()
        self.affine = EqualLinear(w_dim, num_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(num_out, num_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(num_out))

    def modulation(self, style: Tensor) -> Tensor:
        return self.affine(style) / math.sqrt(self.weight.shape[1])

    def forward(self, x: Tensor, scale: Tensor, clamp: float | None) -> Tensor:
        n, c, h, w = x.shape
        if (
            torch.compiler.is_exporting()
        ):  # runtimes keep channels in blocks, and lay out anew whatever is no convolution
            image = F.conv2d(x * scale.to(x.dtype)[:, :, None, None], self.weight.to(x.dtype)).float()
            image = image + self.bias[:, None, None]
            return image if clamp is None else image.clamp(-clamp, clamp)
        # One weight per image: with so few outputs that costs less than scaling the activations.
        weight = (self.weight.flatten(1) * scale[:, None]).to(x.dtype)
        pixels = x.permute(0, 2, 3, 1).reshape(n, h * w, c) @ weight.transpose(1, 2)
        image = pixels.float().add(self.bias).reshape(n, h, w, -1).permute(0, 3, 1, 2)
        return image if clamp is None else image.clamp(-clamp, clamp)


class Block(nn.Module):
    """All layers of one resolution, named as in the official release."""

    def __init__(self, num_in: int, widths: Sequence[int], *, w_dim: int, resolution: int, num_channels: int, kernel):
        super().__init__()
        if resolution == 4:
            self.const = nn.Parameter(torch.randn(num_in, 4, 4))
        else:
            up = StyledConvolution(num_in, widths[0], w_dim=w_dim, resolution=resolution, up=True)
            self.conv0 = up
        last_in = num_in if resolution == 4 else widths[0]
        self.conv1 = StyledConvolution(last_in, widths[-1], w_dim=w_dim, resolution=resolution, up=False, kernel=kernel)
        self.torgb = ToRGB(widths[-1], num_channels, w_dim=w_dim)


class Synthesis(nn.Module):
    """Style(s) to image; the image is the sum of every resolution's RGB output.

    relation_blocks: what StyleKD's relation compares, and what it takes its directions from, as released.
    draws_skips: whether there are images on the way to the last one.
    """

    relation_blocks = ((16, 32, 64, 128), (8, 16, 32, 64, 128))
    draws_skips = True

    def __init__(self, *, resolution: int, widths: Sequence[int], w_dim: int, num_channels: int, clamp, kernels):
        super().__init__()
        self.resolutions = block_resolutions(resolution)
        self.num_styles = 2 * len(self.resolutions)
        self.clamp = clamp
        for index, r in enumerate(self.resolutions):
            outputs = widths[2 * index + 1 : 2 * index + 2] if r == 4 else widths[2 * index : 2 * index + 2]
            num_in = widths[0] if r == 4 else widths[2 * index - 1]
            block = Block(num_in, outputs, w_dim=w_dim, resolution=r, num_channels=num_channels, kernel=kernels[index])
            self.add_module(f"b{r}", block)

    def forward(
        self, style: Tensor, *, noise: Noise = "const", return_features: Sequence[int] = ()
    ) -> Tensor | tuple[Tensor, dict[int, Tensor]]:
        """Draw images [n, c, h, w] from styles [n, w_dim] or one per layer [n, num_styles, w_dim].

        return_features: resolutions whose block output [n, c, r, r] is returned beside the image.
        """
        image: Tensor | None = None
        features = {}
        for r, block, x, scale in self._outputs(style, noise, self.resolutions):
            drawn = block.torgb(x, scale, self.clamp)
            image = drawn if image is None else upsample(image) + drawn
            if r in return_features:
                features[r] = x
            del x  # read by the next block's first convolution only, and then not to be kept
        assert image is not None
        return (image, features) if return_features else image

    def features(self, style: Tensor, resolutions: Sequence[int], *, noise: Noise = "const") -> dict[int, Tensor]:
        """Block outputs [n, c, r, r] alone: no RGB, and no block above the largest of `resolutions`."""
        needed = [r for r in self.resolutions if r <= max(resolutions)]
        return {r: x for r, _, x, _ in self._outputs(style, noise, needed) if r in resolutions}

    def modulations(self, style: Tensor) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Per layer ("b8.conv0"): what it multiplies its input channels by [n, i], and its output channels by [n, o]
        if it demodulates. style: [n, w_dim], or one per layer [n, num_styles, w_dim]."""
        style = style[:, None].expand(-1, self.num_styles, -1) if style.ndim == 2 else style
        found: dict[str, tuple[Tensor, Tensor | None]] = {}
        for index, r in enumerate(self.resolutions):
            for layer, values in self._modulations(self.get_submodule(f"b{r}"), style.float(), index).items():
                found[f"b{r}.{layer}"] = (values, None) if layer == "torgb" else values
        return found

    def skips(self, features: Mapping[int, Tensor], style: Tensor) -> dict[int, Tensor]:
        """The image [n, c, r, r] as far as each resolution has drawn it, from the block outputs at all of them.

        style: one per layer, [n, num_styles, w_dim], those that made the features.
        """
        images: dict[int, Tensor] = {}
        for index, r in enumerate(self.resolutions):
            layer = self.get_submodule(f"b{r}.torgb")
            with torch.autocast(style.device.type, enabled=False):
                scale = layer.modulation(style[:, 2 * index + 1].float())
            drawn = layer(features[r], scale, self.clamp)
            images[r] = upsample(images[r // 2]) + drawn if images else drawn
        return images

    def block_at(self, size: int) -> int:
        """The block whose map has this size."""
        return size

    def within_image(self, block: int, maps: Tensor) -> Tensor:
        """The part of a block's maps that lies in the image: all."""
        return maps

    def style_weights(self, resolution: int) -> Tensor:
        """Affine weights [m, w_dim] with which the block's two convolutions read the style, one below the other."""
        block = self.get_submodule(f"b{resolution}")
        layers = ["conv1"] if resolution == 4 else ["conv0", "conv1"]
        return torch.cat([block.get_parameter(f"{layer}.affine.weight") for layer in layers])

    def _outputs(
        self, style: Tensor, noise: Noise, resolutions: Sequence[int]
    ) -> Iterator[tuple[int, nn.Module, Tensor, Tensor]]:
        """(resolution, block, its output, its ToRGB's input scale), from 4 upwards."""
        if noise not in ("random", "const", "none"):
            raise UserError(f"noise={noise!r}: must be 'random', 'const' or 'none'")
        if style.ndim == 2:
            style = style[:, None].expand(-1, self.num_styles, -1)
        if style.shape[1] != self.num_styles:
            raise UserError(f"style: shape {tuple(style.shape)}, expected [n, {self.num_styles}, w_dim]")
        blocks = [self.get_submodule(f"b{r}") for r in resolutions]
        const = blocks[0].get_parameter("const")
        dtype = compute_dtype(const)
        # Modulation stays in float32 under 16-bit training: demodulation sums thousands of squares.
        with torch.autocast(style.device.type, enabled=False):
            modulations = [self._modulations(block, style.float(), index) for index, block in enumerate(blocks)]
        x = const.to(dtype)[None].expand(style.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        for r, block, modulation in zip(resolutions, blocks, modulations, strict=True):
            if r > 4:
                x = block.conv0(x, *modulation["conv0"], noise, self.clamp)
            x = block.conv1(x, *modulation["conv1"], noise, self.clamp)
            yield r, block, x, modulation["torgb"]

    @staticmethod
    def _modulations(block: nn.Module, style: Tensor, index: int) -> dict[str, Any]:
        first = 2 * index - 1  # w index of conv0; conv1 and ToRGB follow (ToRGB shares the next block's first)
        found = {
            "conv1": block.conv1.modulation(style[:, first + 1]),
            "torgb": block.torgb.modulation(style[:, first + 2]),
        }
        if index:
            found["conv0"] = block.conv0.modulation(style[:, first])
        return found


class Generator(StyleBased):
    """Latent [n, z_dim] to image [n, num_channels, resolution, resolution], nominally in [-1, 1].

    widths: channels of the constant and of each styled convolution's output, 2 log2(resolution) - 2 numbers;
        None takes `standard_widths(resolution, channel_base, channel_max)`.
    clamp: limit of layers' outputs as in the 16-bit official networks (256), None for none.
    kernels: kernel size of the second convolution of each block (1 in StyleKD's heterogeneous student).
    """

    draw_settings = ("noise", "truncation")

    def __init__(
        self,
        *,
        resolution: int,
        widths: Sequence[int] | None = None,
        channel_base: int = 32768,
        channel_max: int = 512,
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_depth: int = 8,
        num_classes: int = 0,
        num_channels: int = 3,
        clamp: float | None = None,
        kernels: Sequence[int] | None = None,
    ):
        super().__init__()
        widths = list(widths) if widths is not None else standard_widths(resolution, channel_base, channel_max)
        blocks = block_resolutions(resolution)
        if len(widths) != 2 * len(blocks) or min(widths) < 1:
            raise UserError(f"widths={widths}: expected {2 * len(blocks)} positive numbers at resolution {resolution}")
        self._arguments = {
            "resolution": resolution,
            "widths": widths,
            "z_dim": z_dim,
            "w_dim": w_dim,
            "mapping_depth": mapping_depth,
            "num_classes": num_classes,
            "num_channels": num_channels,
            "clamp": clamp,
            "kernels": list(kernels) if kernels is not None else [3] * len(blocks),
        }
        self.resolution, self.num_channels, self.z_dim, self.num_classes = resolution, num_channels, z_dim, num_classes
        self.latent_shape = (z_dim,)
        self.mapping = MappingNetwork(z_dim=z_dim, w_dim=w_dim, num_classes=num_classes, depth=mapping_depth)
        self.synthesis = Synthesis(
            resolution=resolution,
            widths=widths,
            w_dim=w_dim,
            num_channels=num_channels,
            clamp=clamp,
            kernels=self._arguments["kernels"],
        )
        self.num_styles = self.synthesis.num_styles
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self, latent: Tensor, *, noise: Noise = "const", truncation: float = 1.0, label: Tensor | None = None
    ) -> Tensor:
        return self.synthesis(self.mapping(latent, label, truncation=truncation), noise=noise)

    def draw(
        self,
        latent: Tensor,
        label: Tensor | None = None,
        *,
        noise: Noise = "const",
        truncation: float = 1.0,
        **_others: Any,
    ) -> Tensor:
        """The images of one forward pass."""
        return self(latent, noise=noise, truncation=truncation, label=label)

    def layers(self) -> list[tuple[str, StyledConvolution]]:
        """The styled convolutions in the order of the data, with their names in the state dict."""
        found = [(name, m) for name, m in self.named_modules() if isinstance(m, StyledConvolution)]
        return found

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """One group per entry of `widths`: the constant, then each styled convolution's output."""
        layers = self.layers()
        producers = [[Axis("synthesis.b4.const", 0, "output")]]
        producers += [[Axis(f"{name}.weight", 0, "output"), Axis(f"{name}.bias", 0)] for name, _ in layers]
        names = ["const"] + [name.removeprefix("synthesis.") for name, _ in layers]
        groups = []
        for index, (name, axes) in enumerate(zip(names, producers, strict=True)):
            if index < len(layers):
                axes = axes + _reading_axes(layers[index][0], fan_in=False)
            if name.endswith("conv1"):
                axes = axes + _reading_axes(f"synthesis.{name.removesuffix('conv1')}torgb", fan_in=True)
            noisy = index > 0  # noise is injected after every styled convolution, whatever its weights are
            groups.append(ChannelGroup(name, self._arguments["widths"][index], tuple(axes), fed_elsewhere=noisy))
        return tuple(groups)

    def macs(self) -> int:
        """Multiply-accumulates of one image.

        Source: Liu et al., "Content-Aware GAN Compression", 2021, released counter: up-sampling convolutions at
        their input resolution; ToRGB, mapping and style affines counted; blur, noise, bias, demodulation not.
        """
        total = 0
        for name, module in self.named_modules():
            if isinstance(module, StyledConvolution):
                total += module.weight.numel() * (module.resolution // (2 if module.up else 1)) ** 2
            elif isinstance(module, ToRGB):
                total += module.weight.numel() * int(name.split(".b")[1].split(".")[0]) ** 2
            elif isinstance(module, EqualLinear):
                total += module.weight.numel()
        return total

    def refinable(self) -> Refinable:
        """Convolutions, ToRGB and their style affines; not the constant, the noise strengths or the mapping network."""
        layers = [name for name, m in self.named_modules() if isinstance(m, (StyledConvolution, ToRGB))]
        names = [name for layer in layers for name in (layer, f"{layer}.affine")]
        return Refinable(tuple(f"{name}.weight" for name in names), tuple(f"{name}.bias" for name in names))

    def maskable(self) -> tuple[Maskable, ...]:
        """Convolutions and ToRGB; not their style affines, the constant or the mapping network."""
        layers = [name for name, m in self.named_modules() if isinstance(m, (StyledConvolution, ToRGB))]
        return tuple(Maskable(f"{name}.weight", f"{name}.bias") for name in layers)


def _reading_axes(layer: str, *, fan_in: bool) -> list[Axis]:
    weight = Axis(f"{layer}.weight", 1, "input", fan_in=fan_in)
    return [weight, Axis(f"{layer}.affine.weight", 0), Axis(f"{layer}.affine.bias", 0)]


class EqualConvolution(nn.Module):
    """Convolution with run-time gain 1 / sqrt(fan-in) times `gain`; halves the size after the low-pass if `down`."""

    def __init__(self, num_in: int, num_out: int, kernel: int, *, bias: bool = True, down: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(num_out)) if bias else None
        self.down = down

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        kernel = self.weight.shape[-1]
        weight = (self.weight * (gain / math.sqrt(self.weight[0].numel()))).to(x.dtype)
        bias = None if self.bias is None else (self.bias * gain).to(x.dtype)
        if not self.down:
            return F.conv2d(x, weight, bias, padding=kernel // 2)
        if kernel == 1:
            return F.conv2d(blur(x, padding=1, stride=2), weight, bias)
        return F.conv2d(blur(x, padding=2), weight, bias, stride=2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a 1x1 skip, halving the size; the first block also reads the image."""

    def __init__(self, num_in: int, num_out: int, *, num_channels: int | None):
        super().__init__()
        if num_channels is not None:
            self.fromrgb = EqualConvolution(num_channels, num_in, 1)
        self.has_input = num_channels is not None
        self.conv0 = EqualConvolution(num_in, num_in, 3)
        self.conv1 = EqualConvolution(num_in, num_out, 3, down=True)
        self.skip = EqualConvolution(num_in, num_out, 1, bias=False, down=True)

    def forward(self, x: Tensor, clamp: float | None) -> Tensor:
        if self.has_input:
            x = activated(self.fromrgb(x, GAIN), clamp)
        # Both branches carry sqrt(1/2): with the activation's sqrt(2) that leaves gain 1 on the main branch.
        skip = self.skip(x, math.sqrt(0.5))
        x = activated(self.conv0(x, GAIN), clamp)
        return activated(self.conv1(x), clamp, gain=math.sqrt(0.5)) + skip


def activated(x: Tensor, clamp: float | None, gain: float = 1.0) -> Tensor:
    """Leaky ReLU of a tensor whose gain is already in its weights, clamped at `clamp` * gain.

    gain: the layer's own, beside the activation's sqrt(2), which comes before the limit and does not move it.
    """
    x = F.leaky_relu(x, SLOPE, inplace=True)
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def minibatch_deviation(x: Tensor, group_size: int) -> Tensor:
    """Append one channel: the standard deviation over groups of images, averaged over channels and pixels.

    Image i belongs to group i mod (n / size). Differs: where `group_size` does not divide n, the largest divisor
    of n below it is taken instead of an error.
    """
    n, c, h, w = x.shape
    size = next(g for g in range(min(group_size, n), 0, -1) if n % g == 0)
    grouped = x.float().reshape(size, -1, c, h, w)
    deviation = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    channel = deviation.repeat(size).reshape(n, 1, 1, 1).expand(n, 1, h, w).to(x.dtype)
    return torch.cat([x, channel], dim=1)


class Epilogue(nn.Module):
    """4x4 features to logits [n], or to `num_out` features for projection on a class embedding."""

    def __init__(self, num_in: int, *, num_out: int, group_size: int):
        super().__init__()
        self.group_size = group_size
        self.conv = EqualConvolution(num_in + 1, num_in, 3)
        self.fc = EqualLinear(num_in * 16, num_in)
        self.out = EqualLinear(num_in, num_out)

    def forward(self, x: Tensor, clamp: float | None) -> Tensor:
        x = activated(self.conv(minibatch_deviation(x, self.group_size), GAIN), clamp)
        x = F.leaky_relu(self.fc(x.flatten(1)), SLOPE) * GAIN
        return self.out(x)


class Discriminator(Judge):
    """Image [n, num_channels, resolution, resolution] in [-1, 1] to logits [n]; high means real.

    widths: channels at each resolution, largest first, down to 4; None takes the standard ones.
    """

    def __init__(
        self,
        *,
        resolution: int,
        widths: Sequence[int] | None = None,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_classes: int = 0,
        num_channels: int = 3,
        group_size: int = 4,
        clamp: float | None = None,
        mapping_depth: int = 8,
    ):
        super().__init__()
        self.resolutions = block_resolutions(resolution)[::-1]
        if widths is None:
            widths = standard_widths(resolution, channel_base, channel_max)[::-2]
        widths = list(widths)
        if len(widths) != len(self.resolutions) or min(widths) < 1:
            raise UserError(f"widths={widths}: expected {len(self.resolutions)} positive numbers")
        self._arguments = {
            "resolution": resolution,
            "widths": widths,
            "num_classes": num_classes,
            "num_channels": num_channels,
            "group_size": group_size,
            "clamp": clamp,
            "mapping_depth": mapping_depth,
        }
        self.resolution, self.num_channels, self.num_classes, self.clamp = resolution, num_channels, num_classes, clamp
        for index, r in enumerate(self.resolutions[:-1]):
            channels = num_channels if index == 0 else None
            self.add_module(f"b{r}", ResidualBlock(widths[index], widths[index + 1], num_channels=channels))
        embedded = widths[-1] if num_classes else 0
        if num_classes:
            self.mapping = MappingNetwork(
                z_dim=0, w_dim=embedded, num_classes=num_classes, depth=mapping_depth, track_average=False
            )
        self.b4 = Epilogue(widths[-1], num_out=embedded or 1, group_size=group_size)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self, image: Tensor, label: Tensor | None = None, *, masks: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        """masks: factors [c] of block outputs by their size, see `_outputs`."""
        x = image
        for _, x in self._outputs(image, masks):  # noqa: B007 - the last one is read
            pass
        with torch.autocast(x.device.type, enabled=False):
            x = self.b4(x.float(), self.clamp)
            if self.num_classes:
                if label is not None and not torch.compiler.is_exporting() and len(label) != len(image):
                    raise UserError(f"label: {len(label)} of them, expected one for each of {len(image)} images")
                embedding = self.mapping(None, label)
                x = (x * embedding).sum(dim=1, keepdim=True) / math.sqrt(embedding.shape[1])
        return x.squeeze(1)

    def features(
        self, image: Tensor, resolutions: Sequence[int], *, masks: Mapping[int, Tensor] | None = None
    ) -> dict[int, Tensor]:
        """Outputs [n, c, r, r] of the blocks that end at these sizes; what follows the last of them is not run."""
        found = {}
        for r, x in self._outputs(image, masks):
            if r in resolutions:
                found[r] = x
            if r <= min(resolutions):
                break
        return found

    def _outputs(self, image: Tensor, masks: Mapping[int, Tensor] | None = None) -> Iterator[tuple[int, Tensor]]:
        """(size, output) of each residual block, from the image downwards; each channel times its mask, if given."""
        expected = (self.num_channels, self.resolution, self.resolution)
        if tuple(image.shape[1:]) != expected:
            raise UserError(f"image: shape {tuple(image.shape)}, expected (n, *{expected})")
        dtype = compute_dtype(self.b4.conv.weight)
        x = image.to(dtype).contiguous(memory_format=torch.channels_last)
        for r in self.resolutions[:-1]:
            x = self.get_submodule(f"b{r}")(x, self.clamp)
            if masks is not None:
                x = x * masks[r // 2].to(x.dtype)[:, None, None]
            yield r // 2, x

    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        device = next(self.parameters()).device
        shape = (num_images, self.num_channels, self.resolution, self.resolution)
        inputs = {"image": torch.zeros(shape, device=device)}
        if self.num_classes:
            inputs["label"] = torch.zeros(num_images, dtype=torch.long, device=device)
        return inputs

    def macs(self) -> int:
        """Multiply-accumulates of one image: convolutions at their output resolution, linear layers; no blur."""
        total = 0
        for index, r in enumerate(self.resolutions[:-1]):
            block = self.get_submodule(f"b{r}")
            total += block.conv0.weight.numel() * r**2
            total += (block.conv1.weight.numel() + block.skip.weight.numel()) * (r // 2) ** 2
            total += block.fromrgb.weight.numel() * r**2 if index == 0 else 0
        linear = sum(m.weight.numel() for m in self.modules() if isinstance(m, EqualLinear))
        return total + self.b4.conv.weight.numel() * 16 + linear
