"""Shuffling by formula: where an item goes is computed from a key, so no list of all items is ever kept."""

import math

import numpy as np

NUM_ROUNDS = 6


def mixed(value: np.ndarray) -> np.ndarray:
    """Scramble uint64 values one to one, so that near inputs give unrelated outputs.

    Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014, Figure 13 (mix64variant13,
    after the golden-gamma step of the same figure).
    """
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def permuted(index: np.ndarray, size: int, key: np.ndarray) -> np.ndarray:
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


def _scattered(place: np.ndarray, rows: int, columns: int, key: np.ndarray) -> np.ndarray:
    row, column = place // np.uint64(columns), place % np.uint64(columns)
    for number in range(NUM_ROUNDS):
        round_key = mixed(key + np.uint64(number))
        if number % 2:
            row = (row + mixed(column ^ round_key) % np.uint64(rows)) % np.uint64(rows)
        else:
            column = (column + mixed(row ^ round_key) % np.uint64(columns)) % np.uint64(columns)
    return row * np.uint64(columns) + column
