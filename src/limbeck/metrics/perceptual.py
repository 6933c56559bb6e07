"""How far the student's images are from the teacher's of the same latents, through the maps of any embedding."""

from typing import Any

from torch import Tensor

from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.functional.feature_distance import feature_distances
from limbeck.metrics.base import Metric, Samples


class Perceptual(Metric):
    """`perceptual`, with the embedding's suffix: mean over the first `num_pairs` latents; lower is better, 0 for equal.

    Without teacher (or for the teacher's own row) there is no value. Not LPIPS: no learned channel weights.
    """

    def __init__(self, *, embedding: Embedding, num_pairs: int = 500) -> None:
        self.embedding, self.num_pairs = embedding, num_pairs

    def __call__(self, samples: Samples) -> dict[str, float]:
        if not samples.has_teacher():
            return {}
        found = samples.paired(distances_between, self.embedding, num_images=self.num_pairs)
        return {"perceptual" + self.embedding.metric_suffix: float(found.double().mean())}

    def check(self, num_real: int, num_fake: int) -> None:
        if self.num_pairs < 1:
            raise UserError(f"num_pairs={self.num_pairs}: must be at least 1")

    def describe(self) -> dict[str, Any]:
        estimator = f"squared distance of unit feature maps, teacher to student, first {self.num_pairs} latents"
        return {"estimator": estimator, **self.embedding.describe()}


def distances_between(student_image: Tensor, teacher_image: Tensor, embedding: Embedding) -> Tensor:
    """[n], one per image."""
    return feature_distances(embedding.feature_maps(student_image), embedding.feature_maps(teacher_image))
