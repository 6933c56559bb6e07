import pytest
import torch

from limbeck import Model, sample
from limbeck.architectures.ddpm import UNet
from limbeck.errors import UserError
from limbeck.evaluation import sampling
from limbeck.evaluation.sampling import eight_bits, from_eight_bits, input_batches, inputs_of, stages
from limbeck.functional.diffusion import ddim, time_grid

from .conftest import NoiseSource, tiny_model


class Halved(UNet):
    """Draws half of the image it is given."""

    draws_from = "images"

    def draw(self, latent, label=None, **how):
        return latent / 2


class Sources(NoiseSource):
    """Its images serve as those to start from."""

    def sources(self):
        return self.images


def test_a_network_that_draws_from_images_takes_them_from_the_data_in_order():
    network = Halved(resolution=16, level_widths=[8], blocks_per_level=1, norm_groups=2, attention_levels=[])
    expected = from_eight_bits(Sources(3).images.images) / 2
    assert torch.equal(sample(Model(network), 3, data=Sources(3), batch_size=2), expected)
    parts = list(input_batches(network, 3, 0, batch_size=2, data=Sources(3)))
    assert [start for start, _ in parts] == [0, 2]
    assert torch.equal(torch.cat([part.source for _, part in parts]) / 2, expected)
    with pytest.raises(UserError, match="num_images=4: the data hold 3 images to start from"):
        sample(Model(network), 4, data=Sources(3))
    with pytest.raises(UserError, match="Halved draws from images: give the data"):
        sample(Model(network), 3)
    with pytest.raises(UserError, match="NoiseSource holds no images to start from"):
        sample(Model(network), 3, data=NoiseSource())


def test_the_images_are_those_of_the_seeded_latents(model):
    latent = torch.randn(5, 16, generator=torch.Generator().manual_seed(3))
    expected = model.generator(latent, noise="const").clamp(-1, 1)
    assert torch.equal(sample(model, 5, seed=3), expected)
    assert not torch.equal(sample(model, 5, seed=4), expected)


def test_batches_do_not_change_the_images(model):
    assert torch.allclose(sample(model, 7, batch_size=3), sample(model, 7, batch_size=7), atol=1e-5)
    assert len(sample(model, 1)) == 1


def test_random_noise_repeats_and_leaves_the_random_state_alone(model):
    before = torch.get_rng_state()
    first = sample(model, 6, noise="random", batch_size=3)
    assert torch.equal(before, torch.get_rng_state())
    torch.randn(10)
    assert torch.equal(first, sample(model, 6, noise="random", batch_size=3))
    assert not torch.allclose(first, sample(model, 6, noise="const"))
    # Noise differs between images and between batches.
    same = tiny_model()
    same.generator.mapping.w_avg.zero_()
    flat = sample(same, 6, noise="random", truncation=0.0, batch_size=3)
    assert all(not torch.allclose(flat[i], flat[j]) for i in range(6) for j in range(i))


def test_values_are_clamped(model):
    model.generator.synthesis.b16.torgb.bias.fill_(0.9)
    image = sample(model, 4)
    assert image.max() == 1
    assert image.min() >= -1


def test_truncation_reaches_the_generator(model):
    flat = sample(model, 3, truncation=0.0)
    assert torch.allclose(flat[0], flat[1], atol=1e-6)


def test_labels_are_drawn_uniformly_or_taken():
    model = tiny_model(num_classes=4)
    drawn = inputs_of(model.generator, 400, seed=0)
    counts = torch.bincount(drawn.label, minlength=4)
    assert counts.min() > 60
    assert torch.equal(sample(model, 5), sample(model, 5, label=inputs_of(model.generator, 5, 0).label))
    assert not torch.allclose(
        sample(model, 5, label=torch.zeros(5).long()), sample(model, 5, label=torch.ones(5).long())
    )


@pytest.mark.parametrize("arguments", [{"n": 0}, {"n": 2, "noise": "loud"}])
def test_wrong_arguments_are_refused(model, arguments):
    with pytest.raises(UserError, match=r"n=0|noise='loud'"):
        sample(model, **arguments)


def test_eight_bits_by_hand():
    image = torch.tensor([-3.0, -1.0, 0.0, 0.5 / 127.5 - 0.001, 1.0, 2.0])
    assert eight_bits(image).tolist() == [0, 0, 128, 128, 255, 255]
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(eight_bits(from_eight_bits(every)), every)


@pytest.fixture
def diffusion():
    network = UNet(resolution=8, level_widths=[8, 8], blocks_per_level=1, norm_groups=2, num_train_steps=50)
    return Model(network.eval())


def test_images_of_a_denoiser(diffusion):
    network = diffusion.generator
    noise = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    for grid in ("uniform", "quadratic"):
        expected = ddim(network, noise, time_grid(5, grid, 50), network.alpha_bar()).clamp(-1, 1)
        images = sample(diffusion, 3, seed=2, steps=5, grid=grid)
        assert torch.equal(images, expected)
        assert not images.requires_grad
    before = torch.get_rng_state()
    noisy = sample(diffusion, 3, seed=2, steps=5, eta=1.0)
    assert torch.equal(noisy, sample(diffusion, 3, seed=2, steps=5, eta=1.0))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.allclose(noisy, sample(diffusion, 3, seed=2, steps=5))
    clipped = sample(diffusion, 3, seed=2, steps=5, clip_sample=True)
    expected = ddim(network, noise, time_grid(5, "uniform", 50), network.alpha_bar(), clip_sample=True)
    assert torch.equal(clipped, expected.clamp(-1, 1))
    assert not torch.allclose(clipped, sample(diffusion, 3, seed=2, steps=5))
    parts = sample(diffusion, 3, seed=2, steps=5, grid="quadratic", batch_size=2)
    torch.testing.assert_close(parts, images, rtol=0, atol=1e-4)


def test_settings_of_the_other_family_are_ignored(model, diffusion):
    assert torch.equal(sample(model, 2, steps=3), sample(model, 2))
    assert torch.equal(sample(diffusion, 2, steps=3, truncation=0.5, noise="none"), sample(diffusion, 2, steps=3))


@pytest.mark.parametrize(
    ("arguments", "message"), [({"steps": 51}, "steps=51: must be from 1 to 50"), ({"grid": "cubic"}, "grid='cubic'")]
)
def test_wrong_arguments_of_a_denoiser(diffusion, arguments, message):
    with pytest.raises(UserError, match=message):
        sample(diffusion, 1, **arguments)


def test_latents_drawn_in_parts_are_those_drawn_at_once(diffusion, monkeypatch):
    whole = inputs_of(diffusion.generator, 7, seed=3).source
    for at_once in (2**25, 100):
        monkeypatch.setattr(sampling, "AT_ONCE", at_once)
        parts = list(input_batches(diffusion.generator, 7, 3, batch_size=3))
        assert [start for start, _ in parts] == [0, 3, 6]
        assert torch.equal(torch.cat([part.source for _, part in parts]), whole)


def test_labels_are_drawn_with_their_latents():
    generator = tiny_model(num_classes=5).generator
    whole = inputs_of(generator, 6, seed=1)
    labels = [part.label for _, part in input_batches(generator, 6, 1, batch_size=4)]
    assert torch.equal(torch.cat(labels), whole.label)


def test_stages_lead_from_the_noise_to_the_image(diffusion):
    found = stages(diffusion, 4, seed=2, steps=5)
    assert found.shape == (4, 3, 8, 8)
    assert torch.equal(found[0], inputs_of(diffusion.generator, 1, seed=2).source[0])
    torch.testing.assert_close(found[-1].clamp(-1, 1), sample(diffusion, 1, seed=2, steps=5)[0])
    assert not torch.equal(found[1], found[2])
    assert stages(tiny_model(), 4) is None
