"""Spectra against a decomposition of the whole matrix, by hand, and under singular value scaling."""

import math

import numpy as np
import pytest
import torch

from limbeck.architectures.dcgan import Generator
from limbeck.initializers.svs import refined
from limbeck.profiling.spectra import dominance, growth, spectra


def network():
    torch.manual_seed(0)
    return Generator(resolution=16, widths={"map4": 7, "map8": 5}, z_dim=4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0, 1.0, 6.0], 2.0), ([1.0, 3.0, 4.0, 8.0], 8 / 3.5), ([5.0], 1.0), ([1.0, 0, 0], math.inf)],
)
def test_dominance_by_hand(values, expected):
    assert dominance(torch.tensor(values)) == pytest.approx(expected, rel=1e-6)


def test_every_refinable_weight_as_it_is_refined():
    generator = network()
    names = generator.refinable()
    found = spectra(generator)
    assert [spectrum.name for spectrum in found] == list(names.weights)
    for spectrum in found:
        weight = generator.get_parameter(spectrum.name).detach().double().numpy()
        matrix = np.moveaxis(weight, 1, 0) if spectrum.name in names.transposed else weight
        values = np.linalg.svd(matrix.reshape(len(matrix), -1), compute_uv=False)
        assert spectrum.dominance == pytest.approx(values[0] / np.median(values), rel=1e-6)
        assert spectrum.norm == pytest.approx(np.sqrt((values**2).sum()), rel=1e-6)


def test_scaling_takes_the_root_of_the_dominance():
    generator = network()
    before, after = spectra(generator), spectra(refined(generator))
    odd = [index for index, one in enumerate(before) if min(generator.get_parameter(one.name).shape[:2]) % 2]
    for index in odd:  # the root of a middle value is the middle of the roots; of a mean it is not
        assert after[index].dominance == pytest.approx(math.sqrt(before[index].dominance), rel=1e-4)
    assert odd
    shaped = spectra(refined(generator, scale=False))
    assert growth(before, shaped) == pytest.approx(1.0, rel=1e-5)
    assert growth(before, after) == pytest.approx(growth(before, spectra(refined(generator, shape=False))), rel=1e-5)


def test_growth_by_hand():
    generator = network()
    before = spectra(generator)
    with torch.no_grad():
        for index, one in enumerate(before):
            generator.get_parameter(one.name).mul_(2.0 if index else 8.0)
    assert growth(before, spectra(generator)) == pytest.approx(2 * 4 ** (1 / len(before)), rel=1e-6)
    with torch.no_grad():
        generator.get_parameter(before[0].name).zero_()
    assert growth(before, spectra(generator)) == pytest.approx(2.0, rel=1e-6)
    assert spectra(generator)[0].dominance == math.inf
