import pytest
import torch

from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.functional.kernel_distance import squared_mmd
from limbeck.metrics.kernel_distance import KernelDistance, SubsetKernelDistance


def test_value_and_error_carry_the_embedding_s_name(given, embedding):
    samples = given(fake=torch.randn(80, 16) + 1, real=torch.randn(90, 16))
    found = KernelDistance(embedding=embedding).of(samples)
    assert list(found) == ["kid_random", "kid_random_se"]
    assert found["kid_random"] == pytest.approx(float(squared_mmd(samples.fake, samples.real)), rel=1e-5)
    assert 0 < found["kid_random_se"] < found["kid_random"]


def test_subsets_give_torch_fidelity_s_number(given, embedding):
    kid = imported("torch_fidelity.metric_kid")
    samples = given(fake=torch.randn(120, 16) + 0.3, real=torch.randn(110, 16))
    found = SubsetKernelDistance(embedding=embedding, num_subsets=7, subset_size=50).of(samples)
    expected = kid.kid_features_to_metric(
        samples.fake, samples.real, kid_subsets=7, kid_subset_size=50, rng_seed=2020, verbose=False
    )
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-4)
    assert list(found) == ["kid_random", "kid_random_std"]


def test_subsets_larger_than_a_set_are_refused(given, embedding):
    samples = given(fake=torch.randn(120, 16), real=torch.randn(30, 16))
    with pytest.raises(UserError, match=r"subset_size=1000: needs at least 1000 real and 1000 drawn .* 30 and 120"):
        SubsetKernelDistance(embedding=embedding).of(samples)
    with pytest.raises(UserError, match="subset_size=1: must be at least 2"):
        SubsetKernelDistance(embedding=embedding, subset_size=1).check(9, 9)


def test_what_the_check_lets_through_can_be_computed(given, embedding):
    metric = KernelDistance(embedding=embedding)
    metric.check(4, 4)
    assert metric.of(given(fake=torch.randn(4, 16), real=torch.randn(4, 16)))["kid_random_se"] >= 0
    for counts in ((3, 9), (9, 3)):
        with pytest.raises(UserError, match=f"num_folds=10: needs at least 4 .* {counts[0]} and {counts[1]}"):
            metric.check(*counts)
    with pytest.raises(UserError, match="num_folds=1: must be at least 2"):
        KernelDistance(embedding=embedding, num_folds=1).check(9, 9)


def test_settings_are_described(embedding):
    assert "100 subsets of 1000 (seed 2020)" in SubsetKernelDistance(embedding=embedding).describe()["estimator"]
    described = KernelDistance(embedding=embedding).describe()
    assert "all pairs" in described["estimator"]
    assert described["embedding"] == "random_projection"
    assert len(described["weights_sha256"]) == 64
