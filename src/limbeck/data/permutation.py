"""Shuffling by formula: where an item goes is computed from a key, so no list of all items is ever kept."""

import math

import numpy as np
import numpy.typing as npt

NUM_ROUNDS = 6

UInt64 = npt.NDArray[np.uint64]


def mixed(value: UInt64) -> UInt64:
    """Scramble uint64 values one to one, so that near inputs give unrelated outputs.

    Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014, Figure 13 (mix64variant13,
    after the golden-gamma step of the same figure).
    """
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def permuted(index: npt.NDArray[np.int64], size: int, key: UInt64) -> npt.NDArray[np.int64]:
    """Where each index goes in a pseudorandom permutation of 0 .. size - 1; constant memory for any size.

    index: int64 [n], each in 0 .. size - 1. key: uint64, [n] or [1]; every key is another permutation.
    Returns: int64 [n].

    A Feistel network over a grid of `rows` times `columns` places, just larger than `size`: each round adds a hash of
    one coordinate to the other, which can be undone and so is one to one; results outside 0 .. size - 1 go round again.

    Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002, section 5 (generalized Feistel) and
        section 4 (cycle walking).
    """
    rows = max(math.isqrt(size), 1)
    columns = -(-size // rows)
    result = _scattered(index.astype(np.uint64), rows, columns, key)
    while (outside := np.flatnonzero(result >= np.uint64(size))).size:
        again = key if key.size == 1 else key[outside]
        result[outside] = _scattered(result[outside], rows, columns, again)
    return result.astype(np.int64)


def _scattered(place: UInt64, rows: int, columns: int, key: UInt64) -> UInt64:
    row, column = np.divmod(place, np.uint64(columns))
    for number in range(0, NUM_ROUNDS, 2):
        column = np.remainder(column + _hashed(row, key, number, columns), np.uint64(columns))
        row = np.remainder(row + _hashed(column, key, number + 1, rows), np.uint64(rows))
    return row * np.uint64(columns) + column


def _hashed(coordinate: UInt64, key: UInt64, number: int, limit: int) -> UInt64:
    return np.remainder(mixed(coordinate ^ mixed(key + np.uint64(number))), np.uint64(limit))
