"""How hard each term of the generator's loss pulls at the student, and the weights that make all pull alike.

    python benchmarks/gradient_norms.py experiment=compare_objectives 'loss/generator=[nonsaturating,dime]'

Overrides are those of `train.py`. The first of the terms is the measure of the others: a term's weight times its norm
shall be the first one's. Norms are medians over the first 20 steps of a training, over all parameters of the student,
each term by itself; adapters and judges move as usual. A minute for a small network.
"""

import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from loops import composed
from torch import Tensor, nn

from limbeck.data.loading import train_loader
from limbeck.distillation.pace import Timed
from limbeck.entry import exit_on_user_error, register_resolvers
from limbeck.losses.weighted import Weighted
from limbeck.model import Pair

NUM_STEPS = 20


def noted(
    student: nn.Module, norms: list[float], weighted: Weighted, _inputs: Any, output: tuple[Tensor, Tensor]
) -> None:
    """A forward hook of a term: the norm of its own gradient, as it is added, by its weight."""
    found = torch.autograd.grad(output[0], list(student.parameters()), retain_graph=True, allow_unused=True)
    squares = [gradient.double().square().sum() for gradient in found if gradient is not None]
    norms.append(torch.stack(squares).sum().sqrt().item() / weighted.weight)


def measured(overrides: list[str]) -> dict[str, tuple[float, float]]:
    """Of every term, by name: the weight that it has, and the norm of its gradient without a weight."""
    config = composed(*overrides)
    build = partial(instantiate, _convert_="all")
    teacher, data = build(config.teacher)(), build(config.data)
    pair = build(config.initializer)(build(config.pruning)(Pair(teacher, teacher)))
    distiller = build(config.pipeline.distiller)
    torch.manual_seed(distiller.seed)
    module = distiller.build(pair)
    norms: dict[str, list[float]] = {name: [] for name in module.terms["generator"]}
    for name, weighted in module.terms["generator"].items():
        weighted.register_forward_hook(partial(noted, module.student, norms[name]))
    loader = train_loader(data, batch_size=distiller.batch_size, seed=distiller.seed)
    distiller._trainer(Path(), [], [Timed(NUM_STEPS)]).fit(module, train_dataloaders=loader)
    weights = {name: weighted.weight for name, weighted in module.terms["generator"].items()}
    return {name: (weights[name], statistics.median(found)) for name, found in norms.items() if found}


def main() -> None:
    """Print the table."""
    register_resolvers()
    with exit_on_user_error():
        found = measured(sys.argv[1:])
    first = next(iter(found.values()))
    print(
        "| term | weight | gradient norm at weight 1 | weight for the first one's pull |\n| --- | ---: | ---: | ---: |"
    )
    for name, (weight, norm) in found.items():
        print(f"| {name} | {weight:g} | {norm:.4g} | {first[0] * first[1] / norm:.3g} |")


if __name__ == "__main__":
    main()
