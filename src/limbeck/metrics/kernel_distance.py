"""Kernel distance between the model's and the real features: KID, over any embedding.

Source: Bińkowski et al., "Demystifying MMD GANs", 2018, section 4.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.functional.kernel_distance import squared_mmd_with_error, subset_squared_mmds
from limbeck.metrics.accumulated import FeatureSets
from limbeck.metrics.base import require_images

MIN_FOLDED = 4  # images of a kind that the standard error needs; with few of them there are fewer folds
KERNEL = "(x . y / num_features + 1)^3, unbiased"


class KernelDistance(FeatureSets):
    """`<name>` over all pairs of images and `<name>_se`, its standard error; lower is better, 0 for equal sets.

    The estimate is unbiased, so that two sets from one distribution give values around 0, some of them negative.
    num_folds: of the leave-one-fold-out standard error.

    Differs from the source: all pairs in place of a mean over random subsets, which is a noisier estimate of the same.
    """

    def __init__(self, *, embedding: Embedding, name: str = "kid", num_folds: int = 10) -> None:
        super().__init__(embedding)
        self.name, self.num_folds = name, num_folds

    def compute(self) -> dict[str, Tensor]:
        fake, real = self.sets()
        self.check(len(real), len(fake))
        found = squared_mmd_with_error(fake, real, num_folds=self.num_folds)
        name = self.name + self.embedding.metric_suffix
        return {
            name: torch.tensor(found.value, dtype=torch.float64),
            f"{name}_se": torch.tensor(found.standard_error, dtype=torch.float64),
        }

    def check(self, num_real: int, num_fake: int) -> None:
        super().check(num_real, num_fake)
        if self.num_folds < 2:
            raise UserError(f"num_folds={self.num_folds}: must be at least 2")
        require_images(f"num_folds={self.num_folds}", MIN_FOLDED, num_real, num_fake)

    def ranks(self) -> dict[str, bool]:
        return {self.name + self.embedding.metric_suffix: False}

    def describe(self) -> dict[str, Any]:
        estimator = f"squared MMD over all pairs, kernel {KERNEL}"
        error = f"leaving out one of {self.num_folds} folds at a time"
        return {"estimator": estimator, "standard_error": error, **self.embedding.describe()}


class SubsetKernelDistance(FeatureSets):
    """`<name>` as torch-fidelity computes it: mean over random subsets; `<name>_std` is the spread between them.

    num_subsets, subset_size: 100 and 1000 in torch-fidelity. seed: of the subsets (2020 there): same features, same
    number.
    """

    def __init__(
        self,
        *,
        embedding: Embedding,
        name: str = "kid",
        num_subsets: int = 100,
        subset_size: int = 1000,
        seed: int = 2020,
    ) -> None:
        super().__init__(embedding)
        self.name = name
        self.num_subsets, self.subset_size, self.seed = num_subsets, subset_size, seed

    def compute(self) -> dict[str, Tensor]:
        fake, real = self.sets()
        name = self.name + self.embedding.metric_suffix
        self.check(len(real), len(fake))
        drawn = np.random.RandomState(self.seed)
        subsets = []
        for _ in range(self.num_subsets):
            rows, columns = (drawn.choice(len(part), self.subset_size, replace=False) for part in (fake, real))
            subsets.append((torch.from_numpy(rows).to(real.device), torch.from_numpy(columns).to(real.device)))
        values = subset_squared_mmds(fake, real, subsets)
        return {name: values.mean(), f"{name}_std": values.std(correction=0)}

    def check(self, num_real: int, num_fake: int) -> None:
        super().check(num_real, num_fake)
        for name, least in (("subset_size", 2), ("num_subsets", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}: must be at least {least}")
        require_images(f"subset_size={self.subset_size}", self.subset_size, num_real, num_fake)

    def ranks(self) -> dict[str, bool]:
        return {self.name + self.embedding.metric_suffix: False}

    def describe(self) -> dict[str, Any]:
        subsets = f"mean over {self.num_subsets} subsets of {self.subset_size} (seed {self.seed})"
        return {"estimator": f"squared MMD, {subsets}, kernel {KERNEL}", **self.embedding.describe()}
