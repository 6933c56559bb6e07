"""Several embeddings in one loss term, by name, each with its weight."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.frozen import Frozen


class WeightedEmbeddings:
    """Embeddings and their weights under the same names; one of weight 0 is left out, and its weights are not read.

    where: the term's place in the configuration, opens every message.
    """

    def __init__(self, where: str, embeddings: Mapping[str, Embedding], weights: Mapping[str, Any]) -> None:
        self.where, self.embeddings, self.weights = where, dict(embeddings), dict(weights)

    def check(self) -> None:
        """Raises: UserError for names without a partner, a weight that is no number above or equal to 0, or weights of
        a network that are missing.
        """
        for name in (*self.embeddings, *self.weights):
            if name not in self.weights:
                raise UserError(f"{self.where}.weights: none for embedding {name!r}; give it one, or 0 to leave it out")
            if not isinstance(self.embeddings.get(name), Embedding):
                allowed = ", ".join(n for n, e in self.embeddings.items() if isinstance(e, Embedding)) or "none"
                raise UserError(f"{self.where}: there is no embedding {name!r}; selected: {allowed}")
            weight = self.weights[name]
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
                raise UserError(f"{self.where}.weights.{name}={weight!r}: must be a number, at least 0")
        if not self.chosen():
            raise UserError(f"{self.where}.weights: no embedding has a weight above 0")
        for name in self.chosen():
            try:
                self.embeddings[name].describe()
            except UserError as error:
                raise UserError(f"{self.where}.embeddings.{name}: {error}") from error

    def chosen(self) -> dict[str, float]:
        """Weights above 0 by name."""
        return {name: float(weight) for name, weight in self.weights.items() if weight > 0}

    def frozen(self, *, half: bool) -> nn.ModuleDict:
        """The chosen embeddings, loaded. half: in bfloat16."""
        return nn.ModuleDict({name: Frozen(self.embeddings[name].load(), half=half) for name in self.chosen()})

    def describe(self) -> dict[str, Any]:
        """Per chosen embedding its weight, network, weights' hash and preprocessing; JSON values."""
        return {name: {"weight": weight, **self.embeddings[name].describe()} for name, weight in self.chosen().items()}
