"""How models are judged: which metrics, how many images, from which latents, against how many real images.

Every number of a report comes from one of these objects, and `describe` says everything it depends on.
"""

from collections.abc import Mapping
from typing import Any

import torch

from limbeck import devices
from limbeck.architectures.base import Network
from limbeck.data.base import ImageSource
from limbeck.errors import UserError
from limbeck.evaluation.image_store import ImageStore
from limbeck.evaluation.reference import num_reference_images
from limbeck.evaluation.samples import Drawing, DrawnSamples, Progress
from limbeck.evaluation.sampling import NOISES, labelled_images
from limbeck.functional.diffusion import GRIDS
from limbeck.metrics.base import Metric
from limbeck.model import Model

DRAW_SETTINGS = ("noise", "truncation", "steps", "grid", "eta", "clip_sample")


class Protocol:
    """Metrics of a model's images.

    metrics: by the name of their YAML file. num_images: fakes. num_reference: at most so many real images, in a fixed
    random order; None for all. seed: of latents, labels and injected noise. batch_size: of drawing and embedding;
    part of the protocol because random noise and rounding depend on it. noise: "random", "const" or "none".
    truncation: psi. quantize: round images to 8 bits before they are embedded, as files would.
    steps, grid, eta, clip_sample: of DDIM; a network reads its own family's settings (`Network.draw_settings`) and no
    others.
    keep_drawn: whether drawn images are kept as files while an evaluation lasts, if it has a folder: an interrupted
    one then goes on where it was, and the teacher's images are drawn once for all rows; for slow networks.

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
        steps: int = 100,
        grid: str = "uniform",
        eta: float = 0.0,
        clip_sample: bool = False,
        quantize: bool = True,
        keep_drawn: bool = False,
    ) -> None:
        self.metrics, self.num_images, self.num_reference = metrics, num_images, num_reference
        self.seed, self.batch_size, self.noise = seed, batch_size, noise
        self.truncation, self.steps, self.grid, self.eta = truncation, steps, grid, eta
        self.clip_sample = clip_sample
        self.quantize, self.keep_drawn = quantize, keep_drawn

    def __call__(
        self,
        model: Model,
        *,
        data: ImageSource | None,
        teacher: Model | None = None,
        device: torch.device | str = "cpu",
        store: ImageStore | None = None,
        on_progress: Progress | None = None,
    ) -> dict[str, float]:
        """Values by name, in the order of the metrics.

        data: real images; None leaves out the metrics that need them. teacher: compared with on the same latents by the
        metrics that do so. device: where images are embedded; the generators stay where they are.
        store: of drawn images, used if `keep_drawn`. on_progress: told (what, images done, images in all).

        Raises: UserError for wrong settings, missing weights of an embedding, or two metrics of one name.
        """
        self.check(model.generator, data)
        samples = DrawnSamples(
            Drawing(
                num_images=self.num_images,
                num_reference=self.num_reference,
                seed=self.seed,
                batch_size=self.batch_size,
                how=self.how(model.generator),
                quantize=self.quantize,
            ),
            model,
            data=data,
            teacher=teacher,
            device=torch.device(device),
            store=store if self.keep_drawn else None,
            on_progress=on_progress,
        )
        values: dict[str, float] = {}
        for name, metric in self.metrics.items():
            with devices.exact():
                found = metric.of(samples)
            repeated = sorted(set(found) & set(values))
            if repeated:
                raise UserError(f"metric.{name}: another metric gives {repeated[0]} already; select only one of them")
            values |= found
        return values

    def how(self, generator: Network | None = None) -> dict[str, Any]:
        """The settings by which images are drawn: those that this network reads, or all."""
        names = DRAW_SETTINGS if generator is None else generator.draw_settings
        return {name: getattr(self, name) for name in names}

    def describe(self, data: ImageSource, generator: Network | None = None) -> dict[str, Any]:
        """Everything the numbers depend on; JSON values. generator: of the family that is judged, None for any."""
        labels = {}
        if generator is not None and generator.num_classes:
            even = labelled_images(data, generator) is None
            labels = {"labels": "all classes evenly" if even else "classes of random reference images"}
        return {
            "num_images": self.num_images,
            "num_reference": num_reference_images(data, self.num_reference),
            "reference": f"{type(data).__name__}, sha256 {data.digest()}",
            "seed": self.seed,
            "batch_size": self.batch_size,
            **self.how(generator),
            **labels,
            "images": "clamped to [-1, 1]" + (", rounded to 8 bits" if self.quantize else ", not rounded"),
            "metrics": {name: metric.describe() for name, metric in self.metrics.items()},
            "higher_is_better": self.ranks(),
        }

    def ranks(self) -> dict[str, bool]:
        """Every value by which models may be ranked, and whether more of it is better."""
        return {name: higher for metric in self.metrics.values() for name, higher in metric.ranks().items()}

    def check(self, generator: Network | None = None, data: ImageSource | None = None) -> None:
        """Find out before hours of training whether an evaluation can work: settings, weights, numbers of images.

        generator: of the family that is judged, None for any. data: the reference, None if it is not known yet.

        Raises: UserError naming what is wrong or missing.
        """
        if self.noise not in NOISES:
            raise UserError(f"protocol.noise={self.noise!r}: allowed: {', '.join(NOISES)}")
        if self.grid not in GRIDS:
            raise UserError(f"protocol.grid={self.grid!r}: allowed: {', '.join(GRIDS)}")
        if not 0 <= self.eta <= 1:
            raise UserError(f"protocol.eta={self.eta}: must lie in [0, 1]")
        for name in ("clip_sample", "quantize", "keep_drawn"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"protocol.{name}={getattr(self, name)!r}: must be true or false")
        for name in ("num_images", "batch_size", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"protocol.{name}={getattr(self, name)}: must be at least 1")
        if generator is not None:
            generator.check_drawing(**self.how(generator))
        for metric in self.metrics.values():
            metric.describe()  # reads the hash of the weights
            if generator is not None:
                metric.check_family(generator)
        if data is not None:
            self._check_counts(data)
        if data is not None and generator is not None:
            labelled_images(data, generator)

    def _check_counts(self, data: ImageSource) -> None:
        num_real = num_reference_images(data, self.num_reference)
        for name, metric in self.metrics.items():
            try:
                metric.check(num_real, self.num_images)
            except UserError as error:
                raise UserError(f"metric.{name}: {error}") from error


def protocol_lines(description: Mapping[str, Any]) -> list[str]:
    """`Protocol.describe` for a terminal: one line for the images, one for each metric."""
    named = [name for name in ("seed", *DRAW_SETTINGS, "labels", "batch_size") if name in description]
    images = ", ".join(f"{name} {description[name]}" for name in named)
    lines = [
        f"{description['num_images']:,} images ({images}; {description['images']}) "
        f"against {description['num_reference']:,} real ones ({description['reference']})"
    ]
    for name, facts in description["metrics"].items():
        lines.append(f"{name}: " + "; ".join(f"{key} {value}" for key, value in facts.items()))
    return lines
