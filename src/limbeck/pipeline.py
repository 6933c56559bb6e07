"""The whole run: import, prune, initialize, distil, evaluate, export, each stage resumable from the file it left.

A run folder belongs to one configuration. A finished run is not repeated, an unfinished one goes on, and a folder
that holds another configuration's run is refused, never overwritten.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from limbeck import devices, parallel
from limbeck.architectures.base import Network
from limbeck.data.base import ImageSource
from limbeck.errors import UserError
from limbeck.files import remove_leftovers, written_aside
from limbeck.forecast import costs, expected
from limbeck.identity import counted, difference, file_content, judged, read_content, write_content
from limbeck.importers.foreign import guesses
from limbeck.lock import locked
from limbeck.model import Model, Pair, digest, load_native, save
from limbeck.processes import decided, first_alone
from limbeck.pruning.given import Given
from limbeck.pruning.pruner import SCORES
from limbeck.pruning.stage import PruningStage
from limbeck.terminal import announce

if TYPE_CHECKING:
    from limbeck.distillation.distiller import Distiller
    from limbeck.evaluation.judgement import Judgement
    from limbeck.loggers.base import RunLogger

STAGES = ("teacher", "pruned", "initialized", "student")
PRUNED, INITIALIZED, STUDENT = (f"{stage}.safetensors" for stage in STAGES[1:])
FINISHED, CONFIG = "report.json", "config.yaml"


@dataclass(frozen=True)
class Pipeline:
    """One object per stage, in the order in which the pair passes them.

    distiller, judgement, loggers: make them, because Lightning and torchmetrics come with them, and with these half
    of all imports: see `entry.pipeline_of`. forecast_steps: of training, timed first to say how long all will take.
    student: takes the place of pruning where it names a file.
    """

    data: ImageSource
    teacher: Callable[[], Model]
    pruning: PruningStage
    initializer: Callable[[Pair], Pair]
    distiller: Callable[[], "Distiller"]
    judgement: Callable[[], "Judgement"]
    loggers: Callable[[], Mapping[str, Callable[[Path], "RunLogger"]]]
    title: str
    resume: str = "auto"
    seed: int = 0
    forecast_steps: int = 0
    student: Given = field(default_factory=Given)

    @property
    def shaping(self) -> PruningStage:
        """What makes the student: pruning, or the file that holds one."""
        return self.pruning if self.student.path is None else self.student

    def run(self, folder: Path, config: Mapping[str, Any], default: Mapping[str, Any] | None = None) -> None:
        """Carry out what is still missing in `folder`.

        config: the resolved configuration, kept with the results. default: that of the same choices without any value
        set by hand, at which settings that an older run does not have are equal; `config` itself if nothing was set.
        """
        default = config if default is None else default
        if decided(lambda: self._finished(folder, config, default)):
            announce("finished", f"{folder / FINISHED} is there; nothing to do")
            return
        with contextlib.ExitStack() as held:
            decided(lambda: held.enter_context(locked(folder)))
            announce("device", devices.described())
            torch.manual_seed(self.seed)
            teacher = first_alone(self._imported)
            if decided(lambda: self._claimed(folder, config, default, teacher)):
                announce("finished", f"{folder / FINISHED} is there; nothing to do")
                return
            self._carry_out(folder, config, teacher)

    def _carry_out(self, folder: Path, config: Mapping[str, Any], teacher: Model) -> None:
        judgement = first_alone(self.judgement)
        first_alone(lambda: judgement.check(teacher.generator, STAGES, self.data))
        distiller = first_alone(self.distiller)
        first_alone(lambda: distiller.check(teacher, self.data))
        loggers = first_alone(lambda: [make(folder) for make in self.loggers().values()])
        if self.forecast_steps and not (folder / INITIALIZED).is_file():
            decided(lambda: self._forecast(teacher))
        pruned, initialized = self._prepared(teacher, folder)
        announce("distil", f"{distiller.kimg:g} kimg in batches of {distiller.batch_size}")
        pair = distiller(Pair(teacher, initialized), data=self.data, folder=folder, loggers=loggers)
        if parallel.rank() == 0:
            save(pair.student, folder / STUDENT)
        announce("evaluate", f"{judgement.protocol.num_images} images a model")
        stages = dict(zip(STAGES, (teacher, pruned, initialized, pair.student), strict=True))
        report = judgement(
            stages, data=self.data, config=config, folder=folder, title=self.title, tell=partial(announce, "")
        )
        if parallel.rank() == 0:
            from limbeck.evaluation.write_report import write_report
            from limbeck.loggers.base import log_rows

            log_rows(loggers, report.rows, kimg=distiller.kimg)
            write_report(report, folder)
            judgement.forget(folder)
        announce("done", f"{folder / 'report.html'}")

    def _finished(self, folder: Path, config: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
        """Whether nothing is left to do. Raises: UserError if the folder is another run's, as far as settings tell."""
        if self.resume not in ("auto", "never"):
            raise UserError(f"resume={self.resume!r}: must be 'auto' or 'never'")
        saved = saved_settings(folder)
        if saved is None:
            return False
        if self.resume == "never":
            raise UserError(f"resume=never, but {folder} holds a run already; choose another hydra.run.dir")
        if not begun(folder):
            return False
        settings = [counted(node) for node in (saved, config)]
        refuse_other(folder, difference(*settings, default=counted(default)))
        if not (folder / FINISHED).is_file():
            return False
        refuse_other(folder, difference(judged(saved), judged(config), default=judged(default)))
        return difference(*settings, default=counted(default), content=({}, {})) is None  # no file is elsewhere

    def _claimed(self, folder: Path, config: Mapping[str, Any], default: Mapping[str, Any], teacher: Model) -> bool:
        """Make the folder this run's; whether it is finished already, under other names of its files.

        Raises: UserError if the folder is another run's, by the content of its files.
        """
        remove_leftovers(folder)
        saved = saved_settings(folder)
        content = {"teacher": digest(teacher), "data": self.data.digest(), **file_content(config)}
        if self.student.path is not None:
            content["student"] = digest(self.student(Pair(teacher, teacher)).student)
        if saved is not None and begun(folder):
            contents = (read_content(folder), content)
            refuse_other(
                folder, difference(counted(saved), counted(config), default=counted(default), content=contents)
            )
            if (folder / FINISHED).is_file():
                return True
            before, now = ((node.get("trainer") or {}).get("precision") for node in (saved, config))
            if before != now and (folder / "checkpoints").is_dir():
                announce("note", f"goes on with trainer.precision={now}, began with {before}")
        with written_aside(folder / CONFIG) as aside:
            aside.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        write_content(folder, content)
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
        self._check_sources(generator)
        return teacher

    def _check_sources(self, generator: Network) -> None:
        """Whether the data hold what a network starts from that draws from images."""
        if generator.draws_from != "images":
            return
        found, wanted = tuple(self.data.sources().batch(np.arange(1))[0].shape[1:]), generator.latent_shape
        if found[0] != wanted[0] or (found != wanted and not generator.any_size):
            raise UserError(f"data and teacher differ in the images to start from: data {found}, teacher {wanted}")

    def _forecast(self, teacher: Model) -> None:
        """Say what the student will cost, and its training."""
        student = self.shaping.sketched(Pair(teacher, teacher)).student
        distiller = self.distiller()
        pace = distiller.timed(Pair(teacher, student), data=self.data, num_steps=self.forecast_steps)
        announce("forecast", "; ".join((costs(teacher, student), *expected(pace, distiller.kimg, self.forecast_steps))))

    def _prepared(self, teacher: Model, folder: Path) -> tuple[Model, Model]:
        """The pruned and the initialized student; scored by all processes that have met, made by the first."""
        pruned, initialized = folder / PRUNED, folder / INITIALIZED
        if decided(lambda: not initialized.is_file()):
            announce("prune" if self.student.path is None else "read")
            pair = self.shaping(Pair(teacher, teacher), folder)

            def made() -> None:
                save(pair.student, pruned)
                announce("initialize")
                save(self.initializer(pair).student, initialized)

            decided(made)
        parallel.wait_for(initialized)
        return load_native(pruned), load_native(initialized)


def saved_settings(folder: Path) -> dict[str, Any] | None:
    """The configuration that a run left in its folder. Raises: UserError if it cannot be read."""
    path = folder / CONFIG
    if not path.is_file():
        return None
    try:
        saved = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path}: unreadable ({' '.join(str(error).split())})") from error
    if not isinstance(saved, dict):
        raise UserError(f"{path}: not the configuration of a run")
    return saved


def begun(folder: Path) -> bool:
    """Whether a run has left something that another one could take for its own."""
    return any((folder / name).is_file() for name in (SCORES, PRUNED, FINISHED))


def refuse_other(folder: Path, found: tuple[str, Any, Any] | None) -> None:
    """Raises: UserError naming the key that differs, if one does."""
    if found is not None:
        key, before, now = found
        judging = f"; other metrics of its student: python evaluate.py model={folder} metric=[…]"
        raise UserError(
            f"{folder} holds a run with another configuration: {key}={now} here, {before} there; choose another "
            f"hydra.run.dir{judging if (folder / STUDENT).is_file() else ''}"
        )
