"""Attention with several heads, and rotary positions. What each query sees is said by a boolean argument; lengths are the caller's."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

Pair = tuple[tf.Tensor, tf.Tensor]

HIDDEN = -1e9
"""Added to the scores of keys that a query does not see: e to this power is zero in every precision."""


def rotation(places: tf.Tensor, features: int, dtype: str | tf.DType) -> Pair:
    """Cosine and sine of the angles place · θ_i, θ_i = 10000^(-2(i-1) / features) (Su 2021, RoFormer, eq. 15).

    Args:
        places: `<int32>[places]`.
        features: of a vector to be turned, an even number.
        dtype: of the result; angles are float64, since a float32 of some thousand radians has lost four digits.

    Returns:
        two of `<float>[places, features / 2]`.
    """
    if features % 2:
        raise ValueError(f"rotary positions of {features} features: expected an even number")
    angles = tf.cast(places, tf.float64)[:, None] * 10000.0 ** (-2 * np.arange(features // 2) / features)
    return tf.cast(tf.cos(angles), dtype), tf.cast(tf.sin(angles), dtype)


def rotary(vectors: tf.Tensor, turn: Pair) -> tf.Tensor:
    """Turns vectors by their places, so that dot products of two depend on the distance of their places alone (Su 2021, eq. 34).

    The two features turned together are i and i + features / 2 in place of neighbours, whose interleaving is slow: another order of the
    same features, which are learnt anyway.

    Args:
        vectors: `<float>[…, places, features]`.
        turn: as `rotation` gives it.

    Returns:
        `<float>[…, places, features]`.
    """
    cosine, sine = turn
    first, second = tf.split(vectors, 2, axis=-1)
    return tf.concat([first * cosine - second * sine, second * cosine + first * sine], -1)


def sinusoids(places: tf.Tensor, features: int, dtype: str | tf.DType) -> tf.Tensor:
    """Positions as sin and cos of place · 10000^(-2i / features) (Vaswani 2017, section 3.5), all sines before all cosines.

    Args:
        places: `<int32>[places]`.
        features: an even number.

    Returns:
        `<float>[places, features]`.
    """
    cosine, sine = rotation(places, features, dtype)
    return tf.concat([sine, cosine], -1)


def attend(queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, visible: tf.Tensor) -> tf.Tensor:
    """softmax(Q Kᵀ / √size) V (Vaswani 2017, eq. 1). The softmax is in float32 at least.

    Args:
        queries: `<float>[rows, heads, time, size]`.
        keys, values: `<float>[rows, heads, keys, size]`, finite everywhere.
        visible: `<bool>[rows or 1, time or 1, keys]`.

    Returns:
        `<float>[rows, heads, time, size]`; zeros where a query sees nothing.
    """
    dtype = queries.dtype
    weights = tf.cast(alignment(queries, keys, visible), dtype)
    return tf.where(tf.reduce_any(visible, -1)[:, None, :, None], tf.matmul(weights, values), tf.zeros([], dtype))


def alignment(queries: tf.Tensor, keys: tf.Tensor, visible: tf.Tensor) -> tf.Tensor:
    """softmax(Q Kᵀ / √size), as `attend` has it: `<float>[rows, heads, time, keys]`, float32 at least."""
    dtype, scale = queries.dtype, 1 / np.sqrt(queries.shape[-1])
    scores = tf.matmul(queries * tf.constant(scale, dtype), keys, transpose_b=True)
    scores = scores if dtype == tf.float64 else tf.cast(scores, tf.float32)
    bias = (1 - tf.cast(visible, scores.dtype)) * HIDDEN  # a sum passes gradients on as they are; tf.where would cost two more
    return tf.nn.softmax(scores + bias[:, None])


class Attention(keras.layers.Layer):
    """Multi-head attention (Vaswani 2017, section 3.2.2): each head attends in a projection of its own, and their results, side by
    side, are projected once more.

    Args:
        units: size of the outputs, and of all heads together.
        heads: their number, a divisor of `units`.
        cross: queries come from one sequence, keys and values from another, by two matrices. Otherwise all three come from one
            sequence by one matrix.
        output_initializer: of the last projection.

    Call arguments:
        inputs: `<float>[rows, time, features]`.
        visible: `<bool>[rows or 1, time, keys]`, which keys each query sees; a query that sees nothing gets the output's bias.
        memory: with `cross`, what is looked at: `<float>[rows, keys, features]`, or (keys, values) as an earlier call returned them,
            which are then not projected again. Finite everywhere, as are the inputs.
        past: (keys, values) that come before those of the inputs, as an earlier call returned them.
        turn: of all keys, `rotation(places, units / heads)`: queries, which stand where the last keys do, and keys are turned by it.

    Returns:
        outputs `<float>[rows, time, units]`, and (keys, values) `<float>[rows, heads, keys, units / heads]`: past ones first, not turned.
    """

    def __init__(
        self, units: int, heads: int, *, cross: bool = False, output_initializer: str | keras.Initializer = "glorot_uniform",
        **kwargs: object,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if units % heads:
            raise ValueError(f"attention of {units} units with {heads} heads: expected a divisor of the units")
        self.units, self.heads, self.cross, self.output_initializer = units, heads, cross, output_initializer

    def build(self, inputs_shape: tuple[int | None, ...], memory_shape: tuple[int | None, ...] | None = None) -> None:
        def add(name: str, features: int | None, blocks: int) -> None:
            width, initial = blocks * self.units, _side_by_side(blocks)
            setattr(self, f"{name}kernel", self.add_weight(shape=(features, width), initializer=initial, name=f"{name}kernel"))
            setattr(self, f"{name}bias", self.add_weight(shape=(width,), initializer="zeros", name=f"{name}bias"))

        add("", inputs_shape[-1], 1 if self.cross else 3)
        if self.cross:
            assert memory_shape is not None, "the first call needs what is looked at"
            add("memory_", memory_shape[-1], 2)
        shape = (self.units, self.units)
        self.output_kernel = self.add_weight(shape=shape, initializer=self.output_initializer, name="output_kernel")
        self.output_bias = self.add_weight(shape=(self.units,), initializer="zeros", name="output_bias")

    def call(
        self, inputs: tf.Tensor, visible: tf.Tensor, memory: tf.Tensor | Pair | None = None, past: Pair | None = None,
        turn: Pair | None = None,
    ) -> tuple[tf.Tensor, Pair]:  # fmt: skip
        projected = self._heads(inputs, self.kernel, self.bias)
        if not self.cross:
            queries, keys, values = projected
        elif isinstance(memory, (tuple, list)):
            (queries,), (keys, values) = projected, memory
        else:
            (queries,), (keys, values) = projected, self.remember(memory)
        if past is not None:
            keys, values = tf.concat([past[0], keys], 2), tf.concat([past[1], values], 2)
        known = keys, values
        if turn is not None:
            first = tf.shape(keys)[2] - tf.shape(queries)[2]
            queries, keys = rotary(queries, (turn[0][first:], turn[1][first:])), rotary(keys, turn)
        attended = tf.transpose(attend(queries, keys, values, visible), [0, 2, 1, 3])
        flat = tf.matmul(tf.reshape(attended, [-1, self.units]), tf.convert_to_tensor(self.output_kernel)) + self.output_bias
        return tf.reshape(flat, [tf.shape(inputs)[0], tf.shape(inputs)[1], self.units]), known

    def remember(self, memory: tf.Tensor) -> Pair:
        """Keys and values of a memory, for calls that look at it again and again; with `cross`."""
        keys, values = self._heads(memory, self.memory_kernel, self.memory_bias)
        return keys, values

    def alignment(self, inputs: tf.Tensor, visible: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
        """With `cross`, how much each query looks at each place of the memory, the mean of all heads: `<float>[rows, time, places]`."""
        (queries,) = self._heads(inputs, self.kernel, self.bias)
        return tf.reduce_mean(alignment(queries, self.remember(memory)[0], visible), 1)

    def _heads(self, inputs: tf.Tensor, kernel: tf.Variable, bias: tf.Variable) -> list[tf.Tensor]:
        """`<float>[rows, time, features]` → `<float>[rows, heads, time, size]` for each block of the kernel."""
        kernel, bias = (
            tf.cast(tf.convert_to_tensor(weight), inputs.dtype) for weight in (kernel, bias)
        )  # also outside of `call`
        flat = tf.matmul(tf.reshape(inputs, [-1, inputs.shape[-1]]), kernel) + bias
        blocks, size = flat.shape[-1] // self.units, self.units // self.heads
        parts = tf.reshape(flat, [tf.shape(inputs)[0], tf.shape(inputs)[1], blocks, self.heads, size])
        return tf.unstack(tf.transpose(parts, [2, 0, 3, 1, 4]))  # slices of the first axis are not copied


def _side_by_side(blocks: int) -> Callable[..., tf.Tensor]:
    """Matrices beside each other, each with the glorot values of its own size."""

    def initial(shape: tuple[int, int], dtype: str | None = None) -> tf.Tensor:
        block = (shape[0], shape[1] // blocks)  # an initializer gives the same values twice: each block has one of its own
        return tf.concat([keras.initializers.GlorotUniform()(block, dtype) for _ in range(blocks)], 1)

    return initial
