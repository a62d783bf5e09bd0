"""Files to sentences: CoNLL-U and column files; what a model fills in is written back with every other byte as it was.

White space is ASCII's: a no-break space or a Unicode line separator is part of a word.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nlp_tasks.data.formats import Columns, decode, excerpt, lines
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.errors import UserError

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
"""Of CoNLL-U, from left to right."""

MULTI_WORD, EMPTY_NODE = "multi-word tokens", "empty nodes"
"""What `Counts.passed` calls the lines of CoNLL-U that are no words."""

_WHITE = " \t\n\r\v\f"
_RANGE = re.compile("([1-9][0-9]{0,8})-([1-9][0-9]{0,8})")


def read_file(path: Path, columns: Columns, order: Sequence[str], counts: Counts) -> Iterator[Row]:
    """Sentences of a file: each field of a row is a tuple of strings, one a word, and all are equally long.

    Args:
        path: `.conllu`; any other file has one word a line, its columns separated by a tab where the line holds one, by white
            space otherwise, and a blank line after each sentence.
        columns: the columns to find; each row's `fields` has exactly these keys. In CoNLL-U a candidate is one of `COLUMNS`.
        order: the columns of a file that is not CoNLL-U, from left to right.
        counts: is told about what was left out.

    Raises:
        UserError: missing or empty file, broken line, missing column: with file:line.
    """
    if path.is_dir():
        raise UserError(f"{path}: a folder, not a file", "name the file with the sentences of the split in [data]")
    if not path.is_file():
        raise UserError(f"no file {path}", "check data.directory and the name of the split's file in [data]")
    read = _read_conllu(path, columns, counts) if path.suffix.lower() == ".conllu" else _read_table(path, columns, order, counts)
    return _not_empty(read, path)


def _not_empty(rows: Iterator[Row], path: Path) -> Iterator[Row]:
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise UserError(f"{path}: empty file", "give a file with at least one sentence")


# Column files


def _read_table(path: Path, columns: Columns, order: Sequence[str], counts: Counts) -> Iterator[Row]:
    if missing := [name for name in columns if name not in order]:
        raise UserError(
            f"{path}: the columns {', '.join(order) or '(none)'} have no {', '.join(missing)}",
            f"name the file's columns from left to right, for example {_setting(columns)}",
        )
    indices = {name: order.index(name) for name in columns}
    for numbers, table in _tables(path, columns, order, counts):
        fields = {name: tuple(cells[index] for cells in table) for name, index in indices.items()}
        yield Row(fields, Where(str(path), numbers[0]), tuple(numbers))


def _tables(path: Path, columns: Columns, order: Sequence[str], counts: Counts) -> Iterator[tuple[list[int], list[list[str]]]]:
    """The numbers and the cells of each sentence's lines."""
    numbers: list[int] = []
    table: list[list[str]] = []
    for number, line in lines(path):
        text = line.strip(_WHITE)
        begins_document = text.startswith("-DOCSTART-")
        if begins_document:
            counts.dropped["-DOCSTART- line"] += 1
        if begins_document or not text:
            if table:
                yield numbers, table
                numbers, table = [], []
            continue
        cells = [cell.strip(_WHITE) for cell in line.split("\t")] if "\t" in line else re.split(f"[{_WHITE}]+", text)
        if len(cells) != len(order):
            raise UserError(
                f"{path}:{number}: {len(cells)} column(s), expected {len(order)} ({', '.join(order)}): {excerpt(text)}",
                f"name the file's columns from left to right, for example {_setting(columns)}",
            )
        if empty := [name for name, cell in zip(order, cells, strict=True) if name in columns and not cell]:
            raise UserError(f"{path}:{number}: nothing in the column {empty[0]}: {excerpt(line)}",
                            f"each line needs {', '.join(columns)}")  # fmt: skip
        numbers.append(number)
        table.append(cells)
    if table:
        yield numbers, table


def _setting(columns: Columns) -> str:
    first, *others = columns
    return f"--set 'data.columns={json.dumps([first, 'pos', *others], separators=(',', ':'))}'"


# CoNLL-U


class Block(NamedTuple):
    """A sentence of CoNLL-U as it stands in its file. Without words where there is nothing but comments or blank lines."""

    words: tuple[str, ...]
    """The forms. Multi-word tokens and empty nodes are no words."""
    places: tuple[int, ...]
    """Of each word: the index of its line in `raw`."""
    ranges: int
    """Number of multi-word tokens."""
    nodes: int
    """Number of empty nodes."""
    raw: tuple[bytes, ...]
    """All lines with their ends, to the last blank line behind the sentence."""
    where: Where
    """The first word."""


def blocks(stream: Iterable[bytes], name: str) -> Iterator[Block]:
    """Sentences of CoNLL-U. All their `raw` lines, joined, are the stream.

    Args:
        stream: lines with their ends, as a binary file gives them.
        name: of the file, for places.

    Raises:
        UserError: invalid UTF-8, other than ten columns, ids out of order, a word without form: with name:line.
    """
    start, raw, ended = 1, list[bytes](), False
    for line in stream:
        blank = not line.strip()
        if ended and not blank:
            yield _block(raw, name, start)
            start, raw = start + len(raw), []
        raw.append(line)
        ended = blank
    if raw:
        yield _block(raw, name, start)


def column_of(block: Block, name: str) -> tuple[str, ...]:
    """What the block has in the column (one of `COLUMNS`) of each word."""
    if name == "form":
        return block.words
    index = COLUMNS.index(name)
    return tuple(_cells(block.raw[place])[1][index].decode() for place in block.places)


def text_of(block: Block) -> str:
    """The raw text, of the comment that holds it; empty where none does."""
    found = (
        line.removeprefix(codecs.BOM_UTF8) for line in block.raw if line.removeprefix(codecs.BOM_UTF8).startswith(b"# text = ")
    )
    return next(found, b"").removeprefix(b"# text = ").rstrip(b"\r\n").decode()


def fill(block: Block, column: str, values: Sequence[str]) -> bytes:
    """The block's bytes with a value in the column (one of `COLUMNS`) of each word, everything else as it was."""
    if len(values) != len(block.words):
        raise ValueError(f"{block.where}: {len(values)} values for {len(block.words)} words")
    index = COLUMNS.index(column)
    raw = list(block.raw)
    for place, value in zip(block.places, values, strict=True):
        if "\t" in value or "\n" in value:
            raise ValueError(f"{block.where}: {value!r} would break its line")
        before, cells, after = _cells(raw[place])
        cells[index] = value.encode()
        raw[place] = before + b"\t".join(cells) + after
    return b"".join(raw)


def _read_conllu(path: Path, columns: Columns, counts: Counts) -> Iterator[Row]:
    found = {name: [c.lower() for c in candidates if c.lower() in COLUMNS] for name, candidates in columns.items()}
    if missing := [name for name in columns if not found[name]]:
        named = ", ".join(f"{name} ({' or '.join(columns[name]) or 'not named'})" for name in missing)
        raise UserError(f"{path}: CoNLL-U has no column for {named}", f"its columns are {', '.join(COLUMNS)}")
    with path.open("rb") as file:
        for block in blocks(file, str(path)):
            counts.passed.update({MULTI_WORD: block.ranges, EMPTY_NODE: block.nodes})
            if block.words:
                start = block.where.line - block.places[0]
                fields = {name: column_of(block, candidates[0]) for name, candidates in found.items()}
                yield Row(fields, block.where, tuple(start + place for place in block.places), text_of(block))
            elif any(line.removeprefix(codecs.BOM_UTF8).strip() for line in block.raw):
                counts.dropped["sentence without words"] += 1


def _block(raw: list[bytes], name: str, start: int) -> Block:
    words: list[str] = []
    places: list[int] = []
    nodes = all_nodes = ranges = 0
    for place, line in enumerate(raw):
        where = Where(name, start + place)
        text = _text(line, where)
        if text.startswith("#") or not text.strip(_WHITE):
            continue
        cells = text.split("\t")
        if len(cells) != len(COLUMNS):
            raise UserError(
                f"{where}: {len(cells)} column(s), expected {len(COLUMNS)}: {excerpt(cells[0])}",
                f"the columns of CoNLL-U are separated by single tabs: {', '.join(COLUMNS)}; nothing is written as _",
            )
        if cells[0] == str(len(words) + 1):
            if not cells[1]:
                raise UserError(f"{where}: word {cells[0]} has no form", "write _ where a column has nothing")
            words.append(cells[1])
            places.append(place)
            nodes = 0
        elif cells[0] == f"{len(words)}.{nodes + 1}":
            nodes += 1
            all_nodes += 1
        else:
            _check_range(cells[0], len(words), nodes, where)
            ranges += 1
    return Block(tuple(words), tuple(places), ranges, all_nodes, tuple(raw), Where(name, start + (places[0] if places else 0)))


def _check_range(identifier: str, word: int, nodes: int, where: Where) -> None:
    """Refuse an id that is not the range of a multi-word token, which begins at the next word."""
    ends = _RANGE.fullmatch(identifier)
    if ends and word + 1 == int(ends[1]) <= int(ends[2]):
        return
    expected = str(word + 1)
    if "-" in identifier:
        expected = f"{word + 1}-{word + 1}, {word + 1}-{word + 2} or further"
    elif "." in identifier:
        expected = f"{word}.{nodes + 1}"
    shown = identifier if re.fullmatch("[0-9.-]{1,20}", identifier) else excerpt(identifier)
    raise UserError(
        f"{where}: id {shown} {f'after id {word}' if word else 'at the beginning'}; expected {expected}",
        "the words of a sentence are numbered 1, 2, 3 …, and a blank line ends it",
    )


def _text(line: bytes, where: Where) -> str:
    """A line without its end and without byte-order mark, which files that were joined have inside too."""
    return decode(line.removeprefix(codecs.BOM_UTF8), where).removesuffix("\n").removesuffix("\r")


def _cells(line: bytes) -> tuple[bytes, list[bytes], bytes]:
    """What stands before a line's columns (nothing, or a byte-order mark), its columns, and its end."""
    content = line.removeprefix(codecs.BOM_UTF8)
    before = line[: len(line) - len(content)]
    body = content.removesuffix(b"\n").removesuffix(b"\r")
    return before, body.split(b"\t"), content[len(body) :]
