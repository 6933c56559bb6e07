"""Scoring in steps: resumed exactly, stopped early, never mixed with another scoring."""

import os
import signal

import pytest
import torch

from limbeck.architectures.stylegan2 import Generator
from limbeck.errors import CheckpointError
from limbeck.masks.everything import Everything
from limbeck.model import Model
from limbeck.pruning import scoring
from limbeck.pruning.criteria.base import Criterion, Part
from limbeck.pruning.criteria.cagan import CAGAN
from limbeck.pruning.criteria.dcp import DCP
from limbeck.pruning.scoring import scored, worked


class Killed(Exception):
    pass


class Counting(Criterion):
    """Adds the indices of its steps; can be killed in one, or say that it has seen enough."""

    def __init__(self, num_steps=6, killed_in=None, enough_after=None):
        self._num_steps, self.killed_in, self.enough_after = num_steps, killed_in, enough_after

    @property
    def num_steps(self):
        return self._num_steps

    def start(self, model):
        return {"sum.indices": torch.zeros([]), "sum.steps": torch.zeros([])}

    def step(self, model, state, index):
        if index == self.killed_in:
            raise Killed
        return Part({"indices": torch.tensor(float(index)), "steps": torch.ones([])}, measure=float(index))

    def ends(self, measures):
        return measures[-1] == self.enough_after

    def scores(self, model, state):
        return {"sum": state["sum.indices"], "steps": state["sum.steps"]}


def model():
    torch.manual_seed(0)
    return Model(Generator(resolution=8, widths=[4, 5, 6, 7], z_dim=8, w_dim=8, mapping_depth=1))


def test_every_step_runs_once():
    assert scored(Counting(), model()) == {"sum": torch.tensor(15.0), "steps": torch.tensor(6.0)}
    assert scored(Counting(enough_after=2), model()) == {"sum": torch.tensor(3.0), "steps": torch.tensor(3.0)}


@pytest.mark.parametrize("killed_in", [0, 1, 5])
def test_a_killed_scoring_goes_on_where_it_was(tmp_path, monkeypatch, killed_in):
    monkeypatch.setattr(scoring, "SAVE_SECONDS", -1.0)
    path = tmp_path / "scores.safetensors"
    with pytest.raises(Killed):
        worked(Counting(killed_in=killed_in), model(), path=path)
    assert path.exists() == (killed_in > 0)
    assert scored(Counting(), model(), path=path) == {"sum": torch.tensor(15.0), "steps": torch.tensor(6.0)}


class Signalled(Counting):
    """Is told to stop within a step."""

    def __init__(self, number, told_in):
        super().__init__()
        self.number, self.told_in = number, told_in

    def step(self, model, state, index):
        if index == self.told_in:
            os.kill(os.getpid(), self.number)
        return super().step(model, state, index)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR2, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("told_in", [0, 3, 5])
def test_told_to_stop_it_saves_the_step_and_goes_on_from_there(tmp_path, number, code, told_in, capsys):
    path, before = tmp_path / "scores.safetensors", signal.getsignal(number)
    with pytest.raises(SystemExit) as stop:
        worked(Signalled(number, told_in), model(), path=path)
    assert stop.value.code == code
    assert signal.getsignal(number) == before
    assert f"scored {told_in + 1} of 6 steps" in capsys.readouterr().out
    rest = Counting(killed_in=told_in)  # steps that are in the file are not taken again
    assert scored(rest, model(), path=path) == {"sum": torch.tensor(15.0), "steps": torch.tensor(6.0)}


def test_without_a_file_signals_are_left_alone():
    """In somebody's notebook nothing could be saved, and Ctrl-C must work at once."""
    with pytest.raises(KeyboardInterrupt):
        worked(Signalled(signal.SIGINT, 2), model())


def test_a_finished_scoring_is_not_repeated(tmp_path):
    path = tmp_path / "scores.safetensors"
    worked(Counting(enough_after=3), model(), path=path)
    assert scored(Counting(killed_in=0), model(), path=path)["steps"] == 4


def test_progress_is_told(capsys):
    worked(Counting(), model())
    assert "6/6 steps 100 %" in capsys.readouterr().out


@pytest.mark.parametrize(
    "criterion",
    [
        CAGAN(mask=Everything(), num_samples=7, batch_size=2),
        DCP(num_samples=7, batch_size=2, num_directions=2, num_pca=40),
    ],
)
def test_resumed_scores_are_equal_to_the_bit(tmp_path, monkeypatch, criterion):
    monkeypatch.setattr(scoring, "SAVE_SECONDS", -1.0)
    straight = scored(criterion, model())
    path, done = tmp_path / "scores.safetensors", []
    step = type(criterion).step

    def killed_in_the_third(self, *args):
        if len(done) == 2:
            raise Killed
        done.append(args)
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(type(criterion), "step", killed_in_the_third)
        with pytest.raises(Killed):
            scored(criterion, model(), path=path)
    torch.manual_seed(123)  # nothing may depend on the surrounding random state
    resumed = scored(criterion, model(), path=path)
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    assert all(score.abs().sum() > 0 for score in straight.values())


def test_another_scorings_file_is_refused(tmp_path):
    path = tmp_path / "scores.safetensors"
    worked(Counting(), model(), path=path)
    with pytest.raises(CheckpointError, match=r"scores.safetensors: holds another scoring .*expected 7 steps"):
        worked(Counting(num_steps=7), model(), path=path)
    path.write_bytes(b"\0" * 20)
    with pytest.raises(CheckpointError, match=r"scores.safetensors: unreadable scores .*remove the file"):
        worked(Counting(), model(), path=path)
