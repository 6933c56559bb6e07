"""Full training state, counted in images, written aside and renamed; saved too when the process is told to stop."""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from limbeck.callbacks.intervals import is_due
from limbeck.errors import UserError
from limbeck.files import keep_also, written_aside
from limbeck.parallel import gathered, largest, rank, world_size
from limbeck.seeds import stream_seed
from limbeck.stopping import Listening
from limbeck.terminal import announce

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
AGREE_EVERY = 4  # steps after which several processes ask one another whether anybody was told to stop


class ImageCounting(Protocol):
    """What a checkpoint needs of a LightningModule besides its state."""

    images_seen: int
    total_images: int
    batch_size: int
    device: torch.device

    def check_finite(self) -> object: ...


class Checkpoint(pl.Callback):
    """Writes `folder/last.ckpt` every `every_kimg`, and when told to stop; the one before stays as `previous.ckpt`.

    SIGTERM and SIGUSR1 end the process with exit code 143 after that, Ctrl-C with 130, SIGUSR2 by whatever handled it
    before (submitit, which requeues). It does not matter which process is told, or when: all look every few steps.

    Random states of every process are part of it, so a resumed run draws what the uninterrupted one would have;
    processes that the saved run did not have begin streams of their own, from `seed`.
    """

    def __init__(self, folder: str | Path, *, every_kimg: float, seed: int = 0):
        self.folder, self.every_kimg, self.seed = Path(folder), every_kimg, seed
        self._listening = Listening()
        self._restored: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Here and not earlier: Lightning has set its handlers by now, which broadcast from within a signal, and puts
        back those from before the training when it ends, however it ends.
        """
        self._listening.begin()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._restored is not None:  # here, because setting up loaders draws random numbers
            if self._restored:
                set_random_states(self._restored)
            else:
                seen = cast(ImageCounting, pl_module).images_seen
                torch.manual_seed(stream_seed(self.seed, rank(), seen))
            self._restored = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = cast(ImageCounting, pl_module)
        seen = module.images_seen
        due = is_due(seen - module.batch_size, seen, self.every_kimg) or seen >= module.total_images
        asks = due or world_size() == 1 or seen // module.batch_size % AGREE_EVERY == 0
        told = largest(self._listening.told, module.device) if asks else 0
        if told or due:
            module.check_finite()
            self._save(trainer, pl_module)
        if told:
            self._end(told, seen)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A signal that came while the last checkpoint was written counts too."""
        module = cast(ImageCounting, pl_module)
        if told := largest(self._listening.told, module.device):
            self._end(told, module.images_seen)

    def state_dict(self) -> dict[str, Any]:
        return {"random": gathered(random_states())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = state_dict["random"]
        self._restored = states[rank()] if rank() < len(states) else {}

    def _save(self, trainer: pl.Trainer, module: nn.Module) -> None:
        """Every process takes part, the first one writes.

        Raises: UserError, in every process, if a weight is not a finite number in any.
        """
        broken = not_finite(module)
        where = [name for name in gathered(broken) if name]
        if where:
            raise UserError(
                f"{where[0]} holds NaN or infinity; training stopped, the last good checkpoint is kept (try a lower "
                "optimizer learning rate or trainer.precision=32-true)"
            )
        state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        if trainer.is_global_zero:
            path = self.folder / LAST
            with written_aside(path) as aside:
                torch.save(state, aside)
                if path.is_file():
                    keep_also(path, self.folder / PREVIOUS)
        trainer.strategy.barrier()

    def _end(self, told: int, seen: int) -> None:
        announce("stopped", f"saved at {seen / 1000:g} kimg; the same command goes on from there")
        self._listening.follow(told)


def not_finite(module: nn.Module) -> str | None:
    """Name of a parameter, a buffer or a tensor of a term's own state that holds NaN or infinity; one read for all."""
    values = {name: v for name, v in _tensors(module.state_dict()) if v.is_floating_point() and v.numel()}
    if not values:
        return None
    largest_values = torch._foreach_norm(list(values.values()), float("inf"))
    if bool(torch.stack([value.float() for value in largest_values]).isfinite().all()):
        return None
    return next(name for name, value in values.items() if not value.isfinite().all())


def _tensors(state: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of a state dict, those of nested dicts (a module's extra state) under dotted names."""
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, Mapping):
            yield from _tensors(value, f"{prefix}{name}.")


def random_states() -> dict[str, Any]:
    """States of Python's, NumPy's and torch's generators, as plain containers and tensors."""
    algorithm, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "python": (version, torch.tensor(internal), gauss),
        "numpy": (algorithm, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,  # of this process's own device
    }


def set_random_states(states: dict[str, Any]) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))
    algorithm, keys, *rest = states["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if torch.is_tensor(states["cuda"]) and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
