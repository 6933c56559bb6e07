"""One generator against its judges, if it has any: micro-batches, optimizers and turns of both sides.

Each side has an ordinary turn and one further turn per lazy cadence of its terms, in the order of the official
StyleGAN2 release: generator, then discriminators.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.distillation.loop import Loop, Observe
from limbeck.distillation.optimizers import MakeOptimizer, corrected, own_parameters
from limbeck.distillation.schedules import ema_decay
from limbeck.frozen import Frozen
from limbeck.losses.image_step import Players
from limbeck.losses.steps import DiscriminatorStep, Draw, GeneratorStep
from limbeck.losses.weighted import Weighted, cadences
from limbeck.parallel import world_size


@dataclass(frozen=True)
class Sampling:
    """How micro-batches are drawn.

    micro_batch_size: images per forward pass; mixing_probability: share of images with mixed styles, of networks that
    have styles; noise: see `losses.steps.Draw`. statistics_half_life_kimg: of what the student measures of its
    activations.
    """

    micro_batch_size: int
    mixing_probability: float = 0.0
    noise: str = "random"
    statistics_half_life_kimg: float = 20.0

    def statistics_decay(self, num_images: int) -> float:
        """What a pass of so many images in every process leaves of the running statistics."""
        return ema_decay(num_images * world_size(), self.statistics_half_life_kimg, 0)


@dataclass
class Game:
    """`players.student` plays against those of `players.discriminators` that are not frozen.

    observe: sees the micro-batches of every ordinary turn after their backward passes.
    names: of the generator's and the discriminators' losses in the log.
    """

    players: Players
    generator_terms: Mapping[str, Weighted]
    discriminator_terms: Mapping[str, Weighted]
    sampling: Sampling
    observe: Observe | None = None
    names: tuple[str, str] = ("generator", "discriminator")
    trained: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        self.trained = {n: judge for n, judge in self.players.discriminators.items() if not isinstance(judge, Frozen)}

    def optimizers(self, make_generator: MakeOptimizer, make_discriminator: MakeOptimizer | None) -> list[Optimizer]:
        """One for the generator, one per trained judge; terms' own parameters join the first of their player."""
        generator = [*self.players.student.parameters(), *own_parameters(self.generator_terms)]
        judges = [[*judge.parameters()] for judge in self.trained.values()]
        if judges:
            judges[0] += own_parameters(self.discriminator_terms)
        return [
            corrected(make_generator, generator, self.generator_terms),
            *(corrected(make_discriminator, judge, self.discriminator_terms) for judge in judges if make_discriminator),
        ]

    def play(self, loop: Loop, optimizers: Sequence, real: Tensor, label: Tensor) -> None:
        """The turns that are due at this step of the loop. real: [n, c, h, w] in [-1, 1] with `label` [n]."""
        generator, *discriminators = optimizers
        seen = loop.images_seen
        self.let_train(judges=False)
        for every, terms in cadences(self.generator_terms).items():
            if loop.step_index % every == 0:
                steps = self.generator_steps(terms, label, real, images_seen=seen)
                loop.optimize([generator], self.names[0], terms, steps, self.observe if every == 1 else None)
                steps.clear()  # siblings hold one another, and with them their images
        self.let_train(student=False)
        for every, terms in cadences(self.discriminator_terms).items():
            if discriminators and loop.step_index % every == 0:
                rounds = list(self.discriminator_steps(terms, real, label, images_seen=seen))
                loop.optimize(discriminators, self.names[1], terms, rounds, self.observe if every == 1 else None)
        self.let_train()

    def generator_steps(
        self, terms: Mapping[str, Weighted], label: Tensor, real: Tensor | None = None, *, images_seen: int = 0
    ) -> list[GeneratorStep]:
        """The micro-batches of one turn of the generator for terms of one cadence."""
        steps: list[GeneratorStep] = []
        for part, draw in self._parts(terms, label):
            step = GeneratorStep(
                self.players,
                draw,
                images_seen=images_seen,
                feature_resolutions=_feature_resolutions(terms),
                real_image=None if real is None else real[part],
                real_label=label[part] if self.players.student.num_classes else None,
                siblings=steps,
            )
            steps.append(step)
        return steps

    def discriminator_steps(
        self, terms: Mapping[str, Weighted], real: Tensor, label: Tensor, *, images_seen: int = 0
    ) -> Iterator[DiscriminatorStep]:
        """The micro-batches of one turn of the trained discriminators for terms of one cadence."""
        players = replace(self.players, discriminators=self.trained)
        for part, draw in self._parts(terms, label):
            yield DiscriminatorStep(
                players,
                draw,
                real[part],
                label[part] if players.student.num_classes else None,
                images_seen=images_seen,
                feature_resolutions=_feature_resolutions(terms),
                statistics_decay=self.sampling.statistics_decay(part.stop - part.start),
            )

    def _parts(self, terms: Mapping[str, Weighted], label: Tensor) -> list[tuple[slice, Draw]]:
        """Each micro-batch, shortened to the share that these terms look at, with its part of one draw for all."""
        share, parts = min(term.batch_share for term in terms.values()), []
        for start in range(0, len(label), self.sampling.micro_batch_size):
            size = min(self.sampling.micro_batch_size, len(label) - start)
            parts.append(slice(start, start + max(1, round(size * share))))
        draw = self._draw(torch.cat([label[part] for part in parts]))
        return list(zip(parts, draw.split([part.stop - part.start for part in parts]), strict=True))

    def _draw(self, label: Tensor) -> Draw:
        """Latents, and where styles are mixed their crossovers, for as many images as there are labels."""
        student, n, device = self.players.student, len(label), label.device
        latents = torch.randn(2 if student.num_styles else 1, n, *student.latent_shape, device=device)
        crossover = None
        if student.num_styles:
            drawn = torch.randint(1, student.num_styles, (n,), device=device)
            mixes = torch.rand(n, device=device) < self.sampling.mixing_probability
            if self.sampling.mixing_probability > 0:
                crossover = torch.where(mixes, drawn, student.num_styles)
        return Draw(latents, crossover, label if student.num_classes else None, self.sampling.noise)

    def let_train(self, *, student: bool = True, judges: bool = True) -> None:
        """Whether gradients reach the generator, and the judges that are not frozen."""
        set_trainable(self.players.student, student)
        for judge in self.trained.values():
            set_trainable(judge, judges)


def set_trainable(module: nn.Module, on: bool) -> None:
    """Whether gradients reach the module's parameters."""
    for parameter in module.parameters():
        parameter.requires_grad_(on)


def _feature_resolutions(terms: Mapping[str, Weighted]) -> tuple[int, ...]:
    return tuple(sorted({r for weighted in terms.values() for r in weighted.term.feature_resolutions}))
