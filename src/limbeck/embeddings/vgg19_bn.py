"""VGG-19 with batch norm as moment matching reads it: the maps behind all its ReLUs, of images at their own size.

Source: Yeo et al., "Can We Find Strong Lottery Tickets in Generative Models?", 2023, released code; the network is
Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015, from torchvision.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.embeddings.base import Embedding, file_digest, freeze, in_color
from limbeck.embeddings.torchvision_shim import imported
from limbeck.embeddings.weights import Origin, fill, stored_tensors, weights_file

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
URL = "https://download.pytorch.org/models/vgg19_bn-c79401a0.pth"
WIDTHS = (64, 64, 128, 128, *[256] * 4, *[512] * 8)  # of the maps


class VGG19BN(Embedding):
    """16 maps, and as a vector the mean of each of their channels over its places.

    path: torchvision's file of weights; None: where torchvision keeps its downloads. download: whether missing weights
        may be fetched.
    batch_statistics: normalize by the statistics of the batch, as released, because the network was never switched to
        evaluation; False takes the stored ones. With the batch's, features depend on which images are together.
    resolution: to which images are resized; None leaves them as they are, as released.
    """

    name, metric_suffix, num_features = "vgg19_bn", "_vgg19_bn", sum(WIDTHS)

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        download: bool = False,
        batch_statistics: bool = True,
        resolution: int | None = None,
    ) -> None:
        super().__init__()
        self.path, self.download, self.batch_statistics = path, download, batch_statistics
        self.resolution = resolution
        self.network: nn.Sequential | None = None

    def load(self) -> Embedding:
        if self.network is None:
            file = self._file()
            with torch.device("meta"):  # the classifier, most of it, is never needed
                network = imported("torchvision.models").get_model("vgg19_bn", weights=None).features
            network.to_empty(device="cpu")
            stored = {key.removeprefix("features."): value for key, value in stored_tensors(self.name, file).items()}
            fill(network, stored, name=f"{self.name}: {file}", spare=["classifier."])
            freeze(network)
            self.network = network
        return self

    def weights_digest(self) -> str:
        return file_digest(self._file())

    def preprocessing(self) -> dict[str, str]:
        kind = "of the batch" if self.batch_statistics else "stored"
        resize = "none"
        if self.resolution is not None:
            resize = f"{self.resolution}x{self.resolution}, bilinear, half-pixel centers, no antialias"
        return {"resize": resize, "normalization": f"mean {MEAN}, std {STD} of [0, 1]; batch norm's statistics {kind}"}

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        return torch.cat([maps.mean(dim=(2, 3)).float() for maps in self.feature_maps(image)], dim=1)

    def feature_maps(self, image: Float[Tensor, "n c h w"]) -> list[Tensor]:
        if self.network is None:
            raise RuntimeError(f"embedding {self.name} is used before load()")
        if self.resolution is not None and image.shape[2:] != (self.resolution, self.resolution):
            image = F.interpolate(image, size=(self.resolution, self.resolution), mode="bilinear", align_corners=False)
        x, maps = normalized(in_color(image)), []
        for layer in self.network:
            if isinstance(layer, nn.BatchNorm2d) and self.batch_statistics:
                x = F.batch_norm(x, None, None, layer.weight, layer.bias, training=True, eps=layer.eps)
            elif isinstance(layer, nn.ReLU):
                x = F.relu(x)
                maps.append(x)
            else:
                x = layer(x)
        return maps

    def _file(self) -> Path:
        return weights_file(self.name, self.path, Origin(url=URL), download=self.download)


def normalized(image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """((x + 1) / 2 - mean) / std per channel."""
    mean, std = (torch.tensor(values, device=image.device)[:, None, None] for values in (MEAN, STD))
    return ((image + 1) / 2 - mean) / std
