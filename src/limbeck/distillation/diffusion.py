"""Training of a denoiser, with or without a teacher: Diff-Pruning's fine-tuning, and distillation beside it.

Source: Fang et al., "Structural Pruning for Diffusion Models", 2023, and the DDIM code base it trains with.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.distillation.optimizers import MakeOptimizer, corrected, own_parameters
from limbeck.distillation.training import StudentTraining
from limbeck.errors import UserError
from limbeck.functional.diffusion import antithetic_timesteps
from limbeck.losses.denoising_step import DenoisingStep
from limbeck.losses.image_step import Players
from limbeck.losses.weighted import Weighted, cadences
from limbeck.model import Pair


class DiffusionDistillation(StudentTraining):
    """Trains `pair.student`'s denoiser; `ema` is the result. More arguments: `StudentTraining`; time steps and noise do
    not depend on `micro_batch_size`.

    clip_gradient_norm: 1 as released. dropout: inside the student's residual blocks; None as its file says.
    image_share: of a micro-batch that losses on images look at, see `losses.denoising_step`.
    judges, discriminator_terms: must be empty.

    Differs: the moving average is given by its half-life in images; 0.9999 a step of 128 images is 887.2 kimg.
    """

    alpha_bar: Tensor

    def __init__(
        self,
        pair: Pair,
        *,
        generator_terms: Mapping[str, Weighted],
        generator_optimizer: MakeOptimizer,
        judges: Mapping[str, nn.Module] | None = None,
        discriminator_terms: Mapping[str, Weighted] | None = None,
        ema_half_life_kimg: float = 887.2,
        clip_gradient_norm: float | None = 1.0,
        dropout: float | None = None,
        image_share: float = 0.5,
        **training: Any,
    ):
        alpha_bar = pair.teacher.generator.alpha_bar()
        if judges:
            raise UserError(f"discriminator={next(iter(judges))}: a denoiser has no judges; allowed: none")
        if dropout is not None and not 0 <= dropout < 1:
            raise UserError(f"distillation.dropout={dropout}: must lie in [0, 1), or null")
        if not 0 < image_share <= 1:
            raise UserError(f"distillation.image_share={image_share}: must lie in (0, 1]")
        super().__init__(
            pair,
            terms={"generator": generator_terms, "discriminator": discriminator_terms or {}},
            step_kinds={"generator": DenoisingStep},
            ema_half_life_kimg=ema_half_life_kimg,
            clip_gradient_norm=clip_gradient_norm,
            **training,
        )
        self.register_buffer("alpha_bar", alpha_bar, persistent=False)
        self.players = Players(self.student, self.teacher, {})
        self.make_optimizer = generator_optimizer
        self.image_share = image_share
        for module in self.student.modules():
            if isinstance(module, nn.Dropout) and dropout is not None:
                module.p = dropout

    def own_optimizers(self) -> list[Optimizer]:
        terms = self.terms["generator"]
        return [corrected(self.make_optimizer, [*self.student.parameters(), *own_parameters(terms)], terms)]

    def final_judge(self) -> None:
        """There is none."""

    def play(self, optimizers: list, real: Tensor, label: Tensor, *_sources: Tensor) -> None:
        for every, terms in cadences(self.terms["generator"]).items():
            if self.step_index % every == 0:
                steps = self.denoising_steps(terms, real)
                self.optimize(optimizers, "generator", terms, steps)
                steps.clear()  # siblings hold one another, and with them their images

    def denoising_steps(self, terms: Mapping[str, Weighted], clean: Tensor) -> list[DenoisingStep]:
        """The micro-batches of one optimizer step, each shortened to the share that these terms look at.

        clean: [n, c, h, w] in [-1, 1].
        """
        timestep = antithetic_timesteps(len(clean), len(self.alpha_bar)).to(clean.device)
        noise = torch.randn_like(clean)
        blocks = tuple(sorted({block for weighted in terms.values() for block in weighted.term.feature_blocks}))
        share = min(weighted.batch_share for weighted in terms.values())
        steps: list[DenoisingStep] = []
        for start in range(0, len(clean), self.micro_batch_size):
            size = min(self.micro_batch_size, len(clean) - start)
            part = slice(start, start + max(1, round(size * share)))
            step = DenoisingStep(
                self.players,
                clean=clean[part],
                noise=noise[part],
                timestep=timestep[part],
                alpha_bar=self.alpha_bar,
                image_share=self.image_share,
                feature_blocks=blocks,
                images_seen=self.images_seen,
                siblings=steps,
            )
            steps.append(step)
        return steps
