"""Without gradients a layer reuses memory; nothing that a caller holds may change by it."""

import pytest
import torch

from limbeck.architectures.stylegan2 import Generator


def generator(**changes):
    made = Generator(resolution=16, widths=[6, 5, 7, 8, 4, 9], z_dim=10, w_dim=12, mapping_depth=2, **changes)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter.add_(torch.randn_like(parameter))
    return made.eval()


def drawn(network, style, noise):
    torch.manual_seed(3)
    return network.synthesis(style, noise=noise, return_features=(4, 8, 16))


@pytest.mark.parametrize("noise", ["const", "random", "none"])
@pytest.mark.parametrize("clamp", [None, 0.5])
def test_same_image_and_features_with_and_without_gradients(noise, clamp):
    network = generator(clamp=clamp)
    style = torch.randn(3, 12)
    image, features = drawn(network, style, noise)
    assert image.requires_grad
    with torch.no_grad():
        frozen_image, frozen_features = drawn(network, style, noise)
    assert torch.equal(image, frozen_image)
    assert all(torch.equal(features[r], frozen_features[r]) for r in (4, 8, 16))


def test_parameters_and_styles_stay_as_they_were():
    network = generator().requires_grad_(False)
    style = torch.randn(3, 12)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    kept = style.clone()
    network.synthesis(style, noise="random")
    assert torch.equal(style, kept)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("trained", ["bias", "noise_strength", "affine.weight", "weight"])
def test_one_trained_kind_of_parameter_still_gets_its_gradient(trained):
    network = generator().requires_grad_(False)
    layer = network.synthesis.b16.conv1
    layer.get_parameter(trained).requires_grad_(True)
    network.synthesis(torch.randn(2, 12), noise="const").square().sum().backward()
    assert layer.get_parameter(trained).grad.abs().sum() > 0


def test_a_frozen_generator_passes_gradients_to_the_style():
    network = generator().requires_grad_(False)
    style = torch.randn(2, 12, dtype=torch.float32, requires_grad=True)
    network.synthesis(style, noise="const").square().sum().backward()
    assert style.grad.abs().sum() > 0
