"""Drawn images in files while an evaluation lasts: slow networks draw each of them once, interrupted or not."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from limbeck.cache import read_cached, state_digest, write_cached

FORMAT = 1


class ImageStore:
    """Batches of images below `folder`, under a digest of the network's weights and of how it draws."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._digests: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()

    def batch(
        self,
        network: nn.Module,
        how: Mapping[str, Any],
        start: int,
        draw: Callable[[], Tensor],
        shape: tuple[int, ...],
    ) -> Tensor:
        """The batch [n, c, h, w] that begins with image `start`, on the CPU; drawn and kept if it is not there yet.

        how: everything the images depend on besides the weights; JSON values. shape: of the batch.
        """
        if network not in self._digests:
            self._digests[network] = state_digest(network)
        key = json.dumps([FORMAT, self._digests[network], dict(how)], sort_keys=True)
        path = self.folder / hashlib.sha256(key.encode()).hexdigest()[:16] / f"{start:08d}.safetensors"
        stored = read_cached(path, {"images": shape})
        if stored is not None:
            return stored["images"]
        images = draw().cpu()
        write_cached(path, {"images": images})
        return images

    def clear(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
