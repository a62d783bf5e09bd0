"""Texts and tokens as a signature takes them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import tensorflow as tf

from nlp_tasks.text import ragged

COLUMNS: dict[str, tuple[Sequence[str | Sequence[str]], list[str], list[list[str]]]] = {
    "texts": (["née 日本", " a\tb \n", ""], ["née 日本", " a\tb \n", ""], [["née", "日本"], ["a", "b"], ["", ""]]),
    "tokens": ([("a", "b", "c"), (), ["née"]], ["a b c", "", "née"], [["a", "b", "c"], ["", "", ""], ["née", "", ""]]),
    "both": (["a b", ("c d", "e")], ["a b", "c d e"], [["a", "b"], ["c d", "e"]]),
    "nothing in them": (["", ()], ["", ""], [[""], [""]]),
}


def texts(values: tf.Tensor) -> list:
    return tf.nest.map_structure(bytes.decode, values.numpy().tolist())


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_become_texts_or_tokens(kind: str) -> None:
    column, joined, split = COLUMNS[kind]
    for rank, expected in ((1, joined), (2, split)):
        found = ragged.strings(column, rank)
        assert found.dtype == tf.string
        assert found.shape.rank == rank
        assert texts(found) == expected


def test_no_rows() -> None:
    assert ragged.strings([], 1).shape == (0,)
    assert ragged.strings([], 2).shape == (0, 1)


def test_tokens_come_back_as_they_were() -> None:
    rows = [["a", "b c"], [], ["d"]]
    found = tf.RaggedTensor.from_tensor(ragged.strings(rows, 2), padding="")
    assert tf.nest.map_structure(bytes.decode, found.to_list()) == rows
