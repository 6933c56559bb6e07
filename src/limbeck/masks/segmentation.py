"""Content by semantic segmentation: whatever a segmentation network does not call background.

Source: Liu et al., "Content-Aware GAN Compression", 2021, released code (there with a face parser, see
`masks.face_parsing`).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limbeck.embeddings.base import file_digest, freeze, in_color
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.masks.base import ContentMask

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torchvision_network(*, name: str, num_classes: int) -> nn.Module:
    """One of torchvision's segmentation networks with random weights, e.g. "deeplabv3_resnet50"."""
    make = getattr(imported("torchvision.models.segmentation"), name)
    return make(weights=None, weights_backbone=None, num_classes=num_classes)


def parser_input(image: Float[Tensor, "n c h w"], resolution: int) -> Float[Tensor, "n 3 r r"]:
    """Images in [-1, 1], clamped, in colors, at the parser's size (bilinear), normalized as for ImageNet."""
    x = in_color((image.float() + 1).div(2).clamp(0, 1))
    x = F.interpolate(x, size=(resolution, resolution), mode="bilinear", align_corners=False)
    mean, std = (x.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (x - mean) / std


def content(classes: Int[Tensor, "n r r"], ignored: Sequence[int], size: tuple[int, int]) -> Bool[Tensor, "n 1 h w"]:
    """Pixels of no ignored class, brought to `size` by bilinear resampling and kept where above one half."""
    kept = torch.isin(classes, torch.tensor(ignored, device=classes.device), invert=True)
    return F.interpolate(kept[:, None].float(), size=size, mode="bilinear", align_corners=False) > 0.5


class Segmentation(ContentMask):
    """Pixels whose most likely class is not in `ignored`.

    network: makes the segmentation network, [n, 3, r, r] (ImageNet-normalized) to class scores [n, k, r, r]; also one
        that returns them first in a tuple or under "out" in a mapping, as torchvision's do.
    path: its state dict (a PyTorch file of tensors); entries whose names start with one of `unused` are left out.
    resolution: side at which it looks at images.
    obtain: where to get the file, for the message when it is missing.

    Differs: CAGAN's pruning code rounds images to 8 bit before parsing and resamples the mask to the nearest pixel;
    its distillation code does as here.
    """

    def __init__(
        self,
        *,
        network: Callable[[], nn.Module],
        path: str | None,
        ignored: Sequence[int] = (0,),
        resolution: int = 512,
        unused: Sequence[str] = (),
        obtain: str = "the weights of the segmentation network",
    ):
        super().__init__()
        self.make_network, self.path, self.obtain = network, path, obtain
        self.ignored, self.unused, self.resolution = list(ignored), tuple(unused), resolution
        self.network: nn.Module | None = None
        self.digest: str | None = None

    def check(self) -> None:
        if self.path is None or not Path(self.path).is_file():
            raise UserError(f"mask.path={self.path}: file not found; needed: {self.obtain} (or choose mask=everything)")

    def load(self) -> ContentMask:
        if self.network is None:
            self.check()
            with torch.random.fork_rng(devices=[]):  # a parser shall not shift the random numbers of the training
                network = self.make_network()
            fill(network, str(self.path), self.unused)
            freeze(network)
            self.network, self.digest = network, file_digest(str(self.path))
        return self

    @torch.no_grad()
    def forward(self, image: Float[Tensor, "n c h w"]) -> Bool[Tensor, "n 1 h w"]:
        if self.network is None:
            raise RuntimeError("a segmentation mask is used before load()")
        with torch.autocast(image.device.type, enabled=False):
            scores = self.network(parser_input(image, self.resolution))
        if isinstance(scores, Mapping):
            scores = scores["out"]
        elif not isinstance(scores, Tensor):
            scores = scores[0]
        return content(scores.argmax(dim=1), self.ignored, (image.shape[2], image.shape[3]))

    def describe(self) -> dict[str, Any]:
        return {
            "mask": "segmentation",
            "weights_sha256": self.digest or file_digest(str(self.path)),
            "ignored": self.ignored,
            "resolution": self.resolution,
        }


def fill(network: nn.Module, path: str, unused: Sequence[str] = ()) -> None:
    """Load a file of tensors into a network; every name and shape must fit, but for those that start as `unused`.

    Raises: UserError naming the file if it is unreadable or of another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = {name: value for name, value in state.items() if not name.startswith(tuple(unused))}
        network.load_state_dict(state)
    except Exception as error:  # torch raises many kinds here
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"mask.path={path}: not the weights of {type(network).__name__} ({reason})") from error
