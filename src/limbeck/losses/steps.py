"""What a loss term may ask for: lazy views of one micro-batch.

Every property is computed on first use, once, and never if no term asks; so terms share passes without knowing of
each other, and a term that is switched off costs nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.frozen import Frozen


@dataclass(frozen=True)
class Players:
    """The networks of a run. The teacher is frozen; None when a generator is trained from scratch.

    discriminators: by name ("fresh", "teacher"); each judges the student and is trained by its own optimizer.
    """

    student: Network
    teacher: Frozen | None
    discriminators: Mapping[str, Network]


@dataclass(frozen=True)
class Draw:
    """The random numbers of one micro-batch, the same for teacher and student.

    latents: [2, n, z_dim]; the second half takes over at layer `crossover` of each sample (style mixing;
        a crossover at the number of layers means no mixing).
    """

    latents: Float[Tensor, "2 n z"]
    crossover: Int[Tensor, " n"]
    label: Tensor | None = None

    def styles(self, generator: Network) -> Float[Tensor, "n k d"]:
        """One style per layer from this generator's own mapping network."""
        first = generator.mapping(self.latents[0], self.label)
        layers = torch.arange(generator.synthesis.num_styles, device=first.device)
        mixed = layers[None, :] >= self.crossover[:, None]
        if not bool(mixed.any()):
            return first[:, None].expand(-1, len(layers), -1)
        second = generator.mapping(self.latents[1], self.label)
        return torch.where(mixed[:, :, None], second[:, None], first[:, None])


@dataclass
class GeneratorStep:
    """One micro-batch in which the student is trained.

    feature_resolutions: block outputs that some term reads; given up front because they come from the same pass.
    """

    players: Players
    draw: Draw
    images_seen: int = 0
    feature_resolutions: tuple[int, ...] = ()
    _cache: dict = field(default_factory=dict)

    @cached_property
    def student_style(self) -> Tensor:
        return self.draw.styles(self.players.student)

    @cached_property
    def teacher_style(self) -> Tensor:
        with self._teacher.running() as teacher:
            return self.draw.styles(teacher)

    @cached_property
    def _student_pass(self) -> tuple[Tensor, dict[int, Tensor]]:
        return self._drawn(self.players.student, self.student_style)

    @cached_property
    def _teacher_pass(self) -> tuple[Tensor, dict[int, Tensor]]:
        with self._teacher.running() as teacher:
            return self._drawn(teacher, self.teacher_style)

    @property
    def student_image(self) -> Tensor:
        """[n, c, h, w], nominally in [-1, 1], with gradient to the student."""
        return self._student_pass[0]

    @property
    def teacher_image(self) -> Tensor:
        """[n, c, h, w] from the same latents, without gradient."""
        return self._teacher_pass[0]

    @property
    def student_features(self) -> dict[int, Tensor]:
        """Block outputs by resolution, of the pass that drew `student_image`."""
        return self._student_pass[1]

    @property
    def teacher_features(self) -> dict[int, Tensor]:
        return self._teacher_pass[1]

    @cached_property
    def fake_logits(self) -> dict[str, Tensor]:
        """Each discriminator's logits [n] for the student's images."""
        judges = self.players.discriminators
        return {name: judge(self.student_image, self.draw.label) for name, judge in judges.items()}

    def embedded(self, embedding: Frozen, who: str) -> list[Tensor]:
        """Feature maps of the "student" or "teacher" image, computed once per embedding object."""
        key = (id(embedding), who)
        if key not in self._cache:
            image = self.student_image if who == "student" else self.teacher_image
            with embedding.running() as network:
                self._cache[key] = network.feature_maps(image)
        return self._cache[key]

    @property
    def _teacher(self) -> Frozen:
        if self.players.teacher is None:
            raise ValueError("a loss term reads the teacher, but this run trains from scratch without one")
        return self.players.teacher

    def _drawn(self, generator: Network, style: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        # Injected noise is redrawn in every call, as in the official training loops.
        if not self.feature_resolutions:
            return generator.synthesis(style, noise="random"), {}
        return generator.synthesis(style, noise="random", return_features=self.feature_resolutions)


@dataclass
class DiscriminatorStep:
    """One micro-batch in which the discriminators are trained.

    real_image: [n, c, h, w] in [-1, 1] with `real_label`; the student's images carry no gradient.
    """

    players: Players
    draw: Draw
    real_image: Float[Tensor, "n c h w"]
    real_label: Tensor | None = None
    images_seen: int = 0

    @cached_property
    def fake_image(self) -> Tensor:
        with torch.no_grad():
            student = self.players.student
            return student.synthesis(self.draw.styles(student), noise="random")

    @cached_property
    def fake_logits(self) -> dict[str, Tensor]:
        judges = self.players.discriminators
        return {name: judge(self.fake_image, self.draw.label) for name, judge in judges.items()}

    @cached_property
    def real_logits(self) -> dict[str, Tensor]:
        judges = self.players.discriminators
        return {name: judge(self.real_image, self.real_label) for name, judge in judges.items()}
