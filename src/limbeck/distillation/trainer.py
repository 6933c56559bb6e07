"""Lightning's Trainer with the words of `conf/trainer`: what "auto" means, TF32, compiled networks."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from limbeck import devices
from limbeck.distillation.compiled import ALL, FROZEN, NONE, compile_networks
from limbeck.errors import UserError

COMPILED = (NONE, FROZEN, ALL)


class Arithmetic(pl.Callback):
    """Tells the module how it may compute before training starts. compile: see `trainer`."""

    def __init__(self, *, tf32: bool, compile: str):
        self.tf32, self.compile = tf32, compile

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.tf32 = self.tf32
        compile_networks(pl_module, self.compile)


def trainer(
    *,
    accelerator: str = "auto",
    precision: str = "auto",
    tf32: bool = False,
    compile: str = "none",
    callbacks: Sequence[pl.Callback] = (),
    **settings: Any,
) -> pl.Trainer:
    """A Trainer; what is not named here goes to Lightning as it is.

    accelerator: "auto" takes a GPU if there is one. precision: "auto" is bf16-mixed on a GPU, 32-true on a CPU.
    tf32: whether float32 products of ordinary steps may round to TF32.
    compile: networks that torch.compile prepares: "none", "frozen" (teacher and feature networks) or "all".

    Raises: UserError for a word that is not among these.
    """
    if compile not in COMPILED:
        raise UserError(f"trainer.compile={compile!r}: allowed: {', '.join(COMPILED)}")
    chosen = devices.accelerator(accelerator)
    if devices.own_gpu() is not None and settings.get("devices") == 1:
        settings["devices"] = [devices.own_gpu()]
    return pl.Trainer(
        accelerator=chosen,
        precision=devices.precision(precision, chosen),  # type: ignore[arg-type]
        callbacks=[*callbacks, Arithmetic(tf32=tf32, compile=compile)],
        **settings,
    )
