"""A student from elsewhere in the place of pruning: cut by another tool, or smaller by design."""

import os
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.architectures.inputs import drawn_inputs
from limbeck.errors import UserError
from limbeck.importers.checkpoint import load
from limbeck.model import Pair
from limbeck.pruning.stage import PruningStage

SHARED = ("family", "resolution", "num_channels", "num_classes", "draws_from", "latent_shape")


class Given(PruningStage):
    """Pair to pair: the student is read from a file of any layout that `limbeck.load` knows.

    path: the file or folder; None where pruning makes the student. facts: what the file does not say, see `load`.
    """

    def __init__(self, path: str | Path | None = None, **facts: Any):
        self.path = path
        self.facts = facts

    def __call__(self, pair: Pair, folder: Path | None = None) -> Pair:
        """The same teacher with the student of the file; judges that the file lacks are the old student's.

        Raises: UserError if it draws from other inputs, other images, or is of another family than the teacher.
        """
        if self.path is None or not os.path.exists(os.path.expanduser(self.path)):
            raise UserError(f"student.path={self.path}: no such file; name another, or null to prune the teacher")
        found, old = load(self.path, **self.facts), pair.student
        self._check(found.generator, pair.teacher.generator)
        student = replace(
            found,
            discriminator=old.discriminator if found.discriminator is None else found.discriminator,
            reverse=old.reverse if found.reverse is None else found.reverse,
            terms="; ".join(dict.fromkeys(terms for terms in (found.terms, pair.teacher.terms) if terms)),
        )
        return replace(pair, student=student.after("given", path=os.path.basename(self.path)))

    def _check(self, student: Network, teacher: Network) -> None:
        facts: dict[str, Callable[[Network], Any]] = {name: attrgetter(name) for name in SHARED}
        facts["size of a style"] = _style
        for name, fact in facts.items():
            own, other = fact(student), fact(teacher)
            if own != other:
                raise UserError(f"student.path={self.path}: {name} is {own}, the teacher's is {other}")


@torch.no_grad()
def _style(network: Network) -> tuple[int, ...]:
    """The shape of what an image is drawn from, where a network maps latents to styles first."""
    if network.draws_from != "noise":
        return ()
    inputs = drawn_inputs(network, 1, torch.Generator())
    style: Tensor = network.styled(inputs.source, inputs.label)
    return tuple(style.shape[1:])
