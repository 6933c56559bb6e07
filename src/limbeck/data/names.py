"""Names of image files from any system, brought into one form; which files count; the classes that folders name."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from limbeck.errors import UserError
from limbeck.terminal import announce

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Folders that systems add: macOS's archives, Windows's and Synology's.
FOREIGN = {"__macosx", "$recycle.bin", "system volume information", "@eadir"}
MOST_CLASSES = 1_000_000


def canonical(name: str) -> str:
    """A relative path with forward slashes, in Unicode's composed form, as if from one system.

    Windows's archivers write backslashes; macOS writes letters and their accents apart.
    """
    name = name.replace("\\", "/").removeprefix("./")
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def are_canonical(names: Sequence[str]) -> bool:
    """Whether `canonical` surely leaves all of them as they are: asked of all at once, because sets have millions."""
    joined = "\n" + "\n".join(names)
    return joined.isascii() and "\\" not in joined and "\n./" not in joined


def by_canonical(names: Iterable[str], where: str) -> dict[str, str]:
    """Canonical names, sorted, to the names as they are stored. Raises: UserError if two become one."""
    names = list(names)
    if are_canonical(names):
        return {name: name for name in sorted(names)}
    found: dict[str, str] = {}
    for name in names:
        new = canonical(name)
        if found.setdefault(new, name) != name:
            raise UserError(f"{where}: {found[new]!r} and {name!r} are one name on other systems; rename one of them")
    return dict(sorted(found.items()))


def is_image(name: str) -> bool:
    """Whether a file of this canonical name counts; hidden files and folders, and what systems add, do not."""
    if not name.lower().endswith(EXTENSIONS):
        return False
    folder, _, file = name.rpartition("/")
    return not file.startswith(".") and _is_plain(folder)


@lru_cache(maxsize=1 << 16)
def _is_plain(folder: str) -> bool:
    return not any(part.startswith(".") or part.lower() in FOREIGN for part in folder.split("/"))


def folder_labels(names: Sequence[str], described: Callable[[str], str]) -> np.ndarray:
    """Class of each image by its first folder, int64 [n].

    Folders that are all numbered, from 0 on, are the classes of these numbers; other numbers count in their order,
    other names in the order of their letters.

    names: canonical. described: how an error message calls them.
    Raises: UserError for an image in no folder, and for folders that may be one class.
    """
    for name in names:
        if "/" not in name:
            raise UserError(
                f"{described(name)}: lies in no sub-folder; allowed with data.labels=folders: one sub-folder per class"
            )
    classes = class_folders(names)
    numbers = class_numbers(sorted(set(classes)))
    return np.array([numbers[name] for name in classes], dtype=np.int64)


def class_folders(names: Sequence[str]) -> list[str]:
    """The folder of the first level of each image, "" for none; below a folder that holds everything in folders.

    Archivers put what they pack into one folder of its name.
    """
    folders = [name.rpartition("/")[0] for name in names]  # few, so that what is asked of each is asked once
    first = {folder: folder.split("/") for folder in set(folders)}
    level = int(len({parts[0] for parts in first.values()}) == 1 and all(len(parts) > 1 for parts in first.values()))
    called = {folder: parts[level] for folder, parts in first.items()}
    return [called[folder] for folder in folders]


def class_numbers(folders: Sequence[str]) -> dict[str, int]:
    """The number of each class folder. Raises: UserError for folders that may be one class."""
    if all(re.fullmatch(r"[0-9]+", folder) for folder in folders):
        numbers = {folder: int(folder) for folder in folders}
        _refuse_alike(numbers, "are the same number")
        if 0 in numbers.values():
            if max(numbers.values()) >= MOST_CLASSES:
                raise UserError(f"data.labels=folders: folder {max(numbers.values())}; allowed: below {MOST_CLASSES:,}")
            return numbers
        ordered = sorted(folders, key=int)
        announce("data", f"class folders {ordered[0]} ... {ordered[-1]} are the classes 0 ... {len(ordered) - 1}")
        return {folder: number for number, folder in enumerate(ordered)}
    _refuse_alike({folder: folder.casefold() for folder in folders}, "differ in upper and lower case alone")
    return {folder: number for number, folder in enumerate(sorted(folders))}


def _refuse_alike(keys: Mapping[str, object], what: str) -> None:
    first: dict[object, str] = {}
    for folder, key in keys.items():
        if first.setdefault(key, folder) != folder:
            raise UserError(
                f"data.labels=folders: folders {first[key]!r} and {folder!r} {what}; allowed: a folder per class"
            )


def json_labels(content: bytes, names: Sequence[str], called: str) -> np.ndarray:
    """Class of each image from NVIDIA's label file, int64 [n]. Raises: UserError for a file of another kind."""
    try:
        labels = json.loads(content)["labels"]
        classes = {} if labels is None else {canonical(name): label for name, label in labels}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{called}: allowed: {{"labels": [["name.png", 6], ...]}} or {{"labels": null}}') from error
    if not classes:
        raise UserError(f"{called}: holds no labels; allowed: data.labels=none, or a file with labels")
    for name in names:
        label = classes.get(name)
        if type(label) is not int or label < 0:
            raise UserError(f"{called}: label {label!r} for {name}; allowed: a class number, 0 or greater")
    return np.array([classes[name] for name in names], dtype=np.int64)
