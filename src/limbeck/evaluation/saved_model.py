"""Judging a model that was saved: what to compare it with, and the settings under which its run judged it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from limbeck.errors import UserError
from limbeck.importers.checkpoint import load
from limbeck.model import Model

OF_RUN = ("data", "protocol", "teacher")


def settings_of_run(composed: Any, overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of `composed` (a mapping), with data, protocol and teacher of the run whose folder is its "model".

    What `overrides` (as typed on the command line) say goes first: a whole group, or one value of it. Naming metrics
    or their embeddings replaces all metrics of the run.

    Raises: UserError if the run's config.yaml cannot be read.
    """
    settings = dict(composed)
    file = Path(str(composed["model"])) / "config.yaml"
    if not file.is_file():
        return settings
    try:
        saved = yaml.safe_load(file.read_text())
        settings |= {name: saved[name] for name in OF_RUN}
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"model={composed['model']}: not the folder of a run ({file.name}: {reason})") from error
    for key in (override.lstrip("+~").partition("=")[0] for override in overrides):
        group, _, rest = key.partition(".")
        if group in ("metric", "embeddings"):
            settings["protocol"] = {**settings["protocol"], "metrics": composed["protocol"]["metrics"]}
        elif group in ("data", "protocol"):
            settings[group] = (
                _with_value(settings[group], composed[group], rest.split(".")) if rest else composed[group]
            )
    return settings


def compared(
    model: str | None, *, reference: str | None = None, teacher: Callable[[], Model] | None = None
) -> dict[str, Model]:
    """The models to judge, by the name of their row: the teacher, if there is one, and the model.

    model: a run folder or a model file. reference: a model file; "auto" takes `teacher`, the run's own, if it has one;
    None compares with nothing.

    Raises: UserError if a file is missing or the two draw images of different shapes.
    """
    if model is None:
        raise UserError("model: not set; name a run folder or a model file with model=PATH")
    judged = load(model)
    if reference == "auto" and teacher is not None:
        try:
            compared_with = teacher()
        except UserError as error:
            raise UserError(f"{error}; or evaluate without teacher: reference=null") from error
    elif reference in (None, "auto"):
        return {"model" if teacher is None else "student": judged}
    else:
        compared_with = load(str(reference))
    shapes = [
        (m.generator.num_channels, m.generator.resolution, *m.generator.latent_shape) for m in (compared_with, judged)
    ]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"reference={reference}: channels, resolution, latent shape are {shapes[0]}, those of the model {shapes[1]}"
        )
    return {"teacher": compared_with, "student": judged}


def _with_value(target: Mapping[str, Any], source: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """`target` with the value that `source` has under the nested `keys`; without it where `source` has none."""
    changed, (key, *rest) = dict(target), keys
    if key not in source:
        changed.pop(key, None)
    elif rest and isinstance(changed.get(key), Mapping) and isinstance(source[key], Mapping):
        changed[key] = _with_value(changed[key], source[key], rest)
    else:
        changed[key] = source[key]
    return changed
