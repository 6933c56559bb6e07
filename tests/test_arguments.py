"""The public Python functions refuse wrong arguments in one line that names them, and take all right ones."""

from functools import cache

import numpy as np
import pytest
import torch

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Discriminator, Generator

SMALL = {"resolution": 8, "widths": [4, 4, 4, 4], "z_dim": 8, "w_dim": 8, "mapping_depth": 1}


@cache
def classes():
    judge = Discriminator(resolution=8, widths=[4, 4], num_classes=3, mapping_depth=1)
    return limbeck.Model(Generator(**SMALL, num_classes=3).eval(), judge.eval())


@cache
def plain():
    return limbeck.Model(Generator(**SMALL).eval())


@cache
def denoiser():
    return limbeck.Model(
        UNet(resolution=8, level_widths=[8, 8], blocks_per_level=1, norm_groups=4, attention_levels=[])
    )


def sampled(**arguments):
    return lambda: limbeck.sample(classes(), **({"n": 2} | arguments))


def denoised(**arguments):
    return lambda: limbeck.sample(denoiser(), 2, **({"steps": 2} | arguments))


def ddim(**arguments):
    settings = {"timesteps": [1, 3], "alpha_bar": torch.full((5,), 0.5)} | arguments
    return lambda: limbeck.functional.diffusion.ddim(lambda image, _: image, torch.zeros(1, 3, 4, 4), **settings)


def test_one_class_for_all_is_that_class_each_time():
    wanted = limbeck.sample(classes(), 4, label=torch.tensor([1, 1, 1, 1]))
    for label in (1, np.int64(1), torch.tensor(1), [1, 1, 1, 1], np.ones(4, dtype=np.int64), torch.eye(3)[[1] * 4]):
        assert torch.equal(limbeck.sample(classes(), 4, label=label), wanted)
    assert not torch.equal(limbeck.sample(classes(), 4, label=2), wanted)
    assert limbeck.sample(classes(), np.int64(2), seed=-3, batch_size=1).shape == (2, 3, 8, 8)


# Where the test run checks types by itself (functional, pruning) values of another class do not get as far as ours.
WRONG = {
    "label=7": (sampled(label=7), r"label: classes from 7 to 7, expected class indices in 0\.\.2"),
    "label=-1": (sampled(label=-1), r"label: classes from -1 to -1"),
    "one label": (sampled(label=[1]), r"label: shape \(1,\), expected \[2\] or \[2, 3\], or one class"),
    "three labels": (sampled(label=torch.tensor([0, 1, 2])), r"label: shape \(3,\), expected"),
    "rows": (sampled(label=torch.ones(2, 4)), r"label: shape \(2, 4\), expected"),
    "label='cat'": (sampled(label="cat"), r"label='cat': must be class indices"),
    "fractions": (sampled(label=[0.5, 1]), r"label: numbers of type torch\.float32, expected class indices"),
    "switches": (sampled(label=True), r"label: numbers of type torch\.bool"),
    "no classes": (lambda: limbeck.sample(plain(), 2, label=1), "label: this network draws no classes"),
    "n=0": (sampled(n=0), "n=0: must be at least 1"),
    "n=2.5": (sampled(n=2.5), r"n=2\.5: must be a whole number, at least 1"),
    "n='4'": (sampled(n="4"), "n='4': must be a whole number"),
    "n=True": (sampled(n=True), "n=True: must be a whole number"),
    "seed": (sampled(seed=1.5), r"seed=1\.5: must be a whole number$"),
    "batch_size": (sampled(batch_size=0), "batch_size=0: must be at least 1"),
    "noise": (sampled(noise="loud"), "noise='loud': must be one of random, const, none"),
    "truncation": (sampled(truncation=float("nan")), "truncation=nan: must be a finite number"),
    "truncation text": (sampled(truncation="x"), "truncation='x': must be a finite number"),
    "model": (lambda: limbeck.sample(plain().generator, 2), "model: Generator, must be a Model"),
    "data": (sampled(data="x"), "data: str, must be a set of images"),
    "steps=0": (denoised(steps=0), "steps=0: must be at least 1"),
    "steps=1001": (denoised(steps=1001), "steps=1001: must be from 1 to 1000"),
    "steps=2.5": (denoised(steps=2.5), r"steps=2\.5: must be a whole number"),
    "grid": (denoised(grid="even"), "grid='even': must be one of uniform, quadratic"),
    "eta": (denoised(eta=-1), r"eta=-1: must be a finite number in \[0, 1\]"),
    "clip_sample": (denoised(clip_sample="no"), "clip_sample='no': must be True or False"),
    "no steps": (lambda: limbeck.functional.diffusion.time_grid(5, num_train_steps=0), "num_train_steps=0: must be"),
    "ddim eta": (ddim(eta=2), "eta=2: must be a finite number"),
    "ddim order": (ddim(timesteps=[3, 1]), "timesteps: must ascend"),
    "ddim share": (ddim(alpha_bar=torch.full((5,), 1.5)), r"alpha_bar: from 1\.5 to 1\.5, must lie in \[0, 1\]"),
    "timestep": (lambda: denoiser().generator(torch.zeros(1, 3, 8, 8), 1000), r"timestep=1000: must be in 0\.\.999"),
    "labels": (
        lambda: classes().generator(torch.zeros(2, 8), label=torch.tensor([1])),
        "label: 1 of them, expected one for each of 2 latents",
    ),
    "judged labels": (
        lambda: classes().discriminator(torch.zeros(2, 3, 8, 8), torch.tensor([1])),
        "label: 1 of them, expected one for each of 2 images",
    ),
    "load": (lambda: limbeck.load(None), "path=None: must be the path of a file or folder"),
    "load second": (lambda: limbeck.load("a", discriminator=3), "discriminator=3: must be the path"),
    "save": (lambda: limbeck.save(plain().generator, "a"), "model: Generator, must be a Model"),
    "save dtype": (lambda: limbeck.save(plain(), "a", dtype="half"), "dtype='half': must be a floating-point type"),
    "profile": (lambda: limbeck.profile(plain()), "network: Model, must be a network"),
    "svs": (lambda: limbeck.initializers.svs(plain().generator), "student: Generator, must be a Model"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name):
    call, message = WRONG[name]
    with pytest.raises(limbeck.UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
