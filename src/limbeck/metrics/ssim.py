"""How alike the student's images are to the teacher's of the same noise, pixel for pixel."""

from typing import Any

from torch import Tensor

from limbeck.errors import UserError
from limbeck.functional.ssim import SIGMA, WINDOW, ssim
from limbeck.metrics.base import Metric, Samples


class Ssim(Metric):
    """`ssim`: mean over the first `num_pairs` latents, None for all; higher is better, 1 for equal images.

    Without teacher (or for the teacher's own row) there is no value.
    """

    def __init__(self, *, num_pairs: int | None = None) -> None:
        self.num_pairs = num_pairs

    def __call__(self, samples: Samples) -> dict[str, float]:
        if not samples.has_teacher():
            return {}
        return {"ssim": float(samples.paired(similarity, num_images=self.num_pairs).double().mean())}

    def check(self, num_real: int, num_fake: int) -> None:
        if self.num_pairs is not None and self.num_pairs < 1:
            raise UserError(f"num_pairs={self.num_pairs}: must be at least 1, or null for all latents")

    def describe(self) -> dict[str, Any]:
        pairs = "all latents" if self.num_pairs is None else f"first {self.num_pairs} latents"
        return {"estimator": f"mean SSIM to the teacher, {pairs}, Gaussian window {WINDOW}, sigma {SIGMA}, range 1"}


def similarity(student_image: Tensor, teacher_image: Tensor, embedding: None) -> Tensor:
    """[n], one per image."""
    return ssim(student_image, teacher_image)
