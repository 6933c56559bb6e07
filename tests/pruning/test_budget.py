"""From a budget to a ratio, with costs that are known by hand or counted."""

import pytest
import torch

import limbeck
from limbeck.architectures.stylegan2 import Generator
from limbeck.pruning.allocation import Global, Uniform, rounded_counts
from limbeck.pruning.budget import ratio_for_latency, ratio_for_macs


def network_and_scores():
    network = Generator(resolution=8, widths=[4, 8, 4, 4], z_dim=4, w_dim=4, mapping_depth=1).eval()
    return network, {group.name: torch.arange(1.0, group.size + 1) for group in network.channel_groups()}


class Clock:
    """A machine on which every kept channel takes a millisecond, and now and then more than that."""

    def __init__(self, *, shift: float = 0.0):
        self.calls, self.shift = [], shift

    def __str__(self):
        return "a clock"

    def __call__(self, network):
        channels = sum(group.size for group in network.channel_groups())
        self.calls.append(channels)
        return channels + self.shift


@pytest.mark.parametrize("allocation", [Uniform(), Global()])
def test_ratio_for_macs_is_the_smallest_that_suffices(allocation):
    network, scores = network_and_scores()
    target = network.macs() * 2 // 3
    found = ratio_for_macs(network, scores, allocation, target_macs=target)
    macs = lambda ratio: network.resized(allocation(network, scores, ratio)).macs()  # noqa: E731
    assert macs(found) <= target < macs(found - 0.0001)


@pytest.mark.parametrize("allocation", [Uniform(), Global()])
@pytest.mark.parametrize("target", [5, 9.5, 14, 19.9])
def test_ratio_for_latency_is_the_smallest_that_suffices(allocation, target, capsys):
    network, scores = network_and_scores()  # 20 channels
    clock = Clock()
    found, taken = ratio_for_latency(network, scores, allocation, target_latency_ms=target, latency=clock)
    kept = lambda ratio: sum(rounded_counts(network, allocation(network, scores, ratio), 1).values())  # noqa: E731
    assert kept(found) == taken <= target < kept(round(found - 0.01, 2))
    assert len(clock.calls) == len(set(clock.calls)) <= 9  # no width twice
    said = capsys.readouterr().out.splitlines()  # a line each, because a search may last for minutes
    assert len(said) == len(clock.calls)
    assert any(line.endswith(f" takes {taken:g} ms") for line in said)


def test_a_generous_target_keeps_everything():
    network, scores = network_and_scores()
    assert ratio_for_latency(network, scores, Uniform(), target_latency_ms=20, latency=Clock()) == (0.0, 20)


def test_the_student_of_a_latency_target():
    model = limbeck.Model(network_and_scores()[0])
    student = limbeck.prune(model, "l1", target_latency_ms=12, latency=Clock())
    last = student.history[-1]
    assert sum(group.size for group in student.generator.channel_groups()) <= 12
    assert (last["target_latency_ms"], last["latency_in"]) == (12, "a clock")
    both = limbeck.prune(model, "l1", target_latency_ms=12, latency=Clock(), target_macs=model.generator.macs() // 8)
    assert both.history[-1]["ratio"] > last["ratio"]
    assert both.generator.macs() <= model.generator.macs() // 8


def test_out_of_reach_is_said_before_anything_is_scored():
    model = limbeck.Model(network_and_scores()[0])

    def never(model):
        raise AssertionError("scored")

    message = r"pruning.target_latency_ms=2: out of reach, at least 4.5 ms are left in a clock"
    with pytest.raises(limbeck.UserError, match=message):
        limbeck.prune(model, never, target_latency_ms=2, latency=Clock(shift=0.5))
    with pytest.raises(limbeck.UserError, match=r"pruning.target_macs=10: out of reach, at least \d+ are left"):
        limbeck.prune(model, never, target_macs=10)


@pytest.mark.parametrize("target", ["few", True, 0, -1.0])
def test_impossible_targets(target):
    with pytest.raises(limbeck.UserError, match=r"pruning.target_latency_ms=.*: must be a number above 0"):
        limbeck.prune(limbeck.Model(network_and_scores()[0]), "l1", target_latency_ms=target)
