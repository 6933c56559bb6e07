"""DiME: the distribution of the student's images meets the teacher's in the embedding spaces of pretrained networks.

Source: Yeo, Jang and Yoo, "Nickel and Diming Your GAN: A Dual-Method Approach to Enhancing GAN Efficiency via Knowledge
Distillation", 2024. The released training code is followed; the paper's formulas could not be read.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.architectures.base import Network
from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.functional.moments import moment_distance, raw_moments
from limbeck.losses.adversarial import sum_of
from limbeck.losses.image_step import ImageStep
from limbeck.losses.joint_batch import MICRO_BATCH, check_over, scaled_gradient, student_vectors, teacher_vectors
from limbeck.losses.steps import GeneratorStep
from limbeck.losses.teacher_statistics import Moments, Sample, teacher_moments
from limbeck.losses.weighted import Term
from limbeck.losses.weighted_embeddings import WeightedEmbeddings
from limbeck.model import Pair

GLOBAL, OF_BATCH = "global", "batch"


class Dime(Term):
    """Sum over embeddings of weight * (mean |first moment - teacher's| + mean |second moment - teacher's|).

    It has a floor: at a perfect match the moments of a batch of n still differ from the teacher's by about 1 / sqrt(n)
    of their spread, so only differences between values mean something.

    embeddings, weights: by the same names; an embedding of weight 0 is not used. Released: DINO ResNet-50 with 20 and
        CLIP RN50 with 15, both on raw images.
    statistics: "global": the teacher's moments over `num_images` samples, made once and kept in the cache; "batch":
        over the teacher's images of the same latents (an ablation).
    num_images, batch_size, seed: of the teacher's sample. The released code does not say how many it took.
    over: "micro_batch": the student's moments over each micro-batch of each process, as released (8 images at a total
        of 64); "batch": over all of them, with the exact gradient and a lower floor.

    Differs: embeddings are float32 before they are squared, where the released CLIP runs in 16 bits on a GPU.
    """

    def __init__(
        self,
        *,
        embeddings: Mapping[str, Embedding],
        weights: Mapping[str, Any],
        statistics: str = GLOBAL,
        num_images: int = 50000,
        batch_size: int = 32,
        seed: int = 0,
        over: str = MICRO_BATCH,
    ):
        super().__init__()
        self.chosen = WeightedEmbeddings("loss.generator.dime.term", embeddings, weights)
        self.statistics, self.over = statistics, over
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self.embeddings = nn.ModuleDict()
        self.moments: dict[str, Moments] = {}

    def check(self) -> None:
        self.chosen.check()
        check_over(self.chosen.where, self.over)
        if self.statistics not in (GLOBAL, OF_BATCH):
            allowed = f"{GLOBAL!r} or {OF_BATCH!r}"
            raise UserError(f"{self.chosen.where}.statistics={self.statistics!r}: must be {allowed}")
        Sample(self.num_images, self.batch_size, self.seed).check(self.chosen.where)

    def check_fits(self, name: str, offered: type, generator: Network) -> None:
        super().check_fits(name, offered, generator)
        if self.statistics == GLOBAL and not issubclass(offered, GeneratorStep):
            raise UserError(
                f"{self.chosen.where}.statistics={self.statistics!r}: needs a teacher that draws an image in one pass; "
                f"for denoised images use {OF_BATCH!r}"
            )

    def describe(self) -> dict[str, Any]:
        facts = {"statistics": self.statistics, "num_images": self.num_images, "seed": self.seed, "over": self.over}
        return {**facts, "embeddings": self.chosen.describe()}

    def prepare(self, pair: Pair, *, half: bool) -> None:
        self.embeddings = self.chosen.frozen(half=half)

    def forward(self, step: ImageStep) -> Tensor:
        return sum_of(weight * self._distance(step, name) for name, weight in self.chosen.chosen().items())

    def _distance(self, step: ImageStep, name: str) -> Tensor:
        embedding = cast(Frozen, self.embeddings[name])
        vectors, factor = student_vectors(step, embedding, self.over)
        target = self._target(step, name, embedding)
        with torch.autocast(vectors.device.type, enabled=False):
            return scaled_gradient(moment_distance(vectors.float(), target.first, target.second), factor)

    def _target(self, step: ImageStep, name: str, embedding: Frozen) -> Moments:
        if self.statistics == OF_BATCH:
            return Moments(*raw_moments(teacher_vectors(step, embedding, self.over).float()))
        if name not in self.moments:
            # Not in prepare(): only now are the networks on their device.
            sample = Sample(self.num_images, self.batch_size, self.seed, cast(GeneratorStep, step).draw.noise)
            self.moments[name] = teacher_moments(step.teacher, embedding, sample)
        return self.moments[name]
