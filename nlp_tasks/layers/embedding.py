"""Word vectors. Their gradient stays sparse (`tf.IndexedSlices`), so that a step's cost does not grow with the vocabulary."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


class Embedding(keras.layers.Layer):
    """A table of vectors, one a row.

    Args:
        size: number of ids.
        features: length of a vector.
        scale: the initial values are uniform in [-scale, scale].
        initial: `<float>[size, features]`, the initial values instead.
        tuned: False keeps the initial values as they are.

    Call arguments:
        ids: `<int32>[…]`.

    Returns:
        `<float>[…, features]`.
    """

    def __init__(
        self, size: int, features: int, *, scale: float = 0.05, initial: np.ndarray | None = None, tuned: bool = True,
        **kwargs: object,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.size, self.features, self.scale, self._initial, self.tuned = size, features, scale, initial, tuned

    def build(self, ids_shape: tuple[int | None, ...]) -> None:
        initial, self._initial = self._initial, None
        uniform = keras.initializers.RandomUniform(-self.scale, self.scale)
        initializer = uniform if initial is None else lambda shape, dtype=None: tf.cast(initial, dtype)
        # Autocast would turn the table, and with it the gradient, into a dense tensor of another dtype.
        self.table = self.add_weight(
            shape=(self.size, self.features), initializer=initializer, name="table", autocast=False, trainable=self.tuned
        )

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(self.table.value, ids), self.compute_dtype)
