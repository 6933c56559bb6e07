"""Every file of a set is looked at before a run begins, so that a wrong size stops it before its first step."""

from collections.abc import Sequence
from functools import partial

import torch

from limbeck.cache import cache_path, write_cached
from limbeck.data.base import ImageFacts
from limbeck.data.decoding import Region, Resize, check_channels, check_size, num_channels, opened, oriented_size
from limbeck.data.files import WORTH_KEEPING, Files, of_each
from limbeck.data.headers import FIRST_BYTES, header

RECIPE = "headers; 1"
LARGE = 2**26  # pixels; whether such an image is an attack is for Pillow to say


def check_headers(
    files: Files, names: Sequence[str], facts: ImageFacts, *, resize: Resize, crop: Region | None
) -> None:
    """Look at the headers, once for as long as names, sizes and dates stay as they are.

    Raises: UserError naming the first file that cannot become an image of the set.
    """
    seen = [RECIPE, facts.resolution, facts.num_channels, resize, crop, files.fingerprint(names)]
    path = cache_path("headers", "checked", seen)
    if path.is_file():
        return
    check = partial(_check_header, files, facts=facts, resize=resize, crop=crop)
    for _ in of_each(check, names, "image headers"):
        pass
    if len(names) >= WORTH_KEEPING:
        write_cached(path, {"num_images": torch.tensor([len(names)])})


def _check_header(files: Files, name: str, *, facts: ImageFacts, resize: Resize, crop: Region | None) -> None:
    """Refuse a file whose header shows that it cannot become an image of the set. Raises: UserError naming it."""
    found = header(files.begins(name, FIRST_BYTES))
    plain = found is not None and (crop is None or found.width == found.height)  # otherwise EXIF matters
    if plain and found is not None and found.width * found.height < LARGE:
        size, channels = (found.width, found.height), found.num_channels
    else:
        with files.stream(name) as file, opened(file, files.described(name)) as picture:
            size, channels = oriented_size(picture), num_channels(picture)
    called = files.described(name)
    check_size(size, called, resolution=facts.resolution, resize=resize, crop=crop)
    check_channels(channels, called, channels=facts.num_channels)
