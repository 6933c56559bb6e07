"""Masks in training: zeros stay zero whatever the optimizer, precision and regime; AGP raises their share."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import limbeck
from limbeck.callbacks.checkpoint import Checkpoint
from limbeck.distillation.agp import GradualPruning
from limbeck.distillation.discriminators import Fresh
from limbeck.distillation.held_masks import HeldMasks
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.functional.sparsity import agp
from limbeck.model import Pair

from .test_diffusion import pair as denoisers
from .test_diffusion import trained
from .training import same, state

pl = imported("pytorch_lightning")
denoisers = denoisers  # a fixture


def sparse(pair, granularity="element", ratio=0.5) -> Pair:
    return replace(pair, student=limbeck.sparsify(pair.student, ratio=ratio, granularity=granularity))


def assert_held(network: nn.Module, masks) -> None:
    """Zero where the masks say so, bit for bit (no -0.0 either); not everywhere."""
    assert masks
    for name, mask in masks.items():
        weight = network.get_parameter(name).detach()
        assert not weight[~mask].abs().gt(0).any()
        assert not weight[~mask].signbit().any()
        assert weight[mask].abs().gt(0).float().mean() > 0.9


class Watching(pl.Callback):
    """Looks at the student after every step."""

    def __init__(self):
        self.zeros, self.seen = [], []

    def on_train_batch_end(self, trainer, module, *others):
        assert_held(module.student, module.masks.current())
        assert_held(module.ema, module.masks.current())
        self.seen.append(module.images_seen)
        self.zeros.append({name: float((~mask).float().mean()) for name, mask in module.masks.current().items()})


@pytest.mark.parametrize(
    "make",
    [
        lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, weight_decay=0.1),
        lambda p, lr: torch.optim.AdamW(p, lr=lr, betas=(0.9, 0.99), amsgrad=True),
    ],
    ids=["momentum", "adamw"],
)
def test_zeros_stay_zero_through_every_step_of_a_gan(train, pair, make):
    thin = sparse(pair)
    before = {name: mask.clone() for name, mask in thin.student.masks.items()}
    watching = Watching()
    module = train(Fresh()(pair), pair=thin, steps=4, make=make, callbacks=[watching], ema_half_life_kimg=0.004)
    assert len(watching.seen) == 4
    assert all(torch.equal(module.masks.current()[name], mask) for name, mask in before.items())
    assert not same(state(thin.student.generator), state(module.student))


def test_zeros_stay_zero_in_a_denoiser_and_in_bf16(denoisers):
    watching = Watching()
    trained(sparse(denoisers, "kernel"), steps=3, callbacks=[watching], precision="bf16-mixed")
    assert len(watching.seen) == 3


def test_switched_off_weights_do_not_count_in_the_length_of_a_gradient():
    network = nn.Linear(3, 2)
    mask = torch.tensor([[True, False, True], [False, True, True]])
    held = HeldMasks({"weight": mask})
    network(torch.ones(1, 3)).sum().backward()
    held.hold_gradients(network)
    assert torch.equal(network.weight.grad, mask.float())
    assert torch.equal(network.bias.grad, torch.ones(2))


def test_agp_follows_the_schedule_in_every_layer(train, pair):
    watching = Watching()
    companions = {"agp": GradualPruning(target=0.8, start=0.1, horizon=0.5, num_updates=4)}
    module = train(Fresh()(pair), steps=12, companions=companions, callbacks=[watching], ema_half_life_kimg=0.004)
    shares = [0, 0, 1 / 8, 2 / 8, 2 / 8, 3 / 8, *[0.5] * 6]  # of 12 steps; updates at eighths of the training
    expected = [agp(share, target=0.8, start=0.1) for share in shares]
    sizes = {layer.weight: module.student.get_parameter(layer.weight).numel() for layer in module.student.maskable()}
    for zeros, sparsity in zip(watching.zeros, expected, strict=True):
        assert zeros == pytest.approx({name: math.floor(sparsity * n + 1e-9) / n for name, n in sizes.items()})
    assert expected[-1] == 0.8


def test_what_agp_switches_off_never_returns_and_masks_of_the_student_stay(denoisers):
    start = sparse(denoisers, "filter", ratio=0.5)
    seen = []

    class Noting(pl.Callback):
        def on_train_batch_end(self, trainer, module, *others):
            seen.append(module.masks.current())

    trained(start, steps=8, companions={"agp": GradualPruning(target=0.9, num_updates=4)}, callbacks=[Noting()])
    seen.insert(0, dict(start.student.masks))
    for before, after in itertools.pairwise(seen):
        assert all((after[name] <= mask).all() for name, mask in before.items())


def test_masks_are_chosen_by_current_magnitudes(denoisers):
    companion = GradualPruning(target=0.5, start=0.25)
    network = denoisers.student.generator
    name = network.maskable()[0].weight
    with torch.no_grad():
        network.get_parameter(name).flatten()[:10] = 0.0  # a weight that happens to be zero is no masked one
    first = companion.masks_of(network, 0.25)
    with torch.no_grad():
        network.get_parameter(name)[~first[name]] = 0.0
    again = companion.masks_of(network, 0.25, first)
    assert torch.equal(first[name], again[name])
    more = companion.masks_of(network, 0.5, first)
    assert not (more[name] & ~first[name]).any()
    assert int((~more[name]).sum()) == math.floor(0.5 * first[name].numel())


class Killed(pl.Callback):
    def on_train_batch_end(self, trainer, module, *others):
        if module.images_seen == 16:
            raise InterruptedError


def test_a_run_with_agp_resumes_bit_for_bit(train, pair, tmp_path):
    def again(**settings):
        torch.manual_seed(3)
        companions = {"agp": GradualPruning(target=0.6, num_updates=5)}
        return train(Fresh()(pair), steps=8, companions=companions, noise="random", **settings)

    whole = again()
    with pytest.raises(InterruptedError):
        again(callbacks=[Checkpoint(tmp_path / "one", every_kimg=0.016), Killed()])
    resumed = again(
        callbacks=[Checkpoint(tmp_path / "other", every_kimg=1.0)], resume=(tmp_path / "one" / "last.ckpt", 4)
    )
    assert same(state(whole), state(resumed))
    assert any(name.startswith("masks.") for name in state(whole))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": 1.0}, r"target=1\.0"),
        ({"start": 0.7}, r"start=0\.7"),
        ({"horizon": 0}, "horizon=0"),
        ({"granularity": "pixel"}, "granularity='pixel': unknown; allowed: element"),
        ({"granularity": "2:4"}, r"^companion=agp: ratio=0\.05: granularity 2:4 switches off one half"),
        ({"num_updates": 0}, "num_updates=0"),
    ],
)
def test_wrong_settings_are_refused_when_the_run_is_checked(train, pair, settings, words):
    with pytest.raises(UserError, match=words):
        train(Fresh()(pair), companions={"agp": GradualPruning(**settings)})


def test_two_of_four_goes_at_once(train, pair):
    agp_at_once = GradualPruning(granularity="2:4", start=0.5)
    module = train(Fresh()(pair), steps=2, companions={"agp": agp_at_once}, callbacks=[Watching()])
    assert all(float(mask.float().mean()) == 0.5 for mask in module.masks.current().values())


def test_settings_for_a_companion_that_is_not_selected_are_refused(train, pair):
    with pytest.raises(UserError, match=r"companion\.agp: settings are given, but it is not among the selected"):
        train(Fresh()(pair), companions={"agp": {"target": 0.3}})


def test_companions_that_play_against_judges_need_some(denoisers):
    from limbeck.distillation.gates import Gates

    with pytest.raises(UserError, match="companion=gates: plays against discriminators"):
        trained(copy.deepcopy(denoisers), companions={"gates": Gates(optimizer=lambda p: torch.optim.Adam(p))})
