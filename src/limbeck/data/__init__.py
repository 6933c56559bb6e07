"""Where real images come from: sources, and the loaders that read them in a fixed, resumable order.

Each module of a source can be called by the name of its YAML file's settings:
`limbeck.data.image_folder(path="photos")`, `zip_archive`, `lmdb`, `cifar10`, `robohash(kind="cats", resolution=32)`.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

CHOICES = {
    "cifar10": "cifar10",
    "image_folder": "image_folder",
    "images": "images",
    "lmdb": "lmdb",
    "robohash": "robohash",
    "zip_archive": "zip",
}


class _Source(ModuleType):
    """A module that makes its source: settings and defaults are those of conf/data/<choice>.yaml."""

    def __call__(self, **settings: Any) -> Any:
        from limbeck.configured import configured

        return configured("data", CHOICES[self.__name__.rpartition(".")[2]], **settings)


class _Package(ModuleType):
    """The package: the import system hands it each module that was imported, which then can be called."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in CHOICES and type(value) is ModuleType:
            value.__class__ = _Source
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in CHOICES:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return importlib.import_module(f"{self.__name__}.{name}")


sys.modules[__name__].__class__ = _Package
