"""Any pretrained network as an embedding: what it is and where its weights lie is told by a `Source`."""

import re
from abc import ABC, abstractmethod
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.embeddings.base import Embedding, freeze, in_color
from limbeck.embeddings.preprocessing import AS_TRAINED, RAW, Preprocessing, Training, as_trained
from limbeck.errors import UserError


class Source(ABC):
    """A network from images to vectors [n, f] (or maps [n, f, h, w], which are averaged). Constructors only store.

    name: for messages and reports, e.g. "timm:resnet50.a1_in1k".
    """

    name: str

    @abstractmethod
    def training(self) -> Training:
        """How its images were prepared in training. Raises: UserError if there is no such network."""

    @abstractmethod
    def built(self, resolution: int) -> nn.Module:
        """The network for inputs of this side, without weights; called on the meta device to learn shapes."""

    @abstractmethod
    def loaded(self, resolution: int) -> nn.Module:
        """The network with its weights. Raises: UserError if they are missing or of another network."""

    @abstractmethod
    def weights_digest(self) -> str:
        """Hexadecimal SHA-256 of the weights. Raises: UserError if they are missing."""

    @abstractmethod
    def maps(self, network: nn.Module, prepared: Tensor) -> list[Tensor]:
        """Intermediate maps [n, c, h, w], finest first."""


class Pretrained(Embedding):
    """A frozen pretrained network behind a choice of preprocessing.

    source: the network. preprocessing: "as_trained" (its own resize, crop and normalization) or "raw" (values in
        [-1, 1], no crop; what the released NICKEL & DiME code does, and no network was trained for).
    resolution: side of the network's input. None: as in training; with "raw", the images' own side, unless the network
        takes only one. "raw" resizes bilinearly, half-pixel centers, no antialias.
    crop: with "as_trained", whether the borders are cut off as in the network's own evaluation.
    suffix: ends the names of metrics, `kid_<suffix>`; None: made from the source's name.
    """

    def __init__(
        self,
        *,
        source: Source,
        preprocessing: str = AS_TRAINED,
        resolution: int | None = None,
        crop: bool = True,
        suffix: str | None = None,
    ) -> None:
        super().__init__()
        self.source, self.style, self.resolution, self.crop = source, preprocessing, resolution, crop
        self.name = source.name
        self.metric_suffix = "_" + (suffix or re.sub(r"\W+", "_", source.name.partition(":")[2] or source.name).lower())
        self.network: nn.Module | None = None

    def load(self) -> Embedding:
        if self.network is None:
            _ = self.num_features  # refuses a resolution that the network cannot take
            network = self.source.loaded(self._side)
            freeze(network)
            self.network = network
        return self

    def weights_digest(self) -> str:
        return self.source.weights_digest()

    def preprocessing(self) -> dict[str, str]:
        return self._prepare.describe()

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        return as_vectors(self._loaded(self._prepared(image))).float()

    def feature_maps(self, image: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """The maps at each size on the way, finest first."""
        return self.source.maps(self._loaded, self._prepared(image))

    @cached_property
    def num_features(self) -> int:  # type: ignore[override]
        try:
            with torch.device("meta"):
                network = self.source.built(self._side).eval()
                found = network(torch.empty(1, 3, self._side, self._side))
            return as_vectors(found).shape[1]
        except UserError:
            raise
        except Exception as error:  # whatever a network says of an input that it cannot take
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"embedding {self.name}: resolution={self.resolution}: the network refuses {self._side}x{self._side} "
                f"images ({reason})"
            ) from error

    @cached_property
    def _side(self) -> int:
        """Side of the network's input where it is known; for raw images of any size, that of the training."""
        if self.resolution is None:
            return self.source.training().resolution
        if not isinstance(self.resolution, int) or isinstance(self.resolution, bool) or self.resolution < 1:
            raise UserError(
                f"embedding {self.name}: resolution={self.resolution}: must be a whole number above 0, or null"
            )
        return self.resolution

    @cached_property
    def _prepare(self) -> Preprocessing:
        training = self.source.training()
        if self.style == AS_TRAINED:
            return as_trained(training, self._side, crop=self.crop)
        if self.style != RAW:
            raise UserError(f"embedding {self.name}: preprocessing={self.style!r}: must be {AS_TRAINED!r} or {RAW!r}")
        free = self.resolution is None and not training.fixed
        return Preprocessing(resize=None if free else self._side)

    @property
    def _loaded(self) -> nn.Module:
        if self.network is None:
            raise RuntimeError(f"embedding {self.name} is used before load()")
        return self.network

    def _prepared(self, image: Tensor) -> Tensor:
        return self._prepare(in_color(image)).contiguous(memory_format=torch.channels_last)


def as_vectors(output: object) -> Float[Tensor, "n f"]:
    """Vectors as they are, maps averaged over their positions.

    Raises: UserError for anything else.
    """
    if not isinstance(output, Tensor) or output.ndim not in (2, 4):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"the network's output is {shape}; an embedding needs vectors [n, f] or maps [n, f, h, w]")
    return output if output.ndim == 2 else output.mean(dim=(2, 3))


def maps_by_size(network: nn.Module, prepared: Float[Tensor, "n c h w"]) -> list[Tensor]:
    """The last map of each size that leaves one of the network's parts or one of their parts, finest first.

    Looking no deeper keeps to the ends of blocks. Maps of 1 x 1 are pooled features and left out.
    """
    outer = network
    while len(children := list(network.children())) == 1:
        (network,) = children
    found: dict[tuple[int, int], Tensor] = {}

    def note(_part: nn.Module, _input: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            found[output.shape[2], output.shape[3]] = output

    parts = [part for child in children for part in (child, *child.children())]
    handles = [part.register_forward_hook(note) for part in parts]
    try:
        outer(prepared)
    finally:
        for handle in handles:
            handle.remove()
    return [found[size] for size in sorted(found, reverse=True)]
