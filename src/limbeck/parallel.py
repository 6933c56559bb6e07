"""What several processes must agree on; every function is the identity in a single process."""

import os

import torch
import torch.distributed as dist
from torch import Tensor


def active() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Number of this process, known even before the process group exists."""
    return dist.get_rank() if active() else int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def world_size() -> int:
    return dist.get_world_size() if active() else 1


def mean_over_processes(value: Tensor) -> Tensor:
    """Average of a tensor over all processes, without gradient."""
    if not active():
        return value.detach()
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process."""
    if not active():
        return flag
    value = torch.tensor(int(flag), device=device)
    dist.all_reduce(value)
    return bool(value)


def barrier() -> None:
    if active():
        dist.barrier()


def gathered(value: object) -> list:
    """The value of every process, in the order of ranks."""
    if not active():
        return [value]
    values: list = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
