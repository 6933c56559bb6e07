"""What metrics ask for, made when first asked for: images, features, the teacher's images of the same inputs."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck import parallel
from limbeck.architectures.base import Network
from limbeck.architectures.inputs import Inputs
from limbeck.data.base import ImageSource
from limbeck.embeddings.base import Embedding
from limbeck.evaluation.image_store import ImageStore
from limbeck.evaluation.reference import (
    num_reference_images,
    reference_features,
    reference_labels,
    reference_sums,
    summed_up,
)
from limbeck.evaluation.sampling import drawn_images, eight_bits, from_eight_bits, input_batches
from limbeck.functional.frechet import Sums
from limbeck.metrics import base
from limbeck.metrics.base import Samples
from limbeck.model import Model
from limbeck.seeds import batch_seed

KEPT_MIB = 512  # images of a model are kept up to this size per process, and drawn anew for each embedding beyond it
Progress = Callable[[str, int, int], None]
Batch = tuple[int, Inputs]  # number of the first image, inputs


@dataclass(frozen=True)
class Drawing:
    """How the images of a model are drawn; the words are those of `Protocol`."""

    num_images: int
    num_reference: int | None
    seed: int
    batch_size: int
    how: Mapping[str, Any]
    quantize: bool


class DrawnSamples(Samples):
    """The images of one model. Batches are fixed, whatever the number of processes: batch b is drawn and embedded as a
    whole by process b mod world size, and everyone gets everything.
    """

    def __init__(
        self,
        drawing: Drawing,
        model: Model,
        *,
        data: ImageSource | None,
        teacher: Model | None,
        device: torch.device,
        store: ImageStore | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self.drawing, self.model, self.data, self.teacher = drawing, model, data, teacher
        self.device, self.store, self.on_progress = device, store, on_progress
        self.generator = model.generator
        self._kept: dict[int, Tensor] = {}
        self._features: dict[tuple[str, str], Tensor] = {}

    def features(self, embedding: Embedding) -> Tensor:
        key = ("fake", embedding.digest())
        if key not in self._features:
            loaded = embedding.load().to(self.device)
            found = self._over_batches(
                lambda batch: loaded(self._student_image(batch)), self.drawing.num_images, f"images, {embedding.name}"
            )
            self._features[key] = found.to(self.device)
        return self._features[key]

    def has_reference(self) -> bool:
        return self.data is not None

    def _reference(self) -> ImageSource:
        assert self.data is not None, "has_reference() first"
        return self.data

    def reference_features(self, embedding: Embedding) -> Tensor:
        key = ("real", embedding.digest())
        if key not in self._features:
            num_images = num_reference_images(self._reference(), self.drawing.num_reference)
            features = reference_features(
                self._reference(),
                embedding,
                num_images=num_images,
                batch_size=self.drawing.batch_size,
                device=self.device,
                on_batch=self._told(f"reference, {embedding.name}", num_images),
            )
            self._features[key] = features.to(self.device)
        return self._features[key]

    def sums(self, embedding: Embedding) -> Sums:
        if self.drawing.num_images <= base.MOST_KEPT:
            return super().sums(embedding)
        loaded, num_images = embedding.load().to(self.device), self.drawing.num_images

        def embedded(batch: Batch) -> Tensor:
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                return loaded(self._student_image(batch))

        batches = (embedded(batch) for _, batch in self._own_batches(num_images))
        told = self._told(f"images, {embedding.name}", num_images)
        return summed_up(batches, embedding.num_features, self.device, told)

    def reference_sums(self, embedding: Embedding) -> Sums:
        num_images = num_reference_images(self._reference(), self.drawing.num_reference)
        if num_images <= base.MOST_KEPT:
            return super().reference_sums(embedding)
        return reference_sums(
            self._reference(),
            embedding,
            num_images=num_images,
            batch_size=self.drawing.batch_size,
            device=self.device,
            on_batch=self._told(f"reference, {embedding.name}", num_images),
        )

    def labels(self) -> Tensor | None:
        if not self.generator.num_classes:
            return None
        drawing = self.drawing
        amounts = drawing.num_images, drawing.seed, drawing.batch_size
        found = [inputs.label for _, inputs in input_batches(self.generator, *amounts, data=self.data)]
        return self._rows(torch.cat([label for label in found if label is not None]))

    def reference_labels(self) -> Tensor | None:
        classes = self.generator.num_classes
        if self.data is None or not classes or self.data.open().num_classes != classes:
            return None
        num_images = num_reference_images(self._reference(), self.drawing.num_reference)
        return self._rows(reference_labels(self._reference(), num_images=num_images))

    def _rows(self, labels: Tensor) -> Tensor:
        """Class numbers as rows of 0 and 1."""
        return F.one_hot(labels, self.generator.num_classes).float() if labels.ndim == 1 else labels.float()

    def has_teacher(self) -> bool:
        return self.teacher is not None

    def has_target(self) -> bool:
        drawn_from_data = self.data is not None and self.generator.draws_from == "images"
        return drawn_from_data and self._reference().targets() is not None

    def paired(
        self,
        function: Callable[[Tensor, Tensor, Any], Tensor],
        embedding: Embedding | None = None,
        *,
        num_images: int | None = None,
        target: bool = False,
    ) -> Tensor:
        other = self._target if target else self._teacher_image
        loaded = None if embedding is None else embedding.load().to(self.device)
        return self._over_batches(
            lambda batch: function(self._student_image(batch), other(batch), loaded),
            min(num_images or self.drawing.num_images, self.drawing.num_images),
            "pairs" if embedding is None else f"pairs, {embedding.name}",
        )

    def _over_batches(self, function: Callable[[Batch], Tensor], num_images: int, what: str) -> Tensor:
        """Rows that `function` makes of the batches that hold the first `num_images` inputs, on the CPU."""

        def computed(batch: Batch) -> Tensor:
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                return function(batch).cpu()

        rows = torch.cat(parallel.shared_out(self._own_batches(num_images), computed, self._told(what, num_images)))
        return rows[:num_images]

    def _own_batches(self, num_images: int) -> Iterator[tuple[int, Batch]]:
        drawing = self.drawing
        amounts = drawing.num_images, drawing.seed, drawing.batch_size
        batches = input_batches(self.model.generator, *amounts, data=self.data)
        for number, (start, inputs) in enumerate(batches):
            if start >= num_images:
                return
            if number % parallel.world_size() == parallel.rank():
                yield number, (start, inputs)

    def _teacher_image(self, batch: Batch) -> Tensor:
        assert self.teacher is not None, "has_teacher() first"
        return self._as_float(self._drawn(self.teacher.generator, batch))

    def _target(self, batch: Batch) -> Tensor:
        start, inputs = batch
        targets = self._reference().targets()
        assert targets is not None, "has_target() first"
        return from_eight_bits(targets.batch(np.arange(start, start + len(inputs)))[0]).to(self.device)

    def _student_image(self, batch: Batch) -> Tensor:
        start = batch[0]
        if start in self._kept:
            return self._as_float(self._kept[start])
        image = self._drawn(self.model.generator, batch)
        own_images = self.drawing.num_images / parallel.world_size()
        if image[0].numel() * image.element_size() * own_images <= KEPT_MIB * 2**20:
            self._kept[start] = image
        return self._as_float(image)

    def _drawn(self, generator: Network, batch: Batch) -> Tensor:
        """One batch on the device of the embeddings, in 8 bits if the protocol says so; from the store if possible."""
        start, inputs = batch
        drawing = self.drawing

        def draw() -> Tensor:
            image = drawn_images(generator, inputs, seed=batch_seed(drawing.seed, start), **drawing.how)
            return eight_bits(image) if drawing.quantize else image

        if self.store is None:
            return draw().to(self.device)
        shape = (len(inputs), generator.num_channels, generator.resolution, generator.resolution)
        how = dataclasses.asdict(drawing) | {"label": None if inputs.label is None else inputs.label.tolist()}
        return self.store.batch(generator, how, start, draw, shape).to(self.device)

    def _as_float(self, image: Tensor) -> Tensor:
        return from_eight_bits(image) if self.drawing.quantize else image

    def _told(self, what: str, total: int) -> Callable[[int], None] | None:
        if self.on_progress is None:
            return None
        tell = self.on_progress
        return lambda done: tell(what, min(done, total), total)
