"""The images of one folder or archive by their canonical names, read one at a time at their own size."""

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from limbeck.data.decoding import opened, oriented_size, shown
from limbeck.data.files import Files, of_each
from limbeck.data.image_folder import Folder
from limbeck.data.names import by_canonical, is_image
from limbeck.data.zip_archive import Archive
from limbeck.errors import UserError


class ImageSet:
    """path: a folder, or a zip archive; nothing is read before it is asked for."""

    def __init__(self, path: str | Path | None) -> None:
        self.path = path

    @cached_property
    def files(self) -> Files:
        if self.path is None:
            raise UserError("data.path: not set; allowed: data.path=FOLDER or data.path=FILE.zip, with images")
        path = os.path.expanduser(self.path)
        return Archive(path) if os.path.isfile(path) else Folder(path)

    @cached_property
    def stored(self) -> dict[str, str]:
        """All files, images or not, by their canonical names."""
        return by_canonical(self.files.names(), self.files.described(""))

    @cached_property
    def images(self) -> list[str]:
        """Raises: UserError if there are none."""
        found = [name for name in self.stored if is_image(name)]
        if not found:
            raise UserError(f"data.path: no images in {self.files.described('')}; allowed: png, jpg, jpeg, webp, bmp")
        return found

    def part(self, folder: str) -> list[str]:
        """The images right inside the one folder of this name, wherever it lies.

        Raises: UserError if there is none, or more than one.
        """
        parents = {parent for name in self.images if (parent := name.rpartition("/")[0]).rpartition("/")[2] == folder}
        if len(parents) != 1:
            what = f"{len(parents)} folders of that name with images" if parents else "no such folder with images"
            raise UserError(f"{self.files.described(folder)}: {what}; allowed: one folder {folder!r}")
        return [name for name in self.images if name.rpartition("/")[0] in parents]

    def read(self, name: str) -> bytes:
        return self.files.read(self.stored[name])

    def described(self, name: str) -> str:
        return self.files.described(self.stored.get(name, name))

    def picture(self, name: str) -> Image.Image:
        """In color, upright, at its own size. Raises: UserError naming the file."""
        return shown(self.read(name), self.described(name))

    def sizes(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """Width and height of each image, from its header. Raises: UserError naming a file that is no image."""

        def size(name: str) -> tuple[int, int]:
            with self.files.stream(self.stored[name]) as file, opened(file, self.described(name)) as picture:
                return oriented_size(picture)

        return list(of_each(size, names, "image headers"))

    def digest(self, facts: Any, names: Sequence[str]) -> str:
        """SHA-256 over `facts` (JSON values) and the name and CRC-32 of each of these files."""
        sums = self.files.checksums([self.stored[name] for name in names])
        content = [facts, *zip(names, sums, strict=True)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()
