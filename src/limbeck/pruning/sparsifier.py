"""The pruning stage that switches single weights off instead of removing channels. Also `limbeck.sparsify`."""

import copy
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from limbeck.arguments import kind
from limbeck.errors import UserError
from limbeck.masking import Masks, switch_off
from limbeck.model import Model, Pair
from limbeck.processes import first_alone
from limbeck.pruning.allocation import checked_ratio
from limbeck.pruning.criteria.base import WeightCriterion
from limbeck.pruning.criteria.magnitude import Magnitude
from limbeck.pruning.granularities import granularity
from limbeck.pruning.pruner import named
from limbeck.pruning.settling import settled
from limbeck.pruning.stage import PruningStage


class Sparsifier(PruningStage):
    """Pair to pair: in every maskable layer of the student's generator the share `ratio` of its units is switched off.

    criterion: scores single weights; units with the least sums go. ratio: in [0, 1), the same in every layer.
    granularity: which weights form a unit, see `pruning.granularities`; whole channels leave the network at once.
    """

    def __init__(self, criterion: WeightCriterion, *, ratio: float | int, granularity: str = "element"):
        self.criterion, self.ratio, self.granularity = criterion, ratio, granularity

    def __call__(self, pair: Pair, folder: Path | None = None) -> Pair:
        """The same teacher with a new student. Raises: UserError for wrong settings, before anything is scored."""
        return first_alone(lambda: self._sparse(pair))

    def _sparse(self, pair: Pair) -> Pair:
        checked_ratio(self.ratio)
        student = masked(pair.student, self.criterion, ratio=self.ratio, granularity_name=self.granularity)
        return replace(pair, student=settled(student))


def masked(model: Model, criterion: WeightCriterion, *, ratio: float | int, granularity_name: str) -> Model:
    """A copy of the model with masks, its masked weights zero. Raises: UserError, naming the setting."""
    ratio = checked_ratio(ratio, "ratio")
    choose = granularity(granularity_name)
    if not model.generator.maskable():
        raise UserError(f"{type(model.generator).__name__}: declares no layers whose weights may be switched off")
    generator = copy.deepcopy(model.generator)
    masks = joined(model.masks, choose(generator, criterion(generator), ratio))
    switch_off(generator, masks)
    new = replace(model, generator=generator, discriminator=copy.deepcopy(model.discriminator), masks=masks)
    return new.after("prune", criterion=named(criterion), ratio=ratio, granularity=granularity_name)


def joined(old: Masks, new: Masks) -> dict[str, Tensor]:
    """Masks under which a weight is off if either says so; on the devices of `old`."""
    both = {name: old[name] & new[name].to(old[name].device) for name in old.keys() & new.keys()}
    return {**old, **new, **both}


def sparsify(model: Model, *, ratio: float | int, granularity: str = "element") -> Model:
    """A model whose least weights, by magnitude, are zero; `model.masks` says which.

    ratio: share of units switched off in each layer, in [0, 1): exactly floor(ratio * n) of n.
    granularity: "element", "vector" (row of a kernel), "kernel", "filter" (output channels with their biases and
        normalization; the output layer stays dense) or "2:4" (of four consecutive input channels two; ratio 0.5).

    The masks stay in force in training, and in files. A network with whole channels switched off keeps its shape here;
    it leaves as a smaller one from a run, or by `limbeck.pruning.settling.settled`.

    Raises: UserError (a ValueError) for an impossible ratio or an unknown granularity.
    """
    kind(model, "model", Model, "a Model, as limbeck.load gives it")
    return masked(model, Magnitude(), ratio=ratio, granularity_name=granularity)
