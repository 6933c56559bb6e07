"""How alike the student's images are to the teacher's of the same noise, pixel for pixel."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.functional.ssim import SIGMA, WINDOW, ssim
from limbeck.metrics.accumulated import PairMetric


class Ssim(PairMetric):
    """`ssim`: mean over the first `num_pairs` latents, None for all; higher is better, 1 for equal images.

    Without teacher (or for the teacher's own row) there is no value.
    """

    higher_is_better = True

    def __init__(self, *, num_pairs: int | None = None) -> None:
        super().__init__(name="ssim", num_pairs=num_pairs)

    def between(self, student_image: Tensor, teacher_image: Tensor, embedding: Embedding | None) -> Float[Tensor, " n"]:
        return ssim(student_image, teacher_image)

    def check(self, num_real: int, num_fake: int) -> None:
        if self.num_pairs is not None and self.num_pairs < 1:
            raise UserError(f"num_pairs={self.num_pairs}: must be at least 1, or null for all latents")

    def describe(self) -> dict[str, Any]:
        pairs = "all latents" if self.num_pairs is None else f"first {self.num_pairs} latents"
        return {"estimator": f"mean SSIM to the teacher, {pairs}, Gaussian window {WINDOW}, sigma {SIGMA}, range 1"}
