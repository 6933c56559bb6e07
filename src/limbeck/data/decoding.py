"""From the bytes of one image file to the numbers of one training image, or to a line saying what is wrong with it."""

import io
import struct
import zipfile
import zlib
from typing import IO, Literal

import numpy as np
from PIL import Image

from limbeck.errors import UserError

Resize = Literal["none", "box", "bilinear", "lanczos"]
Region = tuple[int, int, int, int]  # left, top, right, bottom in pixels
FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,  # antialiased, as torchvision resizes pictures
    "lanczos": Image.Resampling.LANCZOS,
}
GREY_MODES = {"1", "L", "LA", "La"}
COLOR_MODES = {"P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr"}
ORIENTATION = 0x0112
UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED = {5, 6, 7, 8}
PNG_ORIENTED = {"exif", "Raw profile type exif", "Raw profile type APP1", "xmp", "XML:com.adobe.xmp"}
# What comes out of Pillow for files that are not images, are cut short, or are damaged inside or in their archive.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, zipfile.BadZipFile)
# Pillow warns of, or refuses, pictures so large that they may be an attack; here they are merely wrong.
TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def opened(file: IO[bytes], name: str) -> Image.Image:
    """The image with its header read, its pixels not yet.

    Raises: UserError naming the file, if it is no image of 8 bits a channel.
    """
    try:
        picture = Image.open(file)
    except UNREADABLE as error:
        raise UserError(f"{name}: not a readable image; allowed: whole png, jpg, jpeg, webp or bmp files") from error
    except TOO_LARGE as error:
        raise UserError(f"{name}: the image is too large ({error})") from error
    if picture.mode not in GREY_MODES | COLOR_MODES:
        raise UserError(f"{name}: pixels of mode {picture.mode!r}; allowed: 8 bits a channel, grey or color")
    return picture


def oriented_size(picture: Image.Image) -> tuple[int, int]:
    """Width and height after the turn that the file's EXIF asks for; a square needs no look at it."""
    width, height = picture.size
    if width == height or (picture.format == "PNG" and not set(picture.info) & PNG_ORIENTED):
        return width, height
    return (height, width) if orientation(picture) in TURNED else (width, height)


def orientation(picture: Image.Image) -> int:
    """1 to 8 as EXIF has it (the first row and column of the stored image seen from the shown one); 1 if unsaid."""
    try:
        found = picture.getexif().get(ORIENTATION, 1)
    except UNREADABLE:  # damaged notes about an image do not make it unreadable
        return 1
    return found if found in UPRIGHT else 1


def upright(picture: Image.Image) -> Image.Image:
    """The image as viewers show it, turned and mirrored as its EXIF asks.

    Source: EXIF 2.32, tag 0x0112.
    """
    turn = UPRIGHT[orientation(picture)]
    return picture if turn is None else picture.transpose(turn)


def num_channels(picture: Image.Image) -> int:
    """1 for a grey image, 3 for a color image; opacity does not count."""
    return 1 if picture.mode in GREY_MODES else 3


def check_size(
    size: tuple[int, int], name: str, *, resolution: int, resize: Resize, crop: Region | None = None
) -> None:
    """Refuse an image of a size that is not, or with `crop` and `resize` cannot be made, resolution x resolution.

    Raises: UserError naming the file.
    """
    width, height = size
    if crop is not None:
        if width < crop[2] or height < crop[3]:
            raise UserError(f"{name}: {width} x {height} pixels; allowed: sizes that hold data.crop={list(crop)}")
        width, height = crop[2] - crop[0], crop[3] - crop[1]
    if resize == "none" and (width, height) != (resolution, resolution):
        raise UserError(
            f"{name}: {width} x {height} pixels; allowed: {resolution} x {resolution}, as data.resolution or the first "
            f"image says, or set data.resize=box, bilinear or lanczos to crop and shrink"
        )
    if min(width, height) < resolution:
        raise UserError(f"{name}: {width} x {height} pixels; allowed: at least data.resolution={resolution} each way")


def check_channels(found: int, name: str, *, channels: int) -> None:
    """Refuse to lose the colors of an image silently.

    Raises: UserError naming the file.
    """
    if found > channels:
        raise UserError(
            f"{name}: a color image; allowed: grey images, as data.num_channels or the first image says, or set "
            f"data.num_channels=3"
        )


def decoded(
    content: bytes, name: str, *, resolution: int, channels: int, resize: Resize, crop: Region | None = None
) -> np.ndarray:
    """One image as uint8 [channels, resolution, resolution], turned upright.

    Transparent pixels show white. Grey images become color by three equal channels. With `resize` other than "none" the
    largest centered square, or `crop`, is cut out and shrunk by that filter.

    Raises: UserError naming the file.
    """
    picture = shown(content, name, channels=channels)
    check_size(picture.size, name, resolution=resolution, resize=resize, crop=crop)
    if crop is not None:
        picture = picture.crop(crop)
    if resize != "none":
        picture = picture.resize((resolution, resolution), FILTERS[resize], box=_center(picture.size))
    pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def shown(content: bytes, name: str, *, channels: int = 3) -> Image.Image:
    """One image at its own size as a viewer shows it: upright, on white, in grey (1 channel) or color (3).

    Raises: UserError naming the file.
    """
    picture = opened(io.BytesIO(content), name)
    check_channels(num_channels(picture), name, channels=channels)
    try:
        picture.load()  # PNG may keep its EXIF behind the pixels
        return _on_white(upright(picture)).convert("L" if channels == 1 else "RGB")
    except UNREADABLE as error:
        raise UserError(f"{name}: damaged image ({' '.join(str(error).split())})") from error


def _on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def _center(size: tuple[int, int]) -> tuple[int, int, int, int]:
    edge = min(size)
    left, top = (size[0] - edge) // 2, (size[1] - edge) // 2
    return left, top, left + edge, top + edge
