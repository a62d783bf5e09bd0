"""Stories with questions, in the form of bAbI (Weston 2016): numbered lines, a story begins with 1, a question has its answer behind a tab.

1 Mary moved to the bathroom.
2 Sandra journeyed to the bedroom.
3 Where is Mary? <tab> bathroom <tab> 1
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlp_tasks.data.formats import excerpt, fingerprint, lines
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.errors import UserError

END = "\n"
"""Behind each fact of a story that is one text."""
DIGITS = 10
"""The number of a line has fewer."""
COLUMNS = ("story", "question", "answer", "facts", "begun", "task")


class Stories:
    """Rows of "story" (all facts before the question, a line each), "question", "answer", "facts" (places of the supporting facts among
    all, from 0, as text), "begun" (where the story began) and "task".

    A split names a file; or, where the recipe names tasks, what their files end in: with tasks = [1, 2] "train" is `qa1_*_train.txt` and
    `qa2_*_train.txt` below the directory.

    Args:
        data: the recipe's `[data]`.
    """

    def __init__(self, data: Any) -> None:
        self._data = data

    def paths(self, split: str) -> list[Path]:
        """The files of a split. Raises UserError where one is missing."""
        if not self._data.tasks:
            path = self._data.path(split)
            if not path.is_file():
                raise UserError(f"no file {path}", self._hint("name the files by data.train and data.test"))
            return [path]
        folder, found = self._data.path(""), []
        for task in self._data.tasks:
            there = sorted(folder.glob(f"qa{task}_*_{split}.txt"))
            if len(there) != 1:
                raise UserError(
                    f"{folder} has {len(there)} files qa{task}_*_{split}.txt", self._hint("data.directory names their folder")
                )
            found += there
        return found

    def _hint(self, advice: str) -> str:
        return f"the data comes from {self._data.origin}; {advice}" if self._data.origin else advice

    def rows(self, split: str, counts: Counts) -> Iterator[Row]:
        for path in self.paths(split):
            yield from counts.keep(read_file(path, counts))

    def fingerprint(self, split: str) -> str:
        return fingerprint(self.paths(split))


def read_file(path: Path, counts: Counts) -> Iterator[Row]:
    """Rows of one file, as `Stories` has them.

    Raises:
        UserError: a line without a number, a question without an answer, a supporting fact that is none: with file:line.
    """
    task = re.match(r"qa(\d+)_", path.name)
    facts: list[str] = []
    place: dict[int, int] = {}
    begun, asked, number = 0, True, 0
    for number, raw in lines(path):
        line = raw.rstrip("\r\n")
        if not line.strip():
            continue
        where = Where(str(path), number)
        label, _, text = line.partition(" ")
        if not (label.isdecimal() and len(label) < DIGITS):
            raise UserError(
                f"{where}: no number before the text: {excerpt(line)}", "each line of a story is numbered, the first by 1"
            )
        if not begun and int(label) != 1:
            raise UserError(f"{where}: the first story does not begin with 1: {excerpt(line)}", "is the file cut off?")
        if int(label) == 1:
            if not asked:
                counts.dropped["story without a question"] += 1
            facts, place, begun, asked = [], {}, number, False
        if "\t" not in text:
            if text.strip():
                place[int(label)] = len(facts)
                facts.append(text.strip())
            continue
        asked = True
        question, answer, *rest = (cell.strip() for cell in text.split("\t"))
        if not answer:
            raise UserError(f"{where}: a question without an answer: {excerpt(text)}", "write QUESTION<tab>ANSWER<tab>FACTS")
        supporting = []
        for fact in rest[0].split() if rest else ():
            if not (fact.isdecimal() and len(fact) < DIGITS) or int(fact) not in place:
                raise UserError(
                    f"{where}: supporting fact {fact!r} is no line of the story before it", "name the facts by their numbers"
                )
            supporting.append(str(place[int(fact)]))
        fields = {"story": "".join(fact + END for fact in facts), "question": question, "answer": answer, "facts": tuple(supporting),
                  "begun": f"{path.name}:{begun}", "task": f"qa{task[1]}" if task else path.stem}  # fmt: skip
        yield Row(fields, where)
    if not number:
        raise UserError(f"{path}: empty file", "give a file with at least one story")
    if not asked:
        counts.dropped["story without a question"] += 1
