"""GAN Slimming: a channel is worth the scale of its normalization, or of the style with which it is read.

Source: Wang et al., "GAN Slimming: All-in-One GAN Compression by a Unified Optimization Framework", 2020, in the
StyleGAN2 form of the baselines of Kim & Yoo (SVS, 2025), whose released code is followed: style scalars take the place
of normalization scales, and a first training with `loss/generator=[…,style_sparsity]` drives them towards zero.
Differs: the released scoring is misaligned (it hands a layer's scores to the channels of another); here each channel
gets those of the layer that reads it.
"""

from pathlib import Path

import torch

from limbeck.architectures.base import Network, channel_slice
from limbeck.errors import UserError
from limbeck.importers.checkpoint import load
from limbeck.model import Model
from limbeck.pruning.batches import Batches, sums_of, zero_sums
from limbeck.pruning.criteria.base import Criterion, Part, Scores, State
from limbeck.pruning.sensitivity import drawn_styles, readers


def norm_scales(network: Network) -> Scores:
    """|weight| of the normalization of each channel, mean over those that it passes.

    Raises: UserError if a group passes none that has weights.
    """
    state, norms, found = network.state_dict(), set(network.refinable().norm_weights), {}
    for group in network.channel_groups():
        scales = [state[a.parameter][channel_slice(a, group.size)] for a in group.axes if a.parameter in norms]
        if not scales:
            raise UserError(
                f"pruning: gan_slimming ranks by scales of normalizations or styles, and group {group.name!r} of this "
                f"{type(network).__name__} has none"
            )
        found[group.name] = torch.stack([scale.abs().double() for scale in scales]).mean(dim=0)
    return found


class GanSlimming(Criterion):
    """Mean |style scalar| of each channel's first reader, over many styles; `norm_scales` where there are no styles.

    sparse: model file of the sparsity phase (its `student.safetensors`), whose network is scored and cut; None takes
        the model itself.
    num_samples, batch_size: styles in all and per step.
    """

    def __init__(self, *, sparse: str | None = None, num_samples: int = 400, batch_size: int = 10, seed: int = 0):
        self.sparse = sparse
        self.batches = Batches(num_samples, batch_size, seed)
        self._sparse_network: Network | None = None

    @property
    def num_steps(self) -> int:
        return len(self.batches)

    def check(self) -> None:
        self.batches.check()
        if self.sparse is not None and not Path(self.sparse).is_file():
            raise UserError(
                f"pruning.criterion.sparse={self.sparse}: no such file; it is the student of a sparsity phase"
            )

    def start(self, model: Model) -> State:
        network = self.trained(model, {})
        if network.arguments != model.generator.arguments:
            raise UserError(f"pruning.criterion.sparse={self.sparse}: its network has another shape than the teacher")
        return zero_sums(network)

    @torch.no_grad()
    def step(self, model: Model, state: State, index: int) -> Part:
        network = self.trained(model, state)
        if not network.num_styles:
            return Part({})  # scales are read off the weights
        count, source = self.batches[index]
        style = drawn_styles(network, count, source)
        modulations = network.synthesis.modulations(style)
        scales = {
            name: modulations[axis.parameter.removeprefix("synthesis.").removesuffix(".weight")][0]
            for name, axis in readers(network).items()
        }
        return Part({name: scale.abs().double().sum(dim=0) for name, scale in scales.items()})

    def scores(self, model: Model, state: State) -> Scores:
        network = self.trained(model, state)
        if not network.num_styles:
            return norm_scales(network)
        return {name: total / self.batches.num_samples for name, total in sums_of(state, model.generator).items()}

    def trained(self, model: Model, state: State) -> Network:
        if self.sparse is None:
            return model.generator
        if self._sparse_network is None:
            self._sparse_network = load(self.sparse).generator
        return self._sparse_network.to(next(model.generator.parameters()).device)
