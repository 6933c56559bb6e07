"""Singular values of a generator's weights: how far a few directions outweigh the rest.

Source: Kim & Yoo, "Singular Value Scaling", 2025, explains its method by dominant singular vectors that hinder
training; here is what measures them.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.architectures.base import Network


@dataclass(frozen=True)
class Spectrum:
    """One weight's singular values.

    dominance: the largest over the median, at least 1; infinity if half of them are zero.
    norm: the Frobenius norm, that is, the root of the sum of their squares.
    """

    name: str
    dominance: float
    norm: float


def dominance(values: Float[Tensor, "k"]) -> float:
    """Largest over median of non-negative numbers; of an even count the median is the mean of the middle two."""
    median = values.double().quantile(0.5).item()
    return values.max().item() / median if median > 0 else math.inf


def spectra(network: Network) -> list[Spectrum]:
    """A `Spectrum` of each weight that singular value scaling would refine, in their order, as it reads them."""
    names = network.refinable()
    parameters = dict(network.named_parameters())
    found = []
    for name in names.weights:
        weight = parameters[name].detach().cpu().double()
        matrix = (weight.transpose(0, 1) if name in names.transposed else weight).flatten(1)
        found.append(Spectrum(name, dominance(torch.linalg.svdvals(matrix)), matrix.norm().item()))
    return found


def growth(before: list[Spectrum], after: list[Spectrum]) -> float:
    """Geometric mean of the weights' norms after over before; weights that are zero in either are left out.

    An optimizer whose steps have a fixed length, as Adam's, turns weights of c times the norm 1 / c times as far: the
    learning rate times this number is the one that turns them as far as before.
    """
    pairs = [(old.norm, new.norm) for old, new in zip(before, after, strict=True) if old.norm and new.norm]
    return math.exp(sum(math.log(new / old) for old, new in pairs) / len(pairs)) if pairs else math.nan
