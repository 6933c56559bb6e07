"""What every pruning stage promises."""

from abc import ABC, abstractmethod
from pathlib import Path

from limbeck.model import Pair


class PruningStage(ABC):
    """Pair to pair: the same teacher with a smaller, sparser or otherwise cheaper student. Constructors only store."""

    @abstractmethod
    def __call__(self, pair: Pair, folder: Path | None = None) -> Pair:
        """The pair with its new student. folder: keeps what an interrupted scoring goes on from.

        Raises: UserError for settings that cannot work, before anything is scored.
        """

    def sketched(self, pair: Pair) -> Pair:
        """A student of the same costs, as good as made, for what is measured before the long work; not to be kept."""
        return self(pair)
