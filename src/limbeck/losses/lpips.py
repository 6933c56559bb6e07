"""LPIPS between the teacher's and the student's image, by the `lpips` package with trunk weights from a local file.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, version 0.1.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.image_step import ImageStep
from limbeck.losses.weighted import Term
from limbeck.masks.base import ContentMask
from limbeck.masks.everything import Everything
from limbeck.model import Pair

TRUNKS = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}


class Lpips(Term):
    """Mean LPIPS (weight 3 in CAGAN, StyleKD, DCP-GAN and SVS), inside the mask's content.

    net: "vgg" or "alex". trunk_path: torchvision's ImageNet weights; None looks where torchvision keeps its downloads.
    mask: both images are 0 outside it. max_size: larger images are reduced to this size, by averaging areas (SVS) or
    bilinearly without antialiasing (CAGAN, StyleKD, DCP-GAN).
    """

    def __init__(
        self,
        *,
        net: str = "vgg",
        trunk_path: str | None = None,
        mask: ContentMask | None = None,
        max_size: int = 256,
        reduction: str = "area",
    ):
        super().__init__()
        if net not in TRUNKS:
            raise UserError(f"lpips.net={net!r}: must be one of {', '.join(TRUNKS)}")
        if reduction not in ("area", "bilinear"):
            raise UserError(f"lpips.reduction={reduction!r}: must be 'area' or 'bilinear'")
        self.net, self.max_size, self.reduction = net, max_size, reduction
        default = Path(torch.hub.get_dir()) / "checkpoints" / TRUNKS[net]
        self.trunk_path = Path(trunk_path) if trunk_path else default
        self.mask = Frozen(mask or Everything())
        self.network: Frozen | None = None

    def check(self) -> None:
        self.mask.network.check()
        if not self.trunk_path.is_file():
            raise UserError(
                f"loss/generator/lpips: trunk weights not found: {self.trunk_path}; put torchvision's "
                f"{TRUNKS[self.net]} there or name it with loss.generator.lpips.term.trunk_path=FILE"
            )

    def describe(self) -> dict[str, Any]:
        return self.mask.network.describe()

    def prepare(self, pair: Pair, *, half: bool) -> None:
        self.check()
        self.mask.network.load()
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore", UserWarning)  # the package calls torchvision by names of its past
            network = imported("lpips").LPIPS(net=self.net, pnet_rand=True, verbose=False)
        state = torch.load(self.trunk_path, map_location="cpu", weights_only=True)
        network.net.load_state_dict(
            {name: state["features." + name.split(".", 1)[1]] for name in network.net.state_dict()}
        )
        self.network = Frozen(network.to(memory_format=torch.channels_last), half=half)

    def forward(self, step: ImageStep) -> Tensor:
        assert self.network is not None, "prepare() first"
        teacher, student = (self.reduced(image) for image in step.content_images(self.mask))
        return self.network(student, teacher).float().mean()

    def reduced(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c r q"]:
        """The image at no more than `max_size`."""
        if image.shape[-1] <= self.max_size:
            return image
        if self.reduction == "area":
            return F.avg_pool2d(image, image.shape[-1] // self.max_size)
        size = (self.max_size, self.max_size)
        return F.interpolate(image, size=size, mode="bilinear", align_corners=False)
