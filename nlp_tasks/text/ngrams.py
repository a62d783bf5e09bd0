"""Word n-grams as exact integer keys: three ids of 21 bits in one int64, so that a sorted vector is the whole vocabulary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from nlp_tasks.text.vocabulary import UNKNOWN

ID_BITS = 21


def ngram_keys(ids: tf.RaggedTensor, order: int) -> tf.RaggedTensor:
    """Keys of the n-grams of 1 to `order` tokens of each row, each once, in the order of their first place.

    Args:
        ids: `<int32>[batch, (tokens)]`, below 2^21. N-grams with an unknown token are left out.
        order: 1, 2 or 3.

    Returns:
        `<int64>[batch, (distinct n-grams)]`: id of the first token + id of the second · 2^21 + id of the third · 2^42.
    """
    flat, rows = tf.cast(ids.values, tf.int64), ids.value_rowids()
    keys, key_rows = [], []
    key, whole, row = flat, flat > UNKNOWN, rows
    for n in range(1, order + 1):
        if n > 1:
            key = key[:-1] + tf.bitwise.left_shift(flat[n - 1 :], tf.constant(ID_BITS * (n - 1), tf.int64))
            whole = whole[:-1] & (flat[n - 1 :] > UNKNOWN) & (row[:-1] == rows[n - 1 :])
            row = row[:-1]
        keys.append(tf.boolean_mask(key, whole))
        key_rows.append(tf.boolean_mask(row, whole))
    keys, key_rows = tf.concat(keys, 0), tf.concat(key_rows, 0)
    by_row = tf.argsort(key_rows, stable=True)
    return _distinct(tf.gather(keys, by_row), tf.gather(key_rows, by_row), ids.nrows())


def _distinct(keys: tf.Tensor, rows: tf.Tensor, batch: tf.Tensor) -> tf.RaggedTensor:
    """Each key once a row; `rows` ascends."""
    _, number = tf.unique(keys)
    pairs, _ = tf.unique(rows * tf.size(keys, tf.int64) + tf.cast(number, tf.int64))
    size = tf.maximum(tf.size(keys, tf.int64), 1)
    values, _ = tf.unique(keys)
    return tf.RaggedTensor.from_value_rowids(tf.gather(values, pairs % size), pairs // size, nrows=batch, validate=False)


class NgramVocabulary:
    """The n-grams that a model knows; ids from 1 in the order of the keys, 0 is padding.

    Args:
        keys: `<int64>[ngrams]`, ascending.
        order: largest n.
    """

    def __init__(self, keys: np.ndarray, order: int) -> None:
        self.keys, self.order = keys, order
        self.variable = tf.Variable(keys, trainable=False, dtype=tf.int64, name="ngram_keys")

    def __len__(self) -> int:
        return len(self.keys) + 1

    def lookup(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """`<int32>[batch, (tokens)]` → `<int32>[batch, (known n-grams)]`, each once a row."""
        keys = ngram_keys(ids, self.order)
        place = tf.searchsorted(self.variable, keys.values)
        place = tf.minimum(place, tf.size(self.variable) - 1)
        known = tf.gather(self.variable, place) == keys.values
        return tf.RaggedTensor.from_value_rowids(
            tf.boolean_mask(place + 1, known), tf.boolean_mask(keys.value_rowids(), known), nrows=keys.nrows(), validate=False
        )

    @classmethod
    def load(cls, path: Path) -> NgramVocabulary:
        with np.load(path) as content:
            return cls(content["keys"], int(content["order"]))


class NgramCounter:
    """Counts (key, class) pairs, merging what it holds whenever much has come in."""

    def __init__(self, classes: int, merge_at: int = 20_000_000) -> None:
        self._classes, self._merge_at = classes, merge_at
        self._keys, self._counts = np.zeros(0, np.int64), np.zeros((0, classes), np.int64)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting = 0

    def add(self, keys: np.ndarray, classes: np.ndarray) -> None:
        self._pending.append((keys, classes))
        self._waiting += len(keys)
        if self._waiting > self._merge_at:
            self._merge()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """`<int64>[ngrams]`, ascending, and `<int64>[ngrams, classes]`."""
        self._merge()
        return self._keys, self._counts

    def _merge(self) -> None:
        new = np.concatenate([keys for keys, _ in self._pending]) if self._pending else np.zeros(0, np.int64)
        classes = np.concatenate([classes for _, classes in self._pending]) if self._pending else np.zeros(0, np.int64)
        keys, place = np.unique(np.concatenate([self._keys, new]), return_inverse=True)
        counts = np.zeros((len(keys), self._classes), np.int64)
        counts[place[: len(self._keys)]] = self._counts
        flat = place[len(self._keys) :] * self._classes + classes
        counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)
        self._keys, self._counts, self._pending, self._waiting = keys, counts, [], 0
