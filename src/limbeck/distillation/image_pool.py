"""Older generated images for a discriminator to see again, so that it does not forget them."""

import torch
from torch import Tensor


class ImagePool:
    """Keeps up to `size` images and hands out some of them in place of new ones; 0 hands out the new ones.

    Until it is full every image is kept and returned. Then each is returned with probability 1/2, and else takes the
    place of a random kept one, which is returned.

    Every process has its own; `TranslationDistillation` keeps them all in its checkpoints.

    Source: Shrivastava et al., "Learning from Simulated and Unsupervised Images through Adversarial Training", 2017,
    section 2.3, as in the public CycleGAN code.
    """

    def __init__(self, size: int):
        self.size = size
        self.images: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        """As many images as are given, [n, c, h, w]."""
        return torch.stack([self._exchanged(image) for image in images]) if self.size else images

    def _exchanged(self, image: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if float(torch.rand(())) < 0.5:
            return image
        place = int(torch.randint(self.size, ()))
        older, self.images[place] = self.images[place], image.clone()
        return older.to(image)  # those of a checkpoint may lie elsewhere
