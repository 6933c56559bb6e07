"""The diversity score against its laws, a slow loop written from the paper, and scikit-free PCA checks."""

import pytest
import torch
from scipy.stats import chisquare

import limbeck
from limbeck.architectures.stylegan2 import Generator
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.pruning.criteria.dcp import DCP, principal_directions, spread
from limbeck.pruning.scoring import add, scored
from limbeck.pruning.sensitivity import readers
from limbeck.seeds import batch_seed

SMALL = {"num_samples": 6, "batch_size": 3, "num_directions": 4, "num_pca": 200, "alpha": 2.0}


def model(noise_strength=0.3):
    torch.manual_seed(0)
    generator = Generator(resolution=16, widths=[6, 5, 6, 7, 5, 4], z_dim=8, w_dim=8, mapping_depth=2).eval()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(noise_strength)
    return Model(generator)


def scores_of(subject=None, **options):
    return scored(DCP(**SMALL | options), subject or model())


def close(a, b, **tolerance):
    for name in a:
        torch.testing.assert_close(a[name], b[name], **tolerance)


def test_directions_are_orthonormal_and_explain_all_variance():
    torch.manual_seed(0)
    styles = torch.randn(500, 12) @ torch.randn(12, 12)
    directions, shares = principal_directions(styles)
    torch.testing.assert_close(directions @ directions.T, torch.eye(12).double(), atol=1e-12, rtol=0)
    assert shares.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert (shares.diff() <= 0).all()
    projected = (styles.double() - styles.double().mean(0)) @ directions.T
    torch.testing.assert_close(projected.var(0, unbiased=False) / styles.double().var(0, unbiased=False).sum(), shares)


def test_directions_do_not_depend_on_the_sign_of_a_solver():
    directions, _ = principal_directions(torch.randn(50, 6))
    assert (directions.gather(1, directions.abs().argmax(1, keepdim=True)) > 0).all()


def test_draws_follow_the_shares():
    _, shares = principal_directions(torch.randn(2000, 5) * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5]))
    source = torch.Generator().manual_seed(1)
    counts = torch.multinomial(shares, 5000, replacement=True, generator=source).bincount(minlength=5)
    assert chisquare(counts.numpy(), (shares * 5000).numpy()).pvalue > 1e-3


def test_spread_by_hand():
    values = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    assert spread(values, "variance").tolist() == [2.0, 0.0]
    assert spread(values, "magnitude").tolist() == [4.0, 10.0]


def slow_scores(criterion, subject):
    """Straight from section 2.2: every image rendered by itself, every gradient asked for by name."""
    network, state = subject.generator, criterion.start(subject)
    names = {group: axis.parameter for group, axis in readers(network).items()}
    parameters = dict(network.named_parameters())
    total = {group.name: torch.zeros(group.size).double() for group in network.channel_groups()}
    for index in range(criterion.num_steps):
        source = torch.Generator().manual_seed(batch_seed(criterion.batches.seed, index))
        count = min(3, 5 - 3 * index)
        style = network.mapping(torch.randn(count, network.z_dim, generator=source)).detach()
        picked = torch.multinomial(state["shares"], criterion.num_directions, replacement=True, generator=source)
        rows = {name: [] for name in names}
        for direction in state["directions"][picked]:
            base = torch.cat([network.synthesis(w[None], noise="const") for w in style])
            moved = torch.cat([network.synthesis((w + criterion.alpha * direction)[None]) for w in style])
            loss = (base - (moved.detach() if criterion.stop_gradient else moved)).abs().sum()
            for name, weight in names.items():
                (gradient,) = torch.autograd.grad(loss, parameters[weight], retain_graph=True)
                rows[name].append(gradient.abs().mean(dim=(0, 2, 3)).double())
        for name, found in rows.items():
            total[name] += torch.stack(found).var(dim=0, unbiased=False) * criterion.num_directions
    return total


@pytest.mark.parametrize("stop_gradient", [True, False])
@pytest.mark.parametrize("share_base", [True, False])
def test_scores_equal_the_slow_loop(stop_gradient, share_base):
    options = SMALL | {"num_samples": 5, "stop_gradient": stop_gradient, "share_base": share_base, "noise": "const"}
    criterion = DCP(**options)
    close(scored(criterion, model()), slow_scores(criterion, model()), rtol=1e-3, atol=1e-9)


def test_stop_gradient_changes_the_scores():
    one, other = scores_of(noise="const"), scores_of(noise="const", stop_gradient=False)
    assert any(not torch.allclose(one[name], other[name], rtol=0.05) for name in one)


@pytest.mark.parametrize("noise", ["const", "random"])
def test_one_direction_has_no_spread(noise):
    assert all(score.abs().max() == 0 for score in scores_of(num_directions=1, noise=noise).values())


def test_equal_directions_with_fixed_noise_have_no_spread():
    criterion, subject = DCP(**SMALL, noise="const"), model()
    state = criterion.start(subject)
    state["shares"] = torch.eye(8).double()[2]
    add(state, criterion.step(subject, state, 0))
    largest = max(score.max() for score in scores_of(noise="const").values())
    assert all(score.max() < 1e-9 * largest for score in criterion.scores(subject, state).values())


def test_without_a_step_only_noise_moves_the_image():
    fixed = scores_of(alpha=0.0, noise="const", statistic="magnitude")
    assert all(score.abs().max() == 0 for score in fixed.values())
    drawn = scores_of(alpha=0.0, noise="random", statistic="magnitude")
    assert all(score.min() > 0 for score in drawn.values())


def test_a_channel_that_no_style_reads_scores_zero():
    subject = model()
    affine = subject.generator.synthesis.b8.conv0.affine
    affine.weight.data[3], affine.bias.data[3] = 0, 0
    score = scores_of(subject)["b4.conv1" if len(affine.bias) == 5 else "const"]
    assert score[3] == 0
    assert (score[[0, 1, 2, 4]] > 0).all()


def test_a_louder_image_scales_scores_and_keeps_their_order():
    subject = model()
    plain = scores_of(subject, noise="const")
    for block in (subject.generator.synthesis.b4, subject.generator.synthesis.b8, subject.generator.synthesis.b16):
        block.torgb.affine.weight.data *= 3
        block.torgb.affine.bias.data *= 3
    loud = scores_of(subject, noise="const")
    close(loud, {name: 9 * score for name, score in plain.items()}, rtol=1e-3, atol=1e-9)


def test_bfloat16_is_near():
    exact, rough = scores_of(noise="const"), scores_of(noise="const", precision="bfloat16")
    for name in exact:
        assert torch.corrcoef(torch.stack([exact[name], rough[name].double()]))[0, 1] > 0.95


def test_the_model_is_left_as_it_is():
    subject = model()
    before = {name: value.clone() for name, value in subject.generator.state_dict().items()}
    subject.generator.requires_grad_(False)
    scores_of(subject)
    assert all(torch.equal(before[name], value) for name, value in subject.generator.state_dict().items())
    assert not any(parameter.requires_grad for parameter in subject.generator.parameters())
    assert all(parameter.grad is None for parameter in subject.generator.parameters())


def test_labels_are_drawn_for_networks_with_classes():
    network = Generator(resolution=8, widths=[4] * 4, z_dim=8, w_dim=8, mapping_depth=1, num_classes=3)
    assert all(score.sum() > 0 for score in scores_of(Model(network)).values())


def test_a_network_is_pruned_by_it():
    student = limbeck.prune(model(), DCP(**SMALL), ratio=0.5)
    assert student.history[-1]["criterion"] == "dcp"
    assert student.generator.arguments["widths"] == [3, 3, 3, 4, 3, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_directions": 0}, "num_directions=0"),
        ({"statistic": "median"}, "statistic='median': must be one of variance, magnitude"),
        ({"noise": "pink"}, "noise='pink'"),
        ({"precision": "float8"}, "precision='float8'"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        scores_of(**options)
