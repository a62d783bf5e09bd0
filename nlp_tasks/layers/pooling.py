"""From one vector a token to one vector a text. Padding never counts; a text without tokens gives zeros."""

from __future__ import annotations

import keras
import tensorflow as tf


def _mask(inputs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """`<bool>[batch, time, 1]`. Example: lengths [2, 0], time 3 → [[1, 1, 0], [0, 0, 0]]."""
    return tf.sequence_mask(lengths, tf.shape(inputs)[1])[..., None]


def max_pooling(inputs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Largest value over time: `<float>[batch, time, features]`, `<int32>[batch]` → `<float>[batch, features]`."""
    largest = tf.reduce_max(tf.where(_mask(inputs, lengths), inputs, inputs.dtype.min), 1)
    return tf.where((lengths > 0)[:, None], largest, tf.zeros([], inputs.dtype))


def mean_pooling(inputs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Mean over time, shapes as in `max_pooling`."""
    total = tf.reduce_sum(tf.where(_mask(inputs, lengths), inputs, tf.zeros([], inputs.dtype)), 1)
    return total / tf.cast(tf.maximum(lengths, 1), inputs.dtype)[:, None]


def last_pooling(inputs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """The vector of the last token, shapes as in `max_pooling`."""
    last = tf.gather(inputs, tf.maximum(lengths - 1, 0), batch_dims=1)
    return tf.where((lengths > 0)[:, None], last, tf.zeros([], inputs.dtype))


class AttentionPooling(keras.layers.Layer):
    """Weighted mean over time, weights softmax(vᵀ tanh(W h_t + b)) (Yang 2016, eq. 5-7).

    Args:
        units: size of the hidden layer of the scores.

    Call arguments:
        inputs: `<float>[batch, time, features]`.
        lengths: `<int32>[batch]`.

    Returns:
        `<float>[batch, features]`.
    """

    def __init__(self, units: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(units, activation="tanh", name="hidden")
        self.score = keras.layers.Dense(1, use_bias=False, name="score")

    def call(self, inputs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        mask = _mask(inputs, lengths)
        scores = tf.where(mask, self.score(self.hidden(inputs)), inputs.dtype.min)
        weights = tf.where(mask, tf.nn.softmax(scores, axis=1), tf.zeros([], inputs.dtype))
        return tf.reduce_sum(weights * inputs, 1)
