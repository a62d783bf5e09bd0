"""A linear classifier over a set of n-grams, with a naive-Bayes prior on each weight."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


class BagOfNgrams(keras.layers.Layer):
    """NB-SVM as a layer (Wang & Manning 2012, eq. 2-5, interpolated).

    The logit of class c is `b_c + scale · Σ_f r_fc · (prior + w_fc)` over the distinct n-grams f of a text, where r_fc is the fixed
    log-count ratio of the n-gram and w_fc is learned: at w = 0 the layer is a naive-Bayes classifier.

    Args:
        ratios: `<float32>[ngrams, classes]`; row 0 is the padding and must be zero. None: a plain linear layer (r = 1, prior 0).
        size: number of n-gram ids, padding included.
        classes: number of classes.

    Call arguments:
        ids: `<int32>[rows, ngrams]`, padded by 0.

    Returns:
        logits `<float>[rows, classes]`.
    """

    def __init__(
        self, size: int, classes: int, ratios: np.ndarray | None, *, prior: float = 0.4, scale: float = 0.1, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.size, self.classes, self.prior, self.scale = size, classes, prior, scale
        self._ratios = ratios

    def build(self, ids_shape: tuple[int | None, ...]) -> None:
        def table(name: str, initializer: object, trainable: bool) -> keras.Variable:
            return self.add_weight(
                shape=(self.size, self.classes), initializer=initializer, name=name, trainable=trainable, autocast=False
            )

        self.weights_table = table("weights", "zeros", trainable=True)
        if self._ratios is not None:
            ratios = self._ratios
            self.ratios = table("ratios", lambda shape, dtype=None: tf.cast(ratios, dtype), trainable=False)
            self._ratios = None
        else:
            self.ratios = None
        self.bias = self.add_weight(shape=(self.classes,), initializer="zeros", name="bias")

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        weights = tf.gather(self.weights_table.value, ids)
        if self.ratios is None:
            values = tf.where((ids > 0)[..., None], weights, 0)
        else:
            values = tf.gather(self.ratios.value, ids) * (self.prior + weights) * self.scale
        return tf.cast(tf.reduce_sum(values, 1), self.compute_dtype) + self.bias
