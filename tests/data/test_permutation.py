"""Shuffling by formula: one to one, different for every key, and without visible order."""

import numpy as np
import pytest

from limbeck.data.permutation import mixed, permuted


def key(number: int) -> np.ndarray:
    return np.array([number], dtype=np.uint64)


def test_mixed_gives_the_published_sequence_of_splitmix64():
    # The first three outputs of the reference implementation for seed 1234567 (state grows by the golden gamma).
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + i * gamma) % 2**64 for i in range(3)], dtype=np.uint64)
    assert mixed(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 12, 97, 1000, 65537])
def test_every_index_occurs_exactly_once(size):
    assert np.sort(permuted(np.arange(size), size, key(5))).tolist() == list(range(size))


def test_a_key_per_index_means_a_permutation_per_key():
    keys = np.repeat(np.array([3, 9], dtype=np.uint64), 50)
    together = permuted(np.tile(np.arange(50), 2), 50, keys)
    assert together[:50].tolist() == permuted(np.arange(50), 50, key(3)).tolist()
    assert together[50:].tolist() == permuted(np.arange(50), 50, key(9)).tolist()
    assert together[:50].tolist() != together[50:].tolist()


def test_neighbors_are_scattered():
    size = 12_188_880
    places = permuted(np.arange(20_000), size, key(0))
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.03
    # 20,000 draws into 10 equal bins: 2,000 each with standard deviation 42.
    assert np.abs(np.bincount(places * 10 // size, minlength=10) - 2000).max() < 200


def test_first_place_is_uniform_over_keys():
    # 4,000 keys, 8 places: 500 each with standard deviation 21.
    places = permuted(np.zeros(4000, dtype=np.int64), 8, np.arange(4000, dtype=np.uint64))
    assert np.abs(np.bincount(places, minlength=8) - 500).max() < 100
