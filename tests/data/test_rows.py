"""Rows know their place; counts say what became of them."""

from __future__ import annotations

from collections import Counter

import pytest

from nlp_tasks.data.rows import Counts, Row, Where


def test_an_item_of_a_sequence_has_its_own_line_where_it_has_one() -> None:
    row = Row({"words": ("a", "b")}, Where("train.conllu", 3), (3, 7))
    assert [str(row.place(item)) for item in range(2)] == ["train.conllu:3", "train.conllu:7"]
    assert str(Row({"words": ("a", "b")}, Where("tfds:made_up/train", 3)).place(1)) == "tfds:made_up/train:3"


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (Counts(), "0 rows"),
        (Counts(1234, Counter({"blank line": 2000})), "1,234 rows, 2,000 left out (blank line)"),
        (Counts(5, mended={"tags mended": ["a:1"]}), "5 rows, 1 tags mended (a:1)"),
        (Counts(5, mended={"tags mended": ["a:1", "a:2", "a:3"]}), "5 rows, 3 tags mended (a:1, a:2, a:3)"),
        (Counts(5, mended={"tags mended": [f"a:{n}" for n in range(1, 1501)]}), "5 rows, 1,500 tags mended (a:1, a:2, a:3, …)"),
        (
            Counts(5, Counter({"z": 1, "y": 2}), {"c mended": ["a:1"], "b mended": ["a:2", "a:1"]}),
            "5 rows, 2 left out (y), 1 left out (z), 2 b mended (a:2, a:1), 1 c mended (a:1)",
        ),
    ],
    ids="nothing left-out mended three many both".split(),
)
def test_counts_show_what_was_left_out_and_where_it_was_mended(counts: Counts, expected: str) -> None:
    assert str(counts) == expected


def test_only_rows_that_are_taken_are_counted() -> None:
    counts = Counts()
    kept = counts.keep(Row({}, Where("a", line)) for line in range(5))
    assert [next(kept).where.line for _ in range(2)] == [0, 1]
    assert counts.read == 2
