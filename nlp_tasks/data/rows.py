"""A row of data that knows where it came from, and the counts of what was read and dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
CHUNK = 512
"""Rows that are read, encoded or counted together."""


class Where(NamedTuple):
    """A place a person can open: `file:line` (for data without lines, its name and the number of the row)."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the text of each column (a tuple of texts where the column is a sequence), and its place."""

    fields: dict[str, Any]
    where: Where
    lines: tuple[int, ...] = ()
    """The line of each item of a sequence, where it has one."""
    text: str = ""
    """The text that a sequence of words was, where that is known."""

    def place(self, item: int) -> Where:
        """Of an item of a sequence."""
        return Where(self.where.file, self.lines[item]) if self.lines else self.where


@dataclass
class Counts:
    """How many rows were read, and how many left out or mended, by reason."""

    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    mended: dict[str, list[str]] = field(default_factory=dict)
    """Of each kind of mistake that was mended: every place."""
    passed: Counter[str] = field(default_factory=Counter)
    """What rows hold beside that is not read, such as the empty nodes of a treebank."""

    def keep(self, rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            self.read += 1
            yield row

    def __str__(self) -> str:
        text = f"{self.read:,} rows"
        for reason, count in sorted(self.dropped.items()):
            text += f", {count:,} left out ({reason})"
        for what, places in sorted(self.mended.items()):
            text += f", {len(places):,} {what} ({', '.join(places[:3])}{', …' if len(places) > 3 else ''})"
        return text


def chunks(items: Iterable[T], size: int = CHUNK, characters: int = 4_000_000) -> Iterator[list[T]]:
    """Lists of at most `size` examples, or of fewer where their `inputs` reach `characters`: few long texts fill memory too."""
    chunk: list[T] = []
    held = 0
    for item in items:
        chunk.append(item)
        held += sum(len(given) for given in getattr(item, "inputs", ()) if isinstance(given, (str, tuple)))
        if len(chunk) == size or held >= characters:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk
