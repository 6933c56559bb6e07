import numpy as np
import pytest
import torch

from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Generator
from limbeck.data.base import ImageDataset, ImageFacts, ImageSource
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.evaluation.protocol import Protocol
from limbeck.metrics.frechet import FrechetDistance
from limbeck.metrics.kernel_distance import KernelDistance
from limbeck.metrics.perceptual import Perceptual
from limbeck.metrics.prdc import Overlap
from limbeck.model import Model


class Noise(ImageDataset):
    """Random 8-bit images."""

    def __init__(self, size: int) -> None:
        generator = torch.Generator().manual_seed(5)
        self.images = torch.randint(0, 256, (size, 3, 16, 16), dtype=torch.uint8, generator=generator)
        self.read = 0

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray):
        self.read += len(indices)
        return self.images[torch.from_numpy(indices)], torch.zeros(len(indices), dtype=torch.long)


class NoiseSource(ImageSource):
    mirror, num_workers = False, 0

    def __init__(self, size: int = 60, name: str = "a") -> None:
        self.images, self.name = Noise(size), name

    def open(self) -> ImageFacts:
        return ImageFacts(16, 3, 0, len(self.images))

    def train(self) -> ImageDataset:
        return self.images

    def heldout(self) -> ImageDataset:
        return self.images

    def digest(self) -> str:
        return f"noise {self.name}"


def tiny_model(seed: int = 0, **changes) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = {"resolution": 16, "widths": [8] * 6, "z_dim": 16, "w_dim": 8, "mapping_depth": 2, **changes}
        generator = Generator(**settings)
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.data.fill_(0.5)
    return Model(generator.eval().requires_grad_(False))


def tiny_denoiser(seed: int = 0) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(resolution=16, level_widths=[8, 8], blocks_per_level=1, norm_groups=2, num_train_steps=50)
    return Model(network.eval().requires_grad_(False))


def all_metrics():
    return {
        "kid_random": KernelDistance(embedding=RandomProjection()),
        "frechet_random": FrechetDistance(embedding=RandomProjection()),
        "prdc_random": Overlap(embedding=RandomProjection()),
        "perceptual_random": Perceptual(embedding=RandomProjection(), num_pairs=13),
    }


def protocol(metrics=None, **changes) -> Protocol:
    return Protocol(metrics=metrics or all_metrics(), **{"num_images": 45, "batch_size": 8, **changes})


@pytest.fixture
def model() -> Model:
    return tiny_model()


@pytest.fixture
def source() -> NoiseSource:
    return NoiseSource()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test touches the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "limbeck"
