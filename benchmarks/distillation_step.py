"""One distillation iteration of StyleGAN2 "small": images per second, where the time goes, peak memory.

    python benchmarks/distillation_step.py [--terms svs] [--threads 2] [--peers DIR] [--measure iteration parts memory]
    python benchmarks/distillation_step.py --measure objectives [--embeddings] [--objectives CAGAN "NICKEL & DiME" ...]

Terms are those of the experiments: "quickstart" or "svs" (stylegan2_ffhq_svs). An iteration is amortized: ordinary
steps, lazy ones divided by their cadence, weight average; loading of images is timed apart. With --peers (see peers.py)
the authors' StyleGAN2Loss does the same with the same terms, interleaved, on the same weights; no face mask. Memory is
measured in one process per side.

objectives: a row per objective of the papers (see objectives.py): what it adds to the plain adversarial iteration, and
peak memory, each in its own process. --embeddings: DiME over ResNet-50s of DINO's and CLIP's shape, not over Lite0.
The released NICKEL & DiME code is compared by nickel_dime.py.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from loops import EXPERIMENTS, PHASES, BareLoop, TheirLoop, assert_same_work, experiment_loop, networks, random_trunk
from objectives import OBJECTIVES, measure_objectives, play_only
from peers import svs_folder
from timing import Times, interleaved, others_line, prepare, spread
from torch import Tensor

from limbeck.data.loading import train_loader
from limbeck.data.robohash import RoboHash
from limbeck.losses.steps import GeneratorStep
from limbeck.losses.weighted import cadences
from limbeck.profiling.measured import peak_memory_mib

PARTS = ("iteration", "parts", "memory")  # unless told otherwise


def amortized(times: Mapping[str, Times]) -> Times:
    """Phases of one side added up, lazy ones divided by their cadence."""
    weights = {name: 1 / PHASES.get(name.split(" ")[-1], 1) for name in times}
    total = Times()
    for attribute in ("wall", "cpu"):
        rounds = zip(*(getattr(t, attribute) for t in times.values()), strict=True)
        getattr(total, attribute).extend(
            sum(w * value for w, value in zip(weights.values(), row, strict=True)) for row in rounds
        )
    return total


def measure_iteration(options: argparse.Namespace) -> None:
    nets, trunk = networks(options), random_trunk()
    real = torch.rand(options.batch, 3, options.resolution, options.resolution) * 2 - 1
    sides: dict[str, Any] = {
        "limbeck": experiment_loop(options, nets, half=False, trunk=trunk),
        "limbeck, frozen networks in bfloat16": experiment_loop(options, nets, half=True, trunk=trunk),
        "limbeck, all networks in bfloat16": experiment_loop(options, nets, half=True, trunk=trunk, mixed=True),
    }
    folder = svs_folder(options.peers)
    if folder is not None and options.terms == "svs":
        sides["authors"] = TheirLoop(folder, options, nets, trunk=trunk)
        assert_same_work(sides["limbeck"], sides["authors"], real)
    runs = {}
    for side, loop in sides.items():
        phases = {**loop.phases(real), "average": loop.average}
        runs |= {f"{side}: {name}": run for name, run in phases.items()}
    times = interleaved(runs, options.repeats)
    totals = {side: amortized({k: t for k, t in times.items() if k.startswith(side + ":")}) for side in sides}
    print(f"\n| {options.terms} | s per iteration | images/s | CPU-s per image | phases, s |")
    print("| --- | --- | --- | --- | --- |")
    for side, total in totals.items():
        phases = ", ".join(f"{k.split(': ')[1]} {spread(t.wall)}" for k, t in times.items() if k.startswith(side + ":"))
        cpu = spread([value / options.batch for value in total.cpu])
        print(f"| {side} | {spread(total.wall)} | {total.per_second(options.batch)} | {cpu} | {phases} |")
    if "authors" in totals:
        for side in list(totals)[:-1]:
            print(f"{side} over the authors: {totals['authors'].ratio_to(totals[side])}")
    print(others_line(times))


def measure_parts(options: argparse.Namespace) -> None:
    """Where an iteration's time goes; each part on its own, so the sum is not exactly the whole."""
    loop = experiment_loop(options, networks(options), half=False, trunk=random_trunk())
    module, n = loop.module, options.batch
    source = RoboHash(kind="cats", resolution=options.resolution, mirror=False, num_workers=0)
    batches = iter(train_loader(source, batch_size=n, seed=0))
    real = next(batches)[0].float() / 127.5 - 1
    label = torch.zeros(n, dtype=torch.int64)
    terms = cadences(module.game.generator_terms)[1]
    image_terms = [term for name, term in terms.items() if name in ("lpips", "perceptual", "pixel_l1")]

    def step() -> GeneratorStep:
        return next(iter(module.game.generator_steps(terms, label, real)))

    def student() -> None:
        image = step().student_image
        image.backward(torch.ones_like(image))

    def with_image(use: Callable[[GeneratorStep], Tensor]) -> None:
        made = step()
        vars(made)["_student_pass"] = (real.clone().requires_grad_(True), {})
        vars(made)["_teacher_pass"] = (real.flip(0), {})
        use(made).backward()

    module.judges.requires_grad_(False)
    fake: Callable = lambda s: sum(logits.sum() for logits in s.fake_logits.values())  # noqa: E731
    image_loss: Callable = lambda s: sum(term(s)[0] for term in image_terms)  # noqa: E731
    parts: dict[str, Callable[[], object]] = {
        "data": lambda: next(batches),
        "teacher": lambda: step().teacher_image,
        "student": student,
        "discriminator in the generator's step": lambda: with_image(fake),
        "image losses": lambda: with_image(image_loss),
    }
    times = interleaved(parts, options.repeats)
    whole = {f"phase {name}": run for name, run in loop.phases(real).items() if name != "Gmain"}
    for name, run in whole.items():
        times |= interleaved({name: run}, options.repeats)
    times |= interleaved({"optimizers and weight average": lambda: _optimize(loop)}, options.repeats)
    seconds = {name: sorted(t.wall)[len(t.wall) // 2] / PHASES.get(name.split(" ")[-1], 1) for name, t in times.items()}
    print(f"\n| part of an iteration, {options.terms} | s | share |\n| --- | --- | --- |")
    for name, value in seconds.items():
        print(f"| {name} | {value:.4f} | {value / sum(seconds.values()):.1%} |")


def _optimize(loop: BareLoop) -> None:
    for optimizer in loop.optimizers:
        optimizer.step()
    loop.average()


def measure_memory(options: argparse.Namespace) -> None:
    """Peak resident memory of one process per side that runs every phase twice."""
    sides = ["limbeck"] + (["authors"] if svs_folder(options.peers) else [])
    for side in sides:
        command = [sys.executable, __file__, "--only", side, "--terms", options.terms, "--batch", str(options.batch)]
        command += ["--resolution", str(options.resolution), "--channel-base", str(options.channel_base)]
        command += ["--peers", str(options.peers)] if options.peers else []
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(f"peak memory, {side}: {done.stdout.strip().splitlines()[-1]} MiB")


def run_only(options: argparse.Namespace) -> None:
    nets, trunk = networks(options), random_trunk()
    folder = svs_folder(options.peers)
    if options.only == "limbeck":
        loop: Any = experiment_loop(options, nets, half=False, trunk=trunk)
    else:
        loop = TheirLoop(folder, options, nets, trunk=trunk)
    nets.clear()
    real = torch.rand(options.batch, 3, options.resolution, options.resolution) * 2 - 1
    for _ in range(2):
        for run in loop.phases(real).values():
            run()
        loop.average()
    print(f"{peak_memory_mib():.0f}")


MEASURES = {
    "iteration": measure_iteration,
    "parts": measure_parts,
    "memory": measure_memory,
    "objectives": measure_objectives,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--terms", choices=list(EXPERIMENTS), default="svs")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--channel-base", type=int, default=16384, help='32768 is "base", 16384 "small"')
    parser.add_argument("--ratio", type=float, default=0.7)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--peers", type=Path, help="folder that holds the clones named in peers.py")
    parser.add_argument("--only", choices=["limbeck", "authors", *OBJECTIVES], help=argparse.SUPPRESS)
    parser.add_argument("--trunk", help=argparse.SUPPRESS)
    parser.add_argument("--objectives", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument("--embeddings", action="store_true", help="random ResNet-50s for DiME; needs open_clip_torch")
    parser.add_argument("--measure", nargs="+", choices=list(MEASURES), default=PARTS)
    options = parser.parse_args()
    print(prepare(options.threads))
    if options.only:
        play_only(options.only, options) if options.only in OBJECTIVES else run_only(options)
        return
    for name in options.measure:
        MEASURES[name](options)


if __name__ == "__main__":
    main()
