"""Counts by hand; measurements by their bookkeeping."""

import itertools
import random
import time
from contextlib import nullcontext

import pytest
import torch

import limbeck
from limbeck.architectures.residual_generator import sngan
from limbeck.architectures.stylegan2 import Generator
from limbeck.architectures.ticket import Ticket
from limbeck.model import Model
from limbeck.profiling import latency, peak_memory_mib, profile, size_mib, sparsity
from limbeck.profiling.measured import LEAST_ROUNDS, ROUNDS, Round, others_wait, own_wait, spread, timed_in_turn


def small_generator():
    return Generator(resolution=8, widths=[4, 5, 6, 7], z_dim=8, w_dim=8, mapping_depth=1)


def test_counts_by_hand():
    counted = profile(small_generator())
    convolutions = 9 * (4 * 5 + 5 * 6 + 6 * 7)
    affines = 8 * (4 + 5 + 6 + 5 + 7)
    torgb = 3 * (5 + 7)
    biases = (5 + 6 + 7) + (4 + 5 + 6 + 5 + 7) + 2 * 3
    assert counted.num_parameters == 64 + convolutions + affines + torgb + biases + 3 + (64 + 8)
    macs = 9 * (4 * 5 * 16 + 5 * 6 * 16 + 6 * 7 * 64) + 3 * (5 * 16 + 7 * 64) + affines + 64
    assert counted.macs == macs


def test_size_follows_the_type():
    generator = small_generator()
    assert size_mib(generator) == pytest.approx(4 * profile(generator).num_parameters / 2**20)
    assert size_mib(generator, torch.float16) == pytest.approx(size_mib(generator) / 2)


def test_latency_states_its_conditions():
    measured = latency(small_generator(), num_images=2, rounds=3, warmup=1)
    assert measured.latency_ms > 0
    assert (measured.num_images, measured.rounds, measured.device) == (2, 3, "cpu")
    assert measured.num_threads == torch.get_num_threads()


def test_peak_memory_never_falls():
    before = peak_memory_mib()
    block = torch.ones(64 * 2**20)
    after = peak_memory_mib()
    assert before > 10
    assert after >= max(before, block.numel() * 4 / 2**20)


class Machine:
    """A clock and networks that run by it. Each call takes its own milliseconds and what `waits` adds to them.

    told: whether the system tells how long this thread, and the others, waited.
    """

    def __init__(self, monkeypatch, waits, told="nothing"):
        self.now, self.waited, self.waits = 0.0, 0.0, waits
        monkeypatch.setattr("time.perf_counter", lambda: self.now)
        own, others = (lambda: self.waited * (told == "own")), (lambda: self.waited * (told == "others"))
        monkeypatch.setattr("limbeck.profiling.measured.own_wait", lambda: nullcontext(own))
        monkeypatch.setattr("limbeck.profiling.measured.others_wait", others)

    def call(self, milliseconds):
        def run():
            wait = next(self.waits) / 1e3
            self.now += milliseconds / 1e3 + wait
            self.waited += wait

        return run


def busy(seed=0, undisturbed=0.4):
    """Waits of a machine with more to do than it has cores: mostly some time slices, milliseconds."""
    drawn = random.Random(seed)
    while True:
        yield 0.0 if drawn.random() < undisturbed else 1.0 + drawn.expovariate(1 / 8.0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("told", "undisturbed"), [("nothing", 0.4), ("own", 0.0)])
def test_latency_holds_on_a_busy_machine(monkeypatch, told, undisturbed, seed):
    machine = Machine(monkeypatch, busy(seed, undisturbed), told)
    teacher, student = timed_in_turn([machine.call(3.3), machine.call(2.5)], warmup=0)
    assert (min(teacher).seconds, min(student).seconds) == (pytest.approx(3.3e-3), pytest.approx(2.5e-3))
    assert max(spread(teacher), spread(student)) < 1e-6


@pytest.mark.parametrize("told", ["nothing", "others"])
def test_spread_tells_when_no_round_was_undisturbed(monkeypatch, told):
    machine = Machine(monkeypatch, busy(undisturbed=0.0), told)
    (found,) = timed_in_turn([machine.call(2.5)], rounds=60, warmup=0)
    assert spread(found) > (0.3 if told == "others" else 0.01)


def test_spread_by_hand():
    assert spread([Round(s) for s in (2.0, 9.0, 2.2, 9.0, 9.0, 3.0)]) == pytest.approx(0.5)
    assert spread([Round(2.0, 0.5), Round(2.5), Round(3.0, 9.0)]) == pytest.approx(0.75)
    assert spread([Round(1.0), Round(1.0)]) == spread([Round(1.0)]) == 0


def test_time_without_a_core_never_falls():
    with own_wait() as waited:
        before = (waited(), others_wait())
        time.sleep(0.001)
        assert (waited(), others_wait()) >= before >= (0, 0)


def test_rounds_end_when_time_is_up(monkeypatch):
    machine = Machine(monkeypatch, itertools.repeat(0.0))
    assert len(timed_in_turn([machine.call(1.0)])[0]) == ROUNDS
    assert len(timed_in_turn([machine.call(60_000.0)])[0]) == LEAST_ROUNDS


def test_networks_are_timed_in_turn(monkeypatch):
    order = []
    timed_in_turn([lambda: order.append("a"), lambda: order.append("b")], rounds=2, warmup=1)
    assert order == ["a", "b"] * 3


def test_sparsity_counts_what_is_in_use_and_what_a_file_takes(tmp_path):
    generator = Generator(resolution=8, widths=[8, 8, 8, 8], z_dim=4, w_dim=4, mapping_depth=1)
    dense = Model(generator)
    assert sparsity(dense) is None
    model = limbeck.sparsify(dense, ratio=0.75)
    found = sparsity(model)
    off = sum(int((~mask).sum()) for mask in model.masks.values())
    assert found.num_effective == profile(generator).num_parameters - off
    assert set(found.layers) == {layer.weight for layer in generator.maskable()}
    assert found.layers["synthesis.b4.conv1.weight"] == 0.75
    bits = sum(-(-mask.numel() // 8) for mask in model.masks.values())
    assert found.size_mib == pytest.approx(size_mib(generator) + (bits - 4 * off) / 2**20)


def test_sparsity_of_a_ticket():
    network = sngan(resolution=8, width=12, z_dim=6)
    ticket = Model(Ticket.of(network, keep_ratio=0.25))
    found, total = sparsity(ticket), profile(ticket.generator).num_parameters
    assert found.num_effective == sum(int(mask.sum()) for mask in limbeck.tickets.masks(ticket).values())
    assert found.size_mib * 2**20 == pytest.approx(-(-total // 8) + 32)  # and the digest
    assert found.layers["start.weight"] == pytest.approx(0.75)
