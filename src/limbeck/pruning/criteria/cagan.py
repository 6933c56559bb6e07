"""Content-aware pruning: a channel is worth how strongly noise placed on the content moves the weights that read it.

Source: Liu et al., "Content-Aware GAN Compression" (CAGAN), 2021, released code ("content-aware l1-out"); the paper's
own formula was not verified.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limbeck.errors import UserError
from limbeck.masks.base import ContentMask
from limbeck.model import Model
from limbeck.pruning.batches import Batches, sums_of, zero_sums
from limbeck.pruning.criteria.base import Criterion, Part, Scores, State
from limbeck.pruning.sensitivity import latent_inputs, mean_magnitudes, readers_trainable
from limbeck.seeds import seeded


def salted(
    image: Float[Tensor, "n c h w"], mask: Bool[Tensor, "n 1 h w"], density: float, source: torch.Generator
) -> Float[Tensor, "n c h w"]:
    """Salt-and-pepper noise on the content: each masked pixel becomes -1 or 1 in all channels, with a probability.

    density: that probability, in [0, 1]; both values are equally likely. source: a generator on the CPU.
    """
    drawn = torch.rand(mask.shape, generator=source).to(image.device)
    value = (torch.randint(2, mask.shape, generator=source) * 2 - 1).to(image)
    return torch.where(mask & (drawn < density), value, image)


class CAGAN(Criterion):
    """Gradient magnitude of the summed |noisy image - image|, noise on the content only, added over batches.

    mask: says which pixels are content.
    num_samples, batch_size: latents in all and per batch; a batch's gradients are added before magnitudes are taken,
        so the batch size is part of the definition.
    density: share of the content's pixels that is replaced, in [0, 1].
    """

    def __init__(
        self,
        *,
        mask: ContentMask,
        num_samples: int = 400,
        batch_size: int = 10,
        density: float = 0.05,
        seed: int = 0,
    ):
        self.mask = mask
        self.batches = Batches(num_samples, batch_size, seed)
        self.density = density

    @property
    def num_steps(self) -> int:
        return len(self.batches)

    def check(self) -> None:
        self.batches.check()
        if not 0 <= self.density <= 1:
            raise UserError(f"density={self.density}: must lie in [0, 1]")
        self.mask.check()

    def start(self, model: Model) -> State:
        return zero_sums(model.generator)

    def step(self, model: Model, state: State, index: int) -> Part:
        network = model.generator
        count, source = self.batches[index]
        device = next(network.parameters()).device
        mask = self.mask.load().to(device)
        inputs = latent_inputs(network, count, source)
        noise_seed = int(torch.randint(2**62, [], generator=source))
        with readers_trainable(network) as weights, seeded(noise_seed, device):
            image = network.draw(inputs.source, inputs.label, noise="random")
            fixed = image.detach()
            noisy = salted(fixed, mask(fixed), self.density, source)
            gradients = torch.autograd.grad(image, list(weights.values()), (fixed - noisy).sign())
        return Part(mean_magnitudes(network, dict(zip(weights, gradients, strict=True))))

    def scores(self, model: Model, state: State) -> Scores:
        return sums_of(state, model.generator)
