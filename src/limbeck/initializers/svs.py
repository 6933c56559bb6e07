"""Singular value scaling: compress the spread of every weight's singular values once, between pruning and training.

Source: Kim & Yoo, "Singular Value Scaling: Efficient Generative Model Compression via Pruned Weights Refinement",
2025, and the authors' released code, which decides every detail here; the paper's own equations were not verified.
Differs: computed from the Gram matrix in float64 (same result, faster and more accurate than a float32 SVD).
"""

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.arguments import kind
from limbeck.errors import UserError
from limbeck.initializers.batch_statistics import remeasure
from limbeck.masking import switch_off
from limbeck.model import Model, Pair

# Below this ratio of smallest to largest eigenvalue the Gram matrix has lost the small singular values (condition
# number above 3e6, or rank missing), and the SVD is taken instead.
SMALLEST_EIGENVALUE = 1e-13


def scaled_weight(weight: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows ..."]:
    """The weight with each singular value s replaced by sqrt(s) and its singular vectors kept.

    The matrix is dimension 0 by the rest: M = U diag(s) V^T -> U diag(sqrt(s)) V^T = (M M^T)^(-1/4) M for full row
    rank. Zero singular values stay zero. Shape and type are the weight's.

    Source: section 2.1 of the released method (see the module).
    """
    matrix = weight.detach().flatten(1).double().cpu()
    wide = matrix.shape[0] <= matrix.shape[1]
    eigenvalues, vectors = torch.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
    if eigenvalues[0] > SMALLEST_EIGENVALUE * eigenvalues[-1]:
        half = vectors * eigenvalues.pow(-0.125)
        root = half @ half.T
        scaled = root @ matrix if wide else matrix @ root
    else:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        zero = values <= values[0] * max(matrix.shape) * torch.finfo(torch.float64).eps
        scaled = (left * values.masked_fill(zero, 0.0).sqrt()) @ right
    return scaled.reshape(weight.shape).to(weight)


def scaled_weights(weights: Sequence[Tensor]) -> list[Tensor]:
    """`scaled_weight` of each, several at a time.

    One thread per weight instead of all threads on each: on matrices of this size the threads of a linear-algebra
    library mostly wait for each other, and on a busy machine they wait for seconds.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(num_threads) as pool:
            return list(pool.map(scaled_weight, weights))
    finally:
        torch.set_num_threads(num_threads)


def scaled_bias(bias: Float[Tensor, "size"]) -> Float[Tensor, "size"]:
    """The bias divided by the root of its norm, b (||b|| + 1e-8)^(-1/2): the norm becomes its root; zero stays zero.

    Source: section 2.2 of the released method (see the module).
    """
    wide = bias.detach().double()
    return (wide * (wide.norm() + 1e-8).rsqrt()).to(bias.dtype)


def refined(network: Network) -> Network:
    """A copy of the network with singular value scaling applied to what it declares `refinable`.

    Normalization layers are reset to weight 1, bias 0. Everything else, buffers included, is bit-identical.

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
        for stored, weight in zip(filters, scaled_weights(filters), strict=True):
            stored.copy_(weight)
        for name in names.biases:
            parameters[name].copy_(scaled_bias(parameters[name]))
        for name in names.norm_weights:
            parameters[name].fill_(1.0)
        for name in names.norm_biases:
            parameters[name].zero_()
    return network


def svs(student: Model) -> Model:
    """A new model whose generator is refined by singular value scaling; the discriminator is the same object.

    Weights that masks switch off are zero again afterwards; batch norm's statistics are those of the new weights.

    Apply exactly once, before any EMA copy is made: twice gives fourth roots.
    """
    kind(student, "student", Model, "a Model, as limbeck.prune gives it")
    generator = refined(student.generator)
    switch_off(generator, student.masks)
    remeasure(generator)
    return replace(student, generator=generator).after("initialize", initializer="svs")


class SingularValueScaling:
    """Pair to pair: the student refined by `svs`."""

    def __call__(self, pair: Pair) -> Pair:
        return Pair(teacher=pair.teacher, student=svs(pair.student))
