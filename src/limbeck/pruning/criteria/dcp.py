"""Diversity-aware pruning: a channel is worth how differently the image reacts to it along the main directions of W.

Source: Chung et al., "Diversity-Aware Channel Pruning for StyleGAN Compression" (DCP-GAN), 2024, and its released
code, which decides the details.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.pruning.batches import Batches, sums_of, zero_sums
from limbeck.pruning.criteria.base import Criterion, Part, Scores, State
from limbeck.pruning.sensitivity import drawn_styles, mean_magnitudes, readers_trainable
from limbeck.seeds import seeded

STATISTICS = ("variance", "magnitude")
PCA_BATCH = 1000


def principal_directions(styles: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "d d"], Float[Tensor, "d"]]:
    """Orthonormal principal directions as rows, strongest first, and each one's share of the variance (sum 1).

    Both in float64. Computed from the covariance matrix; signs follow the largest entry, which is made positive.
    """
    centered = styles.double() - styles.double().mean(dim=0)
    variances, vectors = torch.linalg.eigh(centered.T @ centered)
    directions, variances = vectors.T.flip(0), variances.flip(0).clamp_min(0)
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    return directions * largest.sign(), variances / variances.sum()


def spread(magnitudes: Float[Tensor, "directions size"], statistic: str) -> Float[Tensor, "size"]:
    """Sum over directions of the squared deviation from their mean ("variance"), or of the values ("magnitude").

    Source: section 2.2 of the released method for "variance"; the public description speaks of "magnitude".
    """
    if statistic == "magnitude":
        return magnitudes.sum(dim=0)
    return (magnitudes - magnitudes.mean(dim=0)).square().sum(dim=0)


class DCP(Criterion):
    """Spread over latent directions of the gradient magnitude of |G(w) - G(w + alpha d)|, added over batches.

    alpha: length of the step in W. num_directions: per batch, drawn by their share of the variance, with replacement.
        The released 10 directions and 5000 samples cost 8 times the default, which ranks alike (benchmarks/README.md).
    num_samples, batch_size: latents in all and per batch; the gradients of a batch are added before magnitudes are
        taken, so the batch size is part of the definition.
    num_pca: latents from which the directions come.
    statistic: "variance" (released) or "magnitude" (as described).
    stop_gradient: True lets only G(w) carry gradient, as the authors' StyleGAN3 code, the SVS authors' and every
        comment say; False lets both, as the authors' StyleGAN2 code in fact does (half as fast again).
    noise: "random" draws the injected noise of every image anew, as released; "const" gives both images the same.
    share_base: G(w) is rendered once for all directions of a batch, with one draw of noise; False renders it for
        each, as released. With constant noise both are equal.
    precision: "float32" or "bfloat16" (convolutions only).

    Differs: an image's noise comes from its batch's seed, so that a resumed scoring is exact.
    """

    def __init__(
        self,
        *,
        alpha: float = 5.0,
        num_directions: int = 3,
        num_samples: int = 2000,
        batch_size: int = 5,
        num_pca: int = 10_000,
        statistic: str = "variance",
        stop_gradient: bool = True,
        noise: str = "random",
        share_base: bool = True,
        precision: str = "float32",
        seed: int = 0,
    ):
        self.alpha = alpha
        self.num_directions = num_directions
        self.batches = Batches(num_samples, batch_size, seed)
        self.num_pca = num_pca
        self.statistic = statistic
        self.stop_gradient = stop_gradient
        self.noise = noise
        self.share_base = share_base
        self.precision = precision

    @property
    def num_steps(self) -> int:
        return len(self.batches)

    def check(self) -> None:
        self.batches.check()
        for name in ("num_directions", "num_pca"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: must be at least 1")
        for name, allowed in (
            ("statistic", STATISTICS),
            ("noise", ("random", "const", "none")),
            ("precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name}={getattr(self, name)!r}: must be one of {', '.join(allowed)}")

    def start(self, model: Model) -> State:
        network = model.generator
        _, source = self.batches[-1]
        parts = [min(PCA_BATCH, self.num_pca - done) for done in range(0, self.num_pca, PCA_BATCH)]
        with torch.no_grad():
            styles = torch.cat([drawn_styles(network, count, source) for count in parts])
        directions, shares = principal_directions(styles.cpu())
        return {"directions": directions.float(), "shares": shares, **zero_sums(network)}

    def step(self, model: Model, state: State, index: int) -> Part:
        network = model.generator
        count, source = self.batches[index]
        with torch.no_grad():
            style = drawn_styles(network, count, source)
        picked = torch.multinomial(state["shares"], self.num_directions, replacement=True, generator=source)
        offsets = self.alpha * state["directions"][picked].to(style)
        with seeded(int(torch.randint(2**62, [], generator=source)), style.device):
            found = self.magnitudes(network, style, offsets)
        stacked = {name: torch.stack([magnitudes[name] for magnitudes in found]) for name in found[0]}
        return Part({name: spread(values, self.statistic) for name, values in stacked.items()})

    def scores(self, model: Model, state: State) -> Scores:
        return sums_of(state, model.generator)

    def magnitudes(self, network: Network, style: Tensor, offsets: Tensor) -> list[Scores]:
        """Per direction, the mean gradient magnitude of every group's channels.

        style: [n, d], one for all layers; offsets: [directions, d]. Injected noise comes from torch's random state.
        """
        half = self.precision == "bfloat16"
        with (
            readers_trainable(network) as weights,
            torch.autocast(style.device.type, torch.bfloat16, enabled=half),
        ):
            return [
                mean_magnitudes(network, dict(zip(weights, gradients, strict=True)))
                for gradients in self._gradients(network, style, offsets, list(weights.values()))
            ]

    def _gradients(
        self, network: Network, style: Tensor, offsets: Tensor, weights: list[Tensor]
    ) -> Iterator[tuple[Tensor, ...]]:
        """Per direction, the gradients of sum |G(w) - G(w + offset)| to the weights."""
        base = None
        for index, offset in enumerate(offsets):
            if base is None or not self.share_base:
                base, _ = network.rendered(style, noise=self.noise)
            with torch.set_grad_enabled(not self.stop_gradient):
                moved, _ = network.rendered(style + offset, noise=self.noise)
            sign = (base - moved).detach().sign()
            images, cotangents = ([base], [sign]) if self.stop_gradient else ([base, moved], [sign, -sign])
            again = self.share_base and index + 1 < len(offsets)
            yield torch.autograd.grad(images, weights, cotangents, retain_graph=again)
