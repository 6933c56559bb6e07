"""From what a student may cost to the ratio that gives it: multiply-accumulates counted, or latency measured."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from limbeck.architectures.base import ChannelGroup, Network
from limbeck.errors import UserError
from limbeck.parallel import gathered
from limbeck.pruning.allocation import Allocation, rounded_counts
from limbeck.terminal import announce

MACS_STEPS, LATENCY_STEPS = 10_000, 100
Latency = Callable[[Network], float | int]  # milliseconds of one forward pass of one image


class Budget(NamedTuple):
    """What the student may cost; None: anything. latency: measures `target_latency_ms`, which is nothing without it."""

    target_macs: Any = None
    target_latency_ms: Any = None
    latency: Latency | None = None
    round_to: int = 1

    def check(self, network: Network, groups: Sequence[ChannelGroup]) -> None:
        """Find out before anything is scored whether the least width of all `groups` is small enough.

        Raises: UserError with the least cost that can be had.
        """
        for name in ("target_macs", "target_latency_ms"):
            target = getattr(self, name)
            if target is not None and (isinstance(target, bool) or not isinstance(target, int | float) or target <= 0):
                raise UserError(f"pruning.{name}={target}: must be a number above 0")
        least = rounded_counts(network, {group.name: 1 for group in groups}, self.round_to)
        self._check_macs(resized_macs(network, least))
        if self.target_latency_ms is not None:
            self._check_latency(agreed(self._measured()(network.resized(least).to(next(network.parameters()).device))))

    def ratio(
        self, network: Network, scores: Mapping[str, Tensor], allocation: Allocation
    ) -> tuple[float | None, dict[str, Any]]:
        """The smallest ratio that keeps to everything, and facts for the history; None if anything goes.

        Raises: UserError if even the largest ratio of this allocation costs more.
        """
        ratios, facts = [], {}
        if self.target_macs is not None:
            ratios.append(
                ratio_for_macs(network, scores, allocation, target_macs=self.target_macs, round_to=self.round_to)
            )
        if self.target_latency_ms is not None:
            found, latency_ms = ratio_for_latency(
                network,
                scores,
                allocation,
                target_latency_ms=self.target_latency_ms,
                latency=self._measured(),
                round_to=self.round_to,
            )
            ratios.append(found)
            facts = {"target_latency_ms": self.target_latency_ms, "latency_ms": round(latency_ms, 3)}
            facts["latency_in"] = str(self.latency)
            announce("", f"ratio {found:g}: {latency_ms:.3g} of {self.target_latency_ms:g} ms in {self.latency}")
        return max(ratios, default=None), facts

    def _measured(self) -> Latency:
        if self.latency is None:
            raise UserError(f"pruning.target_latency_ms={self.target_latency_ms}: needs pruning.latency to measure it")
        return self.latency

    def _check_macs(self, least: int) -> None:
        if self.target_macs is not None and least > self.target_macs:
            raise UserError(f"pruning.target_macs={self.target_macs}: out of reach, at least {least} are left")

    def _check_latency(self, least: float | int) -> None:
        if least > self.target_latency_ms:
            raise UserError(
                f"pruning.target_latency_ms={self.target_latency_ms}: out of reach, at least {least:.3g} ms are left "
                f"in {self.latency}"
            )


def agreed(milliseconds: float | int) -> float | int:
    """What the first process measured; the others must come to the same student."""
    return gathered([milliseconds])[0][0]


def resized_macs(network: Network, counts: Mapping[str, int]) -> int:
    """Multiply-accumulates of a network of these widths, which takes no memory for it."""
    with torch.device("meta"):
        return network.resized(counts).macs()


def ratio_for_macs(
    network: Network,
    scores: Mapping[str, Tensor],
    allocation: Allocation,
    *,
    target_macs: float | int,
    round_to: int = 1,
) -> float:
    """The smallest ratio, in steps of 0.0001, whose network needs at most `target_macs` multiply-accumulates.

    Raises: UserError if even the largest ratio needs more.
    """

    def macs(step: int) -> int:
        return resized_macs(network, rounded_counts(network, allocation(network, scores, step / MACS_STEPS), round_to))

    Budget(target_macs=target_macs)._check_macs(macs(MACS_STEPS - 1))
    return bisect_left(range(MACS_STEPS - 1), True, key=lambda step: macs(step) <= target_macs) / MACS_STEPS


def ratio_for_latency(
    network: Network,
    scores: Mapping[str, Tensor],
    allocation: Allocation,
    *,
    target_latency_ms: float | int,
    latency: Latency,
    round_to: int = 1,
) -> tuple[float, float | int]:
    """The smallest ratio, in steps of 0.01, whose network takes at most `target_latency_ms`, and what it takes.

    A bisection: wider networks are taken to be slower, and every width is measured at most once.

    Raises: UserError if even the largest ratio takes longer.
    """
    device = next(network.parameters()).device
    known: dict[tuple[tuple[str, int], ...], float | int] = {}

    def measured(step: int) -> float | int:
        counts = rounded_counts(network, allocation(network, scores, step / LATENCY_STEPS), round_to)
        widths = tuple(sorted(counts.items()))
        if widths not in known:
            known[widths] = agreed(latency(network.resized(counts).to(device)))
            announce("", f"ratio {step / LATENCY_STEPS:g} takes {known[widths]:.3g} ms")
        return known[widths]

    Budget(target_latency_ms=target_latency_ms, latency=latency)._check_latency(measured(LATENCY_STEPS - 1))
    step = bisect_left(range(LATENCY_STEPS - 1), True, key=lambda step: measured(step) <= target_latency_ms)
    return step / LATENCY_STEPS, measured(step)
