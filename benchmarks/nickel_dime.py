"""One NICKEL & DiME iteration beside the authors' released code: seconds, images per second, peak memory.

    python benchmarks/nickel_dime.py --peers DIR [--threads 2] [--batch 8] [--half]

DIR/NICKEL_AND_DIME: a clone of github.com/SangyeopYeo/NICKEL_AND_DIME, which needs PyWavelets; nothing of it is copied,
read its licences before use. Without --peers our side runs alone, over open_clip's form of CLIP's ResNet-50.

Both sides hold the same StyleGAN2 "small" teacher, student, two judges and random DINO and CLIP ResNet-50s; deviations
are asserted first, runs are interleaved, memory is measured in one process per side. Their loss reads fixed blocks, so
the resolution is 256. Their embeddings are frozen, as their run on several GPUs leaves them; --single-process lets
their weights gather gradients that nobody uses, as a run on one device does.
"""

import argparse
import copy
import subprocess
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from distillation_step import amortized
from loops import PHASES, BareLoop, composed, gan_module, networks, their_average, their_step
from objectives import fix_moments, random_resnets, raw_dime
from peers import clone, fitted, load
from timing import interleaved, others_line, prepare, spread
from torch import Tensor, nn

from limbeck.embeddings.torchvision_shim import imported
from limbeck.losses.nickel import wavelet_distance
from limbeck.profiling.measured import peak_memory_mib

RESOLUTION, MAPS = 256, 64  # of the images; of the maps that NICKEL compares
THEIR_BLOCKS = (4, 1)  # of the generator and the discriminator, by their lists
SIDES = ("limbeck", "authors")


def their_folder(options: argparse.Namespace) -> Path | None:
    return clone(options.peers, "NICKEL_AND_DIME")


def embeddings(folder: Path | None) -> dict[str, nn.Module]:
    """DINO's and CLIP's network with random weights; CLIP's in the authors' form if there is a clone."""
    torch.manual_seed(2)
    if folder is None:
        source: Any = random_resnets().term
        return {name: made.source.module for name, made in source.chosen.embeddings.items()}
    package = types.ModuleType("clip")  # its own start would load a tokenizer
    package.__path__ = [str(folder / "clip")]
    sys.modules["clip"] = package
    (clip,) = load(folder, "clip.model")
    dino = imported("torchvision.models").resnet50(weights=None)
    dino.fc = nn.Identity()
    return {"dino": dino.eval(), "clip": clip.ModifiedResNet((3, 4, 6, 3), 1024, 32).eval()}


def our_loop(
    options: argparse.Namespace, nets: dict[str, Any], found: dict[str, nn.Module], *, half: bool, mixed: bool = False
) -> BareLoop:
    config = composed("experiment=stylegan2_ffhq_nickel_dime")
    config.distillation.frozen_precision = "bfloat16" if half else "float32"
    judges = {"fresh": copy.deepcopy(nets["fresh"]), "teacher": copy.deepcopy(nets["judge"])}
    dime = raw_dime(**copy.deepcopy(found))
    module = gan_module(config, nets, batch=options.batch, judges=judges, terms={"dime": dime})
    fix_moments(dime)
    return BareLoop(module, mixed=mixed)


class TheirLoop:
    """Their StyleGAN2Loss with their loop's optimizers, gradient clean-up and weight average."""

    def __init__(self, folder: Path, options: argparse.Namespace, nets: dict[str, Any], found: dict[str, nn.Module]):
        names = ("training.networks_DD", "training.networks", "training.loss_DD", "torch_utils.misc")
        theirs, plain, losses, self.misc = load(folder, *names)
        settings = {"channel_base": options.channel_base, "num_fp16_res": 0}

        def generator(name: str, ratio: float) -> nn.Module:
            made = theirs.Generator(512, 0, 512, RESOLUTION, 3, pruning_ratio=ratio, synthesis_kwargs=settings)
            return fitted(made, nets[name]).requires_grad_(False)

        def judge(module: Any, name: str) -> nn.Module:
            made = module.Discriminator(0, RESOLUTION, 3, **settings, epilogue_kwargs={"mbstd_group_size": 8})
            return fitted(made, nets[name]).train().requires_grad_(False)

        self.teacher, self.student = generator("teacher", 0.0).eval(), generator("student", options.ratio).train()
        self.ema = copy.deepcopy(self.student).eval()
        self.judges = [judge(theirs, "fresh"), judge(plain, "judge")]
        self.dino, clip = (copy.deepcopy(found[name]).requires_grad_(options.single_process) for name in found)
        self.clip = types.SimpleNamespace(module=types.SimpleNamespace(encode_image=clip))
        self.loss = losses.StyleGAN2Loss(
            *("cpu", RESOLUTION, self.student.mapping, self.student.synthesis, self.judges[0]),
            *(self.teacher.mapping, self.teacher.synthesis, self.clip, self.dino, self.judges[1]),
            r1_gamma=1.0,
        )
        widths = {"dino": 2048, "clip": 1024}
        self.moments = {f"global_{n}_first": torch.zeros(w) for n, w in widths.items()}
        self.moments |= {f"global_{n}_second": torch.ones(w) for n, w in widths.items()}
        self.players = {"G": [self.student], "D": self.judges}
        shares = {"G": 4 / 5, "D": 16 / 17}
        self.optimizers = {
            key: [
                torch.optim.Adam(m.parameters(), lr=0.0025 * share, betas=(0.0, 0.99**share), eps=1e-8)
                for m in self.players[key]
            ]
            for key, share in shares.items()
        }

    def phases(self, real: Tensor) -> dict[str, Callable[[], None]]:
        return {name: partial(self.phase, name, real) for name in PHASES}

    def phase(self, name: str, real: Tensor) -> None:
        modules, optimizers, nothing = self.players[name[0]], self.optimizers[name[0]], torch.zeros(len(real), 0)
        for module, optimizer in zip(modules, optimizers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            module.requires_grad_(True)
        self.loss.accumulate_gradients(
            name, real, nothing, torch.randn(len(real), 512), nothing, True, PHASES[name], self.moments
        )
        for module, optimizer in zip(modules, optimizers, strict=True):
            module.requires_grad_(False)
            their_step(self.misc, module, optimizer)

    def average(self) -> None:
        their_average(self.ema, self.student, half_life_images=20000)


@torch.no_grad()
def assert_same_work(ours: BareLoop, theirs: TheirLoop, real: Tensor) -> None:
    """Both sides hold the same networks: images without noise, logits, both embeddings' vectors, NICKEL's distance."""
    latent, module = torch.randn(len(real), 512), ours.module
    dime: Any = module.game.generator_terms["dime"].term
    _, _, _, maps = theirs.teacher.synthesis(theirs.teacher.mapping(latent, None), True, noise_mode="none")
    _, seen = theirs.judges[0](real, None, return_inter_feat=True)
    bands = [theirs.loss.xfm(found[index])[1] for found, index in zip((maps, seen), THEIR_BLOCKS, strict=True)]
    style = module.teacher.network.mapping(latent)[:, None].expand(-1, module.student.synthesis.num_styles, -1)
    _, our_maps = module.teacher.network.synthesis(style, noise="none", return_features=(MAPS,))
    judged = module.judges["fresh"].features(real, (MAPS,))
    resized = F.interpolate(real, size=224, mode="bilinear", align_corners=False)
    pairs = {
        "teacher": (module.teacher(latent, noise="none"), theirs.teacher(latent, None, noise_mode="none")),
        "student": (module.student(latent, noise="none"), theirs.ema(latent, None, noise_mode="none")),
        "student's judge": (module.judges["fresh"](real), theirs.judges[0](real, None).squeeze(1)),
        "teacher's judge": (module.judges["teacher"](real), theirs.judges[1](real, None).squeeze(1)),
        "DINO": (dime.embeddings["dino"](real), theirs.dino(real)),
        "CLIP": (dime.embeddings["clip"](real), theirs.clip.module.encode_image(resized)),
        "NICKEL": (
            wavelet_distance(judged[MAPS], our_maps[MAPS], 4),
            torch.stack([F.mse_loss(a, b) for a, b in zip(*bands, strict=True)]).sum(),
        ),
    }
    for name, (a, b) in pairs.items():
        deviation = ((a - b).abs().max() / b.abs().max()).item()
        print(f"deviation from the authors, {name}: {deviation:.1e} of the largest value")
        assert deviation < 1e-4, name


def start(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, nn.Module], Tensor]:
    """Networks by name, embeddings, and a batch of images."""
    options.resolution = RESOLUTION
    nets = networks(options)
    nets["fresh"] = nets["judge"].resized({})
    images = torch.rand(options.batch, 3, RESOLUTION, RESOLUTION) * 2 - 1
    return nets, embeddings(their_folder(options)), images


def measure_iteration(options: argparse.Namespace) -> None:
    nets, found, real = start(options)
    sides: dict[str, Any] = {
        "limbeck": our_loop(options, nets, found, half=False),
    }
    if options.half:
        sides["limbeck, frozen networks in bfloat16"] = our_loop(options, nets, found, half=True)
        sides["limbeck, all networks in bfloat16"] = our_loop(options, nets, found, half=True, mixed=True)
    if folder := their_folder(options):
        sides["authors"] = TheirLoop(folder, options, nets, found)
        assert_same_work(sides["limbeck"], sides["authors"], real)
    runs = {
        f"{s}: {n}": r for s, side in sides.items() for n, r in {**side.phases(real), "average": side.average}.items()
    }
    times = interleaved(runs, options.repeats)
    totals = {side: amortized({k: t for k, t in times.items() if k.startswith(side + ":")}) for side in sides}
    print("\n| NICKEL & DiME | s per iteration | images/s | CPU-s per image | phases, s |")
    print("| --- | --- | --- | --- | --- |")
    for side, total in totals.items():
        phases = ", ".join(f"{k.split(': ')[1]} {spread(t.wall)}" for k, t in times.items() if k.startswith(side + ":"))
        cpu = spread([value / options.batch for value in total.cpu])
        print(f"| {side} | {spread(total.wall)} | {total.per_second(options.batch)} | {cpu} | {phases} |")
    for side in list(totals)[:-1] if "authors" in totals else ():
        print(f"{side} over the authors: {totals['authors'].ratio_to(totals[side])}")
    print(others_line(times))


def measure_memory(options: argparse.Namespace) -> None:
    for side in SIDES if their_folder(options) else SIDES[:1]:
        done = subprocess.run([sys.executable, *sys.argv, "--only", side], check=True, capture_output=True, text=True)
        print(f"peak memory, {side}: {done.stdout.strip().splitlines()[-1]} MiB")


def run_only(options: argparse.Namespace) -> None:
    """Every phase of one side twice."""
    nets, found, real = start(options)
    folder = their_folder(options)
    if options.only == "limbeck":
        side: Any = our_loop(options, nets, found, half=False)
    else:
        assert folder is not None
        side = TheirLoop(folder, options, nets, found)
    nets.clear()
    found.clear()
    for _ in range(2):
        for run in [*side.phases(real).values(), side.average]:
            run()
    print(f"{peak_memory_mib():.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channel-base", type=int, default=16384, help='32768 is "base", 16384 "small"')
    parser.add_argument("--ratio", type=float, default=0.7)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--peers", type=Path, help="folder that holds the clone")
    parser.add_argument("--half", action="store_true", help="our side in bfloat16 too")
    parser.add_argument("--single-process", action="store_true", help="their embeddings are left trainable")
    parser.add_argument("--measure", nargs="+", choices=["memory", "iteration"], default=["memory", "iteration"])
    parser.add_argument("--only", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    print(prepare(options.threads))
    if options.only:
        run_only(options)
        return
    for name in options.measure:
        {"iteration": measure_iteration, "memory": measure_memory}[name](options)


if __name__ == "__main__":
    main()
