import pytest
import torch

from limbeck.distillation.optimizers import corrected
from limbeck.losses.weighted import Term, Weighted


class Nothing(Term):
    def forward(self, step):
        return torch.zeros([])


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.1, betas=(0.9, 0.99))


def test_lazy_steps_shrink_learning_rate_and_memory():
    terms = {"often": Weighted(term=Nothing()), "seldom": Weighted(term=Nothing(), every_steps=4)}
    (group,) = corrected(adam, [torch.nn.Parameter(torch.zeros(1))], terms).param_groups
    assert group["lr"] == pytest.approx(0.1 * 4 / 5)
    assert group["betas"] == pytest.approx((0.9**0.8, 0.99**0.8))


def test_without_lazy_terms_nothing_changes():
    (group,) = corrected(adam, [torch.nn.Parameter(torch.zeros(1))], {"a": Weighted(term=Nothing())}).param_groups
    assert (group["lr"], group["betas"]) == (0.1, (0.9, 0.99))
