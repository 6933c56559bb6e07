"""Adversarial training of a student generator, with or without a teacher: one loop for every GAN method.

Progress is counted in images, never in optimizer steps. Each player has an ordinary step and one further step per
lazy cadence of its terms, in the order of the official StyleGAN2 release: generator, then discriminators.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.distillation.scalars import Scalars
from limbeck.distillation.schedules import ema_decay, lazy_correction, learning_rate_scale
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.steps import DiscriminatorStep, Draw, GeneratorStep, Players
from limbeck.losses.weighted import Weighted, cadences
from limbeck.model import Pair
from limbeck.parallel import mean_over_processes

MakeOptimizer = Callable[..., Optimizer]


class GanDistillation(pl.LightningModule):
    """Trains `pair.student`'s generator and the judges; `ema` is the result.

    batch_size: images per optimizer step over all processes; micro_batch_size: images per forward pass.
    w_avg_beta: decay of the mean style that truncation pulls towards.
    frozen_precision: "float32" or "bfloat16" for teacher and feature networks.
    noise: what teacher and student inject, see `losses.steps.Draw`.
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
    ):
        super().__init__()
        if frozen_precision not in ("float32", "bfloat16"):
            raise UserError(f"frozen_precision={frozen_precision!r}: must be 'float32' or 'bfloat16'")
        if noise not in ("random", "const", "none"):
            raise UserError(f"distillation.noise={noise!r}: must be 'random', 'const' or 'none'")
        learning_rate_scale(0, kimg, warmup_kimg=warmup_kimg, decay_kimg=decay_kimg)
        self.pair = pair
        self.frozen_half = frozen_precision == "bfloat16"
        self.student = copy.deepcopy(pair.student.generator).train().requires_grad_(True)
        self.ema = copy.deepcopy(pair.student.generator).eval().requires_grad_(False)
        self.teacher = Frozen(copy.deepcopy(pair.teacher.generator), half=self.frozen_half) if use_teacher else None
        self.judges = nn.ModuleDict(judges)
        self.players = Players(self.student, self.teacher, dict(judges))
        self.trained = {name: judge for name, judge in judges.items() if not isinstance(judge, Frozen)}
        for judge in self.trained.values():
            judge.train().requires_grad_(True)
        self.generator_terms, self.discriminator_terms = dict(generator_terms), dict(discriminator_terms)
        self.term_states = nn.ModuleDict({"generator": nn.ModuleDict(generator_terms)})
        self.term_states["discriminator"] = nn.ModuleDict(discriminator_terms)
        self.make_generator_optimizer, self.make_discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.kimg, self.batch_size = float(kimg), int(batch_size)
        self.micro_batch_size = int(micro_batch_size or batch_size)
        self.ema_half_life_kimg, self.ema_ramp_up = ema_half_life_kimg, ema_ramp_up
        self.mixing_probability, self.w_avg_beta, self.noise = mixing_probability, w_avg_beta, noise
        self.warmup_kimg, self.decay_kimg = warmup_kimg, decay_kimg
        self.log_every_kimg = log_every_kimg
        self.register_buffer("images_seen", torch.zeros([], dtype=torch.int64))
        self.last_losses: dict[str, float] = {}
        self._scalars = Scalars()

    # -- what a run consists of ------------------------------------------------------------------------------

    @property
    def total_images(self) -> int:
        return round(self.kimg * 1000)

    def setup(self, stage: str) -> None:
        for term in [*self.generator_terms.values(), *self.discriminator_terms.values()]:
            term.term.prepare(self.pair, half=self.frozen_half)

    def configure_optimizers(self) -> list[Optimizer]:
        """One for the student, one per trained judge; terms' own parameters join the first of their player."""
        players = self.term_states.children()
        generator_extra, discriminator_extra = (list(terms.parameters()) for terms in players)
        parameters = [[*judge.parameters()] for judge in self.trained.values()]
        if parameters:
            parameters[0] += discriminator_extra
        make, terms = self.make_discriminator_optimizer, self.discriminator_terms
        student = [*self.student.parameters(), *generator_extra]
        generator = _corrected(self.make_generator_optimizer, student, self.generator_terms)
        return [generator, *(_corrected(make, some, terms) for some in parameters)]

    # -- one iteration ---------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        seen = int(self.images_seen)
        self._set_learning_rates(seen / 1000)
        step_index = seen // self.batch_size
        real, label = batch
        real = real.to(self.device, torch.float32) / 127.5 - 1
        optimizers = self.optimizers()
        generator, *discriminators = optimizers if isinstance(optimizers, list) else [optimizers]

        _trainable(self.judges, False)
        for every, terms in cadences(self.generator_terms).items():
            if step_index % every == 0:
                steps = self._generator_steps(terms, label, real)
                self._optimize([generator], "generator", terms, steps)
                steps.clear()  # siblings hold one another, and with them their images
        _trainable(self.judges, True)
        _trainable(self.student, False)
        for every, terms in cadences(self.discriminator_terms).items():
            if discriminators and step_index % every == 0:
                self._optimize(
                    discriminators, "discriminator", terms, list(self._discriminator_steps(terms, real, label))
                )
        _trainable(self.student, True)

        self._average(seen)
        self.images_seen += self.batch_size
        self._flush_log(seen, seen + self.batch_size)

    def _optimize(self, optimizers: list, player: str, terms: Mapping[str, Weighted], steps: Sequence) -> None:
        """Zero, accumulate over micro-batches, step; note every term."""
        ordinary = 1 in {term.every_steps for term in terms.values()}
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        for index, step in enumerate(steps):
            total: Any = 0.0
            for name, term in terms.items():
                added, value = term(step)
                total = total + added
                self._scalars.note(f"loss/{player}/{name}", value)
            with self._no_sync(last=index == len(steps) - 1):
                self.manual_backward(total / len(steps))
            if ordinary and isinstance(step, DiscriminatorStep):
                self._note_logits(step)
            elif ordinary:
                self._track_mean_style(step)
        for optimizer in optimizers:
            optimizer.step()

    def _generator_steps(
        self, terms: Mapping[str, Weighted], label: Tensor, real: Tensor | None = None
    ) -> list[GeneratorStep]:
        steps: list[GeneratorStep] = []
        for start, count in self._parts(terms, len(label)):
            part = slice(start, start + count)
            step = GeneratorStep(
                self.players,
                self._draw(label[part]),
                images_seen=int(self.images_seen),
                feature_resolutions=_feature_resolutions(terms),
                real_image=None if real is None else real[part],
                real_label=label[part] if self.student.num_classes else None,
                siblings=steps,
            )
            steps.append(step)
        return steps

    def _discriminator_steps(
        self, terms: Mapping[str, Weighted], real: Tensor, label: Tensor
    ) -> Iterator[DiscriminatorStep]:
        players = replace(self.players, discriminators=self.trained)
        for start, count in self._parts(terms, len(label)):
            part = slice(start, start + count)
            yield DiscriminatorStep(
                players,
                self._draw(label[part]),
                real[part],
                label[part] if self.student.num_classes else None,
                images_seen=int(self.images_seen),
                feature_resolutions=_feature_resolutions(terms),
            )

    def _parts(self, terms: Mapping[str, Weighted], num_images: int) -> Iterator[tuple[int, int]]:
        """(start, length) of each micro-batch, shortened to the share that these terms look at."""
        share = min(term.batch_share for term in terms.values())
        for start in range(0, num_images, self.micro_batch_size):
            size = min(self.micro_batch_size, num_images - start)
            yield start, max(1, round(size * share))

    def _draw(self, label: Tensor) -> Draw:
        """Latents and style-mixing crossovers for as many images as there are labels."""
        n, layers = len(label), self.student.synthesis.num_styles
        latents = torch.randn(2, n, self.student.z_dim, device=self.device)
        crossover = torch.randint(1, layers, (n,), device=self.device)
        mixes = torch.rand(n, device=self.device) < self.mixing_probability
        crossover = torch.where(mixes, crossover, layers)
        return Draw(latents, crossover, label if self.student.num_classes else None, self.noise)

    @torch.no_grad()
    def _average(self, seen: int) -> None:
        """Move the EMA generator (and the mean style) towards the student."""
        decay = ema_decay(self.batch_size, self.ema_half_life_kimg, seen, self.ema_ramp_up)
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.student.parameters()), 1 - decay)
        for mean, buffer in zip(self.ema.buffers(), self.student.buffers(), strict=True):
            mean.copy_(buffer)

    @torch.no_grad()
    def _track_mean_style(self, step: GeneratorStep) -> None:
        """Running mean of w, towards which truncation pulls; the first layer is never mixed."""
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

    def _note_logits(self, step: DiscriminatorStep) -> None:
        for name in step.players.discriminators:
            self._scalars.note(f"logits/{name}/real", step.real_logits[name].mean())
            self._scalars.note(f"logits/{name}/fake", step.fake_logits[name].mean())

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


def _trainable(module: nn.Module, on: bool) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(on)


def _feature_resolutions(terms: Mapping[str, Weighted]) -> tuple[int, ...]:
    return tuple(sorted({r for weighted in terms.values() for r in weighted.term.feature_resolutions}))


def _corrected(make: MakeOptimizer, parameters: Sequence[nn.Parameter], terms: Mapping[str, Weighted]) -> Optimizer:
    """An optimizer whose learning rate and betas allow for the extra lazy steps."""
    share = lazy_correction(list(cadences(terms)))
    optimizer = make(parameters)
    for group in optimizer.param_groups:
        group["lr"] *= share
        if "betas" in group:
            group["betas"] = tuple(beta**share for beta in group["betas"])
    return optimizer
