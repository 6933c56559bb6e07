"""Start from fresh weights in the pruned shapes: what pruning is worth beyond the smaller architecture."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from limbeck.initializers.batch_statistics import remeasure
from limbeck.masking import switch_off
from limbeck.model import Pair


class Random:
    """Pair to pair: the student's parameters are drawn anew, except those whose names start with one of `keep`.

    keep: prefixes of parameters that stay; ["mapping."] keeps the teacher's mapping network, [] nothing. Buffers
        (noise images, the average style) stay in any case, but for what was measured of the old weights' activations.

    Source: Xu et al., "Mind the Gap in Distilling StyleGANs" (StyleKD), 2022, released code: mapping network from the
    teacher, synthesis network from its usual random start.
    """

    def __init__(self, *, keep: Sequence[str] = ("mapping.",), seed: int = 0):
        self.keep = tuple(keep)
        self.seed = seed

    def __call__(self, pair: Pair) -> Pair:
        old = pair.student.generator
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            fresh = old.resized({})
        drawn = {name for name, _ in fresh.named_parameters() if not name.startswith(self.keep)}
        drawn |= {name for name, _ in fresh.named_buffers() if name.endswith(old.measured_buffers)}
        stays = {name: value for name, value in old.state_dict().items() if name not in drawn}
        fresh.load_state_dict(stays, strict=False)
        switch_off(fresh, pair.student.masks)
        remeasure(fresh, seed=self.seed)
        generator = fresh.to(next(old.parameters())).train(old.training)
        student = replace(pair.student, generator=generator)
        facts = {"initializer": "random", "keep": list(self.keep), "seed": self.seed}
        return Pair(teacher=pair.teacher, student=student.after("initialize", **facts))
