"""What a metric may ask for, and what it has to answer.

A metric is `metric.of(samples) -> {name: value}`. Samples are lazy: features are computed when the first metric asks
for them, once per embedding, and never if none asks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torchmetrics
from jaxtyping import Float
from torch import Tensor

from limbeck import parallel
from limbeck.architectures.base import Network
from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.functional.frechet import Sums, sums

MOST_KEPT = 100_000  # images whose features are held at once: 0.8 GB of 2,048 numbers; sums take any number


class Samples(ABC):
    """Images of one model under one protocol, and the reference they are compared with.

    generator: the network that is judged, in evaluation mode, for metrics that draw images of their own.
    """

    generator: Network

    @abstractmethod
    def features(self, embedding: Embedding) -> Float[Tensor, "n f"]:
        """Features of the model's images (the fakes), in the order of the latents."""

    @abstractmethod
    def reference_features(self, embedding: Embedding) -> Float[Tensor, "m f"]:
        """Features of the real images."""

    def sums(self, embedding: Embedding) -> Sums:
        """Of the fakes' features, what their moments need."""
        return sums(self.features(embedding))

    def reference_sums(self, embedding: Embedding) -> Sums:
        """Of the real images' features, what their moments need."""
        return sums(self.reference_features(embedding))

    def labels(self) -> Float[Tensor, "n k"] | None:
        """What the model's images were asked to show, 0 and 1, in the order of `features`; None without labels."""
        return None

    def reference_labels(self) -> Float[Tensor, "m k"] | None:
        """The labels of the real images, 0 and 1, in the order of `reference_features`; None without labels."""
        return None

    @abstractmethod
    def has_teacher(self) -> bool:
        """Whether `paired` can be asked about the teacher's images."""

    def has_reference(self) -> bool:
        """Whether there are real images."""
        return True

    def has_target(self) -> bool:
        """Whether `paired` can be asked about the wanted images."""
        return False

    @abstractmethod
    def paired(
        self,
        function: Callable[[Tensor, Tensor, Any], Tensor],
        embedding: Embedding | None = None,
        *,
        num_images: int | None = None,
        target: bool = False,
    ) -> Float[Tensor, " n"]:
        """`function(student_image, teacher_image, embedding) -> [n]`, one value per latent.

        The images are [n, c, h, w] in [-1, 1]; `embedding`, if any, is handed over loaded and on the right device.
        num_images: of the first latents; None for all. target: the wanted images in place of the teacher's.
        """


class Metric(torchmetrics.Metric):
    """One or a few related numbers: a `torchmetrics.Metric` (`update`, `compute`, `reset`), so that anyone's
    LightningModule can hold it; a protocol asks `of` for the same numbers. Constructors only store.

    whole: every process is given everything, so that nothing is reduced over processes; False: each its share.
    """

    full_state_update = False

    def __init__(self, *, whole: bool = False) -> None:
        super().__init__(distributed_available_fn=self._reduces)
        self.whole = whole

    @abstractmethod
    def of(self, samples: Samples) -> dict[str, float]:
        """Values by name; empty if the samples lack what the metric needs (a teacher, real images)."""

    def _reduces(self) -> bool:
        return parallel.active() and not self.whole

    def _values(self) -> dict[str, float]:
        """What `update` was given so far, as plain numbers; every process was given everything."""
        shared, self.whole = self.whole, True
        try:
            return {name: float(value) for name, value in self.compute().items()}
        finally:
            self.whole = shared
            self.reset()

    def check_family(self, generator: Network) -> None:
        """Find out whether this family can be judged. Raises: UserError."""

    def ranks(self) -> dict[str, bool]:
        """The values by which models may be ranked, by name, and whether more of each is better."""
        return {}

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What stands beside the numbers: estimator, settings, embedding with its weights' hash; JSON values."""

    def check(self, num_real: int, num_fake: int) -> None:
        """Find out before anything is drawn whether the settings work for so many images.

        Raises: UserError naming the setting.
        """
        require_images("a metric", 1, num_real, num_fake)


def require_kept(num_real: int, num_fake: int) -> None:
    """Raises: UserError if there are more images than a metric that compares single ones may hold."""
    for count, setting in ((num_real, "protocol.num_reference"), (num_fake, "protocol.num_images")):
        if count > MOST_KEPT:
            raise UserError(
                f"{count:,} images: a metric that compares single images holds at most {MOST_KEPT:,}; set {setting}"
            )


def require_images(setting: str, needed: int, num_real: int, num_fake: int) -> None:
    """Raises: UserError, opened by `setting`, if there are fewer than `needed` images of either kind."""
    if min(num_real, num_fake) < needed:
        raise UserError(
            f"{setting}: needs at least {needed} real and {needed} drawn images; there are {num_real} and {num_fake}"
        )
