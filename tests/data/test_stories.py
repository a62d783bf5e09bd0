"""Stories in the form of bAbI: facts before each question, and what is wrong told with its line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nlp_tasks.data import stories
from nlp_tasks.data.rows import Counts, Row
from nlp_tasks.errors import UserError

STORY = """1 Mary moved to the bathroom.
2 Sandra went to the office.
3 Where is Mary? \tbathroom\t1
4 Mary took the milk.
5 Where is the milk?\tbathroom\t4 1
1 John is in the garden.
2 Is John in the garden?\tyes\t1
"""


def rows(path: Path, text: str, counts: Counts | None = None) -> list[Row]:
    path.write_text(text)
    return list(stories.read_file(path, counts or Counts()))


def test_each_question_has_the_facts_before_it(tmp_path: Path) -> None:
    path = tmp_path / "qa2_two-facts_train.txt"
    first, second, third = rows(path, STORY)
    assert first.fields == {
        "story": "Mary moved to the bathroom.\nSandra went to the office.\n", "question": "Where is Mary?", "answer": "bathroom",
        "facts": ("0",), "begun": "qa2_two-facts_train.txt:1", "task": "qa2",
    }  # fmt: skip
    assert second.fields["story"].count("\n") == 3 and second.fields["facts"] == ("2", "0"), "facts are counted without questions"
    assert third.fields["begun"] == "qa2_two-facts_train.txt:6" and third.fields["story"] == "John is in the garden.\n"
    assert [str(row.where) for row in (first, second, third)] == [f"{path}:{line}" for line in (3, 5, 7)]


def test_lines_without_text_are_no_facts(tmp_path: Path) -> None:
    (row,) = rows(tmp_path / "a.txt", "1 \n2 Mary sleeps. John, too.\n3 Who?\tMary\t2\n")
    assert row.fields["story"] == "Mary sleeps. John, too.\n" and row.fields["facts"] == ("0",)


def test_a_story_without_a_question_is_counted(tmp_path: Path) -> None:
    counts = Counts()
    found = rows(tmp_path / "a.txt", "1 Mary sleeps.\n" + STORY + "1 John sleeps.\n2 Mary, too.\n", counts)
    assert len(found) == 3 and counts.dropped == {"story without a question": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty file"),
        ("Mary sleeps.\n", r"a.txt:1: no number before the text: 'Mary sleeps.'"),
        ("1 Mary sleeps.\n2 Who?\t\t1\n", r"a.txt:2: a question without an answer"),
        ("1 Mary sleeps.\n2 Who?\tMary\t3\n", r"a.txt:2: supporting fact '3' is no line of the story before it"),
        ("1 Mary sleeps.\n2 Who?\tMary\tone\n", r"a.txt:2: supporting fact 'one'"),
        (f"1 Mary sleeps.\n2 Who?\tMary\t{'1' * 5000}\n", r"a.txt:2: supporting fact '1"),
        (f"{'1' * 5000} Mary sleeps.\n", r"a.txt:1: no number"),
        ("2 Mary sleeps.\n3 Who?\tMary\n", r"a.txt:1: the first story does not begin with 1: '2 Mary sleeps.'"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        rows(tmp_path / "a.txt", text)
    assert refused.value.hint


def data(folder: Path, *tasks: int) -> Any:
    return SimpleNamespace(tasks=tasks, origin="bAbI", path=lambda name: folder / name if name else folder)


def test_tasks_are_found_by_their_numbers(tmp_path: Path) -> None:
    for name in ("qa1_one_train.txt", "qa1_one_test.txt", "qa11_other_train.txt", "qa2_two_train.txt"):
        (tmp_path / name).write_text(STORY)
    source = stories.Stories(data(tmp_path, 1, 2))
    assert [path.name for path in source.paths("train")] == ["qa1_one_train.txt", "qa2_two_train.txt"]
    counts = Counts()
    assert [row.fields["task"] for row in source.rows("train", counts)] == ["qa1"] * 3 + ["qa2"] * 3 and counts.read == 6
    assert source.fingerprint("train") != stories.Stories(data(tmp_path, 1)).fingerprint("train")
    with pytest.raises(UserError, match=r"has 0 files qa2_\*_test.txt") as refused:
        source.paths("test")
    assert "the data comes from bAbI" in refused.value.hint
    own = stories.Stories(data(tmp_path))
    assert [path.name for path in own.paths("qa11_other_train.txt")] == ["qa11_other_train.txt"]
    with pytest.raises(UserError, match="no file"):
        own.paths("none.txt")
