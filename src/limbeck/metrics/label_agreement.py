"""Whether drawn images are of the classes, or have the attributes, that they were asked for.

A linear classifier over an embedding says what they look like: it is fitted to the reference images of every run anew,
so no loss reads it and no further data set is needed.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.metrics.accumulated import FeatureSets, scalar
from limbeck.metrics.base import Samples

PENALTY = 1e-3  # as a share of the features' mean variance


def ridge(
    features: Float[Tensor, "n f"], labels: Float[Tensor, "n k"]
) -> tuple[Float[Tensor, "f k"], Float[Tensor, " k"]]:
    """Weights W and offset b of the classifier `features @ W + b`, close to the labels; in float64.

    W = (C + p I)^-1 D with the covariances C of features and D of features with labels, p a share of C's mean diagonal.

    Source: Hoerl and Kennard, "Ridge Regression", 1970, Eq. 2.1, on centered data.
    """
    features, labels = features.double(), labels.double()
    mean, told = features.mean(dim=0), labels.mean(dim=0)
    apart = features - mean
    covariance = apart.T @ apart / len(features)
    penalty = (PENALTY * covariance.diagonal().mean()).clamp_min(1e-12)  # equal images have no variance
    weights = torch.linalg.solve(
        covariance + penalty * torch.eye(len(covariance), dtype=torch.float64, device=features.device),
        apart.T @ (labels - told) / len(features),
    )
    return weights, told - mean @ weights


def agreement(scores: Float[Tensor, "n k"], labels: Float[Tensor, "n k"]) -> float:
    """Share of right answers in [0, 1]: of images, where each has one class; of single attributes otherwise."""
    if bool((labels.sum(dim=1) == 1).all()):
        return (scores.argmax(dim=1) == labels.argmax(dim=1)).double().mean().item()
    return ((scores > 0.5) == (labels > 0.5)).double().mean().item()


class LabelAgreement(FeatureSets):
    """`label_agreement`, with the embedding's suffix: share of the drawn images, or of their attributes, that look as
    they were asked to; and `label_agreement_real`, what the same classifier says of real images, fitted to one half of
    them and asked about the other: more than that cannot be expected.

    Without labels there is no value.
    """

    real_labels: list[Tensor]
    fake_labels: list[Tensor]

    def __init__(self, *, embedding: Embedding) -> None:
        super().__init__(embedding)
        self.add_state("real_labels", default=[], dist_reduce_fx="cat")
        self.add_state("fake_labels", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, labels: Tensor, *, real: bool) -> None:  # type: ignore[override]
        """Add images [n, c, h, w] in [-1, 1] or features [n, f], and their labels [n, k] of 0 and 1."""
        (self.real_labels if real else self.fake_labels).append(labels.detach())
        super().update(images, real=real)

    def compute(self) -> dict[str, Tensor]:
        fake, real = self.sets()
        asked, own = (
            torch.cat(list(labels)).to(fake.device) if isinstance(labels, list) else labels.to(fake.device)
            for labels in (self.fake_labels, self.real_labels)
        )
        weights, offset = ridge(real, own)
        half, half_offset = ridge(real[::2], own[::2])
        name, suffix = "label_agreement", self.embedding.metric_suffix
        return {
            name + suffix: scalar(agreement(fake.double() @ weights + offset, asked)),
            f"{name}_real{suffix}": scalar(agreement(real[1::2].double() @ half + half_offset, own[1::2])),
        }

    def of(self, samples: Samples) -> dict[str, float]:
        asked, own = samples.labels(), samples.reference_labels()
        if asked is None or own is None:
            return {}
        if asked.shape[1] != own.shape[1]:
            raise UserError(f"label_agreement: images of {asked.shape[1]} labels, reference of {own.shape[1]}")
        self.reset()
        self.to(samples.reference_features(self.embedding).device)
        self.update(samples.reference_features(self.embedding), own, real=True)
        self.update(samples.features(self.embedding), asked, real=False)
        return self._values()

    def ranks(self) -> dict[str, bool]:
        return {f"label_agreement{self.embedding.metric_suffix}": True}

    def describe(self) -> dict[str, Any]:
        estimator = f"ridge classifier of the reference images' labels, penalty {PENALTY:g} of the mean variance"
        return {"estimator": estimator, **self.embedding.describe()}
