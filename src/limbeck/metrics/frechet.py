"""Fréchet distance between Gaussians fitted to the model's and the real features: FID, over any embedding.

Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", 2017, Eq. 6.
"""

from typing import Any

from limbeck.embeddings.base import Embedding
from limbeck.functional.frechet import frechet_distance, moments
from limbeck.metrics.base import Metric, Samples, require_images


class FrechetDistance(Metric):
    """`<name>`; lower is better, 0 for equal moments. Biased upwards by few images: compare equal counts only.

    name: "fid" is kept for Inception features.
    """

    def __init__(self, *, embedding: Embedding, name: str = "frechet") -> None:
        self.embedding, self.name = embedding, name

    def __call__(self, samples: Samples) -> dict[str, float]:
        real, fake = samples.reference_features(self.embedding), samples.features(self.embedding)
        value = float(frechet_distance(*moments(fake), *moments(real)))
        return {self.name + self.embedding.metric_suffix: value}

    def check(self, num_real: int, num_fake: int) -> None:
        require_images("a covariance", 2, num_real, num_fake)

    def describe(self) -> dict[str, Any]:
        return {"estimator": "Fréchet distance of Gaussians, covariance over n - 1", **self.embedding.describe()}
