"""Steps of pix2pix and CycleGAN as their descriptions read, for `translation.py` to compare with.

compressing: the losses are taken twice, with the images of the student and of the frozen teacher, and only their
relative difference trains the student; judges are frozen.
"""

import copy
import itertools
import random
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.model import Model


def copied(network: nn.Module | None, *, trained: bool) -> nn.Module:
    assert network is not None
    made = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    return made.train() if trained else made.eval().requires_grad_(False)


def relative(original: Tensor, compressed: Tensor) -> Tensor:
    original = original.detach()
    return (original - compressed).abs() / original.abs().clamp_min(1e-4)


def let(trained: bool, *networks: nn.Module) -> None:
    for network in networks:
        network.requires_grad_(trained)


class Pool:
    def __init__(self, size: int):
        self.size, self.images = size, []  # type: ignore[var-annotated]

    def query(self, images: Tensor) -> Tensor:
        shown = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image)
                shown.append(image)
            elif random.random() < 0.5:
                shown.append(image)
            else:
                place = random.randrange(self.size)
                shown.append(self.images[place])
                self.images[place] = image
        return torch.stack(shown)


class PlainPix2pix:
    def __init__(self, model: Model, student: nn.Module, *, compressing: bool, adam: Mapping[str, Any]):
        self.compressing = compressing
        self.teacher = copied(model.generator, trained=False)
        self.g, self.d = copied(student, trained=True), copied(model.discriminator, trained=not compressing)
        self.average = copied(student, trained=False)
        self.g_optimizer = torch.optim.Adam(self.g.parameters(), **adam)
        self.d_optimizer = None if compressing else torch.optim.Adam(self.d.parameters(), **adam)

    @staticmethod
    def entropy(logits: Tensor, real: bool) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))

    def judged(self, a: Tensor, fake: Tensor, b: Tensor) -> Tensor:
        fakes, reals = self.d(torch.cat([a, fake], 1)), self.d(torch.cat([a, b], 1))
        return (self.entropy(fakes, False) + self.entropy(reals, True)) / 2

    def losses(self, a: Tensor, fake: Tensor, b: Tensor) -> list[Tensor]:
        return [self.entropy(self.d(torch.cat([a, fake], 1)), True), 100 * (fake - b).abs().mean()]

    def step(self, a: Tensor, b: Tensor) -> None:
        fake = self.g(a)
        if self.compressing:
            with torch.no_grad():
                wanted = self.teacher(a)
                original = [*self.losses(a, wanted, b), self.judged(a, wanted, b)]
            own = [*self.losses(a, fake, b), self.judged(a, fake, b)]
            weights = (1, 100, 0.5 * 0.5)
            total: Any = sum(w * relative(x, y) for w, x, y in zip(weights, original, own, strict=True))
        else:
            let(True, self.d)
            assert self.d_optimizer is not None
            self.d_optimizer.zero_grad()
            self.judged(a, fake.detach(), b).backward()
            self.d_optimizer.step()
            let(False, self.d)
            total = sum(self.losses(a, fake, b))
        self.g_optimizer.zero_grad()
        total.backward()
        self.g_optimizer.step()
        average(self.average, self.g)


class PlainCycle:
    def __init__(self, model: Model, student: nn.Module, *, compressing: bool, adam: Mapping[str, Any]):
        assert model.reverse is not None
        self.compressing = compressing
        self.teacher = copied(model.generator, trained=False)
        self.g_a, self.g_b = copied(student, trained=True), copied(model.reverse.generator, trained=True)
        self.d_a = copied(model.discriminator, trained=not compressing)
        self.d_b = copied(model.reverse.discriminator, trained=not compressing)
        self.average = copied(student, trained=False)
        self.g_optimizer = torch.optim.Adam(itertools.chain(self.g_a.parameters(), self.g_b.parameters()), **adam)
        judges = itertools.chain(self.d_a.parameters(), self.d_b.parameters())
        self.d_optimizer = None if compressing else torch.optim.Adam(judges, **adam)
        self.pools = Pool(50), Pool(50)

    @staticmethod
    def square(logits: Tensor, real: bool) -> Tensor:
        return F.mse_loss(logits, torch.full_like(logits, float(real)))

    def losses(self, g: nn.Module, a: Tensor, b: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        fake_b, fake_a = g(a), self.g_b(b)
        cycle = (self.g_b(fake_b) - a).abs().mean() + (g(fake_a) - b).abs().mean()
        identity = (g(b) - b).abs().mean() + (self.g_b(a) - a).abs().mean()
        adversarial = self.square(self.d_a(fake_b), True) + self.square(self.d_b(fake_a), True)
        return [adversarial, 10 * cycle, 5 * identity], fake_b, fake_a

    def judged(self, d: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return (self.square(d(real), True) + self.square(d(fake), False)) / 2

    def step(self, a: Tensor, b: Tensor) -> None:
        let(False, self.d_a, self.d_b)
        own, fake_b, fake_a = self.losses(self.g_a, a, b)
        if self.compressing:
            own.append(self.judged(self.d_a, b, fake_b) + self.judged(self.d_b, a, fake_a))
            with torch.no_grad():
                original, wanted_b, wanted_a = self.losses(self.teacher, a, b)
                original.append(self.judged(self.d_a, b, wanted_b) + self.judged(self.d_b, a, wanted_a))
            weights = (1, 10, 5, 0.5 * 0.5)
            total: Any = sum(w * relative(x, y) for w, x, y in zip(weights, original, own, strict=True))
        else:
            total = sum(own)
        self.g_optimizer.zero_grad()
        total.backward()
        self.g_optimizer.step()
        if self.d_optimizer is not None:
            let(True, self.d_a, self.d_b)
            self.d_optimizer.zero_grad()
            self.judged(self.d_a, b, self.pools[0].query(fake_b)).backward()
            self.judged(self.d_b, a, self.pools[1].query(fake_a)).backward()
            self.d_optimizer.step()
        average(self.average, self.g_a)


@torch.no_grad()
def average(averaged: nn.Module, network: nn.Module) -> None:
    for mine, its in zip(averaged.parameters(), network.parameters(), strict=True):
        mine.lerp_(its, 0.001)
    for mine, its in zip(averaged.buffers(), network.buffers(), strict=True):
        mine.copy_(its)
