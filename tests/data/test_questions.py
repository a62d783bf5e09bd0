"""Files of analogies and of judged pairs: what is read, and what is said of broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlp_tasks.data.questions import Pair, Question, read_questions, read_similarity
from nlp_tasks.errors import UserError


def file(folder: Path, content: str | bytes) -> Path:
    path = folder / "questions.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_questions_come_with_their_section(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        "\ufeff: capital-common-countries\r\nAthens Greece Oslo Norway\r\n\n:gram1 adjective\nnaïve naïvely\trare rarely",
    )
    assert read_questions(path) == [
        Question("capital-common-countries", ("Athens", "Greece", "Oslo", "Norway")),
        Question("gram1 adjective", ("naïve", "naïvely", "rare", "rarely")),
    ]


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (
            "Athens Greece Oslo Norway\n",
            ":1: a question before the first section: 'Athens Greece Oslo Norway'",
            "name the sections",
        ),
        ("\n\na b c d\n: late\n", ":3: a question before the first section: 'a b c d'", ": capital-common-countries"),
        (": one\na b c d\na b c\n", ":3: 3 words, not four: 'a b c'", "four words"),
        (": one\na b c d e\n", ":2: 5 words, not four: 'a b c d e'", "four words"),
        (":\na b c d\n", ":1: a section without a name", ": capital-common-countries"),
        ("", ": no questions in it", "four words"),
        (": one\n: two\n", ": no questions in it", "four words"),
        (b": one\na b c \xff\n", ":2: invalid UTF-8 at byte 6 of the line (ff 0a)", "UTF-8"),
    ],
    ids="no-section late-section three five nameless empty no-questions no-utf8".split(),
)
def test_what_is_wrong_with_a_file_of_questions_is_told(tmp_path: Path, content: str | bytes, message: str, hint: str) -> None:
    path = file(tmp_path, content)
    with pytest.raises(UserError) as caught:
        read_questions(path)
    assert caught.value.message == f"{path}{message}" and hint in caught.value.hint


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for read, key in ((read_questions, "data.questions"), (read_similarity, "data.similarity")):
        with pytest.raises(UserError, match="no file ") as caught:
            read(tmp_path / "none.txt")  # type: ignore[operator]
        assert key in caught.value.hint


@pytest.mark.parametrize("separator", ["\t", ",", " ", ";", " , "])
@pytest.mark.parametrize("header", ["", "Word 1\tWord 2\tHuman (mean)\n", "\n\nWord 1\tWord 2\tHuman (mean)\n"])
def test_judged_pairs_in_the_forms_they_are_had_in(tmp_path: Path, separator: str, header: str) -> None:
    lines = [separator.join(cells) for cells in (("tiger", "cat", "7.35"), ("naïve", "view", "-1e-1"))]
    path = file(tmp_path, header + "\n".join(lines) + "\n")
    assert read_similarity(path) == [Pair(("tiger", "cat"), 7.35), Pair(("naïve", "view"), -0.1)]


def test_the_first_number_is_the_judgement(tmp_path: Path) -> None:
    path = file(tmp_path, "word1\tword2\tPOS\tSimLex999\tconc(w1)\nold\tnew\tA\t1.58\t2.72\n")
    assert read_similarity(path) == [Pair(("old", "new"), 1.58)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("tiger\tcat\t7\ntiger\tcat\n", ":2: expected two words and a number: 'tiger\\tcat'"),
        ("tiger\tcat\t7\nword\tword\tscore\n", ":2: expected two words and a number: 'word\\tword\\tscore'"),
        ("tiger\tcat\t7\ntiger\tcat\tnan\n", ":2: expected two words and a number: 'tiger\\tcat\\tnan'"),
        ("word\tword\tscore\n", ": no pairs in it"),
        ("", ": no pairs in it"),
    ],
)
def test_what_is_wrong_with_judged_pairs_is_told(tmp_path: Path, content: str, message: str) -> None:
    path = file(tmp_path, content)
    with pytest.raises(UserError) as caught:
        read_similarity(path)
    assert caught.value.message == f"{path}{message}" and caught.value.hint
