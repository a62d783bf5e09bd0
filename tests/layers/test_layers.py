"""One check that every layer passes, and each layer against NumPy with constant weights."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import layers
from nlp_tasks.layers.attention import rotation
from nlp_tasks.layers.crf import Chain
from nlp_tasks.layers.dropout import Noise, random_bytes
from nlp_tasks.layers.model import variables_by_name

Array = np.ndarray
IDS, FEATURES, UNITS, CLASSES = 12, 3, 4, 3
LENGTHS = np.array([5, 0, 3, 1], np.int32)
TIME = int(LENGTHS.max())
COUNTS = np.array([[0, 0, 0], *([i % 3, 2 * (i % 2), 1 + i % 4] for i in range(1, IDS))])
SPELLED = np.array([[0, 0, 0], *([i, 12 - i, 0] for i in range(1, IDS))], np.int32)
SPELLED[[6, 10], 1] = SPELLED[11, :2] = 0
"""Characters of each id: two, or one, or none."""


class Batch(NamedTuple):
    """What a layer is given: padded rows, their lengths, and the number of each row."""

    ids: Array
    vectors: Array
    lengths: Array
    rows: Array

    def row(self, row: int) -> Batch:
        return Batch(*(part[row : row + 1] for part in self))

    def padded(self, more: int) -> Batch:
        """More padding: ids are padded by 0, vectors by anything."""
        vectors = np.pad(self.vectors, [(0, 0), (0, more), (0, 0)], constant_values=9.0)
        return self._replace(ids=np.pad(self.ids, [(0, 0), (0, more)]), vectors=vectors)


class Case(NamedTuple):
    """A layer, and how it is called: the values of each token `[rows, time, …]`, and those of each row `[rows, …]`; and how large its
    weights are in these tests: gates upon gates of large ones are shut."""

    make: Callable[[], Any]
    tokens: Callable[[Any, Batch], tf.Tensor] | None = None
    rows: Callable[[Any, Batch], tf.Tensor] | None = None
    scale: float = 1.0

    def results(self, layer: Any, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Values of all tokens one below the other, and of all rows; padding is left out."""
        inside = tf.sequence_mask(batch.lengths, batch.ids.shape[1])
        tokens = tf.boolean_mask(self.tokens(layer, batch), inside) if self.tokens else tf.zeros([0])
        return tokens, self.rows(layer, batch) if self.rows else tf.zeros([0])


def pattern(*shape: int, start: float = 0.3) -> Array:
    """Numbers in (-1, 1) of no particular order, the same everywhere."""
    return np.sin(start + 1.7 * np.arange(np.prod(shape, dtype=int))).reshape(shape).astype(np.float32)


def batch() -> Batch:
    inside = np.arange(TIME) < LENGTHS[:, None]
    ids = (1 + np.arange(inside.size).reshape(inside.shape) * 5 % (IDS - 1)) * inside
    return Batch(ids.astype(np.int32), pattern(*inside.shape, FEATURES), LENGTHS, np.arange(len(LENGTHS), dtype=np.uint32))


def noise(batch: Batch) -> Noise:
    return Noise(tf.constant(99, tf.uint32), tf.constant(batch.rows))


def recurrent(make: Callable[[], Any], path: str = "auto", *, noisy: bool = False) -> Case:
    def read(layer: Any, batch: Batch) -> tuple[tf.Tensor, Any]:
        with layers.recurrent_path(path):
            return layer(batch.vectors, batch.lengths, **({"noise": noise(batch)} if noisy else {}))

    return Case(
        make,
        lambda layer, batch: read(layer, batch)[0],
        lambda layer, batch: tf.concat(tf.nest.flatten(read(layer, batch)[1]), -1),
    )


def pooling(function: Callable[..., tf.Tensor]) -> Case:
    return Case(lambda: function, rows=lambda layer, batch: layer(tf.constant(batch.vectors), batch.lengths))


def stack() -> layers.Stack:
    both = layers.Bidirectional(layers.LSTM(UNITS), layers.GRU(UNITS))
    return layers.Stack(both, layers.MinGRU(2 * UNITS), residual=True, dropout=0.3)


def spelled(*networks: Callable[[], Any], **options: Any) -> Case:
    def make() -> layers.CharacterEncoder:
        return layers.CharacterEncoder(IDS, FEATURES, *(network() for network in networks), **options)

    return Case(make, lambda layer, batch: layer(tf.constant(SPELLED[batch.ids])))


def both_ends() -> layers.Bidirectional:
    return layers.Bidirectional(layers.LSTM(UNITS), layers.LSTM(UNITS))


def convolutions() -> tuple[Callable[[], Any], ...]:
    return tuple(functools.partial(layers.Convolution, UNITS, width) for width in (2, 1))


def tag_sequences(function: Callable[..., tf.Tensor], kind: str, *, gold: bool = False) -> Case:
    """A function of a chain, logits and lengths; kind: whether it says something of tokens or of rows."""
    chain = Chain(*(tf.constant(pattern(*shape)) for shape in ((CLASSES,), (CLASSES, CLASSES), (CLASSES,))))

    def call(layer: Any, batch: Batch) -> tf.Tensor:
        return layer(chain, tf.constant(batch.vectors), *([tf.constant(batch.ids % CLASSES)] if gold else []), batch.lengths)

    return Case(lambda: function, **{kind: call})


def likelihood(layer: layers.CRF, batch: Batch) -> tf.Tensor:
    logits, tags = tf.convert_to_tensor(batch.vectors), tf.convert_to_tensor(batch.ids) % CLASSES
    return layers.log_likelihood(layer(logits), logits, tags, batch.lengths)


def windows() -> layers.Windows:
    return layers.Windows(layers.Bidirectional(layers.GRU(UNITS), layers.GRU(UNITS)), 2)


def n_grams(counts: Array | None) -> Case:
    labels = np.array([2, 0, 1, 0])
    return Case(
        lambda: layers.BagOfNgrams(IDS, CLASSES, counts),
        rows=lambda layer, batch: layer(batch.ids, labels[batch.rows] if counts is not None else None),
    )


def wide(batch: Batch) -> tf.Tensor:
    """Four features of the three: heads are of an even number."""
    return tf.concat([batch.vectors, batch.vectors[..., :1] ** 2], -1)


def transformer() -> Case:
    def read(layer: Any, batch: Batch) -> tuple[tf.Tensor, Any]:
        return layer(wide(batch), batch.lengths, noise=noise(batch))

    def state(layer: Any, batch: Batch) -> tf.Tensor:
        (*_, (keys, values)), filled = read(layer, batch)[1]
        parts = [tf.reshape(part, [len(batch.lengths), -1]) for part in (keys, values)]
        return tf.concat([*parts, tf.cast(filled, tf.float32)[:, None]], 1)

    return Case(
        lambda: layers.CausalTransformer(4, 2, 2, context=3, hidden=5, dropout=0.3, name="a"),
        lambda *given: read(*given)[0],
        state,
    )


def encoded(layer: Any, batch: Batch) -> tf.Tensor:
    return layer(wide(batch), batch.lengths, noise(batch))


def inside(batch: Batch, vectors: tf.Tensor) -> tf.Tensor:
    """With zeros in place of padding."""
    return tf.where(tf.sequence_mask(batch.lengths, batch.ids.shape[1])[:, :, None], vectors, 0.0)


def decoded(layer: Any, batch: Batch) -> tf.Tensor:
    return layer(wide(batch), inside(batch, 2 * wide(batch)), batch.lengths, noise(batch))


def written(attention: str, *, feeding: bool = False) -> Case:
    """What a decoder writes that looks at what it is given."""

    def read(layer: Any, batch: Batch) -> tf.Tensor:
        if not layer.built:
            layer.build(batch.vectors.shape, FEATURES)
        values = inside(batch, tf.constant(batch.vectors))
        state, memory = layer.first_state(values[:, 0]), layer.remember(values, batch.lengths)
        return layer(tf.constant(batch.vectors), batch.lengths, state, memory, noise(batch))

    def make() -> layers.RecurrentDecoder:
        return layers.RecurrentDecoder(
            layers.GRU(UNITS), layers.GRU(UNITS), attention=attention, feeding=feeding, dropout=0.3, name="a"
        )

    return Case(make, read, scale=0.3)


def attention(layer: Any, batch: Batch) -> tf.Tensor:
    visible, turn = tf.sequence_mask(batch.lengths, batch.ids.shape[1]), rotation(tf.range(batch.ids.shape[1]), 2, tf.float32)
    return layer(batch.vectors, visible[:, None] & visible[:, :, None], turn=turn)[0]


def turned(function: Callable[..., tf.Tensor], batch: Batch) -> tf.Tensor:
    vectors = wide(batch)
    return function(vectors, rotation(tf.range(vectors.shape[1]), 4, tf.float32))


def feed_forward(window: int, depth: int) -> Case:
    def read(layer: Any, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        state = np.ones([len(batch.lengths), window - 1, FEATURES], np.float32)
        return layer(batch.vectors, batch.lengths, state, noise(batch))

    def state(layer: Any, batch: Batch) -> tf.Tensor:
        return tf.reshape(read(layer, batch)[1], [len(batch.lengths), (window - 1) * FEATURES])

    return Case(
        lambda: layers.FeedForward(UNITS, window, depth=depth, dropout=0.3, name="a"), lambda *given: read(*given)[0], state
    )


def softmax(kind: type[layers.FullSoftmax], **options: Any) -> Case:
    """Log probabilities of all ids but the padding, whose -10⁹ would drown the others, and the loss of training."""

    def read(layer: Any, batch: Batch) -> tf.Tensor:
        hidden, targets = tf.reshape(batch.vectors, [-1, FEATURES]), tf.reshape(batch.ids, [-1])
        found = tf.concat([layer(hidden)[:, 1:], layer.losses(hidden, targets, noise(batch))[:, None]], 1)
        return tf.reshape(found, [*batch.ids.shape, IDS])

    return Case(lambda: kind(COUNTS.sum(1), name="a", **options), read)


def reading(make: Callable[[], Any], *, both: bool = False) -> Case:
    """The passage's first words, smaller, are the question; `both`: whether the layer is told the passage's lengths, too."""

    def read(layer: Any, batch: Batch) -> tf.Tensor:
        passage = inside(batch, tf.constant(batch.vectors))
        return layer(passage, passage[:, :3] * 0.7, *([batch.lengths] if both else []), np.minimum(batch.lengths, 3))

    return Case(make, read)


def remembered(layer: Any, batch: Batch) -> tf.Tensor:
    """The memory, and how much the first fact mattered in each episode."""
    question = tf.constant(1 + pattern(len(LENGTHS), FEATURES)[batch.rows])  # no unit of the memory is shut
    memory, gates = layer(inside(batch, tf.constant(batch.vectors)), batch.lengths, question, noise(batch))
    return tf.concat([memory, tf.nn.softmax(gates)[:, :, 0] * tf.cast(batch.lengths > 0, tf.float32)[:, None]], 1)


def pointing(layer: Any, batch: Batch) -> tf.Tensor:
    return layer(tf.constant(batch.vectors), tf.constant(pattern(len(LENGTHS), UNITS)[batch.rows]))[:, :, None]


def first_number(layer: Any, batch: Batch) -> tf.Tensor:
    return layer(tf.constant(batch.vectors[:, :, 0]), batch.lengths)[:, :, None]


def spans(layer: Any, batch: Batch) -> tf.Tensor:
    """The best span, of two numbers of each token."""
    starts, ends = (layers.pointed(tf.constant(batch.vectors[:, :, number]), batch.lengths) for number in (0, 1))
    found = layers.best_spans(starts, ends, 2, tf.constant(1))
    return tf.concat([tf.cast(found.starts, tf.float32), tf.cast(found.ends, tf.float32), tf.maximum(found.scores, -99.0)], 1)


CASES = {
    "Embedding": Case(lambda: layers.Embedding(IDS, FEATURES), lambda layer, batch: layer(batch.ids)),
    "CharacterEncoder": spelled(*convolutions()),
    "CharacterEncoder-lstm": spelled(both_ends),
    "Dropout": Case(lambda: layers.Dropout(0.5, name="a"), lambda layer, batch: layer(batch.vectors, noise(batch))),
    "Dropout-shared": Case(
        lambda: layers.Dropout(0.5, shared_time=True, name="a"), lambda layer, batch: layer(batch.vectors, noise(batch))
    ),
    "TokenDropout": Case(lambda: layers.TokenDropout(0.5, 1, name="a"), lambda layer, batch: layer(batch.ids, noise(batch))),
    "Convolution-1": Case(lambda: layers.Convolution(UNITS, 1), lambda layer, batch: layer(batch.vectors, batch.lengths)),
    "Convolution-4": Case(lambda: layers.Convolution(UNITS, 4), lambda layer, batch: layer(batch.vectors, batch.lengths)),
    "SimpleRNN": recurrent(lambda: layers.SimpleRNN(UNITS)),
    "LSTM": recurrent(lambda: layers.LSTM(UNITS)),
    "LSTM-plain": recurrent(lambda: layers.LSTM(UNITS), "plain"),
    "LSTM-peephole": recurrent(lambda: layers.LSTM(UNITS, peephole=True)),
    "GRU": recurrent(lambda: layers.GRU(UNITS)),
    "GRU-plain": recurrent(lambda: layers.GRU(UNITS), "plain"),
    "GRU-simplified": recurrent(lambda: layers.GRU(UNITS, reset_gate=False)),
    "MinGRU": recurrent(lambda: layers.MinGRU(UNITS)),
    "MinGRU-plain": recurrent(lambda: layers.MinGRU(UNITS), "plain"),
    "Stack": recurrent(stack, noisy=True),
    "Bidirectional": recurrent(lambda: layers.Bidirectional(layers.LSTM(UNITS), layers.LSTM(UNITS))),
    "Windows": Case(windows, lambda layer, batch: layer(batch.vectors, batch.lengths)[0]),
    "max_pooling": pooling(layers.max_pooling),
    "mean_pooling": pooling(layers.mean_pooling),
    "last_pooling": pooling(layers.last_pooling),
    "AttentionPooling": pooling(layers.AttentionPooling(UNITS)),
    "CRF": Case(lambda: layers.CRF(CLASSES), rows=likelihood),
    "sequence_score": tag_sequences(layers.sequence_score, "rows", gold=True),
    "log_partition": tag_sequences(layers.log_partition, "rows"),
    "log_likelihood": tag_sequences(layers.log_likelihood, "rows", gold=True),
    "marginals": tag_sequences(layers.marginals, "tokens"),
    "viterbi": tag_sequences(layers.viterbi, "tokens"),
    "EpisodicMemory": Case(lambda: layers.EpisodicMemory(FEATURES, 2, dropout=0.2, name="b"), rows=remembered, scale=0.2),
    "QuestionAlignment": reading(lambda: layers.QuestionAlignment(UNITS)),
    "ContextQueryAttention": reading(layers.ContextQueryAttention, both=True),
    "BilinearPointer": Case(layers.BilinearPointer, pointing),
    "pointed": Case(lambda: layers.pointed, first_number),
    "best_spans": Case(lambda: layers.best_spans, rows=spans),
    "BagOfNgrams": n_grams(COUNTS),
    "BagOfNgrams-linear": n_grams(None),
    "Attention": Case(lambda: layers.Attention(UNITS, 2), attention),
    "CausalTransformer": transformer(),
    "TransformerEncoder": Case(lambda: layers.TransformerEncoder(4, 2, 2, hidden=5, dropout=0.3, name="a"), encoded),
    "TransformerDecoder": Case(lambda: layers.TransformerDecoder(4, 2, 2, hidden=5, dropout=0.3, name="a"), decoded, scale=0.3),
    "RecurrentDecoder-none": written("none"),
    "RecurrentDecoder-additive": written("additive"),
    "RecurrentDecoder-multiplicative": written("multiplicative"),
    "RecurrentDecoder-feeding": written("multiplicative", feeding=True),
    "rotary": Case(lambda: layers.rotary, turned),
    "FeedForward": feed_forward(3, 2),
    "FeedForward-token": feed_forward(1, 1),
    "FullSoftmax": softmax(layers.FullSoftmax),
    "FullSoftmax-smoothed": softmax(layers.FullSoftmax, smoothing=0.3),
    "AdaptiveSoftmax": softmax(layers.AdaptiveSoftmax, cutoffs=(4, 7), factor=2),
    "SampledSoftmax": softmax(layers.SampledSoftmax, head=4, samples=5),
}
WITHOUT_WEIGHTS = {
    "Dropout", "Dropout-shared", "TokenDropout", "max_pooling", "mean_pooling", "last_pooling", "sequence_score", "log_partition",
    "log_likelihood", "marginals", "viterbi", "pointed", "best_spans", "rotary",
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=[name for name in CASES if name not in WITHOUT_WEIGHTS])
def trained(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def built(case: Case) -> Any:
    """The layer, with weights that leave no unit idle."""
    layer = case.make()
    case.results(layer, batch())
    for number, variable in enumerate(getattr(layer, "trainable_variables", ())):
        variable.assign(case.scale * (pattern(*variable.shape, start=number) + 0.8))
    return layer


def assert_close(given: tuple[tf.Tensor, ...], expected: tuple[tf.Tensor, ...]) -> None:
    for one, other in zip(given, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_every_layer_is_checked() -> None:
    assert {name.partition("-")[0] for name in CASES} == set(layers.__all__) - {
        "Model",
        "NegativeSampling",
        "Noise",
        "Stream",
        "recurrent_path",
    }


def test_more_padding_changes_nothing(case: Case) -> None:
    layer = built(case)
    assert_close(case.results(layer, batch().padded(3)), case.results(layer, batch()))


def test_neighbours_change_nothing(case: Case) -> None:
    layer = built(case)
    alone = [case.results(layer, batch().row(row)) for row in range(len(LENGTHS))]
    assert_close(tuple(tf.concat(parts, 0) for parts in zip(*alone, strict=True)), case.results(layer, batch()))


def loss(case: Case, layer: Any, given: Batch) -> tf.Tensor:
    """Weighs each number of the results differently."""
    flat = [tf.reshape(tf.cast(part, tf.float32), [-1]) for part in case.results(layer, given)]
    return tf.add_n([tf.tensordot(part, tf.constant(pattern(part.shape[0])), 1) for part in flat])


def gradients(case: Case, layer: Any, given: Batch) -> list[Array]:
    with tf.GradientTape() as tape:
        value = loss(case, layer, given)
    return [tf.convert_to_tensor(g).numpy() for g in tape.gradient(value, [v.value for v in layer.trainable_variables])]


def test_one_step_changes_every_parameter(trained: Case) -> None:
    layer = built(trained)
    assert layer.trainable_variables
    for variable, gradient in zip(layer.trainable_variables, gradients(trained, layer, batch()), strict=True):
        assert np.isfinite(gradient).all(), variable.path
        used = np.unique(batch().ids[batch().ids > 0]) if variable.shape[0] == IDS else slice(None)
        if isinstance(layer, layers.AdaptiveSoftmax) and variable.name in ("kernel", "bias"):
            used = slice(1, None)  # of the head alone; the padding in front of it has no probability to learn
        if (variable.name.endswith("bias") and "attention/" in variable.path) or variable.name == "memory_bias":
            used = slice(-UNITS, None)  # that of the keys adds as much to the score of each, which a softmax does not see
        assert (np.abs(gradient[used]) > 1e-7).all(), variable.path


def test_a_row_without_tokens_is_harmless(case: Case) -> None:
    layer, empty = built(case), batch().row(1)
    assert all(np.isfinite(part).all() for part in case.results(layer, empty))
    if not getattr(layer, "trainable_variables", ()):
        return
    for variable, gradient in zip(layer.trainable_variables, gradients(case, layer, empty), strict=True):
        if not isinstance(layer, layers.BagOfNgrams) or variable.name != "bias":  # the answer for a text that says nothing
            np.testing.assert_array_equal(gradient, np.zeros_like(gradient), err_msg=variable.path)


def test_variables_go_from_model_to_model_by_name(trained: Case) -> None:
    def model() -> layers.Model:
        made = layers.Model(lambda model, batch, noise: trained.results(model.part, Batch(**batch)), part=trained.make())
        made(batch()._asdict())
        return made

    first, second = model(), model()
    saved = {name: variable.numpy() for name, variable in variables_by_name(first).items()}
    for variable in second.variables:
        variable.assign(variable + 1.0)
    assert set(saved) == set(variables_by_name(second))
    for name, variable in variables_by_name(second).items():
        assert not np.array_equal(variable, saved[name])
        variable.assign(saved[name])
    for one, other in zip(first(batch()._asdict()), second(batch()._asdict()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_variables_of_one_name_are_refused() -> None:
    model = layers.Model(lambda model, batch, noise: model.b(model.a(batch)), a=keras.layers.Dense(2), b=keras.layers.Dense(2))
    model.b.name = "a"
    model(tf.zeros([1, 2]))
    with pytest.raises(ValueError, match="one path"):
        variables_by_name(model)


# Recurrent layers


def test_the_forget_gate_starts_open() -> None:
    layer = layers.LSTM(UNITS)
    layer(batch().vectors, LENGTHS)
    np.testing.assert_array_equal(layer.bias, np.repeat([0.0, 1.0, 0.0, 0.0], UNITS))


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_windows_are_read_one_by_one(size: int) -> None:
    inner = layers.LSTM(UNITS)
    outputs, _ = layers.Windows(inner, size)(batch().vectors, LENGTHS)
    for row, length in enumerate(LENGTHS):
        for start in range(0, length, size):
            window = batch().vectors[row : row + 1, start : min(start + size, length)]
            expected, _ = inner(window, np.int32([window.shape[1]]))
            np.testing.assert_allclose(outputs[row, start : start + window.shape[1]], expected[0], rtol=1e-5, atol=1e-6)


# Convolution, pooling, n-grams


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_convolution(width: int) -> None:
    case = Case(lambda: layers.Convolution(UNITS, width), lambda layer, batch: layer(batch.vectors, batch.lengths))
    layer = built(case)
    outputs = layer(batch().vectors, LENGTHS).numpy()
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            total = np.float64(layer.bias)
            for offset in range(width):
                place = t - (width - 1) // 2 + offset
                if 0 <= place < length:
                    total = total + batch().vectors[row, place] @ np.float64(layer.kernel)[offset]
            np.testing.assert_allclose(outputs[row, t], np.maximum(total, 0), rtol=1e-5, atol=1e-6)


def test_pooling() -> None:
    attention = layers.AttentionPooling(UNITS)
    vectors, lengths = tf.constant(batch().vectors - 2), tf.constant(LENGTHS)  # below zero, where padding by zeros would win
    attention(vectors, lengths)
    attention.set_weights([pattern(FEATURES, UNITS), pattern(UNITS), pattern(UNITS, 1)])
    pools = (layers.max_pooling, layers.mean_pooling, layers.last_pooling, attention)
    pooled = [pool(vectors, lengths).numpy() for pool in pools]
    for row, length in enumerate(LENGTHS):
        x = np.float64(vectors[row, :length])
        weights = np.exp(np.tanh(x @ pattern(FEATURES, UNITS) + pattern(UNITS)) @ pattern(UNITS, 1))
        expected = [x.max(0), x.mean(0), x[-1], (weights * x).sum(0) / weights.sum()] if length else [np.zeros(FEATURES)] * 4
        for given, value in zip(pooled, expected, strict=True):
            np.testing.assert_allclose(given[row], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("labels", [None, [2, 0, 1, 0]], ids=["new", "counted"])
def test_n_grams_follow_their_equations(labels: list[int] | None) -> None:
    layer = layers.BagOfNgrams(IDS, CLASSES, COUNTS, prior=0.4, scale=0.75)
    layer(batch().ids)
    weights, bias = pattern(IDS, CLASSES), pattern(CLASSES, start=2)
    layer.weights_table.assign(weights)
    layer.bias.assign(bias)
    logits = layer(batch().ids, None if labels is None else np.array(labels)).numpy()
    total = COUNTS[1:].sum(0)
    for row, length in enumerate(LENGTHS):
        for c in range(CLASSES):
            here, elsewhere = total[c] + IDS - 1, total.sum() - total[c] + IDS - 1
            expected = 0.0
            for f in batch().ids[row, :length]:
                counts = COUNTS[f].copy()
                if labels is not None:  # this text is left out of its own counts
                    counts[labels[row]] = max(0, counts[labels[row]] - 1)
                ratio = np.log((counts[c] + 1) / here) - np.log((counts.sum() - counts[c] + 1) / elsewhere)
                expected += ratio * (0.4 + weights[f, c])
            expected = bias[c] + 0.75 / np.sqrt(max(length, 1)) * expected
            assert logits[row, c] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_n_grams_without_counts_are_linear() -> None:
    layer = built(CASES["BagOfNgrams-linear"])
    weights, bias = (np.float64(variable) for variable in (layer.weights_table, layer.bias))
    expected = [bias + 0.75 / np.sqrt(max(n, 1)) * weights[row[:n]].sum(0) for row, n in zip(batch().ids, LENGTHS, strict=True)]
    np.testing.assert_allclose(layer(batch().ids), expected, rtol=1e-5)


def test_embeddings_are_rows_of_the_table_and_their_gradient_is_sparse() -> None:
    layer = layers.Embedding(IDS, FEATURES, initial=pattern(IDS, FEATURES))
    with tf.GradientTape() as tape:
        vectors = layer(batch().ids)
    np.testing.assert_array_equal(vectors, pattern(IDS, FEATURES)[batch().ids])
    assert isinstance(tape.gradient(vectors, layer.table.value), tf.IndexedSlices)


@pytest.mark.parametrize("tuned", [True, False])
def test_embeddings_that_are_not_tuned_have_nothing_to_train(tuned: bool) -> None:
    layer = layers.Embedding(IDS, FEATURES, initial=pattern(IDS, FEATURES), tuned=tuned)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(batch().ids))
    assert len(layer.variables) == 1  # saved all the same
    assert len(layer.trainable_variables) == len(tape.watched_variables()) == tuned
    assert np.isfinite(loss)


# Characters


every_network = pytest.mark.parametrize("networks", [convolutions(), (both_ends,)], ids=["convolution", "lstm"])


@every_network
def test_words_are_read_by_their_characters(networks: tuple[Callable[[], Any], ...]) -> None:
    layer = built(spelled(*networks))
    table = np.float32(layer.embedding.table)
    found = layer(SPELLED.reshape(2, IDS // 2, 3)).numpy()
    assert found.shape == (2, IDS // 2, 2 * UNITS)
    for word, vector in zip(SPELLED, found.reshape(IDS, -1), strict=True):
        vectors, length = table[None, word[word > 0]], np.int32([(word > 0).sum()])
        if not length:
            expected = np.zeros(2 * UNITS)
        elif len(networks) == 1:
            expected = np.concatenate([state[0][0] for state in layer.network_1(vectors, length)[1]])
        else:
            expected = np.concatenate(
                [network(vectors, length)[0].numpy().max(0) for network in (layer.network_1, layer.network_2)]
            )
        np.testing.assert_allclose(vector, expected, rtol=1e-5, atol=1e-6)


@every_network
def test_each_distinct_word_once_is_each_word_by_itself(networks: tuple[Callable[[], Any], ...]) -> None:
    cases = [spelled(*networks, distinct=distinct) for distinct in (True, False)]
    once, each = (built(case) for case in cases)
    assert_close(cases[0].results(once, batch()), cases[1].results(each, batch()))
    assert_close(gradients(cases[0], once, batch()), gradients(cases[1], each, batch()))


@every_network
def test_more_padding_of_characters_changes_nothing(networks: tuple[Callable[[], Any], ...]) -> None:
    layer = built(spelled(*networks))
    characters = SPELLED[batch().ids]
    expected = layer(characters)
    for more in (-1, 4):  # the last one of each word is padding already
        padded = np.pad(characters, [(0, 0), (0, 0), (0, 4)])[..., : 3 + more]
        np.testing.assert_allclose(layer(padded), expected, rtol=1e-5, atol=1e-6)


@every_network
def test_no_characters_give_zeros(networks: tuple[Callable[[], Any], ...]) -> None:
    layer = built(spelled(*networks))
    for shape in ((0, 3, 3), (2, 1, 3), (1, 2, 1)):
        np.testing.assert_array_equal(layer(np.zeros(shape, np.int32)), np.zeros([*shape[:2], 2 * UNITS]))


@pytest.mark.parametrize("distinct", [True, False])
def test_characters_are_read_in_a_graph_of_unknown_shapes(distinct: bool) -> None:
    layer = built(spelled(*convolutions(), distinct=distinct))
    signature = [tf.TensorSpec([None, None, 3], tf.int32)]
    read = tf.function(layer, input_signature=signature, autograph=False, jit_compile=not distinct)
    for given in (batch(), batch().row(1)):
        np.testing.assert_allclose(read(SPELLED[given.ids]), layer(SPELLED[given.ids]), rtol=1e-5, atol=1e-6)


# Randomness by address


def murmur(x: int) -> int:
    """Appleby's finaliser, in plain integers."""
    x = (x ^ x >> 16) * 0x85EBCA6B % 2**32
    x = (x ^ x >> 13) * 0xC2B2AE35 % 2**32
    return x ^ x >> 16


def plain_bytes(seed: int, row: int, place: str, size: int) -> list[int]:
    key = murmur((murmur(seed ^ zlib.crc32(place.encode())) + row * 0x9E3779B9) % 2**32)
    words = [murmur((key + word * 0x85EBCA77) % 2**32) for word in range(-(-size // 4))]
    return list(b"".join(word.to_bytes(4, "little") for word in words)[:size])


def drawn(seed: int, rows: Any, place: str, size: int) -> Array:
    return random_bytes(Noise(tf.constant(seed, tf.uint32), tf.constant(rows, tf.uint32)), place, size).numpy()


def test_bytes_are_those_of_the_definition() -> None:
    rows = [0, 1, 63, 2**32 - 1]
    for seed, size in ((0, 1), (7, 6), (2**32 - 1, 8)):
        np.testing.assert_array_equal(drawn(seed, rows, "dropout", size), [plain_bytes(seed, r, "dropout", size) for r in rows])


def test_bytes_never_change() -> None:
    """Other ones would end the exact resume of every run begun before."""
    assert drawn(7, [0, 1], "dropout", 6).tolist() == [[85, 214, 22, 74, 191, 197], [164, 192, 21, 90, 83, 188]]


def test_a_row_begins_alike_whatever_its_size() -> None:
    whole = drawn(7, range(5), "dropout", 37)
    for size in (0, 1, 4, 35):
        np.testing.assert_array_equal(drawn(7, range(5), "dropout", size), whole[:, :size])


def test_parts_of_the_rows_are_parts_of_the_whole() -> None:
    inputs, rows = tf.ones([5, 3, 7]), tf.range(5)
    for layer in (layers.Dropout(0.4, name="a"), layers.Dropout(0.4, shared_time=True, name="a")):
        whole, *shards = (
            layer(tf.gather(inputs, part), Noise(tf.constant(3, tf.uint32), tf.cast(part, tf.uint32)))
            for part in (rows, rows[:3], rows[3:])
        )
        np.testing.assert_array_equal(tf.concat(shards, 0), whole)


def test_each_address_draws_its_own() -> None:
    draws = [drawn(*address, 64).tobytes() for address in ((7, [0], "a"), (8, [0], "a"), (7, [1], "a"), (7, [0], "b"))]
    assert len(set(draws)) == len(draws)


def test_compiled_draws_are_the_same() -> None:
    given = Noise(tf.constant(5, tf.uint32), tf.constant([0, 1, 2], tf.uint32))
    compiled = tf.function(lambda seed, rows: random_bytes(Noise(seed, rows), "a", 13), jit_compile=True)
    np.testing.assert_array_equal(compiled(*given), random_bytes(given, "a", 13))


@pytest.mark.parametrize("axis", ["seeds", "rows", "positions"])
def test_bytes_are_uniform(axis: str) -> None:
    draws = {
        "seeds": lambda: np.concatenate([drawn(seed, [3], "a", 8) for seed in range(500)]),
        "rows": lambda: drawn(1, range(500), "a", 8),
        "positions": lambda: drawn(1, [3], "a", 4000).reshape(500, 8),
    }[axis]()
    for values, cells in ((draws.ravel(), 256), (draws.ravel() & 1, 2), (draws.ravel() >> 7, 2)):
        counts = np.bincount(values, minlength=cells)
        chi_square = ((counts - values.size / cells) ** 2 / (values.size / cells)).sum()
        assert abs(chi_square - (cells - 1)) < 5 * np.sqrt(2 * (cells - 1))
    agreement = np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]
    assert abs(agreement) < 5 / np.sqrt(draws[1:].size)


@pytest.mark.parametrize("rate", [0.004, 0.1, 0.5, 0.99])
def test_rates_are_right(rate: float) -> None:
    exact, size = min(255, round(rate * 256)) / 256, 40 * 50 * 30
    given = Noise(tf.constant(11, tf.uint32), tf.constant(range(40), tf.uint32))
    bound = 5 * np.sqrt(exact * (1 - exact) / size)
    values = layers.Dropout(rate, name="a")(tf.ones([40, 50, 30]), given).numpy()
    assert abs((values == 0).mean() - exact) < bound
    np.testing.assert_allclose(values[values > 0], 1 / (1 - exact), rtol=1e-6)
    ids = layers.TokenDropout(rate, 1, name="a")(tf.fill([40, 1500], 2), given).numpy()
    assert abs((ids == 1).mean() - exact) < bound
    assert set(np.unique(ids)) <= {1, 2}


def test_no_noise_no_dropout() -> None:
    inputs, ids = tf.ones([2, 3]), tf.ones([2, 3], tf.int32)
    given = Noise(tf.constant(1, tf.uint32), tf.constant([0, 1], tf.uint32))
    assert layers.Dropout(0.9)(inputs) is inputs and layers.TokenDropout(0.9, 2)(ids) is ids
    assert layers.Dropout(0.0)(inputs, given) is inputs and layers.TokenDropout(0.0, 2)(ids, given) is ids


def test_a_shared_mask_is_one_for_all_time_steps() -> None:
    given = Noise(tf.constant(1, tf.uint32), tf.constant(range(8), tf.uint32))
    shared, own = (layers.Dropout(0.5, shared_time=shared, name="a")(tf.ones([8, 6, 5]), given) for shared in (True, False))
    assert np.ptp(shared, axis=1).max() == 0 and np.ptp(shared) > 0
    assert np.ptp(own, axis=1).max() > 0


def test_padding_is_never_replaced() -> None:
    ids = tf.constant([[2, 0, 2, 0]] * 50)
    given = Noise(tf.constant(1, tf.uint32), tf.constant(range(50), tf.uint32))
    replaced = layers.TokenDropout(0.5, 7, name="a")(ids, given).numpy()
    np.testing.assert_array_equal(replaced[:, [1, 3]], 0)
    assert 7 in replaced


@pytest.mark.parametrize(("first", "last"), [(3, 5), (5, 5), (0, 2), (6, 5), (7, 2**31 - 1)])
def test_only_ids_within_the_bounds_are_replaced(first: int, last: int) -> None:
    ids = tf.constant([[0, 1, 2, 3, 4, 5, 6, 7]] * 50)
    given = Noise(tf.constant(1, tf.uint32), tf.constant(range(50), tf.uint32))
    anywhere = layers.TokenDropout(0.5, 9, name="a")(ids, given).numpy()
    replaced = layers.TokenDropout(0.5, 9, first=first, last=last, name="a")(ids, given).numpy()
    among = (ids.numpy() >= max(1, first)) & (ids.numpy() <= last)
    np.testing.assert_array_equal(replaced, np.where(among, anywhere, ids))
    assert (9 in replaced) == among.any()


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_must_be_a_share(rate: float) -> None:
    with pytest.raises(ValueError, match="expected 0 ≤ rate < 1"):
        layers.Dropout(rate)
    with pytest.raises(ValueError, match="expected 0 ≤ rate < 1"):
        layers.TokenDropout(rate, 1)
