"""A feed-forward network over a window of the last tokens (Bengio 2003)."""

from __future__ import annotations

import keras
import tensorflow as tf

from nlp_tasks.layers.dropout import Dropout, Noise


class FeedForward(keras.layers.Layer):
    """h_t = tanh(d + H [x_t; x_{t-1}; …]) over the last tokens, and further such layers upon it (Bengio 2003, equation 1).

    Args:
        units: size of h.
        window: tokens that are seen, the present one included.
        depth: number of layers; those above the first see h_t alone.
        dropout: share of the values left out before the layers above the first.

    Call arguments and return values are those of `Stack`; the state is the vectors of the last window - 1 tokens,
    `<float>[batch, window - 1, features]`; zero before the first.
    """

    def __init__(self, units: int, window: int, *, depth: int = 1, dropout: float = 0.0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units, self.window, self.depth = units, window, depth
        for number in range(1, depth + 1):
            setattr(self, f"layer_{number}", keras.layers.Dense(units, activation="tanh", name=f"layer_{number}"))
            if number > 1:
                setattr(self, f"dropout_{number}", Dropout(dropout, name=f"dropout_{number}"))

    def call(
        self, inputs: tf.Tensor, lengths: tf.Tensor, initial_state: tf.Tensor, noise: Noise | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        noise = None if noise is None else noise.within(self.name)
        read = tf.concat([tf.cast(initial_state, inputs.dtype), inputs], 1)
        time = tf.shape(inputs)[1]
        # One product over the shifted copies, as in `Convolution`.
        outputs = tf.concat([read[:, offset : offset + time] for offset in range(self.window)], -1)
        for number in range(1, self.depth + 1):
            if number > 1:
                outputs = getattr(self, f"dropout_{number}")(outputs, noise)
            outputs = getattr(self, f"layer_{number}")(outputs)
        inside = tf.sequence_mask(lengths, time)[:, :, None]
        places = lengths[:, None] + tf.range(self.window - 1)
        return tf.where(inside, outputs, tf.zeros([], outputs.dtype)), tf.gather(read, places, batch_dims=1)

    def zero_state(self, rows: int | tf.Tensor, features: int) -> tf.Tensor:
        """The state before the first token."""
        return tf.zeros([rows, self.window - 1, features], self.compute_dtype)
