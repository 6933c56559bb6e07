"""The pruning stage: score the student's channels, choose, slim. Also `limbeck.prune`, its short form."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck import devices, parallel
from limbeck.architectures.base import ChannelGroup, Network
from limbeck.arguments import kind
from limbeck.configured import configured
from limbeck.errors import UserError
from limbeck.model import Model, Pair
from limbeck.processes import first_alone
from limbeck.pruning.allocation import (
    Allocation,
    Uniform,
    allocated,
    check_scores,
    checked_ratio,
    chosen_groups,
)
from limbeck.pruning.budget import Budget, Latency
from limbeck.pruning.criteria.base import Criterion, Scores
from limbeck.pruning.picture import save_picture
from limbeck.pruning.scoring import worked
from limbeck.pruning.settling import slimmed_masks
from limbeck.pruning.slimming import slim
from limbeck.pruning.stage import PruningStage

SCORES, PICTURE = "scores.safetensors", "scores.png"


class Pruner(PruningStage):
    """Pair to pair: the student's generator loses the share `ratio` of the channels of its groups.

    criterion: scores the channels; None removes nothing, whatever the ratio.
    allocation: how many channels each group keeps; the same share of each by default.
    target_macs: multiply-accumulates that the student may need; decides the ratio. None: `ratio` as it is.
    target_latency_ms: milliseconds that the student may take for one image, as `latency` measures them on this
        machine; decides the ratio, beside `target_macs` if both are given.
    round_to: kept counts are rounded up to a multiple of this, at most the full width.
    groups, keep_groups: which groups are cut and which of these stay whole, by name or pattern; see `chosen_groups`.
    correct_gain: see `slim`; False is what the papers' code does.
    """

    def __init__(
        self,
        criterion: Criterion | Callable[[Model], Scores] | None,
        *,
        ratio: float | int,
        allocation: Allocation | None = None,
        target_macs: Any = None,
        target_latency_ms: Any = None,
        latency: Latency | None = None,
        round_to: int = 1,
        groups: Sequence[str] | None = None,
        keep_groups: Sequence[str] = (),
        correct_gain: bool = False,
    ):
        self.criterion = criterion
        self.ratio = ratio
        self.allocation = allocation
        self.budget = Budget(target_macs, target_latency_ms, latency, round_to)
        self.round_to = round_to
        self.groups = groups
        self.keep_groups = keep_groups
        self.correct_gain = correct_gain

    def __call__(self, pair: Pair, folder: Path | None = None) -> Pair:
        """The same teacher with a new, smaller student; its discriminator is a copy of the old student's.

        folder: keeps the scores, from which an interrupted scoring resumes, and their picture.

        Raises: UserError for an impossible ratio or a group that is not there, before anything is scored.
        """
        chosen = first_alone(lambda: self._chosen(pair.student.generator))
        if self.criterion is None:
            return replace(pair, student=copy.deepcopy(pair.student).after("prune", criterion="none", ratio=0.0))
        self.budget.check(pair.student.generator, chosen)
        network, scores = self._scored(pair.student, folder)
        return first_alone(lambda: self._cut(pair, network, scores, chosen, folder))

    def _chosen(self, network: Network) -> tuple[ChannelGroup, ...]:
        checked_ratio(self.ratio)
        return chosen_groups(network.channel_groups(), self.groups, self.keep_groups)

    def _cut(
        self, pair: Pair, network: Network, scores: Scores, chosen: tuple[ChannelGroup, ...], folder: Path | None
    ) -> Pair:
        """The pair with what is kept of `network`, a student's own generator or what scoring made of it."""
        every = pair.student.generator.channel_groups()
        allocation = self.allocation or Uniform()
        check_scores(chosen, scores)
        scores = {group.name: scores[group.name] for group in chosen}
        found, measured = self.budget.ratio(network, scores, allocation)
        ratio = self.ratio if found is None else found
        keep = allocated(network, scores, allocation, ratio=ratio, round_to=self.round_to)
        if folder is not None and keep and parallel.rank() == 0:
            save_picture(folder / PICTURE, scores, keep)
        student = replace(
            pair.student,
            generator=slim(network, keep, correct_gain=self.correct_gain),
            discriminator=copy.deepcopy(pair.student.discriminator),
            masks=slimmed_masks(network, pair.student.masks, keep) if pair.student.masks else {},
        )
        facts: dict[str, Any] = {"ratio": ratio, "round_to": self.round_to, "correct_gain": self.correct_gain}
        facts |= measured
        if len(chosen) < len(every):
            facts["kept_groups"] = [group.name for group in every if group not in chosen]
        return replace(pair, student=student.after("prune", criterion=named(self.criterion), **facts))

    def sketched(self, pair: Pair) -> Pair:
        """As many channels of each group as `allocation` keeps where all score alike."""
        if self.criterion is None:
            return self(pair)
        sketch = copy.copy(self)
        sketch.criterion = _alike
        return sketch(pair)

    def _scored(self, model: Model, folder: Path | None) -> tuple[Network, Scores]:
        """The network to cut and its scores, both on the CPU; scoring itself runs where `devices` says."""
        assert self.criterion is not None
        if not isinstance(self.criterion, Criterion):
            return model.generator, self.criterion(model)
        device = next(model.generator.parameters()).device
        for network in (model.generator, model.discriminator):
            if network is not None:
                network.to(devices.device())
        try:
            state = worked(self.criterion, model, path=None if folder is None else folder / SCORES)
            scores = {name: score.cpu() for name, score in self.criterion.scores(model, state).items()}
            return self.criterion.trained(model, state).to(device), scores
        finally:
            for network in (model.generator, model.discriminator):
                if network is not None:
                    network.to(device)


def _alike(model: Model) -> dict[str, Tensor]:
    return {group.name: torch.ones(group.size) for group in model.generator.channel_groups()}


def named(criterion: object) -> str:
    """The public name of a criterion: its file's ("l1", "dcp"), or a plain function's own."""
    return getattr(criterion, "__name__", None) or type(criterion).__module__.rpartition(".")[2]


def prune(
    model: Model, criterion: str | Criterion | Callable[[Model], Scores], ratio: float | int = 0.7, **options: Any
) -> Model:
    """A model with a smaller generator.

    criterion: the name of a YAML in conf/pruning, a `Criterion`, or any function from a model to scores per group.
    ratio: share of channels removed from each group, in [0, 1).
    options: further keys of that YAML, or of `Pruner`: allocation, target_macs, target_latency_ms, round_to,
        groups, keep_groups, correct_gain.

    Raises: UserError for an unknown criterion or option, or an impossible ratio.
    """
    kind(model, "model", Model, "a Model, as limbeck.load gives it")
    checked_ratio(ratio, "ratio")
    if not isinstance(criterion, str | Criterion) and not callable(criterion):
        raise UserError(f"criterion={criterion!r}: must be a name of conf/pruning, or an object that scores channels")
    if isinstance(criterion, str):
        pruner = configured("pruning", criterion, ratio=ratio, **options)
    else:
        pruner = Pruner(criterion, ratio=ratio, **options)
    return pruner(Pair(teacher=model, student=model)).student
