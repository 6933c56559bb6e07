"""Distance of feature maps between the teacher's and the student's image, for any embedding.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, Eq. 1 with all
channel weights equal.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from limbeck.embeddings.base import Embedding
from limbeck.frozen import Frozen
from limbeck.losses.adversarial import sum_of
from limbeck.losses.image_step import ImageStep
from limbeck.losses.weighted import Term
from limbeck.model import Pair


def unit_channels(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Each pixel's vector of channels scaled to length 1."""
    return maps / (maps.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()


def feature_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Sum over maps of the mean over images and pixels of |unit(a) - unit(b)|^2; each map is [n, c, h, w]."""
    pairs = zip(a, b, strict=True)
    return sum_of((unit_channels(x.float()) - unit_channels(y.float())).square().sum(dim=1).mean() for x, y in pairs)


class Perceptual(Term):
    """Feature distance under `embedding`; without LPIPS's learned channel weights, so it needs no trunk download."""

    def __init__(self, *, embedding: Embedding):
        super().__init__()
        self.held = [embedding]  # loaded in prepare(), where it is wrapped and leaves the module tree
        self.embedding: Frozen | None = None

    def describe(self) -> dict[str, Any]:
        return self.held[0].describe()

    def prepare(self, pair: Pair, *, half: bool) -> None:
        self.embedding = Frozen(self.held[0].load(), half=half)

    def forward(self, step: ImageStep) -> Tensor:
        assert self.embedding is not None, "prepare() first"
        teacher, student = (step.embedded(self.embedding, who) for who in ("teacher", "student"))
        return feature_distance(student, teacher)
