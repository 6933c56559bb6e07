"""First-order Taylor scores of a denoiser: how much its loss would change without a channel, over all time steps.

Source: Fang et al., "Structural Pruning for Diffusion Models" (Diff-Pruning), 2023, and its released code, which
decides the details; the paper's own equations were not verified.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.architectures.base import Network, channel_slice
from limbeck.data.base import ImageSource
from limbeck.errors import UserError
from limbeck.functional.diffusion import diffuse, noise_loss
from limbeck.model import Model
from limbeck.pruning.criteria.base import Criterion, Scores, State
from limbeck.pruning.sensitivity import only_trainable
from limbeck.seeds import batch_seed

STATISTICS = ("squares", "magnitudes", "sum")
PIXELS = ("sum", "mean")


def taylor_terms(weight: Tensor, gradient: Tensor, dim: int, statistic: str) -> Float[Tensor, "size"]:
    """Of the products of weights and gradients along `dim`: the sum of their "squares" or "magnitudes", or their "sum".

    In float64. Source: released importance ("squares"), its pipeline for diffusers ("magnitudes"; "sum" for Taylor).
    """
    products = (weight.detach().double() * gradient.double()).transpose(0, dim).reshape(weight.shape[dim], -1)
    if statistic == "sum":
        return products.sum(dim=1)
    return (products.square() if statistic == "squares" else products.abs()).sum(dim=1)


def taylor_scores(network: Network, gradients: Mapping[str, Tensor], statistic: str) -> Scores:
    """Per channel, `taylor_terms` added over all weights that write or read it, and |product| over its norms' scales.

    Biases do not count. With "sum" the absolute value is taken at the end.

    gradients: of all convolution, linear and normalization weights, by parameter name.
    """
    parameters, norms = dict(network.named_parameters()), set(network.refinable().norm_weights)
    scores = {}
    for group in network.channel_groups():
        total = torch.zeros(group.size, dtype=torch.float64)
        for axis in group.axes:
            if axis.role == "other" and axis.parameter not in norms:
                continue
            kind = "magnitudes" if axis.parameter in norms and statistic == "squares" else statistic
            terms = taylor_terms(parameters[axis.parameter], gradients[axis.parameter], axis.dim, kind)
            total += terms[channel_slice(axis, group.size)].reshape(group.size, axis.repeat).sum(dim=1).cpu()
        scores[group.name] = total.abs() if statistic == "sum" else total
    return scores


class Taylor(Criterion):
    """Products of weights with the gradients of the noise-prediction loss, added over all time steps.

    data: images; one batch of them and one noise image for each serve all steps.
    batch_size: images. micro_batch_size: of them at a time, to save memory; None for all.
    num_train_steps: time steps of the denoiser's schedule.
    statistic: "squares" (released), "magnitudes" or "sum" (the authors' pipeline for diffusers), see `taylor_scores`.
    pixels: the loss is the "sum" (released) or "mean" (pipeline for diffusers) over channels and pixels; it changes the
        ranking, because squares of weights and magnitudes of scales are added.
    precision: "float32" or "bfloat16" (convolutions and matrix products only).

    Differs: all groups are scored on the whole network; the released pruner scores each group when the groups before it
    have been cut. The batch is drawn from the seed, not by a shuffling loader.
    """

    def __init__(
        self,
        data: ImageSource | None = None,
        *,
        batch_size: int = 128,
        micro_batch_size: int | None = None,
        num_train_steps: int = 1000,
        statistic: str = "squares",
        pixels: str = "sum",
        precision: str = "float32",
        seed: int = 0,
    ):
        self.data = data
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.num_train_steps = num_train_steps
        self.statistic = statistic
        self.pixels = pixels
        self.precision = precision
        self.seed = seed

    @property
    def num_steps(self) -> int:
        return self.num_train_steps

    def start(self, model: Model) -> State:
        """The batch, its noise, and a sum of gradients for every weight.

        Raises: UserError if a setting is impossible, the images do not fit, or the model is no denoiser.
        """
        self._check()
        network = model.generator
        if len(network.alpha_bar()) != self.num_train_steps:
            raise UserError(f"num_train_steps={self.num_train_steps}: the denoiser has {len(network.alpha_bar())}")
        clean = self._images(network)
        source = torch.Generator().manual_seed(batch_seed(self.seed, 1))
        noise = torch.randn(clean.shape, generator=source)
        parameters = dict(network.named_parameters())
        sums = {f"gradient.{name}": torch.zeros_like(parameters[name]) for name in scored_weights(network)}
        return {"clean": clean, "noise": noise, **sums}

    def step(self, model: Model, state: State, index: int) -> bool:
        _, gradients = self.gradients(model, state, index)
        add(gradients, state)
        return True

    def scores(self, model: Model, state: State) -> Scores:
        names = scored_weights(model.generator)
        sums = {name: state[f"gradient.{name}"].to(model.generator.get_parameter(name).device) for name in names}
        return taylor_scores(model.generator, sums, self.statistic)

    def gradients(self, model: Model, state: State, timestep: int) -> tuple[float, dict[str, Tensor]]:
        """The loss at one time step, and its gradients to all scored weights, by parameter name."""
        network, training = model.generator, model.generator.training
        device = next(network.parameters()).device
        clean, noise = state["clean"].to(device), state["noise"].to(device)
        size, share = self.micro_batch_size or len(clean), network.alpha_bar()[timestep].to(device)
        total, sums = 0.0, dict[str, Tensor]()
        network.eval()
        with only_trainable(network, scored_weights(network)) as weights:
            for part, part_noise in zip(clean.split(size), noise.split(size), strict=True):
                noisy = diffuse(part, part_noise, share.expand(len(part)))
                with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                    estimate = network(noisy, timestep)
                loss = noise_loss(estimate, part_noise) * (len(part) / len(clean))
                loss = loss / part[0].numel() if self.pixels == "mean" else loss
                found = torch.autograd.grad(loss, list(weights.values()))
                total += loss.item()
                for name, gradient in zip(weights, found, strict=True):
                    sums[name] = sums[name] + gradient if name in sums else gradient
        network.train(training)
        return total, sums

    def _images(self, network: Network) -> Float[Tensor, "n c h w"]:
        """A batch of training images in [-1, 1], drawn from the seed."""
        if self.data is None:
            raise UserError("data: not set; this criterion needs images, pass it an image source")
        facts, images = self.data.open(), self.data.train()
        for name in ("resolution", "num_channels"):
            if getattr(facts, name) != getattr(network, name):
                have, want = getattr(facts, name), getattr(network, name)
                raise UserError(f"data and denoiser differ in {name}: data {have}, denoiser {want}")
        if len(images) < self.batch_size:
            raise UserError(f"batch_size={self.batch_size}: the data has {len(images)} images")
        source = torch.Generator().manual_seed(batch_seed(self.seed, 0))
        picked = torch.randperm(len(images), generator=source)[: self.batch_size]
        return images.batch(np.asarray(picked))[0].float() / 127.5 - 1

    def _check(self) -> None:
        for name in ("batch_size", "num_train_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise UserError(f"micro_batch_size={self.micro_batch_size}: must be at least 1")
        for name, allowed in (
            ("statistic", STATISTICS),
            ("pixels", PIXELS),
            ("precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name}={getattr(self, name)!r}: must be one of {', '.join(allowed)}")


def scored_weights(network: Network) -> tuple[str, ...]:
    """Names of all convolution, linear and normalization weights."""
    refinable = network.refinable()
    return (*refinable.weights, *refinable.norm_weights)


def add(gradients: Mapping[str, Tensor], state: State) -> None:
    """Add gradients to the sums of `Taylor.start`."""
    for name, gradient in gradients.items():
        key = f"gradient.{name}"
        state[key] = state[key].to(gradient.device).add_(gradient)
