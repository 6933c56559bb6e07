"""Images in memory, for criteria that need some."""

import torch

from limbeck.data.base import ImageDataset, ImageFacts, ImageSource


class Stored(ImageDataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def batch(self, indices):
        return self.images[torch.as_tensor(indices)].clone(), torch.zeros(len(indices), dtype=torch.long)


class InMemory(ImageSource):
    """`num` noise images of one size."""

    def __init__(self, num, *, resolution=8, num_channels=3):
        self.mirror, self.num_workers = False, 0
        drawn = torch.Generator().manual_seed(0)
        shape = (num, num_channels, resolution, resolution)
        self.images = torch.randint(256, shape, generator=drawn, dtype=torch.uint8)

    def open(self):
        num, channels, side, _ = self.images.shape
        return ImageFacts(side, channels, 0, num)

    def train(self):
        return Stored(self.images)

    def heldout(self):
        return Stored(self.images)

    def digest(self):
        return "0" * 64
