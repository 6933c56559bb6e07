"""The loop of image translation against loops written out from the baselines' descriptions; who learns; resuming."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from limbeck.architectures import stargan
from limbeck.architectures.patchgan import PatchGAN
from limbeck.architectures.translation_resnet import ResNet
from limbeck.callbacks.checkpoint import Checkpoint
from limbeck.distillation.agp import GradualPruning
from limbeck.distillation.discriminators import Fresh, FromTeacher, NoJudges
from limbeck.distillation.image_pool import ImagePool
from limbeck.distillation.translation import TranslationDistillation
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.adversarial import (
    LeastSquaresDiscriminator,
    LeastSquaresGenerator,
    NonSaturatingDiscriminator,
    NonSaturatingGenerator,
    WassersteinDiscriminator,
    WassersteinGenerator,
)
from limbeck.losses.pixel_l1 import PixelL1
from limbeck.losses.regularization import GradientPenalty
from limbeck.losses.self_supervised import SelfSupervised
from limbeck.losses.translation import Cycle, Domain, Identity, RealDomain, Target
from limbeck.losses.weighted import Weighted
from limbeck.model import Model, Pair

from .training import same, state

pl = imported("pytorch_lightning")
SIDE, BATCH = 16, 4


def translator(**changes):
    return ResNet(**({"resolution": SIDE, "width": 2, "num_blocks": 1} | changes))


def patches(**changes):
    return PatchGAN(**({"resolution": SIDE, "width": 2, "num_layers": 1} | changes))


def pix2pix():
    return Model(translator(norm="batch", dropout=0.5), patches(in_channels=6, norm="batch"))


def cyclegan():
    return Model(translator(), patches(), reverse=Model(translator(), patches()))


def labelled():
    judge = stargan.Discriminator(resolution=SIDE, num_classes=2, width=2, num_layers=2)
    return Model(stargan.Generator(resolution=SIDE, num_classes=2, width=2, num_blocks=1), judge)


def examples(index, labels=False):
    """One batch: images, labels, and for translations with two kinds of images their sources."""
    numbers = torch.Generator().manual_seed(index)
    images = [
        torch.randint(256, (BATCH, 3, SIDE, SIDE), generator=numbers).to(torch.uint8) for _ in range(1 if labels else 2)
    ]
    return images[0], torch.randint(2, (BATCH,), generator=numbers), *images[1:]


class Batches(IterableDataset):
    def __init__(self, labels, start):
        self.labels, self.start = labels, start

    def __iter__(self):
        index = self.start
        if not index:
            torch.manual_seed(0)  # here, because making a loader draws a number
        while True:
            yield examples(index, self.labels)
            index += 1


def terms(**named):
    return {name: Weighted(term=term, weight=weight) for name, (weight, term) in named.items()}


GENERATORS = {
    "pix2pix": lambda: terms(adversarial=(1.0, NonSaturatingGenerator()), target=(100.0, Target())),
    "cyclegan": lambda: terms(
        adversarial=(1.0, LeastSquaresGenerator()), cycle=(10.0, Cycle()), identity=(5.0, Identity())
    ),
    "stargan": lambda: terms(adversarial=(1.0, WassersteinGenerator()), domain=(1.0, Domain()), cycle=(10.0, Cycle())),
}
DISCRIMINATORS = {
    "pix2pix": lambda: terms(adversarial=(0.5, NonSaturatingDiscriminator())),
    "cyclegan": lambda: terms(adversarial=(0.5, LeastSquaresDiscriminator())),
    "stargan": lambda: terms(
        adversarial=(1.0, WassersteinDiscriminator()),
        domain=(1.0, RealDomain()),
        gradient_penalty=(10.0, GradientPenalty()),
    ),
}
MODELS = {"pix2pix": pix2pix, "cyclegan": cyclegan, "stargan": labelled}
SETTINGS = {
    "pix2pix": {"first": "discriminator"},
    "cyclegan": {"reverse_judges": FromTeacher(), "pool_size": 2 * BATCH},
    "stargan": {"first": "discriminator", "generator_every": 2},
}


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=1e-3)


def built(baseline, model, *, steps=3, judges=None, pair=None, **settings):
    """The module, not trained."""
    pair = pair or Pair(model, model)
    settings = {
        "generator_terms": GENERATORS[baseline](),
        "discriminator_terms": DISCRIMINATORS[baseline](),
        **settings,
    }
    return TranslationDistillation(
        pair,
        judges=(judges or FromTeacher())(pair),
        generator_optimizer=sgd,
        discriminator_optimizer=sgd if settings["discriminator_terms"] else None,
        kimg=steps * BATCH / 1000,
        batch_size=BATCH,
        **(SETTINGS[baseline] | settings),
    )


def trained(baseline, model, *, callbacks=(), resume=(None, 0), **settings):
    """Train in the real loop; returns the module. resume: (checkpoint, number of steps it has seen)."""
    module = built(baseline, model, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on loops it does not know
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_epochs=-1, max_steps=-1, logger=False, callbacks=list(callbacks),
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        loader = DataLoader(Batches(baseline == "stargan", resume[1]), batch_size=None)
        trainer.fit(module, loader, ckpt_path=resume[0], weights_only=True)
    return module


def scaled(image):
    return image.float() / 127.5 - 1


def ready(*networks):
    return [copy.deepcopy(network).train() for network in networks]


def descend(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def bce(logits, value):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, value))


def mse(logits, value):
    return F.mse_loss(logits, torch.full_like(logits, value))


def pix2pix_loop(model, steps):
    g, d = ready(model.generator, model.discriminator)
    g_optimizer, d_optimizer = sgd(g.parameters()), sgd(d.parameters())
    torch.manual_seed(0)
    for index in range(steps):
        b, _, a = examples(index)
        a, b = scaled(a), scaled(b)
        fake = g(a)
        pair = torch.cat([a, fake], dim=1)
        descend(d_optimizer, (bce(d(pair.detach()), 0.0) + bce(d(torch.cat([a, b], dim=1)), 1.0)) / 2)
        descend(g_optimizer, bce(d(pair), 1.0) + 100 * (fake - b).abs().mean())
    return [g, d]


def cyclegan_loop(model, steps):
    g_a, d_a, g_b, d_b = ready(
        model.generator, model.discriminator, model.reverse.generator, model.reverse.discriminator
    )
    g_optimizer = sgd([*g_a.parameters(), *g_b.parameters()])
    d_optimizer = sgd([*d_a.parameters(), *d_b.parameters()])
    pools = {d_a: [], d_b: []}

    def pooled(d, fakes):
        shown = []
        for fake in fakes.detach():
            if len(pools[d]) < 2 * BATCH:
                pools[d].append(fake)
                shown.append(fake)
            elif torch.rand(()) < 0.5:
                shown.append(fake)
            else:
                place = torch.randint(2 * BATCH, ()).item()
                shown.append(pools[d][place])
                pools[d][place] = fake
        return torch.stack(shown)

    torch.manual_seed(0)
    for index in range(steps):
        b, _, a = examples(index)
        a, b = scaled(a), scaled(b)
        fake_b, fake_a = g_a(a), g_b(b)
        cycle = (g_b(fake_b) - a).abs().mean() + (g_a(fake_a) - b).abs().mean()
        identity = (g_a(b) - b).abs().mean() + (g_b(a) - a).abs().mean()
        descend(g_optimizer, mse(d_a(fake_b), 1.0) + mse(d_b(fake_a), 1.0) + 10 * cycle + 5 * identity)
        total = 0
        for d, fake, real in ((d_a, fake_b, b), (d_b, fake_a, a)):
            total = total + (mse(d(real), 1.0) + mse(d(pooled(d, fake)), 0.0)) / 2
        descend(d_optimizer, total)
    return [g_a, d_a, g_b, d_b]


def stargan_loop(model, steps):
    g, d = ready(model.generator, model.discriminator)
    g_optimizer, d_optimizer = sgd(g.parameters()), sgd(d.parameters())
    torch.manual_seed(0)
    for index in range(steps):
        x, label = examples(index, labels=True)
        x, own = scaled(x), F.one_hot(label, 2).float()
        told = own[torch.randperm(BATCH)]
        fake = g(x, told).detach()
        realness, classes = d(x)
        class_loss = F.binary_cross_entropy_with_logits(classes, own, reduction="sum") / BATCH
        share = torch.rand(BATCH, 1, 1, 1)
        place = (share * x + (1 - share) * fake).requires_grad_(True)
        slope = torch.autograd.grad(d(place)[0].sum(), place, create_graph=True)[0].reshape(BATCH, -1)
        penalty = ((slope.square().sum(dim=1).sqrt() - 1) ** 2).mean()
        descend(d_optimizer, -realness.mean() + d(fake)[0].mean() + class_loss + 10 * penalty)
        if (index + 1) % 2 == 0:
            fake = g(x, told)
            realness, classes = d(fake)
            class_loss = F.binary_cross_entropy_with_logits(classes, told, reduction="sum") / BATCH
            descend(g_optimizer, -realness.mean() + class_loss + 10 * (g(fake, own) - x).abs().mean())
    return [g, d]


LOOPS = {"pix2pix": pix2pix_loop, "cyclegan": cyclegan_loop, "stargan": stargan_loop}


@pytest.mark.parametrize("baseline", LOOPS)
def test_the_loop_is_the_baseline_s(baseline):
    model = MODELS[baseline]()
    expected = LOOPS[baseline](model, 4)
    module = trained(baseline, model, steps=4)
    found = [module.student, module.judges["teacher"]]
    if module.reverse is not None:
        found += [module.reverse, module.reverse_judges["teacher"]]
    for own, other, start in zip(found, expected, [model.generator, model.discriminator] * 2, strict=False):
        assert len(found) == len(expected)
        for (name, value), reference in zip(own.state_dict().items(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
        assert not same(state(own), state(start))


def test_both_generators_learn_in_one_step_and_the_other_direction_is_kept():
    model = cyclegan()
    module = trained("cyclegan", model, steps=1)
    assert len(module.own_optimizers()) == 2
    assert not same(state(module.student), state(model.generator))
    assert not same(state(module.reverse), state(model.reverse.generator))
    result = module.final_reverse()
    assert same(state(result.generator), state(module.reverse))
    assert same(state(result.discriminator), state(module.reverse_judges["teacher"]))
    assert same(state(module.final_judge()), state(module.judges["teacher"]))


def test_one_direction_alone_leaves_the_other_as_it_is():
    model = cyclegan()
    only = terms(adversarial=(1.0, LeastSquaresGenerator()))
    module = trained("cyclegan", model, steps=1, reverse_judges=None, generator_terms=only)
    assert module.reverse is None
    assert module.final_reverse() is model.reverse


def test_a_student_learns_from_its_teacher_s_images_alone():
    model = cyclegan()
    student = Model(translator(width=1), patches(), reverse=model.reverse)
    pair, before = Pair(model, student), state(model.generator)
    module = trained(
        "cyclegan", model, pair=pair, judges=NoJudges(), reverse_judges=None,
        generator_terms=terms(pixel_l1=(1.0, PixelL1())), discriminator_terms={},
    )  # fmt: skip
    assert same(before, state(model.generator))
    assert not same(state(module.student), state(student.generator))
    assert same(state(module.final_judge()), state(student.discriminator))


def test_a_frozen_judge_only_judges():
    model = pix2pix()
    module = trained("pix2pix", model, judges=FromTeacher(frozen=True), discriminator_terms=DISCRIMINATORS["pix2pix"]())
    assert isinstance(module.judges["teacher"], Frozen)
    assert same(state(module.judges["teacher"].network), state(model.discriminator))


@pytest.mark.parametrize("baseline", LOOPS)
def test_a_resumed_run_goes_on_bit_for_bit(baseline, tmp_path):
    model = MODELS[baseline]()
    whole = trained(baseline, model, steps=6)
    trained(baseline, model, steps=3, callbacks=[Checkpoint(tmp_path, every_kimg=1)])
    resumed = trained(
        baseline, model, steps=6, callbacks=[Checkpoint(tmp_path, every_kimg=1)], resume=(tmp_path / "last.ckpt", 3)
    )
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_micro_batches_give_the_whole_batch_s_step():
    model = Model(translator(), patches())
    settings = {
        "reverse_judges": None, "pool_size": 0, "generator_terms": terms(
            adversarial=(1.0, LeastSquaresGenerator()), target=(1.0, Target())
        )
    }  # fmt: skip
    whole = trained("cyclegan", model, **settings)
    parts = trained("cyclegan", model, micro_batch_size=3, **settings)
    for name, value in whole.student.state_dict().items():
        torch.testing.assert_close(parts.student.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_the_pool_returns_new_images_until_it_is_full_and_then_each_second_one():
    pool, images = ImagePool(50), torch.arange(2050.0).reshape(-1, 1, 1, 1)
    assert torch.equal(pool(images[:50]), images[:50])
    returned = torch.cat([pool(image[None]) for image in images[50:]]).flatten()
    fresh = (returned == images[50:].flatten()).float().mean().item()
    assert abs(fresh - 0.5) < 0.05
    older = returned[returned != images[50:].flatten()]
    assert len(older.unique()) == len(older)  # what was handed out is gone
    assert ImagePool(0)(images) is images


def test_every_process_finds_its_own_pool_again(monkeypatch):
    saved, (module, other) = {}, (built("cyclegan", cyclegan(), pool_size=2) for _ in range(2))
    for number, (mine, theirs) in enumerate(zip(module.pools, other.pools, strict=True)):
        mine(torch.full((2, 1, 1, 1), 1.0 + number))
        theirs(torch.full((2, 1, 1, 1), 5.0 + number))
    both = [[pool.images for pool in one.pools] for one in (module, other)]
    monkeypatch.setattr("limbeck.distillation.translation.gathered", lambda own: [own, both[1]])
    module.on_save_checkpoint(saved)
    for place, first in ((0, 1.0), (1, 5.0), (2, None)):
        monkeypatch.setattr("limbeck.distillation.translation.rank", lambda place=place: place)
        fresh = built("cyclegan", cyclegan(), pool_size=2)
        fresh.on_load_checkpoint(saved)
        found = [[float(image) for image in pool.images] for pool in fresh.pools]
        assert found == ([[], []] if first is None else [[first] * 2, [first + 1] * 2])


def test_terms_begin_when_they_are_told_to():
    """By the distance alone for two steps, then by the judge too, who takes no turn before."""
    model = pix2pix()

    def terms(kind, start):
        return {"adversarial": Weighted(term=kind(), start_kimg=start)}

    late = {"target": Weighted(term=Target())} | terms(NonSaturatingGenerator, 2 * BATCH / 1000)
    judging = terms(NonSaturatingDiscriminator, 2 * BATCH / 1000)
    begun = {
        steps: trained("pix2pix", model, steps=steps, generator_terms=late, discriminator_terms=judging)
        for steps in (2, 3)
    }
    alone = {"target": Weighted(term=Target())}
    plain = trained("pix2pix", model, steps=2, generator_terms=alone, discriminator_terms={}, judges=NoJudges())
    assert same(state(begun[2].student), state(plain.student))
    assert same(state(begun[2].judges["teacher"]), state(model.discriminator))
    assert not same(state(begun[3].judges["teacher"]), state(model.discriminator))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first": "both"}, "distillation.first='both'"),
        ({"pool_size": -1}, "distillation.pool_size=-1"),
        ({"generator_every": 0}, "distillation.generator_every=0"),
        (
            {"judges": NoJudges(), "discriminator_terms": {}},
            "discriminator=none: loss/generator 'adversarial' needs one",
        ),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        trained("cyclegan", cyclegan(), **settings)


def test_networks_that_draw_from_noise_are_refused():
    class Other(nn.Module):
        draws_from = "noise"

    model = Model(Other(), patches())
    with pytest.raises(UserError, match="distillation=translation: trains networks that translate images, not a Other"):
        trained("cyclegan", model, judges=Fresh())


@pytest.mark.parametrize("baseline", LOOPS)
def test_self_supervision_with_gradual_masks(baseline):
    """What "Self-Supervised GAN Compression" does to each baseline: half of each layer's weights off, for good."""
    model = MODELS[baseline]()
    judging = {name: some for name, some in DISCRIMINATORS[baseline]().items() if not isinstance(some.term, RealDomain)}
    term = SelfSupervised(generator=GENERATORS[baseline](), discriminator=judging)
    module = trained(
        baseline,
        model,
        steps=6,
        judges=FromTeacher(frozen=True),
        generator_terms={"self_supervised": Weighted(term=term)},
        companions={"agp": GradualPruning(target=0.5, num_updates=2)},
    )
    off = {name: (~mask).float().mean().item() for name, mask in module.masks.current().items()}
    assert off
    assert all(abs(share - 0.5) <= 1 / 8 for share in off.values()), off
    for name, mask in module.masks.current().items():
        for network in (module.student, module.ema):
            assert (network.get_parameter(name)[~mask] == 0).all()
    assert not same(state(module.student), state(model.generator))
