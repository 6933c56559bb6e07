"""What is known of the teacher's distribution from many samples: moments or vectors, made once and kept in the cache.

A cached file is named by a digest of the teacher's weights, the embedding (weights, resize, normalization), the
precision of both, and how the samples were drawn.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck import parallel
from limbeck.architectures.inputs import drawn_inputs
from limbeck.cache import cache_path, read_cached, state_digest, write_cached
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.seeds import batch_seed, seeded
from limbeck.terminal import LiveLine, announce, counted

VERSION = 1  # raise when the same facts start to give other numbers


@dataclass(frozen=True)
class Sample:
    """How the teacher's images are drawn: no style mixing, no truncation, labels uniform.

    noise: as in training, see `losses.steps.Draw`. batch_size: part of it because random noise depends on it.
    """

    num_images: int
    batch_size: int = 32
    seed: int = 0
    noise: str = "random"

    def check(self, name: str) -> None:
        """Raises: UserError naming a number that is not a whole one above 0. name: opens the message."""
        for field in ("num_images", "batch_size"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{name}.{field}={value!r}: must be a whole number, at least 1")


@dataclass(frozen=True)
class Moments:
    """Mean of the vectors and mean of their squares, coordinate by coordinate."""

    first: Float[Tensor, " f"]
    second: Float[Tensor, " f"]


def teacher_moments(teacher: Frozen, embedding: Frozen, sample: Sample) -> Moments:
    """First and raw second moments of the teacher's vectors, summed in float64; float32 on the teacher's device."""

    def sums(vectors: Tensor) -> Tensor:
        vectors = vectors.double()
        return torch.stack([vectors.sum(dim=0), vectors.square().sum(dim=0)])[None]

    def means(parts: list[Tensor]) -> dict[str, Tensor]:
        first, second = torch.stack(parts).sum(dim=0)[0] / sample.num_images
        return {"first": first, "second": second}

    width = (embedding.network.num_features,)
    found = _kept("moments", {"first": width, "second": width}, teacher, embedding, sample, sums, means)
    return Moments(**{name: value.float().to(_device(teacher)) for name, value in found.items()})


def teacher_sample(teacher: Frozen, embedding: Frozen, sample: Sample) -> Float[Tensor, "n f"]:
    """The teacher's vectors themselves, in float32 on the teacher's device."""
    shape = (sample.num_images, embedding.network.num_features)

    def joined(parts: list[Tensor]) -> dict[str, Tensor]:
        return {"vectors": torch.cat(parts)}

    found = _kept("vectors", {"vectors": shape}, teacher, embedding, sample, lambda vectors: vectors, joined)
    return found["vectors"].to(_device(teacher))


def _kept(
    kind: str,
    shapes: dict[str, tuple[int, ...]],
    teacher: Frozen,
    embedding: Frozen,
    sample: Sample,
    of_batch: Callable[[Tensor], Tensor],
    of_all: Callable[[list[Tensor]], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """From the cache, or computed by all processes together: batches are fixed, so any number gives the same."""
    name = embedding.network.name
    precision = [_precision(network) for network in (teacher, embedding)]
    facts = [VERSION, kind, state_digest(teacher.network), embedding.network.digest(), precision]
    path = cache_path("teacher", f"{name}-{kind}", [*facts, dataclasses.asdict(sample)])
    stored = read_cached(path, shapes)
    if all(parallel.gathered(stored is not None)):
        assert stored is not None
        return stored
    total, unit = -(-sample.num_images // sample.batch_size), "batches"
    if kind == "vectors":
        total, unit = sample.num_images, "images"
    announce("statistics", f"{kind} of {sample.num_images:,} images of the teacher under {name}, kept in {path.parent}")
    line = LiveLine()

    def told(done: int) -> None:
        if line.due():
            line.show(counted(min(done, total), total, line.rate(done), unit))

    def computed(start: int) -> Tensor:
        return of_batch(_vectors(teacher, embedding, sample, start)).cpu()

    parts = parallel.shared_out(_own_batches(sample), computed, told)
    line.end()
    found = of_all(parts)
    if parallel.rank() == 0:
        write_cached(path, found)
    return found


def _own_batches(sample: Sample) -> Iterator[tuple[int, int]]:
    """This process's share: (number, first image) of each batch."""
    for number, start in enumerate(range(0, sample.num_images, sample.batch_size)):
        if number % parallel.world_size() == parallel.rank():
            yield number, start


def _vectors(teacher: Frozen, embedding: Frozen, sample: Sample, start: int) -> Tensor:
    """Vectors of the batch that starts at image `start`; the surrounding random state is left as it was."""
    device, network = _device(teacher), teacher.network
    count = min(sample.batch_size, sample.num_images - start)
    source = torch.Generator().manual_seed(batch_seed(sample.seed, start))
    inputs = drawn_inputs(network, count, source).to(device)
    # Another seed: on a CPU the noise would repeat the latents' numbers.
    with torch.no_grad(), seeded(batch_seed(sample.seed + 1, start), device):
        with teacher.running():
            image = network.draw(inputs.source, inputs.label, noise=sample.noise)
        return embedding(image).float()


def _precision(frozen: Frozen) -> str:
    """What the network computes in here: its own choice, or that of the surrounding training."""
    device = _device(frozen).type
    if frozen.half_precision:
        return str(torch.bfloat16)
    return str(torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32)


def _device(frozen: Frozen) -> torch.device:
    return next(frozen.network.parameters()).device
