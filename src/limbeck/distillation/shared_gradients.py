"""Several processes that train the same networks: each optimizer step shares the gradients of whoever steps."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from limbeck.parallel import world_size


class SharedGradients(DDPStrategy):
    """Lightning's processes without its wrapper around the networks; `StudentTraining.optimize` shares the gradients.

    The wrapper reduces the gradients of all networks in every backward pass, those of idle players as zeros, and looks
    for them in the graph: about twice the traffic for a generator and its judges.
    """

    def configure_ddp(self) -> None:
        """Begin with the first process's networks in all of them."""
        assert self.model is not None
        with torch.no_grad():
            for same in _by_type([*self.model.parameters(), *self.model.buffers()]):
                message = _flat(same)
                dist.broadcast(message, 0)
                _put(message, same)


@torch.no_grad()
def share_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace every gradient by its mean over all processes, in one message.

    A parameter without gradient in every process keeps none, one without gradient in some of them counts as zero there.
    """
    if world_size() < 2:
        return
    for same in _by_type(parameters):
        lacking = [index for index, parameter in enumerate(same) if parameter.grad is None]
        for index in lacking:
            same[index].grad = torch.zeros_like(same[index])
        counts = torch.ones(len(same), dtype=same[0].dtype)
        counts[lacking] = 0
        gradients: list[Tensor] = [parameter.grad for parameter in same]
        message = torch.cat([_flat(gradients), counts.to(same[0].device)])
        dist.all_reduce(message)
        _put(message[: -len(same)] / world_size(), gradients)
        if lacking:  # only then somebody has to wait for the device
            for index, count in zip(lacking, message[-len(same) :][lacking].tolist(), strict=True):
                if not count:
                    same[index].grad = None


def _by_type(tensors: Sequence[Tensor]) -> list[list]:
    types = dict.fromkeys(tensor.dtype for tensor in tensors)
    return [[tensor for tensor in tensors if tensor.dtype == dtype] for dtype in types]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _put(message: Tensor, tensors: Sequence[Tensor]) -> None:
    """The inverse of `_flat`."""
    parts = message.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view(to.shape) for part, to in zip(parts, tensors, strict=True)])
