"""Sets for networks that translate images, from folders and zip archives: what is cut where, and what is told apart."""

import io
import random
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data.loading import train_loader
from limbeck.data.translation.aligned import Aligned
from limbeck.data.translation.attributes import Attributes, target_labels
from limbeck.data.translation.crops import VARIANTS, Cuts
from limbeck.data.translation.downscaled import Downscaled
from limbeck.data.translation.unaligned import Unaligned
from limbeck.errors import UserError
from limbeck.functional.resampling import reduced


def picture(seed, size=(12, 12)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def array(image):
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


@pytest.fixture(params=["folder", "zip"])
def placed(request, tmp_path):
    """Writes named contents and returns the path to give to a set."""

    def write(files):
        if request.param == "folder":
            for name, content in files.items():
                (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "set" / name).write_bytes(content)
            return tmp_path / "set"
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"top/{name}", content)
        return tmp_path / "set.zip"

    return write


def pair_files(num=3):
    return {
        f"{part}/{i}.png": encoded(picture(i + shift, (24, 12)))
        for part, shift in (("train", 0), ("test", 50))
        for i in range(num)
    }


def test_aligned_tests_are_whole_halves(placed):
    path = placed(pair_files())
    source = Aligned(path=path, load_size=12, resolution=12)
    assert source.open().num_images == 3
    whole = picture(51, (24, 12))
    left, right = whole.crop((0, 0, 12, 12)), whole.crop((12, 0, 24, 12))
    assert torch.equal(source.sources()[1][0], array(left))
    assert torch.equal(source.heldout()[1][0], array(right))
    assert torch.equal(source.targets()[1][0], array(right))
    swapped = Aligned(path=path, load_size=12, resolution=12, direction="BtoA")
    assert torch.equal(swapped.sources()[1][0], array(right))
    assert source.digest() != swapped.digest()
    small = Aligned(path=path, load_size=12, resolution=8)
    assert torch.equal(small.sources()[1][0], array(left.resize((8, 8), Image.Resampling.BICUBIC)))


def test_aligned_halves_are_cut_in_the_same_place(placed):
    train = Aligned(path=placed(pair_files(1)), load_size=16, resolution=12).train()
    assert len(train) == VARIANTS
    target, label, source = train.batch(np.arange(VARIANTS))
    assert label.tolist() == [0] * VARIANTS
    whole = picture(0, (24, 12))
    halves = [whole.crop((x, 0, x + 12, 12)).resize((16, 16), Image.Resampling.BICUBIC) for x in (0, 12)]
    seen = set()
    for index in range(VARIANTS):
        for left, top, flip in ((x, y, f) for x in range(5) for y in range(5) for f in (0, 1)):
            cut = [array(half)[:, top : top + 12, left : left + 12] for half in halves]
            cut = [half.flip(-1) if flip else half for half in cut]
            if torch.equal(source[index], cut[0]):
                assert torch.equal(target[index], cut[1])
                seen.add((left, top, flip))
                break
        else:
            raise AssertionError(f"item {index} is no cut of its file")
    assert len(seen) > 45  # of 50 places
    again = train.batch(np.array([7]))
    assert torch.equal(again[0][0], target[7])


def test_places_are_even():
    cuts = Cuts(286, 256, mirror=True)
    places = cuts.places(np.arange(31_000))
    for axis in (0, 1):
        counts = np.bincount(places[:, axis], minlength=31)
        assert len(counts) == 31
        assert 800 < counts.min() <= counts.max() < 1200  # 1000 each, standard deviation 31
    assert abs(places[:, 2].mean() - 0.5) < 0.02
    assert abs(np.corrcoef(places.T)[np.triu_indices(3, 1)]).max() < 0.03
    assert not Cuts(286, 256, mirror=False).places(np.arange(100))[:, 2].any()


def domain_files(num_a=2, num_b=3):
    counts = {"trainA": num_a, "trainB": num_b, "testA": 2, "testB": 2}
    parts = [(part, 100 * n, num) for n, (part, num) in enumerate(counts.items())]
    return {f"{part}/{i}.png": encoded(picture(seed + i)) for part, seed, num in parts for i in range(num)}


def test_unaligned_takes_sources_in_turn_and_targets_at_random(placed):
    path = placed(domain_files())
    source = Unaligned(path=path, load_size=12, resolution=12, mirror=False)
    assert source.open().num_images == 3
    assert len(source.train()) == 3 * VARIANTS
    targets, _, sources = source.train().batch(np.arange(300))
    for index in range(300):
        assert torch.equal(sources[index], array(picture(index % 2)))
    known = [array(picture(100 + i)) for i in range(3)]
    chosen = [next(i for i, image in enumerate(known) if torch.equal(image, target)) for target in targets]
    assert min(chosen.count(i) for i in range(3)) > 70  # 100 each, standard deviation 8
    pairs = {(index % 2, i) for index, i in enumerate(chosen)}
    assert len(pairs) == 6
    assert torch.equal(source.sources()[1][0], array(picture(201)))
    assert source.targets() is None
    assert (len(source.heldout()), len(Unaligned(path=path, reference="all").heldout())) == (2, 5)
    back = Unaligned(path=path, load_size=12, resolution=12, direction="BtoA")
    assert torch.equal(back.sources()[1][0], array(picture(301)))
    assert torch.equal(back.heldout()[1][0], array(picture(201)))


def test_the_training_stream_gives_triples_and_goes_on_where_it_was(placed):
    path = placed(domain_files())
    batches = iter(train_loader(Unaligned(path=path, load_size=14, resolution=12, num_workers=0), batch_size=4, seed=3))
    first, second = next(batches), next(batches)
    assert [part.shape for part in first] == [(4, 3, 12, 12), (4,), (4, 3, 12, 12)]
    source = Unaligned(path=path, load_size=14, resolution=12, num_workers=0)
    resumed = next(iter(train_loader(source, batch_size=4, seed=3, start_images=4)))
    assert all(torch.equal(own, other) for own, other in zip(resumed, second, strict=True))


def celeba_files(num=8):
    names = ["Black_Hair", "Blond_Hair", "Male"]
    rows = [f"{i:06d}.png " + " ".join("1" if (i >> bit) & 1 else "-1" for bit in range(3)) for i in range(num)]
    files = {f"img/{i:06d}.png": encoded(picture(i, (16, 20))) for i in range(num)}
    return files | {"list_attr_celeba.txt": "\n".join([str(num), " ".join(names), *rows]).encode()}


def test_celeba_is_split_cut_and_labelled_as_published(placed):
    path = placed(celeba_files())
    source = Attributes(path=path, attributes=["Male", "Black_Hair"], crop=12, resolution=6, num_test=3)
    facts = source.open()
    assert (facts.num_classes, facts.num_images, len(source.train())) == (2, 5, 10)
    order = list(range(8))
    random.seed(1234)  # as the released code does it
    random.shuffle(order)
    images, labels = source.heldout().batch(np.arange(3))
    for place, number in enumerate(order[:3]):
        cut = picture(number, (16, 20)).crop((2, 4, 14, 16)).resize((6, 6), Image.Resampling.BILINEAR)
        assert torch.equal(images[place], array(cut))
        assert labels[place].tolist() == [float(number >> 2 & 1), float(number & 1)]
    train, _ = source.train().batch(np.array([0, 5]))
    assert torch.equal(train[0], train[1].flip(-1))
    sources, told = source.sources().batch(np.arange(6))
    assert torch.equal(sources[::2], images)
    assert torch.equal(sources[1::2], images)
    assert torch.equal(told[::2, 0], 1 - labels[:, 0])  # Male is turned
    assert torch.equal(told[1::2, 1], torch.ones(3))  # the one hair color is asked for


def test_target_labels_by_hand():
    names = ["Black_Hair", "Brown_Hair", "Young"]
    told = target_labels(np.array([[1, 0, 1]], np.float32), names, exclusive=False)
    assert told.tolist() == [[1, 0, 1], [0, 1, 1], [1, 0, 0]]
    assert target_labels(np.array([[0, 1]], np.float32), ["a", "b"], exclusive=True).tolist() == [[1, 0], [0, 1]]


def test_folders_are_attributes(placed):
    files = {f"{folder}/{i}.png": encoded(picture(i)) for folder in ("happy", "sad", "angry") for i in range(30)}
    path = placed(files)
    source = Attributes(path=path, attributes=None, crop=None, resolution=12, mirror=False)
    facts = source.open()
    assert facts.num_classes == 3
    assert facts.num_images + len(source.heldout()) == 90
    _, labels = source.train().batch(np.arange(facts.num_images))
    assert labels.sum(dim=1).tolist() == [1.0] * facts.num_images
    assert labels[0].tolist() == [1, 0, 0]  # angry
    assert len(source.sources()) == 3 * len(source.heldout())


def photo_files(num=40):
    return {f"p{i}.png": encoded(picture(i, (20, 14))) for i in range(num)}


def test_downscaled_squares(placed):
    path = placed(photo_files())
    source = Downscaled(path=path, resolution=8, mirror=True, turns=True)
    facts = source.open()
    assert facts.num_images + len(source.heldout()) == 40
    assert len(source.heldout()) >= 1
    high, _, low = source.train().batch(np.arange(60))
    assert (high.shape, low.shape) == ((60, 3, 8, 8), (60, 3, 2, 2))
    for square, small in zip(high, low, strict=True):
        picture_of = Image.fromarray(square.numpy().transpose(1, 2, 0))
        assert torch.equal(small, array(picture_of.resize((2, 2), Image.Resampling.BICUBIC)))
    assert len(source.sources()) == len(source.targets()) == len(source.heldout())
    held = next(name for name in source._tested())
    center = picture(int(re.findall(r"p(\d+)", held)[0]), (20, 14)).crop((6, 3, 14, 11))
    assert torch.equal(source.heldout()[0][0], array(center))
    by_matlab = Downscaled(path=path, resolution=8, filter="matlab")
    high, _, low = by_matlab.train().batch(np.arange(4))
    assert torch.equal(low, reduced(high.float(), 4).round().clamp(0, 255).to(torch.uint8))
    assert by_matlab.digest() != Downscaled(path=path, resolution=8).digest()
    apart = Downscaled(path=path, test_path=path, resolution=8)
    assert apart.open().num_images == len(apart.heldout()) == 40


@pytest.mark.parametrize(
    ("make", "files", "said"),
    [
        (
            lambda path: Aligned(path=path),
            {"train/a.png": b""},
            "images; allowed: one folder 'test'",
        ),
        (lambda path: Aligned(path=path), pair_files(1) | {"x/train/b.png": b""}, "2 folders of that name"),
        (lambda path: Aligned(path=path), {"train/a.png": encoded(picture(0, (7, 4))), "test/a.png": b""}, "a.png: "),
        (lambda path: Aligned(path=path, load_size=8, resolution=9), pair_files(1), "data.load_size=8: allowed"),
        (lambda path: Aligned(path=path, direction="AB"), pair_files(1), "data.direction='AB': allowed: AtoB, BtoA"),
        (lambda path: Unaligned(path=path), pair_files(1), "images; allowed: one folder 'trainA'"),
        (lambda path: Unaligned(path=path, reference="x"), domain_files(), "data.reference='x': allowed: test, all"),
        (lambda path: Attributes(path=path, attributes=["Bald"], num_test=1), celeba_files(), "'Bald' is not in"),
        (lambda path: Attributes(path=path, attributes=["Male"], num_test=1), pair_files(), "no list_attr_celeba.txt"),
        (lambda path: Attributes(path=path, attributes=["Male"], num_test=8), celeba_files(), "0 images to train on"),
        (
            lambda path: Attributes(path=path, attributes=["Male"], num_test=1),
            celeba_files(),
            "16 x 20 pixels; ",
        ),
        (
            lambda path: Downscaled(path=path, resolution=10),
            photo_files(),
            "a positive multiple of data.scale=4",
        ),
        (lambda path: Downscaled(path=path, resolution=16), photo_files(), "20 x 14 pixels; allowed: at least"),
        (lambda path: Downscaled(path=path, filter="box"), photo_files(), "data.filter='box': allowed: pillow, matlab"),
        (lambda _: Downscaled(), {}, "data.path: not set"),
    ],
)
def test_wrong_sets_are_refused_by_name(placed, make, files, said):
    with pytest.raises(UserError) as caught:
        make(placed(files | {"z/ignored.txt": b"x"})).open()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
