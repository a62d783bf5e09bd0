"""Running text: files and folders read as one text, in pieces of whole lines, so that larger than memory works.

A split is a path, or a part of one: `input.txt[:85.5%]`, `input.txt[90%:]`, `tunes[:80%]`. One text is cut where the share of its bytes
ends; a folder, and a file that holds many documents, is dealt out by document: equal documents go to one side, whatever their number.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import sysconfig
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.errors import UserError
from nlp_tasks.recipe import Data

PIECE = 2_000
"""Lines are handed on together until they have so many characters."""
LONGEST = 1 << 16
"""A longer line comes in parts."""

_PART = re.compile(r"(?P<path>.*)\[(?P<start>[\d.e-]+%)?:(?P<end>[\d.e-]+%)?\]")


class Part(NamedTuple):
    """A path and the share of it that a split has."""

    path: str
    start: Fraction = Fraction(0)
    end: Fraction = Fraction(1)

    @classmethod
    def of(cls, split: str) -> Part:
        """Of what a recipe calls a split. Raises UserError where it cannot be read."""
        if not split.endswith("]"):
            return cls(split)
        found = _PART.fullmatch(split)
        given = (found["start"] or "0%", found["end"] or "100%") if found else ()
        try:
            shares = [Fraction(share[:-1]) / 100 for share in given]
        except ValueError:
            shares = []
        if not found or len(shares) != 2 or not 0 <= shares[0] < shares[1] <= 1:
            raise UserError(f"{split!r}: not a part of a text", 'write "FILE[:90%]" or "FILE[85%:90%]", in percent of the text')
        return cls(found["path"], *shares)


class Document(NamedTuple):
    """Where a document lies: bytes of a file from `start` to `end`, the first of which stands on a line."""

    path: Path
    start: int
    end: int
    line: int = 1


class Texts:
    """Files and folders of text.

    Args:
        data: the recipe's `[data]`, with `pattern`: which files of a folder are read.
    """

    def __init__(self, data: Data) -> None:
        if data.source == "standard_library":
            data = msgspec.structs.replace(data, directory=sysconfig.get_path("stdlib"))
        self._data, self._pattern = data, getattr(data, "pattern", "**/*.txt")

    def rows(self, split: str, counts: Counts) -> Iterator[Row]:
        """Pieces of whole lines, `{"text": …}`; the text is all of them one after another."""
        return counts.keep(piece for document in self.documents(split) for piece in _pieces(document))

    def fingerprint(self, split: str) -> str:
        digest = hashlib.sha256()
        for document in self.documents(split):
            digest.update(b"%d\0" % (document.end - document.start))
            for block in _blocks(document):
                digest.update(block)
        return digest.hexdigest()

    def documents(self, split: str) -> Iterator[Document]:
        """In the order of their names. Raises UserError where there are none."""
        part, path = Part.of(split), check_exists(self._data, split)
        if path.is_file() and not _holds_many(path):
            size = path.stat().st_size
            yield _at_characters(Document(path, int(size * part.start), int(size * part.end)))
            return
        try:
            files = [path] if path.is_file() else sorted(file for file in path.glob(self._pattern) if _is_text(file, path))
        except (ValueError, NotImplementedError) as error:
            raise UserError(
                f"data.pattern = {self._pattern!r}: {error}", 'give a pattern below the folder, for example "**/*.md"'
            ) from None
        if not files:
            raise UserError(
                f"{path}: no file matches data.pattern = {self._pattern!r}", 'name the files that are text, for example "**/*.md"'
            )
        for file in files:
            for document in _tunes(file) if _holds_many(file) else [Document(file, 0, file.stat().st_size)]:
                if part.start <= (0 if part.end - part.start == 1 else _number(document)) < part.end:
                    yield document


def check_exists(data: Data, split: str) -> Path:
    """The file or folder of a split. Raises UserError where there is none."""
    path = data.path(Part.of(split).path)
    if not path.exists():
        origin = f"the data comes from {data.origin}; " if data.origin else ""
        raise UserError(f"no file {path}", f"{origin}name files or folders by data.train and data.directory in the recipe, "
                        "or by --set data.train=FILE")  # fmt: skip
    return path


def cut(data: Data) -> Data:
    """The same `[data]` with validation and test named, as parts of train where the recipe leaves them open: its last shares."""
    if not data.train or data.is_toy_world or data.source.startswith("tfds:"):
        return data
    part = Part.of(data.train)
    whole = part.end - part.start
    named = {}
    end = part.end
    for split, share in (("test", data.test_share), ("validation", data.validation_share)):
        if not getattr(data, split) and share:
            start = end - Fraction(str(share)) * (whole if split == "test" else end - part.start)
            named[split] = _named(part.path, start, end)
            end = start
    return msgspec.structs.replace(data, train=data.train if end == part.end else _named(part.path, part.start, end), **named)


def _named(path: str, start: Fraction, end: Fraction) -> str:
    def percent(share: Fraction) -> str:
        return f"{float(100 * share):.12g}%"

    return f"{path}[{percent(start) if start else ''}:{percent(end) if end < 1 else ''}]"


def _holds_many(path: Path) -> bool:
    return path.suffix.lower() == ".abc"


def _is_text(file: Path, folder: Path) -> bool:
    hidden = any(
        part.startswith(".") or part in ("site-packages", "dist-packages", "__pycache__")
        for part in file.relative_to(folder).parts
    )
    return file.is_file() and not hidden


def _tunes(path: Path) -> Iterator[Document]:
    """The tunes of a file in ABC notation: each begins at a line "X:…"."""
    start, first, at = 0, 1, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.startswith(b"X:") and at > start:
                yield Document(path, start, at, first)
                start, first = at, number
            at += len(line)
    if at > start:
        yield Document(path, start, at, first)


def _number(document: Document) -> float:
    """In [0, 1), from the document's text alone."""
    digest = hashlib.blake2b(digest_size=8)
    for block in _blocks(document):
        digest.update(block)
    return int.from_bytes(digest.digest(), "big") / 2**64


def _blocks(document: Document) -> Iterator[bytes]:
    with document.path.open("rb") as file:
        file.seek(document.start)
        left = document.end - document.start
        while block := file.read(min(left, 1 << 20)):
            left -= len(block)
            yield block


def _at_characters(document: Document) -> Document:
    """Both ends moved back to where a character of UTF-8 (or a line end of two) begins; with the number of its first line."""
    with document.path.open("rb") as file:
        ends = [_border(file, place) for place in (document.start, document.end)]
    before = Document(document.path, 0, ends[0])
    return Document(document.path, ends[0], ends[1], 1 + sum(block.count(b"\n") for block in _blocks(before)))


def _border(file: IO[bytes], place: int) -> int:
    file.seek(max(0, place - 3))
    behind, here = file.read(min(place, 3)), file.read(1)
    while here and behind and 0x80 <= here[0] < 0xC0:  # inside of a character
        behind, here, place = behind[:-1], behind[-1:], place - 1
    return place - 1 if here == b"\n" and behind.endswith(b"\r") else place


def _lines(document: Document) -> Iterator[tuple[int, str]]:
    """Numbered lines with their end, "\\n", which a file's last one gets if it lacks it; long ones in parts, cut at spaces."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    number, kept, left = document.line, "", document.end - document.start
    whole = document.end == document.path.stat().st_size
    with document.path.open("rb") as file:
        file.seek(document.start)
        while raw := file.readline(min(LONGEST, left)):
            first = left == document.end - document.start
            left -= len(raw)
            where = Where(str(document.path), number)
            if b"\0" in raw:
                raise UserError(f"{where}: a NUL byte; is this a binary file?", "give plain text in UTF-8")
            if first and document.start == 0:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            try:
                text = kept + decoder.decode(raw, final=not left)
            except UnicodeDecodeError as error:
                received = error.object[error.start : error.start + 4].hex(" ")
                raise UserError(f"{where}: invalid UTF-8 ({received}); is this a binary file?",
                                "convert it to UTF-8, for example: iconv -f latin1 -t utf-8 FILE") from None  # fmt: skip
            kept = ""
            if text.endswith("\n"):
                yield number, text.removesuffix("\n").removesuffix("\r") + "\n"
                number += 1
            elif left:
                head, space, kept = text.rpartition(" ")
                if not space:  # a carriage return waits for its line feed
                    head, kept = (text[:-1], "\r") if text.endswith("\r") else (text, "")
                yield number, head + space
            else:
                yield number, text + ("\n" if whole else "")


def _pieces(document: Document) -> Iterator[Row]:
    held: list[str] = []
    size, start = 0, document.line
    for number, line in _lines(document):
        if not held:
            start = number
        held.append(line)
        size += len(line)
        if size >= PIECE:
            yield Row({"text": "".join(held)}, Where(str(document.path), start))
            held, size = [], 0
    if held:
        yield Row({"text": "".join(held)}, Where(str(document.path), start))
