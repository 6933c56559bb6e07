"""Means of the scalars that training notes between two rows of the log."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.parallel import mean_over_processes


class Scalars:
    """Sums without waiting for the device; the values are read when the means are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}

    def note(self, name: str, value: Tensor, weight: float = 1.0) -> None:
        """Add one value of the scalar `name`. weight: of it in the mean."""
        value = value.detach().float() * weight
        self._sums[name] = self._sums[name].to(value.device) + value if name in self._sums else value
        self._weights[name] = self._weights.get(name, 0.0) + weight

    def means(self, images_seen: int) -> dict[str, float]:
        """Means of all values since the last `clear` over all processes, each of which calls this.

        Raises: UserError, in every process, naming one that is not finite in any.
        """
        if not self._sums:
            return {}
        own = torch.stack([total / self._weights[name] for name, total in self._sums.items()])
        means = dict(zip(self._sums, mean_over_processes(own).tolist(), strict=True))
        for name, value in means.items():
            if value != value or value in (float("inf"), float("-inf")):
                raise UserError(
                    f"{name} became {value} near {images_seen / 1000:.1f} kimg; training stopped, the last good "
                    "checkpoint is kept (try a lower optimizer learning rate or trainer.precision=32-true)"
                )
        return means

    def state(self) -> dict[str, Any]:
        """What has been noted since the last row, so that a resumed run writes the next one as if nothing had happened;
        the mean over all processes, each of which calls this and may be given it back.
        """
        if not self._sums:
            return {"sums": {}, "weights": {}}
        shared = mean_over_processes(torch.stack(list(self._sums.values()))).cpu()
        return {"sums": dict(zip(self._sums, shared.unbind(), strict=True)), "weights": dict(self._weights)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._sums, self._weights = dict(state["sums"]), dict(state["weights"])

    def clear(self) -> None:
        self._sums, self._weights = {}, {}
