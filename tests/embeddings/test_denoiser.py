import pytest
import torch

from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Generator
from limbeck.embeddings.denoiser import Denoiser
from limbeck.errors import UserError
from limbeck.model import Model

WIDTHS = (8, 16)


def unet(seed=0):
    torch.manual_seed(seed)
    return UNet(resolution=8, level_widths=WIDTHS, blocks_per_level=1, attention_levels=(), norm_groups=4)


@pytest.fixture
def embedding():
    return Denoiser(source=lambda: Model(unet()), timestep=30).load()


def test_features_are_the_blocks_means(embedding):
    network, image = unet().eval(), torch.rand(3, 3, 8, 8) * 2 - 1
    blocks = ["down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1"]
    with torch.no_grad():
        _, outputs = network(image * network.alpha_bar()[30].sqrt().float(), 30, return_features=blocks)
        found = embedding(image)
    assert torch.allclose(found, torch.cat([outputs[name].mean(dim=(2, 3)) for name in blocks], dim=1), atol=1e-6)
    assert found.shape == (3, embedding.num_features) == (3, 8 + 16 + 16 + 16 + 8)


def test_other_sizes_grey_images_and_gradients(embedding):
    image = torch.rand(2, 1, 16, 16, requires_grad=True)
    maps = embedding.feature_maps(image)
    assert [features.shape[2] for features in maps] == [8, 8, 4, 4, 4]
    embedding(image).sum().backward()
    assert image.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in embedding.parameters())


def test_the_digest_follows_the_weights_and_the_time_step(embedding):
    same, other = (Denoiser(source=lambda seed=seed: Model(unet(seed)), timestep=30) for seed in (0, 1))
    assert same.digest() == embedding.digest() != other.digest()
    assert Denoiser(source=lambda: Model(unet()), timestep=31).digest() != embedding.digest()


def test_a_gan_is_refused():
    with pytest.raises(UserError, match="Generator is not a denoiser"):
        Denoiser(source=lambda: Model(Generator(resolution=4, widths=[4, 4], z_dim=4, w_dim=4))).load()
