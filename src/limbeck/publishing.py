"""`limbeck publish`: a finished run as a folder that others can use, and from there, if asked, to a Hub.

The model card is made of report.json. Nothing is published without a note on the terms of the weights, and no path of
the machine on which the run took place.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from limbeck.errors import CheckpointError, UserError
from limbeck.evaluation.figures import short
from limbeck.files import folder_written_aside
from limbeck.importers.hub import PREFIX, WEIGHTS
from limbeck.model import Model, load_native

COSTS = {"parameters": "num_parameters", "MACs": "macs", "size MiB": "size_mib", "latency ms": "latency_ms"}
LICENCES = {"cc-by-4.0": "cc-by-4.0", "cc-by-3.0": "cc-by-3.0", "apache-2.0": "apache-2.0", "mit": "mit"}


def publish(run: str | Path, target: str, *, public: bool = False, terms: str = "") -> str:
    """Write the student of a finished run with its card to a folder, or to "hub:OWNER/NAME"; returns where it is.

    public: whether everyone may see it on the Hub. terms: of the weights, where their file states none.

    Raises: UserError if the run is not finished, its terms are unknown, the folder holds something, or the Hub refuses.
    """
    if not target.startswith(PREFIX):
        with folder_written_aside(target) as aside:
            write_folder(Path(run), aside, name=f"{Path(target).name}/{WEIGHTS}", terms=terms)
        return target
    name = target.removeprefix(PREFIX)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"{target}: must be hub:OWNER/NAME")
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(run), Path(folder), name=target, terms=terms)
        return upload(Path(folder), name, public=public)


def write_folder(run: Path, folder: Path, *, name: str, terms: str = "") -> None:
    """README.md, model.safetensors, report.json and pictures. Raises: UserError as `publish`."""
    report, model = finished(run)
    note = model.terms or terms
    if not note:
        raise UserError(
            f"{run}: the student's file states no terms of its weights; say what they are with --terms TEXT"
        )
    shutil.copyfile(run / "student.safetensors", folder / WEIGHTS)
    pictures = [f"samples/{row['name']}.png" for row in report["rows"]]
    there = [picture for picture in pictures if (run / picture).is_file()]
    for picture in there:
        (folder / picture).parent.mkdir(exist_ok=True)
        shutil.copyfile(run / picture, folder / picture)
    (folder / "report.json").write_text(json.dumps(without_paths(report), indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text("\n".join(card(report, model, there, name, note)) + "\n", encoding="utf-8")


def finished(run: Path) -> tuple[dict[str, Any], Model]:
    """report.json and the student. Raises: UserError if either is missing or unreadable."""
    try:
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
        rows = report["rows"]
    except FileNotFoundError as error:
        raise UserError(f"{run}: not a finished run, there is no report.json") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run}/report.json: not a report ({' '.join(str(error).split())})") from error
    if not rows:
        raise UserError(f"{run}/report.json: no rows")
    try:
        return report, load_native(run / "student.safetensors")
    except CheckpointError as error:
        raise UserError(str(error)) from error


def card(report: Mapping[str, Any], model: Model, pictures: list[str], name: str, terms: str) -> Iterator[str]:
    """The lines of README.md. name: what a user loads."""
    base = next((entry["hub"] for entry in model.history if "hub" in entry), None)
    facts: dict[str, Any] = {
        "library_name": "limbeck",
        "tags": ["limbeck", "pruning", "distillation", model.generator.family],
    }
    known = next((licence for words, licence in LICENCES.items() if terms.lower().startswith(words)), None)
    facts |= {"license": known} if known else {"license": "other", "license_name": "terms-of-the-teacher"}
    yield from (
        "---",
        yaml.safe_dump(facts | ({"base_model": base} if base else {}), sort_keys=False).rstrip(),
        "---",
        "",
    )
    yield f"# A compressed {model.generator.family} generator"
    yield ""
    yield f"Pruned and distilled by Limbeck. **Terms of the weights:** {terms}"
    yield from ("", "```python", "import limbeck", "")
    yield f'model = limbeck.load("{name}")'
    yield from ("images = limbeck.sample(model, 16, seed=0)  # [16, channels, height, width] in [-1, 1]", "```", "")
    yield from table(report["rows"])
    for picture in pictures:
        yield from ("", f"**{Path(picture).stem}**", "", f"![{Path(picture).stem}]({picture})")
    yield from ("", "## How the numbers were measured", "")
    yield from (f"- {key}: {_words(value)}" for key, value in report["protocol"].items())
    yield from ("", "## What happened to the weights", "")
    yield from (f"{i}. {_words(dict(entry))}" for i, entry in enumerate(without_paths(list(model.history)), 1))


def table(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    """One line per row."""
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    yield "| " + " | ".join(["model", *COSTS, *metrics]) + " |"
    yield "| --- |" + " ---: |" * (len(COSTS) + len(metrics))
    for row in rows:
        values = [short(row.get(key)) for key in COSTS.values()] + [short(row["metrics"].get(key)) for key in metrics]
        yield "| " + " | ".join([row["name"], *values]) + " |"


def without_paths(value: Any) -> Any:
    """The same with every absolute path, or path from the home folder, cut to its last part."""
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item) for item in value]
    if isinstance(value, str) and (
        value.startswith("~") or Path(value).is_absolute() or re.match(r"[A-Za-z]:\\", value)
    ):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value


def upload(folder: Path, name: str, *, public: bool) -> str:
    """Send a folder to the Hub of HF_ENDPOINT, as the user of `hf auth login` or HF_TOKEN; returns its address."""
    import huggingface_hub

    try:
        hub = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=os.environ.get("HF_TOKEN"))
        hub.create_repo(name, private=not public, exist_ok=True)
        hub.upload_folder(folder_path=folder, repo_id=name, commit_message="A student of Limbeck")
    except Exception as error:  # no network, no token, no right: dozens of types
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"hub:{name}: not published ({type(error).__name__}: {reason})") from error
    return f"{hub.endpoint}/{name}"


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
