"""What every training regime shares: counting images, micro-batches, the weight average, schedules and the log.

Progress is counted in images, never in optimizer steps.
"""

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck import devices
from limbeck.architectures.base import Network
from limbeck.distillation.companion import Companion
from limbeck.distillation.compiled import uncompiled
from limbeck.distillation.held_masks import HeldMasks
from limbeck.distillation.loop import Loop, Observe
from limbeck.distillation.scalars import Scalars
from limbeck.distillation.schedules import ema_decay, learning_rate_scale
from limbeck.distillation.shared_gradients import share_gradients
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.image_step import Step
from limbeck.losses.weighted import Weighted, begun
from limbeck.model import Model, Pair

SCALARS = "scalars"  # in a checkpoint: what the next row of the log has so far
STUDENT = "generator"  # the player that is the student, in terms, optimizers and the log


def checked_companions(companions: Mapping[str, Any], student: Network) -> dict[str, Companion]:
    """The companions; refuses a stub left by an override of one that is not selected, and what cannot work."""
    for name, companion in companions.items():
        if not isinstance(companion, Companion):
            raise UserError(f"companion.{name}: settings are given, but it is not among the selected companions")
        companion.check(student)
    return dict(companions)


class StudentTraining(pl.LightningModule, Loop):
    """Trains `student`, a copy of `pair.student`'s generator; its moving average `ema` is the result.

    terms: of every player, by player and name. step_kinds: what a regime offers to each player's terms; a player that
    is not named does not play, and has no terms.
    batch_size: images per optimizer step over all processes. micro_batch_size: of them per forward pass; None for all.
    ema_half_life_kimg, ema_ramp_up: see `schedules.ema_decay`. warmup_kimg, decay_kimg: of the learning rates.
    frozen_precision: "float32" or "bfloat16" for teacher and feature networks.
    use_teacher: False for a student that is trained from scratch.
    clip_gradient_norm: longest gradient over all parameters of one optimizer; None for any length.
    companions: what takes part beside the student, by name; they take their turns before it.
    """

    automatic_optimization = False

    def __init__(
        self,
        pair: Pair,
        *,
        terms: Mapping[str, Mapping[str, Weighted]],
        step_kinds: Mapping[str, type[Step]],
        kimg: float,
        batch_size: int,
        micro_batch_size: int | None = None,
        ema_half_life_kimg: float = 10.0,
        ema_ramp_up: float | None = None,
        warmup_kimg: float = 0.0,
        decay_kimg: float = 0.0,
        log_every_kimg: float = 1.0,
        frozen_precision: str = "float32",
        use_teacher: bool = True,
        clip_gradient_norm: float | None = None,
        companions: Mapping[str, Companion] | None = None,
    ):
        super().__init__()
        if frozen_precision not in ("float32", "bfloat16"):
            raise UserError(f"frozen_precision={frozen_precision!r}: must be 'float32' or 'bfloat16'")
        if clip_gradient_norm is not None and not clip_gradient_norm > 0:
            raise UserError(f"distillation.clip_gradient_norm={clip_gradient_norm}: must be above 0, or null")
        learning_rate_scale(0, kimg, warmup_kimg=warmup_kimg, decay_kimg=decay_kimg)
        for player, some in terms.items():
            if bool(some) != (player in step_kinds):
                lacks = "no term is selected" if not some else "the chosen distillation has no such player; select []"
                raise UserError(f"loss/{player}: {lacks}")
            for name, weighted in some.items():
                weighted.term.check_fits(f"loss/{player}: {name!r}", step_kinds[player], pair.teacher.generator)
                least = smallest_micro_batch(batch_size, micro_batch_size or batch_size, weighted.batch_share)
                if least < weighted.term.least_images:
                    raise UserError(
                        f"loss/{player}: {name!r} needs {weighted.term.least_images} images in every micro-batch, the "
                        f"smallest one has {least}; choose another batch_size or distillation.micro_batch_size"
                    )
        self.frozen_half = frozen_precision == "bfloat16"
        self.student = copy.deepcopy(pair.student.generator).train().requires_grad_(True)
        self.ema = copy.deepcopy(pair.student.generator).eval().requires_grad_(False)
        self.masks = HeldMasks(pair.student.masks)
        self.companions = nn.ModuleDict(checked_companions(companions or {}, self.student))
        # A copy, because the teacher may be trained on and will be moved to another device.
        self.pair = replace(pair, teacher=replace(pair.teacher, generator=copy.deepcopy(pair.teacher.generator)))
        self.teacher = Frozen(self.pair.teacher.generator, half=self.frozen_half) if use_teacher else None
        self.term_states = nn.ModuleDict({player: nn.ModuleDict(some) for player, some in terms.items()})
        self.terms = {player: dict(some) for player, some in terms.items()}
        self.kimg, self.batch_size = float(kimg), int(batch_size)
        self.micro_batch_size = int(micro_batch_size or batch_size)
        self.ema_half_life_kimg, self.ema_ramp_up = ema_half_life_kimg, ema_ramp_up
        self.warmup_kimg, self.decay_kimg, self.log_every_kimg = warmup_kimg, decay_kimg, log_every_kimg
        self.clip_gradient_norm = clip_gradient_norm
        self.images_seen = 0
        self.register_state_dict_post_hook(_put_images_seen)
        self.register_load_state_dict_pre_hook(_take_images_seen)
        self.tf32 = False  # whether ordinary steps may round, see `devices`
        self.last_losses: dict[str, float] = {}
        self._scalars = Scalars()

    # -- what a regime adds ----------------------------------------------------------------------------------

    @abstractmethod
    def own_optimizers(self) -> list[Optimizer]:
        """Those of the student and its judges."""

    @abstractmethod
    def play(self, optimizers: list, real: Tensor, label: Tensor, *sources: Tensor) -> None:
        """One iteration. optimizers: all of `own_optimizers`; real: [n, c, h, w] in [-1, 1] with `label` [n].

        sources: images in [-1, 1] to translate, where the data have them; regimes that draw from noise ignore them.
        """

    @abstractmethod
    def final_judge(self) -> nn.Module | None:
        """The discriminator that is saved beside the student."""

    def final_reverse(self) -> Model | None:
        """The other direction that is saved beside the student: the pair's, unless the regime trains it."""
        return self.pair.student.reverse

    # -- what a run consists of ------------------------------------------------------------------------------

    @property
    def total_images(self) -> int:
        return round(self.kimg * 1000)

    def setup(self, stage: str) -> None:
        for companion in self._companions():
            companion.prepare(self.pair, self)
        for some in self.terms.values():
            for weighted in some.values():
                weighted.term.prepare(self.pair, half=self.frozen_half)

    def configure_optimizers(self) -> list[Optimizer]:
        """Those of the companions, then the regime's own."""
        beside = [optimizer for companion in self._companions() for optimizer in companion.optimizers()]
        return beside + self.own_optimizers()

    def _companions(self) -> list[Companion]:
        return list(self.companions.values())  # type: ignore[arg-type]

    # -- one iteration ---------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        seen = self.images_seen
        self._set_learning_rates(seen / 1000)
        label = batch[1]
        real, *sources = (x.to(self.device, torch.float32) / 127.5 - 1 for x in (batch[0], *batch[2:]))
        made = self.optimizers()
        optimizers = list(made) if isinstance(made, list) else [made]
        for companion in self._companions():
            count = companion.num_optimizers
            companion.play(self, optimizers[:count], real, label)
            optimizers = optimizers[count:]
        self.play(optimizers, real, label, *sources)
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
        terms = begun(terms, self.images_seen / 1000)
        if not terms:
            return
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        exact = any(weighted.term.exact for weighted in terms.values())
        with devices.rounding(self.tf32 and not exact), uncompiled(exact):
            self._accumulate(player, terms, steps)
        if observe is not None:
            observe(steps)
        stepping = [[p for group in optimizer.param_groups for p in group["params"]] for optimizer in optimizers]
        share_gradients([parameter for some in stepping for parameter in some])
        if player == STUDENT:
            self.masks.hold_gradients(self.student)
        for optimizer, parameters in zip(optimizers, stepping, strict=True):
            if self.clip_gradient_norm is not None:
                self.note(
                    f"gradient/{player}/norm", torch.nn.utils.clip_grad_norm_(parameters, self.clip_gradient_norm)
                )
            optimizer.step()
        if player == STUDENT:
            self.masks.hold(self.student)

    def _accumulate(self, player: str, terms: Mapping[str, Weighted], steps: Sequence[Step]) -> None:
        """Backward passes of all micro-batches, each by its share of the rows."""
        num_rows = sum(step.num_rows for step in steps)
        for step in steps:
            total: Any = 0.0
            share = step.num_rows / num_rows
            for name, term in terms.items():
                added, value = term(step)
                total = total + added
                self.note(f"loss/{player}/{name}", value, share)
            self.manual_backward(total * share)

    @torch.no_grad()
    def _average(self, seen: int) -> None:
        """Move the EMA generator towards the student; buffers are copied, but for batch norm's statistics."""
        decay = ema_decay(self.batch_size, self.ema_half_life_kimg, seen, self.ema_ramp_up)
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.student.parameters()), 1 - decay)
        means = [
            mean.clone().lerp_(new, 1 - decay)
            for mean, new in zip(*map(batch_statistics, (self.ema, self.student)), strict=True)
        ]
        if buffers := list(self.ema.buffers()):
            torch._foreach_copy_(buffers, list(self.student.buffers()))
        if means:
            torch._foreach_copy_(batch_statistics(self.ema), means)

    def _set_learning_rates(self, kimg: float) -> None:
        scale = learning_rate_scale(kimg, self.kimg, warmup_kimg=self.warmup_kimg, decay_kimg=self.decay_kimg)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("base_lr", group["lr"]) * scale

    # -- the log ---------------------------------------------------------------------------------------------

    def note(self, name: str, value: Tensor, weight: float = 1.0) -> None:
        """Add one value to the mean that the next row of the log shows. weight: of it in that mean."""
        self._scalars.note(name, value, weight)

    def check_finite(self) -> dict[str, float]:
        """Means of all noted values since the last row. Raises: UserError naming one that is not finite."""
        return self._scalars.means(self.images_seen)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[SCALARS] = self._scalars.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if SCALARS in checkpoint:  # older ones begin a new mean
            self._scalars.restore(checkpoint[SCALARS])

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


# The number of images travels in the state dict although it is no tensor of the module.


def _put_images_seen(module: Any, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    state[f"{prefix}images_seen"] = torch.tensor(module.images_seen)


def _take_images_seen(
    module: Any, state: dict[str, Any], prefix: str, _metadata: Any, _strict: bool, missing: list[str], *_others: Any
) -> None:
    name = f"{prefix}images_seen"
    if name in state:
        module.images_seen = int(state.pop(name))
    else:
        missing.append(name)


def smallest_micro_batch(batch_size: int, micro_batch_size: int, share: float) -> int:
    """Images that the last micro-batch of a batch holds for a term that looks at a share of it."""
    return max(1, round((batch_size % micro_batch_size or micro_batch_size) * share))


def batch_statistics(network: nn.Module) -> list[Tensor]:
    """Running means and variances of batch norm. Those of averaged weights are near the average, not near the last."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    return [statistic for norm in norms for statistic in (norm.running_mean, norm.running_var) if statistic is not None]
