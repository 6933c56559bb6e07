"""The two loops that `distillation_step.py` compares: limbeck's steps without Lightning, and the SVS authors' loop."""

import argparse
import copy
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from peers import fitted, load
from torch import Tensor, nn

from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.distillation.gan import GanDistillation
from limbeck.embeddings.torchvision_shim import imported
from limbeck.losses.weighted import Weighted, cadences
from limbeck.model import Model, Pair
from limbeck.pruning.allocation import kept_count

CONF = Path(__file__).parents[1] / "conf"
EXPERIMENTS = {"quickstart": "quickstart", "svs": "stylegan2_ffhq_svs", "bare": "bare"}
PHASES = {"Gmain": 1, "Greg": 4, "Dmain": 1, "Dreg": 16}  # the authors' names and cadences
RELATED = (16, 32, 64, 128)  # blocks of the relation loss, as far as there are such
SHARED = ("teacher", "student", "judge")


def networks(options: argparse.Namespace) -> dict[str, Any]:
    """Random teacher, thinner student and a discriminator; the same for every side of a run."""
    torch.manual_seed(0)
    shape = {"resolution": options.resolution, "channel_base": options.channel_base}
    teacher = Generator(**shape)
    student = teacher.resized({g.name: kept_count(g.size, options.ratio) for g in teacher.channel_groups()})
    return {"teacher": teacher, "student": student, "judge": Discriminator(**shape, group_size=8)}


def random_trunk() -> str:
    """A file with random VGG16 weights where torchvision's would be: speed does not depend on their values."""
    path = Path(tempfile.mkdtemp()) / "vgg16-random.pth"
    torch.manual_seed(1)
    torch.save(imported("torchvision.models").vgg16(weights=None).state_dict(), path)
    return str(path)


def composed(*overrides: str) -> DictConfig:
    """The configuration of `python train.py` with these overrides, without a face mask."""
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        config = compose("train", [*overrides, "mask=everything"])
    config.distillation.micro_batch_size = None
    return config


def gan_module(
    config: DictConfig,
    nets: Mapping[str, Any],
    *,
    batch: int,
    judges: Mapping[str, nn.Module] | None = None,
    terms: Mapping[str, Weighted] | None = None,
) -> GanDistillation:
    """The run's module around copies of these networks, ready to train.

    judges: None for those of the configuration. terms: of the generator, instead of those of the same names.
    """
    make = partial(instantiate, _convert_="all")
    teacher, student, judge = (copy.deepcopy(nets[name]) for name in SHARED)
    pair = Pair(Model(teacher, judge), Model(student))
    losses, optimizers = make(config.loss), make(config.optimizer)
    module: GanDistillation = make(config.distillation)(
        pair,
        judges=judges or make(config.discriminator)(pair),
        generator_terms={**losses["generator"], **(terms or {})},
        discriminator_terms=losses["discriminator"],
        generator_optimizer=optimizers["generator"],
        discriminator_optimizer=optimizers["discriminator"],
        kimg=1000,
        batch_size=batch,
    )
    module.setup("fit")
    return module


def experiment_loop(
    options: argparse.Namespace, nets: Mapping[str, Any], *, half: bool, trunk: str, mixed: bool = False
) -> "BareLoop":
    """The loop of the experiment that `options.terms` names. trunk: file of VGG16's weights."""
    config = composed(f"experiment={EXPERIMENTS[options.terms]}")
    if "lpips" in config.loss.generator:
        config.loss.generator.lpips.term.trunk_path = trunk
    config.distillation.frozen_precision = "bfloat16" if half else "float32"
    judges = {"fresh": copy.deepcopy(nets["judge"])}
    return BareLoop(gan_module(config, nets, batch=options.batch, judges=judges), mixed=mixed)


class BareLoop:
    """The LightningModule's own steps without Lightning around them; `mixed` as with trainer.precision=bf16-mixed."""

    def __init__(self, module: GanDistillation, *, mixed: bool = False):
        self.module, self.mixed = module, mixed
        self.optimizers = module.configure_optimizers()

    def phases(self, real: Tensor) -> dict[str, Callable[[], None]]:
        """What an iteration consists of, by the authors' names."""
        players = {"G": self.module.game.generator_terms, "D": self.module.game.discriminator_terms}
        return {
            player + ("main" if every == 1 else "reg"): partial(self.phase, player, every, real)
            for player, terms in players.items()
            for every in cadences(terms)
        }

    def phase(self, player: str, every: int, real: Tensor) -> None:
        module, label = self.module, torch.zeros(len(real), dtype=torch.int64)
        module.student.requires_grad_(player == "G")
        module.judges.requires_grad_(player == "D")
        if player == "G":
            terms, optimizers = cadences(module.game.generator_terms)[every], self.optimizers[:1]
            steps = list(module.game.generator_steps(terms, label, real))
        else:
            terms, optimizers = cadences(module.game.discriminator_terms)[every], self.optimizers[1:]
            steps = list(module.game.discriminator_steps(terms, real, label))
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        for step in steps:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
                total: Any = sum(term(step)[0] for term in terms.values())
            total.backward()
        for optimizer in optimizers:
            optimizer.step()

    def average(self) -> None:
        self.module._average(self.module.images_seen)

    def iteration(self, batch: tuple[Tensor, Tensor]) -> None:
        """As `training_step`: what is due at this number of images."""
        module, real = self.module, batch[0].float() / 127.5 - 1
        index = module.images_seen // module.batch_size
        for name, run in self.phases(real).items():
            terms = module.game.generator_terms if name[0] == "G" else module.game.discriminator_terms
            every = 1 if name.endswith("main") else max(cadences(terms))
            if index % every == 0:
                run()
        self.average()
        module.images_seen += module.batch_size


class TheirLoop:
    """The authors' StyleGAN2Loss with their loop's optimizer, gradient clean-up and weight average."""

    def __init__(self, folder: Path, options: argparse.Namespace, nets: Mapping[str, Any], *, trunk: str):
        names = ("training.networks_stylekd", "training.loss_stylekd", "lpips.networks_basic", "torch_utils.misc")
        theirs, losses, lpips, self.misc = load(folder, *names)
        settings = {"channel_base": options.channel_base, "num_fp16_res": 0}
        size = options.resolution

        def generator(name: str, ratio: float) -> nn.Module:
            made = theirs.Generator(512, 0, 512, size, 3, prune_ratio=ratio, synthesis_kwargs=settings)
            return fitted(made, nets[name])

        self.teacher = generator("teacher", 0.0).eval().requires_grad_(False)
        self.student = generator("student", options.ratio).train().requires_grad_(False)
        self.ema = copy.deepcopy(self.student).eval()
        judge = theirs.Discriminator(0, size, 3, **settings, epilogue_kwargs={"mbstd_group_size": 8})
        self.judge = fitted(judge, nets["judge"]).train().requires_grad_(False)
        self.loss = losses.StyleGAN2Loss(
            *("cpu", size, self.student.mapping, self.student.synthesis, self.judge),
            *(self.teacher.mapping, self.teacher.synthesis),
            kd_lpips_loss=False,
            mimic_layer=[block for block, r in enumerate(RELATED, start=2) if r <= size],
            vectors=torch.nn.functional.normalize(torch.randn(25, 512), dim=1),
            dataset="church",
            batch=options.batch,
        )
        self.loss.kd_lpips_loss = True
        self.loss.percept_loss = self._perceptual(lpips, folder, trunk)
        share_g, share_d = 4 / 5, 16 / 17
        self.optimizers = {
            "G": torch.optim.Adam(self.student.parameters(), lr=0.002 * share_g, betas=(0.0, 0.99**share_g), eps=1e-8),
            "D": torch.optim.Adam(self.judge.parameters(), lr=0.002 * share_d, betas=(0.0, 0.99**share_d), eps=1e-8),
        }

    @staticmethod
    def _perceptual(lpips: Any, folder: Path, trunk: str) -> Callable[[Tensor, Tensor], Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = lpips.PNetLin(pnet_type="vgg", pnet_rand=True).eval()
        linear = torch.load(folder / "lpips" / "weights" / "v0.1" / "vgg.pth", map_location="cpu", weights_only=True)
        network.load_state_dict(linear, strict=False)
        state = torch.load(trunk, weights_only=True)
        names = [name for name in network.state_dict() if name.startswith("net.")]
        network.load_state_dict({n: state["features." + n.split(".", 2)[2]] for n in names}, strict=False)
        return lambda prediction, target: network(target, prediction)

    def phases(self, real: Tensor) -> dict[str, Callable[[], None]]:
        return {name: partial(self.phase, name, real) for name in PHASES}

    def phase(self, name: str, real: Tensor) -> None:
        module, optimizer = (self.student if name[0] == "G" else self.judge), self.optimizers[name[0]]
        n = len(real)
        optimizer.zero_grad(set_to_none=True)
        module.requires_grad_(True)
        nothing = torch.zeros(n, 0)
        self.loss.accumulate_gradients(name, real, nothing, torch.randn(n, 512), nothing, sync=True, gain=PHASES[name])
        module.requires_grad_(False)
        their_step(self.misc, module, optimizer)

    def average(self) -> None:
        their_average(self.ema, self.student, half_life_images=10000)


def their_step(misc: Any, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """An optimizer step after their loop's clean-up of the gradients; `misc` is their module of that name."""
    for parameter in module.parameters():
        if parameter.grad is not None:
            misc.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
    optimizer.step()


@torch.no_grad()
def their_average(ema: nn.Module, student: nn.Module, *, half_life_images: int) -> None:
    """Their loop's moving average after a batch of 8 images."""
    for mean, value in zip(ema.parameters(), student.parameters(), strict=True):
        mean.copy_(value.lerp(mean, 0.5 ** (8 / half_life_images)))
    for mean, value in zip(ema.buffers(), student.buffers(), strict=True):
        mean.copy_(value)


@torch.no_grad()
def assert_same_work(ours: BareLoop, theirs: TheirLoop, real: Tensor) -> None:
    """Both sides hold the same networks: images without noise, logits and perceptual distance agree."""
    latent, module = torch.randn(len(real), 512), ours.module
    lpips = module.game.generator_terms["lpips"].term.network
    pairs = {
        "teacher": (module.teacher(latent, noise="none"), theirs.teacher(latent, None, noise_mode="none")),
        "student": (module.student(latent, noise="none"), theirs.ema(latent, None, noise_mode="none")),
        "logits": (module.judges["fresh"](real), theirs.judge(real, None).squeeze(1)),
        "perceptual": (lpips(real, real.flip(0)).flatten(), theirs.loss.percept_loss(real, real.flip(0)).flatten()),
    }
    for name, (a, b) in pairs.items():
        deviation = ((a - b).abs().max() / b.abs().max()).item()
        print(f"deviation from the authors, {name}: {deviation:.1e} of the largest value")
        assert deviation < 1e-4, name
