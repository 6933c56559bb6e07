"""Statistics of batch norm follow the weights that an initializer changes."""

import pytest
import torch

from limbeck.architectures.dcgan import Generator
from limbeck.architectures.stylegan2 import Generator as StyleGAN2
from limbeck.initializers import Random, svs
from limbeck.initializers.batch_statistics import remeasure
from limbeck.model import Model, Pair


@pytest.fixture
def network():
    return Generator(resolution=8, width=5, z_dim=7).eval()


def test_they_are_the_mean_over_batches_of_the_inputs_of_the_norm(network):
    remeasure(network, seed=3)
    norm, conv = network.layers[0].norm, network.layers[0].conv
    numbers = torch.Generator().manual_seed(3)
    maps = [conv(torch.randn(64, 7, generator=numbers)[:, :, None, None]).transpose(0, 1).flatten(1) for _ in range(8)]
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean(dim=1) for x in maps]).mean(dim=0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var(dim=1) for x in maps]).mean(dim=0))
    assert (norm.momentum, network.training) == (0.1, False)


def test_initializers_leave_statistics_of_the_new_weights(network):
    for start in (svs(Model(network)), Random(seed=1)(Pair(Model(network), Model(network))).student):
        latent = torch.randn(2000, 7)
        maps = start.generator.layers[0].conv(latent[:, :, None, None]).transpose(0, 1).flatten(1)
        torch.testing.assert_close(start.generator.layers[0].norm.running_var, maps.var(dim=1), rtol=0.1, atol=0)
        assert not torch.equal(start.generator.layers[0].norm.running_var, network.layers[0].norm.running_var)


def test_a_network_without_batch_norm_stays_and_draws_nothing():
    network = StyleGAN2(resolution=8, channel_max=4, z_dim=4, w_dim=4)
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.random.get_rng_state()
    remeasure(network)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert torch.equal(state, torch.random.get_rng_state())
