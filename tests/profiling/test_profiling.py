"""Counts by hand; measurements by their bookkeeping."""

import pytest
import torch

from limbeck.architectures.stylegan2 import Generator
from limbeck.profiling import latencies, latency, peak_memory_mib, profile, size_mib


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
    measured = latency(small_generator(), num_images=2, repeats=3, warmup=1)
    assert measured.latency_ms > 0
    assert (measured.num_images, measured.repeats, measured.device) == (2, 3, "cpu")
    assert measured.num_threads == torch.get_num_threads()


def test_latency_is_the_median_after_warming_up(monkeypatch):
    ticks = iter([0.0, 9.0, 10.0, 10.001, 20.0, 20.003, 30.0, 35.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    measured = latency(small_generator(), repeats=3, warmup=1)
    assert measured.latency_ms == pytest.approx(3.0)


def test_peak_memory_never_falls():
    before = peak_memory_mib()
    block = torch.ones(64 * 2**20)
    after = peak_memory_mib()
    assert before > 10
    assert after >= max(before, block.numel() * 4 / 2**20)


def test_networks_are_timed_in_turn(monkeypatch):
    # Three rounds of two networks: a pause of a second falls on the second round of both.
    ticks = iter([0.0, 0.001, 0.0, 0.003, 0.0, 1.001, 0.0, 1.003, 0.0, 0.001, 0.0, 0.003])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    first, second = latencies([small_generator(), small_generator()], repeats=3, warmup=0)
    assert (first.latency_ms, second.latency_ms) == (pytest.approx(1.0), pytest.approx(3.0))
