"""Runs a criterion: step by step with a progress line, its state kept in a file from which it resumes exactly."""

import json
import time
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from limbeck.errors import CheckpointError
from limbeck.files import written_aside
from limbeck.model import Model
from limbeck.pruning.criteria.base import Criterion, Scores, State
from limbeck.terminal import LiveLine, counted

FORMAT = "limbeck-scores-1"
SAVE_SECONDS = 30.0


def worked(criterion: Criterion, model: Model, *, path: Path | None = None) -> State:
    """The criterion's state after its last step.

    path: where the state is kept; a file left there by the same scoring is continued.

    Raises: CheckpointError if the file cannot be read, or holds another scoring.
    """
    criterion.check()
    total = criterion.num_steps
    if path is not None and path.is_file():
        state, done = _read(path, total)
    else:
        state, done = criterion.start(model), 0
    line, saved = LiveLine(done=done), time.monotonic()
    while done < total:
        wanted = criterion.step(model, state, done)
        done = done + 1 if wanted else total
        if line.due():
            line.show(counted(done, total, line.rate(done), "steps"))
        if path is not None and (done == total or time.monotonic() - saved > SAVE_SECONDS):
            _write(path, state, done, total)
            saved = time.monotonic()
    if total:
        line.show(counted(done, total, line.rate(done), "steps"))
        line.end()
    return state


def scored(criterion: Criterion, model: Model, *, path: Path | None = None) -> Scores:
    """Scores of every channel group; see `worked`."""
    return criterion.scores(model, worked(criterion, model, path=path))


def _write(path: Path, state: State, done: int, total: int) -> None:
    header = {"limbeck": json.dumps({"format": FORMAT, "done": done, "total": total})}
    tensors: dict[str, Tensor] = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with written_aside(path) as aside:
        safetensors.torch.save_file(tensors, aside, metadata=header)


def _read(path: Path, total: int) -> tuple[State, int]:
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("limbeck", "{}"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (safetensors.SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: unreadable scores ({' '.join(str(error).split())}); remove the file") from error
    if header.get("format") != FORMAT or header.get("total") != total:
        raise CheckpointError(f"{path}: holds another scoring ({header}, expected {total} steps); remove the file")
    return state, header["done"]
