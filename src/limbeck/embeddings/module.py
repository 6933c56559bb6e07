"""Any torch.nn.Module as an embedding."""

import copy
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from limbeck.cache import state_digest
from limbeck.embeddings.base import file_digest
from limbeck.embeddings.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Training
from limbeck.embeddings.pretrained import Source, maps_by_size
from limbeck.embeddings.weights import Origin, fill, stored_tensors, weights_file


class Module(Source):
    """A module that takes images [n, 3, h, w] and gives vectors [n, f] or maps [n, f, h, w].

    path: file of its weights; None: the module is used as it was made. resolution, interpolation, mean, std: how its
    images were prepared. fixed: whether it takes no other resolution. name: for messages and reports.
    """

    def __init__(
        self,
        *,
        module: nn.Module,
        name: str,
        path: str | Path | None = None,
        resolution: int = 224,
        interpolation: str = "bilinear",
        mean: tuple[float, ...] | list[float] = IMAGENET_MEAN,
        std: tuple[float, ...] | list[float] = IMAGENET_STD,
        fixed: bool = False,
    ) -> None:
        self.module, self.name, self.path = module, name, path
        self.resolution, self.interpolation, self.fixed = resolution, interpolation, fixed
        self.mean, self.std = tuple(mean), tuple(std)

    def training(self) -> Training:
        return Training(
            resolution=self.resolution,
            resize=self.resolution,
            interpolation=self.interpolation,
            squash=True,
            mean=self.mean,
            std=self.std,
            fixed=self.fixed,
        )

    def built(self, resolution: int) -> nn.Module:
        return copy.deepcopy(self.module).to("meta")

    def loaded(self, resolution: int) -> nn.Module:
        network = copy.deepcopy(self.module)
        if self.path is not None:
            path = self._file()
            fill(network, stored_tensors(self.name, path), name=f"{self.name}: {path}")
        return network

    def weights_digest(self) -> str:
        if self.path is not None:
            return file_digest(self._file())
        return self._own_digest

    def maps(self, network: nn.Module, prepared: Tensor) -> list[Tensor]:
        return maps_by_size(network, prepared)

    @cached_property
    def _own_digest(self) -> str:
        """Of the module as it was made; nothing here changes it."""
        return state_digest(self.module)

    def _file(self) -> Path:
        return weights_file(self.name, self.path, Origin(), download=False)
