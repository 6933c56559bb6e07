"""From an image in [-1, 1] to the input of a pretrained network, as it was trained or deliberately raw."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RAW, AS_TRAINED = "raw", "as_trained"


@dataclass(frozen=True)
class Training:
    """How the images were prepared for which a network was trained.

    resolution: side of its input. resize: side to which the shorter side is brought before the center is cut out;
    `squash`: both sides, whatever the shape. mean, std: per channel, of RGB in [0, 1].
    fixed: whether the network takes no other resolution than the one it is built for.
    """

    resolution: int
    resize: int
    interpolation: str = "bicubic"
    squash: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    fixed: bool = False


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image; every field stands in the words of `describe`.

    resize: side, or None to leave the size as it is. squash: bring both sides to it, not only the shorter one.
    crop: side of the center that is kept, or None. mean, std: of RGB in [0, 1], or None to keep [-1, 1].
    """

    resize: int | None = None
    squash: bool = True
    crop: int | None = None
    interpolation: str = "bilinear"
    antialias: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __call__(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 y x"]:
        """Differentiable; not clamped, not rounded (files would be, between resizing and normalization)."""
        if self.resize is not None:
            size = (self.resize, self.resize) if self.squash else shorter_side_to(self.resize, image.shape[2:])
            image = resized(image, size, interpolation=self.interpolation, antialias=self.antialias)
        if self.crop is not None:
            image = center(image, self.crop)
        if self.mean is not None and self.std is not None:
            image = normalized(image, self.mean, self.std)
        return image

    def describe(self) -> dict[str, str]:
        """ "resize" and "normalization" in words."""
        resize = "none"
        if self.resize is not None:
            what = f"{self.resize}x{self.resize}" if self.squash else f"shorter side to {self.resize}"
            antialias = "antialias" if self.antialias else "no antialias"
            resize = f"{what}, {self.interpolation}, half-pixel centers, {antialias}"
        if self.crop is not None:
            resize += f", center {self.crop}x{self.crop}"
        if self.mean is None or self.std is None:
            return {"resize": resize, "normalization": "[-1, 1]"}
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return {"resize": resize, "normalization": f"(RGB in [0, 1] - ({mean})) / ({std})"}


def as_trained(training: Training, resolution: int, *, crop: bool) -> Preprocessing:
    """What the network saw in its own evaluation; without `crop` the whole image is brought to `resolution`."""
    whole = not crop or (training.squash and training.resize == training.resolution)
    resize = resolution if whole else resolution * training.resize // training.resolution
    return Preprocessing(
        resize=resize,
        squash=whole or training.squash,
        crop=None if whole else resolution,
        interpolation=training.interpolation,
        antialias=True,
        mean=training.mean,
        std=training.std,
    )


def resized(
    image: Float[Tensor, "n c h w"], size: Sequence[int], *, interpolation: str, antialias: bool
) -> Float[Tensor, "n c y x"]:
    """Half-pixel centers; with `antialias` as Pillow does it, up to its rounding to 8 bits."""
    if tuple(image.shape[2:]) == tuple(size):
        return image
    # 16-bit interpolation is coarse, and some backends lack it.
    with torch.autocast(image.device.type, enabled=False):
        return F.interpolate(
            image.float(), size=list(size), mode=interpolation, align_corners=False, antialias=antialias
        )


def shorter_side_to(side: int, size: Sequence[int]) -> tuple[int, int]:
    """Height and width after the shorter of them is brought to `side`, the other in proportion, rounded down."""
    height, width = size
    return (side, side * width // height) if height <= width else (side * height // width, side)


def center(image: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c s s"]:
    """The square in the middle of an image that is at least as large."""
    top, left = (round((length - side) / 2) for length in image.shape[2:])
    return image[:, :, top : top + side, left : left + side]


def normalized(
    image: Float[Tensor, "n c h w"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "n c h w"]:
    """(RGB - mean) / std with RGB = (image + 1) / 2 in [0, 1]."""
    middle, scale = (image.new_tensor(values)[:, None, None] for values in (mean, std))
    return image * (0.5 / scale) + (0.5 - middle) / scale
