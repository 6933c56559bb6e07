"""NICKEL: the student's discriminator sees the teacher's images, and a map of it is pulled to the teacher's own.

Source: Yeo, Jang and Yoo, "Nickel and Diming Your GAN", 2024, released code (one snapshot). The wavelet distance
is the code's; whether the paper describes it is not verified, so the plain mean square is offered beside it.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.losses.adversarial import sum_of
from limbeck.losses.steps import DiscriminatorStep
from limbeck.losses.weighted import Term
from limbeck.model import Pair


def haar_details(maps: Float[Tensor, "n c h w"], levels: int) -> list[Float[Tensor, "n c 3 _ _"]]:
    """Detail bands (horizontal, vertical, diagonal differences) of the orthonormal Haar transform, finest first.

    Each level halves the size; there are fewer than `levels` where a size becomes odd.
    """
    found: list[Tensor] = []
    while len(found) < levels and maps.shape[2] % 2 == 0 and maps.shape[3] % 2 == 0:
        a, b, c, d = (maps[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
        found.append(torch.stack([a - b + c - d, a + b - c - d, a - b - c + d], dim=2) / 2)
        maps = (a + b + c + d) / 2
    return found


def wavelet_distance(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"], levels: int) -> Float[Tensor, ""]:
    """Sum over levels of the mean squared difference of the detail bands; blind to each channel's mean."""
    return sum_of(band.square().mean() for band in haar_details(a - b, levels))


class Nickel(Term):
    """Distance between a map of the teacher's generator and one of a discriminator that looks at the same image.

    Reaches the judge's first blocks alone; what it would say about the image is not even computed.

    generator_resolution, discriminator_resolution: size of the block outputs that are compared (in StyleGAN3 the
        number of the generator's layer); None takes a quarter of the image's (64 at 256 px, as released). Of two sizes
        the larger map is averaged down to the smaller.
    distance: "wavelet" (details of a Haar transform of `levels` levels) or "mse".
    judge: name of the discriminator ("fresh" or "teacher"); None takes the first.

    Differs: where widths differ, a trained 1x1 convolution brings the judge's map to the teacher's width; gradients
    are not cleaned of NaN before Adam, a run that produces one stops.
    """

    needs_styles = True

    def __init__(
        self,
        *,
        generator_resolution: int | None = None,
        discriminator_resolution: int | None = None,
        distance: str = "wavelet",
        levels: int = 4,
        judge: str | None = None,
    ):
        super().__init__()
        if distance not in ("wavelet", "mse"):
            raise UserError(f"nickel.distance={distance!r}: must be 'wavelet' or 'mse'")
        if levels < 1:
            raise UserError(f"nickel.levels={levels}: must be at least 1")
        self.generator_resolution, self.discriminator_resolution = generator_resolution, discriminator_resolution
        self.distance, self.levels, self.judge = distance, levels, judge
        self.adapter: nn.Module = nn.Identity()

    def prepare(self, pair: Pair, *, half: bool) -> None:
        generator = pair.teacher.generator
        discriminator: Any = pair.teacher.discriminator
        quarter = generator.resolution // 4
        synthesis = generator.synthesis
        wanted = self.generator_resolution
        self.source = _chosen(
            "generator", synthesis.block_at(quarter) if wanted is None else wanted, synthesis.resolutions
        )
        ends = [r // 2 for r in discriminator.resolutions[:-1]]
        self.target = _chosen("discriminator", self.discriminator_resolution or quarter, ends)
        self.feature_resolutions = (self.source,)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            inputs = generator.example_inputs()
            style = generator.mapping(inputs["latent"], inputs.get("label"))
            wide = generator.synthesis.features(style, (self.source,), noise="none")[self.source].shape[1]
            image = discriminator.example_inputs()["image"]
            narrow = discriminator.features(image, (self.target,))[self.target].shape[1]
            torch.manual_seed(0)
            self.adapter = nn.Identity() if narrow == wide else nn.Conv2d(narrow, wide, 1)

    def forward(self, step: DiscriminatorStep) -> Tensor:
        judges = step.players.discriminators
        name = self.judge or next(iter(judges))
        if name not in judges:
            raise UserError(f"nickel.judge={name!r}: must be a trained discriminator of this run: {', '.join(judges)}")
        synthesis = step.teacher.network.synthesis
        teacher = synthesis.within_image(self.source, step.teacher_features[self.source].detach().float())
        found = self.adapter(judges[name].features(step.teacher_image, (self.target,))[self.target].float())
        size = min(teacher.shape[-1], self.target)
        teacher, found = (F.adaptive_avg_pool2d(maps, size) for maps in (teacher, found))
        if self.distance == "mse":
            return F.mse_loss(found, teacher)
        return wavelet_distance(found, teacher, self.levels)


def _chosen(network: str, resolution: int, there: Sequence[int]) -> int:
    if resolution not in there:
        raise UserError(f"nickel.{network}_resolution={resolution}: must be one of {sorted(there)}")
    return resolution
