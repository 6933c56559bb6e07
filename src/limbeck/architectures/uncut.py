"""What networks share that are never cut and never refined: discriminators, which judge a student at full width, and
whatever else is made smaller in another way.
"""

from collections.abc import Mapping
from typing import Self

from limbeck.architectures.base import ChannelGroup, Network, Refinable
from limbeck.errors import UserError


class Uncut(Network):
    """A network without channel groups.

    called: opens messages.
    """

    called: str

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """None."""
        return ()

    def resized(self, sizes: Mapping[str, int]) -> Self:
        """A newly initialized network; no group can change."""
        if sizes:
            raise UserError(f"{self.called}: no channel groups, so none of {sorted(sizes)} can be resized")
        return type(self)(**self._arguments)

    def refinable(self) -> Refinable:
        """Nothing: it is trained afresh or kept."""
        return Refinable()


class Judge(Uncut):
    """A discriminator."""

    called = "discriminator"
