import torch

from limbeck.embeddings.random_projection import RandomProjection


def test_features_depend_on_seed_and_size_only():
    image = torch.rand(3, 3, 32, 32)
    before = torch.get_rng_state()
    first, again = RandomProjection(seed=1).load(), RandomProjection(seed=1).load()
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first(image), again(image))
    assert not torch.allclose(first(image), RandomProjection(seed=2).load()(image))
    assert first.digest() == again.digest() != RandomProjection(seed=2).digest()


def test_shapes_and_gradient():
    embedding = RandomProjection(num_features=32).load()
    image = torch.rand(2, 1, 16, 16, requires_grad=True)
    features = embedding(image)
    assert features.shape == (2, 32)
    assert [tuple(m.shape) for m in embedding.feature_maps(image)] == [(2, 16, 8, 8), (2, 32, 4, 4), (2, 8, 2, 2)]
    features.sum().backward()
    assert image.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in embedding.parameters())


def test_different_images_have_different_features():
    features = RandomProjection().load()(torch.rand(5, 3, 32, 32))
    assert torch.pdist(features).min() > 1e-3
