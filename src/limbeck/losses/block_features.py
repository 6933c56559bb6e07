"""Feature distillation of denoisers: outputs of the student's blocks follow those of the teacher's.

Source: Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, Eq. 3 (a learned regressor between the widths); for
denoisers of equal width Kim et al., "BK-SDM", 2023 (every block of the U-Net).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.architectures.base import Network
from limbeck.errors import UserError
from limbeck.losses.adversarial import sum_of
from limbeck.losses.denoising_step import DenoisingStep
from limbeck.losses.weighted import Term
from limbeck.model import Pair


def relative_square(student: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Mean squared difference over mean square of the teacher's: 0 if equal, 1 for a student of zeros.

    Differs from the sources, which do not divide: blocks of different magnitude then count alike.
    """
    student, teacher = student.float(), teacher.detach().float()
    return (student - teacher).square().mean() / teacher.square().mean().clamp_min(1e-12)


class BlockFeatures(Term):
    """Mean over blocks of `relative_square`; a trained 1x1 convolution leads from the student's width to the teacher's.

    blocks: names of blocks ("down_blocks.0", "mid_block", "up_blocks.1" ...); None for all.
    """

    def __init__(self, *, blocks: Sequence[str] | None = None):
        super().__init__()
        self.blocks = blocks
        self.adapters = nn.ModuleList()

    def prepare(self, pair: Pair, *, half: bool) -> None:
        names = pair.teacher.generator.block_names
        unknown = [name for name in self.blocks or () if name not in names]
        if unknown:
            raise UserError(
                f"loss.generator.block_features.term.blocks: {unknown[0]!r} unknown; allowed: {', '.join(names)}"
            )
        self.feature_blocks = tuple(self.blocks or names)
        widths = [self._widths(model.generator) for model in (pair.student, pair.teacher)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            pairs = zip(*widths, strict=True)
            self.adapters = nn.ModuleList(nn.Identity() if a == b else nn.Conv2d(a, b, 1) for a, b in pairs)

    def forward(self, step: DenoisingStep) -> Tensor:
        pairs = zip(self.feature_blocks, self.adapters, strict=True)
        distances = [relative_square(a(step.student_features[name]), step.teacher_features[name]) for name, a in pairs]
        return sum_of(distances) / len(distances)

    @torch.no_grad()
    def _widths(self, denoiser: Network) -> list[int]:
        _, features = denoiser(**denoiser.example_inputs(), return_features=self.feature_blocks)
        return [features[name].shape[1] for name in self.feature_blocks]
