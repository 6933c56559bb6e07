"""The two ways in which metrics take images: two sets of them, or pairs."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.embeddings.base import Embedding
from limbeck.metrics.base import Metric, Samples, require_kept


def scalar(value: float) -> Float[Tensor, ""]:
    """A number as `compute` returns it, in float64."""
    return torch.tensor(value, dtype=torch.float64)


class SetMetric(Metric):
    """Compares the features of two sets of images.

    >>> metric.update(real_images, real=True); metric.update(fake_images, real=False); metric.compute()
    """

    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        self.held = [embedding]  # in a list, so that its frozen weights are not part of the metric's own state

    @property
    def embedding(self) -> Embedding:
        return self.held[0]

    def update(self, images: Tensor, *, real: bool) -> None:
        """Add images [n, c, h, w] in [-1, 1], or features [n, f] of the metric's embedding."""
        if images.ndim != 2:
            with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
                images = self.embedding.load().to(images.device)(images.float())
        self.add(images.detach(), real=real)

    @abstractmethod
    def add(self, features: Float[Tensor, "n f"], *, real: bool) -> None:
        """Add features to the state."""

    def of(self, samples: Samples) -> dict[str, float]:
        if not samples.has_reference():
            return {}
        self.reset()
        self.to(samples.reference_features(self.embedding).device)
        self.update(samples.reference_features(self.embedding), real=True)
        self.update(samples.features(self.embedding), real=False)
        return self._values()


class FeatureSets(SetMetric):
    """Keeps the features themselves, for what cannot be added up; under several processes in the order of ranks."""

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, embedding: Embedding) -> None:
        super().__init__(embedding)
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("fake", default=[], dist_reduce_fx="cat")

    def add(self, features: Float[Tensor, "n f"], *, real: bool) -> None:
        (self.real if real else self.fake).append(features)

    def check(self, num_real: int, num_fake: int) -> None:
        super().check(num_real, num_fake)
        require_kept(num_real, num_fake)

    def sets(self) -> tuple[Float[Tensor, "n f"], Float[Tensor, "m f"]]:
        """(fake, real). Raises: ValueError if either is empty."""
        found = []
        for name in ("fake", "real"):
            state: Any = getattr(self, name)
            if not len(state):
                raise ValueError(f"no {name} images; call update(images, real={name == 'real'}) first")
            found.append(state if isinstance(state, Tensor) else torch.cat(state))
        return found[0], found[1]


class PairMetric(Metric):
    """The mean over pairs of a student's and a teacher's image of the same latent.

    to_target: pairs of a translated and a wanted image instead, where the data know one.
    """

    total: Tensor
    count: Tensor

    def __init__(
        self, *, name: str, num_pairs: int | None, embedding: Embedding | None = None, to_target: bool = False
    ) -> None:
        super().__init__()
        self.to_target = to_target
        self.name, self.num_pairs, self.held = name, num_pairs, [embedding]
        self.add_state("total", default=torch.zeros([], dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros([], dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def embedding(self) -> Any:
        return self.held[0]

    @abstractmethod
    def between(self, student_image: Tensor, teacher_image: Tensor, embedding: Embedding | None) -> Float[Tensor, " n"]:
        """One value per pair of images [n, c, h, w] in [-1, 1]; `embedding` is loaded."""

    def update(self, student_image: Tensor, teacher_image: Tensor | None = None) -> None:
        """Add pairs of images [n, c, h, w] in [-1, 1]; or, alone, values [n] of `between`."""
        values = student_image
        if teacher_image is not None:
            loaded = None if self.embedding is None else self.embedding.load().to(student_image.device)
            with torch.no_grad(), torch.autocast(student_image.device.type, enabled=False):
                values = self.between(student_image.float(), teacher_image.float(), loaded)
        self.total = self.total + values.double().sum().to(self.total.device)
        self.count = self.count + len(values)

    def compute(self) -> dict[str, Tensor]:
        return {self.name: self.total / self.count}

    def ranks(self) -> dict[str, bool]:
        return {self.name: bool(self.higher_is_better)}

    def of(self, samples: Samples) -> dict[str, float]:
        if not (samples.has_target() if self.to_target else samples.has_teacher()):
            return {}
        self.reset()
        number, target = self.num_pairs, self.to_target
        self.update(samples.paired(self.between, self.embedding, num_images=number, target=target))
        return self._values()
