"""What masks and tickets cost beside the training step that carries them.

    python benchmarks/sparsity.py ticket      # SNGAN-64, moment matching: k-th value selection, against a full sort
    python benchmarks/sparsity.py upkeep      # StyleGAN2, pixel distance and adversarial loss: masks held at zero, AGP
    python benchmarks/sparsity.py load        # a ticket of 5.5 million weights from its file

Parts of a step are timed in turn with the step, several rounds; medians. Goals: selection at most 5 % of a step, upkeep
at most 2 %, loading at most 2 s.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

import limbeck
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.distillation.agp import GradualPruning
from limbeck.distillation.held_masks import HeldMasks
from limbeck.losses.adversarial import discriminator_logistic, generator_logistic
from limbeck.losses.moment_matching import batch_moments
from limbeck.model import Model
from limbeck.pruning.sparsifier import joined


def in_turn(parts: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each part, one after the other in every round; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds + 1):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(found[1:]) for name, found in seconds.items()}


def ticket(batch_size: int, rounds: int, device: torch.device) -> dict[str, float]:
    """A step of a ticket: draw, VGG-19 features with batch statistics, moments, backward, Adam on the scores."""
    import torchvision

    network = limbeck.tickets.start("sngan_64").generator.to(device).train()
    extractor = torchvision.models.vgg19_bn(weights=None).features.to(device).train().requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-5, betas=(0.5, 0.999))
    for layer in extractor:
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False

    def step() -> None:
        optimizer.zero_grad()
        x, maps = network(torch.randn(batch_size, 128, device=device)), []
        for layer in extractor:
            x = layer(x)
            maps += [x.flatten(1)] if isinstance(layer, torch.nn.ReLU) else []
        mean, variance = batch_moments(torch.cat(maps, dim=1))
        (mean.sum() + variance.sum()).backward()
        optimizer.step()

    scores = [score.detach() for score in network.scores.values()]
    parts = {
        "step": step,
        "selection": network.own_masks,
        "sorting": lambda: [s.flatten().abs().sort() for s in scores],
    }
    return in_turn(parts, rounds, device)


def upkeep(batch_size: int, resolution: int, rounds: int, device: torch.device) -> dict[str, float]:
    """A distillation step of StyleGAN2 with half of its weights off: both players' turns, and what masks add to it."""
    teacher = Generator(resolution=resolution, channel_base=16384).to(device).eval().requires_grad_(False)
    judge = Discriminator(resolution=resolution, channel_base=16384).to(device)
    model = limbeck.sparsify(Model(Generator(resolution=resolution, channel_base=16384)), ratio=0.5)
    student = model.generator.to(device).train()
    held = HeldMasks({name: mask.to(device) for name, mask in model.masks.items()})
    ours, theirs = (torch.optim.Adam(net.parameters(), lr=1e-4, fused=True) for net in (student, judge))

    def step() -> None:
        latent = torch.randn(batch_size, teacher.z_dim, device=device)
        ours.zero_grad()
        image, target = student(latent), teacher(latent)
        (generator_logistic(judge(image)) + (image - target).abs().mean()).mean().backward()
        ours.step()
        theirs.zero_grad()
        discriminator_logistic(judge(target), judge(image.detach())).mean().backward()
        theirs.step()

    def hold() -> None:
        held.hold_gradients(student)
        held.hold(student)

    agp = GradualPruning()

    def update() -> None:
        old = held.current()
        held.replace(joined(old, agp.masks_of(student, 0.5, old)), student)

    return in_turn({"step": step, "hold": hold, "update": update}, rounds, device)


def load(rounds: int) -> dict[str, float]:
    """Reading a ticket's file: seeded weights drawn and compared by their hash, bits unpacked."""
    with tempfile.TemporaryDirectory() as folder:
        path = limbeck.save(limbeck.tickets.start("sngan_64"), Path(folder) / "ticket.safetensors")
        return in_turn({"load": lambda: limbeck.load(path)}, rounds, torch.device("cpu")) | {
            "bytes": path.stat().st_size
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ticket", "upkeep", "load"])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    device = torch.device(given.device)
    if given.what == "ticket":
        found = ticket(given.batch_size, given.rounds, device)
        found |= {
            "share_of_step": found["selection"] / found["step"],
            "share_by_sorting": found["sorting"] / found["step"],
        }
    elif given.what == "upkeep":
        found = upkeep(given.batch_size, given.resolution, given.rounds, device)
        found |= {"share_of_step": found["hold"] / found["step"]}
    else:
        found = load(given.rounds)
    print(json.dumps({name: round(value, 5) for name, value in found.items()}, indent=2))


if __name__ == "__main__":
    main()
