"""What every architecture promises: rebuildable constructor arguments, declared channel groups, a MAC count.

A channel group lists every place where the same channels appear, so that one function
(`pruning.slimming.slim`) makes any family thinner without tracing its graph.
"""

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Self

from torch import Tensor, nn

from limbeck.errors import UserError

ARCHITECTURES = "limbeck.architectures."
Role = Literal["output", "input", "other"]


@dataclass(frozen=True)
class Axis:
    """One axis of one parameter (or buffer) along which a group's channels lie.

    Channel c occupies the entries `offset + c * repeat` up to `offset + (c + 1) * repeat` of that axis.

    parameter: dotted name in the network's state dict.
    role: "output" for weights that produce the channels (a learned constant too), "input" for weights that read
        them, "other" for biases and style affines.
    fan_in: the run-time gain of this weight is 1 / sqrt(size of this axis times its kernel), so slicing
        changes its effect by sqrt(size / kept).
    """

    parameter: str
    dim: int
    role: Role = "other"
    offset: int = 0
    repeat: int = 1
    fan_in: bool = False


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that live or die together.

    norm_groups: number of normalization groups (or attention heads) the channels are divided into; each must keep
        equally many.
    fed_elsewhere: something besides the "output" and "other" entries adds to the channels (injected noise), so that a
        channel falls silent only where nobody reads it.
    exchangeable: length of the runs of channels inside which they may be exchanged without changing the output; None
        is size / norm_groups. Shorter where the groups of several normalizations cut across each other, longer where
        the channels are normalized together with others only.
    """

    name: str
    size: int
    axes: tuple[Axis, ...]
    norm_groups: int = 1
    exchangeable: int | None = None
    fed_elsewhere: bool = False

    @property
    def run_length(self) -> int:
        """`exchangeable`, whichever way it was given."""
        return self.exchangeable or self.size // self.norm_groups


def channel_slice(axis: Axis, size: int) -> slice:
    """The entries of the axis that belong to a group of `size` channels."""
    return slice(axis.offset, axis.offset + size * axis.repeat)


@dataclass(frozen=True)
class Refinable:
    """Which entries of the state dict a refinement of trained weights (singular value scaling) works on.

    weights: convolution and linear weights, read as matrices of dimension 0 by the rest.
    transposed: those of them whose output channels are dimension 1, which takes dimension 0's place.
    biases: their biases.
    norm_weights, norm_biases: affine parameters of normalization layers.
    """

    weights: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()
    norm_weights: tuple[str, ...] = ()
    norm_biases: tuple[str, ...] = ()
    transposed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Maskable:
    """A layer whose single weights may be switched off.

    weight, bias: names in the state dict. output_dim, input_dim: axes of the weight along which its output and input
        channels lie (transposed convolutions have them the other way round); the others are the kernel's.
    """

    weight: str
    bias: str | None = None
    output_dim: int = 0
    input_dim: int = 1

    def oriented(self, tensor: Tensor) -> Tensor:
        """A view [output, input, *kernel] of the weight, or of anything of its shape."""
        return tensor.movedim((self.output_dim, self.input_dim), (0, 1))

    def matrix(self, tensor: Tensor) -> Tensor:
        """The weight as [output, kernel * input], input channels innermost: a row of 2:4 is two of every four entries.

        `torch.sparse.to_sparse_semi_structured` takes it, in the types and sizes that its kernels know, as the weight
        of a linear layer over patches whose channels are innermost too.
        """
        return self.oriented(tensor).movedim(1, -1).flatten(1).contiguous()


def network_class(path: str) -> "type[Network]":
    """The class of this dotted path; of other packages only what the program itself has imported before.

    Raises: UserError unless it is a network, of this package or of such a module.
    """
    module, _, name = str(path).rpartition(".")
    if not module.startswith(ARCHITECTURES) and module not in sys.modules:
        raise UserError(
            f"refused class {path!r}; only {ARCHITECTURES}* and what is imported already is built from a file"
        )
    try:
        found = vars(sys.modules.get(module) or importlib.import_module(module))[name]
    except (ImportError, KeyError) as error:
        raise UserError(f"cannot build {path} ({type(error).__name__}: {' '.join(str(error).split())})") from error
    if not isinstance(found, type) or not issubclass(found, Network):
        raise UserError(f"refused class {path!r}; it is not a network")
    return found


def class_path(network: "Network") -> str:
    """The dotted path of a network's class."""
    return f"{type(network).__module__}.{type(network).__name__}"


class Network(nn.Module, ABC):
    """A generator, denoiser or discriminator that can be written to a file and built again from it.

    resolution and num_channels of its images; num_classes: 0 if it takes no labels.
    draws_from, latent_shape: what it draws one image from: standard "noise" (a latent, or an image full of it), or
    another image of this shape, which only data can give.
    any_size: it also takes images of other sizes than `resolution` says.
    num_styles: layers that read a style of their own; 0 for a network without styles. Style-based generators also have
    z_dim and the parts `mapping(latent, label) -> style` and `synthesis(style) -> image`.
    block_names: of a denoiser, the blocks whose outputs `forward` can return.

    draw_settings: names of the settings that `draw` reads, in the order in which reports show them.
    truncates_widths: the family's published students keep int(size * (1 - ratio)) channels of a group, in floating
    point, not the ceiling of the exact product. least_width: no group is cut below this width, or its own if smaller.
    measured_buffers: the last part of the names of buffers that hold what passes measured of the activations; they are
    worth nothing beside other weights.
    takes_transform: whether `forward` takes a `transform` of the picture, see `architectures.stylegan3`.
    """

    _arguments: dict[str, Any]
    resolution: int
    num_channels: int
    num_classes: int
    latent_shape: tuple[int, ...]
    draws_from: Literal["noise", "images"] = "noise"
    any_size: bool = False
    num_styles: int = 0
    z_dim: int
    mapping: Any
    synthesis: Any
    block_names: tuple[str, ...]
    draw_settings: tuple[str, ...] = ()
    truncates_widths: bool = False
    least_width: int = 1
    measured_buffers: tuple[str, ...] = ()
    takes_transform: bool = False

    @property
    def family(self) -> str:
        """What the architecture is called: the name of its file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments (JSON values only) with which the constructor builds this very shape.

        By default what the constructor keeps in `_arguments`.
        """
        return dict(self._arguments)

    @abstractmethod
    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """All prunable groups, in the order in which data flows; empty if the network is never pruned."""

    def passes(self) -> tuple[nn.Module, ...]:
        """The modules that a training step calls: both parts of a style-based generator, else the network itself."""
        return (self.mapping, self.synthesis) if self.num_styles else (self,)

    def pruning_order(self) -> tuple[str, ...]:
        """Names of all groups in the order in which the family's published pruner cuts them, if one by one."""
        return tuple(group.name for group in self.channel_groups())

    @abstractmethod
    def resized(self, sizes: Mapping[str, int]) -> Self:
        """A newly initialized network whose named groups have these sizes; other groups keep theirs."""

    @abstractmethod
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass of one image, by the rule the docstring names."""

    def filter_macs(self) -> int:
        """Multiply-accumulates of one image in fixed filters, which `macs` leaves out as the papers do."""
        return 0

    @abstractmethod
    def refinable(self) -> Refinable:
        """The parameters that a refinement after pruning works on; nothing else is touched."""

    def maskable(self) -> tuple[Maskable, ...]:
        """Layers whose single weights may be switched off, in the order of the data; by default none."""
        return ()

    def own_masks(self) -> dict[str, Tensor]:
        """Masks that the network itself chooses, bool, by the name of the weight or bias; only tickets do."""
        return {}

    def solid(self) -> "Network":
        """The network to deploy: itself, unless what it draws with has to be worked out first."""
        return self

    def packed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """What a file keeps of `state`, a state dict of this network; `unpacked` makes it whole again."""
        return state

    def unpacked(self, held: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `packed`; the network itself may be on the meta device. Raises: UserError if it cannot be."""
        return held

    @abstractmethod
    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        """Keyword arguments of one forward pass, zeros where values do not matter; for timing and export."""

    def cost_notes(self, **how: Any) -> tuple[str, ...]:
        """What a reader must know about the MACs and the latency of one forward pass. how: settings of `draw`."""
        return ()

    def measuring(self, average: Callable[[Tensor], Tensor], decay: float) -> AbstractContextManager[None]:
        """Inside, passes also move what the network keeps of its activations' magnitudes, before they use it.

        average: of a value over all processes. decay: of the running mean, for one pass.
        """
        return nullcontext()

    def styled(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """What `rendered` draws from: the styles [n, d] of latents, or, where there are none, the latents."""
        return latent

    def rendered(
        self, style: Tensor, label: Tensor | None = None, *, noise: Any = "const", features: Sequence[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """One pass: images of what `styled` gave (or of one style per layer), and block outputs of these sizes.

        noise: what a network that injects any takes; features: asked of style-based generators alone.
        """
        return self(style) if label is None else self(style, label), {}

    def draw(self, latent: Tensor, label: Tensor | None = None, **how: Any) -> Tensor:
        """Images [n, c, h, w] from what the network draws from, [n, *latent_shape]; nominally in [-1, 1].

        how: settings of any family; those of other families are ignored.
        """
        raise UserError(f"{type(self).__name__} draws no images")

    def check_drawing(self, **how: Any) -> None:
        """Find out whether `draw` works with these settings. Raises: UserError if not."""

    def drawing_stages(self, latent: Tensor, num_stages: int, **how: Any) -> Tensor | None:
        """How `draw` comes to its images: [num_stages, n, c, h, w], the latents first, the images last.

        None for a network that draws them in one pass.
        """
        return None

    def alpha_bar(self) -> Tensor:
        """Of a denoiser: the share [num_train_steps] of the clean image's variance that is left at each time step."""
        raise UserError(f"{type(self).__name__} is no denoiser, it has no noise schedule")
