"""Classifiers of torchvision without their last layer, with ImageNet weights or any others of the same architecture."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from limbeck.embeddings.base import file_digest
from limbeck.embeddings.preprocessing import Training
from limbeck.embeddings.pretrained import Source, maps_by_size
from limbeck.embeddings.torchvision_shim import imported
from limbeck.embeddings.weights import Origin, fill, stored_tensors, weights_file
from limbeck.errors import UserError


class Torchvision(Source):
    """The input of the last linear layer (2048 features of ResNet-50, 4096 of VGG16).

    model: as in torchvision.models. weights: name of torchvision's weights ("DEFAULT", "IMAGENET1K_V1"); they say how
    images were prepared, also for other weights. path: file of weights; None: where torchvision keeps its downloads.
    url: where other weights than torchvision's can be had. interpolation: None as torchvision, or that of the others.
    name: None for "torchvision:<model>". download: whether missing weights may be fetched.
    """

    def __init__(
        self,
        *,
        model: str,
        weights: str = "DEFAULT",
        path: str | Path | None = None,
        url: str | None = None,
        interpolation: str | None = None,
        name: str | None = None,
        download: bool = False,
    ) -> None:
        self.model, self.weights, self.path, self.url = model, weights, path, url
        self.interpolation, self.download = interpolation, download
        self.name = name or f"torchvision:{model}"

    def training(self) -> Training:
        transforms = self._facts().transforms()
        (side,), (resize,) = transforms.crop_size, transforms.resize_size
        return Training(
            resolution=side,
            resize=resize,
            interpolation=self.interpolation or transforms.interpolation.value,
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
            fixed="vit" in self.model,
        )

    def built(self, resolution: int) -> nn.Module:
        network = self._whole()
        _remove(network, last_linear(network))
        return network

    def loaded(self, resolution: int) -> nn.Module:
        classifier = last_linear(self._whole())
        network = self.built(resolution)
        path = self._file()
        fill(network, stored_tensors(self.name, path), name=f"{self.name}: {path}", spare=[classifier + "."])
        return network

    def weights_digest(self) -> str:
        return file_digest(self._file())

    def maps(self, network: nn.Module, prepared: Tensor) -> list[Tensor]:
        return maps_by_size(network, prepared)

    def _whole(self) -> nn.Module:
        return imported("torchvision.models").get_model(self.model, weights=None)

    def _file(self) -> Path:
        origin = Origin(url=self.url or self._facts().url)
        return weights_file(self.name, self.path, origin, download=self.download)

    def _facts(self) -> Any:
        """torchvision's own record of the weights."""
        models = imported("torchvision.models")
        classifiers = models.list_models(module=models)
        if self.model not in classifiers:
            raise UserError(f"embedding {self.name}: torchvision has no model {self.model!r}; allowed: those of "
                            "torchvision.models.list_models(), such as resnet50")  # fmt: skip
        known = models.get_model_weights(self.model)
        if self.weights not in known.__members__:
            raise UserError(
                f"embedding {self.name}: weights={self.weights!r}: allowed for {self.model}: "
                f"{', '.join(known.__members__)}"
            )
        return known[self.weights]


def last_linear(network: nn.Module) -> str:
    """Name of the linear layer that comes last: the classifier."""
    names = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    if not names:
        raise UserError(f"{type(network).__name__} has no linear layer that could be its classifier")
    return names[-1]


def _remove(network: nn.Module, name: str) -> None:
    owner, _, key = name.rpartition(".")
    setattr(network.get_submodule(owner), key, nn.Identity())
