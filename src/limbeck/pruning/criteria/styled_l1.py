"""Magnitude as the data meet it: the weights around a channel after modulation and demodulation, over many styles."""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.pruning.criteria.base import Criterion, Scores, State
from limbeck.pruning.criteria.l1 import channel_sums
from limbeck.pruning.sensitivity import drawn_styles, readers


def styled_norm(
    weight: Float[Tensor, "o i kh kw"], scale: Float[Tensor, "n i"], factor: Float[Tensor, "n o"] | None, dim: int
) -> Float[Tensor, "size"]:
    """L1 norm per channel of `dim` (0 output, 1 input) of the weights w_oi s_i d_o, mean over styles.

    scale: s, what the style multiplies input channels by; factor: d, the demodulation, 1 if None.
    """
    size = weight.abs().sum(dim=(2, 3)).double()
    scale = scale.abs().double()
    factor = torch.ones(len(scale), len(size)).to(scale) if factor is None else factor.double()
    norms = factor * (scale @ size.T) if dim == 0 else scale * (factor @ size)
    return norms.mean(dim=0)


class StyledL1(Criterion):
    """L1 norm of the modulated and demodulated weights that read a channel ("input") or produce it ("output").

    num_samples: styles over which the norm is averaged.

    Source: Liu et al., "Content-Aware GAN Compression", 2021, released metrics "l1-out" (here role "input") and its
    mirror "l1-in". As there, only the first reader counts: see `sensitivity.readers`. The learned constant is produced
    by no convolution, so its own norm stands in for role "output". Where there are no styles, weights are as stored.
    """

    def __init__(self, *, role: str = "input", num_samples: int = 400, seed: int = 0):
        self.role = role
        self.num_samples = num_samples
        self.seed = seed

    def check(self) -> None:
        if self.role not in ("input", "output"):
            raise UserError(f"role={self.role!r}: must be 'input' or 'output'")
        if self.num_samples < 1:
            raise UserError(f"num_samples={self.num_samples}: must be at least 1")

    @torch.no_grad()
    def scores(self, model: Model, state: State) -> Scores:
        network, weights = model.generator, model.generator.state_dict()
        source = torch.Generator().manual_seed(self.seed)
        style = drawn_styles(network, self.num_samples, source)
        modulations = {}
        if network.num_styles:
            made = network.synthesis.modulations(style)
            modulations = {f"synthesis.{layer}.weight": values for layer, values in made.items()}
        read, found = readers(network), {}
        for group in network.channel_groups():
            produced = next(axis for axis in group.axes if axis.role == "output")
            axis = read[group.name] if self.role == "input" else produced
            weight = weights[axis.parameter]
            if axis.parameter in modulations:
                scale, factor = modulations[axis.parameter]
                found[group.name] = styled_norm(weight, scale, factor, axis.dim)
            else:
                found[group.name] = channel_sums(weight.double(), axis, group.size)
        return found
