import os
import stat

import pytest
import torch

from limbeck.cache import cache_folder
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.errors import UserError
from limbeck.evaluation.reference import (
    cached_path,
    num_reference_images,
    reference_features,
)

from .conftest import NoiseSource

CPU = torch.device("cpu")


def features(source, embedding=None, num_images=40, batch_size=16):
    embedding = embedding or RandomProjection()
    return reference_features(source, embedding, num_images=num_images, batch_size=batch_size, device=CPU)


def test_features_are_those_of_distinct_images(source):
    found = features(source, num_images=60)
    expected = RandomProjection().load()(source.images.images / 127.5 - 1)
    nearest = torch.cdist(found, expected).min(dim=1)
    assert nearest.values.max() < 1e-3
    assert sorted(nearest.indices.tolist()) == list(range(60))


def test_a_second_call_reads_the_cache_and_not_the_images(source, cache):
    first = features(source)
    assert source.images.read == 40
    assert torch.equal(first, features(source))
    assert source.images.read == 40
    assert [path.parent for path in cache.rglob("*.safetensors")] == [cache / "reference"]
    assert cache_folder() == cache


def test_whatever_changes_the_features_changes_the_file(source):
    base = cached_path(source, RandomProjection(), 40, 16)
    assert base == cached_path(NoiseSource(), RandomProjection(), 40, 16)
    others = [
        cached_path(NoiseSource(name="b"), RandomProjection(), 40, 16),
        cached_path(source, RandomProjection(seed=1), 40, 16),
        cached_path(source, RandomProjection(num_features=32), 40, 16),
        cached_path(source, RandomProjection(), 41, 16),
        cached_path(source, RandomProjection(), 40, 17),
    ]
    assert len({base, *others}) == 6


@pytest.mark.parametrize("damage", [b"", b"garbage", "short"])
def test_a_damaged_cache_is_made_again(source, damage):
    first = features(source)
    path = cached_path(source, RandomProjection(), 40, 16)
    path.write_bytes(path.read_bytes()[:-50] if damage == "short" else damage)
    assert torch.equal(features(source), first)
    assert source.images.read == 80
    assert torch.equal(features(source), first)
    assert source.images.read == 80


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_costs_only_time(source, cache):
    cache.mkdir(parents=True)
    cache.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.warns(UserWarning, match="not kept"):
        assert len(features(source)) == 40


def test_a_cache_folder_that_is_a_file_costs_only_time(source, cache):
    cache.parent.mkdir(parents=True)
    cache.write_text("in the way")
    with pytest.warns(UserWarning, match="not kept"):
        assert len(features(source)) == 40


def test_all_images_or_the_first_in_a_fixed_order(source):
    assert num_reference_images(source, None) == 60
    assert num_reference_images(source, 50) == 50
    assert num_reference_images(source, 500) == 60
    assert torch.allclose(features(source, num_images=20), features(source, num_images=40)[:20], atol=1e-6)
    with pytest.raises(UserError, match="num_reference=0"):
        num_reference_images(source, 0)
