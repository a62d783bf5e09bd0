"""Recurrent layers against equations in NumPy, finite differences and Keras; each path against the others."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import layers
from nlp_tasks.errors import UserError
from nlp_tasks.layers import recurrent_cudnn, recurrent_packed
from nlp_tasks.layers.dropout import Noise
from nlp_tasks.layers.model import variables_by_name

Array = np.ndarray
LENGTHS = np.array([3, 0, 6, 1, 3], np.int32)
TIME, FEATURES, UNITS = 6, 3, 5
EPSILON = 1e-5


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


# One token by the equations: x_t, the state and the weights → the next state, whose first part is the output


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def simple_rnn(x: Array, state: list[Array], w: Array, u: Array, b: Array) -> list[Array]:
    return [np.tanh(x @ w + state[0] @ u + b)]


def lstm(x: Array, state: list[Array], w: Array, u: Array, b: Array) -> list[Array]:
    h, before = state
    i, f, g, o = np.split(x @ w + h @ u + b, 4)
    c = sigmoid(f) * before + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(c), c]


def lstm_with_peephole(x: Array, state: list[Array], w: Array, u: Array, b: Array, p: Array) -> list[Array]:
    h, before = state
    i, f, g, o = np.split(x @ w + h @ u + b, 4)
    c = sigmoid(f + p[1] * before) * before + sigmoid(i + p[0] * before) * np.tanh(g)
    return [sigmoid(o + p[2] * c) * np.tanh(c), c]


def gru(x: Array, state: list[Array], w: Array, u: Array, b: Array) -> list[Array]:
    (h,) = state
    (z, r, n), (z_h, r_h, n_h) = np.split(x @ w + b[0], 3), np.split(h @ u + b[1], 3)
    z, r = sigmoid(z + z_h), sigmoid(r + r_h)
    return [z * h + (1 - z) * np.tanh(n + r * n_h)]


def simplified_gru(x: Array, state: list[Array], w: Array, u: Array, b: Array) -> list[Array]:
    (h,) = state
    z, n = np.split(x @ w + h @ u + b, 2)
    return [sigmoid(z) * h + (1 - sigmoid(z)) * np.tanh(n)]


def min_gru(x: Array, state: list[Array], w: Array, b: Array) -> list[Array]:
    z, n = np.split(x @ w + b, 2)
    return [(1 - sigmoid(z)) * state[0] + sigmoid(z) * n]


class Cell(NamedTuple):
    """A layer, its equations, and whether it has a packed path."""

    make: Callable[..., Any]
    step: Callable[..., list[Array]]
    packed: bool


CELLS = {
    "SimpleRNN": Cell(layers.SimpleRNN, simple_rnn, False),
    "LSTM": Cell(layers.LSTM, lstm, True),
    "LSTM-peephole": Cell(functools.partial(layers.LSTM, peephole=True), lstm_with_peephole, False),
    "GRU": Cell(layers.GRU, gru, True),
    "GRU-simplified": Cell(functools.partial(layers.GRU, reset_gate=False), simplified_gru, False),
    "MinGRU": Cell(layers.MinGRU, min_gru, True),
}
PACKED = [name for name, cell in CELLS.items() if cell.packed]
IN_KERAS = {"SimpleRNN": keras.layers.SimpleRNN, "LSTM": keras.layers.LSTM, "GRU": keras.layers.GRU}

every_way = pytest.mark.parametrize(
    ("name", "path"), [*((name, "plain") for name in CELLS), *((name, "packed") for name in PACKED)]
)
packed_cells = pytest.mark.parametrize("name", PACKED)
both_directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


# What a layer is given, and what comes of it


class Batch(NamedTuple):
    """Padded rows, and the weight of each result in a loss."""

    inputs: Any
    lengths: Any
    state: tuple[Any, ...]
    on_outputs: Any
    on_state: tuple[Any, ...]

    def rows(self, rows: Any) -> Batch:
        return tf.nest.map_structure(lambda array: array[rows], self)

    def part(self, begin: int, end: int) -> Batch:
        """Some columns."""
        lengths = np.clip(self.lengths - begin, 0, end - begin)
        return self._replace(inputs=self.inputs[:, begin:end], lengths=lengths, on_outputs=self.on_outputs[:, begin:end])

    def padded(self, more: int, filler: float) -> Batch:
        """More padding; all of it, also where it stood before, is the filler."""
        inputs, on_outputs = (np.pad(array, [(0, 0), (0, more), (0, 0)]) for array in (self.inputs, self.on_outputs))
        inputs[~inside(self.lengths, TIME + more)] = filler
        return self._replace(inputs=inputs, on_outputs=on_outputs)

    def mirrored(self) -> Batch:
        return self._replace(inputs=mirrored(self.inputs), on_outputs=mirrored(self.on_outputs))


class Results(NamedTuple):
    outputs: Any
    state: tuple[Any, ...]
    of_inputs: Any = None
    """Gradient of the loss with respect to the inputs; the next two likewise."""
    of_weights: tuple[Any, ...] = ()
    of_state: tuple[Any, ...] = ()

    def arrays(self) -> Results:
        return tf.nest.map_structure(np.asarray, self)


def random(*shape: int, seed: int) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def batch(states: int, units: int = UNITS, lengths: Array = LENGTHS) -> Batch:
    rows = len(lengths)
    return Batch(
        inputs=random(rows, TIME, FEATURES, seed=1),
        lengths=lengths,
        state=tuple(random(rows, units, seed=2 + part) for part in range(states)),
        on_outputs=random(rows, TIME, units, seed=4),
        on_state=tuple(random(rows, units, seed=5 + part) for part in range(states)),
    )


def inside(lengths: Array, time: int = TIME) -> Array:
    return np.arange(time) < lengths[:, None]


def mirrored(values: Array, lengths: Array = LENGTHS) -> Array:
    return np.stack([np.concatenate([row[:length][::-1], row[length:]]) for row, length in zip(values, lengths, strict=True)])


def fill(layer: Any) -> None:
    """Random weights, biases and peepholes too."""
    shapes = [variable.shape for variable in layer.variables]
    layer.set_weights([random(*shape, seed=10 + n) / np.sqrt(layer.units) for n, shape in enumerate(shapes)])


def filled(layer: Any) -> Any:
    layer(batch(1).inputs, LENGTHS)
    fill(layer)
    return layer


def made(name: str, units: int = UNITS, dtype: str = "float64") -> Any:
    """A new layer; the weights are the same in each of one name and width."""
    layer = CELLS[name].make(units, dtype=dtype)
    layer.build((None, None, FEATURES))
    fill(layer)
    return layer


def weighed(outputs: Any, state: Any, given: Batch) -> tf.Tensor:
    """A loss that weighs each number of the results differently."""
    pairs = zip((outputs, *state), (given.on_outputs, *given.on_state), strict=True)
    return tf.add_n([tf.reduce_sum(values * weights) for values, weights in pairs])


def states(name: str) -> int:
    return 2 if name.startswith("LSTM") else 1


def results(layer: Any, path: str, given: Batch, **options: Any) -> Results:
    with layers.recurrent_path(path), tf.GradientTape() as tape:
        tape.watch((given.inputs, given.state))
        outputs, state = layer(given.inputs, given.lengths, initial_state=given.state, **options)
        loss = weighed(outputs, state, given)
    weights = tuple(variable.value for variable in layer.trainable_variables)
    return Results(outputs, tuple(state), *tape.gradient(loss, (given.inputs, weights, given.state)))


def eager(name: str, path: str, given: Batch, *, reverse: bool = False, dtype: str = "float64") -> Results:
    layer = made(name, given.on_outputs.shape[-1], dtype)
    return results(layer, path, tensors(given, dtype), reverse=reverse).arrays()


def tensors(given: Batch, dtype: str) -> Batch:
    return tf.nest.map_structure(lambda array: tf.constant(array, None if array.dtype == np.int32 else dtype), given)


@functools.cache
def graph(name: str, path: str, reverse: bool) -> Callable[[Batch], Results]:
    """Traced once, for any number of rows and columns."""
    layer = made(name)
    vectors, state = tf.TensorSpec([None, None, UNITS], tf.float64), (tf.TensorSpec([None, UNITS], tf.float64),) * states(name)
    signature = Batch(tf.TensorSpec([None, None, FEATURES], tf.float64), tf.TensorSpec([None], tf.int32), state, vectors, state)
    run = tf.function(lambda given: results(layer, path, given, reverse=reverse), input_signature=[signature], autograph=False)
    return lambda given: run(tensors(given, "float64")).arrays()


def by_equations(name: str, weights: list[Array], given: Batch, reverse: bool) -> Results:
    """Row by row, token by token."""
    outputs, ends = np.zeros_like(given.on_outputs), [part.copy() for part in given.state]
    for row, length in enumerate(given.lengths):
        state = [part[row] for part in given.state]
        for t in reversed(range(length)) if reverse else range(length):
            state = CELLS[name].step(given.inputs[row, t], state, *weights)
            outputs[row, t] = state[0]
        for end, part in zip(ends, state, strict=True):
            end[row] = part
    return Results(outputs, tuple(ends))


@functools.cache
def expected(name: str, reverse: bool) -> Results:
    """By equations, their gradients by central differences."""
    given = batch(states(name))
    weights = [np.float64(variable) for variable in made(name).variables]

    def loss(part: Batch) -> float:
        outputs, state, *_ = by_equations(name, weights, part, reverse)
        pairs = zip((outputs, *state), (part.on_outputs, *part.on_state), strict=True)
        return sum((values * weights).sum() for values, weights in pairs)

    def gradient(array: Array, part: Batch) -> Array:
        slopes = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            value = array[place]
            array[place] = value + EPSILON
            above = loss(part)
            array[place] = value - EPSILON
            slopes[place] = (above - loss(part)) / (2 * EPSILON)
            array[place] = value
        return slopes

    def of_rows(array: Array) -> Array:
        """A row has an effect on its own loss only."""
        return np.stack([gradient(array[row], given.rows(slice(row, row + 1))) for row in range(len(LENGTHS))])

    return by_equations(name, weights, given, reverse)._replace(
        of_inputs=of_rows(given.inputs),
        of_weights=tuple(gradient(array, given) for array in weights),
        of_state=tuple(of_rows(array) for array in given.state),
    )


def assert_close(given: Any, wanted: Any, tolerance: float = 1e-12) -> None:
    """The tolerance is relative to the largest number of each array."""
    tf.nest.assert_same_structure(given, wanted)
    for one, other in zip(tf.nest.flatten(given), tf.nest.flatten(wanted), strict=True):
        other = np.asarray(other)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(1, np.abs(other).max(initial=0)))


# Equations and their gradients


@every_way
@both_directions
def test_values_are_those_of_the_equations(name: str, path: str, reverse: bool) -> None:
    given = batch(states(name))
    outputs, state, *_ = graph(name, path, reverse)(given)
    assert_close((outputs, state), expected(name, reverse)[:2])
    np.testing.assert_array_equal(outputs[~inside(LENGTHS)], 0)
    for after, before in zip(state, given.state, strict=True):
        np.testing.assert_array_equal(after[LENGTHS == 0], before[LENGTHS == 0])


@every_way
@both_directions
def test_the_state_before_the_first_token_is_zero(name: str, path: str, reverse: bool) -> None:
    layer, given = made(name), batch(states(name))
    with layers.recurrent_path(path):
        found = layer(given.inputs, LENGTHS, reverse=reverse)
    zeros = given._replace(state=tuple(np.zeros_like(part) for part in given.state))
    assert_close(found, by_equations(name, [np.float64(variable) for variable in layer.variables], zeros, reverse)[:2])


@every_way
@both_directions
def test_gradients_are_those_of_finite_differences(name: str, path: str, reverse: bool) -> None:
    found = graph(name, path, reverse)(batch(states(name)))
    assert_close(found[2:], expected(name, reverse)[2:], 1e-8)
    np.testing.assert_array_equal(found.of_inputs[~inside(LENGTHS)], 0)


@packed_cells
@both_directions
def test_packed_needs_no_graph(name: str, reverse: bool) -> None:
    assert_close(eager(name, "packed", batch(states(name)), reverse=reverse), expected(name, reverse), 1e-8)


@packed_cells
@both_directions
def test_without_a_gradient_the_values_are_the_same(name: str, reverse: bool) -> None:
    layer, given = made(name), batch(states(name))
    with layers.recurrent_path("packed", gradient=False):
        found = layer(given.inputs, LENGTHS, initial_state=given.state, reverse=reverse)
    assert_close(found, expected(name, reverse)[:2])


# Keras


@pytest.mark.parametrize("name", IN_KERAS)
@both_directions
def test_cells_are_those_of_keras(name: str, reverse: bool) -> None:
    given, mask = batch(states(name)), inside(LENGTHS)
    other = IN_KERAS[name](UNITS, return_sequences=True, return_state=True, go_backwards=reverse)
    other.build((None, None, FEATURES))
    other.set_weights(made(name).get_weights())
    with tf.GradientTape() as tape:
        outputs, *state = other(given.inputs, initial_state=list(given.state), mask=mask)
        outputs = tf.where(mask[:, :, None], outputs[:, ::-1] if reverse else outputs, 0)
        loss = weighed(outputs, state, given)
    of_weights = tape.gradient(loss, [variable.value for variable in other.trainable_variables])
    found = graph(name, "packed" if name in PACKED else "plain", reverse)(given)
    assert_close((found.outputs, found.state, found.of_weights), (outputs, tuple(state), tuple(of_weights)), 1e-10)


@pytest.mark.parametrize("name", IN_KERAS)
def test_both_directions_are_those_of_keras(name: str) -> None:
    layer, inputs, mask = filled(layers.Bidirectional(made(name), made(name))), batch(1).inputs, inside(LENGTHS)
    other = keras.layers.Bidirectional(IN_KERAS[name](UNITS, return_sequences=True, return_state=True))
    other.build((None, None, FEATURES))
    for part, weights in ((other.forward_layer, layer.forward), (other.backward_layer, layer.backward)):
        part.set_weights(weights.get_weights())
    wanted, *state = other(inputs, mask=mask)
    outputs, states_of_both = layer(inputs, LENGTHS)
    assert_close([outputs, *tf.nest.flatten(states_of_both)], [tf.where(mask[:, :, None], wanted, 0), *state], 1e-10)


# Packed and plain


ODD_LENGTHS = {
    "ragged": LENGTHS,
    "nothing": np.zeros(4, np.int32),
    "a row": np.int32([4]),
    "an empty row": np.int32([0]),
    "no long row": np.int32([2, 0, 3]),
    "full": np.full(3, TIME, np.int32),
    "no row": np.zeros(0, np.int32),
}  # fmt: skip


@packed_cells
@both_directions
@pytest.mark.parametrize("lengths", ODD_LENGTHS.values(), ids=ODD_LENGTHS)
def test_packed_is_plain(name: str, reverse: bool, lengths: Array) -> None:
    given = batch(states(name), lengths=lengths)
    assert_close(graph(name, "packed", reverse)(given), graph(name, "plain", reverse)(given))


@pytest.mark.parametrize(("name", "units"), [("LSTM", 64), ("LSTM", 256), ("GRU", 64), ("GRU", 256), ("MinGRU", 128)])
def test_packed_is_plain_at_any_width(name: str, units: int) -> None:
    """Rows of a matrix are laid out by their width. Shapes and lengths are known here when the graph is traced."""
    layer, given = made(name, units), batch(states(name), units)
    known, wanted = tensors(given, "float64"), eager(name, "plain", given)
    assert_close(tf.function(lambda: results(layer, "packed", known), autograph=False)(), wanted)
    assert_close(eager(name, "packed", given, dtype="float32"), wanted, 1e-5)


# Padding, neighbours, directions, pieces


@every_way
@both_directions
@pytest.mark.parametrize("filler", [9.0, np.nan])
def test_more_padding_changes_nothing(name: str, path: str, reverse: bool, filler: float) -> None:
    given = batch(states(name))
    found, wanted = (graph(name, path, reverse)(part) for part in (given.padded(3, filler), given))
    np.testing.assert_array_equal(found.outputs[~inside(LENGTHS, TIME + 3)], 0)
    assert_close((found.outputs[:, :TIME], found.state), wanted[:2])
    if np.isnan(filler) and path == "plain":
        return  # it computes with padding and throws away what comes of it, but 0 · NaN is no gradient
    np.testing.assert_array_equal(found.of_inputs[~inside(LENGTHS, TIME + 3)], 0)
    assert_close((found.of_inputs[:, :TIME], *found[3:]), wanted[2:])


@every_way
@both_directions
def test_neighbours_change_nothing(name: str, path: str, reverse: bool) -> None:
    given, run = batch(states(name)), graph(name, path, reverse)
    alone = [run(given.rows(slice(row, row + 1))) for row in range(len(LENGTHS))]
    joined = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *(row._replace(of_weights=()) for row in alone))
    of_weights = tuple(sum(parts) for parts in zip(*(row.of_weights for row in alone), strict=True))
    assert_close(joined._replace(of_weights=of_weights), run(given))


@every_way
def test_the_other_direction_reads_reversed_rows(name: str, path: str) -> None:
    given = batch(states(name))
    found, wanted = graph(name, path, True)(given), graph(name, path, False)(given.mirrored())
    assert_close(found, wanted._replace(outputs=mirrored(wanted.outputs), of_inputs=mirrored(wanted.of_inputs)))


@every_way
@both_directions
def test_reading_in_two_pieces_is_reading_at_once(name: str, path: str, reverse: bool) -> None:
    """The gradient too goes from piece to piece, by the state."""
    given, run = batch(states(name)), graph(name, path, reverse)
    pieces = [given.part(0, 3), given.part(3, TIME)]
    one, other = pieces[::-1] if reverse else pieces
    first = run(one)
    second = run(other._replace(state=first.state))
    first = run(one._replace(on_state=second.of_state))
    both = [second, first] if reverse else [first, second]
    outputs, of_inputs = (np.concatenate([getattr(part, name) for part in both], 1) for name in ("outputs", "of_inputs"))
    of_weights = tuple(a + b for a, b in zip(first.of_weights, second.of_weights, strict=True))
    assert_close(Results(outputs, second.state, of_inputs, of_weights, first.of_state), run(given))


# Several layers


def deep(**options: Any) -> layers.Stack:
    """Of widths 3 → 5 → 5 → 4."""
    both = layers.Bidirectional(layers.LSTM(2), layers.GRU(3))
    return layers.Stack(both, layers.MinGRU(UNITS), layers.LSTM(4, peephole=True), **options)


@functools.cache
def kept(residual: bool, dropout: float) -> layers.Stack:
    return filled(deep(residual=residual, dropout=dropout, name="reader"))


def deep_state() -> tuple[Any, ...]:
    def part(units: int, seed: int) -> Array:
        return random(len(LENGTHS), units, seed=seed)

    return ((part(2, 20), part(2, 21)), (part(3, 22),)), (part(UNITS, 23),), (part(4, 24), part(4, 25))


def noise() -> Noise:
    return Noise(tf.constant(3, tf.uint32), tf.constant(range(len(LENGTHS)), tf.uint32))


class Same(keras.layers.Layer):
    """In the place of a cell: gives what it is given."""

    units = FEATURES

    def call(
        self, inputs: tf.Tensor, lengths: tf.Tensor, initial_state: Any = None, noise: Any = None
    ) -> tuple[tf.Tensor, tuple[()]]:
        self.given = inputs
        return inputs, ()


@pytest.mark.parametrize("with_state", [False, True], ids=["", "state"])
def test_both_directions_are_two_cells(with_state: bool) -> None:
    layer, inputs = filled(layers.Bidirectional(layers.LSTM(2), layers.GRU(3))), batch(1).inputs
    state = deep_state()[0] if with_state else None
    first, second = state or (None, None)
    ahead, ahead_state = layer.forward(inputs, LENGTHS, initial_state=first)
    back, back_state = layer.backward(inputs, LENGTHS, initial_state=second, reverse=True)
    assert layer.units == 5
    assert_close(layer(inputs, LENGTHS, initial_state=state), (tf.concat([ahead, back], -1), (ahead_state, back_state)))


@pytest.mark.parametrize(("residual", "dropout", "with_state"), [(False, 0.4, True), (True, 0.0, False), (True, 0.4, True)])
def test_a_stack_is_its_layers_one_by_one(residual: bool, dropout: float, with_state: bool) -> None:
    stack, inputs = kept(residual, dropout), batch(1).inputs
    state = deep_state() if with_state else None
    below, first = stack.layer_1(inputs, LENGTHS, initial_state=state and state[0])
    inside = noise().within("reader")
    below = layers.Dropout(dropout, name="dropout_2")(below, inside)
    above, second = stack.layer_2(below, LENGTHS, initial_state=state and state[1])
    below = layers.Dropout(dropout, name="dropout_3")(below + above if residual else above, inside)
    outputs, third = stack.layer_3(below, LENGTHS, initial_state=state and state[2])
    assert stack.units == 4
    assert_close(stack(inputs, LENGTHS, initial_state=state, noise=noise()), (outputs, (first, second, third)))


def test_a_stack_carries_its_state() -> None:
    stack, inputs = filled(layers.Stack(layers.LSTM(UNITS), layers.GRU(UNITS), residual=True)), batch(1).inputs
    first, state = stack(inputs[:, :2], np.minimum(LENGTHS, 2))
    second, state = stack(inputs[:, 2:], np.maximum(LENGTHS - 2, 0), initial_state=state)
    assert_close((tf.concat([first, second], 1), state), stack(inputs, LENGTHS))


def test_what_is_left_out_lies_between_two_layers() -> None:
    stack, inputs = layers.Stack(Same(), Same(), Same(), dropout=0.5), tf.ones([len(LENGTHS), TIME, FEATURES])
    outputs, _ = stack(inputs, LENGTHS, noise=noise())
    np.testing.assert_array_equal(stack.layer_1.given, inputs)
    np.testing.assert_array_equal(outputs, stack.layer_3.given)
    assert set(np.unique(stack.layer_2.given)) == {0, 2} and set(np.unique(outputs)) == {0, 4}
    np.testing.assert_array_equal(stack(inputs, LENGTHS)[0], inputs)
    np.testing.assert_array_equal(layers.Stack(Same(), dropout=0.5)(inputs, LENGTHS, noise=noise())[0], inputs)


@pytest.mark.parametrize("variational", [False, True])
def test_a_variational_mask_is_one_for_all_time_steps(variational: bool) -> None:
    stack = layers.Stack(Same(), Same(), dropout=0.5, variational=variational)
    outputs, _ = stack(tf.ones([len(LENGTHS), TIME, FEATURES]), LENGTHS, noise=noise())
    assert np.ptp(outputs) == 2
    assert (np.ptp(outputs, axis=1).max() == 0) == variational


def test_two_stacks_leave_out_other_values() -> None:
    ones = tf.ones([len(LENGTHS), TIME, FEATURES])
    one, other = (layers.Stack(Same(), Same(), dropout=0.5, name=name)(ones, LENGTHS, noise=noise())[0] for name in "ab")
    assert 0.3 < np.mean(one != other) < 0.7


def test_a_residual_connection_lets_no_padding_through() -> None:
    stack = layers.Stack(layers.GRU(FEATURES), residual=True)
    outputs, _ = stack(np.full([1, TIME, FEATURES], np.nan), np.array([0], np.int32))
    np.testing.assert_array_equal(outputs, 0)


@pytest.mark.parametrize("make", [layers.SimpleRNN, layers.LSTM, layers.GRU])
@pytest.mark.parametrize("path", ["plain", "packed"])
def test_recurrent_weights_left_out_are_those_of_a_step_and_a_place(make: Any, path: str) -> None:
    """One mask for all rows, time steps and paths; the layer then computes what one with these weights scaled up does."""
    inputs, here = tf.ones([len(LENGTHS), TIME, FEATURES]), noise()
    with layers.recurrent_path(path):
        layer = make(16, recurrent_dropout=0.25, name="cell")
        whole, _ = layer(inputs, LENGTHS)
        dropped, _ = layer(inputs, LENGTHS, noise=here)
        kernel = layer.recurrent_kernel.numpy()
        left = layer.weights_in_order(here)[1].numpy()
        share = (left == 0).mean()
        assert 0.1 < share < 0.4
        np.testing.assert_allclose(left[left != 0], (kernel / 0.75)[left != 0], rtol=1e-6)
        assert np.abs((whole - dropped).numpy()).max() > 1e-4
        layer.recurrent_kernel.assign(left)
        np.testing.assert_allclose(layer(inputs, LENGTHS)[0], dropped, atol=1e-6)


def test_a_stack_needs_a_layer() -> None:
    with pytest.raises(ValueError, match="a stack needs at least one layer"):
        layers.Stack()


def test_variables_of_a_stack_have_names_of_their_own() -> None:
    own = {
        "layer_1/forward": ["kernel", "recurrent_kernel", "bias"],
        "layer_1/backward": ["kernel", "recurrent_kernel", "bias"],
        "layer_2": ["kernel", "bias"],
        "layer_3": ["kernel", "recurrent_kernel", "bias", "peephole_kernel"],
    }
    for stack in (kept(True, 0.0), kept(True, 0.4)):
        assert list(variables_by_name(stack)) == [f"reader/{layer}/{weights}" for layer in own for weights in own[layer]]


# Saved weights


@pytest.mark.parametrize("make", [*(functools.partial(cell.make, UNITS) for cell in CELLS.values()), deep], ids=[*CELLS, "Stack"])
def test_weights_are_saved_and_come_back(make: Callable[[], Any], tmp_path: Path) -> None:
    layer, other = filled(make()), make()
    outputs, state = layer(batch(1).inputs, LENGTHS)
    saved, restored = (tf.train.Checkpoint(variables=[v.value for v in one.variables]) for one in (layer, filled(other)))
    for bring_back in (
        lambda: other.set_weights(layer.get_weights()),
        lambda: restored.read(saved.write(str(tmp_path / "weights"))).assert_consumed(),
    ):
        other.set_weights([0 * weights for weights in other.get_weights()])
        assert not np.array_equal(other(batch(1).inputs, LENGTHS)[0], outputs)
        bring_back()
        tf.nest.map_structure(np.testing.assert_array_equal, other(batch(1).inputs, LENGTHS), (outputs, state))


# Peephole


def test_a_new_peephole_is_shut() -> None:
    layer, given = layers.LSTM(UNITS, peephole=True), batch(2)
    layer.build((None, None, FEATURES))
    np.testing.assert_array_equal(layer.peephole_kernel, np.zeros([3, UNITS]))
    layer.set_weights([*made("LSTM").get_weights(), np.zeros([3, UNITS])])
    assert_close(results(layer, "auto", tensors(given, "float64"))[:2], expected("LSTM", False)[:2])


@pytest.mark.parametrize("gate", range(3))
def test_each_peephole_is_seen(gate: int) -> None:
    layer, given = made("LSTM-peephole"), batch(2)
    layer.peephole_kernel.assign(np.eye(3)[:, [gate]] * np.ones(UNITS))
    outputs, _ = layer(given.inputs, LENGTHS, initial_state=given.state)
    assert np.abs(outputs - expected("LSTM", False).outputs)[inside(LENGTHS)].min(-1).max() > 1e-3


# The choice of the path


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Which path a cell takes where TensorFlow sees these GPUs; the packed computation stands for that of cuDNN."""
    calls = []

    def watch(path: str, module: Any, name: str, packed: Callable[..., Any]) -> None:
        def watched(*arguments: Any, reverse: bool, **options: Any) -> Any:
            calls.append(path)
            return packed(*arguments, reverse=reverse, **({"gradient": True} if path == "cudnn" else options))

        monkeypatch.setattr(module, name, watched)

    for name in ("lstm", "gru", "min_gru"):
        packed = getattr(recurrent_packed, name)
        watch("packed", recurrent_packed, name, packed)
        if hasattr(recurrent_cudnn, name):
            watch("cudnn", recurrent_cudnn, name, packed)

    def take(name: str, gpus: list[str], forced: str | None = None) -> str:
        monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: gpus)
        calls.clear()
        layer, given = made(name), batch(states(name))
        with layers.recurrent_path(forced) if forced else contextlib.nullcontext():
            layer(given.inputs, LENGTHS)
        return calls[0] if calls else "plain"

    return take


ON_CPU = dict.fromkeys(CELLS, "plain") | dict.fromkeys(PACKED, "packed")
ON_GPU = dict.fromkeys(CELLS, "plain") | {"LSTM": "cudnn", "GRU": "cudnn"}


@pytest.mark.parametrize("name", CELLS)
def test_each_cell_takes_the_path_of_the_machine_or_the_forced_one(name: str, taken: Callable[..., str]) -> None:
    assert taken(name, []) == taken(name, [], "auto") == ON_CPU[name]
    assert taken(name, ["GPU:0"]) == taken(name, ["GPU:0"], "auto") == taken(name, ["GPU:0"], "cudnn") == ON_GPU[name]
    for gpus in ([], ["GPU:0"]):
        assert taken(name, gpus, "plain") == "plain"
        assert taken(name, gpus, "packed") == ON_CPU[name]


@pytest.mark.parametrize("name", [name for name in CELLS if name not in PACKED])
def test_a_cell_without_a_packed_path_takes_the_plain_one(name: str) -> None:
    given = batch(states(name))
    tf.nest.map_structure(np.testing.assert_array_equal, eager(name, "packed", given), eager(name, "plain", given))


def test_a_path_is_taken_inside_only(taken: Callable[..., str]) -> None:
    with layers.recurrent_path("plain"):
        assert taken("GRU", []) == "plain"
        with pytest.raises(ZeroDivisionError), layers.recurrent_path("packed"):
            assert taken("GRU", []) == "packed"
            raise ZeroDivisionError
        assert taken("GRU", []) == "plain"
    assert taken("GRU", []) == "packed"


@pytest.mark.parametrize("path", ["plain", "packed"])
def test_a_graph_keeps_the_path_it_was_traced_with(path: str) -> None:
    layer = made("GRU")
    run = tf.function(lambda inputs, lengths: layer(inputs, lengths), autograph=False)
    with layers.recurrent_path(path):
        traced = run.get_concrete_function(tf.constant(batch(1).inputs), tf.constant(LENGTHS))
    types = {node.type for node in traced.graph.get_operations()}
    assert ("TensorListConcatV2" in types) == (path == "packed")


def test_an_unknown_path_is_refused() -> None:
    message = "recurrent path 'fast': expected one of auto, plain, packed, cudnn"
    with pytest.raises(ValueError, match=message), layers.recurrent_path("fast"):
        pass


def test_cudnn_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [])
    with pytest.raises(UserError, match='recurrent path "cudnn": TensorFlow sees no GPU'), layers.recurrent_path("cudnn"):
        pass


# cuDNN, without a GPU


def cudnn(
    *, input: Any, input_h: Any, input_c: Any, params: Any, sequence_lengths: Any, rnn_mode: str, **options: Any
) -> tuple[Any, ...]:
    """What cuDNN's manual says of one layer in one direction, time-major."""
    assert options == {"is_training": True, "time_major": True}
    x, h, c, flat, lengths = (np.asarray(array) for array in (input, input_h, input_c, params, sequence_lengths))
    (time, rows, features), (_, _, units) = x.shape, h.shape
    assert h.shape[:2] == (1, rows) and (c.shape == h.shape if rnn_mode == "lstm" else c.shape == ())
    assert (lengths >= 1).all() and (lengths <= time).all()
    gates = {"lstm": 4, "gru": 3}[rnn_mode]
    sizes = [units * features] * gates + [units * units] * gates + [units] * 2 * gates
    assert sum(sizes) == flat.size
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    w, u = ([part.reshape(units, -1) for part in parts[gates * n : gates * (n + 1)]] for n in range(2))
    b, b_h = parts[2 * gates : 3 * gates], parts[3 * gates :]
    outputs, h, c = np.zeros([time, rows, units]), h[0].copy(), c[0].copy() if rnn_mode == "lstm" else c
    for row, length in enumerate(lengths):
        for t in range(length):
            of_x, of_h = (
                [m @ v + bias for m, bias in zip(*pair, strict=True)] for v, pair in ((x[t, row], (w, b)), (h[row], (u, b_h)))
            )
            if rnn_mode == "lstm":
                i, f, g, o = (a + b for a, b in zip(of_x, of_h, strict=True))
                c[row] = sigmoid(f) * c[row] + sigmoid(i) * np.tanh(g)
                h[row] = sigmoid(o) * np.tanh(c[row])
            else:
                r, z = (sigmoid(a + b) for a, b in zip(of_x[:2], of_h[:2], strict=True))
                h[row] = (1 - z) * np.tanh(of_x[2] + r * of_h[2]) + z * h[row]
            outputs[t, row] = h[row]
    return tf.constant(outputs), tf.constant(h[None]), tf.constant(c[None]), None, None


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
@both_directions
def test_cudnn_is_asked_for_the_same(name: str, reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, given = made(name), tensors(batch(states(name)), "float64")
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", cudnn)
    run = {"LSTM": recurrent_cudnn.lstm, "GRU": recurrent_cudnn.gru}[name]
    found = run(given.inputs, given.lengths, *layer.weights_in_order(), given.state, reverse=reverse)
    assert_close(found, expected(name, reverse)[:2])


def test_weights_of_cudnn_lie_one_after_the_other() -> None:
    kernel, recurrent, bias = random(2, 8, seed=1), random(2, 8, seed=2), random(2, 8, seed=3)

    def column_by_column(matrix: Array, gate: int) -> list[float]:
        return [matrix[row, 2 * gate + unit] for unit in range(2) for row in range(len(matrix))]

    wanted = [value for matrix in (kernel, recurrent) for gate in range(4) for value in column_by_column(matrix, gate)]
    found = recurrent_cudnn.packed_weights(*map(tf.constant, (kernel, recurrent, bias)), (0, 1, 2, 3))
    np.testing.assert_array_equal(found, [*wanted, *bias[0], *bias[1]])
    z, r, n = slice(0, 2), slice(2, 4), slice(4, 6)
    parts = [kernel[:, r].T, kernel[:, z].T, kernel[:, n].T, recurrent[:, r].T, recurrent[:, z].T, recurrent[:, n].T]
    parts += [bias[half, gate] for half in range(2) for gate in (r, z, n)]
    found = recurrent_cudnn.packed_weights(*(tf.constant(weights[:, :6]) for weights in (kernel, recurrent, bias)), (1, 0, 2))
    np.testing.assert_array_equal(found, np.concatenate([part.ravel() for part in parts]))


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
@both_directions
def test_a_graph_holds_cudnn_and_its_gradient(name: str, reverse: bool) -> None:
    layer, given = made(name), tensors(batch(states(name)), "float64")
    cell = {"LSTM": recurrent_cudnn.lstm, "GRU": recurrent_cudnn.gru}[name]

    def run(inputs: tf.Tensor, lengths: tf.Tensor, state: tuple[tf.Tensor, ...]) -> Any:
        with tf.GradientTape() as tape:
            outputs, after = cell(inputs, lengths, *layer.weights_in_order(), state, reverse=reverse)
            loss = weighed(outputs, after, given)
        return outputs, after, tape.gradient(loss, [variable.value for variable in layer.variables])

    shapes = tf.TensorSpec([None, None, FEATURES], tf.float64), tf.TensorSpec([None], tf.int32)
    graph = tf.function(run, autograph=False).get_concrete_function(
        *shapes, (tf.TensorSpec([None, UNITS], tf.float64),) * states(name)
    )
    outputs, after, gradients = graph.structured_outputs
    assert outputs.shape.as_list() == [None, None, UNITS]
    assert [part.shape.as_list() for part in after] == [[None, UNITS]] * states(name)
    assert [part.shape for part in gradients] == [variable.shape for variable in layer.variables]
    types = [node.type for node in graph.graph.get_operations()]
    assert types.count("CudnnRNNV3") == types.count("CudnnRNNBackpropV3") == 1


# Precision, compilation


@every_way
def test_half_precision(name: str, path: str) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer, inputs = CELLS[name].make(UNITS), tf.constant(batch(1).inputs, tf.float32)
    with layers.recurrent_path(path), tf.GradientTape() as tape:
        outputs, state = layer(inputs, LENGTHS)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
    assert {part.dtype for part in (outputs, *state)} == {tf.bfloat16}
    for variable, gradient in zip(layer.variables, tape.gradient(loss, [v.value for v in layer.variables]), strict=True):
        assert variable.dtype == "float32" and gradient.dtype == tf.float32
        assert np.isfinite(gradient).all() and np.any(gradient)


def test_the_plain_path_compiles() -> None:
    layer, given = made("LSTM"), tensors(batch(2), "float64")
    compiled = tf.function(lambda given: results(layer, "plain", given, reverse=True), autograph=False, jit_compile=True)
    assert_close(compiled(given), expected("LSTM", True), 1e-8)


# Without padding


def _stack() -> layers.Stack:
    return layers.Stack(layers.Bidirectional(layers.LSTM(3), layers.LSTM(2)), layers.GRU(5), residual=True)


@pytest.mark.parametrize("lengths", [[3, 0, 5, 1], [2, 2], [0, 0], [7]], ids=str)
@pytest.mark.parametrize("path", ["packed", "plain"])
@pytest.mark.parametrize(
    "make",
    [lambda: layers.LSTM(4), lambda: layers.GRU(4), lambda: layers.MinGRU(4), lambda: layers.SimpleRNN(4), _stack],
    ids=["lstm", "gru", "min_gru", "simple", "stack"],
)
def test_rows_one_after_another_are_read_as_padded_ones(make: Callable[[], Any], path: str, lengths: list[int]) -> None:
    random = np.random.default_rng(0)
    padded = random.normal(size=(len(lengths), 8, 5)).astype(np.float32)
    inside = np.arange(8) < np.array(lengths)[:, None]
    layer = make()
    with layers.recurrent_path(path):
        expected, state = layer(tf.constant(padded), tf.constant(lengths))
        outputs, found = layer(tf.constant(padded[inside]), tf.constant(lengths))
    np.testing.assert_allclose(outputs, expected.numpy()[inside], atol=1e-6)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(state), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_gradient_without_padding_is_that_with_it() -> None:
    random = np.random.default_rng(0)
    lengths, padded = [3, 0, 5, 1], random.normal(size=(4, 8, 5)).astype(np.float32)
    inside = np.arange(8) < np.array(lengths)[:, None]
    weights = random.normal(size=(4, 8, 4)).astype(np.float32)
    layer, found = layers.LSTM(4), []
    for inputs, factors in ((padded, weights * inside[..., None]), (padded[inside], weights[inside])):
        with layers.recurrent_path("packed"), tf.GradientTape() as tape:
            value = tf.constant(inputs)
            tape.watch(value)
            outputs, _ = layer(value, tf.constant(lengths))
            total = tf.reduce_sum(outputs * factors)
        found.append(tape.gradient(total, [value, *layer.trainable_variables]))
    (inputs, *others), (flat, *flat_others) = found
    np.testing.assert_allclose(flat, inputs.numpy()[inside], atol=1e-6)
    for one, other in zip(others, flat_others, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
