"""What every export format promises: one file or folder, written whole or not at all, proven equal to the model."""

from abc import ABC, abstractmethod
from pathlib import Path

import torch

from limbeck.architectures.base import Network
from limbeck.errors import UserError
from limbeck.model import Model


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
