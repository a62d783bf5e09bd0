"""SQuAD's files: what is read, what is mended, and what is refused with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from nlp_tasks.data import passages
from nlp_tasks.data.rows import Counts, Row
from nlp_tasks.errors import UserError

PASSAGE = "Anna was born in Rome. Rome is old, and 🎉 Anna is not."


def question(name: str, text: str, *answers: tuple[str, int]) -> dict[str, Any]:
    return {"id": name, "question": text, "answers": [{"text": answer, "answer_start": start} for answer, start in answers]}


def content(*questions: dict[str, Any], title: str = "Rome") -> dict[str, Any]:
    return {"version": "1.1", "data": [{"title": title, "paragraphs": [{"context": PASSAGE, "qas": list(questions)}]}]}


WHERE = question("q1", "Where was Anna born?", ("Rome", 17), ("in Rome", 14))
WHO = question("q2", "Who is not old?", ("Anna", 42))


def rows(path: Path, counts: Counts | None = None) -> list[Row]:
    return list(passages.read_file(path, passages.COLUMNS, (), counts or Counts()))


def write(path: Path, given: Any) -> Path:
    path.write_text(given if isinstance(given, str) else json.dumps(given, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["plain", "gzip", "byte-order mark"])
def test_questions_have_passage_and_answers(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a.json", content(WHERE, WHO))
    if kind == "gzip":
        path = tmp_path / "a.json.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.json").read_bytes()))
    elif kind == "byte-order mark":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    first, second = rows(path)
    assert first.fields == {
        "question": "Where was Anna born?", "passage": PASSAGE, "answers": ("Rome", "in Rome"), "starts": (17, 14), "id": "q1",
        "title": "Rome",
    }  # fmt: skip
    assert str(second.where) == f"{path}:2"


def test_of_one_id_the_first_is_taken(tmp_path: Path) -> None:
    counts = Counts()
    found = rows(write(tmp_path / "a.json", content(WHERE, WHO, {**WHO, "id": "q1"}, {**WHO, "id": "q1"})), counts)
    assert [row.fields["question"] for row in found] == ["Where was Anna born?", "Who is not old?"]
    assert counts.dropped == {"duplicate id": 2}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('{"data": [\n{"paragraphs": }', r"a.json:2: broken JSON at column 16"),
        ("", r"a.json:1: broken JSON"),
        ("[]", "not in the form of SQuAD 1.1"),
        ({"data": {}}, "a dict where a list belongs"),
        ({"data": []}, "no questions"),
        (content({"id": "q7", "question": "Where?"}), r"question 'q7': not in the form of SQuAD 1.1: no 'answers'"),
        (content({**WHERE, "question": 7}), "question 'q1': .* a int where a text belongs"),
        (content({**WHERE, "question": "half \ud83d"}).__repr__().replace("'", '"'), "half a surrogate pair"),
        (content(WHERE, {**WHO, "answers": []}), r"1 of 2 questions have no answer \(SQuAD 2.0\)"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, r"data\[0\].paragraphs\[0\]: .* no 'context'"),
        (json.dumps(content(WHERE)).replace("17", "1e999"), "question 'q1': not in the form"),
        (json.dumps(content(WHERE)).replace("17", "9" * 5000), "JSON that cannot be read"),
        (content(WHERE, title="\ud83d").__repr__().replace("'", '"'), "half a surrogate pair"),
        ("[" * 100_000, "JSON that cannot be read|broken JSON"),
    ],
)
def test_what_is_refused(tmp_path: Path, given: Any, message: str) -> None:
    path = write(tmp_path / "a.json", given)
    with pytest.raises(UserError, match=message) as refused:
        rows(path)
    assert str(path) in refused.value.message and refused.value.hint


@pytest.mark.parametrize(
    ("raw", "message"), [(b"\x1f\x8b\x08broken", "broken gzip"), (b'{"data": "\xff"}', "invalid UTF-8 at byte 10")]
)
def test_bytes_that_are_no_text(tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(raw)
    with pytest.raises(UserError, match=message):
        rows(tmp_path / "a.json")


def test_starts_that_are_wrong_are_found_where_they_can_be() -> None:
    starts, problems = passages.mended_starts(PASSAGE, ("Rome", "born", "Rome", "Paris", "old", ""), (17, 3, 1, 5, -4, 0))
    assert starts == [17, PASSAGE.index("born"), -1, -1, PASSAGE.index("old"), -1]
    assert problems == [
        (passages.MOVED, "'born' is not at character 3, but at 9"),
        (passages.LOST, "'Rome' is not at character 1, but 2 times elsewhere"),
        (passages.LOST, "'Paris' is not at character 5, nor elsewhere"),
        (passages.MOVED, "'old' is not at character -4, but at 31"),
        (passages.LOST, "'' is not at character 0, nor elsewhere"),
    ]
    assert passages.mended_starts("banana", ("ana",), (0,))[0] == [-1], "it stands there twice"
