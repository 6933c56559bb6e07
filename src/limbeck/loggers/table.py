"""The file format of metrics.csv: one row per value of `kimg`, ascending, columns that may appear at any time.

A row is on disk as soon as it is known, values that come later for the same `kimg` join it, and a run resumed from
a checkpoint drops the rows that its killed predecessor wrote beyond it: the file always shows one clean curve.
"""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from limbeck.errors import UserError
from limbeck.files import written_aside

KEY = "kimg"


def read_table(path: str | Path) -> list[dict[str, float]]:
    """Rows of a metrics.csv, empty cells left out; a last line cut short by a kill is ignored."""
    path = Path(path)
    if not path.is_file():
        return []
    text = path.read_text()
    lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
    if not lines:
        return []
    header, *cells = lines
    try:
        return [
            {name: float(value) for name, value in zip(header, line, strict=True) if value}
            for line in cells
            if len(line) == len(header)
        ]
    except ValueError as error:
        raise UserError(f"{path}: not a table of numbers ({error})") from error


class Table:
    """Writes one metrics.csv; nothing is opened before the first row."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._columns: list[str] = []
        self._row: dict[str, float] = {}
        self._offset: int | None = None  # where the last row starts; None until the file has been looked at

    def put(self, values: Mapping[str, float]) -> None:
        """Add a row, or join the last one if it has the same `kimg`; rows beyond that `kimg` are dropped.

        Values without `kimg` belong to the last row. Raises: UserError if the file cannot be written.
        """
        kimg = float(values.get(KEY, self._row.get(KEY, 0.0)))
        added = {KEY: kimg, **{name: float(value) for name, value in values.items()}}
        new_columns = [name for name in added if name not in self._columns]
        if self._offset is None or kimg < self._row[KEY] or new_columns or not self.path.is_file():
            self._rewrite(added)
        else:
            self._extend(added)

    def _extend(self, added: dict[str, float]) -> None:
        """Append, or overwrite the last row in place: no cost that grows with the file."""
        start = self._offset if added[KEY] == self._row[KEY] else None
        row = {**self._row, **added} if start is not None else added
        try:
            with open(self.path, "r+b") as file:
                self._offset = file.seek(0, os.SEEK_END) if start is None else file.seek(start)
                file.write(self._lines([row]))
                file.truncate()
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._row = row

    def _rewrite(self, added: dict[str, float]) -> None:
        rows = [row for row in read_table(self.path) if row.get(KEY, 0.0) <= added[KEY]]
        last = {**rows.pop(), **added} if rows and rows[-1].get(KEY) == added[KEY] else added
        self._columns = list(dict.fromkeys([KEY, *(name for row in [*rows, last] for name in row)]))
        header = (",".join(_quoted(name) for name in self._columns) + "\n").encode()
        before = header + self._lines(rows)
        with written_aside(self.path) as aside:
            aside.write_bytes(before + self._lines([last]))
        self._offset, self._row = len(before), last

    def _lines(self, rows: list[dict[str, float]]) -> bytes:
        return "".join(
            ",".join(f"{row[name]:.9g}" if name in row else "" for name in self._columns) + "\n" for row in rows
        ).encode()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') else name
