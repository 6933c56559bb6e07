"""Training of a student that translates images, from scratch or beside its teacher: pix2pix, CycleGAN, StarGAN, SRGAN.

The baselines differ in terms, turns and settings alone; one loop serves all of them, and their students.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.architectures.base import Network
from limbeck.distillation.game import set_trainable
from limbeck.distillation.image_pool import ImagePool
from limbeck.distillation.optimizers import MakeOptimizer, corrected, own_parameters
from limbeck.distillation.training import STUDENT, StudentTraining
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.image_step import Players, Step
from limbeck.losses.translation_step import TranslationJudgingStep, TranslationStep, Way
from limbeck.losses.weighted import Weighted, cadences
from limbeck.model import Model, Pair
from limbeck.parallel import gathered, rank

Judging = Mapping[str, nn.Module]


class TranslationDistillation(StudentTraining):
    """Trains `pair.student`'s generator, its other direction if it has one, and the judges of both.

    More arguments: `StudentTraining`. The result is the student's moving average; the other direction, which is not
    compressed, goes on from the model's own and plays along without an average. One optimizer trains both directions,
    one trains all judges.

    reverse_judges: makes the other direction's judges from the pair of the other directions; None trains one direction
        alone, whatever the model has.
    pool_size: images of an `ImagePool` for each direction; 0 for none.
    first: who takes the first turn in a step.
    generator_every: the generator's turn comes at every so manieth step, the judges' at each.
    """

    def __init__(
        self,
        pair: Pair,
        *,
        judges: Judging,
        generator_terms: Mapping[str, Weighted],
        discriminator_terms: Mapping[str, Weighted],
        generator_optimizer: MakeOptimizer,
        discriminator_optimizer: MakeOptimizer | None = None,
        reverse_judges: Callable[[Pair], Judging] | None = None,
        pool_size: int = 0,
        first: Literal["generator", "discriminator"] = "generator",
        generator_every: int = 1,
        **training: Any,
    ):
        kinds: dict[str, type[Step]] = {"generator": TranslationStep}
        if judges:
            kinds["discriminator"] = TranslationJudgingStep
        terms = {"generator": generator_terms, "discriminator": discriminator_terms}
        _check(pair, judges, terms, pool_size=pool_size, first=first, generator_every=generator_every)
        super().__init__(pair, terms=terms, step_kinds=kinds, **training)
        other = pair.student.reverse if reverse_judges is not None else None
        self.reverse = None if other is None else copy.deepcopy(other.generator).train().requires_grad_(True)
        self.judges = nn.ModuleDict(judges)
        self.reverse_judges = nn.ModuleDict()
        if other is not None and judges and reverse_judges is not None and pair.teacher.reverse is not None:
            self.reverse_judges = nn.ModuleDict(reverse_judges(Pair(pair.teacher.reverse, other)))
        self.trained = [*_trained(self.judges).values(), *_trained(self.reverse_judges).values()]
        for judge in self.trained:
            judge.train().requires_grad_(True)
        self.pools = [ImagePool(pool_size) for _ in range(1 if other is None else 2)]
        self.first, self.generator_every = first, generator_every
        self.make_generator_optimizer, self.make_discriminator_optimizer = generator_optimizer, discriminator_optimizer

    def own_optimizers(self) -> list[Optimizer]:
        ours, theirs = self.terms["generator"], self.terms["discriminator"]
        drawing = [*self.student.parameters(), *own_parameters(ours)]
        drawing += [] if self.reverse is None else [*self.reverse.parameters()]
        found = [corrected(self.make_generator_optimizer, drawing, ours)]
        if self.trained and theirs and self.make_discriminator_optimizer is not None:
            judging = [parameter for judge in self.trained for parameter in judge.parameters()]
            found.append(corrected(self.make_discriminator_optimizer, [*judging, *own_parameters(theirs)], theirs))
        return found

    def final_judge(self) -> nn.Module | None:
        """The student's first one; without any that of its file, which another run may want."""
        first = next(iter(self.judges.values()), None)
        return copy.deepcopy(self.pair.student.discriminator) if first is None else _network(first)

    def final_reverse(self) -> Model | None:
        """The trained other direction, with its first judge."""
        if self.reverse is None or self.pair.student.reverse is None:
            return self.pair.student.reverse
        judge = _network(next(iter(self.reverse_judges.values()), None))
        networks = [None if part is None else part.cpu().eval().requires_grad_(False) for part in (self.reverse, judge)]
        generator, discriminator = cast(Network, networks[0]), cast(Network | None, networks[1])
        return replace(self.pair.student.reverse, generator=generator, discriminator=discriminator)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["pools"] = gathered([[image.cpu() for image in pool.images] for pool in self.pools])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Those of the process of this number; processes that the saved run did not have begin with empty ones."""
        kept = checkpoint["pools"]
        for pool, images in zip(self.pools, kept[rank()] if rank() < len(kept) else (), strict=False):
            pool.images = list(images)

    # -- one iteration -------------------------------------------------------------------------------------------

    def play(self, optimizers: list, real: Tensor, label: Tensor, *sources: Tensor) -> None:
        """Every way makes its images once; both players' turns of a step read them."""
        drawing, judging = optimizers[0], optimizers[1:]
        parts = self._parts(real, label, sources[0] if sources else real)
        due = (self.step_index + 1) % self.generator_every == 0
        if due and self.first == "discriminator":
            self._let_train(drawing=True)
            for ways in parts:  # here, so that the judges' turn does not make them without gradient first
                for way in ways:
                    _ = way.fake
        order = ("discriminator", "generator") if self.first == "discriminator" else ("generator", "discriminator")
        for player in order:
            if player == "generator" and due:
                self._draw(drawing, parts)
            elif player == "discriminator" and judging:
                self._judge(judging, parts)
        self._let_train(drawing=True, judging=True)

    def _draw(self, optimizer: Any, parts: Sequence[Sequence[Way]]) -> None:
        self._let_train(drawing=True)
        players = Players(self.student, self.teacher, dict(self.judges))
        for every, terms in cadences(self.terms["generator"]).items():
            if (self.step_index // self.generator_every) % every == 0:
                fresh = parts if every == 1 else [[replace(way) for way in ways] for ways in parts]
                steps: list[TranslationStep] = []
                for ways in fresh:
                    steps.append(TranslationStep(players, images_seen=self.images_seen, siblings=steps, ways=ways))
                self.optimize([optimizer], STUDENT, terms, steps)
                steps.clear()  # siblings hold one another, and with them their images

    def _judge(self, optimizers: Sequence, parts: Sequence[Sequence[Way]]) -> None:
        self._let_train(judging=True)
        players = Players(self.student, self.teacher, _trained(self.judges))
        rounds = [[replace(way, judges=_trained(way.judges), pool=None) for way in ways] for ways in parts]
        for ways, made in zip(rounds, parts, strict=True):
            for way, before in zip(ways, made, strict=True):
                way.shown = before.shown  # made once, and taken from the pool once
        for every, terms in cadences(self.terms["discriminator"]).items():
            if self.step_index % every == 0:
                steps = [TranslationJudgingStep(players, images_seen=self.images_seen, ways=ways) for ways in rounds]
                self.optimize(optimizers, "discriminator", terms, steps, self._observe if every == 1 else None)

    def _parts(self, real: Tensor, label: Tensor, source: Tensor) -> list[list[Way]]:
        """The ways of every micro-batch."""
        own, told = None, None
        if classes := self.student.num_classes:
            own = F.one_hot(label, classes).float() if label.ndim == 1 else label.float()
            told = own[torch.randperm(len(own))]
        back = self.reverse if self.reverse is not None else self.student if own is not None else None
        parts = []
        for start in range(0, len(real), self.micro_batch_size):
            at = slice(start, start + self.micro_batch_size)
            forth = Way(self.student, dict(self.judges), source[at], real[at], back=back, pool=self.pools[0])
            if own is not None and told is not None:
                forth = replace(forth, label=told[at], real_label=own[at], source_label=own[at])
            ways = [forth]
            if self.reverse is not None:
                judges = {f"reverse/{name}": judge for name, judge in self.reverse_judges.items()}
                ways.append(Way(self.reverse, judges, real[at], source[at], back=self.student, pool=self.pools[1]))
            parts.append(ways)
        return parts

    def _let_train(self, *, drawing: bool = False, judging: bool = False) -> None:
        """Whether gradients reach the generators, and the judges that are not frozen."""
        for network in (self.student, self.reverse):
            if network is not None:
                set_trainable(network, drawing)
        for judge in self.trained:
            set_trainable(judge, judging)

    @torch.no_grad()
    def _observe(self, steps: Sequence[Step]) -> None:
        for step in steps:
            assert isinstance(step, TranslationJudgingStep)
            for name in step.fake_logits:
                self.note(f"logits/{name}/real", step.real_logits[name].mean(), step.num_rows)
                self.note(f"logits/{name}/fake", step.fake_logits[name].mean(), step.num_rows)


def _check(
    pair: Pair,
    judges: Judging,
    terms: Mapping[str, Mapping[str, Weighted]],
    *,
    pool_size: int,
    first: str,
    generator_every: int,
) -> None:
    if pair.student.generator.draws_from != "images":
        name = type(pair.student.generator).__name__
        raise UserError(f"distillation=translation: trains networks that translate images, not a {name}")
    if first not in ("generator", "discriminator"):
        raise UserError(f"distillation.first={first!r}: must be 'generator' or 'discriminator'")
    for name, value, least in (("pool_size", pool_size, 0), ("generator_every", generator_every, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"distillation.{name}={value}: must be a whole number, at least {least}")
    for player, some in terms.items():
        for name, weighted in some.items():
            if weighted.term.reads_judges and not judges:
                raise UserError(f"discriminator=none: loss/{player} {name!r} needs one; allowed: fresh, teacher …")
            if weighted.batch_share != 1:
                raise UserError(f"loss/{player} {name!r}: batch_share={weighted.batch_share:g}: must be 1 here")


def _trained(judges: Mapping[str, nn.Module] | nn.ModuleDict) -> dict[str, nn.Module]:
    return {name: judge for name, judge in judges.items() if not isinstance(judge, Frozen)}


def _network(judge: nn.Module | None) -> nn.Module | None:
    return judge.network if isinstance(judge, Frozen) else judge
