"""Every multiple of the interval is met once, whatever the batch size and wherever a run is resumed."""

import itertools

import pytest

from limbeck.callbacks.intervals import is_due


@pytest.mark.parametrize(
    ("batch", "every_kimg", "expected"), [(32, 1.0, 9), (7, 0.5, 19), (1000, 1.0, 10), (3000, 1.0, 3)]
)
def test_number_of_times_in_ten_kimg(batch, every_kimg, expected):
    counts = range(0, 10_001, batch)
    assert sum(is_due(a, b, every_kimg) for a, b in itertools.pairwise(counts)) == expected


def test_a_multiple_belongs_to_the_step_that_reaches_it():
    assert is_due(992, 1000, 1.0)
    assert not is_due(1000, 1008, 1.0)
