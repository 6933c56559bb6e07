"""What two processes score together, and what one scores; run by test_shared_scoring under a launcher's variables.

Argument: a folder, in which the first half of a scoring lies and results are left.
"""

import sys
from pathlib import Path

import torch

from limbeck import parallel
from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Generator
from limbeck.evaluation.reference import summed_up
from limbeck.masks.everything import Everything
from limbeck.model import Model
from limbeck.processes import together
from limbeck.pruning import scoring
from limbeck.pruning.criteria.base import Criterion, Part
from limbeck.pruning.criteria.cagan import CAGAN
from limbeck.pruning.criteria.dcp import DCP
from limbeck.pruning.criteria.diff_pruning import DiffPruning
from limbeck.pruning.criteria.gan_slimming import GanSlimming
from limbeck.pruning.criteria.taylor import Taylor

NUM_STEPS, KILLED_IN = 7, 4
CUT_OFFS = {
    "in the second of a round": [8.0, 7.0, 6.0, 0.1, 9.0, 9.0, 9.0],
    "in the first of a round": [8.0, 7.0, 0.1, 9.0, 9.0, 9.0, 9.0],
    "in the first of all but one": [1.0, 0.01, 9.0, 9.0, 9.0, 9.0, 9.0],
    "nowhere": [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0],
}


class Killed(Exception):
    pass


class Counting(Criterion):
    """Adds powers of two, so that the sum tells which steps counted, and how often; dies in the steps from one on."""

    num_steps = NUM_STEPS

    def __init__(self, killed_from: int = NUM_STEPS):
        self.killed_from = killed_from

    def start(self, model):
        return {"sum.bits": torch.zeros([])}

    def step(self, model, state, index):
        if index >= self.killed_from:
            raise Killed
        return Part({"bits": torch.tensor(4.0**index)})

    def scores(self, model, state):
        return {"bits": state["sum.bits"]}


class Scripted(Taylor):
    """Stands in for `Taylor`: losses as given; the gradient of step k is 2^k, so that sums tell which steps count."""

    def __init__(self, losses):
        super().__init__(num_train_steps=len(losses))
        self.losses = losses

    def start(self, model):
        return {"sum.w": torch.zeros(1)}

    def gradients(self, model, state, timestep):
        return self.losses[timestep], {"w": torch.tensor([2.0**timestep])}

    def scores(self, model, state):
        return {"w": state["sum.w"]}


class Noise(Taylor):
    """Images drawn here instead of read."""

    def _images(self, network):
        return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def latent_model() -> Model:
    torch.manual_seed(0)
    return Model(Generator(resolution=8, widths=[4, 5, 6, 7], z_dim=8, w_dim=8, mapping_depth=1))


def denoiser() -> Model:
    torch.manual_seed(0)
    shape = {"resolution": 8, "level_widths": [8, 16], "blocks_per_level": 1, "norm_groups": 4}
    return Model(UNet(**shape, num_train_steps=NUM_STEPS))


def cases() -> dict[str, tuple[Criterion, Model]]:
    batches = {"num_samples": 2 * NUM_STEPS - 1, "batch_size": 2}
    latent = {
        "dcp": DCP(**batches, num_directions=2, num_pca=40),
        "cagan": CAGAN(mask=Everything(), **batches),
        "gan_slimming": GanSlimming(**batches),
        **{name: DiffPruning(Scripted(losses)) for name, losses in CUT_OFFS.items()},
    }
    return {name: (criterion, latent_model()) for name, criterion in latent.items()} | {
        "taylor": (taylor(), denoiser()),
        "diff_pruning": (DiffPruning(taylor(), threshold=0.995), denoiser()),
    }


def taylor() -> Noise:
    return Noise(batch_size=4, num_train_steps=NUM_STEPS, seed=3)


def features() -> torch.Tensor:
    """11 rows of 4, of which two processes take shares of 6 and 5."""
    return torch.randn(11, 4, generator=torch.Generator().manual_seed(2))


def main(folder: Path) -> None:
    scoring.SAVE_SECONDS = -1.0  # after every round
    with together(on_gpu=False):
        own = parallel.rank()
        found = {"summed": parallel.summed(torch.tensor([1.5, 2.0]) * 10**own)}
        moments = summed_up(features().split(3)[own::2], 4, torch.device("cpu"))
        found |= dict(zip(("count", "total", "products"), moments, strict=True))
        found["of_first"] = parallel.of_first(torch.tensor([own, 7]))
        for name, (criterion, model) in cases().items():
            state = scoring.worked(criterion, model, path=folder / f"{name}.safetensors")
            found |= {f"{name}/{key}": value for key, value in state.items()}
        found["continued"] = scoring.worked(Counting(), latent_model(), path=folder / "of_one")["sum.bits"]
        try:
            scoring.worked(Counting(KILLED_IN), latent_model(), path=folder / "of_two")
        except Killed:
            torch.save(found, folder / f"found.{own}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
