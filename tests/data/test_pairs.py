"""Aligned files: line by line, and what is wrong with them told with both counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlp_tasks.data.pairs import AlignedFiles, is_aligned
from nlp_tasks.data.rows import Counts
from nlp_tasks.errors import UserError
from nlp_tasks.recipe import Data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.en").write_bytes(b"A dog.\n\nTwo\tcats.\r\nlast")
    (tmp_path / "train.de").write_bytes("Ein Hund.\nleer\nZwei Kätzchen.\nzuletzt\n".encode())
    return tmp_path


def files(folder: Path, source: str = "en", target: str = "de") -> AlignedFiles:
    return AlignedFiles(Data(directory=str(folder), train="train"), source, target)


def test_lines_are_pairs(folder: Path) -> None:
    counts = Counts()
    rows = list(files(folder).rows("train", counts))
    assert [(row.fields["source"], row.fields["target"]) for row in rows] == [
        ("A dog.", "Ein Hund."), ("", "leer"), ("Two\tcats.", "Zwei Kätzchen."), ("last", "zuletzt"),
    ]  # fmt: skip
    assert str(rows[2].where) == f"{folder / 'train.en'}:3" and counts.read == 4


def test_either_direction(folder: Path) -> None:
    assert next(files(folder, "de", "en").rows("train", Counts())).fields == {"source": "Ein Hund.", "target": "A dog."}


@pytest.mark.parametrize(("more", "counts"), [("en", "5 lines, .*train.de 4"), ("de", "4 lines, .*train.de 5")])
def test_files_of_different_length(folder: Path, more: str, counts: str) -> None:
    with (folder / f"train.{more}").open("a") as file:
        file.write("\nfurther" if more == "en" else "further\n")
    with pytest.raises(UserError, match=counts) as raised:
        list(files(folder).rows("train", Counts()))
    assert "where they part" in raised.value.hint


def test_a_language_that_is_not_there(folder: Path) -> None:
    (folder / "train.fr").write_text("un\n")
    with pytest.raises(UserError, match=r"train is there in de, en, fr, not in 'cs'") as raised:
        list(files(folder, "en", "cs").rows("train", Counts()))
    assert raised.value.hint == "pairs there are: de→en, de→fr, en→de, en→fr, fr→de, fr→en"


def test_a_split_that_is_not_there(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*test_2016.en"):
        files(folder).paths("test_2016")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [("", "de", "without data.source_language"), ("en", "", "without data.target_language"), ("en", "en", "are both 'en'")],
)
def test_languages_must_be_named(folder: Path, source: str, target: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        files(folder, source, target)


def test_empty_files(tmp_path: Path) -> None:
    for language in ("en", "de"):
        (tmp_path / f"train.{language}").touch()
    with pytest.raises(UserError, match="empty file"):
        list(files(tmp_path).rows("train", Counts()))


def test_the_hash_is_that_of_both_files(folder: Path) -> None:
    before = files(folder).fingerprint("train")
    (folder / "train.de").write_text("Eine Hündin.\n")
    assert files(folder).fingerprint("train") != before


@pytest.mark.parametrize(
    ("name", "aligned"), [("train", True), ("test_2016", True), ("a/b.c", True), ("train.tsv", False), ("", False)]
)
def test_what_is_a_table(name: str, aligned: bool) -> None:
    assert is_aligned(name) is aligned
