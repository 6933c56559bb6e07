"""What a loss term may ask of a generator that draws from latents, and of its discriminators: views of one micro-batch.

What only style-based generators have (styles, mixing, injected noise, block outputs) is theirs to give; a term that
needs it says so (`Term.needs_styles`).

Every property is computed on first use, once, and never if no term asks; so terms share passes without knowing of
each other, and a term that is switched off costs nothing.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.architectures.base import Network
from limbeck.losses.image_step import Bout, JudgedStep, JudgingStep, Players, Step
from limbeck.parallel import mean_over_processes

__all__ = ["DiscriminatorStep", "Draw", "GeneratorStep", "LatentStep", "Players", "Step"]


@dataclass(frozen=True)
class Draw:
    """The random numbers of one micro-batch, the same for teacher and student.

    latents: [1 or 2, n, *latent_shape].
    crossover: of style-based generators: the second latents take over at this layer of each sample (style mixing; a
        crossover at the number of layers means no mixing); None mixes nothing.
        Differs: whether to mix and where is drawn for each image; in the released codes once for a micro-batch.
    noise: what the synthesis networks inject: "random" (drawn anew in every pass, as in the official training
        loops), "const" (the stored noise, equal for teacher and student) or "none".
    """

    latents: Float[Tensor, "k n ..."]
    crossover: Int[Tensor, " n"] | None = None
    label: Tensor | None = None
    noise: str = "random"

    def styles(self, generator: Network) -> Tensor:
        """One style per layer [n, k, d] from this generator's own mapping; the latents [n, ...] if it has none."""
        first = generator.styled(self.latents[0], self.label)
        if not generator.num_styles:
            return first
        if self.crossover is None:  # looking whether anything is mixed would make everybody wait for the device
            return first[:, None].expand(-1, generator.num_styles, -1)
        mixed = torch.arange(generator.num_styles, device=first.device)[None, :] >= self.crossover[:, None]
        second = generator.styled(self.latents[1], self.label)
        return torch.where(mixed[:, :, None], second[:, None], first[:, None])

    def split(self, sizes: Sequence[int]) -> list["Draw"]:
        """Consecutive parts of so many images each."""
        none = [None] * len(sizes)
        labels, over = (none if x is None else x.split(list(sizes)) for x in (self.label, self.crossover))
        parts = zip(self.latents.split(list(sizes), dim=1), over, labels, strict=True)
        return [replace(self, latents=latents, crossover=over, label=label) for latents, over, label in parts]


@dataclass
class LatentStep(Step):
    """What both players' micro-batches share: the draw, and the teacher's pass of it.

    feature_resolutions: block outputs that some term reads; given up front because they come from the same pass.
    A style stands for the latent where the networks have no styles.
    """

    draw: Draw
    feature_resolutions: tuple[int, ...] = field(default=(), kw_only=True)

    @property
    def num_rows(self) -> int:
        return self.draw.latents.shape[1]

    @cached_property
    def teacher_style(self) -> Tensor:
        with self.teacher.running() as teacher:
            return self.draw.styles(teacher)

    @property
    def teacher_image(self) -> Tensor:
        """[n, c, h, w] from the same latents, without gradient."""
        return self._teacher_pass[0]

    @property
    def teacher_features(self) -> dict[int, Tensor]:
        """Block outputs by resolution, of the pass that drew `teacher_image`; without gradient."""
        return self._teacher_pass[1]

    @cached_property
    def _teacher_pass(self) -> tuple[Tensor, dict[int, Tensor]]:
        with self.teacher.running() as teacher:
            return self.drawn(teacher, self.teacher_style)

    def drawn(self, generator: Network, style: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Image and features of these styles."""
        return generator.rendered(style, self.draw.label, noise=self.draw.noise, features=self.feature_resolutions)


@dataclass
class GeneratorStep(LatentStep, JudgedStep):
    """One micro-batch in which the student is trained.

    real_image: [n, c, h, w] in [-1, 1] with `real_label`, for terms that compare with real data; few do.
    """

    real_image: Float[Tensor, "n c h w"] | None = field(default=None, kw_only=True)
    real_label: Tensor | None = field(default=None, kw_only=True)

    @property
    def num_images(self) -> int:
        return self.num_rows

    @cached_property
    def student_style(self) -> Tensor:
        return self.draw.styles(self.players.student)

    @cached_property
    def _student_pass(self) -> tuple[Tensor, dict[int, Tensor]]:
        return self._student_drawn(self.student_style)

    @property
    def student_image(self) -> Tensor:
        """[n, c, h, w], nominally in [-1, 1], with gradient to the student."""
        return self._student_pass[0]

    @property
    def student_features(self) -> dict[int, Tensor]:
        """Block outputs by resolution, of the pass that drew `student_image`."""
        return self._student_pass[1]

    @property
    def fake_logits(self) -> dict[str, Tensor]:
        """Each discriminator's logits [n] for the student's images."""
        return {name: self.judged("student", name) for name in self.players.discriminators}

    def judged(self, who: str, name: str) -> Tensor:
        """Logits [n] of the discriminator `name` for the images of the "student", the "teacher" or the "real" ones.

        Computed once; gradient flows to the student alone.
        """
        if (who, name) not in self._cache:
            image = self.real_image if who == "real" else getattr(self, f"{who}_image")
            label = self.real_label if who == "real" else self.draw.label
            with nullcontext() if who == "student" else torch.no_grad():
                self._cache[who, name] = self.players.discriminators[name](image, label)
        return self._cache[who, name]

    def posing(self, who: str, judge: str | None = None) -> "GeneratorStep":
        judges = {n: network for n, network in self.players.discriminators.items() if judge in (None, n)}
        if who == "student":
            posed = replace(self, players=replace(self.players, discriminators=judges))
            posed.__dict__ |= {"_student_pass": self._student_pass, "student_style": self.student_style}
            return posed
        players = replace(self.players, discriminators=judges, student=self.teacher.network)
        posed = replace(self, players=players, _cache={})
        posed.__dict__ |= {"_student_pass": self._teacher_pass, "student_style": self.teacher_style}
        return posed

    def judging(self) -> "DiscriminatorStep":
        if self.real_image is None:
            raise ValueError("a loss term compares with real images, but this step has none")
        step = DiscriminatorStep(
            self.players,
            self.draw,
            self.real_image,
            self.real_label,
            images_seen=self.images_seen,
            feature_resolutions=self.feature_resolutions,
        )
        step.__dict__ |= {
            "fake_image": self.student_image,
            "fake_logits": self.fake_logits,
            "real_logits": {name: self.judged("real", name) for name in self.players.discriminators},
        }
        return step

    @property
    def student_has_passed(self) -> bool:
        return "_student_pass" in self.__dict__

    def student_preview(self) -> Tensor:
        return self._student_drawn(self.draw.styles(self.players.student))[0]

    def _student_drawn(self, style: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        with self.repeating():
            return self.drawn(self.players.student, style)

    def shifted_features(self, offset: Float[Tensor, "n 1 d"]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """(teacher's, student's) features of the styles moved by `offset`; no image, no block that nobody reads."""
        wanted, noise = self.feature_resolutions, self.draw.noise
        with self.teacher.running() as network:
            teacher = network.synthesis.features(self.teacher_style + offset, wanted, noise=noise)
        return teacher, self.players.student.synthesis.features(self.student_style + offset, wanted, noise=noise)


@dataclass
class DiscriminatorStep(LatentStep, JudgingStep):
    """One micro-batch in which the discriminators are trained.

    real_image: [n, c, h, w] in [-1, 1] with `real_label`; the student's images carry no gradient.
    statistics_decay: of what the student measures of its activations in the pass that draws these images; 1 leaves it.
    """

    real_image: Float[Tensor, "n c h w"]
    real_label: Tensor | None = None
    statistics_decay: float = field(default=1.0, kw_only=True)

    @cached_property
    def fake_image(self) -> Tensor:
        student = self.players.student
        with torch.no_grad(), student.measuring(mean_over_processes, self.statistics_decay):
            return student.rendered(self.draw.styles(student), self.draw.label, noise=self.draw.noise)[0]

    @cached_property
    def fake_logits(self) -> dict[str, Tensor]:
        judges = self.players.discriminators
        return {name: judge(self.fake_image, self.draw.label) for name, judge in judges.items()}

    @cached_property
    def real_logits(self) -> dict[str, Tensor]:
        judges = self.players.discriminators
        return {name: judge(self.real_image, self.real_label) for name, judge in judges.items()}

    def bouts(self) -> list[Bout]:
        judges = self.players.discriminators.values()
        return [Bout(partial(self._logits, judge), self.real_image, self.fake_image) for judge in judges]

    def _logits(self, judge: nn.Module, image: Tensor) -> Tensor:
        return judge(image, self.real_label)


GeneratorStep.judging_kind = DiscriminatorStep
