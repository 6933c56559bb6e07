"""Means of the log: by hand, and across a resume."""

import io

import pytest
import torch

from limbeck.distillation.scalars import Scalars
from limbeck.errors import UserError


def noted(scalars: Scalars, *values: tuple[float, float]) -> Scalars:
    for value, weight in values:
        scalars.note("loss", torch.tensor(value), weight)
    return scalars


def test_weighted_mean_by_hand():
    assert noted(Scalars(), (1.0, 1.0), (4.0, 2.0)).means(0) == {"loss": 3.0}
    assert Scalars().means(0) == {}


def test_a_row_does_not_know_of_the_resume_within_it():
    values = [(0.1, 3.0), (0.7, 5.0), (1.3, 1.0), (2.9, 3.0)]
    before, after, file = noted(Scalars(), *values[:2]), Scalars(), io.BytesIO()
    torch.save(before.state(), file)
    file.seek(0)
    after.restore(torch.load(file, weights_only=True))
    assert noted(after, *values[2:]).means(0) == noted(Scalars(), *values).means(0)


def test_nothing_noted_is_a_state_too():
    scalars = noted(Scalars(), (1.0, 1.0))
    scalars.restore(Scalars().state())
    assert scalars.means(0) == {}


def test_what_is_no_number_is_named():
    with pytest.raises(UserError, match=r"loss became nan near 1\.5 kimg"):
        noted(Scalars(), (float("nan"), 1.0)).means(1500)
