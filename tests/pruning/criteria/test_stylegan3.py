"""Criteria made for styles on StyleGAN3, whose groups and rounding differ; the others refuse it in one line."""

import pytest
import torch

import limbeck
from limbeck.architectures.stylegan3 import Generator
from limbeck.model import Model
from limbeck.pruning.criteria.dcp import DCP
from limbeck.pruning.scoring import scored
from limbeck.pruning.sensitivity import readers

WIDTHS = [10, 12, 14, 11]
OPTIONS = {
    "random": {},
    "l1": {},
    "l1_in": {"num_samples": 8},
    "l1_out": {"num_samples": 8},
    "cagan": {"num_samples": 2, "batch_size": 2},
    "dcp": {"num_samples": 2, "batch_size": 1, "num_directions": 2, "num_pca": 32},
    "gan_slimming": {"num_samples": 8},
}


@pytest.fixture
def model():
    settings = {"resolution": 16, "num_layers": 3, "num_critical": 1, "z_dim": 8, "w_dim": 8}
    return Model(Generator(widths=WIDTHS, num_frequencies=16, **settings).eval())


def named(name, **changes):
    """Criteria of conf/pruning with a few samples only."""
    from limbeck.configured import configured

    criterion = configured("pruning", name, ratio=0.5).criterion
    for key, value in (OPTIONS.get(name, {}) | changes).items():
        if key in ("num_samples", "batch_size") and hasattr(criterion, "batches"):
            object.__setattr__(criterion.batches, key, value)
        else:
            setattr(criterion, key, value)
    return criterion


@pytest.mark.parametrize("name", OPTIONS)
def test_criteria_for_styles(model, name):
    student = limbeck.prune(model, named(name), ratio=0.7)
    assert student.generator.arguments["widths"] == [3, 3, 4, 3]
    assert student.generator.arguments["num_frequencies"] == 16
    state, kept = student.generator.state_dict(), model.generator.state_dict()
    assert torch.equal(state["synthesis.input.freqs"], kept["synthesis.input.freqs"])
    # Every kept row of the mixing is one of the teacher's, whole.
    rows = kept["synthesis.input.weight"]
    assert all((rows == row).all(dim=1).any() for row in state["synthesis.input.weight"])
    assert student.generator(torch.randn(2, 8)).isfinite().all()


@pytest.mark.parametrize("name", ["taylor", "diff_pruning"])
def test_criteria_for_denoisers(model, name):
    with pytest.raises(limbeck.UserError, match="is no denoiser"):
        limbeck.prune(model, name, ratio=0.5)


def test_each_group_is_judged_by_the_layer_that_reads_it(model):
    axes = readers(model.generator)
    assert {name: (axis.parameter, axis.dim) for name, axis in axes.items()} == {
        "input": ("synthesis.L0.weight", 1),
        "L0": ("synthesis.L1.weight", 1),
        "L1": ("synthesis.L2.weight", 1),
        "L2": ("synthesis.L3.weight", 1),
    }


def test_the_diversity_score_is_the_published_loop_s(model):
    """Variance over directions of mean |d sum |G(w + a d) - G(w)| / dW|, gradient through G(w) alone."""
    network = model.generator
    criterion = DCP(num_samples=2, batch_size=2, num_directions=3, num_pca=64, alpha=5.0)
    found = scored(criterion, model)
    state = criterion.start(model)
    _, source = criterion.batches[0]
    style = network.mapping(torch.randn(2, 8, generator=source)).detach()
    picked = torch.multinomial(state["shares"], 3, replacement=True, generator=source)
    gradients = {name: [] for name in found}
    for direction in state["directions"][picked]:
        network.zero_grad()
        moved = network.synthesis(style + 5 * direction).detach()
        (moved - network.synthesis(style)).abs().sum().backward()
        for index, name in enumerate(found):
            weight = network.synthesis.get_submodule(f"L{index}").weight
            gradients[name].append(weight.grad.abs().double().mean(dim=(0, 2, 3)))
    for name, values in gradients.items():
        values = torch.stack(values)
        expected = (values - values.mean(dim=0)).square().sum(dim=0)
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6 * expected.max().item())
