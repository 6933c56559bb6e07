"""How far the student's images are from the teacher's of the same latents, through the maps of any embedding."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.functional.feature_distance import feature_distances
from limbeck.metrics.accumulated import PairMetric


class Perceptual(PairMetric):
    """`perceptual`, with the embedding's suffix: mean over the first `num_pairs` latents; lower is better, 0 for equal.

    Without teacher (or for the teacher's own row) there is no value. Not LPIPS: no learned channel weights.
    """

    def __init__(self, *, embedding: Embedding, num_pairs: int = 500) -> None:
        super().__init__(name="perceptual" + embedding.metric_suffix, num_pairs=num_pairs, embedding=embedding)

    def between(self, student_image: Tensor, teacher_image: Tensor, embedding: Embedding | None) -> Float[Tensor, " n"]:
        assert embedding is not None
        return feature_distances(embedding.feature_maps(student_image), embedding.feature_maps(teacher_image))

    def check(self, num_real: int, num_fake: int) -> None:
        if self.num_pairs < 1:
            raise UserError(f"num_pairs={self.num_pairs}: must be at least 1")

    def describe(self) -> dict[str, Any]:
        estimator = f"squared distance of unit feature maps, teacher to student, first {self.num_pairs} latents"
        return {"estimator": estimator, **self.embedding.describe()}
