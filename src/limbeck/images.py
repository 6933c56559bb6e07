"""Image tensors as one picture: the only place where [-1, 1] becomes 8 bits for people to look at."""

import math

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

MIN_TILE = 96  # smaller images are enlarged by a whole factor, without smoothing, so that one can see them


def image_grid(images: Float[Tensor, "n c h w"], *, columns: int | None = None) -> Image.Image:
    """Place images row by row; values are clipped to [-1, 1], grey images (c = 1) become RGB.

    columns: default all images in one row; the last row may end early, in black.
    Raises: ValueError if there is no image or c is neither 1 nor 3.
    """
    n, channels, height, width = images.shape
    if n == 0 or channels not in (1, 3):
        raise ValueError(f"images of shape {tuple(images.shape)}: must be [n, 1 or 3, h, w] with n > 0")
    columns = min(columns or n, n)
    rows = math.ceil(n / columns)
    zoom = max(1, math.ceil(MIN_TILE / max(height, width)))
    shades = ((images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    sheet = torch.zeros(rows * columns, 3, height, width, dtype=torch.uint8)
    sheet[:n] = shades.expand(n, 3, height, width)
    sheet = sheet.reshape(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2)
    picture = Image.fromarray(sheet.reshape(rows * height, columns * width, 3).numpy())
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
