"""Image encoders of CLIP and its successors by the optional package open_clip, with their projection.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021; Ilharco et al.,
"OpenCLIP", https://github.com/mlfoundations/open_clip.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.embeddings.base import file_digest
from limbeck.embeddings.preprocessing import Training
from limbeck.embeddings.pretrained import Source, maps_by_size
from limbeck.embeddings.torchvision_shim import imported
from limbeck.embeddings.weights import Origin, fill, stored_tensors, weights_file
from limbeck.errors import UserError

FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class OpenClip(Source):
    """The image tower, ending in the space that images share with texts.

    model, weights: as open_clip lists them (`open_clip.list_pretrained()`), e.g. "RN50" and "openai"; for OpenAI's
    transformers the architecture's name ends in "-quickgelu". path: file of the whole model's or the image tower's
    weights; None: where open_clip keeps its downloads. download: whether missing weights may be fetched.
    """

    def __init__(
        self, *, model: str, weights: str = "openai", path: str | Path | None = None, download: bool = False
    ) -> None:
        self.model, self.weights, self.path, self.download = model, weights, path, download
        self.name = f"open_clip:{model}"

    def training(self) -> Training:
        side = int(self._architecture()["vision_cfg"].get("image_size", 224))
        facts = self._facts()
        return Training(
            resolution=side,
            resize=side,
            interpolation=facts["interpolation"],
            squash=facts["resize_mode"] == "squash",
            mean=tuple(facts["mean"]),
            std=tuple(facts["std"]),
            fixed=True,
        )

    def built(self, resolution: int) -> nn.Module:
        return self._whole(resolution).visual

    def loaded(self, resolution: int) -> nn.Module:
        path = self._file()
        stored = stored_tensors(self.name, path)
        whole = self._whole(resolution)
        imported("open_clip.model").resize_pos_embed(stored, whole)
        prefix = "visual."
        tower = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
        fill(whole.visual, tower or stored, name=f"{self.name}: {path}")
        return whole.visual

    def weights_digest(self) -> str:
        return file_digest(self._file())

    def maps(self, network: nn.Module, prepared: Tensor) -> list[Tensor]:
        return maps_by_size(network, prepared)

    def _whole(self, resolution: int) -> Any:
        self._architecture()
        with _quiet():
            return self._package().create_model(
                self.model,
                pretrained=None,
                pretrained_text=False,
                force_image_size=resolution,
                device=torch.get_default_device(),
            )

    def _architecture(self) -> dict[str, Any]:
        found = self._package().get_model_config(self.model) if ":" not in self.model else None
        if found is None:
            raise UserError(
                f"embedding {self.name}: open_clip has no such model; allowed: the names of open_clip.list_models(), "
                "such as RN50 or ViT-B-32-quickgelu"
            )
        return found

    def _facts(self) -> dict[str, Any]:
        """open_clip's own record of these weights."""
        self._architecture()
        known = imported("open_clip.pretrained")
        found = known.get_pretrained_cfg(self.model, self.weights)
        if not found:
            allowed = ", ".join(known.list_pretrained_tags_by_model(self.model)) or "none"
            raise UserError(f"embedding {self.name}: weights={self.weights!r}: allowed for {self.model}: {allowed}")
        return found

    def _file(self) -> Path:
        repository, file = os.path.split(self._facts()["hf_hub"])
        origin = Origin(repository=repository or None, files=(file,) if file else FILES)
        return weights_file(self.name, self.path, origin, download=self.download)

    def _package(self) -> Any:
        try:
            return imported("open_clip")
        except ImportError as error:
            raise UserError(
                f"embedding {self.name}: the package open_clip_torch is missing; pip install limbeck[clip] with "
                "-c constraints.txt, which keeps torch as it is"
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns through the root logger, and so prints, that a model without weights is random; we know."""
    nothing, before = logging.NullHandler(), logging.root.manager.disable
    logging.root.addHandler(nothing)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(nothing)
