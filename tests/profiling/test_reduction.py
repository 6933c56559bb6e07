"""The published compression rates follow from the published pruning ratios."""

import pytest
import torch

from limbeck.architectures.stylegan2 import Generator
from limbeck.profiling.reduction import operations, reduction
from limbeck.pruning.allocation import kept_count

PUBLISHED = {
    0.7: (2_606_601_376, 2_611_816_428, 90.728),
    0.8: (1_161_142_176, 1_164_670_296, 95.865),
    0.9: (302_930_880, 304_894_947, 98.918),
    0.95: (85_425_312, 86_622_380, 99.692),
}


@pytest.fixture(scope="module")
def teacher() -> Generator:
    with torch.device("meta"):
        return Generator(resolution=256, channel_base=16384)


def test_operations_of_the_teacher(teacher):
    assert operations(teacher, biases=False) == 28_152_815_616
    assert operations(teacher) == 28_169_153_776


@pytest.mark.parametrize("ratio", PUBLISHED)
def test_published_rates(teacher, ratio):
    macs, with_biases, rate = PUBLISHED[ratio]
    with torch.device("meta"):
        student = teacher.resized({g.name: kept_count(g.size, ratio) for g in teacher.channel_groups()})
    assert operations(student, biases=False) == macs
    assert operations(student) == with_biases
    assert 100 * reduction(teacher, student) == pytest.approx(rate, abs=5e-4)


def test_nothing_saved_by_itself(teacher):
    assert reduction(teacher, teacher) == 0
