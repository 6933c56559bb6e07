"""A folder or a zip archive of images, told apart by looking: `data=images data.path=FOLDER_OR_ZIP`."""

import os
from pathlib import Path
from typing import Any

from limbeck.data.image_files import ImageFiles
from limbeck.data.image_folder import Folder
from limbeck.data.zip_archive import Archive


def images(*, path: str | Path | None = None, **options: Any) -> ImageFiles:
    """Images of a folder or an archive as a source; `options` are those of `ImageFiles`."""
    if path is not None and os.path.isfile(path):
        return ImageFiles(Archive(path), **options)
    return ImageFiles(Folder(path, wanted="are data.path=FILE.zip and data.path=FOLDER"), **options)
