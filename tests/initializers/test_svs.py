"""Singular value scaling against its definition and its laws."""

import re

import numpy as np
import pytest
import torch

import limbeck
from limbeck.architectures import stylegan3
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.initializers.svs import SingularValueScaling, refined, scaled_bias, scaled_weight, scaled_weights, svs
from limbeck.model import Model


def by_definition(weight):
    """U diag(sqrt(s)) V^T in float64 with NumPy."""
    left, values, right = np.linalg.svd(weight.reshape(len(weight), -1).double().numpy(), full_matrices=False)
    return torch.from_numpy((left * np.sqrt(values)) @ right).reshape(weight.shape)


def relative_error(own, exact):
    return ((own.double() - exact).norm() / exact.norm()).item()


def with_condition(rows, columns, kappa):
    """A float32 matrix whose singular values fall evenly (in logarithm) from 1 to 1 / kappa."""
    k = min(rows, columns)
    left, _ = torch.linalg.qr(torch.randn(rows, k, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(columns, k, dtype=torch.float64))
    values = torch.logspace(0, -np.log10(kappa), k, dtype=torch.float64)
    return ((left * values) @ right.T).float()


def test_diagonal_by_hand():
    torch.testing.assert_close(
        scaled_weight(torch.diag(torch.tensor([9.0, 4.0]))), torch.diag(torch.tensor([3.0, 2.0]))
    )


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (5, 20), (20, 5), (7, 7), (3, 40, 1, 1), (1, 9)])
def test_laws(shape):
    weight = torch.randn(shape)
    scaled = scaled_weight(weight)
    old, new = weight.flatten(1).double(), scaled.flatten(1).double()
    values = torch.linalg.svdvals(old)
    torch.testing.assert_close(torch.linalg.svdvals(new), values.sqrt(), rtol=1e-6, atol=0)
    torch.testing.assert_close(new.square().sum(), values.sum(), rtol=1e-6, atol=0)
    if len(old) <= old.shape[1]:
        torch.testing.assert_close(torch.linalg.matrix_power(new @ new.T, 2), old @ old.T, rtol=1e-5, atol=1e-5)
    else:
        torch.testing.assert_close(torch.linalg.matrix_power(new.T @ new, 2), old.T @ old, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scaled_weight(4 * weight), 2 * scaled, rtol=1e-5, atol=1e-6)
    assert relative_error(scaled, by_definition(weight)) < 1e-6
    assert (scaled.shape, scaled.dtype) == (weight.shape, weight.dtype)


def test_orthonormal_rows_and_zero_are_fixed():
    rows, _ = torch.linalg.qr(torch.randn(36, 6))
    weight = rows.T.reshape(6, 4, 3, 3)
    torch.testing.assert_close(scaled_weight(weight), weight, rtol=1e-5, atol=1e-6)
    assert torch.equal(scaled_weight(torch.zeros(6, 4, 3, 3)), torch.zeros(6, 4, 3, 3))


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (40, 40)])
@pytest.mark.parametrize("kappa", [1e2, 1e4, 1e6, 1e8])
def test_accurate_at_any_condition(shape, kappa):
    weight = with_condition(*shape, kappa)
    scaled = scaled_weight(weight)
    exact = by_definition(weight)
    assert relative_error(scaled, exact) < 1e-6
    assert ((scaled.double() - exact).abs().max() / exact.abs().max()).item() < 1e-6


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_missing_rank_stays_missing(shape):
    weight = torch.randn(shape[0], 5) @ torch.randn(5, shape[1])
    weight[2] = 0
    scaled = scaled_weight(weight)
    values = torch.linalg.svdvals(weight.double())
    left, _, right = torch.linalg.svd(weight.double(), full_matrices=False)
    exact = (left[:, :5] * values[:5].sqrt()) @ right[:5]
    # The product of two float32 matrices has rank 5 up to rounding; what rounding left grows to its square root.
    assert relative_error(scaled, exact) < 1e-2
    exact_rank = torch.zeros(shape)
    exact_rank[0, 0], exact_rank[3, 4] = 9.0, 16.0
    torch.testing.assert_close(scaled_weight(exact_rank), exact_rank.sqrt(), rtol=1e-6, atol=0)
    assert torch.equal(scaled[2], torch.zeros(shape[1])) or scaled[2].abs().max() < 1e-6


def test_several_at_a_time_equal_one_by_one_and_threads_are_given_back():
    weights = [torch.randn(5, 4, 3, 3), torch.randn(30, 8), torch.zeros(3, 3)]
    before = torch.get_num_threads()
    together = scaled_weights(weights)
    assert torch.get_num_threads() == before
    for own, weight in zip(together, weights, strict=True):
        torch.testing.assert_close(own, scaled_weight(weight), rtol=1e-6, atol=1e-7)
    with pytest.raises(AttributeError):
        scaled_weights([None])
    assert torch.get_num_threads() == before


def test_channels_last_weights_are_read_in_logical_order():
    weight = torch.randn(6, 4, 3, 3)
    torch.testing.assert_close(scaled_weight(weight.to(memory_format=torch.channels_last)), scaled_weight(weight))


def test_bias_norm_becomes_its_root():
    bias = torch.randn(50) * 3
    scaled = scaled_bias(bias)
    torch.testing.assert_close(scaled.norm(), bias.norm().sqrt())
    torch.testing.assert_close(torch.cosine_similarity(scaled, bias, dim=0), torch.tensor(1.0))
    assert torch.equal(scaled_bias(torch.zeros(5)), torch.zeros(5))
    # Style-affine biases near 1 shrink to about C^(-1/4).
    torch.testing.assert_close(scaled_bias(torch.ones(154)), torch.full([154], 154**-0.25))


def noisy_model():
    generator = Generator(resolution=16, widths=[6, 5, 7, 8, 4, 9], z_dim=8, w_dim=8, mapping_depth=2).eval()
    with torch.no_grad():
        for tensor in generator.state_dict().values():
            tensor.copy_(torch.randn_like(tensor))
    return Model(generator, Discriminator(resolution=16, widths=[4, 4, 4]))


def test_exactly_the_refinable_parameters_change():
    student = noisy_model()
    before = {name: value.clone() for name, value in student.generator.state_dict().items()}
    new = limbeck.initializers.svs(student)
    names = student.generator.refinable()
    after = new.generator.state_dict()
    for name in names.weights:
        assert relative_error(after[name], by_definition(before[name])) < 1e-6, name
    for name in names.biases:
        torch.testing.assert_close(after[name].norm(), before[name].norm().sqrt(), msg=name)
    for name in set(before) - {*names.weights, *names.biases}:
        assert torch.equal(after[name], before[name]), name
    assert all(torch.equal(before[name], value) for name, value in student.generator.state_dict().items())
    assert new.discriminator is student.discriminator
    assert new.history[-1] == {"stage": "initialize", "initializer": "svs"}
    assert limbeck.profile(new.generator) == limbeck.profile(student.generator)


def test_zero_biases_stay_equal():
    generator = Generator(resolution=16, widths=[8] * 6, z_dim=8, w_dim=8, mapping_depth=1)
    new = refined(generator)
    same = {name for name, value in generator.named_parameters() if torch.equal(value, new.get_parameter(name))}
    layers = [name for name in generator.refinable().biases if not name.endswith("affine.bias")]
    assert set(layers) <= same


def test_normalization_layers_are_reset():
    from limbeck.architectures.base import Refinable

    class Normalized(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.GroupNorm(1, 3)
            torch.nn.init.normal_(self.norm.weight)
            torch.nn.init.normal_(self.norm.bias)

        def refinable(self):
            return Refinable(norm_weights=("norm.weight",), norm_biases=("norm.bias",))

    norm = refined(Normalized()).norm
    assert torch.equal(norm.weight, torch.ones(3))
    assert torch.equal(norm.bias, torch.zeros(3))


def test_nan_weights_are_named():
    student = noisy_model()
    with torch.no_grad():
        student.generator.synthesis.b8.conv1.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(limbeck.UserError, match=r"synthesis\.b8\.conv1\.weight.*NaN"):
        limbeck.initializers.svs(student)


def test_stylegan3_is_refined_as_released():
    """63 tensors: weight, bias, affine weight and affine bias of 15 layers, and three of the input."""
    generator = stylegan3.Generator(resolution=16, widths=[4] * 15, num_frequencies=6, z_dim=4, w_dim=4)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    names = generator.refinable()
    assert len(names.weights) + len(names.biases) == 63
    student = svs(Model(generator)).generator
    before, after = generator.state_dict(), student.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {*names.weights, *names.biases}
    assert changed == {name for name, _ in generator.named_parameters() if name.startswith("synthesis.")}
    weight = before["synthesis.input.weight"]
    torch.testing.assert_close(after["synthesis.input.weight"], scaled_weight(weight))
    torch.testing.assert_close(
        torch.linalg.svdvals(after["synthesis.L14.weight"].flatten(1)),
        torch.linalg.svdvals(before["synthesis.L14.weight"].flatten(1)).sqrt(),
    )


def test_the_input_s_fresh_affine_stays():
    generator = stylegan3.Generator(resolution=16, widths=[4, 4], num_layers=1, num_critical=0, z_dim=4, w_dim=4)
    bias = svs(Model(generator)).generator.synthesis.input.affine.bias
    torch.testing.assert_close(bias, torch.tensor([1.0, 0, 0, 0]))


@pytest.mark.parametrize("exponent", [0.25, 0.5, 0.75])
def test_any_power(exponent):
    weight = torch.randn(6, 4, 3, 3)
    values = torch.linalg.svdvals(weight.flatten(1).double())
    found = torch.linalg.svdvals(scaled_weight(weight, exponent).flatten(1).double())
    torch.testing.assert_close(found, values.pow(exponent), rtol=1e-6, atol=0)
    bias = torch.randn(9)
    torch.testing.assert_close(scaled_bias(bias, exponent).norm(), bias.norm().pow(exponent))
    diagonal = torch.diag(torch.tensor([16.0, 0.0]))  # by the singular value decomposition, for want of rank
    torch.testing.assert_close(scaled_weight(diagonal, exponent)[0, 0], torch.tensor(16.0**exponent))


def test_a_quarter_is_the_root_of_the_root():
    weight = torch.randn(5, 8)
    torch.testing.assert_close(scaled_weight(weight, 0.25), scaled_weight(scaled_weight(weight)))


def test_shape_and_scale_apart():
    """Each half changes what the other keeps; one after the other they are the whole."""
    student = noisy_model()
    names = student.generator.refinable()
    whole, shape, scale = svs(student), svs(student, scale=False), svs(student, shape=False)
    before, both, shaped, grown = (model.generator.state_dict() for model in (student, whole, shape, scale))
    for name in names.weights:
        torch.testing.assert_close(shaped[name].norm(), before[name].norm())
        torch.testing.assert_close(grown[name].norm(), both[name].norm())
        torch.testing.assert_close(shaped[name] / shaped[name].norm(), both[name] / both[name].norm())
        torch.testing.assert_close(grown[name] / grown[name].norm(), before[name] / before[name].norm())
    for name in names.biases:
        assert torch.equal(shaped[name], before[name])
        assert torch.equal(grown[name], both[name])
    assert shape.history[-1] == {"stage": "initialize", "initializer": "svs", "scale": False}


def test_under_demodulation_the_scale_of_filters_is_nothing_to_the_images():
    """The output of a demodulated convolution does not know its filter's norm: only the learning rate does."""
    generator = noisy_model().generator
    turned = refined(generator, shape=False)
    convolutions = [name for name, _ in generator.named_parameters() if re.fullmatch(r".*\.conv\d\.weight", name)]
    for name, value in generator.state_dict().items():
        if name not in convolutions:
            turned.state_dict()[name].copy_(value)
    assert len(convolutions) == 5
    latents = torch.randn(2, 8)
    torch.testing.assert_close(turned(latents), generator(latents), rtol=1e-4, atol=1e-4)
    for name in convolutions:
        norms = [network.get_parameter(name).norm().item() for network in (turned, generator)]
        assert norms[0] < 0.7 * norms[1], name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exponent": 1.0}, r"exponent=1\.0: must lie between 0 and 1"),
        ({"exponent": "half"}, r"exponent='half': must be a finite number"),
        ({"shape": 1}, r"shape=1: must be True or False"),
        ({"scale": None}, r"scale=None: must be True or False"),
        ({"shape": False, "scale": False}, "nothing would change"),
    ],
)
def test_settings_that_say_nothing(settings, message):
    with pytest.raises(limbeck.UserError, match=message):
        svs(noisy_model(), **settings)
    with pytest.raises(limbeck.UserError, match=message):
        SingularValueScaling(**settings)


def test_zero_weights_stay_zero_in_either_half():
    generator = Generator(resolution=8, widths=[4] * 4, z_dim=4, w_dim=4, mapping_depth=1)
    with torch.no_grad():
        generator.synthesis.b4.conv1.weight.zero_()
    for settings in ({"shape": False}, {"scale": False}):
        assert not refined(generator, **settings).synthesis.b4.conv1.weight.any()
