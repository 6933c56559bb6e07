"""Precision, recall, density and coverage over any embedding.

Source: Kynkäänniemi et al., 2019; Naeem et al., 2020 (see `functional.prdc`).
"""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.functional.prdc import overlap
from limbeck.metrics.accumulated import FeatureSets, scalar
from limbeck.metrics.base import require_images

VALUES = ("precision", "recall", "density", "coverage")


class Overlap(FeatureSets):
    """`precision`, `recall`, `density` and `coverage`, each with the embedding's suffix; higher is better.

    num_neighbors: k; the papers have 3 (precision and recall) and 5 (all four), and the numbers depend on it.
    """

    def __init__(self, *, embedding: Embedding, num_neighbors: int = 5) -> None:
        super().__init__(embedding)
        self.num_neighbors = num_neighbors

    def compute(self) -> dict[str, Tensor]:
        fake, real = self.sets()
        self.check(len(real), len(fake))
        found = asdict(overlap(real=real, fake=fake, num_neighbors=self.num_neighbors))
        return {name + self.embedding.metric_suffix: scalar(value) for name, value in found.items()}

    def check(self, num_real: int, num_fake: int) -> None:
        super().check(num_real, num_fake)
        if self.num_neighbors < 1:
            raise UserError(f"num_neighbors={self.num_neighbors}: must be at least 1")
        require_images(f"num_neighbors={self.num_neighbors}", self.num_neighbors + 1, num_real, num_fake)

    def ranks(self) -> dict[str, bool]:
        return {f"{name}{self.embedding.metric_suffix}": True for name in VALUES}

    def describe(self) -> dict[str, Any]:
        return {"estimator": f"balls to neighbor k = {self.num_neighbors}, rim included", **self.embedding.describe()}
