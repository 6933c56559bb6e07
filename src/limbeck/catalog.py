"""What can be chosen: the groups of conf/, their YAML files, and what each file says of itself in its first comment."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from limbeck.configured import CONF, require_conf
from limbeck.errors import UserError

APART = ("hydra",)  # settings of Hydra itself, nothing to choose


@dataclass(frozen=True)
class Choice:
    """`GROUP=NAME` on the command line. comment: the file's opening comment, line breaks removed."""

    group: str
    name: str
    comment: str

    @property
    def line(self) -> str:
        """The comment's first sentence."""
        head, stop, _ = self.comment.replace("e.g. ", "e.g.\0").replace("i.e. ", "i.e.\0").partition(". ")
        return (head + stop.rstrip()).replace("\0", " ")


def groups() -> list[str]:
    """Names of all groups, alphabetically. Raises: UserError if conf/ is missing."""
    require_conf()
    found = {file.parent.relative_to(CONF).as_posix() for file in CONF.rglob("*.yaml") if file.parent != CONF}
    return sorted(group for group in found if group.split("/")[0] not in APART)


def choices(group: str) -> list[Choice]:
    """Everything that a group offers, alphabetically. Raises: UserError if there is no such group."""
    if group not in groups():
        raise UserError(f"{group}: no such group; allowed: {', '.join(groups())}")
    return [Choice(group, file.stem, opening_comment(file)) for file in sorted((CONF / group).glob("*.yaml"))]


def opening_comment(file: Path) -> str:
    """The comment above a file's first line of content; its first paragraph, without Hydra's own directives."""
    words: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or (words and not line.lstrip("# ")):
            break
        if not line.startswith("# @"):
            words.append(line.lstrip("# ").rstrip())
    return " ".join(words)


def listing(chosen: str | None = None) -> Iterator[str]:
    """Lines for a terminal: every choice of one group, or of all."""
    for group in [chosen] if chosen else groups():
        found = choices(group)
        yield f"{group}"
        width = max(len(choice.name) for choice in found)
        yield from (f"  {choice.name:<{width}}  {choice.line}".rstrip() for choice in found)
