"""What the tokens of two texts have in common, and what neighbours are together, in graph."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

BEGINNING = 5
"""Two words begin alike where so many first letters are the same; shorter ones must be the same."""


def overlap(one: tf.RaggedTensor, other: tf.RaggedTensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Whether each token stands in the other text of its row, too: as it is, in lower case, by its first letters in lower case (Chen 2017,
    section 3.2, "exact match", the last in place of a lemma); and in lower case together with a neighbour, which says more where a token
    is a character.

    Args:
        one, other: `<string>[batch, (tokens)]`.

    Returns:
        for each `<int32>[batch, (tokens), 4]`, 0 or 1.
    """
    found: tuple[list[tf.Tensor], list[tf.Tensor]] = ([], [])
    for form in (tf.identity, _lower, _beginning):
        keys = [_keys(text, form) for text in (one, other)]
        found[0].append(_among(keys[0], keys[1]))
        found[1].append(_among(keys[1], keys[0]))
    joined = [_with_the_next(text) for text in (one, other)]
    for number, (mine, (theirs, _)) in enumerate(zip(joined, reversed(joined), strict=True)):
        keys, same_row = mine
        both = _among(keys, theirs) * tf.cast(same_row, tf.int32)
        one_zero = tf.zeros([tf.minimum(tf.size(mine[1]), 1)], tf.int32)
        found[number].append(tf.maximum(both, tf.concat([one_zero, both[:-1]], 0)))
    return one.with_values(tf.stack(found[0], -1)), other.with_values(tf.stack(found[1], -1))


def _lower(tokens: tf.Tensor) -> tf.Tensor:
    return tf.strings.lower(tokens, encoding="utf-8")


def _beginning(tokens: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(_lower(tokens), 0, BEGINNING, unit="UTF8_CHAR")


def _with_the_next(text: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`<string>[tokens]`: each token and the next one, with the number of the row; and whether there is a next one in its row."""
    rows, tokens = text.value_rowids(), _lower(text.values)
    none = tf.zeros([tf.minimum(tf.size(tokens), 1)], tf.bool)
    same_row = tf.concat([rows[1:] == rows[:-1], none], 0)
    following = tf.concat([tokens[1:], tf.fill([tf.minimum(tf.size(tokens), 1)], "")], 0)
    return tf.strings.join([tf.strings.as_string(rows), tokens, tf.where(same_row, following, "\n")], " "), same_row


def _keys(text: tf.RaggedTensor, form: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """`<string>[tokens]`: the token with the number of its row before it."""
    rows = tf.strings.as_string(text.value_rowids())
    return tf.strings.join([rows, form(text.values)], " ")


def _among(keys: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """`<int32>[keys]`: 1 where a key is one of the others."""
    both, place = tf.unique(tf.concat([others, keys], 0))
    known = tf.scatter_nd(place[: tf.size(others)][:, None], tf.ones([tf.size(others)], tf.int32), [tf.size(both)])
    return tf.minimum(tf.gather(known, place[tf.size(others) :]), 1)


def pairs(text: tf.RaggedTensor, buckets: int) -> tf.RaggedTensor:
    """Hashed pairs of each token with the one before and the one behind it: `<string>[batch, (tokens)]` → `<int32>[batch, (tokens), 2]`,
    from 1 to `buckets`; 0 where there is none."""
    rows, tokens = text.value_rowids(), text.values
    count = tf.size(tokens)
    joined = tf.strings.join([tokens[:-1], tokens[1:]], "\0")
    ids = tf.cast(tf.strings.to_hash_bucket_fast(joined, buckets), tf.int32) + 1
    ids = tf.where(rows[1:] == rows[:-1], ids, 0)
    one = tf.zeros([tf.minimum(count, 1)], tf.int32)
    return text.with_values(tf.stack([tf.concat([one, ids], 0), tf.concat([ids, one], 0)], -1))
