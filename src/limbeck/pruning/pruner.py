"""The pruning stage: score the student's channels, choose, slim. Also `limbeck.prune`, its short form."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from limbeck.configured import configured
from limbeck.model import Model, Pair
from limbeck.pruning.allocation import Allocation, Uniform, allocated, checked_ratio
from limbeck.pruning.criteria.base import Scores
from limbeck.pruning.slimming import slim


class Pruner:
    """Pair to pair: the student's generator loses the share `ratio` of the channels of its groups.

    criterion: scores the channels; None removes nothing, whatever the ratio.
    allocation: how many channels each group keeps; the same share of each by default.
    round_to: kept counts are rounded up to a multiple of this, at most the full width.
    correct_gain: see `slim`; False is what the papers' code does.
    """

    def __init__(
        self,
        criterion: Callable[[Model], Scores] | None,
        *,
        ratio: float | int,
        allocation: Allocation | None = None,
        round_to: int = 1,
        correct_gain: bool = False,
    ):
        self.criterion = criterion
        self.ratio = ratio
        self.allocation = allocation
        self.round_to = round_to
        self.correct_gain = correct_gain

    def __call__(self, pair: Pair) -> Pair:
        """The same teacher with a new, smaller student; its discriminator is a copy of the old student's.

        Raises: UserError for an impossible ratio, before anything is scored.
        """
        checked_ratio(self.ratio)
        discriminator = copy.deepcopy(pair.student.discriminator)
        if self.criterion is None:
            generator = copy.deepcopy(pair.student.generator)
            student = replace(pair.student, generator=generator, discriminator=discriminator)
            return replace(pair, student=student.after("prune", criterion="none", ratio=0.0))
        keep = allocated(
            pair.student.generator,
            self.criterion(pair.student),
            self.allocation or Uniform(),
            ratio=self.ratio,
            round_to=self.round_to,
        )
        generator = slim(pair.student.generator, keep, correct_gain=self.correct_gain)
        student = replace(pair.student, generator=generator, discriminator=discriminator)
        facts = {"ratio": self.ratio, "round_to": self.round_to, "correct_gain": self.correct_gain}
        return replace(pair, student=student.after("prune", criterion=named(self.criterion), **facts))


def named(criterion: Callable[[Model], Scores]) -> str:
    """The public name of a criterion: its file's ("l1", "dcp"), or a plain function's own."""
    return getattr(criterion, "__name__", None) or type(criterion).__module__.rpartition(".")[2]


def prune(model: Model, criterion: str | Callable[[Model], Scores], ratio: float | int = 0.7, **options: Any) -> Model:
    """A model with a smaller generator.

    criterion: the name of a YAML in conf/pruning, or an object that maps a model to scores per group.
    ratio: share of channels removed from each group, in [0, 1).
    options: further keys of that YAML, or of `Pruner`: allocation, round_to, correct_gain.

    Raises: UserError for an unknown criterion or option, or an impossible ratio.
    """
    checked_ratio(ratio, "ratio")
    if isinstance(criterion, str):
        pruner = configured("pruning", criterion, ratio=ratio, **options)
    else:
        pruner = Pruner(criterion, ratio=ratio, **options)
    return pruner(Pair(teacher=model, student=model)).student
