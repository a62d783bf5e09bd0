"""Splits: named or held out, disjoint by text, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.data.sources import Files
from nlp_tasks.data.splits import LEFT_OUT, PHRASE, SPLITS, Splits
from nlp_tasks.errors import UserError
from nlp_tasks.recipe import Data

COLUMNS = {"text": ("text",), "label": ("label",)}
ALL = 0.999999


class Vectors(Data, frozen=True, kw_only=True):
    vectors: str = ""


class Memory:
    """Rows by name, without a file."""

    def __init__(self, **texts: list[str]) -> None:
        self._texts = texts

    def rows(self, split: str, counts: Counts) -> Iterator[Row]:
        return counts.keep(Row({"text": text}, Where(split, line)) for line, text in enumerate(self._texts[split], 1))

    def fingerprint(self, split: str) -> str:
        return repr(self._texts[split])


def splits(source: Memory, **data: object) -> Splits:
    return Splits(source, Data(**{"train": "train", **data}), "text")  # type: ignore[arg-type]


def texts(held: Splits) -> dict[str, list[str]]:
    return {split: [row.fields["text"] for row in held.rows(split)] for split in SPLITS}


def phrases(sentence: str) -> set[str]:
    """All parts of two tokens and more, the sentence itself left out."""
    tokens = sentence.split()
    parts = {tuple(tokens[i:j]) for i in range(len(tokens)) for j in range(i + 2, len(tokens) + 1)}
    return {" ".join(part) for part in parts if len(part) < len(tokens)}


def test_named_splits_are_read_as_they_are() -> None:
    source = Memory(a=["1", "2", "1"], b=["1"], c=["3", "1"])
    assert texts(splits(source, train="a", validation="b", test="c")) == {
        "train": ["1", "2", "1"],
        "validation": ["1"],
        "test": ["3", "1"],
    }


def test_files_beside_the_splits_are_part_of_the_data(tmp_path: Path) -> None:
    """Or a run would go on with other vectors than it began with."""
    source = Memory(train=["a"])
    for name in ("one", "other"):
        (tmp_path / f"{name}.txt").write_text(name)

    def fingerprint(vectors: str) -> str:
        return Splits(source, Vectors(train="train", directory=str(tmp_path), vectors=vectors), "text").fingerprint()

    assert len({fingerprint(""), fingerprint("one.txt"), fingerprint("other.txt")}) == 3
    assert fingerprint("") == splits(source).fingerprint() == fingerprint("missing.txt")


def test_held_out_rows_keep_their_place() -> None:
    held = splits(Memory(train=[str(number) for number in range(50)]))
    for split in SPLITS:
        assert all(row.fields["text"] == str(row.where.line - 1) for row in held.rows(split))
        assert str(held.counts[split]) == f"{held.counts[split].read:,} rows"


def test_what_was_dropped_is_counted_once_in_training(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("".join(f"text {number}\tpos\n\n" for number in range(60)))
    data = Data(train=str(tmp_path / "train.tsv"))
    held = Splits(Files(data, COLUMNS, tuple(COLUMNS)), data, "text")
    sizes = {split: len(rows) for split, rows in texts(held).items()}
    assert {split: held.counts[split].read for split in SPLITS} == sizes
    assert [held.counts[split].dropped["blank line"] for split in SPLITS] == [60, 0, 0]


def test_shares_are_about_right() -> None:
    source = Memory(train=[f"text {number}" for number in range(20_000)], own=["x"])
    sizes = {split: len(rows) for split, rows in texts(splits(source, validation_share=0.05, test_share=0.2)).items()}
    # Four standard deviations of a binomial count; validation is held out of what the test leaves.
    assert sizes["test"] == pytest.approx(4000, abs=4 * (20_000 * 0.2 * 0.8) ** 0.5)
    assert sizes["validation"] == pytest.approx(800, abs=4 * (20_000 * 0.04 * 0.96) ** 0.5)
    assert sum(sizes.values()) == 20_000
    named = texts(splits(source, validation_share=0.05, test="own"))
    assert named["test"] == ["x"]
    assert len(named["validation"]) == pytest.approx(1000, abs=4 * (20_000 * 0.05 * 0.95) ** 0.5)
    assert len(named["train"]) + len(named["validation"]) == 20_000


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab ", max_size=4)), st.floats(0, 0.9), st.floats(0, 0.9), st.sampled_from(["row", "sentence"]))
def test_equal_texts_are_on_one_side_and_nothing_is_lost(rows: list[str], validation: float, test: float, unit: str) -> None:
    test = test if unit == "row" else 0.0
    held = splits(Memory(train=rows), validation_share=validation, test_share=test, validation_unit=unit)
    found = texts(held)
    assert not set(found["train"]) & set(found["validation"]) | set(found["train"]) & set(found["test"])
    assert not set(found["validation"]) & set(found["test"])
    assert texts(held) == found
    assert sum(map(len, found.values())) + held.counts["train"].dropped.total() == len(rows)
    assert unit == "sentence" or not held.counts["train"].dropped


def test_the_side_of_a_text_is_the_same_everywhere_and_for_any_neighbours() -> None:
    def chosen(purpose: str, text: str) -> bool:
        """Whether the hash lies in the first tenth of all hashes."""
        return hashlib.blake2b(f"{purpose}\0{text}".encode(), digest_size=8).hexdigest() < "199999999999999a"

    rows = [f"é {number}" for number in range(40)]
    test = [row for row in rows if chosen("test", row)]
    validation = [row for row in rows if row not in test and chosen("validation", row)]
    assert test
    assert validation
    found = texts(splits(Memory(train=rows), test_share=0.1, validation_share=0.1))
    assert (found["validation"], found["test"]) == (validation, test)
    found = texts(splits(Memory(train=[*rows[::-1], "more"]), test_share=0.1, validation_share=0.1))
    assert [row for row in found["test"] if row != "more"] == test[::-1]


# Sentences and their phrases


def test_the_phrases_of_a_held_out_sentence_are_left_out_and_single_words_stay() -> None:
    rows = ["a fine film", "fine film", "fine", "fine  film", "a fine  film "]
    held = splits(Memory(train=rows, test=["x"]), test="test", validation_unit="sentence", validation_share=ALL)
    assert texts(held) == {"train": ["fine"], "validation": ["a fine film", "a fine  film "], "test": ["x"]}
    list(held.rows("train"))
    assert str(held.counts["train"]) == "1 rows, 2 left out (phrase of a held-out sentence)"


WORDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(WORDS, max_size=25), st.floats(0.1, 0.9))
@example(["a", "b", "c", "a a"], 0.9)
def test_no_phrase_of_a_held_out_sentence_is_trained_on(rows: list[str], share: float) -> None:
    found = texts(splits(Memory(train=rows, test=[]), test="test", validation_unit="sentence", validation_share=share))
    held_out = set().union(*map(phrases, found["validation"]))
    assert not held_out & set(found["train"])
    # Only sentences are held out: what stands inside no other row, and has two tokens.
    inside = set().union(*map(phrases, rows))
    assert all(" " in row and row not in inside for row in found["validation"])
    assert {row for row in rows if row not in held_out and row not in found["validation"]} == set(found["train"])


def test_the_share_is_one_of_sentences() -> None:
    sentences = [f"w{number} x y z" for number in range(4000)]
    rows = [row for sentence in sentences for row in (sentence, *phrases(sentence))]
    held = splits(Memory(train=rows, test=[]), test="test", validation_unit="sentence", validation_share=0.1)
    assert len(texts(held)["validation"]) == pytest.approx(400, abs=4 * (4000 * 0.1 * 0.9) ** 0.5)


# Words, refusals, fingerprints


def test_a_split_says_where_it_comes_from() -> None:
    held = splits(Memory(), train="a.csv", test="b.csv", validation_share=0.1, validation_unit="sentence")
    assert [held.describe(split) for split in SPLITS] == ["a.csv", "10% of the sentences of a.csv", "b.csv"]
    world = Splits(Memory(), Data(source="toy_world"), "text")  # type: ignore[arg-type]
    assert [world.describe(split) for split in SPLITS] == list(SPLITS)


def test_training_data_must_be_named() -> None:
    with pytest.raises(UserError, match=r"error: data.train is not set\nhint: .*--set data.train=FILE"):
        splits(Memory(), train="")


def test_the_fingerprint_changes_if_and_only_if_the_content_does(tmp_path: Path) -> None:
    def fingerprint(**contents: str) -> str:
        for name, content in contents.items():
            (tmp_path / f"{name}.tsv").write_text(content)
        data = Data(directory=str(tmp_path), **{name: f"{name}.tsv" for name in contents})
        return Splits(Files(data, COLUMNS, tuple(COLUMNS)), data, "text").fingerprint()

    first = fingerprint(train="a\tb\n", test="c\td\n")
    assert fingerprint(train="a\tb\n", test="c\td\n") == first
    others = [
        fingerprint(train="a\tb\n"),
        fingerprint(train="a\tb\n", test="c\te\n"),
        fingerprint(train="c\td\n", test="a\tb\n"),
        fingerprint(train="a\tb\n", validation="c\td\n", test="c\td\n"),
        fingerprint(train="a\tb\nc\td\n", test="c\td\n"),
    ]
    assert len({first, *others}) == 1 + len(others)


def test_sentences_with_a_held_out_test_are_refused() -> None:
    with pytest.raises(UserError, match=r"without data\.test"):
        splits(Memory(train=["a b", "a"]), validation_unit="sentence")


# Some rows of train


def test_so_many_rows_are_left_for_training_always_the_same() -> None:
    rows = [f"text {number}" for number in range(500)]
    source = Memory(train=rows, own=["x"])
    whole = texts(splits(source, test_share=0.1, validation_share=0.1))
    held = splits(source, test_share=0.1, validation_share=0.1, train_rows=30)
    some = texts(held)
    assert (some["validation"], some["test"]) == (whole["validation"], whole["test"]), "the others stay as they are"
    assert len(some["train"]) == 30 and set(some["train"]) < set(whole["train"])
    assert some["train"] == [row for row in rows if row in some["train"]], "in their order"
    assert str(held.counts["train"]) == f"30 rows, {len(whole['train']) - 30} left out (beyond data.train_rows)"
    more = texts(splits(source, test_share=0.1, validation_share=0.1, train_rows=90))
    assert set(some["train"]) < set(more["train"]) and len(more["train"]) == 90, "of one seed, fewer are among more"
    other = texts(splits(source, test_share=0.1, validation_share=0.1, train_rows=30, train_rows_seed=2))
    assert set(other["train"]) != set(some["train"]) and len(other["train"]) == 30
    backwards = texts(splits(Memory(train=rows[::-1]), test_share=0.1, validation_share=0.1, train_rows=30))
    assert backwards["train"] == some["train"][::-1]
    assert held.describe("train") == "30 rows of train"


def test_equal_texts_count_once_among_so_many_rows() -> None:
    held = splits(Memory(train=["a", "b", "a", "c", "b", "d"], test=[]), test="test", validation_share=0.0, train_rows=2)
    found = texts(held)["train"]
    assert len(set(found)) == 2 and all(found.count(row) == ["a", "b", "a", "c", "b", "d"].count(row) for row in found)


def test_more_rows_than_there_are_are_all() -> None:
    rows = [str(number) for number in range(20)]
    found = splits(Memory(train=rows, test=[]), test="test", validation_share=0.0, train_rows=50)
    assert texts(found)["train"] == rows and not found.counts["train"].dropped


def test_a_row_that_is_left_out_is_on_no_side() -> None:
    rows = ["a fine film", "fine film", *(f"row {number}" for number in range(60))]
    held = splits(Memory(train=rows, test=[]), test="test", validation_unit="sentence", validation_share=0.5, train_rows=5)
    sides = {row: held.side("train", row) for row in rows}
    assert [row for row in rows if sides[row] == "train"] == texts(held)["train"] and len(texts(held)["train"]) == 5
    assert {*sides.values()} - {*SPLITS} <= {LEFT_OUT, PHRASE} and LEFT_OUT in sides.values()
