"""Ragged rows: cut to a length, padded for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def strings(column: Sequence[str | Sequence[str]], rank: int) -> tf.Tensor:
    """Texts as a signature takes them: `<string>[batch]`, or in tokens `<string>[batch, longest]`, padded by "", at least one column.

    A text where tokens are asked for is split at white space; tokens where a text is asked for are joined by a space. A text that is no
    UTF-8 comes with "surrogateescape".
    """
    if rank == 1:
        texts = (text if isinstance(text, str) else " ".join(text) for text in column)
        return tf.constant([text.encode("utf-8", "surrogateescape") for text in texts], tf.string, [len(column)])
    rows = [text.split() if isinstance(text, str) else text for text in column]
    padded = np.full([len(rows), max(map(len, rows), default=0) or 1], "", object)
    for row, tokens in zip(padded, rows, strict=True):
        row[: len(tokens)] = tokens
    return tf.constant(padded, tf.string)


def tensor(column: Sequence[Any], dtype: str, rank: int) -> tf.Tensor:
    """What a signature takes of a batch: `strings`, or numbers `[batch]`."""
    return strings(column, rank) if dtype == "string" else tf.constant(column, dtype, [len(column)])


def both_ends(ids: tf.RaggedTensor, limit: int, share_from_start: float) -> tf.Tensor:
    """`<bool>[tokens]`: which tokens stay of rows longer than `limit`.

    Example: limit 4, share 0.5, a row of 6 tokens → 1 1 0 0 1 1.
    """
    rows = ids.value_rowids()
    position = tf.range(tf.size(ids.values, tf.int64)) - tf.gather(ids.row_starts(), rows)
    from_end = tf.gather(ids.row_lengths(), rows) - position
    start = round(limit * share_from_start)
    return (position < start) | (from_end <= limit - start)


def keep(values: tf.RaggedTensor, kept: tf.Tensor) -> tf.RaggedTensor:
    """The values where `kept` `<bool>[values]` is true, in their rows."""
    flat, rows = tf.boolean_mask(values.values, kept), tf.boolean_mask(values.value_rowids(), kept)
    return tf.RaggedTensor.from_value_rowids(flat, rows, nrows=values.nrows(), validate=False)


def padded(values: tf.RaggedTensor) -> tf.Tensor:
    """`[batch, longest, …]`, padded by 0 or ""; at least one column."""
    dense = values.to_tensor()
    empty = tf.maximum(0, 1 - tf.shape(dense)[1])
    return tf.pad(dense, [[0, 0], [0, empty], *[[0, 0]] * (dense.shape.rank - 2)])


def batch(fields: Mapping[str, tf.RaggedTensor]) -> dict[str, tf.Tensor]:
    """Fields as `Store.batch` has them: padded, and `NAME_lengths` `<int32>[batch]`."""
    made = {}
    for name, values in fields.items():
        made[name], made[f"{name}_lengths"] = padded(values), tf.cast(values.row_lengths(), tf.int32)
    return made
