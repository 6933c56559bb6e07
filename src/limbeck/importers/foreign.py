"""What all foreign files have in common: wrapped names, containers, and facts that no tensor shows."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from limbeck.errors import CheckpointError, UserError

# Parts of names that a wrapper puts around a network, at any depth and any number of times: DataParallel and DDP,
# torch.compile, FSDP, activation checkpointing. No network read here has a layer of such a name.
WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
COUNTER = "n_averaged"  # what torch's AveragedModel adds to the tensors of the network it wraps
# Where training programs keep one network's tensors; averaged weights come first, as they are what is drawn from.
CONTAINERS = (
    "ema", "model_ema", "ema_state_dict", "ema_model", "params_ema", "state_dict_ema", "averaged",
    "state_dict", "model_state_dict", "model", "network", "net", "generator", "params",
    "netG_state_dict", "netD_state_dict",
)  # fmt: skip


def unwrapped(content: Any, where: str) -> Any:
    """The same containers, their tensors named as if the networks had never been wrapped.

    Raises: CheckpointError if two names become one.
    """
    if isinstance(content, (list, tuple)):
        return type(content)(unwrapped(value, where) for value in content)
    if not isinstance(content, Mapping):
        return content
    bare: dict[Any, Any] = {}
    for name, value in content.items():
        new = WRAPPERS.sub("", name) if isinstance(name, str) else name
        if new in bare:
            raise CheckpointError(f"{where}: {name!r} and another entry are both {new!r} without their wrappers")
        bare[new] = unwrapped(value, where)
    if list(bare) != list(content):
        bare.pop(COUNTER, None)
    return bare


def places(content: Any) -> Iterator[tuple[str, Any]]:
    """The content itself as "", then what lies under each known name of a container, one level deep."""
    yield "", content
    if isinstance(content, Mapping):
        yield from ((name, content[name]) for name in CONTAINERS if isinstance(content.get(name), Mapping))


class Facts:
    """What the user says about a file, and what had to be guessed because neither the user nor the file says it.

    told: facts by name, as given to `load`; None counts as not given.
    """

    def __init__(self, told: Mapping[str, Any] | None = None) -> None:
        self.told = {name: value for name, value in (told or {}).items() if value is not None}
        self.guessed: dict[str, Any] = {}
        self._asked: set[str] = set()

    def of(self, name: str, guess: Any) -> Any:
        """What the user says; the guess if that is nothing."""
        self._asked.add(name)
        if name in self.told:
            return self.told[name]
        self.guessed[name] = guess
        return guess

    def stated(self, name: str, value: Any, where: str) -> Any:
        """What the file says. Raises: UserError if the user says otherwise."""
        self._asked.add(name)
        if self.told.get(name, value) != value:
            raise UserError(f"{name}={self.told[name]!r}: {where} says {value!r}; leave it out")
        return value

    def entry(self, where: str) -> dict[str, Any]:
        """For the history: "told" and "guessed", if there are any.

        Raises: UserError if the user says something that this kind of file was never asked.
        """
        unused = sorted(set(self.told) - self._asked)
        if unused:
            asked = ", ".join(sorted(self._asked)) or "nothing"
            raise UserError(f"{unused[0]}={self.told[unused[0]]!r}: no question at {where}; it may be told: {asked}")
        found = {"told": self.told, "guessed": self.guessed}
        return {name: dict(value) for name, value in found.items() if value}


def guesses(history: Any) -> dict[str, Any]:
    """The guessed facts of a model by its history."""
    return {name: value for entry in history for name, value in entry.get("guessed", {}).items()}


def inverse(names: Mapping[str, str]) -> dict[str, str]:
    """Our names to the file's."""
    return {ours: theirs for theirs, ours in names.items()}


def checked(value: Any, name: str, allowed: Callable[[Any], bool], what: str) -> Any:
    """A told fact. Raises: UserError if it is not `what`."""
    if not allowed(value):
        raise UserError(f"{name}={value!r}: must be {what}")
    return value
