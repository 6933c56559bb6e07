"""What several processes must agree on; every function is the identity in a single process."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from limbeck.errors import UserError


def active() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Number of this process, known even before the process group exists."""
    if active():
        return dist.get_rank()
    # torchrun, then Lightning's own children, then srun
    return int(next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), 0))


def world_size() -> int:
    return dist.get_world_size() if active() else 1


def mean_over_processes(value: Tensor) -> Tensor:
    """Average of a tensor over all processes, without gradient."""
    if not active():
        return value.detach()
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def summed(value: Tensor) -> Tensor:
    """Sum of a tensor over all processes, without gradient."""
    value = value.detach().clone()
    if active():
        dist.all_reduce(value)
    return value


def of_first(value: Tensor) -> Tensor:
    """The first process's tensor, on the CPU; all have its shape and type."""
    value = value.detach().cpu().clone()
    if active():
        dist.broadcast(value, 0)
    return value


def joint_mean(value: Tensor) -> Tensor:
    """Average of a tensor over all processes, with the gradient of this process's value.

    A function of it has the same gradient, once DDP has averaged gradients, as of the mean over the joint batch.
    """
    return value + (mean_over_processes(value) - value.detach())


def largest(number: int, device: torch.device) -> int:
    """The largest number of any process."""
    if not active():
        return number
    value = torch.tensor(number, device=device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


def barrier() -> None:
    if active():
        dist.barrier()


def wait_for(path: Path, seconds: float = 60.0) -> None:
    """Pause until a file that the first process has written is seen here too, as network file systems may take a while.

    Raises: UserError if it does not come.
    """
    until = time.monotonic() + seconds
    while rank() and not path.is_file():
        if time.monotonic() > until:
            raise UserError(f"{path}: written by the first process, but not seen here; all nodes must share the folder")
        time.sleep(0.2)


def gathered(value: object) -> list:
    """The value of every process, in the order of ranks."""
    if not active():
        return [value]
    values: list = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def rows_of_all(value: Tensor) -> Tensor:
    """The rows of every process's tensor in the order of ranks, without gradient; all have the same shape."""
    if not active():
        return value.detach()
    parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, value.detach().contiguous())
    return torch.cat(parts)


def shared_out(
    batches: Iterator[tuple[int, Any]], function: Callable[[Any], Tensor], on_batch: Callable[[int], None] | None = None
) -> list[Tensor]:
    """`function` of every process's numbered batches, in the order of the numbers, on every process.

    A batch is always computed whole and alone, so the result does not depend on the number of processes.
    """
    own: dict[int, Tensor] = {}
    done = 0
    for number, batch in batches:
        own[number] = function(batch)
        done += len(own[number]) * world_size()
        if on_batch is not None:
            on_batch(done)
    everywhere: dict[int, Tensor] = {}
    for part in gathered(own):
        everywhere.update(part)
    return [everywhere[number] for number in sorted(everywhere)]
