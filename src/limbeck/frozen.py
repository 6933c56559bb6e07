"""A network that is only looked at: no gradients to its weights, evaluation mode, in no checkpoint and no optimizer."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)


class Frozen(nn.Module, Generic[N]):
    """Holds `network` outside the module tree; follows `.to(device)` all the same.

    half: run it under bfloat16 autocast.
    """

    def __init__(self, network: N, *, half: bool = False):
        super().__init__()
        self._held = [network.eval().requires_grad_(False)]
        self.half_precision = half

    @property
    def network(self) -> N:
        return self._held[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.network._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @contextlib.contextmanager
    def running(self) -> Iterator[N]:
        """The network, in the precision chosen for frozen networks."""
        with self._half() if self.half_precision else contextlib.nullcontext():
            yield self.network

    def _half(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(next(self.network.parameters()).device.type, dtype=torch.bfloat16)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with self.running() as network:
            return network(*args, **kwargs)
