"""Training of a student generator that draws from latents, with or without a teacher and judges: one loop for all.

What one generator and its judges do to each other stands in `distillation.game`; here are the mean style, the logits
in the log, and whatever else is trained beside them.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.distillation.blur import Blurred, fading
from limbeck.distillation.game import Game, Sampling
from limbeck.distillation.optimizers import MakeOptimizer
from limbeck.distillation.training import StudentTraining
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.image_step import Players, Step
from limbeck.losses.steps import DiscriminatorStep, GeneratorStep
from limbeck.losses.weighted import Weighted
from limbeck.model import Pair
from limbeck.parallel import mean_over_processes


class GanDistillation(StudentTraining):
    """Trains `pair.student`'s generator and the judges; `ema` is the result. More arguments: `StudentTraining`.

    judges: none is legal where no term asks them.
    mixing_probability, w_avg_beta (decay of the mean style that truncation pulls towards), noise (what teacher and
        student inject, see `losses.steps.Draw`): of style-based generators; others have no use for them.
        Differs: the mean style moves once a step, in the generator's turn; released code moves it in the
        discriminator's too, so twice as often.
    statistics_half_life_kimg: of StyleGAN3's magnitudes, which move in the pass that draws images for the judges, once
        per micro-batch.
    blur_sigma, blur_fade_kimg: pixels by which trained judges see all images blurred at first, fading until then.
    """

    def __init__(
        self,
        pair: Pair,
        *,
        judges: Mapping[str, nn.Module],
        generator_terms: Mapping[str, Weighted],
        discriminator_terms: Mapping[str, Weighted],
        generator_optimizer: MakeOptimizer,
        discriminator_optimizer: MakeOptimizer | None = None,
        mixing_probability: float = 0.9,
        w_avg_beta: float = 0.998,
        noise: str = "random",
        statistics_half_life_kimg: float = 20.0,
        blur_sigma: float = 0.0,
        blur_fade_kimg: float = 200.0,
        **training: Any,
    ):
        kinds: dict[str, type[Step]] = {"generator": GeneratorStep}
        if judges:
            kinds["discriminator"] = DiscriminatorStep
        terms = {"generator": generator_terms, "discriminator": discriminator_terms}
        super().__init__(pair, terms=terms, step_kinds=kinds, **training)
        if noise not in ("random", "const", "none"):
            raise UserError(f"distillation.noise={noise!r}: must be 'random', 'const' or 'none'")
        for name, weighted in generator_terms.items():
            if weighted.term.reads_judges and not judges:
                raise UserError(f"discriminator=none: loss/generator {name!r} needs one; allowed: fresh, teacher …")
        needed = any(companion.reads_teacher_judge for companion in self._companions())
        if needed:  # a copy, because they may train it
            judge = copy.deepcopy(pair.teacher.discriminator)
            self.pair = replace(self.pair, teacher=replace(self.pair.teacher, discriminator=judge))
        everyone = [*generator_terms.values(), *discriminator_terms.values()]
        read = needed or any(weighted.term.reads_teacher_judge for weighted in everyone)
        self.teacher_judge = Frozen(_teacher_judge(self.pair), half=self.frozen_half) if read else None
        self.judges = nn.ModuleDict(judges)
        for some in judges.values():
            if not isinstance(some, Frozen):
                some.train().requires_grad_(True)
        self.game = Game(
            Players(self.student, self.teacher, self._seeing(judges, blur_sigma, blur_fade_kimg), self.teacher_judge),
            dict(generator_terms),
            dict(discriminator_terms),
            Sampling(self.micro_batch_size, mixing_probability, noise, statistics_half_life_kimg),
            observe=self._observe,
        )
        self.make_generator_optimizer, self.make_discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.w_avg_beta = w_avg_beta

    def _seeing(self, judges: Mapping[str, nn.Module], sigma: float, fade_kimg: float) -> dict[str, nn.Module]:
        """The judges, those that are trained behind a blur if there is one."""
        if sigma < 0 or fade_kimg <= 0:
            raise UserError(
                f"distillation.blur_sigma={sigma}, blur_fade_kimg={fade_kimg}: must be at least 0, and above 0"
            )

        def now() -> float:
            return fading(sigma, fade_kimg, self.images_seen)

        return {n: some if not sigma or isinstance(some, Frozen) else Blurred(some, now) for n, some in judges.items()}

    def own_optimizers(self) -> list[Optimizer]:
        return self.game.optimizers(self.make_generator_optimizer, self.make_discriminator_optimizer)

    def final_judge(self) -> nn.Module | None:
        """The first one; None of none."""
        judge = next(iter(self.judges.values()), None)
        return judge.network if isinstance(judge, Frozen) else judge

    def play(self, optimizers: list, real: Tensor, label: Tensor, *_sources: Tensor) -> None:
        self.game.play(self, optimizers, real, label)

    @torch.no_grad()
    def _observe(self, steps: Sequence[Step]) -> None:
        """Logits for the log; the running mean of w, towards which truncation pulls (the first layer is not mixed)."""
        styles = []
        for step in steps:
            if isinstance(step, DiscriminatorStep):
                for name in step.players.discriminators:
                    self.note(f"logits/{name}/real", step.real_logits[name].mean(), step.num_rows)
                    self.note(f"logits/{name}/fake", step.fake_logits[name].mean(), step.num_rows)
            elif isinstance(step, GeneratorStep) and self.student.num_styles:
                styles.append(step.student_style[:, 0])
        if styles:
            mean = mean_over_processes(torch.cat(styles).mean(dim=0))
            self.student.mapping.w_avg.lerp_(mean, 1 - self.w_avg_beta)


def _teacher_judge(pair: Pair) -> nn.Module:
    if pair.teacher.discriminator is None:
        raise UserError("distillation: the teacher's discriminator is read, but its file holds none")
    return pair.teacher.discriminator
