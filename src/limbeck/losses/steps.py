"""What a loss term may ask for: lazy views of one micro-batch.

Every property is computed on first use, once, and never if no term asks; so terms share passes without knowing of
each other, and a term that is switched off costs nothing.
"""

import json
from abc import ABC
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.architectures.base import Network
from limbeck.frozen import Frozen
from limbeck.seeds import seeded


@dataclass(frozen=True)
class Players:
    """The networks of a run. The teacher is frozen; None when a generator is trained from scratch.

    discriminators: by name ("fresh", "teacher"); those that are trained have an optimizer each, the others are
        `Frozen`. In the discriminators' step only trained ones are listed.
    teacher_judge: the teacher's own discriminator, which judges nobody, for terms that read its maps
        (`Term.reads_teacher_judge`); else None.
    """

    student: Network
    teacher: Frozen | None
    discriminators: Mapping[str, nn.Module]
    teacher_judge: Frozen | None = None


@dataclass(frozen=True)
class Draw:
    """The random numbers of one micro-batch, the same for teacher and student.

    latents: [2, n, z_dim]; the second half takes over at layer `crossover` of each sample (style mixing;
        a crossover at the number of layers means no mixing).
    noise: what the synthesis networks inject: "random" (drawn anew in every pass, as in the official training
        loops), "const" (the stored noise, equal for teacher and student) or "none".
    """

    latents: Float[Tensor, "2 n z"]
    crossover: Int[Tensor, " n"]
    label: Tensor | None = None
    noise: str = "random"

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
class Step(ABC):
    """What both players' micro-batches share: the draw, and the teacher's pass of it.

    feature_resolutions: block outputs that some term reads; given up front because they come from the same pass.
    """

    players: Players
    draw: Draw
    images_seen: int = field(default=0, kw_only=True)
    feature_resolutions: tuple[int, ...] = field(default=(), kw_only=True)

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

    @property
    def teacher(self) -> Frozen:
        """The teacher's generator. Raises: ValueError in a run without one."""
        if self.players.teacher is None:
            raise ValueError("a loss term reads the teacher, but this run trains from scratch without one")
        return self.players.teacher

    @cached_property
    def _teacher_pass(self) -> tuple[Tensor, dict[int, Tensor]]:
        with self.teacher.running() as teacher:
            return self.drawn(teacher, self.teacher_style)

    def drawn(self, generator: Network, style: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Image and features of these styles."""
        if not self.feature_resolutions:
            return generator.synthesis(style, noise=self.draw.noise), {}
        return generator.synthesis(style, noise=self.draw.noise, return_features=self.feature_resolutions)


@dataclass
class GeneratorStep(Step):
    """One micro-batch in which the student is trained.

    real_image: [n, c, h, w] in [-1, 1] with `real_label`, for terms that compare with real data; few do.
    siblings: all micro-batches of this optimizer step on this process, this one among them.
    """

    real_image: Float[Tensor, "n c h w"] | None = field(default=None, kw_only=True)
    real_label: Tensor | None = field(default=None, kw_only=True)
    siblings: Sequence["GeneratorStep"] = field(default=(), kw_only=True, repr=False)
    _cache: dict = field(default_factory=dict, kw_only=True)
    _noise_seed: int | None = field(default=None, kw_only=True)

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

    def embedded(self, embedding: Frozen, who: str) -> list[Tensor]:
        """Feature maps of the "student" or "teacher" image, computed once per embedding object."""
        key = (id(embedding), who)
        if key not in self._cache:
            image = self.student_image if who == "student" else self.teacher_image
            with embedding.running() as network:
                self._cache[key] = network.feature_maps(image)
        return self._cache[key]

    def vectors(self, embedding: Frozen, who: str) -> Tensor:
        """Feature vectors [n, f] of the "student" or "teacher" image; embeddings of equal digest are asked once."""
        image = {"student": lambda: self.student_image, "teacher": lambda: self.teacher_image}[who]
        return self.kept(("vectors", embedding.network.digest(), who), lambda: embedding(image()))

    @torch.no_grad()
    def previewed_vectors(self, embedding: Frozen) -> Tensor:
        """The student's vectors without gradient; its own pass, if it is still to come, repeats the same noise."""
        if "_student_pass" in self.__dict__:
            return self.vectors(embedding, "student").detach()
        if self._noise_seed is None:
            self._noise_seed = int(torch.randint(2**62, ()))
        styles = self.draw.styles
        image = self.kept("preview", lambda: self._student_drawn(styles(self.players.student))[0])
        return embedding(image)

    def kept(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` made when it was first asked for under this key."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def _student_drawn(self, style: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        with nullcontext() if self._noise_seed is None else seeded(self._noise_seed, style.device):
            return self.drawn(self.players.student, style)

    def shifted_features(self, offset: Float[Tensor, "n 1 d"]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """(teacher's, student's) features of the styles moved by `offset`; no image, no block that nobody reads."""
        wanted, noise = self.feature_resolutions, self.draw.noise
        with self.teacher.running() as network:
            teacher = network.synthesis.features(self.teacher_style + offset, wanted, noise=noise)
        return teacher, self.players.student.synthesis.features(self.student_style + offset, wanted, noise=noise)

    def content_images(self, mask: Frozen) -> tuple[Tensor, Tensor]:
        """(teacher's image, student's image), both 0 outside the content of the teacher's image.

        mask: a frozen `masks.base.ContentMask`; masks of equal description look at an image only once.
        """
        key = json.dumps(mask.network.describe(), sort_keys=True)
        if key not in self._cache:
            kept = mask(self.teacher_image)
            self._cache[key] = (self.teacher_image * kept, self.student_image * kept)
        return self._cache[key]


@dataclass
class DiscriminatorStep(Step):
    """One micro-batch in which the discriminators are trained.

    real_image: [n, c, h, w] in [-1, 1] with `real_label`; the student's images carry no gradient.
    """

    real_image: Float[Tensor, "n c h w"]
    real_label: Tensor | None = None

    @cached_property
    def fake_image(self) -> Tensor:
        with torch.no_grad():
            student = self.players.student
            return student.synthesis(self.draw.styles(student), noise=self.draw.noise)

    @cached_property
    def fake_logits(self) -> dict[str, Tensor]:
        judges = self.players.discriminators
        return {name: judge(self.fake_image, self.draw.label) for name, judge in judges.items()}

    @cached_property
    def real_logits(self) -> dict[str, Tensor]:
        judges = self.players.discriminators
        return {name: judge(self.real_image, self.real_label) for name, judge in judges.items()}
