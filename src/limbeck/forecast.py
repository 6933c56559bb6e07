"""What a run will cost, told before it begins: the student, the time of its training, memory."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from limbeck.evaluation.figures import short
from limbeck.model import Model
from limbeck.profiling import profile
from limbeck.terminal import clock

if TYPE_CHECKING:
    from limbeck.distillation.pace import Pace

NIGHT_SECONDS = 10 * 3600
COSTS = {"num_parameters": "parameters", "macs": "MACs"}


def costs(teacher: Model, student: Model) -> str:
    """What is left of the teacher's parameters and multiply-accumulates."""
    before, after = (profile(model.generator) for model in (teacher, student))
    pairs = ((name, getattr(before, key), getattr(after, key)) for key, name in COSTS.items())
    return "student of " + ", ".join(f"{short(now)} {name} (÷ {was / now:.3g})" for name, was, now in pairs)


def expected(pace: "Pace | None", kimg: float, num_steps: int) -> Iterator[str]:
    """How long training lasts and what it needs, for a reader; what would be done in one night, if it is longer."""
    if pace is None or not pace.seconds_per_image:
        yield "how long training takes shows once it runs"
        return
    seconds, speed = kimg * 1000 * pace.seconds_per_image, 1 / pace.seconds_per_image
    yield f"training about {clock(seconds)} ({speed:.3g} images/s over {num_steps} steps)"
    yield f"{pace.peak_mib / 1024:.2g} GiB"
    if seconds > NIGHT_SECONDS:
        yield f"kimg={NIGHT_SECONDS * speed / 1000:.2g} would be one night"
