"""How models are judged: which metrics, how many images, from which latents, against how many real images.

Every number of a report comes from one of these objects, and `describe` says everything it depends on.
"""

from collections.abc import Mapping
from typing import Any

import torch

from limbeck.data.base import ImageSource
from limbeck.errors import UserError
from limbeck.evaluation.reference import num_reference_images
from limbeck.evaluation.samples import Drawing, DrawnSamples, Progress
from limbeck.metrics.base import Metric
from limbeck.model import Model

NOISES = ("random", "const", "none")


class Protocol:
    """Metrics of a model's images.

    metrics: by the name of their YAML file. num_images: fakes. num_reference: at most so many real images, in a fixed
    random order; None for all. seed: of latents, labels and injected noise. batch_size: of drawing and embedding;
    part of the protocol because random noise and rounding depend on it. noise: "random", "const" or "none".
    truncation: psi. quantize: round images to 8 bits before they are embedded, as files would.

    Under several processes each draws and embeds its share of the batches; the result is that of one process.
    """

    def __init__(
        self,
        *,
        metrics: Mapping[str, Metric],
        num_images: int,
        num_reference: int | None = None,
        seed: int = 0,
        batch_size: int = 50,
        noise: str = "const",
        truncation: float = 1.0,
        quantize: bool = True,
    ) -> None:
        self.metrics, self.num_images, self.num_reference = metrics, num_images, num_reference
        self.seed, self.batch_size, self.noise = seed, batch_size, noise
        self.truncation, self.quantize = truncation, quantize

    def __call__(
        self,
        model: Model,
        *,
        data: ImageSource,
        teacher: Model | None = None,
        device: torch.device | str = "cpu",
        on_progress: Progress | None = None,
    ) -> dict[str, float]:
        """Values by name, in the order of the metrics.

        teacher: compared with on the same latents by the metrics that do so. device: where images are embedded; the
        generators stay where they are. on_progress: told (what, images done, images in all).

        Raises: UserError for wrong settings, missing weights of an embedding, or two metrics of one name.
        """
        self.check()
        samples = DrawnSamples(
            Drawing(
                num_images=self.num_images,
                num_reference=self.num_reference,
                seed=self.seed,
                batch_size=self.batch_size,
                noise=self.noise,
                truncation=self.truncation,
                quantize=self.quantize,
            ),
            model,
            data=data,
            teacher=teacher,
            device=torch.device(device),
            on_progress=on_progress,
        )
        values: dict[str, float] = {}
        for name, metric in self.metrics.items():
            found = metric(samples)
            repeated = sorted(set(found) & set(values))
            if repeated:
                raise UserError(f"metric.{name}: another metric gives {repeated[0]} already; select only one of them")
            values |= found
        return values

    def describe(self, data: ImageSource) -> dict[str, Any]:
        """Everything the numbers depend on; JSON values."""
        return {
            "num_images": self.num_images,
            "num_reference": num_reference_images(data, self.num_reference),
            "reference": f"{type(data).__name__}, sha256 {data.digest()}",
            "seed": self.seed,
            "batch_size": self.batch_size,
            "noise": self.noise,
            "truncation": self.truncation,
            "images": "clamped to [-1, 1]" + (", rounded to 8 bits" if self.quantize else ", not rounded"),
            "metrics": {name: metric.describe() for name, metric in self.metrics.items()},
        }

    def check(self) -> None:
        """Find out before hours of training whether an evaluation can work: settings, weights of embeddings.

        Raises: UserError naming what is wrong or missing.
        """
        if self.noise not in NOISES:
            raise UserError(f"protocol.noise={self.noise!r}: allowed: {', '.join(NOISES)}")
        for name in ("num_images", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"protocol.{name}={getattr(self, name)}: must be at least 1")
        for metric in self.metrics.values():
            metric.describe()  # reads the hash of the weights


def protocol_lines(description: Mapping[str, Any]) -> list[str]:
    """`Protocol.describe` for a terminal: one line for the images, one for each metric."""
    images = ", ".join(f"{name} {description[name]}" for name in ("seed", "noise", "truncation", "batch_size"))
    lines = [
        f"{description['num_images']:,} images ({images}; {description['images']}) "
        f"against {description['num_reference']:,} real ones ({description['reference']})"
    ]
    for name, facts in description["metrics"].items():
        lines.append(f"{name}: " + "; ".join(f"{key} {value}" for key, value in facts.items()))
    return lines
