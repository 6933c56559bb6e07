from collections.abc import Mapping

import pytest
import torch

from limbeck.embeddings.base import Embedding
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.metrics.base import Samples


class GivenSamples(Samples):
    """Features as a test gives them; counts what is asked for."""

    def __init__(self, *, fake=None, real=None, images: Mapping[str, torch.Tensor] | None = None) -> None:
        self.fake, self.real, self.images = fake, real, images
        self.asked: list[str] = []

    def features(self, embedding: Embedding) -> torch.Tensor:
        self.asked.append("fake")
        return self.fake

    def reference_features(self, embedding: Embedding) -> torch.Tensor:
        self.asked.append("real")
        return self.real

    def has_teacher(self) -> bool:
        return self.images is not None

    def has_target(self) -> bool:
        return self.images is not None and "target" in self.images

    def paired(
        self, function, embedding: Embedding | None = None, *, num_images: int | None = None, target: bool = False
    ) -> torch.Tensor:
        student, other = (self.images[who][:num_images] for who in ("student", "target" if target else "teacher"))
        return function(student, other, embedding and embedding.load())


@pytest.fixture
def given() -> type[GivenSamples]:
    return GivenSamples


@pytest.fixture
def embedding() -> RandomProjection:
    return RandomProjection(num_features=16)
