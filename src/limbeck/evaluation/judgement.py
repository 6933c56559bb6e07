"""From the models of a run to the rows of its report: cost, metrics under one protocol, pictures."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck import devices, parallel
from limbeck.architectures.base import Network
from limbeck.data.base import ImageSource
from limbeck.errors import UserError
from limbeck.evaluation.image_store import ImageStore
from limbeck.evaluation.objective import STUDENT, check_objectives
from limbeck.evaluation.protocol import Protocol
from limbeck.evaluation.report import SOURCE_PICTURE, STAGES_PICTURE, TARGET_PICTURE, Report, Row
from limbeck.evaluation.samples import Progress
from limbeck.evaluation.sampling import from_eight_bits, sample, stages
from limbeck.evaluation.shipped import shipped_latencies
from limbeck.evaluation.versions import versions
from limbeck.export.runtimes import Runtime
from limbeck.files import written_aside
from limbeck.images import image_grid
from limbeck.model import Model
from limbeck.profiling import Latency, latencies, profile, size_mib, sparsity
from limbeck.terminal import LiveLine, counted

PICTURES, DRAWN = "samples", "samples/drawn"
NUM_STAGES = 10


@dataclass(frozen=True)
class Judgement:
    """Judges every stage by the same protocol in the same process.

    num_pictures: images per model in the report, drawn from the same latents for all.
    runtimes: in which the networks are timed as they would be shipped, by any name.
    measured: stages whose metrics are wanted, e.g. ["student"] where the others are known from another run; None for
        all. Costs and pictures are there for every stage.
    objective: names of what a search looks for, see `evaluation.objective`; None outside of one.
    """

    protocol: Protocol
    num_pictures: int = 16
    picture_seed: int = 0
    measured: Sequence[str] | None = None
    objective: Any = None
    runtimes: Mapping[str, Runtime] = field(default_factory=dict)

    def check(self, generator: Network, stages: Sequence[str], data: ImageSource | None = None) -> None:
        """Find out before hours of training whether the evaluation can work. Raises: UserError naming what is wrong."""
        unknown = sorted(set(self.measured or ()) - set(stages))
        if unknown:
            raise UserError(f"pipeline.judgement.measured: no stage {unknown[0]!r}; allowed: {', '.join(stages)}")
        judged = self.measured is None or STUDENT in self.measured
        check_objectives(self.objective, self.protocol.ranks() if judged else {})
        self.protocol.check(generator, data)

    def __call__(
        self,
        stages: Mapping[str, Model],
        *,
        data: ImageSource,
        config: Mapping[str, Any],
        folder: Path,
        title: str,
        tell: Callable[[str], None] = print,
    ) -> Report:
        """One row per stage that changed the model; the first stage is the one compared with."""
        device = devices.device()
        models, rows, store = distinct(stages), [], ImageStore(folder / DRAWN)
        timings = latencies([model.generator.to(device).eval() for model in models.values()])
        shipped, notes = shipped_latencies(models, list(self.runtimes.values())) if parallel.rank() == 0 else ({}, [])
        for (name, model), timing in zip(models.items(), timings, strict=True):
            row = self._row(name, model, timing, stages, data, store, folder, device)
            rows.append(replace(row, latencies=tuple(shipped.get(name, ()))))
            if rows[-1].metrics:
                tell(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].metrics.items()))
        if parallel.rank() == 0:
            self._picture_stages(models, data, folder / STAGES_PICTURE)
            self._picture_given(next(iter(models.values())).generator, data, folder)
        generator = next(iter(models.values())).generator
        return Report(
            rows=rows,
            protocol=self.protocol.describe(data, generator),
            config=dict(config),
            versions=versions(),
            title=title,
            notes=(*generator.cost_notes(**self.protocol.how(generator)), *notes),
        )

    def forget(self, folder: Path) -> None:
        """Remove what an interrupted evaluation would have gone on from."""
        ImageStore(folder / DRAWN).clear()

    def _row(
        self, name: str, model: Model, timing: Latency, stages: Mapping[str, Model], data, store, folder: Path, device
    ) -> Row:
        reference_name, reference = next(iter(stages.items()))
        generator = model.generator.to(device).eval()
        cost, sparse = profile(generator), sparsity(model)
        teacher = None if name == reference_name else reference
        metrics: dict[str, float] = {}
        if self.measured is None or name in self.measured:
            with progress_of(name) as on_progress:
                metrics = self.protocol(
                    model, data=data, teacher=teacher, device=device, store=store, on_progress=on_progress
                )
        picture = folder / PICTURES / f"{name}.png"
        if parallel.rank() == 0:
            images = sample(model, self.num_pictures, seed=self.picture_seed, data=data, **self._how())
            with written_aside(picture) as aside:
                image_grid(images, columns=self._columns).save(aside, format="PNG")
        return Row(
            name=name,
            num_parameters=cost.num_parameters,
            macs=cost.macs,
            filter_macs=cost.filter_macs,
            size_mib=sparse.size_mib if sparse else size_mib(generator),
            latency_ms=timing.latency_ms,
            metrics=metrics,
            grid=picture,
            history=model.history,
            terms=model.terms,
            latency_spread=timing.spread,
            grid_columns=self._columns,
            sparsity=sparse.layers if sparse else {},
            num_effective=sparse.num_effective if sparse else cost.num_parameters,
        )

    @property
    def _columns(self) -> int:
        return max(self.num_pictures // 2, 1)

    def _how(self) -> dict[str, Any]:
        """The protocol's settings except for injected noise, which would hide differences between pictures."""
        return {name: value for name, value in self.protocol.how().items() if name != "noise"}

    def _picture_given(self, generator: Network, data: ImageSource, folder: Path) -> None:
        """What a network that draws from images was given, and where the data know it what is wanted, as large."""
        if generator.draws_from != "images":
            return
        for images, path in ((data.sources(), SOURCE_PICTURE), (data.targets(), TARGET_PICTURE)):
            if images is not None:
                pixels = from_eight_bits(images.batch(np.arange(self.num_pictures))[0])
                zoom = max(generator.resolution // pixels.shape[-1], 1)
                pixels = pixels.repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
                with written_aside(folder / path) as aside:
                    image_grid(pixels, columns=self._columns).save(aside, format="PNG")

    def _picture_stages(self, models: Mapping[str, Model], data: ImageSource, path: Path) -> None:
        """One row per model: how its first picture comes to be, if it takes several passes."""
        how = {"seed": self.picture_seed, "data": data, **self._how()}
        rows = [stages(model, NUM_STAGES, **how) for model in models.values()]
        found = [row.cpu() for row in rows if row is not None]
        if found:
            with written_aside(path) as aside:
                image_grid(torch.cat(found), columns=NUM_STAGES).save(aside, format="PNG")


@contextlib.contextmanager
def progress_of(name: str) -> Iterator[Progress]:
    """A line about an evaluation that lasts. name: of the model."""
    lines: dict[str, LiveLine] = {}
    shown = []

    def told(what: str, done: int, total: int) -> None:
        line = lines.setdefault(what, LiveLine())
        if line.due():
            line.show(f"{name}, {what}: {counted(done, total, line.rate(done), 'images')}")
            shown.append(line)

    yield told
    if shown:
        shown[-1].end()


def distinct(stages: Mapping[str, Model]) -> dict[str, Model]:
    """The stages without those that left the model before them as it was; first and last always stay."""
    kept: dict[str, Model] = {}
    last = list(stages)[-1]
    for name, model in stages.items():
        if not kept or name == last or not same_weights(model, list(kept.values())[-1]):
            kept[name] = model
    return kept


def same_weights(a: Model, b: Model) -> bool:
    """Whether two generators have the same shapes and values."""
    left, right = a.generator.state_dict(), b.generator.state_dict()
    return left.keys() == right.keys() and all(
        left[name].shape == right[name].shape and torch.equal(left[name].cpu(), right[name].cpu()) for name in left
    )
