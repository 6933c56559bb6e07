"""What terms may ask of any micro-batch: the networks, and images of student and teacher, however they were made.

Every property is computed on first use, once, and never if no term asks; so terms share passes without knowing of
each other, and a term that is switched off costs nothing.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.architectures.base import Network
from limbeck.frozen import Frozen
from limbeck.seeds import seeded


@dataclass(frozen=True)
class Players:
    """The networks of a run. The teacher is frozen; None when a generator is trained from scratch.

    discriminators: by name ("fresh", "teacher"); those that are trained have an optimizer each, the others are
        `Frozen`. In the discriminators' step only trained ones are listed. Empty for a denoiser.
    teacher_judge: the teacher's own discriminator, which judges nobody, for terms that read its maps
        (`Term.reads_teacher_judge`); else None.
    """

    student: Network
    teacher: Frozen | None
    discriminators: Mapping[str, nn.Module]
    teacher_judge: Frozen | None = None


@dataclass
class Step(ABC):
    """One micro-batch."""

    players: Players
    images_seen: int = field(default=0, kw_only=True)

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """How many rows of the batch it holds: its weight among the micro-batches of an optimizer step."""

    @property
    def teacher(self) -> Frozen:
        """The teacher's generator. Raises: ValueError in a run without one."""
        if self.players.teacher is None:
            raise ValueError("a loss term reads the teacher, but this run trains from scratch without one")
        return self.players.teacher


@dataclass
class ImageStep(Step):
    """One micro-batch in which student and teacher make images from the same random numbers.

    siblings: all micro-batches of this optimizer step on this process, this one among them.
    """

    siblings: Sequence["ImageStep"] = field(default=(), kw_only=True, repr=False)
    _cache: dict = field(default_factory=dict, kw_only=True)
    _repeated_seed: int | None = field(default=None, kw_only=True)

    @property
    @abstractmethod
    def num_images(self) -> int:
        """Length of `student_image`, known without a pass."""

    @property
    @abstractmethod
    def student_image(self) -> Float[Tensor, "n c h w"]:
        """Nominally in [-1, 1], with gradient to the student."""

    @property
    @abstractmethod
    def teacher_image(self) -> Float[Tensor, "n c h w"]:
        """Of the same random numbers, without gradient."""

    @property
    @abstractmethod
    def student_has_passed(self) -> bool:
        """Whether `student_image` is there already."""

    @abstractmethod
    def student_preview(self) -> Float[Tensor, "n c h w"]:
        """`student_image` by a pass of its own, under `repeating`."""

    def repeating(self) -> AbstractContextManager[None]:
        """Random numbers on the student's way, the same ones in every pass if `previewed_vectors` was asked."""
        device = next(self.players.student.parameters()).device
        return nullcontext() if self._repeated_seed is None else seeded(self._repeated_seed, device)

    def kept(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` made when it was first asked for under this key."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def embedded(self, embedding: Frozen, who: str) -> list[Tensor]:
        """Feature maps of the "student" or "teacher" image, computed once per embedding object."""

        def maps() -> list[Tensor]:
            with embedding.running() as network:
                return network.feature_maps(self._image_of(who))

        return self.kept((id(embedding), who), maps)

    def vectors(self, embedding: Frozen, who: str) -> Tensor:
        """Feature vectors [n, f] of the "student" or "teacher" image; embeddings of equal digest are asked once."""
        return self.kept(("vectors", embedding.network.digest(), who), lambda: embedding(self._image_of(who)))

    @torch.no_grad()
    def previewed_vectors(self, embedding: Frozen) -> Tensor:
        """The student's vectors without gradient; its own pass, if it is still to come, repeats the same noise."""
        if self.student_has_passed:
            return self.vectors(embedding, "student").detach()
        if self._repeated_seed is None:
            self._repeated_seed = int(torch.randint(2**62, ()))
        return embedding(self.kept("preview", self.student_preview))

    def content_images(self, mask: Frozen) -> tuple[Tensor, Tensor]:
        """(teacher's image, student's image), both 0 outside the content of the teacher's image.

        mask: a frozen `masks.base.ContentMask`; masks of equal description look at an image only once.
        """

        def both() -> tuple[Tensor, Tensor]:
            kept = mask(self.teacher_image)
            return self.teacher_image * kept, self.student_image * kept

        return self.kept(("content", json.dumps(mask.network.describe(), sort_keys=True)), both)

    def _image_of(self, who: str) -> Tensor:
        return {"student": lambda: self.student_image, "teacher": lambda: self.teacher_image}[who]()


@dataclass
class JudgedStep(ImageStep):
    """One micro-batch in which the student is trained and discriminators say what they think of its images.

    judging_kind: of what `judging` returns.
    """

    judging_kind: ClassVar[type["JudgingStep"]]

    @property
    @abstractmethod
    def fake_logits(self) -> dict[str, Float[Tensor, " n"]]:
        """Each discriminator's logits of generated images, those of all patches in a row."""

    @abstractmethod
    def posing(self, who: str, judge: str | None = None) -> "JudgedStep":
        """This micro-batch with what "teacher" or "student" makes of it in the student's place; passes are shared.

        judge: name of the only discriminator that is asked; None asks all.
        """

    @abstractmethod
    def judging(self) -> "JudgingStep":
        """The discriminators' micro-batch of these images, which keep their gradient; trained or not, all are asked."""


@dataclass
class JudgingStep(Step):
    """One micro-batch in which the discriminators are trained; generated images carry no gradient.

    The exception is `JudgedStep.judging`, where they keep it.
    """

    @property
    @abstractmethod
    def fake_logits(self) -> dict[str, Float[Tensor, " n"]]:
        """Each discriminator's logits of generated images, those of all patches in a row."""

    @property
    @abstractmethod
    def real_logits(self) -> dict[str, Float[Tensor, " n"]]:
        """Each discriminator's logits of real images, those of all patches in a row."""

    @abstractmethod
    def bouts(self) -> Sequence["Bout"]:
        """What each discriminator is shown."""


@dataclass(frozen=True)
class Bout:
    """What one discriminator is shown in one micro-batch.

    logits: of images, by their label if it reads any; real, fake: [n, c, h, w].
    """

    logits: Callable[[Tensor], Tensor]
    real: Tensor
    fake: Tensor
