import pytest
import torch

from limbeck.errors import UserError
from limbeck.losses.weighted import Term, Weighted, cadences, checked_terms


class Constant(Term):
    def forward(self, step):
        return torch.tensor(float(step))


def test_weight_and_cadence_scale_linearly():
    added, value = Weighted(term=Constant(), weight=2.5, every_steps=4)(3)
    assert added.item() == 30.0
    assert value.item() == 3.0


@pytest.mark.parametrize("changes", [{"weight": "much"}, {"every_steps": 0}, {"every_steps": 1.5}, {"batch_share": 0}])
def test_refuses_impossible_numbers(changes):
    (name,) = changes
    with pytest.raises(UserError, match=name):
        Weighted(term=Constant(), **changes)


def test_a_stub_of_a_term_that_is_not_selected_is_refused_by_name():
    with pytest.raises(UserError, match=r"lpips.*not among the selected terms"):
        checked_terms("generator", {"nonsaturating": Weighted(term=Constant()), "lpips": {"weight": 5.0}})


def test_no_term_at_all_is_refused():
    with pytest.raises(UserError, match="no term"):
        checked_terms("generator", {})


def test_cadences_group_terms_with_ordinary_ones_first():
    terms = {"r1": Weighted(term=Constant(), every_steps=16), "adversarial": Weighted(term=Constant())}
    assert {every: list(group) for every, group in cadences(terms).items()} == {1: ["adversarial"], 16: ["r1"]}
    assert list(cadences(terms)) == [1, 16]
