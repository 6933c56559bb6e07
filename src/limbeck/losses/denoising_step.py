"""What a loss term may ask of a denoiser: lazy views of one micro-batch of noisy images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.functional.diffusion import diffuse, predicted_clean
from limbeck.losses.image_step import ImageStep

Estimate = tuple[Tensor, dict[str, Tensor]]


@dataclass
class DenoisingStep(ImageStep):
    """One micro-batch in which the student is trained to estimate noise.

    clean: [n, c, h, w] in [-1, 1]; noise: the same shape, standard normal; timestep: [n].
    alpha_bar: share of the clean image's variance that is left at each time step [t], see `functional.diffusion`.
    image_share: the share of the micro-batch, in (0, 1], that counts as images of student and teacher: those rows with
        the least noise, because the clean image that an estimate implies says nothing where there is hardly any of it
        left (its error is sqrt((1 - alpha_bar) / alpha_bar) times that of the estimate).
    feature_blocks: blocks whose outputs some term reads; given up front because they come from the same pass.
    """

    clean: Float[Tensor, "n c h w"]
    noise: Float[Tensor, "n c h w"]
    timestep: Int[Tensor, " n"]
    alpha_bar: Float[Tensor, " t"]
    image_share: float = field(default=0.5, kw_only=True)
    feature_blocks: Sequence[str] = field(default=(), kw_only=True)

    @property
    def num_rows(self) -> int:
        return len(self.clean)

    @cached_property
    def noisy(self) -> Float[Tensor, "n c h w"]:
        return diffuse(self.clean, self.noise, self.alpha_bar[self.timestep])

    @property
    def student_estimate(self) -> Float[Tensor, "n c h w"]:
        """The student's estimate of the noise, with gradient."""
        return self._student_pass[0]

    @property
    def teacher_estimate(self) -> Float[Tensor, "n c h w"]:
        """The teacher's, without gradient."""
        return self._teacher_pass[0]

    @property
    def student_features(self) -> dict[str, Tensor]:
        """Outputs of `feature_blocks` in the pass that made `student_estimate`."""
        return self._student_pass[1]

    @property
    def teacher_features(self) -> dict[str, Tensor]:
        """Outputs of `feature_blocks` in the pass that made `teacher_estimate`; without gradient."""
        return self._teacher_pass[1]

    # -- as images ---------------------------------------------------------------------------------------------

    @property
    def num_images(self) -> int:
        return max(1, round(len(self.clean) * self.image_share))

    @cached_property
    def student_image(self) -> Float[Tensor, "n c h w"]:
        """The clean images that the student's estimates imply, not clipped; `num_images` of them."""
        return self._denoised(self.student_estimate)

    @cached_property
    def teacher_image(self) -> Float[Tensor, "n c h w"]:
        """The same by the teacher, without gradient."""
        return self._denoised(self.teacher_estimate)

    @property
    def student_has_passed(self) -> bool:
        return "_student_pass" in self.__dict__

    def student_preview(self) -> Float[Tensor, "n c h w"]:
        with self.repeating():
            return self._denoised(self._estimated(self.players.student)[0])

    # -- passes ------------------------------------------------------------------------------------------------

    @cached_property
    def _student_pass(self) -> Estimate:
        with self.repeating():
            return self._estimated(self.players.student)

    @cached_property
    def _teacher_pass(self) -> Estimate:
        with torch.no_grad(), self.teacher.running() as teacher:
            return self._estimated(teacher)

    def _estimated(self, denoiser: Network) -> Estimate:
        if not self.feature_blocks:
            return denoiser(self.noisy, self.timestep), {}
        return denoiser(self.noisy, self.timestep, return_features=self.feature_blocks)

    @cached_property
    def _rows(self) -> Int[Tensor, " m"]:
        """The rows that count as images, in their order."""
        least_noise = self.alpha_bar[self.timestep].argsort(descending=True, stable=True)[: self.num_images]
        return least_noise.sort().values

    def _denoised(self, estimate: Tensor) -> Tensor:
        rows = self._rows
        return predicted_clean(self.noisy[rows], estimate[rows].float(), self.alpha_bar[self.timestep[rows]])
