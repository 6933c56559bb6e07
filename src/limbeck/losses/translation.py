"""The terms of image translation beside the adversarial ones, for all ways of a step.

Source: Isola et al. (pix2pix), 2017; Zhu et al. (CycleGAN), 2017; Choi et al. (StarGAN), 2018; Ledig et al. (SRGAN),
2017; each with the weights of its authors' public code in its YAML.
"""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.adversarial import sum_of
from limbeck.losses.pixel_l1 import mean_absolute_difference
from limbeck.losses.translation_step import TranslationJudgingStep, TranslationStep, Way
from limbeck.losses.weighted import Term
from limbeck.model import Pair


class Target(Term):
    """Distance of every translated image to the wanted one; for paired data.

    norm: "l1" (pix2pix) or "l2", the mean square (SRGAN).
    """

    needs_pairs = True

    def __init__(self, *, norm: str = "l1"):
        super().__init__()
        self.norm = norm

    def check(self) -> None:
        if self.norm not in ("l1", "l2"):
            raise UserError(f"norm={self.norm!r}: must be 'l1' or 'l2'")

    def forward(self, step: TranslationStep) -> Tensor:
        distance = mean_absolute_difference if self.norm == "l1" else F.mse_loss
        return sum_of(distance(way.fake, way.real) for way in step.ways)


class Cycle(Term):
    """L1 between every source and itself, translated and translated back (CycleGAN; StarGAN's reconstruction)."""

    def forward(self, step: TranslationStep) -> Tensor:
        return sum_of(mean_absolute_difference(way.returned, way.source) for way in step.ways)


class Identity(Term):
    """L1 between real images of a target domain and what its generator makes of them (CycleGAN)."""

    def forward(self, step: TranslationStep) -> Tensor:
        return sum_of(mean_absolute_difference(way.kept, way.real) for way in step.ways)


class Content(Term):
    """Mean squared distance of the coarsest feature maps of the translated and the wanted image (SRGAN).

    embedding: any; SRGAN's is VGG.
    Differs: the maps are as the embedding gives them, with its own preprocessing of the images.
    """

    needs_pairs = True

    def __init__(self, *, embedding: Embedding):
        super().__init__()
        self.held = [embedding]  # loaded in prepare(), where it is wrapped and leaves the module tree
        self.embedding: Frozen | None = None

    def describe(self) -> dict[str, Any]:
        return self.held[0].describe()

    def prepare(self, pair: Pair, *, half: bool) -> None:
        self.embedding = Frozen(self.held[0].load(), half=half)

    def forward(self, step: TranslationStep) -> Tensor:
        assert self.embedding is not None, "prepare() first"
        fake, wanted = (step.embedded(self.embedding, who)[-1].float() for who in ("student", "target"))
        return F.mse_loss(fake, wanted)


def label_loss(logits: Float[Tensor, "n k"], label: Float[Tensor, "n k"], kind: str) -> Float[Tensor, ""]:
    """How far class logits are from a label.

    kind: "attributes", binary cross-entropy summed over entries, mean over images; "classes", cross-entropy of the one
    entry that is 1.
    """
    if kind == "attributes":
        return F.binary_cross_entropy_with_logits(logits, label, reduction="sum") / len(logits)
    return F.cross_entropy(logits, label.argmax(dim=1))


class Domain(Term):
    """The generators' class loss: images shall look like the label they were drawn by (StarGAN). kind: `label_loss`."""

    reads_judges = True

    def __init__(self, *, kind: str = "attributes"):
        super().__init__()
        self.kind = kind

    def check(self) -> None:
        check_kind(self.kind)

    def forward(self, step: TranslationStep) -> Tensor:
        return sum_of(
            label_loss(*labelled(way, classes, way.label), self.kind)
            for way in step.ways
            for _, classes in way.fake_verdicts.values()
        )


class RealDomain(Term):
    """The discriminators' class loss on real images with their own labels (StarGAN). kind: `label_loss`."""

    def __init__(self, *, kind: str = "attributes"):
        super().__init__()
        self.kind = kind

    def check(self) -> None:
        check_kind(self.kind)

    def forward(self, step: TranslationJudgingStep) -> Tensor:
        found = [(way, step.real_verdicts[name][1]) for way in step.ways for name in way.judges]
        return sum_of(label_loss(*labelled(way, classes, way.real_label), self.kind) for way, classes in found)


def check_kind(kind: str) -> None:
    """Raises: UserError for an unknown kind of labels."""
    if kind not in ("attributes", "classes"):
        raise UserError(f"kind={kind!r}: must be 'attributes' or 'classes'")


def labelled(way: Way, classes: Tensor | None, label: Tensor | None) -> tuple[Tensor, Tensor]:
    """Class logits and label. Raises: UserError if the discriminator or the data have none."""
    if classes is None or label is None:
        raise UserError("a loss term reads classes, but the discriminator or the data have none; leave it out")
    if classes.shape != label.shape:
        raise UserError(
            f"a loss term reads {classes.shape[1]} classes of a discriminator, labels have {label.shape[1]}"
        )
    return classes.float(), label.float()
