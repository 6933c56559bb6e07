"""One named term of a player's loss with its weight and cadence, and the rules for a set of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, get_type_hints

from torch import Tensor, nn

from limbeck.architectures.base import Network
from limbeck.data.base import ImageSource
from limbeck.errors import UserError
from limbeck.model import Pair


class Term(nn.Module, ABC):
    """A loss term. Constructors only store; buffers (running means) travel in the checkpoint.

    feature_resolutions: blocks of a style-based generator whose outputs the term reads from the step.
    feature_blocks: the same of a denoiser, by name.
    least_images: how many images a micro-batch must hold.
    needs_styles: whether only style-based generators have what it reads.
    needs_pairs: whether it reads the wanted image of every source, which only paired data have.
    reads_judges: whether it asks discriminators about the student's images.
    reads_teacher_judge: whether it looks into the teacher's discriminator (`step.players.teacher_judge`).
    exact: whether it differentiates twice: its turn runs without rounding to TF32 and without compiled networks.
    """

    feature_resolutions: tuple[int, ...] = ()
    feature_blocks: tuple[str, ...] = ()
    least_images: int = 1
    needs_styles: bool = False
    needs_pairs: bool = False
    reads_judges: bool = False
    reads_teacher_judge: bool = False
    exact: bool = False

    def check(self) -> None:
        """Refuse what cannot work, without reading any weights, before the first stage of a run.

        Raises: UserError, e.g. if a file is missing.
        """

    def check_fits(self, name: str, offered: type, generator: Network) -> None:
        """Refuse a training regime whose steps (`offered`) are not what `forward` reads, by its annotation, and a
        generator without the styles that it needs.

        name: opens the message. Raises: UserError.
        """
        wanted = get_type_hints(type(self).forward).get("step", object)
        if isinstance(wanted, type) and not issubclass(offered, wanted):
            raise UserError(
                f"{name}: reads a {wanted.__name__}, the chosen distillation offers a {offered.__name__}; leave it out"
            )
        if self.needs_styles and not generator.num_styles:
            raise UserError(f"{name}: needs a style-based generator, not a {type(generator).__name__}; leave it out")

    def check_data(self, name: str, data: ImageSource) -> None:
        """Refuse data that do not hold what `forward` reads. name: opens the message. Raises: UserError."""
        if self.needs_pairs and not data.paired:
            raise UserError(
                f"{name}: needs the wanted image of every source, which {type(data).__name__} does not hold for "
                "training; leave it out or choose paired data"
            )

    def describe(self) -> dict[str, Any]:
        """What stands beside the term's name in the student's history: embeddings with their weights' hash; JSON."""
        return {}

    def prepare(self, pair: Pair, *, half: bool) -> None:
        """Load what the term looks at (frozen networks; `half`: in bfloat16) before training starts.

        Parameters made here (adapters) are trained with the first optimizer of the term's player.
        """

    @abstractmethod
    def forward(self, step: Any) -> Tensor:
        """The unweighted scalar for one micro-batch."""


class Weighted(nn.Module):
    """`weight * term`, computed every `every_steps` optimizer steps and then counted that many times.

    Terms of the same cadence above 1 share an optimizer step of their own (lazy regularization). A player none of whose
    terms has begun takes no turn, so a generator can be trained by a distance first and by judges afterwards.

    weight: number; every_steps: whole number >= 1; batch_share: the part of each micro-batch it looks at, in (0, 1];
    start_kimg: thousands of images after which it begins, at least 0.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section "lazy
    regularization".
    """

    def __init__(
        self, *, term: Term, weight: Any = 1.0, every_steps: Any = 1, batch_share: Any = 1.0, start_kimg: Any = 0
    ):
        super().__init__()
        self.term = term
        self.weight = _number("weight", weight)
        if _number("every_steps", every_steps) < 1 or int(every_steps) != every_steps:
            raise UserError(f"every_steps={every_steps!r}: must be a whole number, at least 1")
        if not 0 < _number("batch_share", batch_share) <= 1:
            raise UserError(f"batch_share={batch_share!r}: must lie in (0, 1]")
        if _number("start_kimg", start_kimg) < 0:
            raise UserError(f"start_kimg={start_kimg!r}: must be at least 0")
        self.every_steps = int(every_steps)
        self.start_kimg = float(start_kimg)
        self.batch_share = float(batch_share)

    def forward(self, step: Any) -> tuple[Tensor, Tensor]:
        """(what is added to the loss, the plain value for the log)."""
        value = self.term(step)
        return value * (self.weight * self.every_steps), value.detach()


def checked_terms(player: str, terms: Mapping[str, Any]) -> dict[str, Weighted]:
    """The terms of one player; refuses by name a stub left by an override of a term that is not selected."""
    for name, term in terms.items():
        if not isinstance(term, Weighted):
            raise UserError(
                f"loss/{player}: settings for {name!r} are given, but {name!r} is not among the selected terms "
                f"({', '.join(n for n, t in terms.items() if isinstance(t, Weighted)) or 'none'})"
            )
    if not terms:
        raise UserError(f"loss/{player}: no term is selected")
    return dict(terms)


def begun(terms: Mapping[str, Weighted], kimg: float) -> dict[str, Weighted]:
    """The terms that count after so many thousand images."""
    return {name: weighted for name, weighted in terms.items() if weighted.start_kimg <= kimg}


def cadences(terms: Mapping[str, Weighted]) -> dict[int, dict[str, Weighted]]:
    """Terms by `every_steps`, ordinary ones (1) first."""
    steps = sorted({term.every_steps for term in terms.values()})
    return {k: {name: term for name, term in terms.items() if term.every_steps == k} for k in steps}


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{name}={value!r}: must be a number")
    return float(value)
