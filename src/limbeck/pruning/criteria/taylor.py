"""First-order Taylor scores of a denoiser: how much its loss would change without a channel, over all time steps.

Source: Fang et al., "Structural Pruning for Diffusion Models" (Diff-Pruning), 2023, and its released code, which
decides the details; the paper's own equations were not verified.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.architectures.base import ChannelGroup, Network, channel_slice
from limbeck.data.base import ImageSource
from limbeck.errors import UserError
from limbeck.functional.diffusion import diffuse, noise_loss
from limbeck.model import Model
from limbeck.pruning.allocation import Uniform, checked_ratio, kept_indices, rounded_counts
from limbeck.pruning.criteria.base import SUM, Criterion, Part, Scores, State
from limbeck.pruning.sensitivity import only_trainable
from limbeck.seeds import batch_seed

STATISTICS = ("squares", "magnitudes", "sum")
PIXELS = ("sum", "mean")


def taylor_terms(products: Tensor, dim: int, statistic: str) -> Float[Tensor, "size"]:
    """Of products of weights and gradients along `dim`: the sum of their "squares" or "magnitudes", or their "sum".

    In float64. Source: released importance ("squares"), its pipeline for diffusers ("magnitudes"; "sum" for Taylor).
    """
    rows = products.double().transpose(0, dim).reshape(products.shape[dim], -1)
    if statistic == "sum":
        return rows.sum(dim=1)
    return (rows.square() if statistic == "squares" else rows.abs()).sum(dim=1)


def group_score(
    network: Network,
    group: ChannelGroup,
    products: Mapping[str, Tensor],
    *,
    statistic: str,
    count_repeated: bool = True,
) -> Float[Tensor, "size"]:
    """Per channel, `taylor_terms` added over all weights that write or read it, and |product| over its norms' scales.

    Biases do not count. With "sum" the absolute value is taken at the end.

    products: of weights and gradients, by parameter name. count_repeated: whether layers count that read the group
        twice, from two concatenated places.
    """
    norms = set(network.refinable().norm_weights)
    places = Counter((axis.parameter, axis.dim) for axis in group.axes)
    total = torch.zeros(group.size, dtype=torch.float64)
    for axis in group.axes:
        if axis.parameter not in products or (places[axis.parameter, axis.dim] > 1 and not count_repeated):
            continue
        kind = "magnitudes" if axis.parameter in norms and statistic == "squares" else statistic
        terms = taylor_terms(products[axis.parameter], axis.dim, kind)
        total += terms[channel_slice(axis, group.size)].reshape(group.size, axis.repeat).sum(dim=1).cpu()
    return total.abs() if statistic == "sum" else total


def taylor_scores(
    network: Network,
    gradients: Mapping[str, Tensor],
    *,
    statistic: str = "squares",
    count_repeated: bool = True,
    sequential_ratio: float | int | None = None,
) -> Scores:
    """`group_score` of every group. gradients: of all convolution, linear and normalization weights, by name.

    sequential_ratio: groups are scored in the order of the published pruner, and weights of channels that groups before
        lose at this ratio count no more; None scores all on the whole network.
    """
    products = {name: network.get_parameter(name).detach() * gradient for name, gradient in gradients.items()}
    groups = {group.name: group for group in network.channel_groups()}
    if sequential_ratio is not None:
        every = dict.fromkeys(groups, torch.empty(0))
        counts = Uniform()(network, every, checked_ratio(sequential_ratio, "sequential_ratio"))
        counts = rounded_counts(network, counts, 1)
    scores = {}
    for name in network.pruning_order():
        group = groups[name]
        scores[name] = group_score(network, group, products, statistic=statistic, count_repeated=count_repeated)
        if sequential_ratio is not None:
            gone = torch.ones(group.size, dtype=torch.bool)
            gone[kept_indices(scores[name], counts[name], group.norm_groups)] = False
            for axis in group.axes:
                if axis.parameter in products:
                    entries = products[axis.parameter].transpose(0, axis.dim)[channel_slice(axis, group.size)]
                    entries[gone.repeat_interleave(axis.repeat)] = 0
    return scores


class Taylor(Criterion):
    """Products of weights with the gradients of the noise-prediction loss, added over all time steps.

    data: images; one batch of them and one noise image for each serve all steps.
    batch_size: images. micro_batch_size: of them at a time, to save memory; None for all.
    num_train_steps: time steps of the denoiser's schedule.
    statistic: "squares" (released), "magnitudes" or "sum" (the authors' pipeline for diffusers), see `group_score`.
    pixels: the loss is the "sum" (released) or "mean" (pipeline for diffusers) over channels and pixels; it changes the
        ranking, because squares of weights and magnitudes of scales are added.
    count_repeated: whether layers count that read a group twice; the released code leaves them out.
    sequential_ratio: the ratio of a pruning during which groups are scored one after another, each on the network that
        the groups before it have left, as released; None scores all on the whole network. Every group is taken to be
        cut, also one that `pruning.keep_groups` leaves whole.
    precision: "float32" or "bfloat16" (convolutions and matrix products only).

    With `count_repeated=False` and the ratio as `sequential_ratio`, the same channels are kept as by the released code.

    Differs: the batch is drawn from the seed, not by a shuffling loader; both options above are off by default, so that
    scores do not depend on the ratio.
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
        count_repeated: bool = True,
        sequential_ratio: float | int | None = None,
        precision: str = "float32",
        seed: int = 0,
    ):
        self.data = data
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.num_train_steps = num_train_steps
        self.statistic = statistic
        self.pixels = pixels
        self.count_repeated = count_repeated
        self.sequential_ratio = sequential_ratio
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
        sums = {f"{SUM}{name}": torch.zeros_like(parameters[name]) for name in scored_weights(network)}
        return {"clean": clean, "noise": noise, **sums}

    def step(self, model: Model, state: State, index: int) -> Part:
        loss, gradients = self.gradients(model, state, index)
        return Part(gradients, loss)

    def scores(self, model: Model, state: State) -> Scores:
        names = scored_weights(model.generator)
        sums = {name: state[SUM + name].to(model.generator.get_parameter(name).device) for name in names}
        return taylor_scores(
            model.generator,
            sums,
            statistic=self.statistic,
            count_repeated=self.count_repeated,
            sequential_ratio=self.sequential_ratio,
        )

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
        if self.sequential_ratio is not None:
            checked_ratio(self.sequential_ratio, "sequential_ratio")
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
