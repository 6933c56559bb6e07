"""Scores that are added up over batches of latents, each drawn from its own seed: what such criteria share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.errors import UserError
from limbeck.pruning.criteria.base import SUM
from limbeck.seeds import batch_seed


@dataclass(frozen=True)
class Batches:
    """`num_samples` latents in batches of `batch_size`; the last may be smaller."""

    num_samples: int
    batch_size: int
    seed: int

    def check(self) -> None:
        """Raises: UserError if there is nothing to draw."""
        for name in ("num_samples", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: must be at least 1")

    def __len__(self) -> int:
        # At least a divisor of 1, because the length is asked before impossible numbers are refused.
        return -(-self.num_samples // max(1, self.batch_size))

    def __getitem__(self, index: int) -> tuple[int, torch.Generator]:
        """(size, random numbers on the CPU) of batch `index`; -1 gives those of what is drawn before the first."""
        source = torch.Generator().manual_seed(batch_seed(self.seed, index))
        return min(self.batch_size, self.num_samples - index * self.batch_size), source


def zero_sums(network: Network) -> dict[str, Tensor]:
    """A state that holds a sum per channel of every group, still zero."""
    return {f"{SUM}{group.name}": torch.zeros(group.size).double() for group in network.channel_groups()}


def sums_of(state: dict[str, Tensor], network: Network) -> dict[str, Tensor]:
    """A state's sums by group name."""
    return {group.name: state[SUM + group.name] for group in network.channel_groups()}
