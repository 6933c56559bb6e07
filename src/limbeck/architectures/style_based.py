"""What style-based generators share: equalized layers, the mapping network, demodulation, and the generator's outside.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, with the layout of the official
PyTorch release (2020, "ADA"), whose names of parameters these are.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.architectures.base import Network
from limbeck.errors import UserError

Noise = Literal["random", "const", "none"]
SLOPE = 0.2
GAIN = math.sqrt(2)


def compute_dtype(parameter: Tensor) -> torch.dtype:
    """The type in which convolutions run here: autocast's if it is on, else the parameter's."""
    device = parameter.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else parameter.dtype


class EqualLinear(nn.Module):
    """Fully connected layer with run-time weight scaling; weights are stored divided by `lr_multiplier`."""

    def __init__(self, num_in: int, num_out: int, *, bias: float = 0.0, lr_multiplier: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([num_out], float(bias)))
        self.lr_multiplier = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        gain = self.lr_multiplier / math.sqrt(self.weight.shape[1])
        return torch.addmm(self.bias, x, self.weight.T, beta=self.lr_multiplier, alpha=gain)


def normalize_second_moment(x: Tensor) -> Tensor:
    """Scale each row to mean square 1."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class MappingNetwork(nn.Module):
    """Latent z (and class label) to style w: normalization, then `depth` leaky-ReLU layers."""

    w_avg: Tensor

    def __init__(self, *, z_dim: int, w_dim: int, num_classes: int, depth: int, track_average: bool = True):
        super().__init__()
        self.z_dim, self.w_dim, self.num_classes, self.depth = z_dim, w_dim, num_classes, depth
        embedded = w_dim if num_classes else 0
        if num_classes:
            self.embed = EqualLinear(num_classes, w_dim)
        sizes = [z_dim + embedded] + [w_dim] * depth
        for index in range(depth):
            layer = EqualLinear(sizes[index], sizes[index + 1], lr_multiplier=0.01)
            self.add_module(f"fc{index}", layer)
        if track_average:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, latent: Tensor | None, label: Tensor | None = None, *, truncation: float = 1.0) -> Tensor:
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            parts = []
            if latent is not None and self.z_dim:
                if latent.ndim != 2 or latent.shape[1] != self.z_dim:
                    raise UserError(f"latent: shape {tuple(latent.shape)}, expected [n, {self.z_dim}]")
                parts.append(normalize_second_moment(latent.float()))
            if self.num_classes:
                rows = one_hot(label, self.num_classes)
                # An exported program would take the compared lengths for constants.
                if latent is not None and not torch.compiler.is_exporting() and len(rows) != len(latent):
                    raise UserError(f"label: {len(rows)} of them, expected one for each of {len(latent)} latents")
                parts.append(normalize_second_moment(self.embed(rows)))
            x = torch.cat(parts, dim=1)
            for index in range(self.depth):
                x = F.leaky_relu(self.get_submodule(f"fc{index}")(x), SLOPE) * GAIN
            return x if truncation == 1.0 else self.w_avg.lerp(x, truncation)


def one_hot(label: Tensor | None, num_classes: int) -> Tensor:
    """Class indices [n] or one-hot rows [n, num_classes] as float one-hot rows."""
    if label is None:
        raise UserError(f"label: missing; this network has {num_classes} classes")
    if label.ndim == 1:
        # Values are not known while a program is made, and to look at those on a GPU is to wait for it.
        checkable = not torch.compiler.is_exporting() and label.device.type == "cpu"
        if label.is_floating_point() or (checkable and (label.min() < 0 or label.max() >= num_classes)):
            raise UserError(f"label: expected class indices in 0..{num_classes - 1}")
        return F.one_hot(label.long(), num_classes).float()
    if label.shape[1] != num_classes:
        raise UserError(f"label: shape {tuple(label.shape)}, expected [n] or [n, {num_classes}]")
    return label.float()


def demodulation(weight: Tensor, scale: Tensor) -> Tensor:
    """Factor [n, o] that gives each modulated filter unit norm: rsqrt(sum over i, k of (scale_i w_oik)^2 + 1e-8)."""
    return (scale.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8).rsqrt()


class StyleBased(Network):
    """A generator of a mapping network and a synthesis network, one channel group for each of its `widths`."""

    def styled(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        return self.mapping(latent, label)

    def rendered(
        self, style: Tensor, label: Tensor | None = None, *, noise: Noise = "const", features: Sequence[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """The label is in the style already."""
        if not features:
            return self.synthesis(style, noise=noise), {}
        return self.synthesis(style, noise=noise, return_features=features)

    def resized(self, sizes: Mapping[str, int]) -> Self:
        widths = [sizes.get(group.name, group.size) for group in self.channel_groups()]
        return type(self)(**{**self._arguments, "widths": widths})

    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        device = next(self.parameters()).device
        inputs = {"latent": torch.zeros(num_images, self.z_dim, device=device)}
        if self.num_classes:
            inputs["label"] = torch.zeros(num_images, dtype=torch.long, device=device)
        return inputs
