"""GCC's online teacher: the full-size pair is trained beside the student that learns from it.

Source: Li et al., "Revisiting Discriminator in GAN Compression", 2021, released code ("online collaborative
distillation").
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.distillation.companion import Companion, playing
from limbeck.distillation.game import Game, set_trainable
from limbeck.distillation.loop import Loop
from limbeck.distillation.optimizers import MakeOptimizer
from limbeck.losses.image_step import Players
from limbeck.losses.weighted import Weighted, checked_terms
from limbeck.model import Pair


class OnlineTeacher(Companion):
    """Plays the teacher's generator against the teacher's discriminator, with losses and optimizers of their own.

    optimizer: makers for "generator" and "discriminator". fresh: start from random weights drawn from `seed`, as in
    the paper; else from the teacher's file, as in the port to StyleGAN2.
    """

    num_optimizers = 2
    reads_teacher_judge = True

    def __init__(
        self,
        *,
        optimizer: Mapping[str, MakeOptimizer],
        generator_terms: Mapping[str, Weighted],
        discriminator_terms: Mapping[str, Weighted],
        fresh: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        self.make_optimizer, self.fresh, self.seed = optimizer, fresh, seed
        self.terms = (
            checked_terms("teacher_generator", generator_terms),
            checked_terms("teacher_discriminator", discriminator_terms),
        )
        self.term_states = nn.ModuleList([nn.ModuleDict(terms) for terms in self.terms])

    def prepare(self, pair: Pair, loop: Loop) -> None:
        game = playing(loop, "online_teacher")
        assert game.players.teacher is not None
        assert game.players.teacher_judge is not None
        # Registered here, so that both are in checkpoints and their gradients are shared between processes.
        self.generator, self.discriminator = game.players.teacher.network, game.players.teacher_judge.network
        if self.fresh:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                for network in (self.generator, self.discriminator):
                    network.load_state_dict(network.resized({}).state_dict())
        set_trainable(self, True)
        players = Players(self.generator, None, {"teacher": self.discriminator})
        names = ("teacher_generator", "teacher_discriminator")
        self.game = Game(players, self.terms[0], self.terms[1], game.sampling, names=names)
        for weighted in [*self.terms[0].values(), *self.terms[1].values()]:
            weighted.term.prepare(pair, half=False)

    def optimizers(self) -> list[Optimizer]:
        return self.game.optimizers(self.make_optimizer["generator"], self.make_optimizer["discriminator"])

    def play(self, loop: Loop, optimizers: Sequence, real: Tensor, label: Tensor) -> None:
        self.game.play(loop, optimizers, real, label)
        self.game.let_train(student=False, judges=False)
