"""Singular value scaling beside a NumPy SVD: seconds for all weights of a network once, and the error of both.

Interleaved in one process (ours, NumPy, ours, NumPy, ...), medians; run on an otherwise idle machine:
    python benchmarks/svs.py [--repeats 5] [--threads 2]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from limbeck.architectures.stylegan2 import Generator
from limbeck.initializers.svs import scaled_weight, scaled_weights
from limbeck.pruning.allocation import kept_count


def numpy_svd(weight: Tensor, dtype: type = np.float32) -> Tensor:
    """The released implementation's arithmetic: a thin SVD, in float32 there."""
    matrix = weight.reshape(len(weight), -1).numpy().astype(dtype)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return torch.from_numpy((left * np.sqrt(values)) @ right).reshape(weight.shape)


def network_weights(ratio: float) -> list[Tensor]:
    """Contiguous copies of every refinable weight of StyleGAN2 at 1024 px, random."""
    full = Generator(resolution=1024)
    network = full.resized({group.name: kept_count(group.size, ratio) for group in full.channel_groups()})
    state = network.state_dict()
    return [state[name].contiguous() for name in network.refinable().weights]


def conditioned(shape: tuple[int, ...], kappa: float) -> Tensor:
    """A float32 weight whose singular values fall from 1 to 1 / kappa."""
    rows, columns = shape[0], int(np.prod(shape[1:]))
    k = min(rows, columns)
    left, _ = torch.linalg.qr(torch.randn(rows, k, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(columns, k, dtype=torch.float64))
    return ((left * torch.logspace(0, -np.log10(kappa), k, dtype=torch.float64)) @ right.T).float().reshape(shape)


def one_by_one(weights: list[Tensor]) -> list[Tensor]:
    """The released implementation's loop; NumPy's own threads work on each weight."""
    return [numpy_svd(weight) for weight in weights]


def seconds(refine: Callable[[list[Tensor]], list[Tensor]], weights: list[Tensor]) -> tuple[float, float]:
    """Wall-clock and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    refine(weights)
    return time.perf_counter() - wall, time.process_time() - processor


def largest_error(refine: Callable[[Tensor], Tensor], weights: list[Tensor]) -> float:
    """Largest relative error (Frobenius norm) against the SVD in float64."""
    errors = []
    for weight in weights:
        exact = numpy_svd(weight, np.float64)
        errors.append(((refine(weight).double() - exact).norm() / exact.norm()).item())
    return max(errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, numpy {np.__version__}, {arguments.threads} threads, {arguments.repeats} repeats"
    )
    for label, ratio in (("pruned 0.7", 0.7), ("unpruned", 0.0)):
        weights = network_weights(ratio)
        seconds(scaled_weights, weights), seconds(one_by_one, weights)
        rounds = [(*seconds(scaled_weights, weights), *seconds(one_by_one, weights)) for _ in range(arguments.repeats)]
        ours, ours_cpu, theirs, theirs_cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"StyleGAN2-1024 {label}, {len(weights)} weights: ours {ours:.3f} s (processor {ours_cpu:.3f}), "
            f"NumPy {theirs:.3f} s ({theirs_cpu:.3f}): {theirs / ours:.1f} times faster ({theirs_cpu / ours_cpu:.1f}); "
            f"error {largest_error(scaled_weight, weights):.1e} (NumPy {largest_error(numpy_svd, weights):.1e})"
        )
    for kappa in (1e2, 1e4, 1e6, 1e8):
        weights = [conditioned(shape, kappa) for shape in [(154, 154, 3, 3), (154, 512), (77, 39, 3, 3), (512, 27)]]
        print(f"condition {kappa:.0e}: error {largest_error(scaled_weight, weights):.1e}")


if __name__ == "__main__":
    main()
