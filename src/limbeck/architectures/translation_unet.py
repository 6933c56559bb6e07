"""The U-Net generator of pix2pix: image to image, as deep as the size of the image allows.

Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017, appendix 6.1, as its
authors' public PyTorch code has it.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.architectures.base import ChannelGroup
from limbeck.architectures.convolutional import (
    Convolutional,
    Layer,
    Norm,
    check_counts,
    check_image,
    counted_macs,
    declared,
    full_widths,
    initialize,
    read,
)
from limbeck.errors import UserError

SLOPE = 0.2
FEWEST_LEVELS, MOST_LEVELS = 5, 12


class UNet(Convolutional):
    """Image [n, in_channels, h, w] to image [n, num_channels, h, w], both in [-1, 1].

    Each level on the way down halves the image; each on the way up doubles it and reads the same level's output beside
    what comes from below. In training mode batch norm takes the batch's statistics and dropout is the only noise; in
    evaluation mode there is neither. The reference draws its published images in training mode.

    resolution: of the published images, at which costs are counted; None is 2 ** num_levels, of which it must be a
        multiple.
    width: channels of the first level; the deeper ones have 2, 4 and 8 times as many.
    norm: "batch" or "instance"; the outermost and the innermost level on the way down have none.
    dropout: share of the values dropped in training mode, on the levels up that lie between the innermost and the
        outermost of full width.
    widths: sizes of the channel groups that differ from these, by name.
    """

    draws_from = "images"
    any_size = True

    def __init__(
        self,
        *,
        resolution: int | None = None,
        in_channels: int = 3,
        num_channels: int = 3,
        width: int = 64,
        num_levels: int = 8,
        norm: Literal["batch", "instance"] = "batch",
        dropout: float = 0.5,
        widths: Mapping[str, int] | None = None,
    ):
        super().__init__()
        check_counts(in_channels=in_channels, num_channels=num_channels, width=width)
        if not FEWEST_LEVELS <= num_levels <= MOST_LEVELS:
            raise UserError(f"num_levels={num_levels}: must be from {FEWEST_LEVELS} to {MOST_LEVELS}")
        resolution = 2**num_levels if resolution is None else resolution
        if resolution < 1 or resolution % 2**num_levels:
            raise UserError(f"resolution={resolution}: must be a multiple of {2**num_levels}")
        if norm == "none" or not 0 <= dropout < 1:
            raise UserError(f"norm={norm!r}, dropout={dropout}: must be a normalization, and a share in [0, 1)")
        outputs = [width * min(2**level, 8) for level in range(num_levels)]
        down = {f"down{level}": size for level, size in enumerate(outputs, 1)}
        up = {f"up{level}": outputs[level - 2] for level in range(num_levels, 1, -1)}
        self.widths = full_widths(down | up, widths)
        self._arguments = {
            "resolution": resolution,
            "in_channels": in_channels,
            "num_channels": num_channels,
            "width": width,
            "num_levels": num_levels,
            "norm": norm,
            "dropout": dropout,
        }
        self.resolution, self.num_channels, self.num_classes = resolution, num_channels, 0
        self.in_channels, self.num_levels, self.dropout = in_channels, num_levels, dropout
        self.latent_shape = (in_channels, resolution, resolution)
        self._build(norm)
        initialize(self)

    def _build(self, norm: Norm) -> None:
        sizes, last = self.widths, self.num_levels
        biased = norm == "instance"  # of every layer that batch norm could follow, whether it does or not
        self.down, self.up = nn.ModuleDict(), nn.ModuleDict()
        for level in range(1, last + 1):
            num_in = sizes[f"down{level - 1}"] if level > 1 else self.in_channels
            kind: Norm = norm if 1 < level < last else "none"
            layer = Layer(num_in, sizes[f"down{level}"], 4, stride=2, padding=1, norm=kind, bias=biased)
            self.down[str(level)] = layer
        for level in range(last, 0, -1):
            num_in = sizes[f"down{level}"] + (sizes[f"up{level + 1}"] if level < last else 0)
            num_out = sizes[f"up{level}"] if level > 1 else self.num_channels
            layer = Layer(
                num_in, num_out, 4, padding=1, up=True, norm=norm if level > 1 else "none", bias=biased or level == 1
            )
            self.up[str(level)] = layer

    def forward(self, image: Tensor) -> Tensor:
        check_image(image, self.in_channels, multiple=2**self.num_levels)
        x, skipped = image.contiguous(), []
        for level, layer in self.down.items():
            x = layer(x if level == "1" else F.leaky_relu(x, SLOPE))
            skipped.append(x)
        x = skipped.pop()
        for level, layer in self.up.items():
            if int(level) < self.num_levels:
                x = torch.cat([skipped.pop(), x], dim=1)
            x = layer(F.relu(x))
            if FEWEST_LEVELS <= int(level) < self.num_levels:
                x = F.dropout(x, self.dropout, self.training)
        return x.tanh()

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """The output of every level on the way down, then of every level on the way up."""
        layers: dict[str, Any] = {}
        for level in range(1, self.num_levels + 1):
            deeper = [f"down.{level + 1}"] if level < self.num_levels else []
            layers[f"down{level}"] = ([f"down.{level}"], [*deeper, f"up.{level}"])
        for level in range(self.num_levels, 1, -1):
            beside = read(self, f"up.{level - 1}", offset=self.widths[f"down{level - 1}"])
            layers[f"up{level}"] = ([f"up.{level}"], [beside])
        return declared(self, self.widths, layers)

    def macs(self) -> int:
        """See `counted_macs`, at `resolution`."""
        levels = range(1, self.num_levels + 1)
        return counted_macs(self, {f"{way}.{n}": self.resolution >> n for way in ("down", "up") for n in levels})
