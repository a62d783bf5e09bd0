"""Word vectors by negative sampling (Mikolov 2013): text to blocks of words with their contexts, and the loss of a block.

Text is a stream. Its frequent words are thinned out, what is left is cut into blocks of words that lie side by side, with so many
neighbours on both sides as a context may reach. A block's pairs are a band around a diagonal: all its scores are one product of matrices,

    [block, features] × [features, neighbours and negatives]

since the words of a block share their negative samples. Pairs are never written down, and gradients are those of the rows touched.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from nlp_tasks.layers.dropout import Noise, random_words

Kind = Literal["skip_gram", "cbow"]
POWER = 0.75
"""Of a word's count, in the distribution of negative samples (Mikolov 2013, section 2.2)."""

TIE = 1e-6
"""Scores that differ by less, relatively, are equal: one product of matrices rounds otherwise than another."""


def kept_shares(counts: np.ndarray, threshold: float) -> np.ndarray:
    """How much of each word stays when frequent ones are thinned out: min(1, √(t / f) + t / f), f its share of the text.

    That is what word2vec's code does; the paper's eq. 5 has √(t / f). `threshold` 0 keeps every word.

    Args:
        counts: `<int>[size]`, how often training has each id; 0 for what is no word.
        threshold: t.

    Returns:
        `<float64>[size]`, 0 for what is no word.
    """
    shares = counts / max(1, counts.sum())
    with np.errstate(divide="ignore"):
        ratio = np.where(shares > 0, threshold / np.maximum(shares, 1e-300), 0.0)
    kept = np.minimum(1.0, np.sqrt(ratio) + ratio) if threshold else 1.0
    return np.where(counts > 0, kept, 0.0)


class Blocks(NamedTuple):
    """Words side by side; `reach` is the window plus the block plus the window."""

    ids: tf.Tensor
    """`<int32>[blocks, reach]`; 0 where there is no word."""
    pairs: tf.Tensor
    """`<bool>[blocks, size, reach]`: whether a word of the block has a neighbour as its context."""
    rows: tf.Tensor
    """`<int32>[blocks]`: the row of the batch that a block was cut out of."""
    numbers: tf.Tensor
    """`<int32>[blocks]`: which block of its row."""


class Stream(keras.layers.Layer):
    """Rows of text to blocks. What is drawn, is drawn by address: the row of the global batch and the place in it.

    Args:
        counts: `<int>[size]`, how often training has each id; 0 for what is no word (padding, unknown, line ends).
        boundary: the id of a line's end; no context reaches over it.
        threshold: t of `kept_shares`.
        window: each word's context reaches 1 to `window` words to both sides, drawn anew each time (Mikolov 2013).
        size: words of a block.

    Call arguments:
        ids: `<int32>[rows, time]`, padded by 0.
        noise: where numbers are drawn.
    """

    def __init__(
        self, counts: np.ndarray, *, boundary: int, threshold: float, window: int, size: int = 64, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self._shares = kept_shares(counts, threshold)
        self.boundary, self.window, self.size = boundary, window, size

    def build(self, ids_shape: tuple[int | None, ...]) -> None:
        shares = self._shares
        self.shares = self.add_weight(
            shape=shares.shape, initializer=lambda shape, dtype=None: tf.cast(shares, dtype), name="shares", dtype="float64",
            trainable=False, autocast=False,
        )  # fmt: skip

    def kept(self, ids: tf.Tensor, noise: Noise) -> tf.Tensor:
        """`<bool>[rows, time]`: which words stay."""
        drawn = random_words(noise, f"{self.name}/kept", tf.shape(ids)[1])
        return tf.cast(drawn, tf.float64) < tf.gather(self.shares.value, ids) * 2.0**32

    def windows(self, ids: tf.Tensor, noise: Noise) -> tf.Tensor:
        """`<int32>[rows, time]`: how far each word's context reaches, from 1 to `window`."""
        drawn = random_words(noise, f"{self.name}/windows", tf.shape(ids)[1])
        return 1 + tf.cast(drawn % tf.constant(self.window, tf.uint32), tf.int32)

    def call(self, ids: tf.Tensor, noise: Noise) -> Blocks:
        kept = self.kept(ids, noise)
        lines = tf.cumsum(tf.cast(ids == self.boundary, tf.int32), 1)
        flat, flat_lines, reaches = (tf.boolean_mask(values, kept) for values in (ids, lines, self.windows(ids, noise)))
        lengths = tf.reduce_sum(tf.cast(kept, tf.int32), 1)
        ends = tf.cumsum(lengths)
        count = -(-lengths // self.size)
        rows = tf.repeat(tf.range(tf.size(lengths)), count)
        numbers = tf.ragged.range(count).values
        starts = tf.gather(ends - lengths, rows)
        first = starts + numbers * self.size
        places = first[:, None] + tf.range(-self.window, self.size + self.window)
        inside = (places >= starts[:, None]) & (places < tf.gather(ends, rows)[:, None])
        places = tf.where(inside, places, 0)

        def cut(values: tf.Tensor, outside: int) -> tf.Tensor:
            return tf.where(inside, tf.gather(values, places), outside)

        centres = slice(self.window, self.window + self.size)
        line, reach = cut(flat_lines, -1), cut(reaches, 0)[:, centres]
        distance = np.abs(np.arange(-self.window, self.size + self.window) - np.arange(self.size)[:, None]).astype(np.int32)
        distance[distance == 0] = self.size + self.window  # no word is its own context
        pairs = (distance <= reach[:, :, None]) & (line[:, centres, None] == line[:, None, :])
        return Blocks(cut(flat, 0), pairs, rows, numbers)


class Measured(NamedTuple):
    """Of each block, `<float>[blocks]`."""

    losses: tf.Tensor
    """Summed over the block's true contexts."""
    contexts: tf.Tensor
    """How many those are: the pairs of skip-gram, the words of CBOW that have a context."""
    right: tf.Tensor
    """How often a true context scores above a negative sample of its block, as a share, summed over the true contexts."""


class NegativeSampling(keras.layers.Layer):
    """Two tables of vectors, and the loss that makes words and their contexts agree (Mikolov 2013, eq. 4).

        skip-gram    Σ over pairs (i, c)   -log σ(uᵢ · v_c) - k E_n[log σ(-uᵢ · v_n)]
        CBOW         Σ over words i        -log σ(h · vᵢ)   - k E_n[log σ(-h · v_n)]       h: mean of the u of i's context

    n is drawn by count^0.75. The expectation is the mean over the `shared` samples that all words of a block have in common; the paper
    draws k anew for each pair. With `buckets`, u of a word is the mean of a vector of its own and those of its character n-grams.

    Args:
        counts: `<int>[size]`, how often training has each id; 0 for what is no word.
        features: length of a vector.
        kind: "skip_gram" or "cbow".
        negatives: k.
        shared: negative samples of a block.
        window, size: as in `Stream`.
        ngrams: (ids of the n-grams of all words one after another `<int>[n]`, how many each word has `<int>[size]`, buckets), or None.

    Call arguments:
        blocks: of a `Stream`.
        noise: where negatives are drawn.
    """

    def __init__(
        self, counts: np.ndarray, features: int, *, kind: Kind = "skip_gram", negatives: int = 5, shared: int = 32, window: int = 5,
        size: int = 64, ngrams: tuple[np.ndarray, np.ndarray, int] | None = None, **kwargs: object,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        weights = np.maximum(counts, 0).astype(np.float64) ** POWER
        self._drawn_below = np.cumsum(weights) / max(weights.sum(), 1e-300)
        self._ngrams = ngrams
        self.features, self.kind, self.negatives, self.shared = features, kind, negatives, shared
        self.window, self.size = window, size

    def build(self, blocks_shape: object = None) -> None:
        size, below = len(self._drawn_below), self._drawn_below
        buckets = self._ngrams[2] if self._ngrams else 0
        uniform = keras.initializers.RandomUniform(-0.5 / self.features, 0.5 / self.features)
        # Autocast would turn the tables, and with them their gradients, into dense tensors of another dtype.
        self.inputs = self.add_weight(shape=(size + buckets, self.features), initializer=uniform, name="inputs", autocast=False)
        self.outputs = self.add_weight(shape=(size, self.features), initializer="zeros", name="outputs", autocast=False)
        self.drawn_below = self._constant("drawn_below", below, "float64")
        if self._ngrams:
            ids, lengths, _ = self._ngrams
            self.ngram_ids = self._constant("ngram_ids", ids, "int32")
            self.ngram_splits = self._constant("ngram_splits", np.append(0, np.cumsum(lengths)), "int64")

    def _constant(self, name: str, values: np.ndarray, dtype: str) -> keras.Variable:
        return self.add_weight(
            shape=values.shape, initializer=lambda shape, dtype=None: tf.cast(values, dtype), name=name, dtype=dtype,
            trainable=False, autocast=False,
        )  # fmt: skip

    def call(self, blocks: Blocks, noise: Noise, compare: bool = False) -> Measured:
        """compare: whether `right` is counted; zeros otherwise."""
        centres = blocks.ids[:, self.window : self.window + self.size]
        negatives = self.drawn(blocks, noise)
        if self.kind == "skip_gram":
            logits = self._logits(self._looked_up(centres), tf.concat([blocks.ids, negatives], 1))
            true, false, weights = logits[:, :, : -self.shared], logits[:, :, -self.shared :], blocks.pairs
        else:
            inside = tf.cast(blocks.pairs, self.compute_dtype)
            means = inside / tf.maximum(tf.reduce_sum(inside, 2, keepdims=True), 1)
            hidden = tf.matmul(means, self._looked_up(blocks.ids))
            true = tf.cast(tf.reduce_sum(hidden * self._output(centres), 2, keepdims=True), self.outputs.dtype)
            false, weights = self._logits(hidden, negatives), tf.reduce_any(blocks.pairs, 2, keepdims=True)
        weights = tf.cast(weights, true.dtype)
        contexts = tf.reduce_sum(weights, 2)
        share = self.negatives / self.shared
        losses = tf.reduce_sum(weights * tf.nn.softplus(-true), 2) + share * contexts * tf.reduce_sum(tf.nn.softplus(false), 2)
        right = self._above(true, false, weights) if compare else tf.zeros_like(contexts)
        return Measured(*(tf.reduce_sum(values, 1) for values in (losses, contexts, right)))

    def _logits(self, vectors: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.matmul(vectors, self._output(ids), transpose_b=True), self.outputs.dtype)

    def _output(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(self.outputs.value, ids), self.compute_dtype)

    def _above(self, true: tf.Tensor, false: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """`<float>[blocks, size]`; a tie counts half, as where the negative sample is the context itself."""
        ordered, last_bits = tf.sort(false), TIE * (1 + tf.abs(true))
        below = tf.searchsorted(ordered, true - last_bits, side="left")
        not_above = tf.searchsorted(ordered, true + last_bits, side="right")
        return tf.reduce_sum(weights * tf.cast(below + not_above, true.dtype), 2) / (2 * self.shared)

    def _looked_up(self, ids: tf.Tensor) -> tf.Tensor:
        """u of `<int32>[blocks, n]`; a word that comes twice is composed once."""
        if not self._ngrams:
            vectors = tf.gather(self.inputs.value, ids)
        else:
            distinct, places = tf.unique(tf.reshape(ids, [-1]))
            vectors = tf.gather(self.vectors(distinct), tf.reshape(places, tf.shape(ids)))
        return tf.cast(vectors, self.compute_dtype)

    def vectors(self, ids: tf.Tensor) -> tf.Tensor:
        """u of words: `<int32>[n]` → `<float>[n, features]`."""
        if not self._ngrams:
            return tf.gather(self.inputs.value, ids)
        splits = self.ngram_splits.value
        starts, ends = tf.gather(splits, ids), tf.gather(splits, ids + 1)
        places = tf.ragged.range(starts, ends)
        return self.composed(ids, places.with_values(tf.gather(self.ngram_ids.value, places.values)))

    def composed(self, ids: tf.Tensor, ngrams: tf.RaggedTensor) -> tf.Tensor:
        """Means of words' own vectors and those of their n-grams.

        Args:
            ids: `<int32>[n]`; 0 has no vector of its own.
            ngrams: `<int32>[n, (n-grams)]`, buckets from 0.

        Returns:
            `<float>[n, features]`; zeros where there is neither.
        """
        own, table = ids > 0, self.inputs.value
        # Gathered and added up in one op, without the vector of each n-gram on its own.
        total = tf.sparse.segment_sum(
            table, ngrams.values + len(self._drawn_below), ngrams.value_rowids(), num_segments=tf.size(ids), sparse_gradient=True
        )
        total += tf.where(own[:, None], tf.gather(table, ids), tf.zeros([], total.dtype))
        parts = tf.cast(ngrams.row_lengths(), tf.int32) + tf.cast(own, tf.int32)
        return total / tf.cast(tf.maximum(parts, 1), total.dtype)[:, None]

    def drawn(self, blocks: Blocks, noise: Noise) -> tf.Tensor:
        """Negative samples, `<int32>[blocks, shared]`, by the global row of a block and its number in the row."""
        most = tf.reduce_max(tf.concat([[0], blocks.numbers], 0)) + 1
        words = random_words(noise, f"{self.name}/negatives", most * self.shared)
        words = tf.gather_nd(tf.reshape(words, [-1, most, self.shared]), tf.stack([blocks.rows, blocks.numbers], 1))
        points = (tf.cast(tf.reshape(words, [-1]), tf.float64) + 0.5) / 2.0**32
        return tf.reshape(tf.searchsorted(self.drawn_below.value, points, side="right"), [-1, self.shared])
