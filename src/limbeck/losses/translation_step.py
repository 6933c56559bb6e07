"""What a loss term may ask of networks that translate images: lazy views of one micro-batch.

A run has one way of translating, or two where the other direction is trained along (CycleGAN). Terms sum over the ways,
so one cycle term serves a CycleGAN, whose second network goes back, and StarGAN, which goes back by itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.image_step import Bout, JudgedStep, JudgingStep

Pool = Callable[[Tensor], Tensor]


@dataclass
class Way:
    """One direction of translation in one micro-batch.

    source, label: [n, c, h, w] in [-1, 1], and what the generator is told beside it; None without labels.
    real, real_label: of the domain that is translated to: the wanted image itself where the data are paired.
    source_label: the domain of the source, which StarGAN is told to go back.
    back: the network that translates back; None if there is none.
    judges: by their names in the log; those that are not trained are `Frozen`.
    pool: what the judges are shown in place of freshly generated images.
    """

    generator: nn.Module
    judges: Mapping[str, nn.Module]
    source: Tensor
    real: Tensor
    label: Tensor | None = None
    real_label: Tensor | None = None
    source_label: Tensor | None = None
    back: nn.Module | None = None
    pool: Pool | None = None

    @cached_property
    def fake(self) -> Tensor:
        """The translated image."""
        return translated(self.generator, self.source, self.label)

    @cached_property
    def returned(self) -> Tensor:
        """The translated image, translated back."""
        if self.back is None:
            raise UserError("a loss term translates back, but this model has no other direction and no labels")
        return translated(self.back, self.fake, self.source_label)

    @cached_property
    def kept(self) -> Tensor:
        """What the generator makes of an image that is already in its target domain."""
        return translated(self.generator, self.real, self.real_label)

    @cached_property
    def shown(self) -> Tensor:
        """What the judges learn from as generated: the translated image without gradient, or an older one."""
        if "fake" in self.__dict__:
            fake = self.fake.detach()
        else:
            with torch.no_grad():
                fake = translated(self.generator, self.source, self.label)
        return fake if self.pool is None else self.pool(fake)

    def verdict(self, judge: nn.Module, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits of realness [m], all patches in a row, and of classes [n, k] if the judge gives any.

        A judge of pairs, which reads more channels than an image has, is shown the source before the image.
        """
        network = judge.network if isinstance(judge, Frozen) else judge
        pairs = int(network.num_channels) > image.shape[1]  # type: ignore[arg-type]
        found = judge(image, self.source) if pairs else judge(image)
        logits, classes = found if isinstance(found, tuple) else (found, None)
        return logits.flatten(), classes

    def realness(self, judge: nn.Module, image: Tensor) -> Tensor:
        """The first part of the verdict."""
        return self.verdict(judge, image)[0]

    @cached_property
    def fake_verdicts(self) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Of each judge on the translated image, with gradient to the generator."""
        return {name: self.verdict(judge, self.fake) for name, judge in self.judges.items()}


def translated(network: nn.Module, image: Tensor, label: Tensor | None) -> Tensor:
    """One pass of a translation network that may read labels."""
    return network(image) if label is None else network(image, label)


@dataclass
class TranslationStep(JudgedStep):
    """One micro-batch in which the student, and the other direction if there is one, are trained.

    ways: the student's first.
    """

    ways: Sequence[Way] = field(kw_only=True)

    @property
    def num_rows(self) -> int:
        return len(self.ways[0].source)

    @property
    def num_images(self) -> int:
        return self.num_rows

    @property
    def student_image(self) -> Tensor:
        """[n, c, h, w] in [-1, 1], with gradient to the student."""
        return self.ways[0].fake

    @cached_property
    def teacher_image(self) -> Tensor:
        """The teacher's translation of the same images, without gradient."""
        with torch.no_grad(), self.teacher.running() as network:
            return translated(network, self.ways[0].source, self.ways[0].label)

    @property
    def target_image(self) -> Tensor:
        """The wanted image, where the data are paired."""
        return self.ways[0].real

    def posing(self, who: str, judge: str | None = None) -> "TranslationStep":
        """The teacher translates back, too, where the student does; the other direction stays as it is."""
        judges = {n: network for n, network in self.players.discriminators.items() if judge in (None, n)}
        players, ways = replace(self.players, discriminators=judges), []
        if who == "teacher":
            players = replace(players, student=self.teacher.network)
        for way in self.ways:
            some = {name: network for name, network in way.judges.items() if judge in (None, name)}
            posed = replace(way, judges=some)
            if who == "teacher" and way.back is self.players.student:
                posed.back = self.teacher
            if who == "teacher" and way.generator is self.players.student:
                posed.generator = self.teacher
                posed.__dict__["fake"] = self.teacher_image
            else:
                posed.__dict__["fake"] = way.fake
            ways.append(posed)
        return replace(self, players=players, ways=ways, _cache={})

    def judging(self) -> "TranslationJudgingStep":
        ways = [replace(way, pool=None) for way in self.ways]
        for way, own in zip(ways, self.ways, strict=True):
            way.__dict__ |= {"fake": own.fake, "shown": own.fake}
        return TranslationJudgingStep(self.players, images_seen=self.images_seen, ways=ways)

    @property
    def student_has_passed(self) -> bool:
        return "fake" in self.ways[0].__dict__

    def student_preview(self) -> Tensor:
        with self.repeating():
            return translated(self.players.student, self.ways[0].source, self.ways[0].label)

    @property
    def fake_logits(self) -> dict[str, Tensor]:
        return {name: verdict[0] for way in self.ways for name, verdict in way.fake_verdicts.items()}

    def _image_of(self, who: str) -> Tensor:
        return self.target_image if who == "target" else super()._image_of(who)


@dataclass
class TranslationJudgingStep(JudgingStep):
    """One micro-batch in which the judges of all ways are trained. ways: with their trained judges alone."""

    ways: Sequence[Way] = field(kw_only=True)

    @property
    def num_rows(self) -> int:
        return len(self.ways[0].source)

    @cached_property
    def real_verdicts(self) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Of each judge on the real images of its domain."""
        judged = ((name, way, judge) for way in self.ways for name, judge in way.judges.items())
        return {name: way.verdict(judge, way.real) for name, way, judge in judged}

    @cached_property
    def fake_logits(self) -> dict[str, Tensor]:
        judged = ((name, way, judge) for way in self.ways for name, judge in way.judges.items())
        return {name: way.verdict(judge, way.shown)[0] for name, way, judge in judged}

    @cached_property
    def real_logits(self) -> dict[str, Tensor]:
        return {name: verdict[0] for name, verdict in self.real_verdicts.items()}

    def bouts(self) -> list[Bout]:
        return [
            Bout(partial(way.realness, judge), way.real, way.shown)
            for way in self.ways
            for judge in way.judges.values()
        ]


TranslationStep.judging_kind = TranslationJudgingStep
