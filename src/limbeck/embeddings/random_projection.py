"""Features of an untrained convolutional network: cheap and without weights, for tests and for first looks.

Source: the use of random features for comparing images, Naeem et al., 2020, section 3.1 (theirs is a random VGG16).
"""

import hashlib
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.embeddings.base import Embedding, freeze, in_color


class RandomProjection(Embedding):
    """Three halving convolutions with fixed random weights, leaky ReLU, then the average over each quarter.

    num_features: a multiple of 4. seed: of the weights.
    """

    name = "random_projection"
    metric_suffix = "_random"

    def __init__(self, *, num_features: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.num_features, self.seed = num_features, seed
        self.layers: nn.ModuleList | None = None

    def load(self) -> Embedding:
        if self.layers is None:
            widths = [3, 16, 32, self.num_features // 4]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                layers = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)]
            self.layers = nn.ModuleList(layers)
            freeze(self.layers)
        return self

    def weights_digest(self) -> str:
        return hashlib.sha256(f"random_projection 1, {self.num_features}, {self.seed}".encode()).hexdigest()

    def preprocessing(self) -> dict[str, str]:
        return {"resize": "none", "normalization": "[-1, 1]"}

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        return F.adaptive_avg_pool2d(self.feature_maps(image)[-1], 2).flatten(1).float()

    def feature_maps(self, image: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """Three maps of 16, 32 and num_features / 4 channels, each half as large as the one before."""
        if self.layers is None:
            raise RuntimeError("embedding random_projection is used before load()")
        x = in_color(image)
        maps = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            maps.append(x)
        return maps
