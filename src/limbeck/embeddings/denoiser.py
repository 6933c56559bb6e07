"""Features of a trained denoiser: an offline judge that knows the very kind of images it was trained on.

Source: Baranchuk et al., "Label-Efficient Semantic Segmentation with Diffusion Models", 2022: outputs of a U-Net's
blocks at small time steps describe an image. Differs: no noise is added, so that equal images have equal features, and
every block is averaged over its places.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.architectures.ddpm import UNet
from limbeck.cache import state_digest
from limbeck.embeddings.base import Embedding, freeze, in_color
from limbeck.errors import UserError


class Denoiser(Embedding):
    """Outputs of all blocks, averaged over places and put in a row.

    source: makes the model whose `generator` estimates noise. name: for messages, reports and metrics' names.
    timestep: for which the image, times sqrt(alpha_bar), is taken.
    """

    def __init__(self, *, source: Callable[[], Any], name: str = "denoiser", timestep: int = 100) -> None:
        super().__init__()
        self.source, self.name, self.timestep = source, name, timestep
        self.metric_suffix = f"_{name}"
        self.network: UNet | None = None

    def load(self) -> Embedding:
        if self.network is None:
            network = self.source().generator
            if not isinstance(network, UNet):
                raise UserError(f"embeddings.{self.name}.source: a {type(network).__name__} is not a denoiser")
            freeze(network)
            self.network = network
        return self

    @property
    def num_features(self) -> int:  # type: ignore[override]
        network = self._loaded()
        with torch.no_grad():
            return self(torch.zeros(1, network.num_channels, 1, 1)).shape[1]

    def weights_digest(self) -> str:
        return state_digest(self._loaded())

    def preprocessing(self) -> dict[str, str]:
        side = self._loaded().resolution
        return {
            "resize": f"{side}x{side}, bilinear, half-pixel centers, no antialias",
            "normalization": f"[-1, 1] times sqrt(alpha_bar) of time step {self.timestep}, no noise",
        }

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        return torch.cat([features.mean(dim=(2, 3)).float() for features in self._outputs(image)], dim=1)

    def feature_maps(self, image: Float[Tensor, "n c h w"]) -> list[Tensor]:
        return sorted(self._outputs(image), key=lambda features: -features.shape[2])

    def _loaded(self) -> UNet:
        self.load()
        assert self.network is not None
        return self.network

    def _outputs(self, image: Tensor) -> list[Tensor]:
        network = self.network
        if network is None:
            raise RuntimeError(f"embedding {self.name} is used before load()")
        x = image if network.num_channels == image.shape[1] else in_color(image)
        if x.shape[2] != network.resolution:
            x = F.interpolate(x, size=(network.resolution,) * 2, mode="bilinear", align_corners=False)
        blocks = [f"down_blocks.{index}" for index in range(len(network.down_blocks))]
        blocks += ["mid_block", *(f"up_blocks.{index}" for index in range(len(network.up_blocks)))]
        scale = network.alpha_bar()[self.timestep].sqrt().item()
        _, outputs = network(x * scale, self.timestep, return_features=blocks)
        return [outputs[name] for name in blocks]
