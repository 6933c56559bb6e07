"""Denoisers: images per second by DDIM, seconds of a training step, and of Taylor scoring per time step.

    python benchmarks/diffusion.py [--measure sampling training scoring] [--ratios 0.3 0.5 0.7] [--peers DIR]

The U-Net is DDPM's for CIFAR-10 with random weights (35.7 M parameters, 6.06 GMAC) and what the published pruning rule
leaves of it. Beside it plain diffusers on the same weights, as it comes and channels-last; deviations are asserted
first, runs are interleaved (in training those of one network, to save memory). All steps of DDIM cost the same, so few
are timed and rates are given for 100. With --peers (see peers.py) scoring runs beside Diff-Pruning's released model and
loss. Needs the package diffusers.
"""

import argparse
import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from loops import composed
from timing import Times, interleaved, others_line, prepare, spread
from torch import Tensor, nn
from turns import Turns
from unets import released, students, teacher, their_sampler, theirs

from limbeck.architectures.ddpm import UNet
from limbeck.functional.diffusion import antithetic_timesteps, diffuse, noise_loss
from limbeck.model import Model, Pair
from limbeck.pruning.criteria.taylor import Taylor, scored_weights

PUBLISHED_STEPS = 100
LOSSES = {
    "limbeck": "noise_prediction",
    "limbeck, + teacher_noise": "noise_prediction,teacher_noise",
    "limbeck, + block_features": "noise_prediction,block_features",
    "limbeck, + dime": "noise_prediction,dime",
    "limbeck, all terms": "noise_prediction,teacher_noise,block_features,dime",
}
TIMESTEP = 500


def report(times: Mapping[str, Times], networks: Mapping[str, UNet], amount: float, unit: str, macs: float) -> None:
    """A table of rates. macs: how many multiply-accumulates a run takes for one of a pass over one image."""
    print(f"\n| | {unit} | s per run | GMAC/s |\n| --- | ---: | ---: | ---: |")
    for label, time in times.items():
        speed = time.per_second(macs * networks[label.partition(":")[0]].macs() / 1e9)
        print(f"| {label} | {time.per_second(amount)} | {spread(time.wall)} | {speed} |")
    print()


def gains(times: Mapping[str, Times], networks: Mapping[str, UNet]) -> None:
    """Ours over theirs for every network, and every student over the teacher."""
    for name in networks:
        mine = {k: t for k, t in times.items() if k.startswith(f"{name}: ")}
        reference = mine[f"{name}: diffusers"]
        for label, time in mine.items():
            if not label.startswith(f"{name}: diffusers"):
                print(f"{label} over diffusers as it comes: {reference.ratio_to(time)}")
    for label in [k for k in times if not k.startswith("teacher")]:
        name, _, side = label.partition(": ")
        if f"teacher: {side}" in times:
            less = networks["teacher"].macs() / networks[name].macs()
            gain = times[f"teacher: {side}"].ratio_to(times[label])
            print(f"{side}, {name} over teacher ({less:.2f} x fewer MACs): {gain}")
    print(others_line(times))


# -- sampling ------------------------------------------------------------------------------------------------


def our_sampler(network: UNet, noise: Tensor, steps: int, *, half: bool = False) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            return network.draw(noise, steps=steps, grid="uniform")

    return run


def measure_sampling(options: argparse.Namespace, networks: Mapping[str, UNet]) -> None:
    noise = torch.randn(options.batch, 3, options.resolution, options.resolution)
    runs: dict[str, Callable[[], Tensor]] = {}
    for name, ours in networks.items():
        plain, last = theirs(ours), theirs(ours, channels_last=True)
        sides = {
            "float32": our_sampler(ours, noise, options.steps),
            "bfloat16": our_sampler(ours, noise, options.steps, half=True),
            "bfloat16, weights too": our_sampler(copy.deepcopy(ours).bfloat16(), noise, options.steps),
            "diffusers": their_sampler(plain, ours, noise, options.steps),
            "diffusers, channels-last": their_sampler(last, ours, noise, options.steps),
            "diffusers, channels-last, bfloat16": their_sampler(last, ours, noise, options.steps, half=True),
        }
        reference = sides["diffusers"]()
        for side, run in sides.items():
            difference = (run() - reference).abs() / reference.abs().max()
            words = f"largest {difference.max().item():.1e}, mean {difference.mean().item():.1e} of the largest pixel"
            print(f"deviation of images from diffusers as it comes, {name}, {side}: {words}")
            assert "bfloat16" in side or difference.max() < 1e-3, side
        runs |= {f"{name}: {side}": run for side, run in sides.items()}
    times = interleaved(runs, options.repeats)
    amount = options.batch * options.steps
    unit = f"images/s in {PUBLISHED_STEPS} steps, batch {options.batch}"
    report(times, networks, amount / PUBLISHED_STEPS, unit, amount)
    gains(times, networks)


# -- training ------------------------------------------------------------------------------------------------


def our_step(whole: UNet, student: UNet, losses: str, clean: Tensor, *, mixed: bool = False) -> Turns:
    config = composed("experiment=bare", "distillation=diffusion", f"loss/generator=[{losses}]")
    if "dime" in config.loss.generator:
        config.loss.generator.dime.term.statistics = "batch"
    make = partial(instantiate, _convert_="all")
    module: Any = make(config.distillation)(
        Pair(Model(whole), Model(student)),
        generator_terms=make(config.loss)["generator"],
        generator_optimizer=make(config.optimizer)["generator"],
        kimg=1000,
        batch_size=len(clean),
    )
    module.setup("fit")
    return Turns(module, clean, mixed=mixed)


class TheirStep:
    """Plain training of a diffusers U-Net: noise prediction, clipped gradient, Adam, moving average."""

    def __init__(self, network: Any, ours: UNet, clean: Tensor):
        self.network, self.clean, self.alpha_bar = network.train(), clean, ours.alpha_bar()
        self.optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
        self.means = [parameter.detach().clone() for parameter in network.parameters()]

    def __call__(self) -> None:
        timestep = antithetic_timesteps(len(self.clean), len(self.alpha_bar))
        noise = torch.randn_like(self.clean)
        self.optimizer.zero_grad(set_to_none=True)
        noisy = diffuse(self.clean, noise, self.alpha_bar[timestep])
        noise_loss(self.network(noisy, timestep).sample, noise).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for mean, value in zip(self.means, self.network.parameters(), strict=True):
                mean.lerp_(value, 1e-4)


def measure_training(options: argparse.Namespace, networks: Mapping[str, UNet]) -> None:
    clean = torch.rand(options.batch, 3, options.resolution, options.resolution) * 2 - 1
    whole = networks["teacher"]
    times: dict[str, Times] = {}
    for name, ours in networks.items():
        assert_same_gradients(ours, theirs(ours), clean[:2])
        losses = LOSSES if name != "teacher" else {"limbeck": LOSSES["limbeck"]}
        runs: dict[str, Callable[[], None]] = {}
        runs |= {f"{name}: {side}": our_step(whole, ours, terms, clean) for side, terms in losses.items()}
        runs[f"{name}: limbeck, bf16-mixed"] = our_step(whole, ours, LOSSES["limbeck"], clean, mixed=True)
        runs[f"{name}: diffusers"] = TheirStep(theirs(ours), ours, clean)
        runs[f"{name}: diffusers, channels-last"] = TheirStep(theirs(ours, channels_last=True), ours, clean)
        times |= interleaved(runs, options.repeats)
    report(times, networks, options.batch, f"training images/s, batch {options.batch}", 3 * options.batch)
    print("GMAC/s: student alone, backward counted as two forward passes; terms add the teacher's pass and embeddings.")
    gains(times, networks)


# -- scoring -------------------------------------------------------------------------------------------------


def straightforward(network: nn.Module, clean: Tensor, noise: Tensor, share: Tensor) -> None:
    """Loss and `backward` at one time step; gradients of all parameters add up, as a loop over time steps needs."""
    output = network(diffuse(clean, noise, share.expand(len(clean))), torch.full((len(clean),), TIMESTEP))
    noise_loss(output if isinstance(output, Tensor) else output.sample, noise).backward()


def assert_same_gradients(ours: UNet, network: nn.Module, clean: Tensor) -> None:
    """In evaluation mode, of all scored weights, relative to each one's largest; nothing is left behind."""
    noise, share = torch.randn_like(clean), ours.alpha_bar()[TIMESTEP]
    straightforward(network, clean, noise, share)
    _, found = Taylor().gradients(Model(ours), {"clean": clean, "noise": noise}, TIMESTEP)
    reference = {name: parameter.grad for name, parameter in network.named_parameters() if name in found}
    largest = max(value.abs().max().item() for value in reference.values() if value is not None)
    worst = max((found[name] - reference[name]).abs().max().item() for name in found) / largest
    print(f"deviation of gradients from diffusers: {worst:.1e} of the largest")
    assert worst < 1e-4
    network.zero_grad(set_to_none=True)


def measure_scoring(options: argparse.Namespace, networks: Mapping[str, UNet]) -> None:
    """Gradients of one time step of the teacher, added to the sums."""
    ours = networks["teacher"]
    clean = torch.rand(options.batch, 3, options.resolution, options.resolution) * 2 - 1
    noise, share = torch.randn_like(clean), ours.alpha_bar()[TIMESTEP]
    plain = theirs(ours)
    assert_same_gradients(ours, plain, clean[:2])
    runs: dict[str, Callable[[], object]] = {
        "straightforward loop, diffusers": lambda: straightforward(plain, clean, noise, share)
    }
    if (found := released(options)) is not None:
        network, loss, same = found
        betas, step = torch.linspace(1e-4, 0.02, 1000), torch.full((len(clean),), TIMESTEP)
        with torch.no_grad():
            reference = network(clean, step.float())
            worst = ((same(clean, step) - reference).abs().max() / reference.abs().max()).item()
        print(f"deviation from Diff-Pruning's estimate: {worst:.1e} of the largest value")
        assert worst < 1e-4
        runs["Diff-Pruning's code"] = lambda: loss(network, clean, step, noise, betas).backward()
    for precision in ("float32", "bfloat16"):
        criterion = Taylor(precision=precision)
        state = {"clean": clean, "noise": noise}
        state |= {f"gradient.{n}": torch.zeros_like(ours.get_parameter(n)) for n in scored_weights(ours)}
        runs[f"limbeck, {precision}"] = partial(criterion.step, Model(ours), state, TIMESTEP)
    times = interleaved(runs, options.repeats)
    print(f"\n| Taylor scoring, batch {options.batch} | s per time step |\n| --- | ---: |")
    for name, time in times.items():
        print(f"| {name} | {spread(time.wall)} |")
    print()
    for name in (n for n in times if n.startswith("limbeck")):
        for other in (n for n in times if not n.startswith("limbeck")):
            print(f"{name} over {other}: {times[other].ratio_to(times[name])}")
    print(others_line(times))


def main() -> None:
    measures = {"sampling": measure_sampling, "training": measure_training, "scoring": measure_scoring}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", nargs="+", choices=list(measures), default=list(measures))
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    parser.add_argument("--model", help="a trained denoiser instead of random weights: then deviations mean something")
    parser.add_argument("--level-widths", type=int, nargs="+", default=[128, 256, 256, 256])
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="of DDIM that are timed; must divide 1000")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--peers", type=Path, help="folder that holds the clones named in peers.py")
    options = parser.parse_args()
    print(prepare(options.threads))
    networks = students(teacher(options), options.ratios)
    options.resolution = networks["teacher"].resolution
    for name, network in networks.items():
        number = sum(parameter.numel() for parameter in network.parameters())
        print(f"{name}: {number:,} parameters, {network.macs() / 1e9:.3f} GMAC")
    for name in options.measure:
        measures[name](options, networks)


if __name__ == "__main__":
    main()
