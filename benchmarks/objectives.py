"""The distillation objectives that `distillation_step.py` compares: one row each, and what a row is built from.

All keep StyleGAN2's path length and R1, the networks and their weights; only losses and judges differ. Weights of the
terms are the defaults of conf/loss, because they change no time.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from loops import composed, gan_module, networks, random_trunk
from timing import Times, interleaved, others_line, spread
from torch import Tensor, nn
from turns import Turns

from limbeck.embeddings.base import Embedding
from limbeck.embeddings.module import Module
from limbeck.embeddings.pretrained import Pretrained
from limbeck.embeddings.torchvision_shim import imported
from limbeck.losses.dime import Dime
from limbeck.losses.teacher_statistics import Moments
from limbeck.losses.weighted import Weighted
from limbeck.profiling.measured import peak_memory_mib

PLAIN = "nonsaturating,path_length"
NICKEL = "loss/discriminator=[nonsaturating,r1,nickel]"
OBJECTIVES = {
    "adversarial": [f"loss/generator=[{PLAIN}]"],
    "CAGAN": [f"loss/generator=[{PLAIN},pixel_l1,lpips]", "discriminator=teacher"],
    "StyleKD": [f"loss/generator=[{PLAIN},pixel_l1,lpips,relation]"],
    "self-supervised": ["loss/generator=[self_supervised,path_length]", "discriminator=teacher"],
    "DiME": [f"loss/generator=[{PLAIN},dime]"],
    "two judges": [f"loss/generator=[{PLAIN}]", "discriminator=both"],
    "NICKEL": [f"loss/generator=[{PLAIN}]", NICKEL, "discriminator=both"],
    "NICKEL & DiME": [f"loss/generator=[{PLAIN},dime]", NICKEL, "discriminator=both"],
    "GCC": [f"loss/generator=[{PLAIN},gcc]", "distillation=gcc", "discriminator=gated"],
}
BASE = "adversarial"


def raw_dime(dino: nn.Module, clip: nn.Module) -> Weighted:
    """The released DiME over two networks: raw images, weights 20 and 15; the second one sees them at 224 px."""
    embeddings: dict[str, Embedding] = {
        "dino": Pretrained(source=Module(module=dino, name="dino"), preprocessing="raw"),
        "clip": Pretrained(source=Module(module=clip, name="clip", resolution=224, fixed=True), preprocessing="raw"),
    }
    return Weighted(term=Dime(embeddings=embeddings, weights={"dino": 20.0, "clip": 15.0}))


def random_resnets() -> Weighted:
    """`raw_dime` over ResNet-50s of DINO's and CLIP's shape with random weights: speed does not depend on them."""
    torch.manual_seed(2)
    dino = imported("torchvision.models").resnet50(weights=None)
    dino.fc = nn.Identity()
    return raw_dime(dino.eval(), imported("open_clip").create_model("RN50", pretrained=None).visual.eval())


def fix_moments(dime: Weighted) -> Weighted:
    """Made-up statistics of the teacher, so that no sample of its images is drawn for them; after the term's setup."""
    term: Any = dime.term
    for name, embedding in term.chosen.embeddings.items():
        width = embedding.num_features
        term.moments[name] = Moments(first=torch.zeros(width), second=torch.ones(width))
        if isinstance(embedding, Pretrained):
            embedding.source.module = embedding.network  # else the peak would count a second copy of it
    return dime


def objective(name: str, options: argparse.Namespace, nets: Mapping[str, Any], trunk: str, real: Tensor) -> Turns:
    """The iteration of one row, ready to be played."""
    config = composed("experiment=bare", *OBJECTIVES[name])
    if "lpips" in config.loss.generator:
        config.loss.generator.lpips.term.trunk_path = trunk
    terms = {"dime": random_resnets()} if options.embeddings and "dime" in config.loss.generator else None
    torch.manual_seed(3)  # a fresh judge
    module = gan_module(config, nets, batch=options.batch, terms=terms)
    for term in module.terms["generator"].values():
        if isinstance(term.term, Dime):
            fix_moments(term)
    return Turns(module, real)


def real_images(options: argparse.Namespace) -> Tensor:
    return torch.rand(options.batch, 3, options.resolution, options.resolution) * 2 - 1


def measure_objectives(options: argparse.Namespace) -> None:
    """A table with a row per objective; its cost is what it adds to the adversarial row in the same round."""
    names = list(dict.fromkeys([BASE, *options.objectives]))
    nets, trunk, real = networks(options), random_trunk(), real_images(options)
    runs = {name: objective(name, options, nets, trunk, real) for name in names}
    calls = interleaved(runs, options.repeats)
    times = {name: runs[name].amortized(calls[name]) for name in names}
    memory = {name: peak_of(name, options, trunk) for name in names}
    dime = "two random ResNet-50s" if options.embeddings else "Lite0 at 64 px"
    print(f"\n{options.resolution} px, batch {options.batch}, ratio {options.ratio}, float32; DiME over {dime}\n")
    print("| objective | s per iteration | s added | times the adversarial | peak memory, MiB | added, MiB |")
    print("| --- | ---: | ---: | --- | ---: | ---: |")
    for name in names:
        added, ratio = spread(differences(times[name], times[BASE])), times[name].ratio_to(times[BASE])
        more = f"{memory[name] - memory[BASE]:.0f}"
        print(f"| {name} | {spread(times[name].wall)} | {added} | {ratio} | {memory[name]:.0f} | {more} |")
    for name, run in runs.items():
        print(f"turns of {name}, s: {run.described(options.repeats)}")
    print(others_line(calls))


def differences(one: Times, other: Times) -> list[float]:
    return [a - b for a, b in zip(one.wall, other.wall, strict=True)]


def peak_of(name: str, options: argparse.Namespace, trunk: str) -> float:
    """Peak resident memory in MiB of a process that builds one objective and plays it twice."""
    command = [sys.executable, str(Path(__file__).with_name("distillation_step.py")), "--only", name, "--trunk", trunk]
    for key in ("batch", "resolution", "channel_base", "ratio", "threads"):
        value = getattr(options, key)
        command += [f"--{key.replace('_', '-')}", str(value)] if value is not None else []
    command += ["--embeddings"] if options.embeddings else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def play_only(name: str, options: argparse.Namespace) -> None:
    nets = networks(options)
    run = objective(name, options, nets, options.trunk, real_images(options))
    nets.clear()
    for _ in range(2):
        run()
    print(f"{peak_memory_mib():.0f}")
