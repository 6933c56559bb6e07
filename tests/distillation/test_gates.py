import math

import pytest
import torch
from torch import nn

from limbeck.distillation.discriminators import Fresh, Gated
from limbeck.distillation.gates import Gates, balance, gate
from limbeck.errors import UserError

from .training import adam, same, state


def test_gates_by_hand():
    alpha = torch.tensor([0.0, 0.1, 0.2, 1.0])
    assert gate(alpha, 0.1).tolist() == [0.0, 0.5, 1.0, 1.0]


def test_gradient_of_alpha_is_that_of_the_mask():
    alpha = torch.rand(5, requires_grad=True)
    weights = torch.randn(5)
    (gate(alpha, 0.5) * weights).sum().backward()
    torch.testing.assert_close(alpha.grad, weights)


def test_balance_by_hand():
    logits = torch.tensor([2.0, -1.0])
    softplus = [math.log1p(math.exp(x)) for x in (-2.0, 1.0, 2.0, -1.0)]
    expected = abs(sum(softplus[:2]) / 2 - sum(softplus[2:]) / 2)
    assert balance(logits).item() == pytest.approx(expected)
    assert balance(torch.zeros(3)).item() == 0


def test_alphas_start_open_stay_between_0_and_1_and_decide_the_masks(train, pair):
    gates = Gates(optimizer=adam(0.3), capacity_weight=1.0)
    module = train(Gated()(pair), steps=4, companions={"gates": gates})
    judge = module.judges["gated"]
    for size, alpha in gates.alphas.items():
        clipped = alpha.detach().clamp(0, 1)
        assert not torch.equal(clipped, torch.ones_like(alpha))
        expected = (clipped > 0.1).float()
        assert torch.equal(judge.masks()[int(size)], expected)
    assert any((mask == 0).any() for mask in judge.masks().values())
    assert {name for name in module.state_dict() if "alphas" in name} == {
        "companions.gates.alphas.8",
        "companions.gates.alphas.4",
    }


def test_gate_turns_leave_weights_and_others_turns_leave_gates(train, pair):
    judges = Gated()(pair)
    before = state(judges["gated"].network)
    gates = Gates(optimizer=adam(0.3))
    module = train(judges, companions={"gates": gates}, discriminator_lr=0.0)
    assert same(before, state(module.judges["gated"].network))
    still = Gates(optimizer=adam(0.0))
    module = train(Gated()(pair), companions={"gates": still})
    assert all(torch.equal(alpha, torch.ones_like(alpha)) for alpha in still.alphas.values())
    assert not same(before, state(module.judges["gated"].network))


def test_target_is_a_running_average_of_the_teachers_balance_that_slows_down(train, pair):
    gates, targets, teachers = Gates(optimizer=adam(0.01)), [], []

    def noted(loss, inputs, output):
        targets.append(loss.target.item())
        teachers.append(balance(pair.teacher.discriminator(inputs[0].teacher_image)).item())

    gates.loss.register_forward_hook(noted)
    train(Gated()(pair), steps=4, companions={"gates": gates})
    expected = 0.0
    for share, theirs, target in zip((1.0, 0.75, 0.5, 0.25), teachers, targets, strict=True):
        expected += share * (theirs - expected)
        assert target == pytest.approx(expected, rel=1e-4)


def test_gates_need_a_gated_judge(train, pair):
    with pytest.raises(UserError, match=r"gates.judge='gated'.*discriminator=gated"):
        train(Fresh()(pair), companions={"gates": Gates(optimizer=adam(0.1))})


def test_gating_asks_for_stylegan2(pair):
    object.__setattr__(pair.teacher, "discriminator", nn.Linear(1, 1))
    with pytest.raises(UserError, match="not a Linear"):
        Gated()(pair)
