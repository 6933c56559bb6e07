"""DCP scoring: time per sample and direction beside a straightforward loop, and how few samples are enough.

    python benchmarks/scoring.py [--measure time agreement] [--resolution 64] [--threads 2] [--peers DIR]

time: StyleGAN2 with random weights. The straightforward loop renders both images for every direction and asks for every
weight's gradient; with --peers (see peers.py) it runs on the SVS authors' networks in evaluation mode, as they release
it, which makes them build a weight per sample. Gradient magnitudes are compared first, with the same constant noise and
without such weights (torch 2.13 gives wrong gradients for grouped 1x1 convolutions on CPUs).
agreement: on a trained model file (default: the bundled teacher), rank correlation per layer with the full score of
5000 samples, and kept channels at 70 %.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from peers import fitted, load, svs_folder
from scipy.stats import spearmanr
from timing import interleaved, others_line, prepare, spread
from torch import Tensor, nn

import limbeck
from limbeck.architectures.stylegan2 import Generator
from limbeck.model import Model
from limbeck.pruning.allocation import Uniform, allocated
from limbeck.pruning.criteria.dcp import DCP
from limbeck.pruning.scoring import add
from limbeck.pruning.sensitivity import mean_magnitude, readers

NUM_PCA = 1000  # directions cost the same on every side
CHECKPOINTS = (50, 100, 200, 400)  # batches of 5


@dataclass
class Straightforward:
    """Per direction, gradient magnitudes by `backward` over both images and all weights."""

    synthesis: Callable[[Tensor], Tensor]
    network: nn.Module
    ours: Generator

    def __call__(self, style: Tensor, offsets: Tensor) -> list[dict[str, Tensor]]:
        return [self.magnitudes(style, offset) for offset in offsets]

    def magnitudes(self, style: Tensor, offset: Tensor) -> dict[str, Tensor]:
        self.network.zero_grad(set_to_none=True)
        self.network.requires_grad_(False)
        moved = self.synthesis(style + offset)
        self.network.requires_grad_(True)
        (moved - self.synthesis(style)).abs().sum().backward()
        weights, groups = dict(self.network.named_parameters()), self.ours.channel_groups()
        return {
            group.name: mean_magnitude(weights[axis.parameter].grad, axis, group.size)
            for group, axis in zip(groups, readers(self.ours).values(), strict=True)
        }


def loops(options: argparse.Namespace, ours: Generator) -> dict[str, Straightforward]:
    """The straightforward loop on our network and, if there are clones, on the authors'."""
    found = {"straightforward loop": Straightforward(lambda w: ours.synthesis(w, noise="const"), ours, ours)}
    if folder := svs_folder(options.peers):
        (networks,) = load(folder, "training.networks_stylekd")
        settings = {"channel_base": options.channel_base, "num_fp16_res": 0}
        theirs = networks.Generator(512, 0, 512, ours.resolution, 3, prune_ratio=0.0, synthesis_kwargs=settings)
        fitted(theirs, ours)
        wide = theirs.synthesis.num_ws
        found["authors"] = Straightforward(
            lambda w: theirs.synthesis(w[:, None].expand(-1, wide, -1), noise_mode="const"), theirs, ours
        )
    return found


def measure_time(options: argparse.Namespace) -> None:
    ours = Generator(resolution=options.resolution, channel_base=options.channel_base).eval()
    model = Model(ours)
    style = ours.mapping(torch.randn(options.batch, 512)).detach()
    offsets = 5.0 * torch.nn.functional.normalize(torch.randn(options.directions, 512), dim=1)
    runs: dict[str, Callable[[], object]] = {}
    directions = {}
    for name, loop in loops(options, ours).items():
        loop.network.train()
        reference = loop(style, offsets[:1])[0]
        print(f"{name}: gradients of our criterion deviate by {deviation(ours, style, offsets[:1], reference)}")
        loop.network.eval()
        runs[name] = lambda loop=loop: loop(style, offsets[:1])
        directions[name] = 1  # each costs the same there
    for precision in ("float32", "bfloat16"):
        criterion = DCP(
            num_samples=options.batch,
            batch_size=options.batch,
            num_directions=options.directions,
            num_pca=NUM_PCA,
            noise="const",
            precision=precision,
        )
        state = criterion.start(model)
        runs[f"limbeck, {precision}"] = lambda c=criterion, s=state: c.step(model, s, 0)
        directions[f"limbeck, {precision}"] = options.directions
    times = interleaved(runs, options.repeats)
    per = {name: [1e3 * t / directions[name] / options.batch for t in times[name].wall] for name in times}
    for name, values in per.items():
        cpu = [1e3 * t / directions[name] / options.batch for t in times[name].cpu]
        print(f"{name}: {spread(values)} ms per sample and direction, {spread(cpu)} ms CPU")
    for name in (n for n in per if n.startswith("limbeck")):
        for other in (n for n in per if not n.startswith("limbeck")):
            gains = [a / b for a, b in zip(per[other], per[name], strict=True)]
            print(f"{name} over {other}: {spread(gains)} times faster")
    print(others_line(times))


def deviation(ours: Generator, style: Tensor, offsets: Tensor, reference: dict[str, Tensor]) -> str:
    """Largest difference of our gradient magnitudes, relative to each layer's largest, worst layer."""
    criterion = DCP(num_directions=len(offsets), noise="const")
    magnitudes = criterion.magnitudes(ours, style, offsets)[0]
    worst = max(((magnitudes[n] - reference[n]).abs().max() / reference[n].max()).item() for n in reference)
    return f"{worst:.1e} of a layer's largest"


def measure_agreement(options: argparse.Namespace) -> None:
    model = limbeck.load(options.model)
    groups = model.generator.channel_groups()
    full = scores_at(model, DCP(num_directions=10, num_samples=5000, seed=0), [1000])[1000]
    print("| samples x directions, another seed | precision | rank correlation per layer | kept channels in common |")
    print("| --- | --- | --- | --- |")
    for precision in ("float32", "bfloat16"):
        for directions in (10, 3):
            criterion = DCP(num_directions=directions, seed=1, precision=precision)
            for count, scores in scores_at(model, criterion, CHECKPOINTS).items():
                ranks = [spearmanr(full[g.name], scores[g.name]).statistic for g in groups]
                correlation = f"mean {sum(ranks) / len(ranks):.4f}, least {min(ranks):.4f}"
                shared = common(model, full, scores)
                print(f"| {5 * count} x {directions} | {precision} | {correlation} | {shared:.1%} |", flush=True)


def scores_at(model: Model, criterion: DCP, batches: Sequence[int]) -> dict[int, dict[str, Tensor]]:
    """Scores after so many batches."""
    state, found = criterion.start(model), {}
    for index in range(max(batches)):
        add(state, criterion.step(model, state, index))
        if index + 1 in batches:
            scores = criterion.scores(model, state)
            found[index + 1] = {name: score.clone() for name, score in scores.items()}
    return found


def common(model: Model, one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Share of the channels kept at ratio 0.7 that both scores keep."""
    a, b = (allocated(model.generator, scores, Uniform(), ratio=0.7) for scores in (one, other))
    shared = sum(len(set(a[name].tolist()) & set(b[name].tolist())) for name in a)
    return shared / sum(len(kept) for kept in a.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", nargs="+", choices=["time", "agreement"], default=["time"])
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--channel-base", type=int, default=16384, help='32768 is "base", 16384 "small"')
    parser.add_argument("--directions", type=int, default=10)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--model", default=str(files("limbeck").joinpath("teachers/robohash32.safetensors")))
    parser.add_argument("--peers", type=Path, help="folder that holds the clones named in peers.py")
    options = parser.parse_args()
    print(prepare(options.threads))
    for name in options.measure:
        {"time": measure_time, "agreement": measure_agreement}[name](options)


if __name__ == "__main__":
    main()
