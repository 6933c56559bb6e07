"""Tickets: what is drawn, what is trained, what a file holds. Numbers are counted in the paper's fact sheet."""

import copy
import math

import pytest
import torch
from torch import nn

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.architectures.residual_generator import gfmn, sngan
from limbeck.architectures.ticket import Ticket, seeded_state
from limbeck.errors import CheckpointError, UserError
from limbeck.functional.sparsity import num_kept, pooled_masks
from limbeck.model import Model, Pair
from limbeck.pruning.settling import deployable
from limbeck.pruning.ticket import TicketStart

SMALL = {"resolution": 8, "width": 12, "z_dim": 6}


def small(make=sngan, **settings) -> Ticket:
    return Ticket.of(make(**SMALL), **{"keep_ratio": 0.3, **settings}).eval()


def kept(masks, ending):
    return sum(int(mask.sum()) for name, mask in masks.items() if name.endswith(ending))


@pytest.mark.parametrize(
    ("name", "weights", "biases", "kept_weights", "kept_biases"),
    [("sngan_64", 5_511_936, 7_171, 551_201, 723), ("resnet_64", 12_195_520, 2_883, 1_219_559, None)],
)
def test_published_sizes_and_what_a_tenth_of_them_is(name, weights, biases, kept_weights, kept_biases):
    model = limbeck.tickets.start(name, keep_ratio=0.1)
    masks = limbeck.tickets.masks(model)
    assert sum(mask.numel() for key, mask in masks.items() if key.endswith("weight")) == weights
    assert sum(mask.numel() for key, mask in masks.items() if key.endswith("bias")) == biases
    assert sum(p.numel() for p in model.generator.parameters() if p.requires_grad) == weights + biases
    assert kept(masks, "weight") == kept_weights
    assert kept_biases is None or kept(masks, "bias") == kept_biases
    for mask in masks.values():
        assert int(mask.sum()) == mask.numel() - (9 * mask.numel()) // 10


@pytest.mark.parametrize("keep_ratio", [1.0, 1, 1e-6])
def test_all_weights_and_one_weight_work(keep_ratio):
    ticket = small(keep_ratio=keep_ratio)
    masks = ticket.own_masks()
    assert all(int(mask.sum()) == (mask.numel() if keep_ratio == 1 else 1) for mask in masks.values())
    latent = torch.randn(2, 6)
    assert ticket(latent).isfinite().all()
    if keep_ratio == 1:
        dense = sngan(**SMALL).eval()
        dense.load_state_dict(ticket.network.state_dict())
        assert torch.equal(ticket(latent), dense(latent))


@pytest.mark.parametrize("make", [sngan, gfmn])
def test_weights_in_force_by_the_released_script(make):
    state = seeded_state(make(resolution=32, width=32), 31, "normal")
    network = make(resolution=32, width=32)
    assert set(state) == {name for name, _ in network.named_parameters()}
    for layer in network.maskable():
        weight = state[layer.weight]
        if weight.numel() > 1000:
            assert abs(float(weight.mean())) < 0.02 * 5 / math.sqrt(weight.numel())
            assert float(weight.std()) == pytest.approx(0.02, rel=5 / math.sqrt(weight.numel()))
        if layer.bias is not None and weight.ndim == 2:
            assert not state[layer.bias].any()
        elif layer.bias is not None:
            bound = 1 / math.sqrt(weight[0].numel())
            assert 0.5 * bound < float(state[layer.bias].abs().max()) <= bound
    norms = network.refinable()
    scales = torch.cat([state[name] for name in norms.norm_weights])
    assert float(scales.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(scales.std()) == pytest.approx(0.02, rel=0.3)
    assert not any(state[name].any() for name in norms.norm_biases)


def test_signed_constants():
    network = sngan(**SMALL)
    state = seeded_state(network, 31, "signed_constant")
    for layer in network.maskable():
        size = math.sqrt(2 / state[layer.weight][0].numel())
        assert torch.equal(state[layer.weight].abs(), torch.full_like(state[layer.weight], size))
        assert 0.2 < float((state[layer.weight] > 0).float().mean()) < 0.8
    assert all((state[name] == 1).all() for name in network.refinable().norm_weights)


def test_first_scores_are_uniform():
    ticket = Ticket.of(sngan(resolution=32, width=32))
    weights = ticket.scores["blocks/0/conv1/conv/weight"].detach()
    assert float(weights.abs().max()) == pytest.approx(0.1, rel=0.01)
    assert float(weights.std()) == pytest.approx(0.1 / math.sqrt(3), rel=0.05)
    biases = torch.cat([score.detach() for name, score in ticket.scores.items() if name.endswith("bias")])
    assert float(biases.abs().max()) == pytest.approx(1.0, rel=0.05)


def test_seeds_decide_and_leave_the_global_stream_alone():
    network, state = sngan(**SMALL), torch.get_rng_state()
    first, again, other = Ticket.of(network), Ticket.of(network), Ticket.of(network, seed=32)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(first.network.last.conv.weight, other.network.last.conv.weight)


@pytest.mark.parametrize("make", [sngan, gfmn])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_ten_steps_move_scores_and_running_statistics_only(make, scope):
    ticket = small(make, scope=scope).train()
    before = {name: value.clone() for name, value in ticket.state_dict().items()}
    masks = ticket.own_masks()
    optimizer = torch.optim.Adam(ticket.parameters(), lr=0.05)
    for step in range(10):
        optimizer.zero_grad()
        latent = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        (ticket(latent) - 0.3).square().mean().backward()
        optimizer.step()
    changed = {name for name, value in ticket.state_dict().items() if not torch.equal(value, before[name])}
    statistics = {name for name in before if name.rpartition(".")[2] in ("running_mean", "running_var")}
    counters = {name for name in before if name.endswith("num_batches_tracked")}
    scores = {f"scores.{name}" for name in ticket.scores} - {"scores.start/bias"}  # biases of zero: no gradient
    assert changed == scores | statistics | counters
    now = ticket.own_masks()
    assert any((now[name] & ~mask).any() for name, mask in masks.items())  # weights that were off are on


def test_gradients_reach_weights_in_use_and_others_alike():
    ticket = small().train()
    ticket(torch.randn(4, 6)).square().sum().backward()
    for name, mask in ticket.own_masks().items():
        gradient = ticket.scores[name.replace(".", "/")].grad
        if name == "last.conv.weight":
            assert (gradient[~mask] != 0).float().mean() > 0.9
            assert (gradient[mask] != 0).float().mean() > 0.9


def test_scores_times_minus_three_choose_the_same():
    ticket = small()
    before = ticket.own_masks()
    with torch.no_grad():
        for score in ticket.scores.values():
            score.mul_(-3)
    assert all(torch.equal(before[name], mask) for name, mask in ticket.own_masks().items())


def test_one_threshold_for_all_layers():
    scores = [torch.tensor([0.1, -0.5, 0.9]), torch.tensor([[0.2, -0.95]])]
    masks = pooled_masks(scores, 0.4)
    assert [mask.tolist() for mask in masks] == [[False, False, True], [[False, True]]]
    assert all(mask.all() for mask in pooled_masks(scores, 1.0))
    assert sum(int(mask.sum()) for mask in pooled_masks(scores, 0.01)) == 1
    many = [torch.randn(n) for n in (10, 700, 300)]
    assert sum(int(mask.sum()) for mask in pooled_masks(many, 0.1)) == 1010 - math.ceil(0.9 * 1010)


def test_the_global_ranking_pools_weights_and_biases_apart():
    ticket = small(scope="global")
    masks = ticket.own_masks()
    for ending in ("weight", "bias"):
        total = sum(mask.numel() for name, mask in masks.items() if name.endswith(ending))
        assert kept(masks, ending) == total - math.ceil(0.7 * total)
    shares = [float(mask.float().mean()) for name, mask in masks.items() if name.endswith("weight")]
    assert max(shares) - min(shares) > 0.01


def trained(ticket: Ticket) -> Ticket:
    """As if trained: other scores and statistics."""
    with torch.no_grad():
        for score in ticket.scores.values():
            score.copy_(torch.randn_like(score))
    ticket.train()
    for _ in range(3):
        ticket(torch.randn(8, 6))
    return ticket.eval()


@pytest.mark.parametrize("make", [sngan, gfmn])
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("init", ["normal", "signed_constant"])
def test_seed_and_bits_are_the_whole_ticket(make, scope, init, tmp_path):
    model = Model(trained(small(make, scope=scope, init=init)))
    path = limbeck.save(model, tmp_path / "ticket.safetensors")
    again = limbeck.load(path)
    masks, loaded = limbeck.tickets.masks(model), limbeck.tickets.masks(again)
    assert all(torch.equal(loaded[name], mask) for name, mask in masks.items())
    latent = torch.randn(4, 6)
    assert torch.equal(again.generator(latent), model.generator(latent))
    assert torch.equal(limbeck.sample(again, 4, seed=1), limbeck.sample(model, 4, seed=1))
    assert path.stat().st_size < sum(mask.numel() for mask in masks.values()) / 8 + 64 * 1024
    twice = limbeck.load(limbeck.save(again, tmp_path / "again.safetensors"))
    assert torch.equal(twice.generator(latent), model.generator(latent))
    assert all((score != 0).all() for score in again.generator.scores.values())  # so that all have gradients


def test_a_started_ticket_keeps_its_scores_through_a_file(tmp_path):
    model = Model(small())
    again = limbeck.load(limbeck.save(model, tmp_path / "ticket.safetensors"))
    for name, value in model.generator.state_dict().items():
        assert torch.equal(again.generator.state_dict()[name], value), name


def test_the_published_size_in_a_file(tmp_path):
    model = limbeck.tickets.start("sngan_64")
    path = limbeck.save(model, tmp_path / "ticket.safetensors")
    assert path.stat().st_size <= (5_511_936 + 7_171) / 8 + 64 * 1024


def test_a_torch_that_draws_other_numbers_is_told_apart(tmp_path, monkeypatch):
    path = limbeck.save(Model(small()), tmp_path / "ticket.safetensors")
    ordinary = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *a, **k: ordinary(*a, **k) + 1e-7)
    with pytest.raises(CheckpointError, match=r"draws other weights from seed 31 .* the version of torch") as raised:
        limbeck.load(path)
    assert "\n" not in str(raised.value)


def test_bits_of_another_shape_are_refused_before_anything_is_drawn(monkeypatch):
    ticket = small()
    held = ticket.packed(ticket.state_dict())
    monkeypatch.setattr("limbeck.architectures.ticket.seeded_state", lambda *_: pytest.fail("drawn"))
    with pytest.raises(UserError, match=r"tensor 'bits': \d+ weights and biases take \d+ bytes"):
        ticket.unpacked({**held, "bits": held["bits"][:-1]})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keep_ratio": 0.0}, r"keep_ratio=0\.0: must be a number in \(0, 1\]"),
        ({"keep_ratio": 1.5}, r"keep_ratio=1\.5"),
        ({"init": "kaiming"}, "init='kaiming': must be 'normal' or 'signed_constant'"),
        ({"scope": "block"}, "scope='block'"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_impossible_settings_are_one_line(settings, words):
    start = getattr(limbeck.tickets.start, "__wrapped__", limbeck.tickets.start)
    with pytest.raises(UserError, match=words):
        start("sngan_64", **settings)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"ticket=biggan: unknown; allowed: resnet_64, sngan_64"):
        limbeck.tickets.start("biggan")


def test_other_families_are_refused():
    unet = UNet(resolution=8, level_widths=[8, 8], blocks_per_level=1, norm_groups=2)
    with pytest.raises(UserError, match="UNet: no plain generator"):
        Ticket.of(unet)


def test_the_stage_forgets_the_teachers_weights():
    teacher = Model(sngan(**SMALL).eval())
    pair = TicketStart(ratio=0.9)(Pair(teacher, teacher))
    assert pair.teacher is teacher
    assert isinstance(pair.student.generator, Ticket)
    assert pair.student.generator.arguments["keep_ratio"] == 0.1
    assert pair.student.history[-1]["criterion"] == "ticket"
    weight = pair.student.generator.network.last.conv.weight
    assert not torch.equal(weight, teacher.generator.last.conv.weight)
    assert num_kept(10, pair.student.generator.arguments["keep_ratio"]) == 1
    with pytest.raises(UserError, match=r"pruning\.ratio=1\.0"):
        TicketStart(ratio=1.0)(Pair(teacher, teacher))


def test_copies_are_independent_and_trainable():
    ticket = small()
    twin = copy.deepcopy(ticket).requires_grad_(True)
    with torch.no_grad():
        for score in twin.scores.values():
            score.zero_()
    assert all(score.any() for score in ticket.scores.values())
    assert all(isinstance(parameter, nn.Parameter) for parameter in twin.parameters())
    profile = limbeck.profile(ticket)
    assert profile.macs == sngan(**SMALL).macs()


def test_a_ticket_leaves_as_the_plain_generator_it_amounts_to():
    model = Model(trained(small()))
    plain = deployable(model)
    assert type(plain.generator) is type(sngan(**SMALL))
    latent = torch.randn(3, 6)
    assert torch.equal(plain.generator(latent), model.generator(latent))
    for name, mask in limbeck.tickets.masks(plain).items():
        assert torch.equal(mask, model.generator.own_masks()[name])
        assert not plain.generator.get_parameter(name)[~mask].any()
