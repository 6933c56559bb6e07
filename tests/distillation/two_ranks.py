"""Some steps of a game on one process or a share of them on each of two; run by test_shared_gradients.

Arguments: rank, number of processes, port at which they meet, file for the result.
"""

import os
import sys

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, IterableDataset

from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.distillation.game import Game
from limbeck.distillation.gan import GanDistillation
from limbeck.distillation.shared_gradients import SharedGradients
from limbeck.embeddings.torchvision_shim import imported
from limbeck.losses.adversarial import NonSaturatingDiscriminator, NonSaturatingGenerator
from limbeck.losses.pixel_l1 import PixelL1
from limbeck.losses.regularization import R1
from limbeck.losses.steps import Draw
from limbeck.losses.weighted import Weighted
from limbeck.model import Model, Pair

BATCH, STEPS, R1_EVERY = 8, 4, 2


class Pixels(IterableDataset):
    """Every `world`-th of endless random images."""

    def __init__(self, rank, world):
        self.rank, self.world = rank, world

    def __iter__(self):
        for index in range(self.rank, 10**6, self.world):
            yield torch.randint(256, (3, 16, 16), generator=torch.Generator().manual_seed(index)).to(torch.uint8), 0


def module_of() -> GanDistillation:
    torch.manual_seed(5)
    networks = [Generator(resolution=16, widths=[w] * 6, z_dim=8, w_dim=8, mapping_depth=2) for w in (8, 4)]
    judge = Discriminator(resolution=16, widths=[8, 8, 8], group_size=1)
    return GanDistillation(
        Pair(Model(networks[0]), Model(networks[1])),
        judges={"fresh": judge},
        generator_terms={
            "nonsaturating": Weighted(term=NonSaturatingGenerator()),
            "pixel_l1": Weighted(term=PixelL1()),
        },
        discriminator_terms={
            "nonsaturating": Weighted(term=NonSaturatingDiscriminator()),
            "r1": Weighted(term=R1(), weight=0.1, every_steps=R1_EVERY),
        },
        generator_optimizer=lambda p: torch.optim.SGD(p, lr=0.05),
        discriminator_optimizer=lambda p: torch.optim.SGD(p, lr=0.05),
        kimg=BATCH * STEPS / 1000,
        batch_size=BATCH,
        micro_batch_size=3,
        noise="const",
    )


def main(rank: int, world: int, port: str, out: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    turns, sent = [], []

    def draw(game: Game, label: torch.Tensor) -> Draw:
        """This process's share of latents that do not depend on the number of processes."""
        turns.append(len(label))
        latents = torch.randn(2, BATCH, 8, generator=torch.Generator().manual_seed(len(turns)))
        return Draw(latents[:, rank::world], torch.full([BATCH // world], 6), None, "const")

    Game._draw = draw
    all_reduce = dist.all_reduce

    def counted(tensor, *others, **more):
        sent.append(tensor.numel() * tensor.element_size())
        return all_reduce(tensor, *others, **more)

    dist.all_reduce = counted
    pl = imported("pytorch_lightning")
    module = module_of()
    if rank:  # the first process's networks are taken
        torch.nn.init.normal_(next(module.student.parameters()))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=world,
        strategy=SharedGradients() if world > 1 else "auto",
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, DataLoader(Pixels(rank, world), batch_size=BATCH // world))
    state = {**module.student.state_dict(), **{f"judge.{k}": v for k, v in module.judges.state_dict().items()}}
    torch.save({"state": state, "sent": sent, "turns": len(turns)}, f"{out}.{world}.{rank}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5])
