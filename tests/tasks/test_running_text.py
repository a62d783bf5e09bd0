"""Running text from texts and from tables: what makes lines of it, what stays aside, which part each split gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nlp_tasks.data.splits import SPLITS
from nlp_tasks.errors import UserError
from nlp_tasks.tasks.language_modeling import LanguageModeling
from nlp_tasks.tasks.running_text import RepeatedLines, is_table
from nlp_tasks.tasks.word_vectors import WordVectors

TASKS = pytest.mark.parametrize("kind", [LanguageModeling, WordVectors])


def read(kind: Any, folder: Path, **data: Any) -> dict[str, list[tuple[str, str]]]:
    """Of each split, (text, place) of its pieces."""
    content = {"task": {"name": "x"}, "data": {"directory": str(folder), **data}}
    task = kind(msgspec.convert(content, kind.recipe_type))
    kind.check_files(task.recipe.data)
    splits = kind.splits(task.recipe, None)
    return {
        split: [(piece.inputs[0], str(piece.where)) for piece in task.read(splits.rows(split), splits.counts[split])]
        for split in SPLITS
    }


@TASKS
@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl"])
def test_each_row_of_a_table_is_a_line_and_labels_stay_aside(tmp_path: Path, kind: Any, name: str) -> None:
    rows = [(f"text {number} of many", ("pos", "neg")[number % 2]) for number in range(60)]
    lines = {
        "a.tsv": ["label\ttext", *(f"{label}\t{text}" for text, label in rows)],
        "a.csv": ["text,label", *(f'"{text}",{label}' for text, label in rows)],
        "a.jsonl": [json.dumps({"label": label, "text": text}) for text, label in rows],
    }[name]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    found = read(kind, tmp_path, train=name, validation_share=0.2, test_share=0.2)
    pieces = [piece for split in SPLITS for piece in found[split]]
    assert sorted(text for text, _ in pieces) == sorted(f"{text}\n" for text, _ in rows) and all(found.values())
    assert all(place.startswith(str(tmp_path / name)) for _, place in pieces)
    assert read(kind, tmp_path, train=name, validation_share=0.2, test_share=0.2) == found


@TASKS
def test_a_table_without_header_has_its_text_first(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "a.tsv").write_text("one two\tpos\nthree\tneg\n")
    found = read(kind, tmp_path, train="a.tsv", validation="a.tsv", test="a.tsv")
    assert [text for text, _ in found["test"]] == ["one two\n", "three\n"]


@TASKS
def test_another_column_is_named(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "a.csv").write_text("review,text\nlong one,no\n")
    found = read(kind, tmp_path, train="a.csv", validation="a.csv", test="a.csv", text_column="review")
    assert found["train"] == [("long one\n", f"{tmp_path}/a.csv:2")]


@TASKS
def test_tables_and_texts_side_by_side(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "a.tsv").write_text("text\nof a table\n")
    (tmp_path / "b.txt").write_text("text\nof a text")
    found = read(kind, tmp_path, train="a.tsv", validation="b.txt[50%:]", test="b.txt")
    assert found["train"] == [("of a table\n", f"{tmp_path}/a.tsv:2")]
    assert "".join(text for text, _ in found["test"]) == "text\nof a text\n"
    assert "".join(text for text, _ in found["validation"]) == " a text\n"


@TASKS
def test_a_part_of_a_table_is_no_file(tmp_path: Path, kind: Any) -> None:
    """Its rows are dealt out by their texts; a share of its bytes would cut one in two."""
    (tmp_path / "a.tsv").write_text("text\nof a table\n")
    with pytest.raises(UserError, match=r"no file .*a\.tsv\[:50%\]"):
        read(kind, tmp_path, train="a.tsv[:50%]", validation="a.tsv", test="a.tsv")


def test_what_is_a_table() -> None:
    assert [name for name in ("a.tsv", "b/A.CSV", "c.jsonl", "d.txt", "e", "f.tsv[:9%]", "g.txt[1%:]") if is_table(name)] == [
        "a.tsv", "b/A.CSV", "c.jsonl", "f.tsv[:9%]",
    ]  # fmt: skip


def test_lines_that_stand_in_train_as_well_are_found() -> None:
    from nlp_tasks.data.rows import Where
    from nlp_tasks.tasks.running_text import Piece

    examiner, long = RepeatedLines(), "a line of more than forty characters, which is long enough"
    for split, text in (("train", f"short\n{long}\n"), ("test", f"{long} too\n{long}\nshort\n")):
        examiner.see(split, Piece((text,), "", Where(split, 1)))
    (finding,) = examiner.findings()
    assert (finding.split, finding.count, finding.places) == ("test", 1, ["test:2"])
