"""What every export format promises: one file or folder, written whole or not at all, proven equal to the model."""

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.errors import UserError
from limbeck.model import Model

Program = Callable[[dict[str, Tensor]], Tensor]  # inputs by name -> the first output
TOLERANCE = 1e-4  # of the largest value; other kernels round otherwise, and some layers amplify it


class Exporter(ABC):
    """A deployable format. Constructors only store."""

    @abstractmethod
    def __call__(self, model: Model, path: str | Path) -> Path:
        """Write the model to `path` and return it.

        Raises: UserError if the format cannot hold this model, or what was written does not equal it.
        """


def require_equal(written: Network, source: Network, *, what: str) -> None:
    """Refuse a file whose re-imported tensors are not the source's, bit for bit."""
    again, expected = written.state_dict(), source.state_dict()
    differing = [n for n in expected if n not in again or not torch.equal(again[n], expected[n].to(again[n]))]
    if differing or len(again) != len(expected):
        raise UserError(
            f"{what}: not kept, because tensor {next(iter(differing), 'count')!r} did not survive the format"
        )


def inference_copy(network: Network) -> Network:
    """A copy without gradients, in evaluation mode and float32 on the CPU, however the network itself is set."""
    return copy.deepcopy(network).cpu().float().eval().requires_grad_(False)


def standing_in(program: Program, network: Network) -> Network:
    """A copy of the network whose forward passes the program computes: it is sampled and judged like any other.

    Settings of a pass that no program takes (injected noise, truncation) are ignored.
    """
    actor, takes = inference_copy(network), inspect.signature(network.forward)
    names = list(network.example_inputs(1))

    def forward(*positional: Any, **named: Any) -> Tensor:
        given = takes.bind(*positional, **named).arguments
        return program({name: given[name].contiguous() for name in names})

    actor.forward = forward
    return actor


def require_close(written: Program, source: Network, *, what: str) -> None:
    """Refuse a program whose images, one or two at once, are not the source's."""
    for num_images in (1, 2):
        inputs = trial_inputs(source, num_images)
        with torch.no_grad():
            expected = source(**inputs)
            deviation = ((written(inputs) - expected).abs().max() / expected.abs().max()).item()
        if not deviation <= TOLERANCE:
            raise UserError(f"{what}: not kept, because it deviates by {deviation:.1e} of the largest value")


def trial_inputs(network: Network, num_images: int) -> dict[str, Tensor]:
    """Inputs of one forward pass to compare by: normal values; whole numbers count up from 0."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(value.shape, generator=generator)
        if value.is_floating_point()
        else torch.arange(num_images, dtype=value.dtype)
        for name, value in network.example_inputs(num_images).items()
    }
