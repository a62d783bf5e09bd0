"""A linear classifier over a set of n-grams, with a naive-Bayes prior on each weight."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


class BagOfNgrams(keras.layers.Layer):
    """NB-SVM as a layer (Wang & Manning 2012, eq. 2-5, interpolated).

    The logit of class c is `b_c + scale / √n · Σ_f r_fc · (prior + w_fc)` over the n distinct n-grams f of a text. w_fc is learned;
    r_fc is the log-count ratio, with n_fc the number of training texts of class c that hold f:

        r_fc = log((n_fc + 1) / Σ_f (n_fc + 1)) - log((n_f - n_fc + 1) / Σ_f (n_f - n_fc + 1))

    At w = 0 the layer is a naive-Bayes classifier. A training text is left out of its own counts: otherwise its rare n-grams give
    its label away, and the weights are learned for evidence that no new text has.

    Args:
        counts: `<int>[ngrams, classes]`; row 0 is the padding and must be zero. None: a plain linear layer (r = 1, prior 0).
        size: number of n-gram ids, padding included.
        classes: number of classes.

    Call arguments:
        ids: `<int32>[rows, ngrams]`, padded by 0.
        labels: `<int32>[rows]` in training: the class under which each row was counted; None for texts that were not.

    Returns:
        logits `<float>[rows, classes]`.
    """

    def __init__(
        self, size: int, classes: int, counts: np.ndarray | None, *, prior: float = 0.4, scale: float = 0.75, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.size, self.classes, self.prior, self.scale = size, classes, prior, scale
        self._counts = counts

    def build(self, ids_shape: tuple[int | None, ...], labels_shape: tuple[int | None, ...] | None = None) -> None:
        def table(name: str, initializer: object, trainable: bool) -> keras.Variable:
            shape = (self.size, self.classes)
            return self.add_weight(shape=shape, initializer=initializer, name=name, trainable=trainable, autocast=False)

        self.weights_table = table("weights", "zeros", trainable=True)
        self.counts: keras.Variable = None
        if self._counts is not None:
            counts, self._counts = self._counts, None
            here, elsewhere = counts[1:] + 1.0, counts[1:].sum(1, keepdims=True) - counts[1:] + 1.0
            self._offset = np.log(elsewhere.sum(0)) - np.log(here.sum(0))
            self.counts = table("counts", lambda shape, dtype=None: tf.cast(counts, dtype), trainable=False)
        self.bias = self.add_weight(shape=(self.classes,), initializer="zeros", name="bias")

    def call(self, ids: tf.Tensor, labels: tf.Tensor | None = None) -> tf.Tensor:
        values = tf.gather(self.weights_table.value, ids)
        if self.counts is not None:
            values = self._ratios(ids, labels) * (self.prior + values)
        present = tf.cast(ids > 0, values.dtype)
        total = tf.reduce_sum(values * present[..., None], 1)
        count = tf.maximum(tf.reduce_sum(present, 1, keepdims=True), 1)
        return tf.cast(self.scale * total * tf.math.rsqrt(count), self.compute_dtype) + self.bias

    def _ratios(self, ids: tf.Tensor, labels: tf.Tensor | None) -> tf.Tensor:
        """r `<float>[rows, ngrams, classes]`."""
        counts = tf.gather(self.counts.value, ids)
        if labels is not None:
            counts = tf.maximum(counts - tf.one_hot(labels, self.classes, dtype=counts.dtype)[:, None], 0)
        elsewhere = tf.reduce_sum(counts, -1, keepdims=True) - counts
        return tf.math.log((counts + 1) / (elsewhere + 1)) + tf.constant(self._offset, counts.dtype)
