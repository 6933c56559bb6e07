"""The stages that need a configuration, for Python callers: distil, evaluate and export, by the files of conf/."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.catalog import choices
from limbeck.configured import CONF, require_conf
from limbeck.data.base import ImageSource
from limbeck.entry import register_resolvers
from limbeck.errors import UserError
from limbeck.model import Model, Pair

if TYPE_CHECKING:
    from limbeck.evaluation.protocol import Protocol
    from limbeck.evaluation.report import Report
    from limbeck.export.base import Exporter

QUIET = {"callback": ["progress"], "logger": []}


def distil(
    teacher: Model,
    student: Model,
    data: ImageSource,
    *,
    kimg: float = 30,
    folder: str | Path | None = None,
    **settings: Any,
) -> Model:
    """The student after training with the teacher beside it: the moving average of its weights.

    settings: what the command line takes, as keywords or, where a name has a dot or slash, from a mapping:
    `experiment="quickstart"`, `batch_size=8`, `**{"loss/generator": ["nonsaturating", "pixel_l1"]}`. Without an
    experiment the family's own training with the defaults of conf/. folder: where checkpoints, samples and logs go, and
    from where an interrupted training goes on; None keeps nothing.

    Raises: UserError for an unknown setting or a value that cannot work, before training.
    """
    from hydra.utils import instantiate

    denoiser = "steps" in teacher.generator.draw_settings
    family = {"distillation": "diffusion"} if denoiser else {}
    first = {} if "experiment" in settings else {"experiment": "bare", **family}
    with _composed("train", {**first, **QUIET, "kimg": kimg, **settings}) as config, _folder(folder) as place:
        forget_unselected_callbacks(config, settings)
        distiller = instantiate(config.pipeline.distiller, _convert_="all")
        loggers = [make(place) for make in instantiate(config.logger, _convert_="all").values()]
        distiller.check(teacher, data)
        return distiller(Pair(teacher, student), data=data, folder=place, loggers=loggers).student


def evaluate(
    models: Mapping[str, Model],
    data: ImageSource,
    *,
    protocol: "str | Protocol" = "quick",
    folder: str | Path | None = None,
    **settings: Any,
) -> "Report":
    """Judge models by one protocol; the first is the one that the others are compared with.

    protocol: a line of `limbeck choices protocol`, or an object. settings: as on the command line, `metric=["fid"]` or
    `**{"protocol.num_images": 500}`. folder: for pictures, report.html, report.md and report.json; None keeps nothing.
    The result has `rows` with `num_parameters`, `macs`, `latency_ms` and `metrics`; `as_json()` is report.json.

    Raises: UserError for an unknown setting, too few images, or weights of a judge that are missing.
    """
    from hydra.utils import instantiate

    from limbeck.evaluation.judgement import Judgement
    from limbeck.evaluation.write_report import write_report

    if not models:
        raise UserError("models: empty; name at least one, e.g. {'teacher': teacher, 'student': student}")
    judged_by: Any = protocol
    if isinstance(protocol, str):
        with _composed("evaluate", {"protocol": protocol, **settings}) as config:
            judged_by = instantiate(config.protocol, _convert_="all")
    elif settings:
        raise UserError(f"{next(iter(settings))}: settings go with a protocol's name, not with an object")
    judgement = Judgement(judged_by)
    judgement.check(next(iter(models.values())).generator, list(models), data)
    with _folder(folder) as place:
        report = judgement(models, data=data, config={}, folder=place, title="Evaluation", tell=lambda line: None)
        if folder is None:
            return replace(report, rows=[replace(row, grid=None, grid_columns=0) for row in report.rows])
        write_report(report, place)
        judgement.forget(place)
        return report


def exporter_of(name: str, settings: Sequence[str] = ()) -> "Exporter":
    """What writes a format, a line of `limbeck choices export`. settings: KEY=VALUE of conf/export.yaml, as typed.

    Raises: UserError for an unknown format, setting or value.
    """
    import yaml
    from hydra.utils import instantiate

    allowed = [choice.name for choice in choices("export")]
    if name not in allowed:
        raise UserError(f"export={name}: unknown; allowed: {', '.join(allowed)}")
    given: dict[str, Any] = {"export": name}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: must be KEY=VALUE")
        given[key] = yaml.safe_load(value)
    with _composed("export", given) as config:
        return instantiate(config.export, _convert_="all")


def forget_unselected_callbacks(config: Any, settings: Mapping[str, Any]) -> None:
    """Drop what an experiment sets of callbacks that are not selected here; what `settings` name is refused later."""
    from omegaconf import open_dict

    for name in [name for name, node in config.callback.items() if "_target_" not in node]:
        if any(key.startswith(f"callback.{name}") for key in settings):
            continue
        with open_dict(config.callback):
            del config.callback[name]


@contextlib.contextmanager
def _composed(name: str, settings: Mapping[str, Any]) -> Iterator[Any]:
    """The configuration `name` with settings by key, whatever Hydra is doing in this process otherwise."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    require_conf()
    register_resolvers()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield compose(
                name, [f"{key}={_written(value)}" for key, value in settings.items()], return_hydra_config=True
            )
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(" ".join(str(error).split())) from error
    finally:
        GlobalHydra.instance().hydra = before


def _written(value: Any) -> str:
    """A Python value as Hydra's command line has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, str | Path):
        text = str(value)
        return text if text.replace("_", "").replace("/", "").isalnum() else '"' + text.replace('"', '\\"') + '"'
    return str(value)


@contextlib.contextmanager
def _folder(folder: str | Path | None) -> Iterator[Path]:
    if folder is not None:
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="limbeck-") as place:
        yield Path(place)
