"""Networks of timm: DINO and DINOv2 transformers, CLIP's image encoders, ImageNet classifiers and many more.

Source: Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.embeddings.base import file_digest
from limbeck.embeddings.preprocessing import Training
from limbeck.embeddings.pretrained import Source
from limbeck.embeddings.torchvision_shim import imported
from limbeck.embeddings.weights import Origin, stored_tensors, weights_file
from limbeck.errors import UserError

FILES = ("model.safetensors", "pytorch_model.bin")
MOST_MAPS = 6


class Timm(Source):
    """The network before its classifier.

    model: architecture.tag as timm lists them. path: file of weights; None: where timm keeps its downloads.
    head: keep the last layer (the projection of CLIP's encoders). arguments: further ones of the architecture.
    download: whether missing weights may be fetched.
    """

    def __init__(
        self,
        *,
        model: str,
        path: str | Path | None = None,
        head: bool = False,
        download: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.path, self.head, self.download = model, path, head, download
        self.arguments = dict(arguments or {})
        settings = [*(["head"] if head else []), *(f"{key}={value}" for key, value in sorted(self.arguments.items()))]
        self.name = ", ".join([f"timm:{model}", *settings])

    def training(self) -> Training:
        facts = self._facts()
        side = int(facts.input_size[-1])
        return Training(
            resolution=side,
            resize=int(side / facts.crop_pct),
            interpolation=facts.interpolation,
            squash=facts.crop_mode == "squash",
            mean=tuple(facts.mean),
            std=tuple(facts.std),
            fixed=bool(facts.fixed_input_size),
        )

    def built(self, resolution: int) -> nn.Module:
        return self._created(resolution, classes={} if self.head else {"num_classes": 0})

    def loaded(self, resolution: int) -> nn.Module:
        path = self._file()
        stored = stored_tensors(self.name, path)
        try:
            network = self._created(
                resolution, pretrained=True, pretrained_cfg_overlay={"state_dict": self._with_classifier(stored)}
            )
        except (RuntimeError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"embedding {self.name}: {path}: the weights are of another network: {reason}") from error
        if not self.head:
            network.reset_classifier(0)
        return network

    def weights_digest(self) -> str:
        return file_digest(self._file())

    def maps(self, network: nn.Module, prepared: Tensor) -> list[Tensor]:
        count = len(network.feature_info)  # type: ignore[arg-type]
        every = -(-count // MOST_MAPS)
        indices = list(range(count - 1, -1, -every))[::-1]
        return network.forward_intermediates(prepared, indices=indices, intermediates_only=True, output_fmt="NCHW")

    def _created(self, resolution: int, *, classes: Mapping[str, int] | None = None, **more: Any) -> nn.Module:
        size = {"img_size": resolution} if self._facts().fixed_input_size else {}
        try:
            return imported("timm").create_model(self.model, **(classes or {}), **size, **self.arguments, **more)
        except TypeError as error:
            raise UserError(f"embedding {self.name}: arguments={self.arguments}: {error}") from error

    def _with_classifier(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Zeros where a file without classifier lacks it: timm checks a file strictly only if it has everything."""
        classifier = self._facts().classifier
        if self.head or not classifier or not self._facts().num_classes:
            return stored
        with torch.device("meta"):
            expected = self._created(self.training().resolution).state_dict()
        missing = [name for name in expected if name.startswith(f"{classifier}.") and name not in stored]
        return {**stored, **{name: torch.zeros(expected[name].shape) for name in missing}}

    def _file(self) -> Path:
        facts = self._facts()
        files = (facts.hf_hub_filename,) if facts.hf_hub_filename else FILES
        origin = Origin(repository=facts.hf_hub_id, files=files, url=facts.url or None)
        return weights_file(self.name, self.path, origin, download=self.download)

    def _facts(self) -> Any:
        """timm's own record of these weights."""
        models = imported("timm").models
        try:
            facts = models.get_pretrained_cfg(self.model)
        except RuntimeError:
            facts = None
        if facts is None or not models.is_model(self.model):
            raise UserError(
                f"embedding {self.name}: timm has no such model or weights; allowed: the names of "
                "timm.list_models(pretrained=True), such as resnet50.a1_in1k"
            )
        return facts
