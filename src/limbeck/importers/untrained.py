"""A teacher of random weights: for training one from scratch, and for trying a run's shape without any file."""

from collections.abc import Callable
from dataclasses import replace

import torch

from limbeck.architectures.base import Network
from limbeck.model import Model


class Untrained:
    """Builds the networks when called, the same ones for the same seed.

    terms: licence note that the trained weights and all their students will carry.
    generator, discriminator: constructors without arguments (`_partial_: true` in YAML); the second may be None.
    both_ways: a second generator and discriminator of the same kind, for the other direction.
    """

    def __init__(
        self,
        generator: Callable[[], Network],
        discriminator: Callable[[], Network] | None = None,
        *,
        both_ways: bool = False,
        seed: int = 0,
        terms: str = "",
    ):
        self.generator = generator
        self.discriminator = discriminator
        self.both_ways = both_ways
        self.seed = seed
        self.terms = terms

    def __call__(self) -> Model:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = self._drawn()
            return replace(model, reverse=self._drawn()) if self.both_ways else model

    def _drawn(self) -> Model:
        generator = self.generator().eval()
        discriminator = self.discriminator().eval() if self.discriminator is not None else None
        return Model(generator, discriminator, terms=self.terms).after("import", importer="untrained", seed=self.seed)
