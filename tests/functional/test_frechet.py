import numpy as np
import pytest
import scipy.linalg
import torch

from limbeck.embeddings.torchvision_shim import imported
from limbeck.functional.frechet import frechet_distance, moments, trace_of_root


def gaussian(mean, deviation):
    return torch.tensor([float(mean)]), torch.tensor([[float(deviation) ** 2]])


def features(n, d, scale=1.0, shift=0.0):
    mix = torch.randn(d, d) / d**0.5
    return (torch.randn(n, d) @ mix) * scale + shift


def test_two_gaussians_of_one_dimension_by_hand():
    # (0 - 3)^2 + (1 - 2)^2
    assert float(frechet_distance(*gaussian(0, 1), *gaussian(3, 2))) == pytest.approx(10, rel=1e-12)


def test_moments_by_hand():
    mean, covariance = moments(torch.tensor([[0.0, 0.0], [2.0, 4.0]]))
    assert torch.equal(mean, torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert torch.equal(covariance, torch.tensor([[2.0, 4.0], [4.0, 8.0]], dtype=torch.float64))


def test_one_image_has_no_covariance():
    with pytest.raises(ValueError, match="1 rows"):
        moments(torch.randn(1, 3))


@pytest.mark.parametrize("ranks", [(500, 500), (20, 500), (500, 20), (20, 30)])
def test_the_trace_agrees_with_scipy(ranks):
    (_, a), (_, b) = (moments(features(n, 64, scale)) for n, scale in zip(ranks, (1.0, 1.5), strict=True))
    # scipy's root of a singular product is only good to the root of its rounding; a slight ridge makes it exact.
    full = min(ranks) > 64
    ridge = torch.zeros_like(a) if full else 1e-13 * torch.eye(64, dtype=a.dtype)
    expected = np.trace(scipy.linalg.sqrtm(((a + ridge) @ (b + ridge)).numpy())).real
    assert float(trace_of_root(a, b)) == pytest.approx(expected, rel=1e-10 if full else 1e-5)


def test_the_distance_agrees_with_torch_fidelity():
    fid = imported("torch_fidelity.metric_fid")
    x, y = features(300, 48), features(280, 48, 1.3, 0.2)
    statistics = [fid.fid_features_to_statistics(part.double()) for part in (x, y)]
    expected = fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert float(frechet_distance(*moments(x), *moments(y))) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("n", [300, 20])
def test_equal_sets_have_no_distance_and_order_does_not_matter(n):
    x, y = moments(features(n, 48)), moments(features(n, 48, 1.3))
    assert float(frechet_distance(*x, *x)) == pytest.approx(0, abs=1e-6)
    assert float(frechet_distance(*x, *y)) == pytest.approx(float(frechet_distance(*y, *x)), rel=1e-8)


def test_disjoint_subspaces_share_no_root():
    a, b = torch.diag(torch.tensor([4.0, 0.0, 0.0])), torch.diag(torch.tensor([0.0, 9.0, 0.0]))
    assert float(trace_of_root(a.double(), b.double())) == 0
    assert float(trace_of_root(torch.zeros(3, 3).double(), b.double())) == 0
    assert float(trace_of_root(a.double(), (a + b).double())) == pytest.approx(4)
