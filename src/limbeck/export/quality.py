"""How far an exported program is from its source: by pixels, and by the metrics of a protocol."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.architectures.base import Network
from limbeck.data.base import ImageSource
from limbeck.errors import UserError
from limbeck.evaluation.protocol import Protocol
from limbeck.evaluation.sampling import sample
from limbeck.export.base import Exporter, Program, standing_in
from limbeck.export.calibration import STEPS
from limbeck.model import Model

TRIAL_SEED = 2  # calibration has others
SOURCE = "source"  # what the names of the source's own values begin with


class Compared(Exporter):
    """A format whose images may differ from its source's: how far they do is stated, and too far is not kept.

    most: the largest values with which a file is kept, by name: `error` (root mean square difference to the source's
    images, as a share of these) or a metric's. num_images: of latents that no scale was found on, to measure `error`
    by. protocol: whose metrics judge the images; None for pixels only. data: for metrics that need real images.
    """

    def __init__(
        self,
        *,
        most: Mapping[str, float] | None = None,
        num_images: int = 64,
        protocol: Protocol | None = None,
        data: ImageSource | None = None,
    ) -> None:
        self.most, self.num_images, self.protocol, self.data = most or {}, num_images, protocol, data

    def quality(self, program: Program, network: Network, what: str | Path) -> dict[str, float]:
        """`error`, then the metrics, of a program beside its source.

        A denoiser's images are drawn in few steps; its estimates are no measure, as the last ones may be far off
        without a trace in the image. Metrics of pairs compare with the source's images of the same latents. With data
        the others are there too, and beside each, as `source/NAME`, what the source itself reaches.

        Raises: UserError if a value is above its limit, or one that has a limit is not there.
        """
        source, played = Model(network), Model(standing_in(program, network))
        how: dict[str, Any] = {"data": self.data, "steps": STEPS}
        expected, found = (sample(model, self.num_images, TRIAL_SEED, **how) for model in (source, played))
        values = {"error": ((found - expected).square().mean() / expected.square().mean()).sqrt().item()}
        known = {name: limit for name, limit in self.most.items() if name in values}
        _require(values, known, what)  # before hours of drawing
        if self.protocol is not None:
            values |= self.protocol(played, data=self.data, teacher=source)
            if self.data is not None:
                own = self.protocol(source, data=self.data)
                values |= {f"{SOURCE}/{name}": value for name, value in own.items()}
        _require(values, self.most, what)
        return values


def _require(values: Mapping[str, float], most: Mapping[str, float], what: str | Path) -> None:
    for name, limit in most.items():
        if name not in values:
            raise UserError(f"most.{name}: not measured; allowed: {', '.join(values)}")
        if not values[name] <= limit:
            raise UserError(f"{what}: not kept, its {name} is {values[name]:.3g}; most.{name} is {limit:.3g}")


def quality_lines(values: Mapping[str, float]) -> list[str]:
    """For a terminal: each value, beside the source's where that is known."""
    own = {name: value for name, value in values.items() if not name.startswith(f"{SOURCE}/")}
    width = max(map(len, own))
    return [
        f"{name:<{width}}  {value:.4g}"
        + (f"  (source {values[f'{SOURCE}/{name}']:.4g})" if f"{SOURCE}/{name}" in values else "")
        for name, value in own.items()
    ]
