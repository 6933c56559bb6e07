"""Adversarial training of a student generator, with or without a teacher: one loop for every GAN method.

Progress is counted in images, never in optimizer steps. Each player has an ordinary step and one further step per
lazy cadence of its terms, in the order of the official StyleGAN2 release: generator, then discriminators.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.architectures.base import Network
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
    """

    images_seen: Tensor
    automatic_optimization = False

    def __init__(
        self,
        pair: Pair,
        *,
        judges: Mapping[str, Network],
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
        use_teacher: bool = True,
    ):
        super().__init__()
        if frozen_precision not in ("float32", "bfloat16"):
            raise UserError(f"frozen_precision={frozen_precision!r}: must be 'float32' or 'bfloat16'")
        learning_rate_scale(0, kimg, warmup_kimg=warmup_kimg, decay_kimg=decay_kimg)
        self.pair = pair
        self.frozen_half = frozen_precision == "bfloat16"
        self.student = copy.deepcopy(pair.student.generator).train().requires_grad_(True)
        self.ema = copy.deepcopy(pair.student.generator).eval().requires_grad_(False)
        self.teacher = Frozen(copy.deepcopy(pair.teacher.generator), half=self.frozen_half) if use_teacher else None
        self.judges = nn.ModuleDict({name: judge.train().requires_grad_(True) for name, judge in judges.items()})
        self.players = Players(self.student, self.teacher, dict(judges))
        self.generator_terms, self.discriminator_terms = dict(generator_terms), dict(discriminator_terms)
        self.term_states = nn.ModuleDict({"generator": nn.ModuleDict(generator_terms)})
        self.term_states["discriminator"] = nn.ModuleDict(discriminator_terms)
        self.make_generator_optimizer, self.make_discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.kimg, self.batch_size = float(kimg), int(batch_size)
        self.micro_batch_size = int(micro_batch_size or batch_size)
        self.ema_half_life_kimg, self.ema_ramp_up = ema_half_life_kimg, ema_ramp_up
        self.mixing_probability, self.w_avg_beta = mixing_probability, w_avg_beta
        self.warmup_kimg, self.decay_kimg = warmup_kimg, decay_kimg
        self.log_every_kimg = log_every_kimg
        self.register_buffer("images_seen", torch.zeros([], dtype=torch.int64))
        self.last_losses: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)

    # -- what a run consists of ------------------------------------------------------------------------------

    @property
    def total_images(self) -> int:
        return round(self.kimg * 1000)

    def setup(self, stage: str) -> None:
        for term in [*self.generator_terms.values(), *self.discriminator_terms.values()]:
            term.term.prepare(self.pair, half=self.frozen_half)

    def configure_optimizers(self) -> list[Optimizer]:
        generator = _corrected(self.make_generator_optimizer, self.student, self.generator_terms)
        make = self.make_discriminator_optimizer
        return [generator, *(_corrected(make, judge, self.discriminator_terms) for judge in self.judges.values())]

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
                self._optimize([generator], "generator", terms, list(self._generator_steps(terms, label)))
        _trainable(self.judges, True)
        _trainable(self.student, False)
        for every, terms in cadences(self.discriminator_terms).items():
            if step_index % every == 0:
                steps = list(self._discriminator_steps(terms, real, label))
                self._optimize(discriminators, "discriminator", terms, steps)
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
                self._note(f"loss/{player}/{name}", value)
            with self._no_sync(last=index == len(steps) - 1):
                self.manual_backward(total / len(steps))
            if ordinary and isinstance(step, DiscriminatorStep):
                self._note_logits(step)
            elif ordinary:
                self._track_mean_style(step)
        for optimizer in optimizers:
            optimizer.step()

    def _generator_steps(self, terms: Mapping[str, Weighted], label: Tensor) -> Iterator[GeneratorStep]:
        resolutions = tuple(sorted({r for t in terms.values() for r in t.term.feature_resolutions}))
        share = min(term.batch_share for term in terms.values())
        for part in label.split(self.micro_batch_size):
            part = part[: max(1, round(len(part) * share))]
            yield GeneratorStep(self.players, self._draw(part), int(self.images_seen), resolutions)

    def _discriminator_steps(self, terms, real: Tensor, label: Tensor) -> Iterator[DiscriminatorStep]:
        share = min(term.batch_share for term in terms.values())
        size = self.micro_batch_size
        for image, part in zip(real.split(size), label.split(size), strict=True):
            count = max(1, round(len(part) * share))
            kept = part[:count] if self.student.num_classes else None
            yield DiscriminatorStep(self.players, self._draw(part[:count]), image[:count], kept, int(self.images_seen))

    def _draw(self, label: Tensor) -> Draw:
        """Latents and style-mixing crossovers for as many images as there are labels."""
        n, layers = len(label), self.student.synthesis.num_styles
        latents = torch.randn(2, n, self.student.z_dim, device=self.device)
        crossover = torch.randint(1, layers, (n,), device=self.device)
        mixes = torch.rand(n, device=self.device) < self.mixing_probability
        crossover = torch.where(mixes, crossover, layers)
        return Draw(latents, crossover, label if self.student.num_classes else None)

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

    def _note(self, name: str, value: Tensor) -> None:
        value = value.detach().float()
        self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._counts[name] += 1

    def _note_logits(self, step: DiscriminatorStep) -> None:
        for name in step.players.discriminators:
            self._note(f"logits/{name}/real", step.real_logits[name].mean())
            self._note(f"logits/{name}/fake", step.fake_logits[name].mean())

    def check_finite(self) -> dict[str, float]:
        """Means of all noted values since the last flush. Raises: UserError naming one that is not finite."""
        means = {name: (total / self._counts[name]).item() for name, total in self._sums.items()}
        for name, value in means.items():
            if value != value or value in (float("inf"), float("-inf")):
                raise UserError(
                    f"{name} became {value} near {int(self.images_seen) / 1000:.1f} kimg; training stopped, the last "
                    "good checkpoint is kept (try a lower optimizer learning rate or trainer.precision=32-true)"
                )
        return means

    def _flush_log(self, before: int, now: int) -> None:
        interval = max(1, round(self.log_every_kimg * 1000))
        if before // interval != now // interval or now >= self.total_images:
            self.last_losses = self.check_finite()
            self._sums, self._counts = {}, defaultdict(int)
            values = {"kimg": now / 1000, **self.last_losses}
            for logger in self.trainer.loggers:
                logger.log_metrics(values, step=now)
        if now >= self.total_images:
            self.trainer.should_stop = True


def _trainable(module: nn.Module, on: bool) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(on)


def _corrected(make: MakeOptimizer, network: nn.Module, terms: Mapping[str, Weighted]) -> Optimizer:
    """An optimizer whose learning rate and betas allow for the extra lazy steps."""
    share = lazy_correction(list(cadences(terms)))
    optimizer = make(network.parameters())
    for group in optimizer.param_groups:
        group["lr"] *= share
        if "betas" in group:
            group["betas"] = tuple(beta**share for beta in group["betas"])
    return optimizer
