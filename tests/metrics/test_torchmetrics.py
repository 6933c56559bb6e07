"""Every metric is a torchmetrics.Metric: equal to torchmetrics' own on the same features, added up part by part."""

import copy

import pytest
import pytorch_lightning as pl
import torch
import torchmetrics
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from limbeck.metrics.frechet import FrechetDistance
from limbeck.metrics.kernel_distance import KernelDistance, SubsetKernelDistance
from limbeck.metrics.perceptual import Perceptual
from limbeck.metrics.prdc import Overlap
from limbeck.metrics.ssim import Ssim


class Features(torch.nn.Module):
    """Stands in the place of torchmetrics' network: what it is given are features already."""

    num_features = 16

    def forward(self, features):
        return features


def two_sets(seed=0):
    drawn = torch.Generator().manual_seed(seed)
    return torch.randn(120, 16, generator=drawn) * 0.7 + 3, torch.randn(90, 16, generator=drawn) + 3


def updated(metric, real, fake, parts=3):
    for part in real.chunk(parts):
        metric.update(part, real=True)
    for part in fake.chunk(parts):
        metric.update(part, real=False)
    return metric


def images(seed):
    return torch.rand(6, 3, 24, 24, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_frechet_distance(embedding):
    real, fake = two_sets()
    theirs = updated(
        FrechetInceptionDistance(feature=Features()).set_dtype(torch.float64), real.double(), fake.double()
    )
    ours = updated(FrechetDistance(embedding=embedding), real, fake).compute()
    assert ours["frechet_random"].item() == pytest.approx(theirs.compute().item(), rel=1e-9)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all")
def test_kernel_distance(embedding):
    real, fake = two_sets()
    # One subset that is the whole set: all pairs.
    theirs = KernelInceptionDistance(feature=Features(), subsets=1, subset_size=90)
    expected, _ = updated(theirs, real[:90].double(), fake.double()).compute()
    for ours in (
        KernelDistance(embedding=embedding),
        SubsetKernelDistance(embedding=embedding, num_subsets=1, subset_size=90),
    ):
        found = updated(ours, real[:90], fake).compute()
        assert found["kid_random"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_ssim():
    student, teacher = images(0), images(1)
    pair = ((student + 1) / 2, (teacher + 1) / 2)
    _, each = structural_similarity_index_measure(*pair, data_range=1.0, return_full_image=True)
    expected = each[..., 5:-5, 5:-5].mean()  # theirs has windows beyond the rim, on mirrored pixels
    metric = Ssim()
    for one, other in zip(student.chunk(3), teacher.chunk(3), strict=True):
        metric.update(one, other)
    assert metric.compute()["ssim"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("make", [FrechetDistance, KernelDistance, Overlap])
def test_images_and_their_features_give_the_same(embedding, make):
    real, fake = images(0), images(1)
    by_images, by_features = make(embedding=embedding), make(embedding=embedding)
    if make is Overlap:
        by_images.num_neighbors = by_features.num_neighbors = 2
    updated(by_images, real, fake)
    loaded = embedding.load()
    updated(by_features, loaded(real), loaded(fake))
    expected = by_features.compute()
    for name, value in by_images.compute().items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-4, abs=1e-7)


def test_the_report_s_number_is_that_of_the_parts(given, embedding):
    real, fake = two_sets()
    metric = FrechetDistance(embedding=embedding)
    reported = metric.of(given(fake=fake, real=real))
    assert reported["frechet_random"] == pytest.approx(updated(metric, real, fake).compute()["frechet_random"].item())
    metric.reset()
    assert metric.of(given(fake=fake, real=real)) == reported


@pytest.mark.parametrize("make", [FrechetDistance, KernelDistance, Overlap])
def test_states_of_two_processes_reduce_to_those_of_one(embedding, make):
    real, fake = two_sets()
    shares = [
        updated(make(embedding=embedding), real[:60], fake[:40]),
        updated(make(embedding=embedding), real[60:], fake[40:]),
    ]
    whole = updated(make(embedding=embedding), real, fake).compute()
    joined = make(embedding=embedding)
    joined.update(real[:1], real=True)
    for name, how in joined._reductions.items():  # what torchmetrics does with the gathered states
        states = [getattr(share, name) for share in shares]
        states = [torch.cat(state) if isinstance(state, list) else state for state in states]
        setattr(joined, name, how(torch.stack(states) if how is torchmetrics.utilities.dim_zero_sum else states))
    for name, value in joined.compute().items():
        assert value.item() == pytest.approx(whole[name].item(), rel=1e-6)


def test_empty_sets_are_named(embedding):
    metric = KernelDistance(embedding=embedding)
    metric.update(torch.randn(5, 16), real=True)
    with pytest.raises(ValueError, match="no fake images"):
        metric.compute()


class Own(pl.LightningModule):
    """Anyone's module: the metric is a member, and its numbers go to the log."""

    def __init__(self, metric):
        super().__init__()
        self.metric = metric


def test_a_module_holds_them_without_their_networks(embedding):
    module = Own(torchmetrics.MetricCollection([FrechetDistance(embedding=embedding), Overlap(embedding=embedding)]))
    updated(module.metric, images(0), images(1))
    assert {"frechet_random", "recall_random"} <= set(module.metric.compute())
    assert list(module.parameters()) == []
    assert list(module.state_dict()) == []
    perceptual = Own(copy.deepcopy(Perceptual(embedding=embedding)))
    perceptual.metric.update(images(0), images(0))
    assert perceptual.metric.compute()["perceptual_random"] == 0
