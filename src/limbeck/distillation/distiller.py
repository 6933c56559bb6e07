"""The stage that trains the student: the only place where Lightning's Trainer and several devices appear."""

import copy
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from limbeck import devices
from limbeck.architectures.base import Network
from limbeck.callbacks.checkpoint import LAST, Checkpoint
from limbeck.callbacks.intervals import EveryKimg
from limbeck.data.base import ImageSource
from limbeck.data.loading import train_loader
from limbeck.distillation.discriminators import Judges
from limbeck.distillation.pace import Pace, Timed
from limbeck.distillation.training import StudentTraining
from limbeck.errors import CheckpointError, UserError
from limbeck.losses.weighted import Weighted, checked_terms
from limbeck.model import Model, Pair
from limbeck.parallel import active, gathered, world_size
from limbeck.profiling import peak_memory_mib
from limbeck.pruning.settling import settled
from limbeck.seeds import stream_seed


@dataclass(frozen=True)
class Distiller:
    """Pair in, pair with the trained student out.

    module: makes the LightningModule from a pair; trainer: makes the Trainer.
    optimizer, loss: by player, "generator" and, where there are judges, "discriminator".
    companions: what takes part in the training beside the student, by name.
    batch_size: over all processes; kimg: length in thousands of images.
    """

    module: Callable[..., StudentTraining]
    trainer: Callable[..., pl.Trainer]
    judges: Judges
    optimizer: Mapping[str, Callable]
    loss: Mapping[str, Mapping[str, Any]]
    callbacks: Mapping[str, pl.Callback]
    companions: Mapping[str, Any]
    kimg: float
    batch_size: int
    seed: int
    checkpoint_kimg: float

    def __call__(self, pair: Pair, *, data: ImageSource, folder: Path, loggers: Sequence[Logger]) -> Pair:
        """Train from the newest checkpoint in `folder`, or from the start if there is none."""
        checkpoints = folder / "checkpoints"
        path = checkpoints / LAST
        torch.manual_seed(self.seed)  # a fresh discriminator must not depend on which stages ran in this process
        module = self.build(pair)
        checkpoint = Checkpoint(checkpoints, every_kimg=self.checkpoint_kimg, seed=self.seed)
        trainer = self._trainer(folder, loggers, [*self.callbacks.values(), checkpoint])
        seen = _images_seen(path) if path.is_file() else 0
        if not seen:
            torch.manual_seed(stream_seed(self.seed, trainer.global_rank))
        loader = train_loader(
            data,
            batch_size=self.batch_size // trainer.world_size,
            seed=self.seed,
            start_images=seen,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        if seen < module.total_images:
            trainer.fit(module, train_dataloaders=loader, ckpt_path=str(path) if seen else None, weights_only=True)
        else:
            _load_state(module, path)
        self._refuse_drift(module)
        return replace(pair, student=self._result(module, pair))

    def timed(self, pair: Pair, *, data: ImageSource, num_steps: int) -> Pace | None:
        """How fast these steps of training are, without a trace; None if several processes train.

        The terms keep what they prepare: train with another object.
        """
        timing = Timed(num_steps)
        trainer = self._trainer(Path(), [], [timing])
        if trainer.world_size > 1:
            return None
        torch.manual_seed(self.seed)
        module = self.build(pair)
        loader = train_loader(data, batch_size=self.batch_size, seed=self.seed, start_images=0, rank=0, world_size=1)
        trainer.fit(module, train_dataloaders=loader)
        return Pace(timing.seconds / (num_steps * self.batch_size), peak_memory_mib(devices.device()))

    def check(self, teacher: Model, data: ImageSource) -> None:
        """Refuse what cannot work, before the first stage of a run.

        Raises: UserError for an impossible number, settings of a term that is not selected, a missing file, or a
        regime, judges, terms and data that do not fit together or not this teacher.
        """
        for player, terms in self._terms().items():
            for name, weighted in terms.items():
                weighted.term.check()
                weighted.term.check_data(f"loss/{player}: {name!r}", data)
                if 0 < self.kimg <= weighted.start_kimg:
                    raise UserError(
                        f"loss.{player}.{name}.start_kimg={weighted.start_kimg:g}: must be below kimg={self.kimg:g}"
                    )
        for name, callback in self.callbacks.items():
            if not isinstance(callback, pl.Callback):
                raise UserError(f"callback.{name}: settings are given, but it is not among the selected callbacks")
            if isinstance(callback, EveryKimg):
                callback.check(teacher)
        for name in ("kimg", "batch_size", "checkpoint_kimg"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)}: must be above 0")
        if self.batch_size != int(self.batch_size):
            raise UserError(f"batch_size={self.batch_size}: must be a whole number")
        with torch.random.fork_rng(devices=[]):
            self.build(Pair(teacher, teacher))
        self._check_processes(self._trainer(Path(), [], []).world_size)

    def _check_processes(self, configured: int) -> None:
        if self.batch_size % configured:
            raise UserError(f"batch_size={self.batch_size}: must be a multiple of the {configured} processes")
        if active() and configured != world_size():
            raise UserError(
                f"trainer: for {configured} processes, but the launcher started {world_size()}; set trainer=ddp or "
                "multinode, trainer.num_nodes and trainer.devices to what it starts"
            )

    def build(self, pair: Pair) -> StudentTraining:
        """The LightningModule of this run, untrained."""
        terms = self._terms()
        playing = [player for player, some in terms.items() if some]
        for player in playing:
            if player not in self.optimizer:
                raise UserError(f"optimizer.{player}: not set, but loss/{player} has terms")
        return self.module(
            pair,
            judges=self.judges(pair),
            **{f"{player}_terms": some for player, some in terms.items()},
            **{f"{player}_optimizer": self.optimizer[player] for player in playing},
            companions=self.companions,
            kimg=self.kimg,
            batch_size=self.batch_size,
        )

    def _terms(self) -> dict[str, dict[str, Weighted]]:
        """The selected terms by player; a player without any is left to the regime, which needs it or not."""
        selected = {player: self.loss.get(player) or {} for player in ("generator", "discriminator")}
        return {player: checked_terms(player, terms) if terms else {} for player, terms in selected.items()}

    @staticmethod
    def _quiet() -> None:
        """Lightning's advice on loops it does not know and its own deprecations would bury our lines."""
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        for message in (
            ".*isinstance.treespec, LeafSpec.*",
            ".*module.s. in eval mode.*",
            ".*does not have many workers.*",
            "Grad strides do not match bucket view.*",  # 1x1 kernels in channels-last form; harmless
            ".*broadcast_buffers.*",  # torch's new name for it is not known to the oldest torch we support
            ".*`srun` command is available.*",
        ):
            warnings.filterwarnings("ignore", message=message)

    def _trainer(self, folder: Path, loggers: Sequence[Logger], callbacks: list[pl.Callback]) -> pl.Trainer:
        self._quiet()
        try:
            return copy.deepcopy(self.trainer)(  # a strategy object serves one Trainer
                callbacks=callbacks,
                logger=list(loggers),
                default_root_dir=folder,
                max_epochs=-1,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                num_sanity_val_steps=0,
            )
        except (ValueError, MisconfigurationException) as error:
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error

    @staticmethod
    def _refuse_drift(module: StudentTraining) -> None:
        """Every process must hold the same student; anything else is an error of this program."""
        sums = gathered([parameter.double().sum().item() for parameter in module.ema.parameters()])
        if any(other != sums[0] for other in sums):
            raise RuntimeError("the processes hold different students")

    def _result(self, module: StudentTraining, pair: Pair) -> Model:
        judge = module.final_judge()
        judge = None if judge is None else judge.cpu().eval().requires_grad_(False)
        generator = cast(Network, module.ema).cpu().eval()
        judged = cast(Network | None, judge)
        student = replace(pair.student, generator=generator, discriminator=judged, reverse=module.final_reverse())
        student = settled(replace(student, masks=module.masks.current()))
        described = {name: weighted.term.describe() for name, weighted in self.loss["generator"].items()}
        settings = {f"loss_{name}": facts for name, facts in sorted(described.items()) if facts}
        settings |= {f"companion_{name}": companion.describe() for name, companion in sorted(self.companions.items())}
        facts = {"kimg": self.kimg, "batch_size": self.batch_size, "losses": sorted(described)}
        return student.after("distil", **facts, **settings)


def _read(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds here
        raise CheckpointError(
            f"{path}: unreadable checkpoint ({' '.join(str(error).split())[:120]}); remove it to begin anew, or "
            "put previous.ckpt beside it in its place"
        ) from error


def _images_seen(path: Path) -> int:
    return int(_read(path)["state_dict"]["images_seen"])


def _load_state(module: StudentTraining, path: Path) -> None:
    """All but the loss terms' own state, which needs a teacher's pass through `setup` and is of no more use."""
    state = {name: value for name, value in _read(path)["state_dict"].items() if not name.startswith("term_states.")}
    missing = module.load_state_dict(state, strict=False).missing_keys
    if any(not name.startswith("term_states.") for name in missing):
        raise CheckpointError(f"{path}: checkpoint of another run ({missing[0]} is missing); remove it")
