"""What compiled networks do, as JSON; run by test_compiled in a process of its own, because type checks do not compile.

Argument: "training" (a tiny game without and with compiled networks, by torch's own operators) or "images" (those of a
teacher, by inductor).
"""

import copy
import json
import sys
import warnings

import torch
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader, TensorDataset

from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.distillation.compiled import compile_networks
from limbeck.distillation.gan import GanDistillation
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.embeddings.torchvision_shim import imported
from limbeck.losses.adversarial import NonSaturatingDiscriminator, NonSaturatingGenerator
from limbeck.losses.perceptual import Perceptual
from limbeck.losses.pixel_l1 import PixelL1
from limbeck.losses.regularization import R1, PathLength
from limbeck.losses.weighted import Weighted
from limbeck.model import Model, Pair

pl = imported("pytorch_lightning")
BATCH, STEPS = 4, 6


class Compile(pl.Callback):
    """Compiles before training; counts the programs after each step."""

    def __init__(self, which, backend):
        self.which, self.backend, self.programs = which, backend, []

    def on_fit_start(self, trainer, module):
        compile_networks(module, self.which, backend=self.backend)

    def on_train_batch_end(self, trainer, module, *others):
        self.programs.append(counters["stats"]["unique_graphs"])


def trained(which, backend):
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    networks = [Generator(resolution=16, widths=[w] * 6, z_dim=8, w_dim=8, mapping_depth=2) for w in (8, 4)]
    module = GanDistillation(
        Pair(Model(networks[0]), Model(networks[1])),
        judges={"fresh": Discriminator(resolution=16, widths=[8, 8, 8])},
        generator_terms={
            "nonsaturating": Weighted(term=NonSaturatingGenerator()),
            "pixel_l1": Weighted(term=PixelL1(), weight=3.0),
            "perceptual": Weighted(term=Perceptual(embedding=RandomProjection())),
            "path_length": Weighted(term=PathLength(), weight=0.01, every_steps=2),
        },
        discriminator_terms={
            "nonsaturating": Weighted(term=NonSaturatingDiscriminator()),
            "r1": Weighted(term=R1(), weight=0.1, every_steps=2),
        },
        generator_optimizer=lambda p: torch.optim.SGD(p, lr=0.01),
        discriminator_optimizer=lambda p: torch.optim.SGD(p, lr=0.01),
        kimg=STEPS * BATCH / 1000,
        batch_size=BATCH,
        noise="const",
    )
    watching = Compile(which, backend)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=-1,
        logger=False,
        callbacks=[watching],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    pixels = torch.randint(256, (STEPS * BATCH, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    trainer.fit(module, DataLoader(TensorDataset(pixels.to(torch.uint8), torch.zeros(len(pixels))), batch_size=BATCH))
    copy.deepcopy(module.student)  # what a compiled network must still allow
    return copy.deepcopy(module.student.state_dict()), watching.programs, dict(counters["graph_break"])


def training():
    plain, *_ = trained("none", "eager")
    answers = {}
    for which in ("frozen", "all"):
        state, programs, breaks = trained(which, "eager")
        assert list(state) == list(plain)
        equal = all(torch.equal(state[name], value) for name, value in plain.items())
        answers[which] = {"equal": equal, "programs": programs, "breaks": list(breaks)}
    return answers


@torch.no_grad()
def images():
    torch.manual_seed(0)
    network = Generator(resolution=8, widths=[8] * 4, z_dim=8, w_dim=8, mapping_depth=1).eval()
    latent = torch.randn(2, 8)
    style = network.mapping(latent)
    expected = network.synthesis(style, noise="const")
    network.synthesis.compile(fullgraph=True)
    found = network.synthesis(style, noise="const")
    return {"error": float((found - expected).abs().max()), "scale": float(expected.abs().max())}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(json.dumps({"training": training, "images": images}[sys.argv[1]]()))
