"""Runs a criterion: step by step with a progress line, its state kept in a file from which it resumes exactly.

Several processes take a step each at a time. Their sums meet when the state is written and at the end, so that a file
holds whole rounds and says nothing of who made them.
"""

import contextlib
import json
import time
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from limbeck import parallel
from limbeck.errors import CheckpointError
from limbeck.files import written_aside
from limbeck.model import Model
from limbeck.processes import first_alone, met
from limbeck.pruning.criteria.base import SUM, Criterion, Part, Scores, State
from limbeck.stopping import Listening
from limbeck.terminal import LiveLine, announce, counted

FORMAT = "limbeck-scores-2"
SAVE_SECONDS = 30.0
MEASURES = "measures"


def worked(criterion: Criterion, model: Model, *, path: Path | None = None) -> State:
    """The criterion's state after its last step.

    Processes that have met (`processes.together`) share the steps out, and all call this; the first one writes.

    path: where the state is kept; a file left there by the same scoring is continued, by any number of processes. Told
    to stop, it is written after the step that is under way, and the process ends.

    Raises: CheckpointError if the file cannot be read, or holds another scoring.
    """
    total, first = criterion.num_steps, parallel.rank() == 0
    state, begun = _begun(criterion, model, path)
    done, line, saved = begun, LiveLine(done=begun), time.monotonic()
    listening, told = Listening(), 0
    with listening if path is not None else contextlib.nullcontext():
        while done < total and not told:
            due = time.monotonic() - saved > SAVE_SECONDS
            done, due, told = _round(criterion, model, state, done, due=due, listening=listening)
            if line.due():
                line.show(counted(done, total, line.rate(done), "steps"))
            if path is not None and due and done < total and not told:
                _meet(state)
                if first:
                    _write(path, state, done, total)
                _held_by_first(state)
                saved = time.monotonic()
        _meet(state)
        if path is not None and first and begun < done:
            _write(path, state, done, total)
        if told:
            announce("stopped", f"scored {done} of {total} steps; the same command goes on from there")
            listening.follow(told)
    if total and first:
        line.show(counted(done, total, line.rate(done), "steps"))
        line.end()
    return state


def scored(criterion: Criterion, model: Model, *, path: Path | None = None) -> Scores:
    """Scores of every channel group; see `worked`."""
    return criterion.scores(model, worked(criterion, model, path=path))


def add(state: State, part: Part) -> None:
    """Add what a step found to the sums of a state, in place."""
    for name, value in part.sums.items():
        state[SUM + name] = state[SUM + name].to(value.device).add_(value)


def _begun(criterion: Criterion, model: Model, path: Path | None) -> tuple[State, int]:
    """The state from which to go on, its sums on the first process alone, and how many steps are in it."""

    def begin() -> tuple[State, int]:
        criterion.check()
        if path is not None and path.is_file():
            return _read(path, criterion.num_steps)
        measures = torch.zeros(criterion.num_steps, dtype=torch.float64)
        return {**criterion.start(model), MEASURES: measures}, 0

    state, done = first_alone(begin)
    if met():  # another device or library may have started differently
        state = {name: value if name.startswith(SUM) else parallel.of_first(value) for name, value in state.items()}
        done = parallel.gathered(done)[0]
        _held_by_first(state)
    return state, done


def _round(
    criterion: Criterion, model: Model, state: State, done: int, *, due: bool, listening: Listening
) -> tuple[int, bool, int]:
    """A step on every process; how many are done then, all if no more are wanted, `due` of the first process, and what
    any process was told.
    """
    total, own = criterion.num_steps, parallel.rank() if met() else 0
    part = criterion.step(model, state, done + own) if done + own < total else Part({})
    said = torch.tensor([[part.measure, float(due), float(listening.told)]], dtype=torch.float64)
    said = parallel.rows_of_all(said) if met() else said
    due, told = bool(said[0, 1]), int(said[:, 2].max())
    for place, measure in enumerate(said[: total - done, 0]):
        state[MEASURES][done + place] = measure
        ended = criterion.ends(state[MEASURES][: done + place + 1])
        if place == own and (not ended or criterion.end_counts):
            add(state, part)
        if ended:
            return total, due, told
    return min(total, done + len(said)), due, told


def _meet(state: State) -> None:
    """Add the sums of all processes; every process has them then."""
    for name in sorted(state) if met() else ():
        if name.startswith(SUM):
            state[name] = parallel.summed(state[name].cpu())


def _held_by_first(state: State) -> None:
    """Leave the sums to the first process, so that they count once when processes meet next."""
    for name in state if met() and parallel.rank() else ():
        if name.startswith(SUM):
            state[name] = torch.zeros_like(state[name])


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
