"""Questions about passages, in the form of SQuAD 1.1: one JSON file, plain or gzipped."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlp_tasks.data.formats import Columns, excerpt
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.errors import UserError

COLUMNS: Columns = {
    "question": ("question",), "passage": ("context",), "answers": ("answers/text",), "starts": ("answers/answer_start",),
    "id": ("id",), "title": ("title",),
}  # fmt: skip
"""Columns of a row, and what TensorFlow Datasets calls them in "squad"."""

MOVED = "answers taken from where their text stands, which is not where they should"
LOST = "answers left out, as their text stands nowhere or in several places, and not where it should"


def read_file(path: Path, columns: Columns, order: object, counts: Counts) -> Iterator[Row]:
    """Rows of "question", "passage", "answers" (texts), "starts" (their first characters), "id" and "title", in the file's order. Their
    place is the number of the question.

    Of two questions with one id the first is taken; how many others there are is counted.

    Raises:
        UserError: no JSON (file, line and column); not in the form of SQuAD; questions without an answer in their passage, as SQuAD 2.0
            has them (how many).
    """
    seen: set[str] = set()
    if not path.is_file():
        raise UserError(f"no file {path}", "check data.directory and the name of the split's file in [data]")
    for number, (title, passage, question) in enumerate(questions(read(path.read_bytes(), str(path)), str(path)), 1):
        name = question["id"]
        if name in seen:
            counts.dropped["duplicate id"] += 1
            continue
        seen.add(name)
        answers = question["answers"]
        texts, starts = tuple(answer["text"] for answer in answers), tuple(answer["answer_start"] for answer in answers)
        fields = {
            "question": question["question"],
            "passage": passage,
            "answers": texts,
            "starts": starts,
            "id": name,
            "title": title,
        }
        yield Row(fields, Where(str(path), number))
    if not seen:
        raise UserError(f"{path}: no questions", 'give a file with {"data": [{"paragraphs": [{"context": …, "qas": […]}]}]}')


def read(content: bytes, name: str) -> Any:
    """JSON, gzipped or not. Raises UserError with file, line and column."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{name}: broken gzip file: {error}", "fetch or pack it again") from None
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: invalid UTF-8 at byte {error.start}", "save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{name}:{error.lineno}: broken JSON at column {error.colno}: {error.msg}", "is the file whole?"
        ) from None
    except (RecursionError, ValueError) as error:  # too deep, or a number of thousands of digits
        raise UserError(f"{name}: JSON that cannot be read: {error}", "give a file in the form of SQuAD 1.1") from None


def questions(content: Any, name: str, *, answered: bool = True) -> list[tuple[str, str, dict[str, Any]]]:
    """Title, passage and question of SQuAD's JSON, all of the right form.

    Args:
        name: of the file, for messages.
        answered: whether questions must have "answers".

    Raises:
        UserError: not of this form (where); questions that have no answer, as in SQuAD 2.0 (how many).
    """
    place, found, without = name, [], 0
    try:
        for number, article in enumerate(_list(content["data"])):
            place = f"{name}: data[{number}]"
            title = _name(article.get("title", ""))
            for paragraph_number, paragraph in enumerate(_list(article["paragraphs"])):
                place = f"{name}: data[{number}].paragraphs[{paragraph_number}]"
                passage = _text(paragraph["context"])
                for question in _list(paragraph["qas"]):
                    place = f"{name}: question {question.get('id')!r}"
                    checked: dict[str, Any] = {"id": _name(question["id"]), "question": _text(question["question"])}
                    if answered:
                        checked["answers"] = [
                            {"text": _text(answer["text"]), "answer_start": int(answer["answer_start"])}
                            for answer in _list(question["answers"])
                        ]  # fmt: skip
                    without += question.get("is_impossible") is True or not checked.get("answers", True)
                    found.append((title, passage, checked))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{place}: not in the form of SQuAD 1.1: {missing}",
                        'expected {"data": [{"title": …, "paragraphs": [{"context": …, "qas": [{"id": …, "question": …, "answers": '
                        '[{"text": …, "answer_start": …}]}]}]}]}') from None  # fmt: skip
    if without:
        raise UserError(f"{name}: {without:,} of {len(found):,} questions have no answer (SQuAD 2.0)", "unanswerable questions are not "
                        "supported yet: leave them out, or give a file of SQuAD 1.1")  # fmt: skip
    return found


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"a {type(value).__name__} where a list belongs")
    return value


def _name(value: Any) -> str:
    """Of an id or a title, which may be numbers."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where a text belongs")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"half a surrogate pair in {excerpt(value)}")
    return value


def mended_starts(passage: str, answers: tuple[str, ...], starts: tuple[int, ...]) -> tuple[list[int], list[tuple[str, str]]]:
    """First characters of answers as their passage has them, and what was wrong with others: `MOVED` or `LOST`, and how.

    A wrong one is found where its text stands in the passage once; -1 where it does not, or more often.
    """
    found, problems = [], []
    for text, start in zip(answers, starts, strict=True):
        if start >= 0 and text and passage.startswith(text, start):
            found.append(start)
            continue
        count = len(re.findall(f"(?={re.escape(text)})", passage)) if text else 0
        found.append(passage.find(text) if count == 1 else -1)
        where = f"but at {found[-1]}" if count == 1 else f"but {count:,} times elsewhere" if count else "nor elsewhere"
        problems.append((MOVED if count == 1 else LOST, f"{excerpt(text, 30)} is not at character {start}, {where}"))
    return found, problems
