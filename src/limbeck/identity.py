"""What makes two runs the same run: what changes the student, told apart from where it runs and what is told of it.

A run folder is taken over by the same run alone. Devices, workers, loggers and callbacks that only watch are no part of
it, nor are the metrics, which judge a student that is there; files count by what is in them, wherever they lie.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.errors import UserError
from limbeck.files import written_aside
from limbeck.kinds import leaves

FILE = "identity.json"  # content of the run's files, beside config.yaml
# Top-level keys: of hardware and of what is told; and those that other keys repeat.
WATCHING = (
    "trainer",
    "logger",
    "resume",
    "run_name",
    "checkpoint_kimg",
    "title",
    "recipe",
    "forecast_steps",
    "objective",
)
REPEATED = ("embeddings", "allocation", "mask", "latency", "pipeline", "hydra")
MEASURING = "pruning.latency"  # where a network is timed, not what it may take
JUDGING = ("metric", "protocol", "runtime")
WATCHING_NAMES = ("num_workers", "log_every_kimg", "log_every_seconds")  # wherever they stand
PATHS = ("path", "trunk_path", "sparse")  # of files that count by content
WATCHING_CALLBACKS = "limbeck.callbacks."
SEVERAL = ("loss.generator", "loss.discriminator", "companion", "callback", "metric", "protocol.metrics")
ABSENT = object()

Content = Mapping[str, str]


def counted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting that changes the student, by its dotted key."""
    callbacks = settings.get("callback") or {}
    watching = {n for n, node in callbacks.items() if str((node or {}).get("_target_")).startswith(WATCHING_CALLBACKS)}
    tree = {k: node for k, node in settings.items() if k not in (*WATCHING, *REPEATED, *JUDGING)}
    tree["callback"] = {name: node for name, node in callbacks.items() if name not in watching}
    found = {key: value for key, value in leaves(tree) if key.rpartition(".")[2] not in WATCHING_NAMES}
    return {key: value for key, value in found.items() if not key.startswith(MEASURING)}


def judged(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting that changes the report of one and the same student."""
    return dict(leaves({key: settings.get(key) for key in JUDGING}))


def file_content(settings: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of every file that a counted setting names, by its key; teacher and data have digests of their own."""
    named = {k: v for k, v in counted(settings).items() if _content_of(k) == k and isinstance(v, str)}
    found = {}
    for key, value in named.items():
        if Path(value).is_file():
            with open(value, "rb") as file:
                found[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def difference(
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    default: Mapping[str, Any],
    content: tuple[Content, Content] | None = None,
) -> tuple[str, Any, Any] | None:
    """The first key in which two runs differ, with both values; None for the same run.

    saved, now, default: `counted` or `judged`. A key that the saved run does not have, because it is newer, is equal at
    its `default`. content: digests of the saved run's files and of these, under "teacher", "data" or the key that names
    the file; None while they are not known, when such keys are passed over.
    """
    for key in dict.fromkeys((*now, *saved)):
        before, after = saved.get(key, ABSENT), now.get(key, ABSENT)
        if before == after or (before is ABSENT and after == default.get(key, ABSENT) and _only_newer(key, saved)):
            continue
        name = _content_of(key)
        if name and (content is None or (name in content[0] and content[0][name] == content[1].get(name))):
            continue
        return key, "not set" if before is ABSENT else before, "not set" if after is ABSENT else after
    for name in content[1] if content else ():
        before, after = (digests.get(name) for digests in content or ())
        if before is not None and before != after:
            return name, f"content {before[:12]}…", f"content {str(after)[:12]}…"
    return None


def _only_newer(key: str, saved: Mapping[str, Any]) -> bool:
    """Whether a setting is missing in a run because its program did not know it, and not because nobody chose it."""
    group = next((group for group in SEVERAL if key.startswith(f"{group}.")), None)
    if group is None:
        return True
    chosen = f"{group}.{key.removeprefix(f'{group}.').partition('.')[0]}."
    return any(other.startswith(chosen) for other in saved)


def _content_of(key: str) -> str | None:
    """Under which name the content is known that this setting points at."""
    name = key.rpartition(".")[2]
    for model in ("teacher", "student"):
        if key.startswith(f"{model}."):
            return model
    if key.startswith("data."):
        return "data" if name in (*PATHS, "_target_", "prefix") else None
    return key if name in PATHS else None


def read_content(folder: Path) -> Content:
    """What `write_content` left in a run folder; empty where there is nothing."""
    try:
        return json.loads((folder / FILE).read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(
            f"{folder / FILE}: unreadable ({error}); remove it to compare paths instead of contents"
        ) from error


def write_content(folder: Path, content: Content) -> None:
    with written_aside(folder / FILE) as aside:
        aside.write_text(json.dumps(dict(content), indent=1, sort_keys=True) + "\n")
