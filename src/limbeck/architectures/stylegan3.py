"""StyleGAN3, configurations T and R: Fourier features, then alias-free layers with any width.

Source: Karras et al., "Alias-Free Generative Adversarial Networks", 2021; names in the state dict are the released
ones, but for the layers' own (`L3`, where NVIDIA appends map size and width, which pruning makes untrue).
Differs: modulation scales activations, never per-sample weights; the released code also divides weights and styles by
their root mean squares first, which demodulation cancels. The filter's form: see `functional.alias_free`.
The discriminator is StyleGAN2's.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.architectures.base import Axis, ChannelGroup, Maskable, Refinable
from limbeck.architectures.style_based import (
    EqualLinear,
    MappingNetwork,
    Noise,
    StyleBased,
    compute_dtype,
    demodulation,
)
from limbeck.errors import UserError
from limbeck.functional.alias_free import filter_macs, filtered_leaky_relu, low_pass, radial_low_pass

MARGIN = 10
TAPS = 6  # of a filter, times its factor
OUTPUT_SCALE = 0.25

Average = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Band:
    """Of one layer's output, in cycles and samples per image width: pass band, transition band, rate, map size."""

    cutoff: float
    half_width: float
    rate: int
    size: int


def bands(resolution: int, num_layers: int = 14, num_critical: int = 2) -> list[Band]:
    """Of layers 0 ... num_layers; the last one draws the image.

    Frequencies grow geometrically from 2 to resolution / 2; the last `num_critical` layers are critically sampled.
    """
    if resolution < 8 or resolution & (resolution - 1):
        raise UserError(f"resolution={resolution}: must be a power of two, at least 8")
    if not 0 <= num_critical < num_layers:
        raise UserError(f"num_critical={num_critical}: must be at least 0 and below num_layers={num_layers}")
    found = []
    for index in range(num_layers + 1):
        exponent = min(index / (num_layers - num_critical), 1)
        cutoff = 2 * (resolution / 4) ** exponent
        stop = 2**2.1 * (resolution / 2 * 2**0.3 / 2**2.1) ** exponent
        rate = 2 ** math.ceil(math.log2(min(2 * stop, resolution)))
        size = rate + 2 * MARGIN if index < num_layers - 1 else resolution
        found.append(Band(cutoff, max(stop, rate / 2) - cutoff, rate, size))
    return found


def standard_widths(plan: Sequence[Band], channel_base: int, channel_max: int) -> list[int]:
    """Channels of the features, then of the output of each layer but the last.

    channel_base, channel_max: 32768 and 512 in T; twice that in R, whose trainer is told half.
    """
    widths = [round(min(channel_base / (2 * band.cutoff), channel_max)) for band in plan[:-1]]
    return [widths[0], *widths]


class FourierFeatures(nn.Module):
    """A fixed field of waves, turned and shifted as the style says, mixed to `num_out` channels."""

    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, num_frequencies: int, num_out: int, *, w_dim: int, band: Band):
        super().__init__()
        self.band = band
        self.weight = nn.Parameter(torch.randn(num_out, num_frequencies))
        self.affine = EqualLinear(w_dim, 4)
        with torch.no_grad():
            self.affine.weight.zero_()
            self.affine.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        normal = torch.randn(num_frequencies, 2)
        squares = normal.square().sum(dim=1, keepdim=True)
        # Uniform on the disc of radius `cutoff`.
        self.register_buffer("freqs", normal / squares.sqrt() * band.cutoff * (-squares / 4).exp())
        self.register_buffer("phases", torch.rand(num_frequencies) - 0.5)
        self.register_buffer("transform", torch.eye(3))

    def forward(self, style: Tensor, transform: Tensor | None = None) -> Tensor:
        """[n, num_out, size, size], channels last, in float32. transform: [3, 3], None takes the stored one."""
        moved = self._placement(style) @ (self.transform if transform is None else transform.to(style))
        freqs = self.freqs @ moved[:, :2, :2]  # [n, f, 2]
        phases = self.phases + (self.freqs @ moved[:, :2, 2:]).squeeze(2)
        # Waves that the transform makes too fast for the grid fade out.
        excess = (freqs.norm(dim=2) - self.band.cutoff) / (self.band.rate / 2 - self.band.cutoff)
        amplitude = (1 - excess).clamp(0, 1) / math.sqrt(self.weight.shape[1])
        place = torch.arange(self.band.size, device=style.device, dtype=style.dtype) + 0.5 - self.band.size / 2
        place = place[:, None] / self.band.rate
        across = place * freqs[:, None, :, 0]  # [n, size, f]
        down = place * freqs[:, None, :, 1] + phases[:, None]
        waves = (2 * math.pi * (down[:, :, None] + across[:, None])).sin() * amplitude[:, None, None]
        return (waves @ self.weight.T).permute(0, 3, 1, 2)

    def _placement(self, style: Tensor) -> Tensor:
        """The style's own turn and shift of the picture, as matrices [n, 3, 3] on (x, y, 1)."""
        values = self.affine(style)
        cos, sin, x, y = (values / values[:, :2].norm(dim=1, keepdim=True)).unbind(dim=1)
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1).reshape(-1, 3, 3)
        shift = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], dim=1).reshape(-1, 3, 3)
        return turn @ shift


class Layer(nn.Module):
    """Modulated convolution, bias and filtered leaky ReLU; the last layer, without filters, draws the image."""

    magnitude_ema: Tensor

    def __init__(
        self, num_in: int, num_out: int, *, w_dim: int, kernel: int, before: Band, after: Band, radial: bool, last: bool
    ):
        super().__init__()
        self.last, self.size = last, before.size
        self.affine = EqualLinear(w_dim, num_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(num_out, num_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(num_out))
        self.register_buffer("magnitude_ema", torch.ones([]))
        if last:
            return
        rate = 2 * max(before.rate, after.rate)
        self.up, self.temporary = rate // before.rate, 2 * after.size + 2 * TAPS - 2
        self.crop = ((before.size + kernel - 2) * self.up + TAPS * self.up - self.temporary) // 2
        taps = low_pass(TAPS * self.up, cutoff=before.cutoff, half_width=before.half_width, rate=rate)
        self.register_buffer("up_filter", taps, persistent=False)
        design = radial_low_pass if radial else low_pass
        taps = design(2 * TAPS, cutoff=after.cutoff, half_width=after.half_width, rate=rate)
        self.register_buffer("down_filter", taps, persistent=False)

    def modulation(self, style: Tensor) -> tuple[Tensor, Tensor | None]:
        """What multiplies input channels [n, i] and, but in the last layer, output channels [n, o]; in float32."""
        scale = self.affine(style)
        if self.last:
            return scale / math.sqrt(self.weight.shape[1]), None
        return scale, demodulation(self.weight.to(scale.dtype), scale)

    def forward(self, x: Tensor, scale: Tensor, factor: Tensor | None, clamp: float | None) -> Tensor:
        # Demodulation must not undo the division by the input's usual magnitude.
        x = x * (scale * self.magnitude_ema.rsqrt()).to(x.dtype)[:, :, None, None]
        weight = self.weight.to(x.dtype)
        bias = self.bias.to(x.dtype)
        if factor is None:
            x = F.conv2d(x, weight, bias).float()
            return x if clamp is None else x.clamp(-clamp, clamp)
        x = F.conv2d(x, weight, padding=weight.shape[-1] - 1)
        factor, offset = factor.to(x.dtype)[:, :, None, None], bias[None, :, None, None]
        # Without gradients nobody else reads the convolution's output, so this needs no new memory.
        free = not (x.requires_grad or factor.requires_grad or offset.requires_grad)
        x = torch.addcmul(offset, x, factor, out=x if free else None)
        filters = (self.get_buffer("up_filter"), self.get_buffer("down_filter"))
        return filtered_leaky_relu(x, *filters, up=self.up, crop=self.crop, clamp=clamp)

    @torch.no_grad()
    def measure(self, x: Tensor, average: Average, decay: float) -> None:
        """Move the magnitude towards the mean square of this input, averaged over processes by `average`."""
        self.magnitude_ema.lerp_(average(x.float().square().mean()), 1 - decay)

    def filter_macs(self) -> int:
        """Multiply-accumulates of the filters for one image."""
        if self.last:
            return 0
        size, out = self.size + self.weight.shape[-1] - 1, self.temporary // 2 - TAPS + 1
        radial = self.get_buffer("down_filter").ndim == 2
        return len(self.bias) * filter_macs(size, self.temporary, out, num_taps=2 * TAPS, radial=radial)


class Synthesis(nn.Module):
    """Styles to image: index 0 to the Fourier features, i + 1 to layer i.

    resolutions: what names the outputs that losses compare; here the numbers of the layers, without the last.
    relation_blocks: of these, the ones that StyleKD's relation compares and takes its directions from, as the SVS
        authors have it. draws_skips: whether there are images on the way to the last one.
    """

    relation_blocks = ((2, 4, 6, 9), (2, 4, 6, 9))
    draws_skips = False

    def __init__(
        self,
        plan: Sequence[Band],
        widths: Sequence[int],
        *,
        num_frequencies: int,
        num_critical: int,
        w_dim: int,
        num_channels: int,
        kernel: int,
        radial: bool,
        clamp: float | None,
        magnitude_beta: float,
    ):
        super().__init__()
        last = len(plan) - 1
        self.num_styles, self.clamp, self.magnitude_beta = last + 2, clamp, magnitude_beta
        self.resolutions, self.bands = tuple(range(last)), tuple(plan)
        self._measuring: tuple[Average, float] | None = None
        self.input = FourierFeatures(num_frequencies, widths[0], w_dim=w_dim, band=plan[0])
        for index, after in enumerate(plan):
            layer = Layer(
                widths[index],
                num_channels if index == last else widths[index + 1],
                w_dim=w_dim,
                kernel=1 if index == last else kernel,
                before=plan[max(index - 1, 0)],
                after=after,
                radial=radial and index <= last - 1 - num_critical,
                last=index == last,
            )
            self.add_module(f"L{index}", layer)

    def forward(
        self,
        style: Tensor,
        *,
        noise: Noise = "const",
        transform: Tensor | None = None,
        update_magnitudes: bool = False,
        return_features: Sequence[int] = (),
    ) -> Tensor | tuple[Tensor, dict[int, Tensor]]:
        """Draw images [n, c, h, w] from styles [n, w_dim] or one per layer [n, num_styles, w_dim].

        noise: changes nothing, there is none. transform, update_magnitudes: see `Generator`.
        return_features: numbers of layers whose output [n, c, h, w] is returned beside the image.
        """
        check_noise(noise)
        image, features = style, {}
        with (
            self.measuring(lambda value: value, self.magnitude_beta) if update_magnitudes else contextlib.nullcontext()
        ):
            for index, image in self._outputs(style, transform, self.num_styles - 1):
                if index in return_features:
                    features[index] = image
        image = image.float() * OUTPUT_SCALE
        return (image, features) if return_features else image

    def features(self, style: Tensor, resolutions: Sequence[int], *, noise: Noise = "const") -> dict[int, Tensor]:
        """Outputs [n, c, h, w] of the layers of these numbers; none above the largest of them is run."""
        check_noise(noise)
        outputs = self._outputs(style, None, max(resolutions) + 1)
        return {index: x for index, x in outputs if index in resolutions}

    def modulations(self, style: Tensor) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Per layer ("L3"): what it multiplies its input channels by [n, i], and its output channels by [n, o]
        if it demodulates. style: [n, w_dim], or one per layer [n, num_styles, w_dim]."""
        styles = self._expanded(style.float())
        return {f"L{i}": self._layer(i).modulation(styles[:, i + 1]) for i in range(self.num_styles - 1)}

    def block_at(self, size: int) -> int:
        """The last layer with at most `size` samples per image width; of the coarsest layers if they have more."""
        limit = max(size, self.bands[0].rate)
        return max(index for index in self.resolutions if self.bands[index].rate <= limit)

    def within_image(self, block: int, maps: Tensor) -> Tensor:
        """The part of a layer's maps that lies in the image, without the margins."""
        margin = (maps.shape[-1] - self.bands[block].rate) // 2
        return maps[:, :, margin : maps.shape[2] - margin, margin : maps.shape[3] - margin]

    def style_weights(self, number: int) -> Tensor:
        """Affine weights [i, w_dim] with which the layer of this number reads the style."""
        return self._layer(number).affine.weight

    @contextlib.contextmanager
    def measuring(self, average: Average, decay: float) -> Iterator[None]:
        """Inside, every layer moves its magnitude before it divides by it."""
        before, self._measuring = self._measuring, (average, decay)
        try:
            yield
        finally:
            self._measuring = before

    def _outputs(self, style: Tensor, transform: Tensor | None, count: int) -> Iterator[tuple[int, Tensor]]:
        """(number, output) of the first `count` layers."""
        layers = [self._layer(index) for index in range(count)]
        dtype = compute_dtype(layers[0].weight)
        # As in StyleGAN2, and because the waves' phases need every bit.
        with torch.autocast(style.device.type, enabled=False):
            styles = self._expanded(style.float())
            x = self.input(styles[:, 0], transform)
            modulations = [layer.modulation(styles[:, index + 1]) for index, layer in enumerate(layers)]
        x = x.to(dtype)
        for index, layer in enumerate(layers):
            if self._measuring is not None:
                layer.measure(x, *self._measuring)
            x = layer(x, *modulations[index], self.clamp)
            yield index, x

    def _expanded(self, style: Tensor) -> Tensor:
        style = style[:, None].expand(-1, self.num_styles, -1) if style.ndim == 2 else style
        if style.shape[1] != self.num_styles:
            raise UserError(f"style: shape {tuple(style.shape)}, expected [n, {self.num_styles}, w_dim]")
        return style

    def _layer(self, index: int) -> Layer:
        layer = self.get_submodule(f"L{index}")
        assert isinstance(layer, Layer)
        return layer


def check_noise(noise: str) -> None:
    """Raises: UserError for what no style-based network takes."""
    if noise not in ("random", "const", "none"):
        raise UserError(f"noise={noise!r}: must be 'random', 'const' or 'none'")


class Generator(StyleBased):
    """Latent [n, z_dim] to image [n, num_channels, resolution, resolution], nominally in [-1, 1].

    widths: channels of the features and of the output of each layer but the last, num_layers + 1 numbers; None takes
        `standard_widths` with channel_base and channel_max (32768 and 512 in T, twice that in R).
    kernel, radial: 3 and False in configuration T, 1 and True in R (down-sampling filters that are symmetric under
        rotation, but in critically sampled layers).
    num_layers, num_critical: layers before the one that draws, and of these the critically sampled ones.
    num_frequencies: waves of the input; None takes widths[0]. Pruning leaves them whole.
    clamp: limit of activations; None for none.
    magnitude_beta: decay of the magnitudes in a pass with `update_magnitudes`.
    """

    draw_settings = ("truncation",)
    truncates_widths = True
    least_width = 3
    measured_buffers = ("magnitude_ema",)
    takes_transform = True

    def __init__(
        self,
        *,
        resolution: int,
        widths: Sequence[int] | None = None,
        channel_base: int = 32768,
        channel_max: int = 512,
        kernel: int = 3,
        radial: bool = False,
        num_layers: int = 14,
        num_critical: int = 2,
        num_frequencies: int | None = None,
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_depth: int = 2,
        num_classes: int = 0,
        num_channels: int = 3,
        clamp: float | None = 256.0,
        magnitude_beta: float = 0.999,
    ):
        super().__init__()
        plan = bands(resolution, num_layers, num_critical)
        widths = list(widths) if widths is not None else standard_widths(plan, channel_base, channel_max)
        if len(widths) != num_layers + 1 or min(widths) < 1:
            raise UserError(f"widths={widths}: expected {num_layers + 1} positive numbers for {num_layers} layers")
        if kernel not in (1, 3):
            raise UserError(f"kernel={kernel}: must be 3 (configuration T) or 1 (R)")
        self._arguments = {
            "resolution": resolution,
            "widths": widths,
            "kernel": kernel,
            "radial": radial,
            "num_layers": num_layers,
            "num_critical": num_critical,
            "num_frequencies": num_frequencies or widths[0],
            "z_dim": z_dim,
            "w_dim": w_dim,
            "mapping_depth": mapping_depth,
            "num_classes": num_classes,
            "num_channels": num_channels,
            "clamp": clamp,
            "magnitude_beta": magnitude_beta,
        }
        self.resolution, self.num_channels, self.z_dim, self.num_classes = resolution, num_channels, z_dim, num_classes
        self.latent_shape, self.num_styles = (z_dim,), num_layers + 2
        self.mapping = MappingNetwork(z_dim=z_dim, w_dim=w_dim, num_classes=num_classes, depth=mapping_depth)
        self.synthesis = Synthesis(
            plan,
            widths,
            num_frequencies=num_frequencies or widths[0],
            num_critical=num_critical,
            w_dim=w_dim,
            num_channels=num_channels,
            kernel=kernel,
            radial=radial,
            clamp=clamp,
            magnitude_beta=magnitude_beta,
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self,
        latent: Tensor,
        *,
        noise: Noise = "const",
        truncation: float = 1.0,
        label: Tensor | None = None,
        transform: Tensor | None = None,
        update_magnitudes: bool = False,
    ) -> Tensor:
        """noise: changes nothing, there is none.

        transform: [3, 3], where each point of the picture is taken from: (x, y, 1) in image widths about the center, y
            down, so the inverse of what happens to the picture. None takes the stored one, usually the identity.
        update_magnitudes: every layer first moves the magnitude by which it divides towards that of its input.
        """
        if transform is not None and transform.shape != (3, 3):
            raise UserError(f"transform: shape {tuple(transform.shape)}, expected (3, 3)")
        style = self.mapping(latent, label, truncation=truncation)
        return self.synthesis(style, noise=noise, transform=transform, update_magnitudes=update_magnitudes)

    def draw(self, latent: Tensor, label: Tensor | None = None, *, truncation: float = 1.0, **_others: Any) -> Tensor:
        """The images of one forward pass."""
        return self(latent, truncation=truncation, label=label)

    def measuring(self, average: Average, decay: float) -> contextlib.AbstractContextManager[None]:
        return self.synthesis.measuring(average, decay)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """One group per entry of `widths`: the features, then each layer's output, read by the layer after it."""
        groups = []
        for index, width in enumerate(self._arguments["widths"]):
            reader, last = f"synthesis.L{index}", index == self._arguments["num_layers"]
            produced = [Axis("synthesis.input.weight", 0, "output")]
            if index:
                before = f"synthesis.L{index - 1}"
                produced = [Axis(f"{before}.weight", 0, "output"), Axis(f"{before}.bias", 0)]
            reading = [Axis(f"{reader}.weight", 1, "input", fan_in=last)]
            reading += [Axis(f"{reader}.affine.weight", 0), Axis(f"{reader}.affine.bias", 0)]
            groups.append(ChannelGroup(f"L{index - 1}" if index else "input", width, (*produced, *reading)))
        return tuple(groups)

    def macs(self) -> int:
        """Multiply-accumulates of one image.

        Rule of CAGAN's counter, carried over: each convolution on its input map, the mixing of the waves, mapping and
        style affines; filters (see `filter_macs`), bias, demodulation and sines not.
        """
        total = self.synthesis.input.weight.numel() * self.synthesis.input.band.size**2
        for module in self.modules():
            if isinstance(module, Layer):
                total += module.weight.numel() * module.size**2
            elif isinstance(module, EqualLinear):
                total += module.weight.numel()
        return total

    def filter_macs(self) -> int:
        return sum(module.filter_macs() for module in self.modules() if isinstance(module, Layer))

    def refinable(self) -> Refinable:
        """The input's mixing and affine, every layer's convolution and affine; no buffer, no mapping network."""
        names = ["synthesis.input", *(f"synthesis.L{index}" for index in range(self._arguments["num_layers"] + 1))]
        weights = [name for place in names for name in (f"{place}.weight", f"{place}.affine.weight")]
        biases = [f"{names[0]}.affine.bias"]
        biases += [name for place in names[1:] for name in (f"{place}.bias", f"{place}.affine.bias")]
        return Refinable(tuple(weights), tuple(biases))

    def maskable(self) -> tuple[Maskable, ...]:
        """The layers' convolutions; not their style affines, the input's mixing or the mapping network."""
        names = [f"synthesis.L{index}" for index in range(self._arguments["num_layers"] + 1)]
        return tuple(Maskable(f"{name}.weight", f"{name}.bias") for name in names)
