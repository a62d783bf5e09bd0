"""Files to rows: CSV, TSV, JSON Lines, and one folder a label. Lines end at `\\n` only; a review may hold U+0085."""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.errors import UserError

Columns = Mapping[str, Sequence[str]]
"""Canonical column name → the names by which a header line may call it, first choice first."""

Reader = Callable[[Path, Columns, Sequence[str], Counts], Iterator[Row]]
"""A file, the columns to find, their order where no header names them → rows."""

csv.field_size_limit(sys.maxsize)


def read_file(path: Path, columns: Columns, order: Sequence[str], counts: Counts) -> Iterator[Row]:
    """Rows of a file, or of a folder that holds one folder a label.

    Args:
        path: `.csv`, `.tsv` / `.tab` / `.txt` (tab-separated, quotes are text), `.jsonl` / `.ndjson` or a folder.
        columns: the columns to find; each row's `fields` has exactly these keys.
        order: the columns of a file without header line, from left to right; empty where there must be one.
        counts: is told about what was left out.

    Raises:
        UserError: missing or empty file, other ending, broken line, missing column: with file:line.
    """
    if path.is_dir():
        return _read_folders(path, columns)
    if not path.is_file():
        raise UserError(f"no file {path}", "check data.directory and the name of the split's file in [data]")
    readers = {".csv": _csv, ".tsv": _tsv, ".tab": _tsv, ".txt": _tsv}
    suffix = path.suffix.lower()
    if suffix in readers:
        return _table(path, readers[suffix](path), columns, order, counts)
    if suffix in (".jsonl", ".ndjson"):
        return _read_json_lines(path, columns, counts)
    raise UserError(
        f"{path}: unknown kind of file {path.suffix!r}",
        "give .csv, .tsv, .jsonl, or a folder with one folder of .txt files a label",
    )


def fingerprint(paths: Iterable[Path], begun: str = "") -> str:
    """SHA-256 of the contents of files, one after the other."""
    digest = hashlib.sha256(begun.encode())
    for path in paths:
        with path.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines with their end; a byte-order mark is left out. Invalid UTF-8 is refused with its line."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            yield number, decode(raw, Where(str(path), number))


def decode(raw: bytes, where: Where) -> str:
    """A line of UTF-8, refused with its place where it is none."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        received = raw[error.start : error.start + 4].hex(" ")
        raise UserError(
            f"{where}: invalid UTF-8 at byte {error.start} of the line ({received})",
            "convert the file to UTF-8, for example: iconv -f latin1 -t utf-8 FILE",
        ) from None


def _tsv(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines(path):
        yield number, line.removesuffix("\n").removesuffix("\r").split("\t")


def _csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((line for _, line in lines(path)), strict=True)
    start = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{path}:{start}: broken CSV: {error}",
                'close the quotes and double those inside ("" for "), or save the file as .tsv, where quotes are text',
            ) from None
        yield start, cells
        start = reader.line_num + 1


def _table(
    path: Path, table: Iterator[tuple[int, list[str]]], columns: Columns, order: Sequence[str], counts: Counts
) -> Iterator[Row]:
    places: dict[str, int] | None = None
    for number, cells in table:
        if not any(map(str.strip, cells)):
            counts.dropped["blank line"] += 1
            continue
        if places is None:
            places = _header(cells, columns, Where(str(path), number))
            if places is not None:
                continue
            if not order:
                wanted = ", ".join(candidates[0] for candidates in columns.values())
                raise UserError(f"{path}:{number}: no header line with the columns {wanted}: {excerpt(', '.join(cells))}",
                                "name the columns as the file does, or leave data.text_column and the like empty")  # fmt: skip
            if unnamed := columns.keys() - set(order):
                raise UserError(
                    f"{path}:{number}: no header line, and the columns {', '.join(order)} have no {', '.join(sorted(unnamed))}",
                    "name each column by a header line or in data.columns",
                )
            places = {name: index for index, name in enumerate(order) if name in columns}
        if len(cells) <= max(places.values()):
            missing = ", ".join(name for name, index in places.items() if index >= len(cells))
            raise UserError(
                f"{path}:{number}: {len(cells)} column(s), no {missing}: {excerpt(cells[0])}",
                f"each row needs the columns {', '.join(places)}, or a header line that names them",
            )
        yield Row({name: cells[index] for name, index in places.items()}, Where(str(path), number))
    if places is None:
        raise UserError(f"{path}: empty file", "give a file with at least one row")


def _header(cells: list[str], columns: Columns, where: Where) -> dict[str, int] | None:
    """Column → its index where the cells are a header line; None where none of them is the name of a column."""
    known = [cell.strip().lower() for cell in cells]
    places = {}
    for name, candidates in columns.items():
        found = [known.index(candidate.lower()) for candidate in candidates if candidate.lower() in known]
        if found:
            places[name] = found[0]
    if places and (missing := [name for name in columns if name not in places]):
        raise UserError(f"{where}: the header line has no column for {', '.join(missing)}: it has {excerpt(', '.join(cells))}",
                        absent(missing[0], columns))  # fmt: skip
    return places or None


def absent(name: str, columns: Columns) -> str:
    """What to do where a column is missing."""
    return f"call the column for {name} {' or '.join(map(repr, columns[name]))}, or say in [data] what it is called"


def _read_json_lines(path: Path, columns: Columns, counts: Counts) -> Iterator[Row]:
    empty = True
    for number, line in lines(path):
        if not line.strip():
            counts.dropped["blank line"] += 1
            continue
        empty = False
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}: broken JSON: {error}", "each line must be one JSON object") from None
        if not isinstance(content, dict):
            raise UserError(f"{path}:{number}: a {type(content).__name__}, not an object", 'write {"text": …, "label": …}')
        fields = {}
        for name, candidates in columns.items():
            found = [content[candidate] for candidate in candidates if content.get(candidate) is not None]
            if not found or isinstance(found[0], (dict, list)):
                raise UserError(f"{path}:{number}: no {name} (keys: {', '.join(content) or 'none'})",
                                f"each line needs the keys {', '.join(columns)}; {absent(name, columns)}")  # fmt: skip
            fields[name] = found[0] if isinstance(found[0], str) else json.dumps(found[0])
            if any("\ud800" <= character <= "\udfff" for character in fields[name]):
                raise UserError(f"{path}:{number}: {name} is no Unicode text: it has half a surrogate pair ({excerpt(fields[name])})",
                                "write characters as such, or both halves of their escape")  # fmt: skip
        yield Row(fields, Where(str(path), number))
    if empty:
        raise UserError(f"{path}: empty file", "give a file with at least one row")


def _read_folders(path: Path, columns: Columns) -> Iterator[Row]:
    text, label = tuple(columns)[:2]
    files = labelled_files(path)
    if not files:
        raise UserError(f"{path}: no files in folders below it", "lay it out as FOLDER/LABEL/ANY-NAME.txt, one text a file")
    for file in files:
        yield Row({text: "".join(line for _, line in lines(file)), label: file.parent.name}, Where(str(file), 1))


def labelled_files(path: Path) -> list[Path]:
    """The files of a folder that holds one folder a label, sorted; hidden ones are left out."""
    files = (file for file in path.glob("*/*") if file.is_file())
    return sorted(file for file in files if not file.name.startswith(".") and not file.parent.name.startswith("."))


def excerpt(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else text[: length - 1] + "…")
