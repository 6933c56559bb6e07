"""RoboHash: the same pictures as pasting full-size parts, all combinations once, held-out pictures apart."""

import copy
import hashlib
import importlib.util
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data.robohash import RoboHash, over, shrunk
from limbeck.errors import UserError

SETS = {"cats": "set4", "robots": "set3"}
NUM_PARTS = {"cats": (15, 9, 15, 10, 16), "robots": (90, 1, 10, 12, 12, 11, 9)}  # two of the ten furs are equal
NUM_TOTAL = {kind: math.prod(sizes) for kind, sizes in NUM_PARTS.items()}


@pytest.fixture(scope="module")
def sources() -> dict[str, RoboHash]:
    return {kind: RoboHash(kind=kind, resolution=32) for kind in SETS}


def part_files(kind: str) -> list[list[Path]]:
    folder = Path(importlib.util.find_spec("robohash").submodule_search_locations[0]) / "sets" / SETS[kind]
    layers = sorted(folder.iterdir(), key=lambda path: path.name.split("#")[1])
    return [_without_repetitions(sorted(layer.iterdir())) for layer in layers]


def _without_repetitions(files: list[Path]) -> list[Path]:
    """Of files with equal pixels the first one."""
    first = {}
    for path in files:
        first.setdefault(Image.open(path).convert("RGBA").tobytes(), path)
    return list(first.values())


def pasted(kind: str, combination: int, resolution: int) -> np.ndarray:
    """The picture by Pillow alone: parts pasted at full size, then shrunk."""
    files, digits = part_files(kind), []
    for layer in reversed(files):
        combination, digit = divmod(combination, len(layer))
        digits.insert(0, digit)
    parts = [Image.open(layer[digit]).convert("RGBA") for layer, digit in zip(files, digits, strict=True)]
    picture = Image.new("RGBA", parts[0].size, "white")
    for part in parts:
        picture = Image.alpha_composite(picture, part)
    return np.asarray(picture.convert("RGB").resize((resolution, resolution), Image.Resampling.BOX)).transpose(2, 0, 1)


@pytest.mark.parametrize("resolution", [32, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", SETS)
def test_images_are_those_of_pasting_at_full_size(sources, kind, resolution):
    images = (sources[kind] if resolution == 32 else RoboHash(kind=kind, resolution=resolution)).train()
    indices = np.array([0, 1, 5, 1000, 77_777, 300_000])
    batch, labels = images.batch(indices)
    expected = np.stack([pasted(kind, number, resolution) for number in images.combinations(indices)])
    error = np.abs(batch.numpy().astype(int) - expected)
    # Shrinking before pasting differs only where the edges of two parts cross one pixel.
    assert error.mean() < 0.5
    assert np.mean(error > 4) < 0.03
    # The bounds tell a wrong layer order or wrong parts: against other images the mean is tens of levels.
    assert np.abs(batch.roll(1, 0).numpy().astype(int) - expected).mean() > 10
    assert labels.tolist() == [0] * 6
    assert labels.dtype == torch.int64


def test_facts_and_item(sources):
    facts = sources["cats"].open()
    assert (facts.resolution, facts.num_channels, facts.num_classes) == (32, 3, 0)
    assert facts.num_images == len(sources["cats"].train()) == NUM_TOTAL["cats"] * 19 // 20
    image, label = sources["cats"].train()[7]
    assert image.dtype == torch.uint8
    assert image.shape == (3, 32, 32)
    assert label == 0
    with pytest.raises(IndexError):
        sources["cats"].train()[facts.num_images]


def test_combinations_are_each_in_exactly_one_part(sources):
    train, heldout = sources["cats"].train(), sources["cats"].heldout()
    numbers = [images.combinations(np.arange(len(images))) for images in (train, heldout)]
    assert np.bincount(np.concatenate(numbers)).tolist() == [1] * NUM_TOTAL["cats"]
    assert len(heldout) == NUM_TOTAL["cats"] // 20


def fingerprints(images, indices: np.ndarray) -> np.ndarray:
    """64 bits of each image's bytes, eight bytes a word; equal pictures have equal ones."""
    length = images.layers[0][0][0].size // 8
    weights = np.random.default_rng(0).integers(2**63, size=length, dtype=np.uint64) | np.uint64(1)
    found = []
    for part in np.array_split(indices, max(1, len(indices) // 4096)):
        words = images.batch(part)[0].numpy().reshape(len(part), -1).view(np.uint64)
        # The shift brings high bits down, where a product with an odd number never takes them.
        found.append((words ^ (words >> np.uint64(29))) @ weights)
    return np.concatenate(found)


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [32, 64])
def test_no_held_out_cat_is_in_the_training_set(resolution):
    source = RoboHash(kind="cats", resolution=resolution)
    train, heldout = (fingerprints(images, np.arange(len(images))) for images in (source.train(), source.heldout()))
    assert not np.isin(heldout, train).any()
    # The check can fail: pictures do repeat, inside each part of the split.
    assert len(np.unique(train)) < len(train)


def telling_pixels(parts: list[np.ndarray], per_layer: int = 16) -> np.ndarray:
    """Pixels, numbered row by row, in which the parts of each layer differ most, none next to another of its layer."""
    resolution, chosen = parts[0].shape[-1], set()
    for layer in (layer for layer in parts if len(layer) > 1):
        taken = []
        for pixel in np.argsort(-layer.var(0).sum(0).ravel()):
            place = np.array(divmod(pixel, resolution))
            if all(np.abs(place - other).max() > resolution // 32 for other in taken):
                taken.append(place)
            if len(taken) == per_layer:
                break
        chosen |= {int(y * resolution + x) for y, x in taken}
    return np.array(sorted(chosen))[: len(chosen) // 8 * 8]


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [32, 64])
def test_no_held_out_robot_is_in_the_training_set(resolution):
    """All 1.3e7 robots by some 70 pixels: robots that differ there differ."""
    source = RoboHash(kind="robots", resolution=resolution)
    train, heldout, pixels = source.train(), source.heldout(), telling_pixels(source.parts)
    for images in (train, heldout):
        images.layers = [
            tuple(np.ascontiguousarray(x.reshape(*x.shape[:2], 1, -1)[..., pixels]) for x in layer)
            for layer in images.layers
        ]
    seen, apart = (fingerprints(images, np.arange(len(images))) for images in (train, heldout))
    assert not np.isin(apart, seen).any()


def test_parts_that_may_be_covered_do_not_decide_the_split(sources):
    """Accessories 0 and 7 hide the mouth: their cats with any mouth are on one side."""
    train, heldout = sources["cats"].train(), sources["cats"].heldout()
    families = [
        {tuple(row) for row in np.delete(np.stack(images.digits(np.arange(len(images))), 1), 3, axis=1).tolist()}
        for images in (train, heldout)
    ]
    assert not families[0] & families[1]
    assert len(families[1]) * 10 == len(heldout)


def test_robots_held_out_are_never_trained_on(sources):
    train, heldout = sources["robots"].train(), sources["robots"].heldout()
    assert len(train) + len(heldout) == NUM_TOTAL["robots"]
    rng = np.random.default_rng(0)
    seen = train.combinations(rng.integers(len(train), size=100_000))
    kept_apart = heldout.combinations(np.arange(0, len(heldout), 7))
    assert not np.intersect1d(seen, kept_apart).size
    assert np.unique(kept_apart).size == kept_apart.size


@pytest.mark.parametrize("num_images", [None, 5000])
def test_heldout_set_has_every_part_as_often_as_the_training_set(sources, num_images):
    """Its beginning too, which is what protocols refer to."""
    heldout = sources["cats"].heldout()
    digits = np.unravel_index(heldout.combinations(np.arange(num_images or len(heldout))), NUM_PARTS["cats"])
    for digit, size in zip(digits, NUM_PARTS["cats"], strict=True):
        share = np.bincount(digit, minlength=size) * size / len(digit)
        assert np.abs(share - 1).max() < 0.3


def test_the_split_does_not_change_between_versions(sources):
    numbers = sources["cats"].heldout().combinations(np.arange(1000))
    assert hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()[:16] == "c13457eb64df5837"


def test_mirror_doubles_the_training_set_only(sources):
    source = copy.copy(sources["cats"])
    source.mirror = True
    plain = len(source.heldout()) * 19
    assert len(source.train()) == 2 * plain
    images, _ = source.train().batch(np.array([3, 3 + plain]))
    assert torch.equal(images[1], images[0].flip(-1))
    assert not torch.equal(images[1], images[0])


def test_big_batches_equal_single_images(sources):
    images = sources["cats"].train()
    indices = np.arange(200)
    singly = torch.stack([images[i][0] for i in range(200)])
    assert torch.equal(images.batch(indices)[0], singly)
    assert all(
        torch.equal(image, one) for (image, _), one in zip(images.__getitems__([4, 2]), singly[[4, 2]], strict=True)
    )


def test_digest_names_the_recipe(sources):
    again = RoboHash(kind="cats", resolution=32, mirror=True)
    digests = {sources["cats"].digest(), sources["robots"].digest(), RoboHash(kind="cats", resolution=64).digest()}
    assert len(digests) == 3
    assert again.digest() == sources["cats"].digest()


def test_source_travels_to_other_processes(sources):
    received = pickle.loads(pickle.dumps(sources["cats"]))
    assert torch.equal(received.train()[0][0], sources["cats"].train()[0][0])


@pytest.mark.parametrize(("kind", "resolution", "named"), [("dogs", 32, "cats, robots"), ("cats", 33, "32, 64")])
def test_unknown_choices_are_refused_when_opened(kind, resolution, named):
    source = RoboHash(kind=kind, resolution=resolution)
    with pytest.raises(UserError, match=named):
        source.open()


def test_over_by_hand():
    white = np.array([255.0, 255.0, 255.0, 0.0])[:, None, None]
    half_red = np.array([127.5, 0.0, 0.0, 0.5])[:, None, None]
    assert over(white, half_red).flatten().tolist() == [255.0, 127.5, 127.5, 0.0]


def test_over_is_associative():
    a, b, c = np.random.default_rng(0).random((3, 4, 5, 5))
    np.testing.assert_allclose(over(over(a, b), c), over(a, over(b, c)))


def test_shrinking_does_not_let_hidden_colors_through():
    # Left half opaque blue, right half fully transparent but green underneath: one pixel of half-covering pure blue.
    picture = Image.new("RGBA", (2, 2), (0, 0, 255, 255))
    picture.putpixel((1, 0), (0, 255, 0, 0))
    picture.putpixel((1, 1), (0, 255, 0, 0))
    assert shrunk(picture, 1).flatten().tolist() == [0.0, 0.0, 127.5, 0.5]
