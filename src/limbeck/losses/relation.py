"""Latent-direction relation: images and their shifted versions resemble each other for the student as for the teacher.

Source: Xu et al., "Mind the Gap in Distilling StyleGANs" (StyleKD), 2022, released code; the same loss serves DCP-GAN
(2024) and SVS (2025), both with weight 30.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.adversarial import sum_of
from limbeck.losses.steps import GeneratorStep
from limbeck.losses.weighted import Term
from limbeck.model import Pair


def leading_directions(weights: Float[Tensor, "m d"], count: int) -> Float[Tensor, "k d"]:
    """Unit vectors along which the rows of `weights`, scaled to unit length, vary most: `count` rows at most.

    The leading eigenvectors of A^T A, largest eigenvalue first, A being the scaled rows.

    Source: StyleKD, released code (function "calc_direction_split").
    Differs: a symmetric eigen-solver in float64, ordered. The authors take the first columns of a general solver,
    whose order nobody guarantees and which may return complex vectors for narrow teachers.
    """
    rows = F.normalize(weights.double(), dim=1)
    _, vectors = torch.linalg.eigh(rows.T @ rows)
    return vectors.flip(1)[:, :count].T.to(weights.dtype)


def cosine_matrix(a: Float[Tensor, "n c h w"], b: Float[Tensor, "m c h w"]) -> Float[Tensor, "n m"]:
    """Cosines between all maps of `a` and all of `b`, each flattened to one vector; in float32."""
    # The entries' order does not matter, and channels last is how they lie in memory.
    a, b = (x.permute(0, 2, 3, 1).flatten(1).float() for x in (a, b))
    lengths = torch.linalg.vector_norm(a, dim=1)[:, None] * torch.linalg.vector_norm(b, dim=1)
    with torch.autocast(a.device.type, enabled=False):
        return (a @ b.T) / lengths.clamp_min(1e-8)


def divergence(teacher: Float[Tensor, "n m"], student: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """KL(softmax(teacher row) || softmax(student row)), averaged over rows; temperature 1."""
    return F.kl_div(student.log_softmax(dim=1), teacher.softmax(dim=1), reduction="batchmean")


class Relation(Term):
    """Sum over blocks of the distance between teacher's and student's cosines of images and shifted images.

    Per sample one direction and one length is drawn and added to the styles of all layers, the same for teacher and
    student. The shifted half is drawn no further than the last block that is compared.

    resolutions: blocks compared; direction_resolutions: blocks of the teacher whose style affines give the
        directions; None takes the published ones of the teacher's family. StyleGAN2's blocks are named by their size,
        StyleGAN3's by the layer's number. Blocks that the teacher lacks are left out.
    directions: "block" (the `num_directions` leading ones of each block), "global" (as many in total, of all blocks
        together) or "random" (drawn anew for each sample).
    strength: standard deviation of the shift's length, in units of w.
    distance: "kl" or "mse" (mean squared difference of the cosines).

    The cosines run over one micro-batch of one process, by definition; the value depends on its size and is 0, without
    gradient, for a single image.
    """

    needs_styles = True
    directions: Tensor

    def __init__(
        self,
        *,
        resolutions: Sequence[int] | None = None,
        direction_resolutions: Sequence[int] | None = None,
        directions: str = "block",
        num_directions: int = 5,
        strength: float = 5.0,
        distance: str = "kl",
    ):
        super().__init__()
        if directions not in ("block", "global", "random"):
            raise UserError(f"relation.directions={directions!r}: must be 'block', 'global' or 'random'")
        if distance not in ("kl", "mse"):
            raise UserError(f"relation.distance={distance!r}: must be 'kl' or 'mse'")
        self.resolutions, self.direction_resolutions = resolutions, direction_resolutions
        self.kind, self.num_directions = directions, num_directions
        self.strength, self.distance = strength, divergence if distance == "kl" else F.mse_loss

    def prepare(self, pair: Pair, *, half: bool) -> None:
        synthesis = pair.teacher.generator.synthesis
        there = set(synthesis.resolutions)
        chosen = [
            list(own if own is not None else published)
            for own, published in zip(
                (self.resolutions, self.direction_resolutions), synthesis.relation_blocks, strict=True
            )
        ]
        self.feature_resolutions, blocks = (tuple(r for r in some if r in there) for some in chosen)
        if not self.feature_resolutions or not blocks:
            raise UserError(
                f"relation.resolutions={chosen[0]}, direction_resolutions={chosen[1]}: "
                f"each must name one of the teacher's blocks {sorted(there)}"
            )
        weights = [synthesis.style_weights(r).detach() for r in blocks]
        if self.kind == "global":
            found = leading_directions(torch.cat(weights), self.num_directions * len(blocks))
        else:
            found = torch.cat([leading_directions(w, self.num_directions) for w in weights])
        self.register_buffer("directions", found, persistent=False)

    def offsets(self, num_images: int) -> Float[Tensor, "n 1 d"]:
        """One shift of w per image, for all layers: a unit direction times N(0, strength^2)."""
        device, size = self.directions.device, self.directions.shape[1]
        if self.kind == "random":
            chosen = F.normalize(torch.randn(num_images, size, device=device), dim=1)
        else:
            chosen = self.directions[torch.randint(len(self.directions), (num_images,), device=device)]
        return (chosen * torch.randn(num_images, 1, device=device) * self.strength)[:, None]

    def forward(self, step: GeneratorStep) -> Tensor:
        shifted_teacher, shifted_student = step.shifted_features(self.offsets(len(step.student_style)))
        teacher, student = step.teacher_features, step.student_features
        return sum_of(
            self.distance(cosine_matrix(teacher[r], shifted_teacher[r]), cosine_matrix(student[r], shifted_student[r]))
            for r in self.feature_resolutions
        )
