"""A tiny denoiser and a micro-batch of noisy images for it."""

import torch

from limbeck.architectures.ddpm import UNet
from limbeck.frozen import Frozen
from limbeck.losses.denoising_step import DenoisingStep
from limbeck.losses.image_step import Players


def tiny_denoiser(seed=0, **changes) -> UNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = {"resolution": 8, "level_widths": [8, 8], "blocks_per_level": 1, "norm_groups": 2, **changes}
        return UNet(**settings)


def denoising_step(student=None, teacher=None, *, num_images=4, timestep=None, **settings) -> DenoisingStep:
    student = student or tiny_denoiser()
    source = torch.Generator().manual_seed(7)
    clean, noise = torch.randn(2, num_images, 3, 8, 8, generator=source)
    return DenoisingStep(
        Players(student, Frozen(teacher or tiny_denoiser(1)), {}),
        clean=clean.clamp(-1, 1),
        noise=noise,
        timestep=torch.tensor(timestep or [10, 900, 300, 500][:num_images]),
        alpha_bar=student.alpha_bar(),
        **settings,
    )
