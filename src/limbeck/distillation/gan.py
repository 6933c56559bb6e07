"""Adversarial training of a student generator, with or without a teacher: one loop for every GAN method.

Progress is counted in images, never in optimizer steps. What one generator and its judges do to each other stands in
`distillation.game`; here are the weight average, the schedules, the log, and whatever else is trained beside them.
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.distillation.companion import Companion
from limbeck.distillation.game import Game, MakeOptimizer, Observe, Sampling
from limbeck.distillation.scalars import Scalars
from limbeck.distillation.schedules import ema_decay, learning_rate_scale
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.image_step import Players, Step
from limbeck.losses.steps import DiscriminatorStep, GeneratorStep
from limbeck.losses.weighted import Weighted
from limbeck.model import Pair
from limbeck.parallel import mean_over_processes


class GanDistillation(pl.LightningModule):
    """Trains `pair.student`'s generator and the judges; `ema` is the result.

    batch_size: images per optimizer step over all processes; micro_batch_size: images per forward pass.
    w_avg_beta: decay of the mean style that truncation pulls towards.
    frozen_precision: "float32" or "bfloat16" for teacher and feature networks.
    noise: what teacher and student inject, see `losses.steps.Draw`.
    companions: what is trained beside the student, by name; they take their turns before it.
    """

    images_seen: Tensor
    automatic_optimization = False

    def __init__(
        self,
        pair: Pair,
        *,
        judges: Mapping[str, nn.Module],
        generator_terms: Mapping[str, Weighted],
        discriminator_terms: Mapping[str, Weighted],
        generator_optimizer: MakeOptimizer,
        discriminator_optimizer: MakeOptimizer,
        kimg: float,
        batch_size: int,
        micro_batch_size: int | None = None,
        ema_half_life_kimg: float = 10.0,
        ema_ramp_up: float | None = None,
        mixing_probability: float = 0.9,
        w_avg_beta: float = 0.998,
        warmup_kimg: float = 0.0,
        decay_kimg: float = 0.0,
        log_every_kimg: float = 1.0,
        frozen_precision: str = "float32",
        noise: str = "random",
        use_teacher: bool = True,
        companions: Mapping[str, Companion] | None = None,
    ):
        super().__init__()
        if frozen_precision not in ("float32", "bfloat16"):
            raise UserError(f"frozen_precision={frozen_precision!r}: must be 'float32' or 'bfloat16'")
        if noise not in ("random", "const", "none"):
            raise UserError(f"distillation.noise={noise!r}: must be 'random', 'const' or 'none'")
        learning_rate_scale(0, kimg, warmup_kimg=warmup_kimg, decay_kimg=decay_kimg)
        self.frozen_half = frozen_precision == "bfloat16"
        self.student = copy.deepcopy(pair.student.generator).train().requires_grad_(True)
        self.ema = copy.deepcopy(pair.student.generator).eval().requires_grad_(False)
        # A copy, because companions may train the teacher and all may move it to another device.
        generator, judge = pair.teacher.generator, pair.teacher.discriminator
        self.pair = replace(pair, teacher=replace(pair.teacher, generator=copy.deepcopy(generator)))
        if companions:
            self.pair = replace(pair, teacher=replace(self.pair.teacher, discriminator=copy.deepcopy(judge)))
        self.teacher = Frozen(self.pair.teacher.generator, half=self.frozen_half) if use_teacher else None
        terms = [weighted.term for weighted in [*generator_terms.values(), *discriminator_terms.values()]]
        read = bool(companions) or any(term.reads_teacher_judge for term in terms)
        self.teacher_judge = Frozen(_teacher_judge(self.pair), half=self.frozen_half) if read else None
        self.judges = nn.ModuleDict(judges)
        for some in judges.values():
            if not isinstance(some, Frozen):
                some.train().requires_grad_(True)
        self.game = Game(
            Players(self.student, self.teacher, dict(judges), self.teacher_judge),
            dict(generator_terms),
            dict(discriminator_terms),
            Sampling(int(micro_batch_size or batch_size), mixing_probability, noise),
            observe=self._observe,
        )
        self.term_states = nn.ModuleDict({"generator": nn.ModuleDict(generator_terms)})
        self.term_states["discriminator"] = nn.ModuleDict(discriminator_terms)
        self.companions = nn.ModuleDict(companions or {})
        self.make_generator_optimizer, self.make_discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.kimg, self.batch_size = float(kimg), int(batch_size)
        self.ema_half_life_kimg, self.ema_ramp_up = ema_half_life_kimg, ema_ramp_up
        self.w_avg_beta, self.log_every_kimg = w_avg_beta, log_every_kimg
        self.warmup_kimg, self.decay_kimg = warmup_kimg, decay_kimg
        self.register_buffer("images_seen", torch.zeros([], dtype=torch.int64))
        self.last_losses: dict[str, float] = {}
        self._scalars = Scalars()

    # -- what a run consists of ------------------------------------------------------------------------------

    @property
    def total_images(self) -> int:
        return round(self.kimg * 1000)

    @property
    def step_index(self) -> int:
        """Number of this step, from 0."""
        return int(self.images_seen) // self.batch_size

    def setup(self, stage: str) -> None:
        for companion in self._companions():
            companion.prepare(self.pair, self.game)
        for term in [*self.game.generator_terms.values(), *self.game.discriminator_terms.values()]:
            term.term.prepare(self.pair, half=self.frozen_half)

    def configure_optimizers(self) -> list[Optimizer]:
        """Those of the companions, then those of the game."""
        beside = [optimizer for companion in self._companions() for optimizer in companion.optimizers()]
        return beside + self.game.optimizers(self.make_generator_optimizer, self.make_discriminator_optimizer)

    def _companions(self) -> list[Companion]:
        return list(self.companions.values())  # type: ignore[arg-type]

    # -- one iteration ---------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        seen = int(self.images_seen)
        self._set_learning_rates(seen / 1000)
        real, label = batch
        real = real.to(self.device, torch.float32) / 127.5 - 1
        made = self.optimizers()
        optimizers = list(made) if isinstance(made, list) else [made]
        for companion in self._companions():
            count = companion.num_optimizers
            companion.play(self, optimizers[:count], real, label)
            optimizers = optimizers[count:]
        self.game.play(self, optimizers, real, label)
        self._average(seen)
        self.images_seen += self.batch_size
        self._flush_log(seen, seen + self.batch_size)

    def optimize(
        self,
        optimizers: Sequence,
        player: str,
        terms: Mapping[str, Weighted],
        steps: Sequence[Step],
        observe: Observe | None = None,
    ) -> None:
        """Zero, accumulate over micro-batches, step; note every term as loss/<player>/<name>."""
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        for index, step in enumerate(steps):
            total: Any = 0.0
            for name, term in terms.items():
                added, value = term(step)
                total = total + added
                self.note(f"loss/{player}/{name}", value)
            with self._no_sync(last=index == len(steps) - 1):
                self.manual_backward(total / len(steps))
            if observe is not None:
                observe(step)
        for optimizer in optimizers:
            optimizer.step()

    @torch.no_grad()
    def _average(self, seen: int) -> None:
        """Move the EMA generator (and the mean style) towards the student."""
        decay = ema_decay(self.batch_size, self.ema_half_life_kimg, seen, self.ema_ramp_up)
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.student.parameters()), 1 - decay)
        for mean, buffer in zip(self.ema.buffers(), self.student.buffers(), strict=True):
            mean.copy_(buffer)

    @torch.no_grad()
    def _observe(self, step: Step) -> None:
        """Logits for the log; the running mean of w, towards which truncation pulls (the first layer is not mixed)."""
        if isinstance(step, DiscriminatorStep):
            for name in step.players.discriminators:
                self.note(f"logits/{name}/real", step.real_logits[name].mean())
                self.note(f"logits/{name}/fake", step.fake_logits[name].mean())
        elif isinstance(step, GeneratorStep):
            mean = mean_over_processes(step.student_style[:, 0].mean(dim=0))
            self.student.mapping.w_avg.lerp_(mean, 1 - self.w_avg_beta)

    def _set_learning_rates(self, kimg: float) -> None:
        scale = learning_rate_scale(kimg, self.kimg, warmup_kimg=self.warmup_kimg, decay_kimg=self.decay_kimg)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("base_lr", group["lr"]) * scale

    def _no_sync(self, *, last: bool):
        """Gradients meet once per optimizer step, not once per micro-batch."""
        strategy = self.trainer.strategy
        if last or not isinstance(strategy, DDPStrategy):
            return nullcontext()
        return strategy.block_backward_sync()

    # -- the log ---------------------------------------------------------------------------------------------

    def note(self, name: str, value: Tensor) -> None:
        """Add one value to the mean that the next row of the log shows."""
        self._scalars.note(name, value)

    def check_finite(self) -> dict[str, float]:
        """Means of all noted values since the last row. Raises: UserError naming one that is not finite."""
        return self._scalars.means(int(self.images_seen))

    def _flush_log(self, before: int, now: int) -> None:
        interval = max(1, round(self.log_every_kimg * 1000))
        if before // interval != now // interval or now >= self.total_images:
            self.last_losses = self.check_finite()
            self._scalars.clear()
            values = {"kimg": now / 1000, **self.last_losses}
            for logger in self.trainer.loggers:
                logger.log_metrics(values, step=now)
        if now >= self.total_images:
            self.trainer.should_stop = True


def _teacher_judge(pair: Pair) -> nn.Module:
    if pair.teacher.discriminator is None:
        raise UserError("distillation: the teacher's discriminator is read, but its file holds none")
    return pair.teacher.discriminator
