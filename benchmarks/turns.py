"""One whole iteration of any training regime without Lightning, every turn of it timed apart."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from timing import Times, spread
from torch import Tensor

from limbeck.distillation.training import StudentTraining
from limbeck.losses.image_step import Step
from limbeck.losses.weighted import Weighted

AVERAGE = ("average", 1)


class Turns:
    """Plays the iteration in which everything is due, by the module's own `play`.

    A turn is what one player's terms of one cadence do: forward, backward, optimizer. An amortized iteration is the
    sum of the turns, each divided by its cadence, and of the weight average.

    mixed: as with trainer.precision=bf16-mixed.
    """

    def __init__(self, module: StudentTraining, real: Tensor, *, mixed: bool = False):
        self.module, self.real, self.mixed = module, real, mixed
        self.label = torch.zeros(len(real), dtype=torch.int64)
        made: Any = module.configure_optimizers()
        self.optimizers = list(made) if isinstance(made, list) else [made]
        self.turns: dict[tuple[str, int], Times] = {}
        module.optimize = self._optimize  # the module's own needs Lightning's backward

    def __call__(self) -> None:
        self.module.play(self.optimizers, self.real, self.label)
        self._timed(AVERAGE, lambda: self.module._average(0))

    def amortized(self, times: Times) -> Times:
        """Seconds of the last repetitions. times: of whole calls, which tell how many those are."""
        count = len(times.wall)
        return Times(
            **{
                kind: [
                    sum(getattr(turn, kind)[index] / every for (_, every), turn in self.turns.items())
                    for index in range(-count, 0)
                ]
                for kind in ("wall", "cpu")
            },
            others=times.others,
        )

    def described(self, count: int) -> str:
        """Seconds of every turn, not divided."""
        return ", ".join(
            f"{player}{'' if every == 1 else f' / {every}'} {spread(turn.wall[-count:])}"
            for (player, every), turn in self.turns.items()
        )

    def _optimize(
        self,
        optimizers: Sequence[Any],
        player: str,
        terms: Mapping[str, Weighted],
        steps: Sequence[Step],
        observe: Callable[[Sequence[Step]], None] | None = None,
    ) -> None:
        every = next(iter(terms.values())).every_steps
        self._timed((player, every), lambda: self._turn(optimizers, terms, steps, observe))

    def _turn(
        self, optimizers: Sequence[Any], terms: Mapping[str, Weighted], steps: Sequence[Step], observe: Any
    ) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        num_rows = sum(step.num_rows for step in steps)
        for step in steps:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
                total: Any = sum(term(step)[0] for term in terms.values())
            (total * (step.num_rows / num_rows)).backward()
        if observe is not None:
            observe(steps)
        for optimizer in optimizers:
            if self.module.clip_gradient_norm is not None:
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                torch.nn.utils.clip_grad_norm_(parameters, self.module.clip_gradient_norm)
            optimizer.step()

    def _timed(self, turn: tuple[str, int], run: Callable[[], None]) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        run()
        times = self.turns.setdefault(turn, Times())
        times.wall.append(time.perf_counter() - wall)
        times.cpu.append(time.process_time() - cpu)
