"""The whole run: import, prune, initialize, distil, evaluate, export, each stage resumable from the file it left.

A run folder belongs to one configuration. A finished run is not repeated, an unfinished one goes on, and a folder
that holds another configuration's run is refused, never overwritten.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from limbeck import devices, parallel
from limbeck.data.base import ImageSource
from limbeck.errors import UserError
from limbeck.evaluation.judgement import Judgement
from limbeck.evaluation.write_report import write_report
from limbeck.files import written_aside
from limbeck.importers.foreign import guesses
from limbeck.model import Model, Pair, load_native, save
from limbeck.pruning.pruner import SCORES
from limbeck.terminal import announce

if TYPE_CHECKING:
    from limbeck.distillation.distiller import Distiller
    from limbeck.loggers.base import RunLogger

STAGES = ("teacher", "pruned", "initialized", "student")
PRUNED, INITIALIZED, STUDENT = (f"{stage}.safetensors" for stage in STAGES[1:])
FINISHED = "report.json"


@dataclass(frozen=True)
class Pipeline:
    """One object per stage, in the order in which the pair passes them.

    distiller, loggers: make the stage and the loggers, because Lightning comes with them: see `entry.pipeline_of`.
    """

    data: ImageSource
    teacher: Callable[[], Model]
    pruning: Callable[[Pair, Path], Pair]
    initializer: Callable[[Pair], Pair]
    distiller: Callable[[], "Distiller"]
    judgement: Judgement
    loggers: Callable[[], Mapping[str, Callable[[Path], "RunLogger"]]]
    title: str
    resume: str = "auto"
    seed: int = 0

    def run(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Carry out what is still missing in `folder`. config: the resolved configuration, kept with the results."""
        if self._claimed(folder, yaml.safe_dump(config, sort_keys=False)):
            announce("finished", f"{folder / FINISHED} is there; nothing to do")
            return
        announce("device", devices.described())
        torch.manual_seed(self.seed)
        teacher = self._imported()
        self.judgement.check(teacher.generator, STAGES, self.data)
        distiller = self.distiller()
        distiller.check(teacher)
        pruned, initialized = self._prepared(teacher, folder)
        announce("distil", f"{distiller.kimg:g} kimg in batches of {distiller.batch_size}")
        loggers = [make(folder) for make in self.loggers().values()]
        pair = distiller(Pair(teacher, initialized), data=self.data, folder=folder, loggers=loggers)
        if parallel.rank() == 0:
            save(pair.student, folder / STUDENT)
        announce("evaluate", f"{self.judgement.protocol.num_images} images a model")
        stages = dict(zip(STAGES, (teacher, pruned, initialized, pair.student), strict=True))
        report = self.judgement(
            stages, data=self.data, config=config, folder=folder, title=self.title, tell=partial(announce, "")
        )
        if parallel.rank() == 0:
            from limbeck.loggers.base import log_rows

            log_rows(loggers, report.rows, kimg=distiller.kimg)
            write_report(report, folder)
            self.judgement.forget(folder)
        announce("done", f"{folder / 'report.html'}")

    def _claimed(self, folder: Path, config_text: str) -> bool:
        """Write config.yaml; True if the run is finished already."""
        if self.resume not in ("auto", "never"):
            raise UserError(f"resume={self.resume!r}: must be 'auto' or 'never'")
        path = folder / "config.yaml"
        if parallel.rank():
            return False
        if path.is_file():
            if self.resume == "never":
                raise UserError(f"resume=never, but {folder} holds a run already; choose another hydra.run.dir")
            if path.read_text() != config_text and any((folder / name).is_file() for name in (SCORES, PRUNED)):
                judging = f"; other metrics of its student: python evaluate.py model={folder} metric=[…]"
                raise UserError(
                    f"{folder} holds a run with another configuration; choose another hydra.run.dir"
                    + (judging if (folder / STUDENT).is_file() else "")
                )
            if (folder / FINISHED).is_file():
                return True
        with written_aside(path) as aside:
            aside.write_text(config_text)
        return False

    def _imported(self) -> Model:
        announce("import", "teacher")
        teacher = self.teacher()
        facts, generator = self.data.open(), teacher.generator
        for name, have in (("resolution", facts.resolution), ("num_channels", facts.num_channels)):
            if have != getattr(generator, name):
                guess = f" (a guess; say it with teacher.{name}={have})" if name in guesses(teacher.history) else ""
                stated = f"{getattr(generator, name)}{guess}"
                raise UserError(f"data and teacher differ in {name}: data {have}, teacher {stated}")
        if generator.num_classes > 1 and facts.num_classes != generator.num_classes:
            raise UserError(f"the teacher has {generator.num_classes} classes, the data {facts.num_classes}")
        return teacher

    def _prepared(self, teacher: Model, folder: Path) -> tuple[Model, Model]:
        """The pruned and the initialized student; made on the first process, read by the others."""
        pruned, initialized = folder / PRUNED, folder / INITIALIZED
        if parallel.rank() == 0 and not initialized.is_file():
            announce("prune")
            pair = self.pruning(Pair(teacher, teacher), folder)
            save(pair.student, pruned)
            announce("initialize")
            save(self.initializer(pair).student, initialized)
        parallel.wait_for(initialized)
        return load_native(pruned), load_native(initialized)
