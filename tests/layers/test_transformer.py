"""The causal transformer and attention against NumPy, token by token; and that reading in pieces is reading at once."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import layers
from nlp_tasks.layers.attention import Attention, rotary, rotation
from nlp_tasks.layers.dropout import Dropout, Noise
from nlp_tasks.layers.model import variables_by_name
from nlp_tasks.layers.transformer import CausalTransformer

Array = np.ndarray
UNITS, DEPTH, HEADS, CONTEXT = 8, 2, 2, 4
LENGTHS = np.array([5, 0, 11, 1, 3], np.int32)
ROWS, TIME = len(LENGTHS), 11
SIZE, KEPT, REACH = UNITS // HEADS, CONTEXT - 1, DEPTH * (CONTEXT - 1)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def random(*shape: int, seed: int) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def filled(layer: Any, *inputs: Any) -> Any:
    """The layer with random weights, biases and factors of norms too; the same in each of one kind."""
    layer(*inputs)
    layer.set_weights([random(*v.shape, seed=n) / np.sqrt(UNITS) for n, v in enumerate(layer.variables)])
    return layer


def made(context: int = CONTEXT, **options: Any) -> CausalTransformer:
    return filled(CausalTransformer(UNITS, DEPTH, HEADS, context=context, **options), INPUTS, LENGTHS)


def inside(lengths: Array, time: int) -> Array:
    return np.arange(time) < lengths[:, None]


INPUTS = random(ROWS, TIME, UNITS, seed=100)


@functools.cache
def graph(context: int = CONTEXT) -> tuple[CausalTransformer, tf.types.experimental.GenericFunction]:
    """A layer, traced once for any number of rows and columns. Treat it as read-only."""
    layer = made(context)
    part = tf.TensorSpec([None, HEADS, context - 1, SIZE], tf.float64)
    state = (((part, part),) * DEPTH, tf.TensorSpec([None], tf.int32))
    signature = [tf.TensorSpec([None, None, UNITS], tf.float64), tf.TensorSpec([None], tf.int32), state]
    return layer, tf.function(lambda *given: layer(*given), input_signature=signature, autograph=False)


def read(inputs: Array, lengths: Array, state: Any = None, context: int = CONTEXT) -> tuple[tf.Tensor, Any]:
    layer, function = graph(context)
    return function(inputs, lengths, layer.zero_state(len(inputs)) if state is None else state)


def in_pieces(inputs: Array, lengths: Array, size: int, context: int = CONTEXT) -> tuple[Array, Any]:
    outputs, state = [], None
    for begin in range(0, inputs.shape[1], size):
        piece = inputs[:, begin : begin + size]
        part, state = read(piece, np.clip(lengths - begin, 0, piece.shape[1]), state, context)
        outputs.append(part)
    return np.concatenate(outputs, 1), state


def assert_close(given: Any, wanted: Any, tolerance: float = 1e-10) -> None:
    tf.nest.assert_same_structure(given, wanted)
    for one, other in zip(tf.nest.flatten(given), tf.nest.flatten(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


# The equations, for one row and token by token, with weights as NumPy arrays


def normed(layer: Any, x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * np.float64(layer.gamma) + np.float64(layer.beta)


def turned(vector: Array, place: int) -> Array:
    """As complex numbers (Su 2021, eq. 34): feature i is the real part, i + size / 2 the imaginary one."""
    half = len(vector) // 2
    z = (vector[:half] + 1j * vector[half:]) * np.exp(1j * place * 10000.0 ** (-np.arange(half) / half))
    return np.concatenate([z.real, z.imag])


def attention(layer: Attention, x: Array, context: int) -> tuple[Array, Array, Array]:
    """Outputs, keys and values `[tokens, units]` of a row in which a token sees the last `context` ones."""
    queries, keys, values = np.split(x @ np.float64(layer.kernel) + np.float64(layer.bias), 3, -1)
    joined = np.zeros_like(x)
    for t in range(len(x)):
        seen = range(max(0, t - context + 1), t + 1)
        for head in range(HEADS):
            part = slice(head * SIZE, (head + 1) * SIZE)
            scores = np.array([turned(queries[t, part], t) @ turned(keys[s, part], s) for s in seen]) / np.sqrt(SIZE)
            weights = np.exp(scores) / np.exp(scores).sum()
            joined[t, part] = sum(weight * values[s, part] for weight, s in zip(weights, seen, strict=True))
    return joined @ np.float64(layer.output_kernel) + np.float64(layer.output_bias), keys, values


def by_equations(layer: CausalTransformer, x: Array) -> tuple[Array, list[tuple[Array, Array]]]:
    """Outputs of one row, and keys and values of each block."""
    known = []
    for number in range(1, layer.depth + 1):
        block = getattr(layer, f"block_{number}")
        attended, keys, values = attention(block.attention, normed(block.attention_norm, x), layer.context)
        x = x + attended
        feed_forward = block.feed_forward
        between = normed(block.feed_forward_norm, x) @ np.float64(feed_forward.kernel) + np.float64(feed_forward.bias)
        x = x + np.maximum(between, 0) @ np.float64(feed_forward.output_kernel) + np.float64(feed_forward.output_bias)
        known.append((keys, values))
    return normed(layer.norm, x), known


def last(known: Array, context: int) -> Array:
    """`[tokens, units]` → `[heads, context - 1, size]`, zeros first where there are fewer tokens."""
    kept = np.concatenate([np.zeros([context - 1, UNITS]), known])[len(known) :]
    return kept.reshape(context - 1, HEADS, SIZE).transpose(1, 0, 2)


@pytest.mark.parametrize("state", ["none", "zero"])
@pytest.mark.parametrize(("context", "hidden"), [(1, None), (2, 5), (CONTEXT, 256), (30, None)])
def test_outputs_and_state_are_those_of_the_equations(context: int, hidden: int | None, state: str) -> None:
    layer = made(context, hidden=hidden)
    outputs, (caches, count) = layer(INPUTS, LENGTHS, layer.zero_state(ROWS) if state == "zero" else None)
    assert layer.block_1.feed_forward.kernel.shape == (UNITS, hidden or 4 * UNITS)
    np.testing.assert_array_equal(count, np.minimum(LENGTHS, context - 1))
    np.testing.assert_array_equal(outputs.numpy()[~inside(LENGTHS, TIME)], 0)
    for row, length in enumerate(LENGTHS):
        expected, known = by_equations(layer, INPUTS[row, :length])
        assert_close(outputs[row, :length], expected)
        for pair, wanted in zip(caches, known, strict=True):
            for part, array in zip(pair, wanted, strict=True):
                assert_close(part[row], last(array, context))


# Pieces, windows, padding, neighbours


@pytest.mark.parametrize("size", [1, 2, KEPT, CONTEXT, 7, TIME + 1])
def test_pieces_with_the_state_carried_are_the_whole(size: int) -> None:
    assert_close(in_pieces(INPUTS, LENGTHS, size), graph()[0](INPUTS, LENGTHS))


@pytest.mark.parametrize("context", [1, 2, 30])
def test_pieces_in_other_windows(context: int) -> None:
    assert_close(in_pieces(INPUTS, LENGTHS, 3, context), graph(context)[0](INPUTS, LENGTHS))


@pytest.mark.parametrize("size", [2, TIME])
def test_a_token_changes_what_is_within_the_reach_after_it(size: int) -> None:
    changed = np.repeat(INPUTS[2:3], TIME + 1, 0)
    for token in range(TIME):
        changed[token, token, 0] += 1
    outputs, _ = in_pieces(changed, np.full(TIME + 1, TIME, np.int32), size)
    difference = np.abs(outputs[:TIME] - outputs[TIME]).max(-1)
    distance = np.arange(TIME) - np.arange(TIME)[:, None]
    seen = (distance >= 0) & (distance <= REACH)
    assert not seen.all(1).any()
    assert (difference[~seen] < 1e-12).all() and (difference[seen] > 1e-9).all()


def test_what_is_not_there_changes_nothing() -> None:
    """NaN in more padding, and in the places of a state that nothing was written to."""
    first, second = np.array([2, 0, 1, 5, 3], np.int32), LENGTHS
    layer = made()
    _, state = layer(INPUTS, first)
    unused = np.arange(KEPT) < KEPT - np.minimum(first, KEPT)[:, None]
    assert unused.any(1).sum() == 3
    spoilt = tf.nest.map_structure(lambda part: np.where(unused[:, None, :, None], np.nan, part), state[0]), state[1]
    padded = np.pad(INPUTS, [(0, 0), (0, 2), (0, 0)])
    padded[~inside(second, TIME + 2)] = np.nan
    results = []
    for inputs, before in ((INPUTS, state), (padded, spoilt)):
        inputs = tf.constant(inputs)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs, after = layer(inputs, second, before)
            loss = tf.add_n([tf.reduce_sum(tf.sin(part)) for part in (outputs, *tf.nest.flatten(after[0]))])
        gradients = tape.gradient(loss, [inputs, *(variable.value for variable in layer.variables)])
        np.testing.assert_array_equal(gradients[0].numpy()[~inside(second, inputs.shape[1])], 0)
        np.testing.assert_array_equal(outputs[:, TIME:], 0)
        results.append((outputs[:, :TIME], after, gradients[0][:, :TIME], gradients[1:]))
    assert_close(*results)


def test_neighbours_change_nothing() -> None:
    _, state = read(INPUTS[::-1], LENGTHS[::-1])
    outputs, after = read(INPUTS, LENGTHS, state)
    for row in range(ROWS):
        one = slice(row, row + 1)
        alone = read(INPUTS[one], LENGTHS[one], tf.nest.map_structure(lambda part: part[one], state))  # noqa: B023
        assert_close(alone, tf.nest.map_structure(lambda part: part[one], (outputs, after)))  # noqa: B023


def test_a_row_without_tokens_keeps_its_state() -> None:
    _, state = read(INPUTS, LENGTHS)
    for lengths in (np.zeros(ROWS, np.int32), np.array([0, 2, 0, 1, 0], np.int32)):
        outputs, after = read(INPUTS, lengths, state)
        np.testing.assert_array_equal(outputs.numpy()[lengths == 0], 0)
        for one, other in zip(tf.nest.flatten(after), tf.nest.flatten(state), strict=True):
            np.testing.assert_array_equal(one[lengths == 0], other[lengths == 0])
        np.testing.assert_array_equal(after[1], np.minimum(KEPT, LENGTHS + lengths))


def test_rows_go_on_each_at_its_own_end() -> None:
    """In calls of which each row has another share, against each row read at once."""
    shares = np.array([[1, 3, 1], [0, 0, 0], [6, 0, 5], [0, 0, 1], [0, 3, 0]], np.int32)
    np.testing.assert_array_equal(shares.sum(1), LENGTHS)
    state, begin, found = None, np.zeros(ROWS, np.int32), [[] for _ in LENGTHS]
    for share in shares.T:
        piece = np.full([ROWS, share.max(), UNITS], 9.0)
        for row in range(ROWS):
            piece[row, : share[row]] = INPUTS[row, begin[row] : begin[row] + share[row]]
        outputs, state = read(piece, share, state)
        for row in range(ROWS):
            found[row].extend(outputs.numpy()[row, : share[row]])
        begin += share
    outputs, after = made()(INPUTS, LENGTHS)
    assert_close(state, after)
    for row, length in enumerate(LENGTHS):
        assert_close(np.reshape(found[row], [length, UNITS]), outputs[row, :length])


# Dropout


def noise(seed: int, rows: Any) -> Noise:
    return Noise(tf.constant(seed, tf.uint32), tf.constant(rows, tf.uint32))


def test_dropout_is_drawn_by_address() -> None:
    layer, plain = made(dropout=0.5), made()
    numbers = np.array([7, 3, 0, 12, 5])
    drawn = layer(INPUTS, LENGTHS, noise=noise(1, numbers))
    assert_close(layer(INPUTS, LENGTHS), plain(INPUTS, LENGTHS), 0)
    assert_close(plain(INPUTS, LENGTHS, noise=noise(1, numbers)), plain(INPUTS, LENGTHS), 0)
    assert_close(layer(INPUTS, LENGTHS, noise=noise(1, numbers)), drawn, 0)
    for other in (layer(INPUTS, LENGTHS), layer(INPUTS, LENGTHS, noise=noise(2, numbers))):
        assert np.abs(other[0] - drawn[0])[inside(LENGTHS, TIME)].max(-1).min() > 1e-3
    padded = np.pad(INPUTS, [(0, 0), (0, 3), (0, 0)])
    assert_close(layer(padded, LENGTHS, noise=noise(1, numbers))[0][:, :TIME], drawn[0])
    for row in range(ROWS):
        outputs, _ = layer(INPUTS[row : row + 1], LENGTHS[row : row + 1], noise=noise(1, numbers[row : row + 1]))
        assert_close(outputs[0], drawn[0][row])


def test_each_dropout_has_an_address_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = []

    def record(layer: Dropout, inputs: tf.Tensor, noise: Noise) -> tf.Tensor:
        addresses.append((int(noise.seed), layer.name))
        return inputs

    layers_above = [made(dropout=0.5, name=name) for name in ("below", "above")]
    monkeypatch.setattr(Dropout, "call", record)
    for layer in layers_above:
        layer(INPUTS, LENGTHS, noise=noise(1, range(ROWS)))
    assert len(set(addresses)) == len(addresses) == 2 * 2 * DEPTH


# Gradients


def test_gradients_are_those_of_finite_differences() -> None:
    """Of each variable, the inputs and the state, in one random direction each."""
    layer = made()
    _, state = layer(INPUTS[::-1], LENGTHS[::-1])
    weights, variables = random(ROWS, TIME, UNITS, seed=200), [variable.value for variable in layer.variables]

    @tf.function(autograph=False)
    def run(values: list[tf.Tensor]) -> tuple[tf.Tensor, Any]:
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs, (caches, _) = layer(values[0], LENGTHS, (tf.nest.pack_sequence_as(state[0], values[1:]), state[1]))
            ends = tf.add_n([tf.reduce_sum(tf.sin(part)) for part in tf.nest.flatten(caches)])
            loss = tf.reduce_sum(outputs * weights) + ends
        return loss, tape.gradient(loss, [*variables, *values])

    values = [tf.constant(INPUTS), *tf.nest.flatten(state[0])]
    _, gradients = run(values)
    for number, gradient in enumerate(gradients):
        direction, losses = random(*gradient.shape, seed=300 + number), []
        for step in (1e-6 * direction, -1e-6 * direction):
            if number < len(variables):
                variables[number].assign_add(step)
                losses.append(run(values)[0])
                variables[number].assign_sub(step)
            else:
                losses.append(run([v + step if n == number - len(variables) else v for n, v in enumerate(values)])[0])
        slope = (losses[0] - losses[1]).numpy() / 2e-6
        assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-6, abs=1e-6)
        assert np.abs(gradient).max() > 1e-6


# Names, exports, precision, first values


def test_variables_go_from_model_to_model_by_name() -> None:
    def model() -> layers.Model:
        part = CausalTransformer(UNITS, DEPTH, HEADS, context=CONTEXT)
        made = layers.Model(lambda model, batch, noise: model.part(batch["inputs"], batch["lengths"], noise=noise), part=part)
        made(batch)
        return made

    batch = {"inputs": INPUTS, "lengths": LENGTHS}
    first, second = model(), model()
    saved = {name: variable.numpy() for name, variable in variables_by_name(first).items()}
    assert len(saved) == 12 * DEPTH + 2 and "model/part/block_2/attention/output_kernel" in saved
    assert saved.keys() == variables_by_name(second).keys()
    for name, variable in variables_by_name(second).items():
        variable.assign(saved[name])
    assert_close(second(batch), first(batch), 0)


def test_an_export_answers_alike(tmp_path: Path) -> None:
    layer, function = graph()
    module = tf.Module()
    module.model_variables = [variable.value for variable in layer.variables]
    module.read = function
    module.begin = tf.function(layer.zero_state, input_signature=[tf.TensorSpec([], tf.int32)], autograph=False)
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    first = loaded.read(INPUTS, LENGTHS, loaded.begin(ROWS))
    second = loaded.read(INPUTS[:, ::-1], LENGTHS, first[1])
    assert_close((first, second), (read(INPUTS, LENGTHS), read(INPUTS[:, ::-1], LENGTHS, first[1])))
    definition = function.get_concrete_function().graph.as_graph_def()
    ops = {node.op for node in definition.node} | {node.op for part in definition.library.function for node in part.node_def}
    assert "BatchMatMulV2" in ops and not any(op.startswith("Xla") or "PyFunc" in op or op == "Einsum" for op in ops)


def test_half_precision() -> None:
    exact, _ = read(INPUTS, LENGTHS)
    kept = graph()[0].zero_state(ROWS, "bfloat16")
    assert {part.dtype for part in tf.nest.flatten(kept[0])} == {tf.bfloat16} and kept[1].dtype == tf.int32
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer = made()
    with tf.GradientTape() as tape:
        outputs, state = layer(tf.constant(INPUTS, tf.float32), LENGTHS, layer.zero_state(ROWS))
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
    assert {part.dtype for part in (outputs, *tf.nest.flatten(state[0]))} == {tf.bfloat16}
    np.testing.assert_allclose(tf.cast(outputs, tf.float64), exact, atol=0.1)
    for variable, gradient in zip(layer.variables, tape.gradient(loss, [v.value for v in layer.variables]), strict=True):
        assert variable.dtype == "float32" and gradient.dtype == tf.float32
        assert np.isfinite(gradient).all() and np.any(gradient)


def test_first_values() -> None:
    layer = CausalTransformer(64, 3, 4, context=2, hidden=32)
    layer(np.zeros([1, 1, 64]), np.ones(1, np.int32))
    kernels = []
    for block in (layer.block_1, layer.block_2, layer.block_3):
        kernels += [(part, 1.0) for part in np.split(np.float64(block.attention.kernel), 3, 1)]
        kernels += [(np.float64(block.feed_forward.kernel), 1.0), (np.float64(block.attention.output_kernel), 6**-0.5)]
        kernels += [(np.float64(block.feed_forward.output_kernel), 6**-0.5)]
    for kernel, factor in kernels:
        limit = factor * np.sqrt(6 / sum(kernel.shape))  # glorot: uniform within it
        assert 0.98 * limit < np.abs(kernel).max() <= limit
        assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
    assert len({kernel.tobytes() for kernel, _ in kernels}) == len(kernels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 0, 2, 4), "depth 0: expected at least 1"),
        ((8, 2, 2, 0), "context 0: expected at least 1"),
        ((8, 2, 3, 4), "8 units with 3 heads: expected heads of an even number"),
        ((6, 2, 2, 4), "6 units with 2 heads: expected heads of an even number"),
    ],
)
def test_sizes_must_fit(arguments: tuple[int, ...], message: str) -> None:
    units, depth, heads, context = arguments
    with pytest.raises(ValueError, match=message):
        CausalTransformer(units, depth, heads, context=context)


def test_sizes_of_attention_must_fit() -> None:
    with pytest.raises(ValueError, match="8 units with 3 heads: expected a divisor"):
        Attention(8, 3)
    with pytest.raises(ValueError, match="3 features: expected an even number"):
        rotation(tf.range(2), 3, "float64")


# Rotary positions


def test_vectors_are_turned_by_their_places() -> None:
    vectors, places = random(3, 5, 6, seed=1), np.array([0, 4, 2, 1000000, 7], np.int32)
    found = rotary(tf.constant(vectors), rotation(places, 6, "float64")).numpy()
    for row in range(3):
        for place, vector, other in zip(places, vectors[row], found[row], strict=True):
            np.testing.assert_allclose(other, turned(vector, place), rtol=0, atol=1e-9)
            pairs = np.arange(6).reshape(2, 3).T.ravel()  # neighbours are turned together in eq. 34
            matrix = np.zeros([6, 6])
            for i in range(3):
                cosine, sine = np.cos(place * 10000 ** (-2 * i / 6)), np.sin(place * 10000 ** (-2 * i / 6))
                matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[cosine, -sine], [sine, cosine]]
            np.testing.assert_allclose(other[pairs], matrix @ vector[pairs], rtol=0, atol=1e-9)


def test_products_depend_on_the_distance_alone() -> None:
    query, key = (tf.constant(np.tile(random(8, seed=seed), [40, 1])) for seed in (1, 2))
    for begin in (0, 5000):
        turn = rotation(tf.range(begin, begin + 40), 8, "float64")
        products = tf.matmul(rotary(query, turn), rotary(key, turn), transpose_b=True).numpy()
        by_distance = [np.diag(products, distance) for distance in range(-39, 40)]
        assert max(np.ptp(values) for values in by_distance) < 1e-10
        expected = [query[0].numpy() @ turned(key[0].numpy(), distance) for distance in range(-39, 40)]
        np.testing.assert_allclose([values[0] for values in by_distance], expected, rtol=0, atol=1e-10)
    assert np.ptp(expected) > 0.1


# Attention to another sequence


def test_attention_to_another_sequence() -> None:
    inputs, memory = random(3, 4, 6, seed=1), random(3, 5, 10, seed=2)
    visible = np.repeat(inside(np.array([5, 0, 2]), 5)[:, None], 4, 1)
    visible[0, 1, 3] = visible[2, 3, 0] = False
    layer = filled(Attention(UNITS, HEADS, cross=True), inputs, visible, memory)
    outputs, known = layer(inputs, visible, memory)
    queries = inputs @ np.float64(layer.kernel) + np.float64(layer.bias)
    keys, values = np.split(memory @ np.float64(layer.memory_kernel) + np.float64(layer.memory_bias), 2, -1)
    for row, time in np.ndindex(3, 4):
        seen, joined = visible[row, time], np.zeros(UNITS)
        for head in range(HEADS) if seen.any() else ():
            part = slice(head * SIZE, (head + 1) * SIZE)
            weights = np.exp(keys[row, seen, part] @ queries[row, time, part] / np.sqrt(SIZE))
            joined[part] = weights / weights.sum() @ values[row, seen, part]
        assert_close(outputs[row, time], joined @ np.float64(layer.output_kernel) + np.float64(layer.output_bias))
    assert_close(known, tuple(part.reshape(3, 5, HEADS, SIZE).transpose(0, 2, 1, 3) for part in (keys, values)))
    assert_close(layer(inputs[:, 2:], visible[:, 2:], known)[0], outputs[:, 2:])  # projected once


def test_attention_in_both_directions() -> None:
    """All tokens see all, turned by their places: an encoder."""
    inputs, all_seen = random(2, 5, UNITS, seed=1), np.ones([1, 5, 5], bool)
    layer, turn = filled(Attention(UNITS, HEADS), inputs, all_seen), rotation(np.arange(5), SIZE, "float64")
    outputs, _ = layer(inputs, all_seen, turn=turn)
    mirrored, _ = layer(inputs[:, ::-1], all_seen, turn=(turn[0], -turn[1]))
    assert_close(outputs, mirrored[:, ::-1])
    for row in range(2):
        expected, _, _ = attention(layer, inputs[row], 5)  # the last token sees all in the causal one, too
        assert_close(outputs[row, -1], expected[-1])
