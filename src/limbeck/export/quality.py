"""How far an exported program is from its source: by pixels, and by the metrics of a protocol."""

from collections.abc import Mapping
from pathlib import Path

from limbeck.architectures.base import Network
from limbeck.data.base import ImageSource
from limbeck.errors import UserError
from limbeck.evaluation.protocol import Protocol
from limbeck.evaluation.sampling import sample
from limbeck.export.base import Program, standing_in
from limbeck.export.calibration import STEPS
from limbeck.model import Model

TRIAL_SEED = 2  # calibration has others
SOURCE = "source"  # what the names of the source's own values begin with


def stated_quality(
    program: Program,
    network: Network,
    *,
    num_images: int,
    most: Mapping[str, float],
    protocol: Protocol | None,
    data: ImageSource | None,
    what: str | Path,
) -> dict[str, float]:
    """`error`, the root mean square difference of the images as a share of the source's own, then the metrics.

    num_images: of latents that no scale was found on, to measure `error` by. A denoiser's are drawn in few steps; its
    estimates are no measure, as the last ones may be far off without a trace in the image. Metrics of pairs compare
    with the source's images of the same latents. With `data` the others are there too, and beside each, as
    `source/NAME`, what the source itself reaches.

    Raises: UserError if a value is above its limit in `most`, or one that has a limit is not there.
    """
    source, played = Model(network), Model(standing_in(program, network))
    expected, found = (sample(model, num_images, TRIAL_SEED, data=data, steps=STEPS) for model in (source, played))
    values = {"error": ((found - expected).square().mean() / expected.square().mean()).sqrt().item()}
    _require(values, {name: limit for name, limit in most.items() if name in values}, what)  # before hours of drawing
    if protocol is not None:
        values |= protocol(played, data=data, teacher=source)
        if data is not None:
            values |= {f"{SOURCE}/{name}": value for name, value in protocol(source, data=data).items()}
    _require(values, most, what)
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
