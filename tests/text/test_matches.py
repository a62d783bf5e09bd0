"""What two texts have in common, token by token, and pairs of neighbours."""

from __future__ import annotations

import tensorflow as tf

from nlp_tasks.text import matches


def ragged(*rows: list[str]) -> tf.RaggedTensor:
    return tf.ragged.constant(rows, tf.string, ragged_rank=1)


def test_tokens_that_the_other_text_of_the_row_has() -> None:
    one = ragged(["The", "dogs", "runs", "."], [], ["Rome"], ["好", "天", "気"])
    other = ragged(["the", "dogsled", "runs", "home"], ["Rome"], [], ["天", "気", "は", "好"])
    mine, theirs = matches.overlap(one, other)
    # As it is, in lower case, by its first five letters, with a neighbour.
    assert mine.to_list() == [
        [[0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], [], [[0, 0, 0, 0]],
        [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]],
    ]  # fmt: skip
    assert theirs.to_list() == [
        [[0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], [[0, 0, 0, 0]], [],
        [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]],
    ]  # fmt: skip


def test_words_begin_alike() -> None:
    (mine,), _ = (part.to_list() for part in matches.overlap(ragged(["reading", "read"]), ragged(["readings", "Reader"])))
    assert [row[2] for row in mine] == [1, 0], "a word of fewer letters must be the same"


def test_no_rows_and_no_tokens() -> None:
    for rows in ([], [[]], [[], []]):
        text = tf.ragged.constant(rows, tf.string, ragged_rank=1)
        mine, theirs = matches.overlap(text, text)
        assert mine.to_list() == theirs.to_list() == rows == matches.pairs(text, 7).to_list()


def test_pairs_of_neighbours() -> None:
    found = matches.pairs(ragged(["a", "b", "a", "b"], ["b"], ["a", "b"]), 10_000).to_list()
    ab, ba = found[0][0][1], found[0][1][1]
    assert ab != ba and min(ab, ba) >= 1 and max(ab, ba) <= 10_000
    assert found == [[[0, ab], [ab, ba], [ba, ab], [ab, 0]], [[0, 0]], [[0, ab], [ab, 0]]]
