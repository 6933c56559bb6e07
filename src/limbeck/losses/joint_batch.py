"""Losses of a whole batch although it is computed in parts, micro-batch by micro-batch and process by process.

A loss over a batch's distribution (moments, kernel distances) is not the mean of its values on the parts. Here every
part computes the loss of the whole batch, with a gradient to its own rows only; scaled by
one over the part's weight in the batch, the weighted gradients of all parts add up to that of one process with the
whole batch. The other rows come from a first pass without gradient (micro-batches still to come, drawn again later with
the same noise) and from the other processes.

Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021, sections 3.2 to 3.4
(the first pass without gradient).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck import parallel
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.image_step import ImageStep

MICRO_BATCH, BATCH = "micro_batch", "batch"


def check_over(name: str, over: str) -> None:
    """Raises: UserError unless `over` is "micro_batch" or "batch"."""
    if over not in (MICRO_BATCH, BATCH):
        raise UserError(f"{name}.over={over!r}: must be {MICRO_BATCH!r} or {BATCH!r}")


def student_vectors(step: ImageStep, embedding: Frozen, over: str) -> tuple[Float[Tensor, "n f"], float]:
    """The student's vectors over which a loss is taken, and the factor for `scaled_gradient` of that loss.

    over: "micro_batch": this micro-batch's own; "batch": of all micro-batches of the optimizer step and of all
        processes, in the same order everywhere; only those of this micro-batch carry a gradient.
    """
    own = step.vectors(embedding, "student")
    if over == MICRO_BATCH:
        return own, 1.0
    parts = step.siblings or (step,)
    everyone = parts[0].kept(
        ("joint", embedding.network.digest(), "student"),
        lambda: parallel.rows_of_all(torch.cat([part.previewed_vectors(embedding) for part in parts])),
    )
    lengths = [part.num_images for part in parts]
    index = next(index for index, part in enumerate(parts) if part is step)
    start = parallel.rank() * sum(lengths) + sum(lengths[:index])
    joint = torch.cat([everyone[:start], own, everyone[start + len(own) :]])
    return joint, parallel.world_size() * sum(part.num_rows for part in parts) / step.num_rows


def teacher_vectors(step: ImageStep, embedding: Frozen, over: str) -> Float[Tensor, "n f"]:
    """The teacher's vectors of the same latents in the same order; without gradient."""
    if over == MICRO_BATCH:
        return step.vectors(embedding, "teacher")
    parts = step.siblings or (step,)
    return parts[0].kept(
        ("joint", embedding.network.digest(), "teacher"),
        lambda: parallel.rows_of_all(torch.cat([part.vectors(embedding, "teacher") for part in parts])),
    )


def scaled_gradient(value: Float[Tensor, ""], factor: float) -> Float[Tensor, ""]:
    """The same value with `factor` times its gradient."""
    return value if factor == 1 else value.detach() + factor * (value - value.detach())
