"""How far the student's images are from the teacher's of the same latents, or from the wanted ones, through the maps
of any embedding.
"""

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
    to_target: `perceptual_target` instead, to the wanted images of translations, where the data know them.
    """

    def __init__(self, *, embedding: Embedding, num_pairs: int = 500, to_target: bool = False) -> None:
        name = ("perceptual_target" if to_target else "perceptual") + embedding.metric_suffix
        super().__init__(name=name, num_pairs=num_pairs, embedding=embedding, to_target=to_target)

    def between(self, student_image: Tensor, teacher_image: Tensor, embedding: Embedding | None) -> Float[Tensor, " n"]:
        assert embedding is not None
        return feature_distances(embedding.feature_maps(student_image), embedding.feature_maps(teacher_image))

    def check(self, num_real: int, num_fake: int) -> None:
        if self.num_pairs < 1:
            raise UserError(f"num_pairs={self.num_pairs}: must be at least 1")

    def describe(self) -> dict[str, Any]:
        pairs = "wanted to translated image" if self.to_target else "teacher to student"
        estimator = f"squared distance of unit feature maps, {pairs}, first {self.num_pairs} inputs"
        return {"estimator": estimator, **self.embedding.describe()}
