"""Folders, zip archives and databases: what is read, what is refused and how, labels, digests; side by side."""

import io
import json
import os
import pickle
import re
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import lmdb as py_lmdb
import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data.image_files import ImageFiles
from limbeck.data.image_folder import image_folder
from limbeck.data.lmdb import lmdb
from limbeck.data.names import are_canonical, by_canonical, canonical, class_folders, is_image
from limbeck.data.zip_archive import zip_archive
from limbeck.errors import UserError

Maker = Callable[..., ImageFiles]


def picture(seed: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def folder_of(tmp_path: Path, files: dict[str, bytes], **options: object) -> ImageFiles:
    for name, content in files.items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(content)
    return image_folder(path=tmp_path / "images", **options)


def zip_of(tmp_path: Path, files: dict[str, bytes], **options: object) -> ImageFiles:
    with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_STORED) as archive:
        for name, content in reversed(files.items()):
            archive.writestr(name, content)
    return zip_archive(path=tmp_path / "images.zip", **options)


def lmdb_of(tmp_path: Path, files: dict[str, bytes], **options: object) -> ImageFiles:
    path = tempfile.mkdtemp(dir=tmp_path)  # a database that is open cannot be written over
    with py_lmdb.open(path, map_size=1 << 24) as database, database.begin(write=True) as entries:
        for name, content in files.items():
            entries.put(name.encode(), content)
    return lmdb(path=path, **options)


@pytest.fixture(params=[folder_of, zip_of, lmdb_of], ids=["folder", "zip", "lmdb"])
def source_of(request, tmp_path) -> Maker:
    return lambda files, **options: request.param(tmp_path, files, **options)


def pixels(image: Image.Image) -> list:
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1).tolist()


def test_images_are_sorted_by_name_and_exact(source_of):
    files = {
        "b/2.png": encoded(picture(2)),
        "a.bmp": encoded(picture(0), "BMP"),
        "b/1.webp": encoded(picture(1), "WEBP", lossless=True),
        "c/deep/er/3.PNG": encoded(picture(3)),
        "notes.txt": b"no image",
        ".hidden/4.png": b"no image",
    }
    source = source_of(files, num_workers=0)
    facts = source.open()
    assert (facts.resolution, facts.num_channels, facts.num_classes, facts.num_images) == (8, 3, 0, 4)
    images, labels = source.train().batch(np.arange(4))
    assert images.tolist() == [pixels(picture(i)) for i in range(4)]
    assert labels.tolist() == [0] * 4
    assert torch.equal(source.heldout().batch(np.array([2]))[0][0], images[2])


def test_jpeg_is_read_as_pillow_reads_it(source_of):
    content = encoded(picture(0), "JPEG")
    image, _ = source_of({"a.jpg": content, "b.jpeg": content}).train()[1]
    assert image.tolist() == pixels(Image.open(io.BytesIO(content)))


def test_grey_set_has_one_channel(source_of):
    source = source_of({"a.png": encoded(picture(0, mode="L"))})
    assert source.open().num_channels == 1
    assert source.train()[0][0].tolist() == [np.asarray(picture(0, mode="L")).tolist()]


def test_grey_among_color_is_spread_over_three_channels(source_of):
    grey = picture(1, mode="L")
    image, _ = source_of({"a.png": encoded(picture(0)), "b.png": encoded(grey)}).train()[1]
    assert image.tolist() == [np.asarray(grey).tolist()] * 3


def test_transparency_shows_white(source_of):
    image = Image.new("RGBA", (2, 2), (200, 100, 0, 255))
    image.putpixel((0, 0), (7, 7, 7, 0))
    source = source_of({"a.png": encoded(image)})
    assert source.open().num_channels == 3
    assert source.train()[0][0][:, 0].tolist() == [[255, 200], [255, 100], [255, 0]]


def test_mirror_adds_flipped_copies_to_training_only(source_of):
    source = source_of({"a.png": encoded(picture(0)), "b.png": encoded(picture(1))}, mirror=True)
    assert (len(source.train()), len(source.heldout()), source.open().num_images) == (4, 2, 2)
    assert torch.equal(source.train()[3][0], source.heldout()[1][0].flip(-1))


def test_folder_names_are_classes(source_of):
    names = ["dogs/1.png", "cats/x/1.png", "birds/2.png", "cats/2.png"]
    source = source_of({name: encoded(picture(0)) for name in names}, labels="folders")
    assert source.open().num_classes == 3
    # Sorted: birds/2, cats/2, cats/x/1, dogs/1.
    assert source.train().batch(np.arange(4))[1].tolist() == [0, 1, 1, 2]


def test_nvidia_labels(source_of):
    names = ["00000/img00000000.png", "00000/img00000001.png", "00000/img00000002.png"]
    listing = {"labels": [[names[2], 6], [names[0], 0], [names[1], 3]]}
    files = {name: encoded(picture(0)) for name in names} | {"dataset.json": json.dumps(listing).encode()}
    source = source_of(files, labels="json")
    assert source.open().num_classes == 7
    assert source.train().batch(np.arange(3))[1].tolist() == [0, 3, 6]
    assert source_of(files).open().num_classes == 0


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        (b'{"labels": null}', "holds no labels"),
        (b'{"labels": [["b.png", 1]]}', "label None for a.png"),
        (b'{"labels": [["a.png", -1]]}', "label -1 for a.png"),
        (b'{"labels": [["a.png", [0.5, 0.5]]]}', "label [0.5, 0.5] for a.png"),
        (b'{"labels": [["a.png", true]]}', "label True for a.png"),
        (b'{"classes": 3}', "allowed:"),
        (b"[1, 2]", "allowed:"),
        (b"\xff{", "allowed:"),
        (None, "not found"),
    ],
)
def test_wrong_label_files_are_refused(source_of, listing, said):
    files = {"a.png": encoded(picture(0))} | ({"dataset.json": listing} if listing else {})
    with pytest.raises(UserError, match=rf"dataset\.json: .*{re.escape(said)}"):
        source_of(files, labels="json").open()


def test_labels_are_known_without_reading_images(source_of):
    source = source_of({name: encoded(picture(0)) for name in ("a/x.png", "b/x.png", "b/y.png")}, labels="folders")
    source.mirror, order = True, np.array([5, 1, 0])
    images = source.train()
    source.files.read = None
    assert images.labels_of(order).tolist() == [1, 1, 0]


def test_images_outside_class_folders_are_refused(source_of):
    with pytest.raises(UserError, match=r"b\.png: lies in no sub-folder"):
        source_of({"a/a.png": encoded(picture(0)), "b.png": encoded(picture(0))}, labels="folders").open()


GOOD = encoded(picture(0))
SIXTEEN_BITS = encoded(Image.fromarray(np.zeros((8, 8), dtype=np.uint16)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (encoded(picture(1, (9, 8))), "9 x 8 pixels; allowed: 8 x 8"),
        (encoded(picture(1, (16, 16))), "16 x 16 pixels; allowed: 8 x 8"),
        (b"", "not a readable image"),
        (b"text, not an image", "not a readable image"),
        (GOOD[:20], "not a readable image"),
        (SIXTEEN_BITS, "allowed: 8 bits a channel"),
    ],
)
def test_wrong_images_are_named_before_training(source_of, content, said):
    source = source_of({"a.png": GOOD, "sub/bad.png": content})
    with pytest.raises(UserError, match=rf"\A.*bad\.png: .*{re.escape(said)}.*\Z"):  # one line
        source.open()


@pytest.mark.parametrize("content", [GOOD[:-40], GOOD[:60] + bytes(20) + GOOD[80:]], ids=["short", "overwritten"])
def test_damage_inside_an_image_is_named_when_it_is_read(source_of, content):
    source = source_of({"a.png": GOOD, "bad.png": content})
    assert source.open().num_images == 2
    with pytest.raises(UserError, match=r"bad\.png: damaged image"):
        source.train().batch(np.array([0, 1]))


def test_first_image_must_be_square_too(source_of):
    with pytest.raises(UserError, match=r"a\.png: 9 x 8 pixels"):
        source_of({"a.png": encoded(picture(1, (9, 8)))}).open()


def test_color_among_grey_is_refused_unless_asked_for(source_of):
    files = {"a.png": encoded(picture(0, mode="L")), "b.png": GOOD}
    with pytest.raises(UserError, match=r"b\.png: a color image"):
        source_of(files).open()
    assert source_of(files, num_channels=3).train()[0][0].shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resize": "bicubic", "resolution": 4}, "data.resize='bicubic': allowed: none, box, bilinear, lanczos"),
        ({"crop": [0, 0, 4]}, "data.crop=[0, 0, 4]: allowed: [left, top, right, bottom]"),
        ({"crop": [0, 0, 4, 5]}, "of a square"),
        ({"crop": [4, 4, 12, 12]}, "a.png: 8 x 8 pixels; allowed: sizes that hold data.crop=[4, 4, 12, 12]"),
        ({"crop": [0, 0, 4, 4], "resolution": 6, "resize": "box"}, "a.png: 4 x 4 pixels; allowed: at least"),
        ({"resize": "box"}, "data.resize=box: needs data.resolution"),
        ({"resolution": 0}, "data.resolution=0"),
        ({"num_channels": 4}, "data.num_channels=4: allowed: 1 "),
        ({"labels": "names"}, "data.labels='names': allowed: none, folders, json"),
        ({"resolution": 16, "resize": "box"}, "a.png: 8 x 8 pixels; allowed: at least data.resolution=16"),
    ],
)
def test_wrong_options_are_refused_when_opened(source_of, options, said):
    source = source_of({"a.png": GOOD}, **options)
    with pytest.raises(UserError, match=re.escape(said)):
        source.open()


def test_box_averages_the_centered_square(source_of):
    # 6 x 4: columns 1 .. 4 are the centered square; each 2 x 2 block of it becomes its mean.
    values = np.zeros((4, 6), dtype=np.uint8)
    values[:2, 1:3] = [[10, 20], [30, 40]]
    values[2:, 3:5] = 80
    values[:, [0, 5]] = 255
    source = source_of({"a.png": encoded(Image.fromarray(values))}, resize="box", resolution=2)
    assert source.train()[0][0].tolist() == [[[25, 0], [0, 80]]]


def test_lanczos_is_pillows(source_of):
    image = picture(0, (16, 16))
    source = source_of({"a.png": encoded(image)}, resize="lanczos", resolution=4)
    assert source.train()[0][0].tolist() == pixels(image.resize((4, 4), Image.Resampling.LANCZOS))


def test_a_square_may_be_cut_out_and_shrunk_as_torchvision_does(source_of):
    image = picture(5, (12, 16))
    source = source_of({"a.png": encoded(image)}, crop=[1, 3, 9, 11])
    assert source.open().resolution == 8
    assert source.train()[0][0].tolist() == pixels(image.crop((1, 3, 9, 11)))
    shrunk = source_of({"a.png": encoded(image)}, crop=[1, 3, 9, 11], resize="bilinear", resolution=4)
    expected = image.crop((1, 3, 9, 11)).resize((4, 4), Image.Resampling.BILINEAR)
    assert shrunk.train()[0][0].tolist() == pixels(expected)
    other = source_of({"a.png": encoded(image)}, crop=[2, 3, 10, 11], resize="bilinear", resolution=4)
    assert other.digest() != shrunk.digest()


def test_an_empty_set_is_refused(source_of):
    with pytest.raises(UserError, match=r"data\.path: no images in .*; allowed: png"):
        source_of({"notes.txt": b"no image"}).open()


@pytest.mark.parametrize("make", [image_folder, zip_archive, lmdb])
def test_missing_paths_are_refused(make, tmp_path):
    for source, said in ((make(), "data.path: not set"), (make(path=tmp_path / "no"), "no: no such f")):
        with pytest.raises(UserError, match=re.escape(said)):
            source.open()


def test_folder_and_zip_taken_for_each_other(tmp_path):
    zip_of(tmp_path, {"a.png": GOOD})
    with pytest.raises(UserError, match="data=zip"):
        image_folder(path=tmp_path / "images.zip").open()
    with pytest.raises(UserError, match="data=image_folder"):
        zip_archive(path=tmp_path).open()


def test_a_file_that_is_no_zip_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(GOOD)
    with pytest.raises(UserError, match=r"a\.zip: not a readable zip archive"):
        zip_archive(path=tmp_path / "a.zip").open()


@pytest.mark.parametrize("edge", [8, 64])
def test_a_damaged_zip_entry_is_named(tmp_path, edge):
    bad = encoded(picture(1, (edge, edge)))
    source = zip_of(tmp_path, {"a.png": encoded(picture(0, (edge, edge))), "b.png": bad})
    content = (tmp_path / "images.zip").read_bytes()
    place = content.index(bad) + len(bad) - 40
    (tmp_path / "images.zip").write_bytes(content[:place] + bytes(16) + content[place + 16 :])
    with pytest.raises(UserError, match=r"images\.zip:b\.png: damaged entry \(Bad CRC-32"):
        source.train().batch(np.array([1]))


def test_compressed_zips_are_read_too(tmp_path):
    source = zip_of(tmp_path, {"a.png": GOOD})
    with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", GOOD)
    assert source.train()[0][0].tolist() == pixels(picture(0))


def test_an_open_zip_travels_to_other_processes(tmp_path):
    source = zip_of(tmp_path, {"a.png": GOOD})
    image, _ = source.train()[0]
    assert torch.equal(pickle.loads(pickle.dumps(source)).train()[0][0], image)


def test_forked_readers_do_not_share_a_file_position(tmp_path):
    source = zip_of(tmp_path, {"a.png": GOOD})
    source.open()
    descriptor = source.files._archive().fp.fileno()
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.write(writer, bytes([source.files._archive().fp.fileno() != descriptor]))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"\x01"
    os.close(reader)
    os.close(writer)


def test_lsun_keys_get_the_ending_of_their_format(tmp_path):
    """LSUN's databases hold WebP under a hash; the same images in files are the same set."""
    images = {"c0ffee": "WEBP", "00ff": "PNG", "beef": "JPEG", "bead": "BMP"}
    content = {key: encoded(picture(i), kind) for i, (key, kind) in enumerate(images.items())}
    source = lmdb_of(tmp_path, content | {"length": b"4"})
    endings = {"WEBP": ".webp", "PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp"}
    files = {key + endings[kind]: content[key] for key, kind in images.items()}
    assert source._names == sorted(files)
    assert source.digest() == folder_of(tmp_path, files).digest()
    assert torch.equal(source.train().batch(np.arange(4))[0], folder_of(tmp_path, files).train().batch(np.arange(4))[0])


def test_a_prefix_takes_one_size_of_a_database_that_holds_several(tmp_path):
    files = {f"{edge}-{i:05}": encoded(picture(i, (edge, edge)), "JPEG") for edge in (8, 16) for i in range(3)}
    source = lmdb_of(tmp_path, files | {"length": b"3"}, prefix="16-")
    assert (source.open().resolution, source.open().num_images) == (16, 3)
    with pytest.raises(UserError, match=r"8-00000\.jpg: 8 x 8 pixels; allowed: 16 x 16"):
        lmdb_of(tmp_path, files).open()
    with pytest.raises(UserError, match=r"no images in .*:32-; allowed"):
        lmdb_of(tmp_path, files, prefix="32-").open()


def test_a_database_is_read_by_forked_and_by_started_processes(tmp_path):
    source = lmdb_of(tmp_path, {"a.png": GOOD})
    image, _ = source.train()[0]
    assert torch.equal(pickle.loads(pickle.dumps(source)).train()[0][0], image)
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.write(writer, bytes([torch.equal(source.train()[0][0], image)]))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"\x01"
    os.close(reader)
    os.close(writer)


def test_what_is_no_database_is_refused(tmp_path, monkeypatch):
    (tmp_path / "data.mdb").write_bytes(GOOD * 100)
    for path in (tmp_path, tmp_path / "data.mdb"):
        with pytest.raises(UserError, match="not a readable LMDB database"):
            lmdb(path=path).open()
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(UserError, match=r"pip install limbeck\[lmdb\]"):
        lmdb(path=tmp_path).open()


def test_digest_is_of_content_and_recipe(tmp_path):
    files = {"a.png": GOOD, "b.png": encoded(picture(1))}
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    folder, archive = folder_of(here, files), zip_of(there, files)
    assert folder.digest() == archive.digest() == image_folder(path=here / "images", mirror=True).digest()
    os.utime(here / "images" / "a.png", (0, 0))
    assert image_folder(path=here / "images").digest() == folder.digest()
    changed = {
        image_folder(path=here / "images", resize=resize, resolution=4).digest() for resize in ("box", "lanczos")
    }
    (here / "images" / "a.png").write_bytes(encoded(picture(2)))
    changed.add(image_folder(path=here / "images").digest())
    (here / "images" / "b.png").rename(here / "images" / "c.png")
    changed.add(image_folder(path=here / "images").digest())
    assert len(changed | {folder.digest()}) == 5


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.PNG", True),
        ("a.jpeg", True),
        ("a.gif", False),
        ("png", False),
        (".a/b.png", False),
        ("__MACOSX/a.png", False),
    ],
)
def test_what_counts_as_an_image(name, expected):
    assert is_image(name) is expected


# The stored pictures, by their EXIF orientation, of which all eight show the same: by hand, from the standard's table.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


def noted(image, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    return encoded(image, kind, exif=exif, **options)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_are_turned_as_their_exif_says(source_of, kind):
    blocks = np.random.default_rng(0).integers(0, 2, (2, 3, 3), dtype=np.uint8) * 255
    upright = blocks.repeat(8, axis=0).repeat(8, axis=1)  # 24 wide, 16 high
    files = {
        f"{turn}.{kind.lower()}": noted(Image.fromarray(np.ascontiguousarray(change(upright))), kind, turn)
        for turn, change in STORED.items()
    }
    # Only the upright picture is wide enough for this region.
    source = source_of(files, crop=[8, 0, 24, 16], resolution=16, resize="box")
    images = source.train().batch(np.arange(8))[0]
    expected = torch.from_numpy(upright[:, 8:].transpose(2, 0, 1).copy())
    for turn, image in zip(STORED, images, strict=True):
        assert (image.int() - expected.int()).abs().max() <= (4 if kind == "JPEG" else 0), turn


def test_size_and_channels_of_headers_are_pillow_s(tmp_path):
    from limbeck.data.headers import header

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        assert header(encoded(Image.new(mode, (5, 3))))[:2] == (5, 3)
        assert header(encoded(Image.new(mode, (5, 3))))[2] == (1 if mode in ("1", "L", "LA") else 3)
    for mode in ("L", "RGB", "CMYK"):
        for options in ({}, {"progressive": True}, {"comment": "x" * 500}):
            assert header(encoded(Image.new(mode, (5, 3)), "JPEG", **options)) == (5, 3, 1 if mode == "L" else 3)
    long = encoded(Image.new("RGB", (5, 3)), "JPEG", comment="x" * 5000)
    whole = encoded(Image.new("RGB", (5, 3)))
    for begins in (
        long[:1024],
        whole[:30],
        encoded(Image.new("I;16", (5, 3))),
        encoded(Image.new("RGB", (5, 3)), "BMP"),
    ):
        assert header(begins) is None


def test_names_from_other_systems_are_one_form(tmp_path):
    good, other = encoded(picture(0)), encoded(picture(1))
    plain = {"cat/a.png": good, "cat/b.PNG": other, "dog/é.png": good}
    windows = {name.replace("/", "\\"): content for name, content in plain.items()}
    windows |= {"__MACOSX\\cat\\._a.png": b"x", "cat\\": b"", "Thumbs.db": b"x", "cat\\desktop.ini": b"x"}
    mac = {unicodedata.normalize("NFD", name): content for name, content in plain.items()}
    mac |= {"__MACOSX/cat/._a.png": b"x", ".DS_Store": b"x", "cat/._b.png": b"x"}
    nas = {f"./{name}": content for name, content in plain.items()} | {"@eaDir/cat/a.png/SMALL.jpg": b"x"}
    sources = [folder_of(tmp_path / "plain", plain, labels="folders")]
    for number, files in enumerate((plain, windows, mac, nas)):
        path = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                entry = zipfile.ZipInfo("x")
                entry.filename = name
                archive.writestr(entry, content)
        sources.append(zip_archive(path=path, labels="folders"))
    for source in sources:
        assert source.open().num_images == 3
        assert source.open().num_classes == 2
        images, labels = source.train().batch(np.arange(3))
        assert labels.tolist() == [0, 0, 1]
        assert torch.equal(images[0], images[2])
        assert source.digest() == sources[0].digest()


def test_names_that_are_one_on_other_systems_are_refused(tmp_path):
    good = encoded(picture(0))
    with pytest.raises(UserError, match=r"'a/b\.png' and 'a\\\\b\.png' are one name"):
        zip_of(tmp_path, {"a/b.png": good, "a\\b.png": good}).open()
    with pytest.raises(UserError, match=r"'Cat' and 'cat' differ in upper and lower case alone"):
        zip_of(tmp_path, {"Cat/a.png": good, "cat/b.png": good}, labels="folders").open()


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ([str(number) for number in range(12)], list(range(12))),
        ([f"{number:02}" for number in range(12)], list(range(12))),
        (["0", "2", "10"], [0, 2, 10]),
        (["1", "2", "10"], [0, 1, 2]),
        (["1", "10", "2", "x"], [0, 1, 2, 3]),
    ],
)
def test_numbered_folders_are_the_classes_of_their_numbers(source_of, folders, expected):
    good = encoded(picture(0))
    source = source_of({f"{folder}/a.png": good for folder in folders}, labels="folders")
    names = [name.partition("/")[0] for name in source._names]
    labels = source.train().labels_of(np.arange(len(names))).tolist()
    assert dict(zip(names, labels, strict=True)) == dict(zip(folders, expected, strict=True))
    assert source.open().num_classes == max(expected) + 1


def test_a_folder_around_all_class_folders_does_not_count(source_of):
    good = encoded(picture(0))
    source = source_of({f"packed/{folder}/a.png": good for folder in ("0", "2", "10")}, labels="folders")
    assert source.open().num_classes == 11
    assert source.train().labels_of(np.arange(3)).tolist() == [0, 10, 2]
    assert class_folders(["cat/0.png", "cat/1.png"]) == ["cat", "cat"]


def test_numbers_twice_are_refused(source_of):
    good = encoded(picture(0))
    with pytest.raises(UserError, match="folders '01' and '1' are the same number"):
        source_of({"1/a.png": good, "01/b.png": good}, labels="folders").open()


def test_checksums_are_taken_once_for_as_long_as_files_stay(tmp_path, monkeypatch):
    from limbeck.data import files as data_files

    monkeypatch.setattr(data_files, "WORTH_KEEPING", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = folder_of(tmp_path, {"a.png": encoded(picture(0)), "b.png": encoded(picture(1))})
    first, read, here = source.digest(), [], Path(source.files.path)
    reader = type(source.files).read
    monkeypatch.setattr(type(source.files), "read", lambda self, name: (read.append(name), reader(self, name))[1])
    assert type(source)(source.files).digest() == first
    assert read == []
    os.utime(here / "b.png", ns=(1, 1))  # another date: read again, and the content is the same
    assert type(source)(source.files).digest() == first
    assert sorted(read) == ["a.png", "b.png"]
    (here / "b.png").write_bytes(encoded(picture(2)))
    assert type(source)(source.files).digest() != first


@pytest.mark.parametrize(
    "names",
    [
        ["b/2.png", "a/1.png", "b/1.png"],
        ["a\\1.png", "a/0.png"],
        ["./c.png", "b.png"],
        ["e\u0301.png", "a.png"],  # an accent apart
        ["a\n./b.png", "a.png"],
        [],
    ],
)
def test_names_taken_all_at_once_are_those_taken_one_by_one(names):
    one_by_one = sorted((canonical(name), name) for name in names)
    assert list(by_canonical(names, "here").items()) == one_by_one
    assert are_canonical(names) <= all(new == name for new, name in one_by_one)


def test_headers_are_read_once_for_as_long_as_files_stay(tmp_path, monkeypatch):
    from limbeck.data import header_check

    monkeypatch.setattr(header_check, "WORTH_KEEPING", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    looked_at = []
    check = header_check._check_header
    monkeypatch.setattr(header_check, "_check_header", lambda *a, **k: (looked_at.append(a[1]), check(*a, **k)))
    files = {"a.png": encoded(picture(0)), "b.png": encoded(picture(1))}
    for make in (folder_of, zip_of):
        looked_at.clear()
        here = tmp_path / make.__name__
        here.mkdir()
        source = make(here, files)
        assert source.open().num_images == 2
        assert sorted(looked_at) == ["a.png", "b.png"]
        again = type(source)(source.files)
        again.open()
        assert len(looked_at) == 2
        changed = make(here, files | {"b.png": encoded(picture(2, (4, 4)))})
        with pytest.raises(UserError, match=r"b\.png: 4 x 4 pixels"):
            changed.open()
    monkeypatch.setattr("limbeck.parallel.rank", lambda: 1)
    looked_at.clear()
    assert zip_of(tmp_path / "zip_of", {"a.png": encoded(picture(0)), "b.png": b"left to the first process"}).open()
    assert looked_at == []
