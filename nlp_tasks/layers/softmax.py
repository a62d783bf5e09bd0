"""The output layer of a language model: from a hidden vector to the probability of each token of a large vocabulary.

Tokens are sorted by frequency: id 0 is padding and has no probability, then the most frequent ones. All three layers give exact
probabilities when asked (`log_probabilities`, and `losses` without noise); they differ in what a step of training costs:

    FullSoftmax      every token of the vocabulary, each step.
    AdaptiveSoftmax  the frequent tokens, and a rare one's cluster where it occurs (Grave 2017).
    SampledSoftmax   the frequent tokens and a sample of the rare ones; gradients stay sparse (Bengio & Senécal 2008; Jean 2015).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nlp_tasks.layers.dropout import Noise, random_bits
from nlp_tasks.layers.embedding import Embedding

NEVER = -1e9
"""The logit of what has no probability."""
PIECE = 1 << 26
"""Logits that are held at a time where no gradient is wanted."""


class FullSoftmax(keras.layers.Layer):
    """log p = log softmax(W h + b), b beginning at the log frequency of each token.

    Args:
        counts: `<int>[size]`: how often training has each id.
        embedding: the table whose vectors are W too (tied embeddings, Press & Wolf 2017; Inan 2017); None: W is a weight of its own.
        smoothing: ε of label smoothing in training (Szegedy 2016, section 7): the target is 1 - ε of the token and ε of all alike.

    Call arguments:
        hidden: `<float>[n, features]`; as many features as the embedding has, where tied.

    Returns:
        `<float>[n, size]`, log probabilities.
    """

    def __init__(
        self, counts: np.ndarray, embedding: Embedding | None = None, *, smoothing: float = 0.0, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.smoothing = smoothing
        self.size, self._counts = len(counts), np.maximum(np.asarray(counts, np.float64), 0.1)
        self.tied = embedding is not None
        self._tied_table = (
            (lambda: embedding.table.value) if embedding is not None else None
        )  # a function: the table has one owner

    def build(self, hidden_shape: tuple[int | None, ...]) -> None:
        self._build_bias(self.size)
        if not self.tied:
            self.kernel = self.add_weight(
                shape=(self.size, hidden_shape[-1]), initializer=_uniform(), name="kernel", autocast=False
            )

    def _build_bias(self, size: int) -> None:
        start = np.log(self._counts[:size] / self._counts[1:].sum())
        self.bias = self.add_weight(
            shape=(size,), initializer=lambda shape, dtype=None: tf.cast(start, dtype), name="bias", autocast=False
        )

    @property
    def table(self) -> tf.Variable:
        """W, `<float>[size, features]`."""
        return self._tied_table() if self._tied_table is not None else self.kernel.value

    def call(self, hidden: tf.Tensor) -> tf.Tensor:
        return self.log_probabilities(hidden)

    def log_probabilities(self, hidden: tf.Tensor) -> tf.Tensor:
        """`<float>[n, features]` → `<float>[n, size]`."""
        return tf.nn.log_softmax(self._logits(hidden))

    def losses(self, hidden: tf.Tensor, targets: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        """-log p of each target: `<float>[n, features]`, `<int32>[n]` → `<float>[n]`. noise: None outside training."""
        if noise is None:
            return _in_pieces(self._cross_entropy, self.size, hidden, targets)
        losses = self._cross_entropy(hidden, targets)
        if not self.smoothing:
            return losses
        # (1 - ε) (Z - s_target) + ε (Z - mean s) = Z - s_target + ε (s_target - mean s), whose last term needs no logits.
        table, bias = self.table, self.bias.value
        alike = tf.constant([0.0] + [1 / (self.size - 1)] * (self.size - 1), bias.dtype)  # a product: its gradient is one pass
        mean = tf.linalg.matvec(hidden, tf.cast(tf.linalg.matvec(table, alike, transpose_a=True), hidden.dtype))
        own = tf.reduce_sum(hidden * tf.cast(tf.gather(table, targets), hidden.dtype), -1)
        own, mean = (tf.cast(part, bias.dtype) for part in (own, mean))
        return losses + self.smoothing * (own + tf.gather(bias, targets) - mean - tf.tensordot(alike, bias, 1))

    def _cross_entropy(self, hidden: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, self._logits(hidden))

    def _logits(self, hidden: tf.Tensor) -> tf.Tensor:
        logits = tf.matmul(hidden, tf.cast(self.table, hidden.dtype), transpose_b=True)
        return tf.cast(logits, self.bias.value.dtype) + _masked(self.bias.value)


class SampledSoftmax(FullSoftmax):
    """The full softmax, whose sum over the vocabulary is estimated in training: over the frequent tokens exactly, over others by a sample.

        Z ≈ Σ_{v < head} exp s_v  +  Σ_{v in sample} exp(s_v) / (K q_v)  +  [target is rare] exp s_target

    The K samples of a step are drawn with q_v ∝ log((v + 1) / v), Zipf's law; one that is the target itself is left out. They depend on
    the step alone, so that all rows and devices share them: a product of matrices, and gradients for the rows that were touched.

    Args:
        head: ids below it are always in the sum.
        samples: K.
        counts, embedding: as in `FullSoftmax`.
    """

    def __init__(self, counts: np.ndarray, embedding: Embedding | None = None, *, head: int, samples: int, **kwargs: Any) -> None:
        super().__init__(counts, embedding, **kwargs)
        self.head, self.samples = min(max(2, head), self.size), samples

    def losses(self, hidden: tf.Tensor, targets: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        if noise is None or self.head == self.size:
            return super().losses(hidden, targets)
        sampled, correction = self._sample(noise)
        candidates = tf.concat([tf.range(1, self.head), sampled], 0)
        dtype = self.bias.value.dtype
        bias = tf.gather(self.bias.value, candidates)
        logits = tf.matmul(hidden, tf.cast(tf.gather(self.table, candidates), hidden.dtype), transpose_b=True)
        logits = tf.cast(logits, dtype) + (bias + tf.pad(tf.cast(correction, dtype), [[self.head - 1, 0]]))
        own = tf.reduce_sum(hidden * tf.cast(tf.gather(self.table, targets), hidden.dtype), -1)
        own = tf.cast(own, dtype) + tf.gather(self.bias.value, targets)
        logits = tf.where(targets[:, None] == candidates, tf.constant(NEVER, dtype), logits)
        return tf.math.softplus(tf.reduce_logsumexp(logits, 1) - own)  # log(exp own + Σ exp logits) - own

    def _sample(self, noise: Noise) -> tuple[tf.Tensor, tf.Tensor]:
        """Rare ids `<int32>[samples]`, and -log(K q) of each."""
        uniform = tf.cast(random_bits(noise.seed, self.name, self.samples), tf.float64) / 2.0**32
        span = math.log(self.size / self.head)
        ids = tf.cast(tf.floor(self.head * tf.exp(uniform * span)), tf.int32)
        ids = tf.clip_by_value(ids, self.head, self.size - 1)
        probability = tf.math.log1p(1 / tf.cast(ids, tf.float64)) / span
        return ids, -tf.math.log(self.samples * probability)


class AdaptiveSoftmax(FullSoftmax):
    """Frequent tokens in a head, rare ones in clusters that the head has one entry each for (Grave 2017, section 4).

        log p(v) = log softmax(head)_v                                    for v < cutoffs[0]
        log p(v) = log softmax(head)_cluster + log softmax(cluster)_v     otherwise

    A cluster's vectors have fewer features, the rarer the fewer: those of cluster i are features / factorⁱ. Where tied, the head's
    vectors are those of the embedding; the clusters' are weights of their own.

    Args:
        cutoffs: ids at which clusters begin, ascending.
        factor: how much smaller the vectors of a cluster are than those of the one before.
        counts, embedding: as in `FullSoftmax`.
    """

    def __init__(
        self, counts: np.ndarray, embedding: Embedding | None = None, *, cutoffs: Sequence[int], factor: int = 4, **kwargs: Any
    ) -> None:
        super().__init__(counts, embedding, **kwargs)
        if list(cutoffs) != sorted({*cutoffs}) or not cutoffs or cutoffs[0] < 2:
            raise ValueError(f"cutoffs {list(cutoffs)}: expected ascending ids from 2")
        inside = [cutoff for cutoff in cutoffs if cutoff < self.size]
        self.ends = [*inside, self.size]
        self.factor = factor

    @property
    def clusters(self) -> list[tuple[int, int]]:
        """First id and end of each cluster."""
        return list(itertools.pairwise(self.ends))

    def build(self, hidden_shape: tuple[int | None, ...]) -> None:
        features, head = int(hidden_shape[-1] or 0), self.ends[0]
        self._build_bias(head)
        if not self.tied:
            self.kernel = self.add_weight(shape=(head, features), initializer=_uniform(), name="kernel", autocast=False)
        if not self.clusters:
            return
        self.cluster_kernel = self.add_weight(
            shape=(features, len(self.clusters)), initializer="glorot_uniform", name="cluster_kernel"
        )
        mass = np.log([self._counts[start:end].sum() / self._counts[1:].sum() for start, end in self.clusters])
        self.cluster_bias = self.add_weight(
            shape=mass.shape, initializer=lambda shape, dtype=None: tf.cast(mass, dtype), name="cluster_bias", autocast=False
        )
        for number, (start, end) in enumerate(self.clusters, 1):
            size = max(1, features // self.factor**number)
            down = self.add_weight(shape=(features, size), initializer="glorot_uniform", name=f"down_{number}")
            up = self.add_weight(shape=(end - start, size), initializer=_uniform(), name=f"up_{number}", autocast=False)
            setattr(self, f"down_{number}", down)
            setattr(self, f"up_{number}", up)

    def log_probabilities(self, hidden: tf.Tensor) -> tf.Tensor:
        head = tf.nn.log_softmax(self._head_logits(hidden))
        first = self.ends[0]
        parts = [head[:, :first]]
        for number in range(1, len(self.clusters) + 1):
            parts.append(tf.nn.log_softmax(self._tail_logits(number, hidden)) + head[:, first + number - 1, None])
        return tf.concat(parts, 1)

    def _cross_entropy(self, hidden: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        first = self.ends[0]
        cluster = (
            tf.add_n([tf.cast(targets >= end, tf.int32) for end in self.ends[:-1]]) if self.clusters else tf.zeros_like(targets)
        )
        entry = tf.where(cluster > 0, first - 1 + cluster, targets)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(entry, self._head_logits(hidden))
        for number, (start, _) in enumerate(self.clusters, 1):
            places = tf.where(cluster == number)
            logits = self._tail_logits(number, tf.gather(hidden, places[:, 0]))
            inside = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(targets, places[:, 0]) - start, logits)
            losses += tf.scatter_nd(places, inside, tf.shape(losses, tf.int64))
        return losses

    def _head_logits(self, hidden: tf.Tensor) -> tf.Tensor:
        dtype = self.bias.value.dtype
        # Gathered, not sliced: the gradient then is of these rows alone.
        table = tf.gather(self.table, tf.range(self.ends[0])) if self.tied else self.table
        logits = tf.cast(tf.matmul(hidden, tf.cast(table, hidden.dtype), transpose_b=True), dtype) + _masked(self.bias.value)
        if not self.clusters:
            return logits
        clusters = tf.matmul(hidden, tf.cast(self.cluster_kernel.value, hidden.dtype))
        return tf.concat([logits, tf.cast(clusters, dtype) + self.cluster_bias.value], 1)

    def _tail_logits(self, number: int, hidden: tf.Tensor) -> tf.Tensor:
        down, up = getattr(self, f"down_{number}"), getattr(self, f"up_{number}")
        projected = tf.matmul(hidden, tf.cast(down.value, hidden.dtype))
        return tf.cast(tf.matmul(projected, tf.cast(up.value, hidden.dtype), transpose_b=True), self.bias.value.dtype)


def _in_pieces(
    losses: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], size: int, hidden: tf.Tensor, targets: tf.Tensor
) -> tf.Tensor:
    """Losses of so many rows at a time that their logits, `size` a row, stay below `PIECE`: texts may be long, and many."""
    rows = max(1, PIECE // size)
    pieces = tf.maximum(1, -(-tf.shape(hidden)[0] // rows))

    def with_next(number: tf.Tensor, found: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        piece = slice(number * rows, (number + 1) * rows)
        return number + 1, found.write(number, losses(hidden[piece], targets[piece]))

    none = tf.TensorArray(
        tf.float64 if hidden.dtype == tf.float64 else tf.float32, pieces, infer_shape=False, element_shape=[None]
    )
    _, found = tf.while_loop(lambda number, _: number < pieces, with_next, (0, none), parallel_iterations=1)
    return tf.ensure_shape(found.concat(), [None])


def _masked(bias: tf.Tensor) -> tf.Tensor:
    """`<float>[size]` with that of padding, which has no probability. Added to the bias, not to the logits: a pass less over them."""
    return tf.concat([tf.constant([NEVER], bias.dtype), bias[1:]], 0)


def _uniform() -> Any:
    return keras.initializers.RandomUniform(-0.1, 0.1)
