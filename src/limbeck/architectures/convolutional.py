"""What families of plain convolutions share: one layer with its normalization, its channel axes, its cost.

Normalization and the ways to make a network smaller: batch and instance norm treat every channel by itself, so a
slimmed network equals the masked one exactly. Instance norm divides each channel of each image by its own spread, hence
the norm and the sign-free size of what makes a channel are lost behind it: a bias in front of it has no effect, and
singular value scaling changes the directions of such a layer's filters, not how strongly its channels come through.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.architectures.base import Axis, ChannelGroup, Maskable, Network, Refinable
from limbeck.errors import UserError

Norm = Literal["batch", "instance", "none"]
EPS = 1e-5
BATCH_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # buffers of batch norm
INITIAL_STD = 0.02  # of convolution weights, and of norm weights around 1, in the DCGAN and pix2pix families


class InstanceNorm(nn.Module):
    """Each channel of each image to mean 0 and variance 1, in both modes; never uses or moves stored statistics.

    stored: the layer has weights, biases and the running statistics that some files carry along.
    """

    def __init__(self, size: int, *, stored: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size)) if stored else None
        self.bias = nn.Parameter(torch.zeros(size)) if stored else None
        if stored:
            self.register_buffer("running_mean", torch.zeros(size))
            self.register_buffer("running_var", torch.ones(size))
            self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=EPS)


class Layer(nn.Module):
    """A convolution and its normalization, without the activation.

    padding: of the convolution; by reflection if `reflect`. up: a transposed convolution. stride: None is 2 for these,
    which doubles the size, and 1 for all others. norm: "batch", "instance" (without parameters) or "none". bias: None
    gives the convolution one unless batch norm follows, which has its own.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        kernel: int,
        *,
        stride: int | None = None,
        padding: int = 0,
        reflect: bool = False,
        up: bool = False,
        norm: Norm | nn.Module = "none",
        bias: bool | None = None,
    ):
        super().__init__()
        bias = norm != "batch" if bias is None else bias
        self.conv: nn.Conv2d | nn.ConvTranspose2d
        if up:
            stride = stride or 2
            extra = kernel % 2 if stride == 2 else 0  # an odd kernel leaves one row and column to add
            self.conv = nn.ConvTranspose2d(
                num_in, num_out, kernel, stride=stride, padding=padding, output_padding=extra, bias=bias
            )
        else:
            mode: Literal["reflect", "zeros"] = "reflect" if reflect else "zeros"
            self.conv = nn.Conv2d(
                num_in, num_out, kernel, stride=stride or 1, padding=padding, padding_mode=mode, bias=bias
            )
        self.norm = norm if isinstance(norm, nn.Module) else normalization(norm, num_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.norm is None else self.norm(x)


def normalization(kind: Norm, size: int) -> nn.Module | None:
    """A normalization of `size` channels. Raises: UserError for an unknown kind."""
    if kind not in ("batch", "instance", "none"):
        raise UserError(f"norm={kind!r}: must be 'batch', 'instance' or 'none'")
    if kind == "none":
        return None
    return nn.BatchNorm2d(size, eps=EPS) if kind == "batch" else InstanceNorm(size)


@torch.no_grad()
def initialize(network: nn.Module) -> None:
    """Convolutions and linear layers N(0, 0.02^2) with biases 0, batch norm N(1, 0.02^2) with biases 0.

    Source: Radford et al., "Unsupervised Representation Learning with DCGANs", 2016, section 4, and the public pix2pix
    and CycleGAN code.
    """
    if next(network.parameters()).is_meta:
        return  # nothing to fill, and drawing normal values there makes torch load half a thousand modules
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.weight.normal_(0, INITIAL_STD)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.normal_(1, INITIAL_STD)
            module.bias.zero_()


class Convolutional(Network):
    """A generator of convolutions and linear layers whose channel groups have sizes by name: what is the same for all.

    widths: the size of every channel group. The constructor's other arguments are kept in `_arguments`.
    """

    widths: dict[str, int]

    @property
    def arguments(self) -> dict[str, Any]:
        return {**self._arguments, "widths": dict(self.widths)}

    def resized(self, sizes: Mapping[str, int]) -> Self:
        return type(self)(**{**self._arguments, "widths": {**self.widths, **sizes}})

    def refinable(self) -> Refinable:
        """All convolutions, linear layers and affine normalizations."""
        weights, biases, transposed, norm_weights, norm_biases = [], [], [], [], []
        for name, module in self.named_modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                weights.append(f"{name}.weight")
                biases += [] if module.bias is None else [f"{name}.bias"]
                transposed += [f"{name}.weight"] if isinstance(module, nn.ConvTranspose2d) else []
            elif isinstance(module, (nn.BatchNorm2d, InstanceNorm)) and module.weight is not None:
                norm_weights.append(f"{name}.weight")
                norm_biases.append(f"{name}.bias")
        return Refinable(
            tuple(weights), tuple(biases), tuple(norm_weights), tuple(norm_biases), transposed=tuple(transposed)
        )

    def maskable(self) -> tuple[Maskable, ...]:
        """All convolutions and linear layers, in the order in which they are named."""
        layers = []
        for name, module in self.named_modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                axes = (1, 0) if isinstance(module, nn.ConvTranspose2d) else (0, 1)
                layers.append(Maskable(f"{name}.weight", None if module.bias is None else f"{name}.bias", *axes))
        return tuple(layers)

    def draw(self, latent: Tensor, label: Tensor | None = None, **_others: Any) -> Tensor:
        """The images of one forward pass. latent: what the network draws from, latents or images."""
        return self(latent)

    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        name = "image" if self.draws_from == "images" else "latent"
        return {name: next(self.parameters()).new_zeros(num_images, *self.latent_shape)}


def produced(network: Network, name: str, *, repeat: int = 1) -> list[Axis]:
    """The axes of the layer `name` that belong to the channels it makes; see `Axis` for `repeat`."""
    layer = network.get_submodule(name)
    dim = 1 if isinstance(layer.conv, nn.ConvTranspose2d) else 0
    axes = [Axis(f"{name}.conv.weight", dim, "output", repeat=repeat)]
    if layer.conv.bias is not None:
        axes.append(Axis(f"{name}.conv.bias", 0, repeat=repeat))
    if layer.norm is not None:
        entries = [entry for entry, value in layer.norm.state_dict().items() if value.ndim]
        axes += [Axis(f"{name}.norm.{entry}", 0, repeat=repeat) for entry in entries]
    return axes


def read(network: Network, name: str, *, offset: int = 0) -> Axis:
    """The axis of the layer `name` that reads channels, from its entry `offset` on."""
    transposed = isinstance(network.get_submodule(name).conv, nn.ConvTranspose2d)
    return Axis(f"{name}.conv.weight", 0 if transposed else 1, "input", offset=offset)


def declared(
    network: Network,
    sizes: Mapping[str, int],
    layers: Mapping[str, tuple[Sequence[str], Sequence[str | Axis]]],
    repeats: Mapping[str, int] | None = None,
) -> tuple[ChannelGroup, ...]:
    """The channel groups of a network of layers.

    sizes: of each group by name. layers: of each group, the names of the layers that make it and of those that read it
    (an axis where that is not the reader's first entries). repeats: entries of the makers per channel, where not 1.
    """
    groups = []
    for name, size in sizes.items():
        makers, readers = layers[name]
        repeat = (repeats or {}).get(name, 1)
        made = [axis for layer in makers for axis in produced(network, layer, repeat=repeat)]
        reading = [layer if isinstance(layer, Axis) else read(network, layer) for layer in readers]
        groups.append(ChannelGroup(name, size, (*made, *reading)))
    return tuple(groups)


def counted_macs(network: Network, sides: Mapping[str, int]) -> int:
    """Multiply-accumulates of layers on square images; no biases, normalizations or activations.

    sides: by name of a layer, or of a module with layers in it, the side of what is computed: of the input for
        transposed convolutions, of the output for all others. The literature on translation networks counts transposed
        convolutions at their output, which is four times as much for those that double the size.
    """
    total = 0
    for name, side in sides.items():
        layers = [module for module in network.get_submodule(name).modules() if isinstance(module, Layer)]
        total += sum(layer.conv.weight.numel() for layer in layers) * side**2
    return total


def full_widths(standard: Mapping[str, int], given: Mapping[str, int] | None) -> dict[str, int]:
    """The size of every channel group: the standard one unless given.

    Raises: UserError for a group that is not there, or a size below 1.
    """
    for name, size in (given or {}).items():
        if name not in standard:
            raise UserError(f"widths[{name!r}]: no such channel group; groups: {', '.join(standard)}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UserError(f"widths[{name!r}]={size}: must be a whole number, at least 1")
    return {**standard, **(given or {})}


def check_counts(**counts: int) -> None:
    """Raises: UserError if one of these is not a whole number of at least 1."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{name}={value}: must be a whole number, at least 1")


def check_latent(latent: Tensor, z_dim: int) -> None:
    """Raises: UserError unless the latents are [n, z_dim]."""
    if latent.ndim != 2 or latent.shape[1] != z_dim:
        raise UserError(f"latent: shape {tuple(latent.shape)}, expected [n, {z_dim}]")


def num_doublings(resolution: int) -> int:
    """How often 4 must be doubled. Raises: UserError if that never gives the resolution, or at once."""
    check_counts(resolution=resolution)
    if resolution < 8 or resolution & (resolution - 1):
        raise UserError(f"resolution={resolution}: must be a power of two, at least 8")
    return resolution.bit_length() - 3


def check_image(image: Tensor, num_channels: int, *, multiple: int = 1, name: str = "image") -> None:
    """Raises: UserError unless the image is [n, num_channels, h, w] with sides that `multiple` divides."""
    shape = tuple(image.shape)
    if len(shape) != 4 or shape[1] != num_channels or shape[2] % multiple or shape[3] % multiple:
        sides = f", h and w multiples of {multiple}" if multiple > 1 else ""
        raise UserError(f"{name}: shape {shape}, expected [n, {num_channels}, h, w]{sides}")
