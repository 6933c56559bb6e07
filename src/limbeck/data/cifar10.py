"""CIFAR-10 from its binary version: `data=cifar10 data.path=FOLDER_OR_ARCHIVE`.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; format of its web page: a record is
the class, then 32 x 32 values of red, green, blue. The Python version holds pickles, which are never executed.
"""

import hashlib
import os
import tarfile
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from limbeck.data.base import Batch, ImageDataset, ImageFacts, ImageSource, Mirrored
from limbeck.errors import UserError

FOLDER = "cifar-10-batches-bin"
TRAINING_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
EDGE, NUM_CLASSES = 32, 10
RECORD = 1 + 3 * EDGE * EDGE
OBTAIN = "the binary version, cifar-10-binary.tar.gz, or the folder cifar-10-batches-bin inside it"


class Cifar10(ImageSource):
    """The 50,000 training images; they are also the reference of metrics, as in the papers.

    path: the folder of the .bin files, or the archive. labels: whether the ten classes count.
    """

    def __init__(
        self, *, path: str | Path | None = None, labels: bool = False, mirror: bool = False, num_workers: int = 0
    ) -> None:
        self.path, self.labels, self.mirror, self.num_workers = path, labels, mirror, num_workers

    def open(self) -> ImageFacts:
        return ImageFacts(EDGE, 3, NUM_CLASSES if self.labels else 0, len(self._records))

    def train(self) -> ImageDataset:
        return Mirrored(self.heldout()) if self.mirror else self.heldout()

    def heldout(self) -> ImageDataset:
        return Records(self._records, labels=self.labels)

    def digest(self) -> str:
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self._records.tobytes()).hexdigest()

    @cached_property
    def _records(self) -> np.ndarray:
        """All records, uint8 [n, 3073]."""
        if self.path is None:
            raise UserError(f"data.path: not set; allowed with data=cifar10: {OBTAIN}")
        if not os.path.exists(self.path):
            raise UserError(f"data.path={self.path}: no such file or folder; allowed with data=cifar10: {OBTAIN}")
        parts = self._from_folder(Path(self.path)) if os.path.isdir(self.path) else self._from_archive(Path(self.path))
        for name, content in parts.items():
            if not content or len(content) % RECORD or max(content[::RECORD]) >= NUM_CLASSES:
                raise UserError(f"data.path={self.path}: {name} is damaged; allowed: records of {RECORD} bytes")
        return np.frombuffer(b"".join(parts.values()), dtype=np.uint8).reshape(-1, RECORD)

    def _from_folder(self, path: Path) -> dict[str, bytes]:
        path = path / FOLDER if (path / FOLDER).is_dir() else path
        missing = [name for name in TRAINING_FILES if not (path / name).is_file()]
        if missing:
            raise UserError(f"data.path={self.path}: {missing[0]} is missing; allowed with data=cifar10: {OBTAIN}")
        return {name: (path / name).read_bytes() for name in TRAINING_FILES}

    def _from_archive(self, path: Path) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        try:
            with tarfile.open(path) as archive:
                for entry in archive:
                    name = os.path.basename(entry.name)
                    file = archive.extractfile(entry) if name in TRAINING_FILES else None
                    if file is not None:
                        found[name] = file.read()
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UserError(f"data.path={path}: not a readable archive; allowed with data=cifar10: {OBTAIN}") from error
        missing = [name for name in TRAINING_FILES if name not in found]
        if missing:
            raise UserError(f"data.path={path}: {missing[0]} is not in it; allowed with data=cifar10: {OBTAIN}")
        return {name: found[name] for name in TRAINING_FILES}


class Records(ImageDataset):
    """Images in memory. records: uint8 [n, 3073]."""

    def __init__(self, records: np.ndarray, *, labels: bool) -> None:
        self.records, self.labels = records, labels

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, indices: np.ndarray) -> Batch:
        images = np.ascontiguousarray(self.records[indices][:, 1:]).reshape(-1, 3, EDGE, EDGE)
        return torch.from_numpy(images), self.labels_of(indices)

    def labels_of(self, indices: np.ndarray) -> torch.Tensor:
        count = len(indices)
        found = self.records[indices, 0].astype(np.int64) if self.labels else np.zeros(count, dtype=np.int64)
        return torch.from_numpy(found)
