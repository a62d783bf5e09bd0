"""Decoders: their equations in NumPy, step by step what they are at once, and side by side what each is alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import layers
from nlp_tasks.layers import Noise
from nlp_tasks.layers.transformer import TransformerDecoder

Array = np.ndarray
ROWS, TIME, PLACES, FEATURES, UNITS, MEMORY = 3, 4, 5, 3, 4, 6
LENGTHS = np.array([5, 1, 3], np.int32)

KINDS = pytest.mark.parametrize(
    ("attention", "feeding"),
    [("none", False), ("additive", False), ("multiplicative", False), ("multiplicative", True)],
    ids=["none", "additive", "multiplicative", "feeding"],
)


def numbers(*shape: int, start: float = 0.3) -> Array:
    return np.sin(start + 1.7 * np.arange(np.prod(shape, dtype=int))).reshape(shape).astype(np.float32)


def values() -> Array:
    return numbers(ROWS, PLACES, MEMORY, start=2) * (np.arange(PLACES) < LENGTHS[:, None])[:, :, None]


def decoder(attention: str, feeding: bool, cell: Any = layers.LSTM, depth: int = 1, dropout: float = 0.0) -> Any:
    cells = (cell(UNITS) for _ in range(depth))
    made = layers.RecurrentDecoder(*cells, attention=attention, feeding=feeding, dropout=dropout, name="decoder")
    made.build((None, None, FEATURES), MEMORY)
    for number, variable in enumerate(made.trainable_variables):
        variable.assign(numbers(*variable.shape, start=number))
    return made


def called(made: Any, inputs: Array, noise: Noise | None = None) -> tf.Tensor:
    state = made.first_state(tf.constant(values()[:, 0]))
    memory = made.remember(tf.constant(values()), tf.constant(LENGTHS))
    return made(tf.constant(inputs), tf.fill([len(inputs)], inputs.shape[1]), state, memory, noise)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def in_numpy(made: Any, row: int, inputs: Array) -> Array:
    """One row of one LSTM, by the equations of the papers."""

    def of(*names: str) -> list[Array]:
        found = []
        for name in names:
            part: Any = made
            for step in name.split("."):
                part = getattr(part, step)
            found.append(np.float64(part))
        return found

    w, u, b = of("stack.layer_1.kernel", "stack.layer_1.recurrent_kernel", "stack.layer_1.bias")
    first = np.float64(values()[row, 0])
    h, c = (np.tanh(first @ k + o) for k, o in (of(f"bridge_1_{part}.kernel", f"bridge_1_{part}.bias") for part in (1, 2)))
    memory = np.float64(values()[row, : LENGTHS[row]])

    def context(query: Array) -> Array:
        (keys,) = of("keys.kernel")
        if made.attention == "additive":
            kernel, vector = of("score.kernel", "score.vector")
            scores = np.tanh(query @ kernel + memory @ keys) @ vector
        else:
            scores = (memory @ keys) @ query
        return np.exp(scores) / np.exp(scores).sum() @ memory

    outputs, fed = [], np.zeros(UNITS)
    for y in np.float64(inputs[row]):
        if made.attention == "additive":
            c_t = context(h)
            x = np.concatenate([y, c_t])
        else:
            x = np.concatenate([y, fed]) if made.feeding else y
        i, f, g, o = np.split(x @ w + h @ u + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        if made.attention == "none":
            outputs.append(h)
            continue
        kernel, bias = of("combination.kernel", "combination.bias")
        seen = [h, c_t, y] if made.attention == "additive" else [context(h), h]
        fed = np.tanh(np.concatenate(seen) @ kernel + bias)
        outputs.append(fed)
    return np.array(outputs)


@KINDS
def test_decoders_follow_their_equations(attention: str, feeding: bool) -> None:
    made, inputs = decoder(attention, feeding), numbers(ROWS, TIME, FEATURES)
    outputs = called(made, inputs)
    for row in range(ROWS):
        np.testing.assert_allclose(outputs[row], in_numpy(made, row, inputs), rtol=1e-4, atol=1e-5)


@KINDS
@pytest.mark.parametrize("cell", [layers.LSTM, layers.GRU], ids=["lstm", "gru"])
def test_step_by_step_is_at_once(attention: str, feeding: bool, cell: Any) -> None:
    """Of two hypotheses a row, each with words of its own."""
    made, inputs = decoder(attention, feeding, cell, depth=2), numbers(2 * ROWS, TIME, FEATURES)
    memory = made.remember(tf.constant(values()), tf.constant(LENGTHS))
    state = tf.nest.map_structure(lambda part: tf.repeat(part, 2, 0), made.first_state(tf.constant(values()[:, 0])))
    outputs = []
    for t in range(TIME):
        found, alignment, state = made.step(tf.constant(inputs[:, t]), state, memory)
        outputs.append(found)
        if attention != "none":
            np.testing.assert_allclose(tf.reduce_sum(alignment, 1), np.ones(2 * ROWS), rtol=1e-5)
            beyond = np.repeat(np.arange(PLACES) >= LENGTHS[:, None], 2, 0)
            np.testing.assert_array_equal(alignment.numpy()[beyond], 0)
    for lane in range(2):
        np.testing.assert_allclose(tf.stack(outputs, 1)[lane::2], called(made, inputs[lane::2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("attention", "feeding"), [("additive", False), ("multiplicative", False), ("multiplicative", True)])
def test_alignments_are_those_of_the_steps(attention: str, feeding: bool) -> None:
    made, inputs = decoder(attention, feeding), numbers(ROWS, TIME, FEATURES)
    memory = made.remember(tf.constant(values()), tf.constant(LENGTHS))
    state = made.first_state(tf.constant(values()[:, 0]))
    found = made.alignment(tf.constant(inputs), state, memory)
    for t in range(TIME):
        _, alignment, state = made.step(tf.constant(inputs[:, t]), state, memory)
        np.testing.assert_allclose(found[:, t], alignment, rtol=1e-5, atol=1e-6)


@KINDS
def test_dropout_is_between_cells_and_by_row(attention: str, feeding: bool) -> None:
    made, inputs = decoder(attention, feeding, depth=2, dropout=0.5), numbers(ROWS, TIME, FEATURES)
    noise = Noise(tf.constant(3, tf.uint32), tf.range(ROWS, dtype=tf.int32))
    noise = noise._replace(rows=tf.cast(noise.rows, tf.uint32))
    plain, dropped = called(made, inputs), called(made, inputs, noise)
    assert not np.allclose(plain, dropped)
    np.testing.assert_array_equal(dropped, called(made, inputs, noise))
    other = called(made, inputs, noise._replace(rows=noise.rows + 1))
    assert not np.allclose(other, dropped)


def test_what_a_decoder_cannot_be() -> None:
    with pytest.raises(ValueError, match="expected none, additive or multiplicative"):
        layers.RecurrentDecoder(layers.LSTM(UNITS), attention="dot")
    with pytest.raises(ValueError, match="expected multiplicative"):
        layers.RecurrentDecoder(layers.LSTM(UNITS), attention="additive", feeding=True)


@pytest.fixture
def bfloat16() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@KINDS
@pytest.mark.parametrize("cell", [layers.LSTM, layers.GRU], ids=["lstm", "gru"])
def test_steps_are_computed_in_the_precision_of_the_policy(bfloat16: None, attention: str, feeding: bool, cell: Any) -> None:
    made = decoder(attention, feeding, cell)
    memory = made.remember(tf.constant(values(), tf.bfloat16), tf.constant(LENGTHS))
    state = made.first_state(tf.constant(values()[:, 0], tf.bfloat16))
    outputs, alignment, following = made.step(tf.constant(numbers(ROWS, FEATURES), tf.bfloat16), state, memory)
    assert {part.dtype for part in tf.nest.flatten([outputs, alignment, following, memory])} == {tf.bfloat16}


def test_a_transformers_memory_is_computed_in_the_precision_of_the_policy(bfloat16: None) -> None:
    made, memory = transformer()
    pairs, _ = made.remember(tf.cast(memory, tf.bfloat16), tf.constant(LENGTHS))
    assert {part.dtype for part in tf.nest.flatten(pairs)} == {tf.bfloat16}
    found = made.alignment(
        tf.constant(numbers(ROWS, TIME, UNITS), tf.bfloat16), tf.cast(memory, tf.bfloat16), tf.constant(LENGTHS)
    )
    np.testing.assert_allclose(tf.reduce_sum(tf.cast(found, tf.float32), -1), np.ones((ROWS, TIME)), atol=0.02)


# The Transformer's


def transformer() -> tuple[TransformerDecoder, tf.Tensor]:
    made = layers.TransformerDecoder(UNITS, 2, 2, hidden=5)
    memory = tf.constant(numbers(ROWS, PLACES, UNITS, start=2) * (np.arange(PLACES) < LENGTHS[:, None])[:, :, None])
    made(tf.constant(numbers(ROWS, TIME, UNITS)), memory, tf.constant(LENGTHS))
    for number, variable in enumerate(made.trainable_variables):
        variable.assign(numbers(*variable.shape, start=number))
    return made, memory


def test_a_token_sees_none_after_it() -> None:
    made, memory = transformer()
    inputs = numbers(ROWS, TIME, UNITS)
    other = inputs.copy()
    other[:, 2:] += 1
    one, two = (made(tf.constant(given), memory, tf.constant(LENGTHS)) for given in (inputs, other))
    np.testing.assert_allclose(one[:, :2], two[:, :2], rtol=1e-5)
    assert not np.allclose(one[:, 2], two[:, 2])


def test_hypotheses_side_by_side_are_each_alone() -> None:
    """Three a row, which part from each other and change their places: their ancestors say what they see."""
    made, memory = transformer()
    lengths, lanes, rng = tf.constant(LENGTHS), 3, np.random.default_rng(0)
    remembered, caches = made.remember(memory, lengths), made.first_caches(tf.constant(ROWS))
    written = np.zeros((ROWS, lanes, 0, UNITS), np.float32)
    mine = np.zeros((ROWS, lanes, 0), bool)
    for place in range(TIME):
        parents = rng.integers(0, lanes, (ROWS, lanes))
        written, mine = (
            np.take_along_axis(part, parents.reshape(ROWS, lanes, *[1] * (part.ndim - 2)), 1) for part in (written, mine)
        )
        inputs = numbers(ROWS, lanes, UNITS, start=place)
        written = np.concatenate([written, inputs[:, :, None]], 2)
        mine = np.concatenate([mine, np.broadcast_to(np.eye(lanes, dtype=bool), (ROWS, lanes, lanes))], 2)
        hidden, caches = made.step(tf.constant(inputs), tf.constant(place), caches, tf.constant(mine), remembered)
        for lane in range(lanes):
            alone = made(tf.constant(written[:, lane]), memory, lengths)
            np.testing.assert_allclose(hidden[:, lane], alone[:, -1], rtol=1e-4, atol=1e-5)


def test_alignments_of_a_transformer_are_of_each_rows_own_places() -> None:
    made, memory = transformer()
    found = made.alignment(tf.constant(numbers(ROWS, TIME, UNITS)), memory, tf.constant(LENGTHS)).numpy()
    assert found.shape == (ROWS, TIME, PLACES)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found[np.broadcast_to((np.arange(PLACES) >= LENGTHS[:, None])[:, None], found.shape)], 0)


def test_an_encoder_sees_the_whole_row_and_nothing_else() -> None:
    encoder = layers.TransformerEncoder(UNITS, 2, 2, hidden=5)
    inputs = numbers(ROWS, PLACES, UNITS)
    outputs = encoder(tf.constant(inputs), tf.constant(LENGTHS)).numpy()
    np.testing.assert_array_equal(outputs[np.arange(PLACES) >= LENGTHS[:, None]], 0)
    last = inputs.copy()
    last[0, 4, 0] += 1
    assert not np.allclose(encoder(tf.constant(last), tf.constant(LENGTHS))[0, 0], outputs[0, 0])
