"""Gradients of every loss term on one share of a batch, averaged over the processes; run by test_two_processes.

Arguments: rank, number of processes, file at which they meet, file for the result.
"""

import datetime
import sys
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch import nn

from limbeck.architectures import stylegan3
from limbeck.architectures.gated import GatedDiscriminator
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.data.base import ImageFacts, ImageSource
from limbeck.distillation.game import Game, Sampling
from limbeck.distillation.gates import Gates
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.frozen import Frozen
from limbeck.losses.adversarial import NonSaturatingDiscriminator, NonSaturatingGenerator
from limbeck.losses.gcc import Collaborative
from limbeck.losses.intermediate_l1 import IntermediateL1
from limbeck.losses.moment_matching import MomentMatching
from limbeck.losses.nickel import Nickel
from limbeck.losses.perceptual import Perceptual
from limbeck.losses.pixel_l1 import PixelL1
from limbeck.losses.regularization import R1
from limbeck.losses.relation import Relation
from limbeck.losses.self_supervised import SelfSupervised
from limbeck.losses.steps import DiscriminatorStep, Draw, GeneratorStep, Players
from limbeck.losses.weighted import Term
from limbeck.model import Model, Pair

BATCH = 8


class Photographs(ImageSource):
    """Twenty fixed images of 16 px."""

    mirror, num_workers = False, 0

    def open(self):
        return ImageFacts(16, 3, 0, 20)

    def train(self):
        return self

    heldout = train

    def batch(self, indices):
        numbers = torch.Generator().manual_seed(4)
        return torch.randint(256, (20, 3, 16, 16), generator=numbers).to(torch.uint8)[torch.from_numpy(indices)], None

    def __len__(self):
        return 20

    def digest(self):
        return "photographs"


GENERATOR_TERMS = {
    "nonsaturating": NonSaturatingGenerator(),
    "pixel_l1": PixelL1(),
    "intermediate_l1": IntermediateL1(),
    "perceptual": Perceptual(embedding=RandomProjection()),
    "self_supervised": SelfSupervised(),
    "gcc": Collaborative(generator_resolutions=[8], discriminator_resolutions=[8], image_weight=1.0),
    "moment_matching": MomentMatching(embedding=RandomProjection(), data=Photographs(), batch_size=4),
    "relation": Relation(resolutions=[8, 16], strength=0.0),
}
DISCRIMINATOR_TERMS = {
    "nonsaturating_discriminator": NonSaturatingDiscriminator(),
    "r1": R1(),
    "nickel": Nickel(),
}


def networks() -> tuple[Pair, Players]:
    """The same on every process. Judges look at images alone (groups of one): a batch's deviation is not shared."""
    torch.manual_seed(0)
    teacher, student = (
        Generator(resolution=16, widths=[width] * 6, z_dim=8, w_dim=8, mapping_depth=2) for width in (8, 4)
    )
    judges = [Discriminator(resolution=16, widths=[8, 8, 6], group_size=1) for _ in range(2)]
    gated = GatedDiscriminator(**judges[0].arguments)
    players = Players(student, Frozen(teacher), {"fresh": judges[0], "gated": gated}, Frozen(judges[1]))
    return Pair(Model(teacher, judges[1]), Model(student)), players


def gradients_of(pair: Pair, players: Players, term: Term, share: slice) -> list[torch.Tensor]:
    """Of everything that the term reaches, itself included."""
    torch.manual_seed(1)
    latents, real = torch.randn(2, BATCH, 8), torch.rand(BATCH, 3, 16, 16) * 2 - 1
    draw = Draw(latents[:, share], torch.full([share.stop - share.start], 6), noise="const")
    term.prepare(pair, half=False)
    trained = [players.student, *players.discriminators.values(), term]
    for module in trained:
        module.zero_grad(set_to_none=True)
    if term in GENERATOR_TERMS.values():
        players.student.requires_grad_(True)
        nn.ModuleList(players.discriminators.values()).requires_grad_(False)
        step = GeneratorStep(players, draw, real_image=real[share], feature_resolutions=term.feature_resolutions)
    else:
        players.student.requires_grad_(False)
        nn.ModuleList(players.discriminators.values()).requires_grad_(True)
        step = DiscriminatorStep(players, draw, real[share], feature_resolutions=term.feature_resolutions)
    term(step).backward()
    return averaged([p.grad for module in trained for p in module.parameters() if p.grad is not None])


def gradients_of_gates(pair: Pair, players: Players, share: slice) -> list[torch.Tensor]:
    """Of the alphas."""
    gates = Gates(optimizer=torch.optim.Adam)
    gates.prepare(pair, SimpleNamespace(game=Game(players, {}, {}, Sampling(BATCH))))
    gates.loss.feature_resolutions = ()
    torch.manual_seed(1)
    latents, real = torch.randn(2, BATCH, 8), torch.rand(BATCH, 3, 16, 16) * 2 - 1
    draw = Draw(latents[:, share], torch.full([share.stop - share.start], 6), noise="const")
    gates.loss(DiscriminatorStep(players, draw, real[share])).backward()
    return averaged([alpha.grad for alpha in gates.alphas.values()])


def magnitudes_of(share: slice) -> list[torch.Tensor]:
    """StyleGAN3's running magnitudes after the pass that draws images for the judges, and those images' share."""
    torch.manual_seed(0)
    settings = {"resolution": 16, "num_layers": 3, "num_critical": 1, "z_dim": 8, "w_dim": 8}
    student = stylegan3.Generator(widths=[4] * 4, **settings)
    latents, real = torch.randn(1, BATCH, 8), torch.zeros(BATCH, 3, 16, 16)
    draw = Draw(latents[:, share])
    step = DiscriminatorStep(Players(student, None, {}), draw, real[share], statistics_decay=0.5)
    drawn = torch.zeros(BATCH, 3, 16, 16)
    drawn[share] = step.fake_image
    measured = [value for name, value in student.state_dict().items() if name.endswith("magnitude_ema")]
    (drawn,) = averaged([drawn])
    return [*measured, drawn * (dist.get_world_size() if dist.is_initialized() else 1)]


def averaged(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    """As DistributedDataParallel does."""
    if dist.is_initialized():
        for gradient in gradients:
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()
    return gradients


def main(rank: int, world: int, meeting: str, out: str) -> None:
    torch.set_num_threads(1)
    if world > 1:
        limit = datetime.timedelta(seconds=200)
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world, timeout=limit)
    share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    pair, players = networks()
    found = {
        name: gradients_of(pair, players, term, share)
        for name, term in {**GENERATOR_TERMS, **DISCRIMINATOR_TERMS}.items()
    }
    found["magnitudes"] = magnitudes_of(share)
    found["gates"] = gradients_of_gates(pair, players, share)
    torch.save(found, f"{out}.{world}.{rank}")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
