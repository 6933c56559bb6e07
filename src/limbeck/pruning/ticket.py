"""The pruning stage that forgets all weights: the student is a strong lottery ticket of the teacher's shape."""

import copy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from limbeck.architectures.ticket import Ticket
from limbeck.model import Pair
from limbeck.processes import first_alone
from limbeck.pruning.allocation import checked_ratio
from limbeck.pruning.stage import PruningStage


class TicketStart(PruningStage):
    """Pair to pair: a student of random weights that are never trained; its scores are, by `distillation`.

    ratio: share of the weights that is switched off, in [0, 1). weight_seed, init, scope: see `architectures.ticket`.
    """

    def __init__(self, *, ratio: float | int, weight_seed: int = 31, init: str = "normal", scope: str = "layer"):
        self.ratio, self.weight_seed, self.init, self.scope = ratio, weight_seed, init, scope

    def __call__(self, pair: Pair, folder: Path | None = None) -> Pair:
        """The same teacher with a ticket as student. Raises: UserError for wrong settings or another family."""
        return first_alone(lambda: self._drawn(pair))

    def _drawn(self, pair: Pair) -> Pair:
        keep_ratio = float(1 - Fraction(str(checked_ratio(self.ratio))))
        facts = {"keep_ratio": keep_ratio, "seed": self.weight_seed, "init": self.init, "scope": self.scope}
        generator = Ticket.of(pair.student.generator, **facts).eval()
        judge = copy.deepcopy(pair.student.discriminator)
        student = replace(pair.student, generator=generator, discriminator=judge, masks={})
        return replace(pair, student=student.after("prune", criterion="ticket", **facts))
