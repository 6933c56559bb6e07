"""Views of images as what is translated from."""

from functools import partial

import numpy as np
import pytest
import torch

from limbeck.data.base import ImageDataset, ImageFacts, ImageSource
from limbeck.data.loading import heldout_batches, train_loader
from limbeck.data.translation.derived import Derived, gray, lines, rotated, smaller
from limbeck.errors import UserError


class Numbered(ImageDataset):
    """Image i has the color i, and the label i mod 3."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def batch(self, indices):
        colors = torch.from_numpy(np.asarray(indices)).to(torch.uint8)
        return colors[:, None, None, None].expand(-1, 3, 8, 8).clone(), torch.from_numpy(indices % 3)


class Source(ImageSource):
    mirror, num_workers = False, 0

    def open(self):
        return ImageFacts(8, 3, 3, 40)

    def train(self):
        return Numbered(40)

    def heldout(self):
        return Numbered(10)

    def digest(self):
        return "numbered"


def dimmed(images):
    return images // 2


def test_gray_and_rotated_by_hand():
    image = torch.tensor([10, 100, 200], dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert gray(image).flatten().tolist() == [round(0.299 * 10 + 0.587 * 100 + 0.114 * 200)]
    assert rotated(image).flatten().tolist() == [100, 200, 10]
    assert rotated(rotated(rotated(image))).equal(image)


def test_smaller_is_pillow_s_bicubic():
    from PIL import Image

    image = torch.randint(256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    expected = Image.fromarray(image[0].permute(1, 2, 0).numpy()).resize((8, 8), Image.Resampling.BICUBIC)
    difference = smaller(image)[0].permute(1, 2, 0).int() - torch.from_numpy(np.array(expected)).int()
    assert difference.abs().max() <= 1
    assert smaller(image, factor=2).shape == (1, 3, 16, 16)
    with pytest.raises(UserError, match=r"data\.view\.factor=5: must divide the images' sides, 32 and 32"):
        smaller(image, factor=5)


def test_pairs_come_in_the_order_of_their_images_with_their_labels():
    loader = iter(train_loader(Derived(Source(), dimmed), batch_size=40, seed=0))
    images, labels, sources = next(loader)
    assert sources.equal(dimmed(images))
    assert labels.equal(images[:, 0, 0, 0].long() % 3)
    assert sorted(images[:, 0, 0, 0].tolist()) == list(range(40))


def test_torn_pairs_show_every_image_once_on_both_sides():
    images, _, sources = next(iter(train_loader(Derived(Source(), dimmed, paired=False), batch_size=40, seed=0)))
    assert sorted(sources[:, 0, 0, 0].tolist()) == sorted((torch.arange(40) // 2).tolist())
    assert (sources != dimmed(images)).any(dim=(1, 2, 3)).float().mean() > 0.8


def test_heldout_starts_have_known_targets():
    data = Derived(Source(), dimmed, paired=False)
    at = np.array([3, 7])
    assert data.sources().batch(at)[0].equal(dimmed(data.targets().batch(at)[0]))
    assert data.sources().labels_of(at).tolist() == [0, 1]
    assert len(data.sources()) == len(data.targets()) == len(data.heldout()) == 10
    assert data.open() == Source().open()
    (real,) = heldout_batches(data, num_images=10, batch_size=10)
    assert sorted(real[:, 0, 0, 0].tolist()) == list(range(10))


def test_the_digest_follows_the_view_and_its_settings():
    views = [gray, rotated, partial(smaller, factor=2), partial(smaller, factor=4)]
    assert len({Derived(Source(), view).digest() for view in views}) == 4
    assert Derived(Source(), gray).digest() == Derived(Source(), gray, paired=False).digest()  # held out: the same


def test_other_data_have_nothing_to_start_from():
    with pytest.raises(UserError, match="Source holds no images to start from"):
        Source().sources()
    assert Source().targets() is None


def test_lines_by_hand():
    image = torch.zeros(1, 3, 5, 5, dtype=torch.uint8)
    image[:, :, :, 3:] = 90  # 35 % of 255 are 89.25
    assert lines(image)[0, 0, 2].tolist() == [255, 255, 0, 0, 255]
    assert (lines(image, contrast=0.36) == 255).all()
    with pytest.raises(UserError, match=r"data\.view\.contrast=2: must lie in \[0, 1\]"):
        lines(image, contrast=2)
