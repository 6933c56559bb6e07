"""Collaborative distillation of GCC: maps of both generators, and of the teacher's discriminator on both images.

Source: Li et al., "Revisiting Discriminator in GAN Compression", 2021, released code.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.losses.adversarial import sum_of
from limbeck.losses.pixel_l1 import mean_absolute_difference
from limbeck.losses.steps import GeneratorStep
from limbeck.losses.weighted import Term
from limbeck.model import Pair
from limbeck.parallel import joint_mean

EPSILON = 1e-12


def gram(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c c"]:
    """Inner products of all pairs of channels, divided by c h w; in float32."""
    rows = maps.float().flatten(2)
    with torch.autocast(maps.device.type, enabled=False):
        return rows @ rows.mT / rows[0].numel()


def root_mean_square(a: Tensor, b: Tensor) -> Float[Tensor, ""]:
    """Square root of the mean squared difference over the micro-batches of all processes (plus 1e-12)."""
    return (joint_mean((a.float() - b.float()).square().mean()) + EPSILON).sqrt()


class Collaborative(Term):
    """Sum over maps of `feature_weight` times their distance and `gram_weight` times that of their Gram matrices.

    generator_resolutions: blocks of the generators, in StyleGAN3 numbers of layers; the student's maps pass a trained
        1x1 convolution without bias where the widths differ (the port to StyleGAN2 has one at every resolution).
    discriminator_resolutions: sizes at which blocks of the teacher's discriminator end. None takes an eighth and a
        quarter of the image's size, for both.
    image_weight: of the mean absolute difference of the images.
    """

    needs_styles = True
    reads_teacher_judge = True

    def __init__(
        self,
        *,
        generator_resolutions: Sequence[int] | None = None,
        discriminator_resolutions: Sequence[int] | None = None,
        feature_weight: float = 1.0,
        gram_weight: float = 1.0,
        image_weight: float = 0.0,
    ):
        super().__init__()
        self.resolutions = {"generator": generator_resolutions, "discriminator": discriminator_resolutions}
        self.feature_weight, self.gram_weight, self.image_weight = feature_weight, gram_weight, image_weight
        self.adapters = nn.ModuleDict()
        self.judge_resolutions: tuple[int, ...] = ()

    def prepare(self, pair: Pair, *, half: bool) -> None:
        teacher, student = pair.teacher.generator, pair.student.generator
        sizes, synthesis = (teacher.resolution // 8, teacher.resolution // 4), teacher.synthesis
        blocks = sorted({synthesis.block_at(size) for size in sizes})
        self.feature_resolutions = self._chosen("generator", blocks, synthesis.resolutions)
        ends = [2**k for k in range(2, (teacher.resolution // 2).bit_length())]
        self.judge_resolutions = self._chosen("discriminator", sizes, ends)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            maps = []
            for network in (student, teacher):
                inputs = network.example_inputs()
                style = network.mapping(inputs["latent"], inputs.get("label"))
                maps.append(network.synthesis.features(style, self.feature_resolutions, noise="none"))
            for r, narrow in maps[0].items():
                sizes = narrow.shape[1], maps[1][r].shape[1]
                same = sizes[0] == sizes[1]
                self.adapters[str(r)] = nn.Identity() if same else nn.Conv2d(*sizes, 1, bias=False)

    def forward(self, step: GeneratorStep) -> Tensor:
        total = sum_of(
            self.feature_weight * root_mean_square(a, b) + self.gram_weight * root_mean_square(gram(a), gram(b))
            for a, b in self._maps(step)
        )
        if self.image_weight:
            total = total + self.image_weight * mean_absolute_difference(step.student_image, step.teacher_image)
        return total

    def _maps(self, step: GeneratorStep) -> Iterator[tuple[Tensor, Tensor]]:
        """(student's, teacher's) of each compared stage."""
        for r in self.feature_resolutions:
            yield self.adapters[str(r)](step.student_features[r]), step.teacher_features[r]
        with step.players.teacher_judge.running() as judge:
            student = judge.features(step.student_image, self.judge_resolutions)
            with torch.no_grad():
                teacher = judge.features(step.teacher_image, self.judge_resolutions)
        for r in self.judge_resolutions:
            yield student[r], teacher[r]

    def _chosen(self, network: str, published: Sequence[int], there: Sequence[int]) -> tuple[int, ...]:
        wanted = self.resolutions[network]
        chosen = tuple(r for r in published if r in there) if wanted is None else tuple(wanted)
        if not chosen or not set(chosen) <= set(there):
            raise UserError(f"gcc.{network}_resolutions={list(chosen)}: must be some of {list(there)}")
        return chosen
