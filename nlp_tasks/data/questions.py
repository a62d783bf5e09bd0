"""What word vectors are asked: analogies by section, as word2vec's questions-words.txt has them, and pairs of words that people judged."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nlp_tasks.data.formats import excerpt, lines
from nlp_tasks.errors import UserError


class Question(NamedTuple):
    """a is to b as c is to d: "Athens Greece Oslo Norway"."""

    section: str
    words: tuple[str, str, str, str]


class Pair(NamedTuple):
    """Two words, and how alike people found them; any scale, more is more alike."""

    words: tuple[str, str]
    score: float


def read_questions(path: Path) -> list[Question]:
    """Analogies: lines of four words below lines ": section".

    Raises:
        UserError: missing or empty file, a question before the first section, a line of other than four words: with file:line.
    """
    section = ""
    questions: list[Question] = []
    for number, line in _read(path, "data.questions names a file of analogies, such as word2vec's questions-words.txt"):
        if line.startswith(":"):
            section = line[1:].strip()
            if not section:
                raise UserError(f"{path}:{number}: a section without a name", 'write it as ": capital-common-countries"')
            continue
        words = tuple(line.split())
        if not section:
            raise UserError(f"{path}:{number}: a question before the first section: {excerpt(line)}",
                            'name the sections by lines such as ": capital-common-countries"')  # fmt: skip
        if len(words) != 4:
            raise UserError(f"{path}:{number}: {len(words)} words, not four: {excerpt(line)}",
                            "a question is four words: Athens Greece Oslo Norway")  # fmt: skip
        questions.append(Question(section, words))
    if not questions:
        raise UserError(
            f"{path}: no questions in it", 'give lines of four words below lines such as ": capital-common-countries"'
        )
    return questions


def read_similarity(path: Path) -> list[Pair]:
    """Judged pairs: lines of two words and a number, separated by tabs, commas or spaces, as WordSim-353 and SimLex-999 can be had; of
    several cells the first number counts, a first line without one is a header.

    Raises:
        UserError: missing or empty file, a line of another form: with file:line.
    """
    pairs: list[Pair] = []
    for place, (number, line) in enumerate(_read(path, "data.similarity names a file with two words and a number a line")):
        cells = [cell.strip() for cell in re.split(r"[\t,;]" if re.search(r"[\t,;]", line) else " +", line)]
        score = next((number for number in map(_number, cells[2:]) if number is not None), None)
        if score is None or not cells[0] or not cells[1]:
            if place == 0:
                continue
            raise UserError(f"{path}:{number}: expected two words and a number: {excerpt(line)}",
                            "separate them by a tab, a comma or a space")  # fmt: skip
        pairs.append(Pair((cells[0], cells[1]), score))
    if not pairs:
        raise UserError(f"{path}: no pairs in it", "give lines with two words and a number")
    return pairs


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _read(path: Path, hint: str) -> Iterator[tuple[int, str]]:
    """Numbered lines without those that are empty."""
    if not path.is_file():
        raise UserError(f"no file {path}", hint)
    for number, line in lines(path):
        if line.strip():
            yield number, line.strip()
