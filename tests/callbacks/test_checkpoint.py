"""What is saved, what is never overwritten, and how a run ends when it is told to."""

import os
import signal

import pytest
import torch
from torch import nn

from limbeck.callbacks import checkpoint
from limbeck.callbacks.checkpoint import LAST, PREVIOUS, Checkpoint, not_finite, random_states
from limbeck.errors import UserError
from limbeck.stopping import SIGNALS

from .conftest import Counting, pl


class Checked(Counting):
    """Finite losses, and a weight that can be broken."""

    def __init__(self, generator, total_images):
        super().__init__(generator, None, total_images)
        self.weight = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("images", torch.zeros([], dtype=torch.int64))

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        self.images.fill_(self.images_seen)

    def check_finite(self):
        return {}


class Act(pl.Callback):
    """Calls a function in a step before the checkpoint sees it."""

    def __init__(self, images, function):
        self.images, self.function = images, function

    def on_train_batch_end(self, trainer, pl_module, *args):
        if pl_module.images_seen == self.images:
            self.function(pl_module)


@pytest.fixture
def module(generator):
    return Checked(generator(), 1_000)


def images(path):
    return int(torch.load(path, weights_only=True)["state_dict"]["images"])


def test_the_checkpoint_before_the_last_is_kept(train, module, tmp_path):
    train(module, Checkpoint(tmp_path, every_kimg=0.3))
    assert (images(tmp_path / PREVIOUS), images(tmp_path / LAST)) == (900, 1000)
    assert not list(tmp_path.glob(".*"))


def test_weights_that_are_no_numbers_never_overwrite_good_ones(train, module, tmp_path):
    breaks = Act(600, lambda m: m.weight.data.__setitem__(1, float("nan")))
    with pytest.raises(UserError, match=r"weight holds NaN or infinity.*last good checkpoint is kept"):
        train(module, breaks, Checkpoint(tmp_path, every_kimg=0.2))
    assert images(tmp_path / LAST) == 400


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_not_finite_names_the_tensor(value):
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert not_finite(module) is None
    module[0].weight.data.fill_(3e38)  # large is not infinite
    assert not_finite(module) is None
    module[1].running_var[1] = value
    assert not_finite(module) == "1.running_var"


def test_not_finite_looks_into_the_extra_state_of_terms():
    """DiME keeps running moments that way: a dict beside the tensors."""

    class Term(nn.Module):
        def __init__(self):
            super().__init__()
            self.moments = {"mean": torch.zeros(2), "count": 3}

        def get_extra_state(self):
            return self.moments

    module = nn.Sequential(Term())
    assert not_finite(module) is None
    module[0].moments["mean"][1] = float("nan")
    assert not_finite(module) == "0._extra_state.mean"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGUSR2, 143), (signal.SIGINT, 130)]
)
def test_a_signal_saves_and_ends_with_its_code(train, module, tmp_path, number, code, capsys):
    before = {n: signal.getsignal(n) for n in SIGNALS}
    with pytest.raises(SystemExit) as stop:
        train(module, Act(300, lambda m: os.kill(os.getpid(), number)), Checkpoint(tmp_path, every_kimg=10))
    assert stop.value.code == code
    assert images(tmp_path / LAST) == 300
    assert "the same command goes on" in capsys.readouterr().out
    assert {n: signal.getsignal(n) for n in SIGNALS} == before


def test_a_signal_during_the_last_save_is_not_lost(train, module, tmp_path, monkeypatch):
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *a: (save(*a), os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.raises(SystemExit) as stop:
        train(module, Checkpoint(tmp_path, every_kimg=10))
    assert stop.value.code == 143
    assert images(tmp_path / LAST) == 1000


def test_whoever_listened_to_sigusr2_before_hears_of_it_after_the_save(train, module, tmp_path):
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append((tmp_path / LAST).is_file()))
    try:
        with pytest.raises(SystemExit):
            train(module, Act(300, lambda m: os.kill(os.getpid(), signal.SIGUSR2)), Checkpoint(tmp_path, every_kimg=10))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard == [True]


def test_processes_without_a_saved_state_draw_streams_of_their_own(module, monkeypatch):
    drawn = []
    for rank in range(4):
        monkeypatch.setattr(checkpoint, "rank", lambda rank=rank: rank)
        torch.manual_seed(7)  # where all of them stand after the networks were built
        resumed = Checkpoint("unused", every_kimg=1, seed=7)
        resumed.load_state_dict({"random": [random_states(), random_states()]})
        resumed.on_train_batch_start(None, module, None, 0)
        drawn.append(float(torch.rand([])))
    assert len(set(drawn[1:])) == 3
