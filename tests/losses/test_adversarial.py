import math

import torch

from limbeck.losses.adversarial import discriminator_logistic, generator_logistic


def test_undecided_logits_cost_log_two():
    zero = torch.zeros(5)
    assert math.isclose(generator_logistic(zero).item(), math.log(2), rel_tol=1e-6)
    assert math.isclose(discriminator_logistic(zero, zero).item(), 2 * math.log(2), rel_tol=1e-6)


def test_agrees_with_binary_cross_entropy():
    real, fake = torch.randn(7), torch.randn(5)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    expected = bce(real, torch.ones(7)) + bce(fake, torch.zeros(5))
    torch.testing.assert_close(discriminator_logistic(real, fake), expected)
    torch.testing.assert_close(generator_logistic(fake), bce(fake, torch.ones(5)))
