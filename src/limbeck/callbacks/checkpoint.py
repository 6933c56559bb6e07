"""Full training state, counted in images, written aside and renamed; saved too when the process is told to stop."""

import random
import signal
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pytorch_lightning as pl
import torch

from limbeck.callbacks.intervals import is_due
from limbeck.files import written_aside
from limbeck.parallel import any_process, gathered, rank

TERMINATED = 143


class ImageCounting(Protocol):
    """What a checkpoint needs of a LightningModule besides its state."""

    images_seen: int
    total_images: int
    batch_size: int
    device: torch.device

    def check_finite(self) -> object: ...


class Checkpoint(pl.Callback):
    """Writes `path` every `every_kimg` and on SIGTERM or SIGUSR1 (then ends the process with exit code 143).

    Random states of every process are part of it, so a resumed run draws what the uninterrupted one would have.
    """

    def __init__(self, path: str | Path, *, every_kimg: float):
        self.path, self.every_kimg = Path(path), every_kimg
        self._told_to_stop = False
        self._restored: dict[str, Any] | None = None
        self._previous: dict[int, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            self._previous[number] = signal.signal(number, self._stop)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._restored is not None:  # here, because setting up loaders draws random numbers
            set_random_states(self._restored)
            self._restored = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = cast(ImageCounting, pl_module)
        seen = int(module.images_seen)
        stop = any_process(self._told_to_stop, module.device)
        if not stop and not is_due(seen - module.batch_size, seen, self.every_kimg) and seen < module.total_images:
            return
        module.check_finite()
        self._save(trainer)
        if stop:
            raise SystemExit(TERMINATED)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def state_dict(self) -> dict[str, Any]:
        return {"random": gathered(random_states())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = state_dict["random"]
        if rank() < len(states):
            self._restored = states[rank()]

    def _save(self, trainer: pl.Trainer) -> None:
        """Every process takes part, the first one writes."""
        state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        if trainer.is_global_zero:
            with written_aside(self.path) as aside:
                torch.save(state, aside)
        trainer.strategy.barrier()

    def _stop(self, number: int, frame: Any) -> None:
        self._told_to_stop = True


def random_states() -> dict[str, Any]:
    """States of Python's, NumPy's and torch's generators, as plain containers and tensors."""
    algorithm, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "python": (version, torch.tensor(internal), gauss),
        "numpy": (algorithm, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))
    algorithm, keys, *rest = states["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
