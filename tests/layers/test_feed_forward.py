"""The feed-forward network over a window against NumPy; and that reading in pieces is reading at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks.layers import FeedForward, Noise

Array = np.ndarray
FEATURES, UNITS = 3, 5
LENGTHS = np.array([5, 0, 7, 1], np.int32)
ROWS, TIME = len(LENGTHS), 7
INPUTS = np.random.default_rng(1).normal(size=(ROWS, TIME, FEATURES))
SIZES = pytest.mark.parametrize(("window", "depth"), [(1, 1), (2, 1), (4, 1), (3, 2), (1, 3), (12, 2)])


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def made(window: int, depth: int = 1, **options: Any) -> FeedForward:
    layer = FeedForward(UNITS, window, depth=depth, **options)
    layer(INPUTS, LENGTHS, layer.zero_state(ROWS, FEATURES))
    layer.set_weights([np.random.default_rng([2, n]).normal(size=v.shape) / 2 for n, v in enumerate(layer.variables)])
    return layer


def before(window: int) -> Array:
    return np.random.default_rng(3).normal(size=(ROWS, window - 1, FEATURES))


def by_equation(layer: FeedForward, tokens: Array) -> Array:
    """h of the last of `<float>[window, features]`."""
    h = tokens.reshape(-1)
    for number in range(1, layer.depth + 1):
        dense = getattr(layer, f"layer_{number}")
        h = np.tanh(h @ np.float64(dense.kernel) + np.float64(dense.bias))
    return h


@SIZES
def test_each_token_sees_the_window_that_ends_with_it(window: int, depth: int) -> None:
    layer = made(window, depth)
    outputs, state = layer(INPUTS, LENGTHS, before(window))
    assert (outputs.shape, state.shape) == ((ROWS, TIME, UNITS), (ROWS, window - 1, FEATURES))
    for row, length in enumerate(LENGTHS):
        read = np.concatenate([before(window)[row], INPUTS[row, :length]])
        for t in range(length):
            np.testing.assert_allclose(outputs[row, t], by_equation(layer, read[t : t + window]), rtol=1e-10)
        np.testing.assert_array_equal(outputs[row, length:], np.zeros([TIME - length, UNITS]))
        np.testing.assert_array_equal(state[row], read[len(read) - window + 1 :])


@SIZES
@pytest.mark.parametrize("size", [1, 2, 3])
def test_reading_in_pieces_is_reading_at_once(window: int, depth: int, size: int) -> None:
    layer, state, outputs = made(window, depth), before(window), []
    expected, last = layer(INPUTS, LENGTHS, state)
    for begin in range(0, TIME, size):
        piece = INPUTS[:, begin : begin + size]
        part, state = layer(piece, np.clip(LENGTHS - begin, 0, piece.shape[1]).astype(np.int32), state)
        outputs.append(part)
    np.testing.assert_allclose(np.concatenate(outputs, 1), expected, rtol=1e-10)
    np.testing.assert_array_equal(state, last)


@SIZES
def test_padding_changes_nothing_whatever_it_is(window: int, depth: int) -> None:
    layer = made(window, depth)
    padded = np.pad(INPUTS, [(0, 0), (0, 4), (0, 0)])
    padded[np.arange(TIME + 4) >= LENGTHS[:, None]] = 9e9
    outputs, state = layer(padded, LENGTHS, before(window))
    expected, last = layer(INPUTS, LENGTHS, before(window))
    np.testing.assert_allclose(outputs[:, :TIME], expected, rtol=1e-10)
    np.testing.assert_array_equal(outputs[:, TIME:], 0 * outputs[:, TIME:])
    np.testing.assert_array_equal(state, last)


@pytest.mark.parametrize("window", [1, 3])
def test_texts_of_no_tokens_keep_their_state(window: int) -> None:
    layer = made(window, 2)
    for time in (0, 2):
        outputs, state = layer(INPUTS[:, :time], np.zeros(ROWS, np.int32), before(window))
        np.testing.assert_array_equal(outputs, np.zeros([ROWS, time, UNITS]))
        np.testing.assert_array_equal(state, before(window))


def test_the_first_state_is_of_zeros() -> None:
    state = made(4).zero_state(tf.constant(2), FEATURES)
    assert state.dtype == tf.float64
    np.testing.assert_array_equal(state, np.zeros([2, 3, FEATURES]))


@SIZES
def test_gradients_are_those_of_finite_differences(window: int, depth: int) -> None:
    layer = made(window, depth)
    weights = np.random.default_rng(4).normal(size=(ROWS, TIME, UNITS))

    def loss(inputs: Any, state: Any) -> tf.Tensor:
        return tf.reduce_sum(layer(inputs, LENGTHS, state)[0] * weights)

    random, step = np.random.default_rng(5), 1e-5
    given = tf.constant(INPUTS), tf.constant(before(window))
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = loss(*given)
    variables = [variable.value for variable in layer.trainable_variables]
    assert len(variables) == 2 * depth
    (of_inputs, of_state), of_variables = tape.gradient(value, [given, variables])
    for variable, gradient in zip(variables, of_variables, strict=True):
        start, direction, ends = variable.numpy(), random.normal(size=variable.shape), []
        for sign in (1, -1):
            variable.assign(start + sign * step * direction)
            ends.append(float(loss(*given)))
        variable.assign(start)
        assert (gradient.numpy() * direction).sum() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)
    one, other = random.normal(size=INPUTS.shape), random.normal(size=before(window).shape)
    ends = [float(loss(INPUTS + sign * step * one, before(window) + sign * step * other)) for sign in (1, -1)]
    found = (of_inputs.numpy() * one).sum() + (of_state.numpy() * other).sum()
    assert found == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)
    np.testing.assert_array_equal(of_inputs.numpy()[np.arange(TIME) >= LENGTHS[:, None]], 0)


def test_dropout_stands_between_the_layers() -> None:
    noise = Noise(tf.constant(1, tf.uint32), tf.constant(range(ROWS), tf.uint32))
    one, two, without = (made(2, depth, dropout=dropout) for depth, dropout in ((1, 0.5), (2, 0.5), (2, 0.0)))
    for layer, same in ((one, True), (two, False), (without, True)):
        outputs, state = layer(INPUTS, LENGTHS, before(2), noise)
        expected, last = layer(INPUTS, LENGTHS, before(2))
        assert np.array_equal(outputs, expected) == same
        np.testing.assert_array_equal(state, last)
        np.testing.assert_array_equal(outputs, layer(INPUTS, LENGTHS, before(2), noise)[0])


def test_a_graph_of_unknown_shapes() -> None:
    layer = made(3, 2)
    signature = [
        tf.TensorSpec([None, None, FEATURES], tf.float64), tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 2, FEATURES], tf.float64)
    ]  # fmt: skip
    read = tf.function(layer, input_signature=signature, autograph=False)
    for rows, time in ((ROWS, TIME), (1, 2), (0, 3)):
        given = INPUTS[:rows, :time], np.minimum(LENGTHS[:rows], time), before(3)[:rows]
        for found, expected in zip(read(*given), layer(*given), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_bfloat16() -> None:
    expected = made(3, 2)(INPUTS, LENGTHS, before(3))[0]
    keras.config.set_dtype_policy("mixed_bfloat16")
    outputs, state = made(3, 2)(INPUTS, LENGTHS, before(3))
    assert outputs.dtype == state.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(outputs, tf.float64), expected, atol=0.05)
