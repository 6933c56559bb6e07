"""Singular value scaling: compress the spread of every weight's singular values once, between pruning and training.

It changes two things at once, which can be had apart: the `shape` of each weight's spectrum (its singular values by
their norm) and the `scale` of the network (norms of weights and biases, normalization layers). As published: both.

Source: Kim & Yoo, "Singular Value Scaling: Efficient Generative Model Compression via Pruned Weights Refinement",
2025, and the authors' released code, which decides every detail here; the paper's own equations were not verified.
Differs: computed from the Gram matrix in float64 (same result, faster and more accurate than a float32 SVD).
"""

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.arguments import kind, number, switch
from limbeck.errors import UserError
from limbeck.initializers.batch_statistics import remeasure
from limbeck.masking import switch_off
from limbeck.model import Model, Pair

# Below this ratio of smallest to largest eigenvalue the Gram matrix has lost the small singular values (condition
# number above 3e6, or rank missing), and the SVD is taken instead.
SMALLEST_EIGENVALUE = 1e-13
PUBLISHED = {"exponent": 0.5, "shape": True, "scale": True}


def scaled_weight(weight: Float[Tensor, "rows ..."], exponent: float = 0.5) -> Float[Tensor, "rows ..."]:
    """The weight with each singular value s replaced by s^p, p = exponent in (0, 1), and its singular vectors kept.

    The matrix is dimension 0 by the rest: M = U diag(s) V^T -> U diag(s^p) V^T = (M M^T)^((p - 1) / 2) M for full row
    rank. Zero singular values stay zero. Shape and type are the weight's.

    Source: section 2.1 of the released method (see the module), which has the square root only.
    """
    matrix = weight.detach().flatten(1).double().cpu()
    wide = matrix.shape[0] <= matrix.shape[1]
    eigenvalues, vectors = torch.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
    if eigenvalues[0] > SMALLEST_EIGENVALUE * eigenvalues[-1]:
        half = vectors * eigenvalues.pow((exponent - 1) / 4)
        root = half @ half.T
        scaled = root @ matrix if wide else matrix @ root
    else:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        zero = values <= values[0] * max(matrix.shape) * torch.finfo(torch.float64).eps
        scaled = (left * values.masked_fill(zero, 0.0).pow(exponent)) @ right
    return scaled.reshape(weight.shape).to(weight)


def scaled_weights(weights: Sequence[Tensor], exponent: float = 0.5) -> list[Tensor]:
    """`scaled_weight` of each, several at a time.

    One thread per weight instead of all threads on each: on matrices of this size the threads of a linear-algebra
    library mostly wait for each other, and on a busy machine they wait for seconds.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(num_threads) as pool:
            return list(pool.map(partial(scaled_weight, exponent=exponent), weights))
    finally:
        torch.set_num_threads(num_threads)


def scaled_bias(bias: Float[Tensor, "size"], exponent: float = 0.5) -> Float[Tensor, "size"]:
    """The bias times (||b|| + 1e-8)^(p - 1), p = exponent in (0, 1): its norm becomes ||b||^p; zero stays zero.

    Source: section 2.2 of the released method (see the module), which has the square root only.
    """
    wide = bias.detach().double()
    return (wide * (wide.norm() + 1e-8).pow(exponent - 1)).to(bias.dtype)


def with_norm_of(weight: Float[Tensor, "..."], other: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The weight times one positive number, so that its Frobenius norm is the other's; zero stays zero."""
    norm = weight.double().norm()
    return weight if norm == 0 else (weight.double() * (other.double().norm() / norm)).to(weight)


def refined(network: Network, *, exponent: float = 0.5, shape: bool = True, scale: bool = True) -> Network:
    """A copy of the network with singular value scaling applied to what it declares `refinable`.

    Normalization layers are reset to weight 1, bias 0. Everything else, buffers included, is bit-identical.

    shape: spectra get their new shape; without it each weight is only multiplied, to the norm it would have had.
    scale: norms change; without it each weight has its norm from before, and biases and normalization layers stay.

    Raises: UserError if a weight holds NaN or infinity.
    """
    network = copy.deepcopy(network)
    parameters = dict(network.named_parameters())
    names = network.refinable()
    with torch.no_grad():
        for name in (*names.weights, *names.biases):
            if not parameters[name].isfinite().all():
                raise UserError(f"parameter {name!r}: holds NaN or infinity, cannot be refined")
        turned = set(names.transposed)
        filters = [parameters[name].transpose(0, 1) if name in turned else parameters[name] for name in names.weights]
        for stored, weight in zip(filters, scaled_weights(filters, exponent), strict=True):
            if shape and scale:
                stored.copy_(weight)
            else:
                stored.copy_(with_norm_of(weight, stored) if shape else with_norm_of(stored, weight))
        if scale:
            for name in names.biases:
                parameters[name].copy_(scaled_bias(parameters[name], exponent))
            for name in names.norm_weights:
                parameters[name].fill_(1.0)
            for name in names.norm_biases:
                parameters[name].zero_()
    return network


def svs(student: Model, *, exponent: float = 0.5, shape: bool = True, scale: bool = True) -> Model:
    """A new model whose generator is refined by singular value scaling; the discriminator is the same object.

    Weights that masks switch off are zero again afterwards; batch norm's statistics are those of the new weights.

    exponent, shape, scale: as `SingularValueScaling` has them; the defaults are the published method.

    Apply exactly once, before any EMA copy is made: twice gives fourth roots.
    """
    kind(student, "student", Model, "a Model, as limbeck.prune gives it")
    method = SingularValueScaling(exponent=exponent, shape=shape, scale=scale)
    generator = refined(student.generator, **method.settings)
    switch_off(generator, student.masks)
    remeasure(generator)
    return replace(student, generator=generator).after("initialize", initializer="svs", **method.changed)


class SingularValueScaling:
    """Pair to pair: the student refined by `svs`.

    exponent: p in (0, 1); a singular value s becomes s^p, the norm of a bias its p-th power. The method's is 0.5.
    shape, scale: which of the two changes is made, as `refined` says; one of them at least.

    Differs: the method makes both, with 0.5; the rest is there to tell which of them helps.
    """

    def __init__(self, *, exponent: float = 0.5, shape: bool = True, scale: bool = True):
        if not 0 < number(exponent, "exponent") < 1:
            raise UserError(f"exponent={exponent!r}: must lie between 0 and 1, without them; 1 would change nothing")
        if not switch(shape, "shape") and not switch(scale, "scale"):
            raise UserError("shape and scale are both false: nothing would change; initializer=keep says that")
        self.settings: dict[str, Any] = {"exponent": float(exponent), "shape": shape, "scale": switch(scale, "scale")}

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that are not the method's own."""
        return {name: value for name, value in self.settings.items() if value != PUBLISHED[name]}

    def __call__(self, pair: Pair) -> Pair:
        return Pair(teacher=pair.teacher, student=svs(pair.student, **self.settings))
