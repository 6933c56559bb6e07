"""Automated gradual pruning: the student's sparsity rises along a schedule while it is trained."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from limbeck.architectures.base import Network
from limbeck.distillation.companion import Companion
from limbeck.distillation.loop import Loop
from limbeck.errors import UserError
from limbeck.functional.sparsity import agp
from limbeck.masking import Masks
from limbeck.model import Pair
from limbeck.pruning.criteria.magnitude import Magnitude
from limbeck.pruning.granularities import granularity
from limbeck.pruning.sparsifier import joined


class GradualPruning(Companion):
    """Masks from the current magnitudes at `num_updates` + 1 moments up to `horizon`; then they stay as they are.

    target, start, horizon: see `functional.sparsity.agp`. granularity: see `pruning.granularities`.

    Source: Zhu & Gupta, "To prune, or not to prune", 2018; values of Yu & Pool, "Self-Supervised GAN Compression",
    2020. What is switched off never returns.
    """

    num_optimizers = 0

    def __init__(
        self,
        *,
        target: float = 0.5,
        start: float = 0.05,
        horizon: float = 0.5,
        granularity: str = "element",
        num_updates: int = 100,
    ):
        super().__init__()
        self.schedule: dict[str, Any] = {"target": target, "start": start, "horizon": horizon}
        self.granularity, self.num_updates = granularity, num_updates

    def check(self, student: Network) -> None:
        if isinstance(self.num_updates, bool) or not isinstance(self.num_updates, int) or self.num_updates < 1:
            raise UserError(f"companion.agp.num_updates={self.num_updates}: must be a whole number, at least 1")
        if not student.maskable():
            raise UserError(f"companion=agp: a {type(student).__name__} declares no layers whose weights it could take")
        for share in (0.0, 1.0):
            try:
                self.masks_of(student, agp(share, **self.schedule))
            except UserError as error:
                raise UserError(f"companion=agp: {error}") from error

    def describe(self) -> dict[str, Any]:
        return {**self.schedule, "granularity": self.granularity}

    def prepare(self, pair: Pair, loop: Loop) -> None:
        """Nothing is needed before the first turn."""

    def optimizers(self) -> list[Optimizer]:
        return []

    def play(self, loop: Loop, optimizers: Sequence, real: Tensor, label: Tensor) -> None:
        stage = self.stage(loop.images_seen / loop.total_images)
        before = self.stage((loop.images_seen - loop.batch_size) / loop.total_images) if loop.images_seen else -1
        if stage != before:
            sparsity = agp(stage / self.num_updates * self.schedule["horizon"], **self.schedule)
            old = loop.masks.masks
            loop.masks.replace(joined(old, self.masks_of(loop.student, sparsity, old)), loop.student, loop.ema)

    def stage(self, share: float) -> int:
        """How many of the updates are due when this share of the training is done; all at the horizon."""
        return min(int(share / self.schedule["horizon"] * self.num_updates), self.num_updates)

    @torch.no_grad()
    def masks_of(self, network: Network, sparsity: float, old: Masks | None = None) -> dict[str, Tensor]:
        """Masks of this sparsity by current magnitudes; what `old` switches off ranks below all else."""
        scores = Magnitude()(network)
        for name, score in scores.items():
            score.clamp_(min=torch.finfo(score.dtype).tiny)
            if old and name in old:
                score.masked_fill_(~old[name].to(score.device), 0)
        return granularity(self.granularity)(network, scores, sparsity)
