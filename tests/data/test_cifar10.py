import io
import tarfile

import numpy as np
import pytest

from limbeck.data.cifar10 import FOLDER, RECORD, TRAINING_FILES, Cifar10
from limbeck.errors import UserError

PER_FILE = 3


def contents() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    records = random.integers(0, 256, (5, PER_FILE, RECORD), dtype=np.uint8)
    records[:, :, 0] = np.arange(5 * PER_FILE).reshape(5, PER_FILE) % 10
    return {name: records[index].tobytes() for index, name in enumerate(TRAINING_FILES)}


@pytest.fixture(params=["folder", "parent", "archive"])
def path(request, tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "test_batch.bin").write_bytes(b"not read")
    for name, content in contents().items():
        (folder / name).write_bytes(content)
    if request.param != "archive":
        return folder if request.param == "folder" else tmp_path
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(folder, FOLDER)
    return tmp_path / "cifar-10-binary.tar.gz"


def test_images_and_labels(path):
    source = Cifar10(path=path, labels=True)
    facts = source.open()
    assert (facts.resolution, facts.num_channels, facts.num_classes, facts.num_images) == (32, 3, 10, 15)
    images, labels = source.heldout().batch(np.array([14, 0]))
    assert labels.tolist() == [4, 0]
    raw = np.frombuffer(contents()[TRAINING_FILES[4]], np.uint8).reshape(PER_FILE, RECORD)[2]
    assert images.shape == (2, 3, 32, 32)
    assert images[0, 1, 2, 3].item() == raw[1 + 1024 + 2 * 32 + 3]  # green, third row, fourth column


def test_without_labels_all_are_zero_and_mirrored_ones_follow(path):
    source = Cifar10(path=path, mirror=True)
    assert source.open().num_classes == 0
    assert (len(source.train()), len(source.heldout())) == (30, 15)
    images, labels = source.train().batch(np.array([5, 20]))
    assert images[0].flip(2).tolist() == images[1].tolist()
    assert labels.tolist() == [0, 0]


def test_the_digest_is_that_of_the_content(path, tmp_path):
    assert Cifar10(path=path).digest() == Cifar10(path=tmp_path / FOLDER, mirror=True).digest()
    name = tmp_path / FOLDER / TRAINING_FILES[2]
    before = Cifar10(path=tmp_path / FOLDER).digest()
    content = bytearray(name.read_bytes())
    content[500] ^= 1
    name.write_bytes(content)
    assert Cifar10(path=tmp_path / FOLDER).digest() != before


def archive_without_images(tmp_path):
    with tarfile.open(tmp_path / "python.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        archive.addfile(entry, io.BytesIO(b""))
    return tmp_path / "python.tar.gz"


def damaged(tmp_path, content):
    for name in TRAINING_FILES:
        (tmp_path / name).write_bytes(content)
    return tmp_path


def text_file(tmp_path):
    (tmp_path / "notes.txt").write_text("no archive")
    return tmp_path / "notes.txt"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "data.path: not set"),
        (lambda tmp_path: tmp_path / "nowhere", "no such file or folder"),
        (lambda tmp_path: tmp_path, "data_batch_1.bin is missing"),
        (archive_without_images, "data_batch_1.bin is not in it"),
        (text_file, "not a readable archive"),
        (lambda tmp_path: damaged(tmp_path, b"\0" * (RECORD + 1)), "data_batch_1.bin is damaged"),
        (lambda tmp_path: damaged(tmp_path, b""), "data_batch_1.bin is damaged"),
        (lambda tmp_path: damaged(tmp_path, b"\x0a" * RECORD), "data_batch_1.bin is damaged"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(tmp_path, make, message):
    with pytest.raises(UserError, match=message) as raised:
        Cifar10(path=make(tmp_path)).open()
    assert "allowed" in str(raised.value)
