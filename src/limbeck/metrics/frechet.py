"""Fréchet distance between Gaussians fitted to the model's and the real features: FID, over any embedding.

Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", 2017, Eq. 6.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.embeddings.base import Embedding
from limbeck.functional.frechet import Sums, frechet_distance, moments_of_sums, sums
from limbeck.metrics.accumulated import SetMetric
from limbeck.metrics.base import Samples, require_images


class FrechetDistance(SetMetric):
    """`<name>`; lower is better, 0 for equal moments. Biased upwards by few images: compare equal counts only.

    name: "fid" is kept for Inception features. The state is counts, sums and sums of products in float64, which add up
    over processes; no feature is kept.
    """

    higher_is_better = False

    def __init__(self, *, embedding: Embedding, name: str = "frechet") -> None:
        super().__init__(embedding)
        self.name = name
        size = embedding.num_features
        for kind in ("real", "fake"):
            self.add_state(f"{kind}_count", torch.zeros([], dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state(f"{kind}_sum", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{kind}_products", torch.zeros(size, size, dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, features: Float[Tensor, "n f"], *, real: bool) -> None:
        self._add_sums(sums(features), "real" if real else "fake")

    def update(self, images: Tensor | Sums, *, real: bool) -> None:
        """Add images [n, c, h, w] in [-1, 1], features [n, f], or `functional.frechet.sums` of features."""
        if isinstance(images, Tensor):
            super().update(images, real=real)
        else:
            self._add_sums(images, "real" if real else "fake")

    def of(self, samples: Samples) -> dict[str, float]:
        if not samples.has_reference():
            return {}
        self.reset()
        for real, found in ((True, samples.reference_sums(self.embedding)), (False, samples.sums(self.embedding))):
            self.to(found[0].device)
            self.update(found, real=real)
        return self._values()

    def _add_sums(self, found: Sums, kind: str) -> None:
        for name, value in zip(("count", "sum", "products"), found, strict=True):
            setattr(self, f"{kind}_{name}", getattr(self, f"{kind}_{name}") + value)

    def compute(self) -> dict[str, Tensor]:
        found = [self._moments("fake"), self._moments("real")]
        return {self.name + self.embedding.metric_suffix: frechet_distance(*found[0], *found[1])}

    def _moments(self, kind: str) -> tuple[Tensor, Tensor]:
        parts = (getattr(self, f"{kind}_{name}") for name in ("count", "sum", "products"))
        return moments_of_sums(*parts)

    def check(self, num_real: int, num_fake: int) -> None:
        require_images("a covariance", 2, num_real, num_fake)

    def ranks(self) -> dict[str, bool]:
        return {self.name + self.embedding.metric_suffix: False}

    def describe(self) -> dict[str, Any]:
        return {"estimator": "Fréchet distance of Gaussians, covariance over n - 1", **self.embedding.describe()}
