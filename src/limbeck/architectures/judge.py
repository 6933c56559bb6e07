"""What all discriminators share: they judge a student at full width, so they are never cut and never refined."""

from collections.abc import Mapping
from typing import Any, Self

from limbeck.architectures.base import ChannelGroup, Network, Refinable
from limbeck.errors import UserError


class Judge(Network):
    """A discriminator. It keeps its constructor's arguments in `_arguments`."""

    _arguments: dict[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self._arguments)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """None: a student is judged by a discriminator of full width."""
        return ()

    def resized(self, sizes: Mapping[str, int]) -> Self:
        if sizes:
            raise UserError(f"discriminator: no channel groups, so none of {sorted(sizes)} can be resized")
        return type(self)(**self._arguments)

    def refinable(self) -> Refinable:
        """None: the discriminator is trained afresh or kept, never refined."""
        return Refinable()
