"""Kernel distance (squared MMD) between the student's and the teacher's images in embedding spaces, as a loss.

Source: Gretton et al., "A Kernel Two-Sample Test", 2012; as a generator's loss Li et al., "Generative Moment Matching
Networks", 2015, and Bińkowski et al., "Demystifying MMD GANs", 2018.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck import parallel
from limbeck.architectures.base import Network
from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.functional.kernel_distance import (
    Kernel,
    gaussian_kernel,
    linear_kernel,
    mean_between,
    mean_within,
    median_distance,
    polynomial_kernel,
)
from limbeck.losses.adversarial import sum_of
from limbeck.losses.image_step import ImageStep
from limbeck.losses.joint_batch import MICRO_BATCH, check_over, scaled_gradient, student_vectors, teacher_vectors
from limbeck.losses.steps import GeneratorStep
from limbeck.losses.teacher_statistics import Sample, teacher_sample
from limbeck.losses.weighted import Term
from limbeck.losses.weighted_embeddings import WeightedEmbeddings
from limbeck.model import Pair

CACHE, QUEUE = "cache", "queue"


class KernelChoice(ABC):
    """A kernel, possibly with settings that follow from the teacher's vectors."""

    @abstractmethod
    def fitted(self, teacher: Float[Tensor, "m d"]) -> Kernel:
        """The kernel for these vectors."""


class Linear(KernelChoice):
    """Compares means only."""

    def fitted(self, teacher: Float[Tensor, "m d"]) -> Kernel:
        return linear_kernel


class Polynomial(KernelChoice):
    """(x . y / d + coef0)^degree; KID's has degree 3."""

    def __init__(self, *, degree: int = 3, coef0: float = 1.0) -> None:
        self.degree, self.coef0 = degree, coef0

    def fitted(self, teacher: Float[Tensor, "m d"]) -> Kernel:
        return partial(polynomial_kernel, degree=self.degree, coef0=self.coef0)


class Gaussian(KernelChoice):
    """Mean of Gaussians whose bandwidths are `factors` times `bandwidth`; None: times the median distance.

    Differs from Gretton et al., section 8: the median of the teacher's vectors, not of both sets together, so that the
    kernel stays the same while the student moves.
    """

    def __init__(self, *, factors: Sequence[float] = (0.5, 1.0, 2.0), bandwidth: float | None = None) -> None:
        self.factors, self.bandwidth = list(factors), bandwidth

    def fitted(self, teacher: Float[Tensor, "m d"]) -> Kernel:
        unit = median_distance(teacher) if self.bandwidth is None else self.bandwidth
        bandwidths = [factor * unit for factor in self.factors]
        if not bandwidths or min(bandwidths) <= 0:
            raise UserError(f"kernel: bandwidths {bandwidths}: must be one or more numbers above 0")
        return partial(gaussian_kernel, bandwidths=bandwidths)


class Mmd(Term):
    """Sum over embeddings of weight * squared MMD between student's and teacher's vectors.

    embeddings, weights: by the same names; an embedding of weight 0 is not used.
    teacher: "cache": `num_images` samples, drawn once, their vectors kept in the cache folder; "queue": the vectors of
        the last `num_images` teacher images of training, of the same latents as the student's, which costs a pass of
        the teacher in each step. batch_size, seed: of the cached sample.
    unbiased: leave out the pairs of a vector with itself; then equal distributions give 0 on average, and the value can
        be negative.
    over: "micro_batch": the student's vectors of each micro-batch of each process; "batch": all of them, with the exact
        gradient.
    """

    def __init__(
        self,
        *,
        embeddings: Mapping[str, Embedding],
        weights: Mapping[str, Any],
        kernel: KernelChoice,
        teacher: str = CACHE,
        num_images: int = 4096,
        batch_size: int = 32,
        seed: int = 0,
        unbiased: bool = True,
        over: str = MICRO_BATCH,
    ):
        super().__init__()
        self.chosen = WeightedEmbeddings("loss.generator.mmd.term", embeddings, weights)
        self.kernel, self.teacher, self.unbiased, self.over = kernel, teacher, unbiased, over
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self.embeddings = nn.ModuleDict()
        self.samples: dict[str, Tensor] = {}
        self.fits: dict[str, tuple[Kernel, Tensor]] = {}

    def check(self) -> None:
        where = self.chosen.where
        self.chosen.check()
        check_over(where, self.over)
        if self.teacher not in (CACHE, QUEUE):
            raise UserError(f"{where}.teacher={self.teacher!r}: must be {CACHE!r} or {QUEUE!r}")
        Sample(self.num_images, self.batch_size, self.seed).check(where)
        if self.num_images < 2:
            raise UserError(f"{where}.num_images={self.num_images}: must be at least 2")

    def check_fits(self, name: str, offered: type, generator: Network) -> None:
        super().check_fits(name, offered, generator)
        if self.teacher == CACHE and not issubclass(offered, GeneratorStep):
            raise UserError(
                f"{self.chosen.where}.teacher={self.teacher!r}: needs a teacher that draws an image in one pass; "
                f"for denoised images use {QUEUE!r}"
            )

    def describe(self) -> dict[str, Any]:
        facts = {"teacher": self.teacher, "num_images": self.num_images, "seed": self.seed, "over": self.over}
        kernel = {"kernel": type(self.kernel).__name__.lower(), **vars(self.kernel), "unbiased": self.unbiased}
        return {**facts, **kernel, "embeddings": self.chosen.describe()}

    def prepare(self, pair: Pair, *, half: bool) -> None:
        self.embeddings = self.chosen.frozen(half=half)

    def forward(self, step: ImageStep) -> Tensor:
        return sum_of(weight * self._distance(step, name) for name, weight in self.chosen.chosen().items())

    def get_extra_state(self) -> dict[str, Tensor]:
        """The queues, so that a resumed run goes on as if it had not been interrupted."""
        return dict(self.samples) if self.teacher == QUEUE else {}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        self.samples = dict(state)

    def _distance(self, step: ImageStep, name: str) -> Tensor:
        embedding = cast(Frozen, self.embeddings[name])
        vectors, factor = student_vectors(step, embedding, self.over)
        if len(vectors) < 2 and (self.unbiased or self.teacher == QUEUE):
            raise UserError(f"{self.chosen.where}: unbiased=true and teacher='queue' need at least 2 images at a time")
        reference = self._reference(step, name, embedding)
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = vectors.float()
            kernel, within = self._fit(name, reference)
            own = mean_within(vectors, kernel, unbiased=self.unbiased)
            value = own + within - 2 * mean_between(vectors, reference, kernel)
            return scaled_gradient(value.float(), factor)

    def _reference(self, step: ImageStep, name: str, embedding: Frozen) -> Tensor:
        """The teacher's vectors [m, f] in float32."""
        if self.teacher == QUEUE:
            return self._queue(step, name, embedding)
        if name not in self.samples:
            # Not in prepare(): only now are the networks on their device.
            sample = Sample(self.num_images, self.batch_size, self.seed, cast(GeneratorStep, step).draw.noise)
            self.samples[name] = teacher_sample(step.teacher, embedding, sample)
        return self.samples[name]

    def _queue(self, step: ImageStep, name: str, embedding: Frozen) -> Tensor:
        """The last vectors of all processes, the same on each; longer by this step's."""
        first = not step.siblings or step is step.siblings[0]
        if self.over == MICRO_BATCH or first:
            new = teacher_vectors(step, embedding, self.over).float()
            new = parallel.rows_of_all(new) if self.over == MICRO_BATCH else new
            old = self.samples.get(name, new[:0]).to(new.device)
            self.samples[name] = torch.cat([old, new])[-self.num_images :]
            self.fits.pop(name, None)
        return self.samples[name]

    def _fit(self, name: str, reference: Tensor) -> tuple[Kernel, Tensor]:
        """The kernel and the teacher's own part, once per set of teacher vectors."""
        if name not in self.fits:
            kernel = self.kernel.fitted(reference)
            self.fits[name] = (kernel, mean_within(reference, kernel, unbiased=self.unbiased))
        return self.fits[name]
