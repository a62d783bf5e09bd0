"""Conditional random fields in float64 against all tag sequences, one by one; and with the constraints of spans."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import layers
from nlp_tasks.data import spans
from nlp_tasks.layers.crf import Chain

Array = np.ndarray
LENGTHS = np.array([4, 0, 5, 1, 2, 3], np.int32)
TIME = int(LENGTHS.max())
EPSILON = 1e-5

any_number_of_tags = pytest.mark.parametrize("tags", [1, 3, 4])


def random(*shape: int, seed: int) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


class Batch(NamedTuple):
    """Padded rows, and the weight of each in a loss."""

    logits: Any
    tags: Any
    lengths: Any
    weights: Any

    def rows(self, rows: Any) -> Batch:
        return Batch(*(part[rows] for part in self))

    def padded(self, more: int, filler: float) -> Batch:
        """More padding; all of it, also where it stood before, is the filler, and no tag at all."""
        logits, tags = np.pad(self.logits, [(0, 0), (0, more), (0, 0)]), np.pad(self.tags, [(0, 0), (0, more)])
        outside = ~inside(self.lengths, logits.shape[1])
        logits[outside], tags[outside] = filler, -7
        return self._replace(logits=logits, tags=tags)


def inside(lengths: Array, time: int = TIME) -> Array:
    return np.arange(time) < lengths[:, None]


def batch(tags: int, lengths: Array = LENGTHS) -> Batch:
    shape = len(lengths), max(1, *lengths)
    gold = np.random.default_rng([tags, *shape]).integers(0, tags, shape, np.int32)
    return Batch(2 * random(*shape, tags, seed=1), gold, lengths, random(len(lengths), seed=2))


def made_chain(tags: int) -> Chain:
    return Chain(*(random(*shape, seed=seed) for seed, shape in enumerate([(tags,), (tags, tags), (tags,)], 3)))


# By the definition


def sequences(tags: int, length: int) -> Array:
    """`<int32>[tags ** length, length]`: all of them."""
    return np.array(list(itertools.product(range(tags), repeat=length)), np.int32).reshape(tags**length, length)


def counts(chosen: Array, tags: int) -> tuple[Array, Chain]:
    """How often sequences `[n, length]` have each tag at each token `[n, TIME, tags]`, and each transition."""
    one = np.eye(tags)[chosen]
    tokens = np.pad(one, [(0, 0), (0, TIME - chosen.shape[1]), (0, 0)])
    if not chosen.shape[1]:
        return tokens, Chain(np.zeros([1, tags]), np.zeros([1, tags, tags]), np.zeros([1, tags]))
    return tokens, Chain(one[:, 0], np.einsum("nti,ntj->nij", one[:, :-1], one[:, 1:]), one[:, -1])


def totals(chain: Chain, logits: Array, chosen: Array) -> Array:
    """s(y) of sequences `[n, length]` of one row."""
    tokens, transitions = counts(chosen, logits.shape[-1])
    values = (np.sum(part * scores, tuple(range(1, part.ndim))) for part, scores in zip(transitions, chain, strict=True))
    return sum(values, (tokens[:, : len(logits)] * logits[:TIME]).sum((1, 2)))


def every(chain: Chain, logits: Array, length: int) -> tuple[Array, Array, float]:
    """Of a row: all sequences, the probability of each, and log Σ exp of their scores."""
    chosen = sequences(logits.shape[-1], length)
    scores = totals(chain, logits, chosen)
    largest = scores.max()
    partition = largest + np.log(np.exp(scores - largest).sum())
    return chosen, np.exp(scores - partition), partition


def weighted_loss(chain: Chain, given: Batch) -> float:
    """-Σ weight · log p(y)."""
    loss = 0.0
    for logits, tags, length, weight in zip(*given, strict=True):
        loss -= weight * (totals(chain, logits, tags[None, :length])[0] - every(chain, logits, length)[2])
    return loss


# What the layer says


def loss_gradients(chain: Chain, given: Batch) -> tuple[Array, Chain]:
    """Of the same loss, for the logits and the transitions."""
    chain, logits = Chain(*map(tf.constant, chain)), tf.constant(given.logits)
    with tf.GradientTape() as tape:
        tape.watch([logits, *chain])
        loss = -tf.reduce_sum(given.weights * layers.log_likelihood(chain, logits, tf.constant(given.tags), given.lengths))
    of_logits, *of_chain = tape.gradient(loss, [logits, *chain])
    return of_logits.numpy(), Chain(*(gradient.numpy() for gradient in of_chain))


def answers(chain: Chain, given: Batch) -> dict[str, Array]:
    """All that is asked of a batch; zero beyond the lengths where nothing is promised."""
    chain, logits, tags = Chain(*map(tf.constant, chain)), tf.constant(given.logits), tf.constant(given.tags)
    real = inside(given.lengths, given.logits.shape[1])
    return {
        "score": layers.sequence_score(chain, logits, tags, given.lengths).numpy(),
        "partition": layers.log_partition(chain, logits, given.lengths).numpy(),
        "likelihood": layers.log_likelihood(chain, logits, tags, given.lengths).numpy(),
        "marginals": np.where(real[..., None], layers.marginals(chain, logits, given.lengths), 0),
        "best": layers.viterbi(chain, logits, given.lengths).numpy(),
    }


def assert_same(given: dict[str, Array], expected: dict[str, Array]) -> None:
    for name, value in expected.items():
        np.testing.assert_allclose(given[name], value, rtol=1e-9, atol=1e-11, err_msg=name)


@any_number_of_tags
def test_scores_are_those_of_every_sequence(tags: int) -> None:
    chain, given = made_chain(tags), batch(tags)
    for logits, length in zip(given.logits, LENGTHS, strict=True):
        chosen, probabilities, _ = every(chain, logits, length)
        filled = np.pad(chosen, [(0, 0), (0, TIME - length)], constant_values=-1)
        arguments = np.broadcast_to(logits, [len(chosen), *logits.shape]), filled, np.full(len(chosen), length, np.int32)
        tensors = Chain(*map(tf.constant, chain)), *map(tf.constant, arguments)
        np.testing.assert_allclose(layers.sequence_score(*tensors), totals(chain, logits, chosen), rtol=1e-12, atol=1e-12)
        likelihoods = layers.log_likelihood(*tensors).numpy()
        np.testing.assert_allclose(np.exp(likelihoods), probabilities, rtol=1e-9)
        assert np.exp(likelihoods).sum() == pytest.approx(1, rel=1e-12)


@any_number_of_tags
def test_the_partition_is_the_sum_over_all_sequences(tags: int) -> None:
    chain, given = made_chain(tags), batch(tags)
    expected = [every(chain, logits, length)[2] for logits, length in zip(given.logits, LENGTHS, strict=True)]
    np.testing.assert_allclose(answers(chain, given)["partition"], expected, rtol=1e-12, atol=1e-12)


@any_number_of_tags
def test_marginals_are_sums_of_probabilities(tags: int) -> None:
    chain, given = made_chain(tags), batch(tags)
    for found, logits, length in zip(answers(chain, given)["marginals"], given.logits, LENGTHS, strict=True):
        chosen, probabilities, _ = every(chain, logits, length)
        np.testing.assert_allclose(found, np.tensordot(probabilities, counts(chosen, tags)[0], 1), rtol=1e-9, atol=1e-12)


@any_number_of_tags
def test_viterbi_finds_the_best_sequence(tags: int) -> None:
    chain, given = made_chain(tags), batch(tags)
    best = layers.viterbi(Chain(*map(tf.constant, chain)), tf.constant(given.logits), LENGTHS)
    assert best.dtype == tf.int32
    for found, logits, length in zip(best.numpy(), given.logits, LENGTHS, strict=True):
        chosen, probabilities, _ = every(chain, logits, length)
        assert found.tolist() == [*chosen[probabilities.argmax()], *[0] * (TIME - length)]


def test_of_equally_good_sequences_viterbi_gives_one() -> None:
    chain, given = Chain(*map(np.round, made_chain(3))), batch(3)
    given = given._replace(logits=np.round(given.logits / 2))
    ties = 0
    for found, logits, length in zip(answers(chain, given)["best"], given.logits, LENGTHS, strict=True):
        scores = totals(chain, logits, sequences(3, length))
        assert totals(chain, logits, found[None, :length]) == scores.max()
        ties += (scores == scores.max()).sum() > 1
    assert ties


# Gradients


def test_gradients_are_finite_differences() -> None:
    chain, given = made_chain(3), batch(3, np.array([4, 0, 1, 2], np.int32))
    of_logits, of_chain = loss_gradients(chain, given)
    for found, values in zip((of_logits, *of_chain), (given.logits, *chain), strict=True):
        for place in np.ndindex(values.shape):
            before, losses = values[place], []
            for step in (EPSILON, -EPSILON):
                values[place] = before + step
                losses.append(weighted_loss(chain, given))
            values[place] = before
            assert found[place] == pytest.approx((losses[0] - losses[1]) / (2 * EPSILON), rel=1e-6, abs=1e-8)


@any_number_of_tags
def test_gradients_are_expected_counts_minus_counts(tags: int) -> None:
    chain, given = made_chain(tags), batch(tags)
    of_logits, of_chain = loss_gradients(chain, given)
    expected = [np.zeros_like(scores) for scores in chain]
    for row, (logits, gold, length, weight) in enumerate(zip(*given, strict=True)):
        chosen, probabilities, _ = every(chain, logits, length)
        tokens, transitions = counts(chosen, tags)
        gold_tokens, gold_transitions = counts(gold[None, :length], tags)
        unary = weight * (np.tensordot(probabilities, tokens, 1) - gold_tokens[0])
        np.testing.assert_allclose(of_logits[row], unary, rtol=1e-9, atol=1e-12)
        for total, part, right in zip(expected, transitions, gold_transitions, strict=True):
            total += weight * (np.tensordot(probabilities, part, 1) - right[0])
    for found, value in zip(of_chain, expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-12)


# Padding, neighbours, shapes


@pytest.mark.parametrize("filler", [0.0, 1e3, -1e30])
def test_padding_changes_nothing(filler: float) -> None:
    chain, given = made_chain(3), batch(3)
    more = given.padded(2, filler)
    found, expected = answers(chain, more), answers(chain, given)
    for name in ("marginals", "best"):
        assert not found[name][:, TIME:].any()
        found[name] = found[name][:, :TIME]
    assert_same(found, expected)
    (of_logits, of_chain), (logits_before, chain_before) = loss_gradients(chain, more), loss_gradients(chain, given)
    assert not of_logits[~inside(LENGTHS, TIME + 2)].any()
    for one, other in zip((of_logits[:, :TIME], *of_chain), (logits_before, *chain_before), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_no_number_in_the_padding_reaches_what_the_forward_pass_gives() -> None:
    chain, given = made_chain(3), batch(3)
    found, expected = answers(chain, given.padded(2, np.nan)), answers(chain, given)
    np.testing.assert_allclose(found["partition"], expected["partition"], rtol=1e-12)
    np.testing.assert_allclose(found["marginals"][:, :TIME], expected["marginals"], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found["best"][:, :TIME], expected["best"])


def test_neighbours_change_nothing() -> None:
    chain, given = made_chain(3), batch(3)
    alone = [answers(chain, given.rows(slice(row, row + 1))) for row in range(len(LENGTHS))]
    assert_same({name: np.concatenate([one[name] for one in alone]) for name in alone[0]}, answers(chain, given))


def test_an_empty_row_says_nothing() -> None:
    chain, given = made_chain(3), batch(3, np.array([0, 0], np.int32))
    found = answers(chain, given)
    assert not any(value.any() for value in found.values())
    of_logits, of_chain = loss_gradients(chain, given)
    assert not any(gradient.any() for gradient in (of_logits, *of_chain))


def test_no_rows_give_no_answers() -> None:
    found = answers(made_chain(3), batch(3).rows(slice(0)))
    assert {name: value.shape for name, value in found.items()} == {
        "score": (0,), "partition": (0,), "likelihood": (0,), "marginals": (0, TIME, 3), "best": (0, TIME),
    }  # fmt: skip


def test_one_token_is_a_softmax() -> None:
    chain, given = made_chain(3), batch(3, np.array([1, 0, 1], np.int32))
    scores = given.logits[:, 0] + chain.first + chain.last
    found = answers(chain, given)
    np.testing.assert_allclose(found["marginals"][[0, 2], 0], tf.nn.softmax(scores)[::2], rtol=1e-12)
    assert found["best"].tolist() == [[scores[0].argmax()], [0], [scores[2].argmax()]]


def in_graph(compiled: bool) -> Callable[..., tuple[tf.Tensor, ...]]:
    """All answers and gradients, for rows of any number and length."""

    def everything(logits: tf.Tensor, tags: tf.Tensor, lengths: tf.Tensor, *chain: tf.Tensor) -> tuple[tf.Tensor, ...]:
        chain = Chain(*chain)
        likelihood = layers.log_likelihood(chain, logits, tags, lengths)
        gradients = tf.gradients(tf.reduce_sum(likelihood), [logits, *chain])
        return likelihood, layers.marginals(chain, logits, lengths), layers.viterbi(chain, logits, lengths), *gradients

    shapes = (([None, None, 3], tf.float64), ([None, None], tf.int32), ([None], tf.int32), ([3], tf.float64), ([3, 3], tf.float64),
              ([3], tf.float64))  # fmt: skip
    signature = [tf.TensorSpec(*shape) for shape in shapes]
    return tf.function(everything, input_signature=signature, autograph=False, jit_compile=compiled)


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "compiled"])
def test_graphs_of_unknown_shapes_say_the_same(compiled: bool) -> None:
    chain, given = made_chain(3), batch(3)
    function = in_graph(compiled)
    one_token = batch(3, np.array([1, 0], np.int32))
    for some in [given] if compiled else [given, one_token, given.rows(slice(0))]:  # compiling takes seconds, for each shape
        some = some._replace(weights=-np.ones(len(some.lengths)))
        likelihood, marginals, best, of_logits, *of_chain = function(*some[:3], *chain)
        expected = answers(chain, some)
        real = inside(some.lengths, some.logits.shape[1])[..., None]
        assert_same({"likelihood": likelihood, "marginals": np.where(real, marginals, 0), "best": best},
                    {name: expected[name] for name in ("likelihood", "marginals", "best")})  # fmt: skip
        logits_expected, chain_expected = loss_gradients(chain, some)
        for one, other in zip((of_logits, *of_chain), (logits_expected, *chain_expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


# The layer: constraints


SPAN_TAGS = {"bio": ["I-Y", "O", "B-X", "I-X", "B-Y"], "bioes": ["E-X", "B-X", "O", "S-X", "I-X"]}
both_schemes = pytest.mark.parametrize("scheme", SPAN_TAGS)


def constrained(scheme: str, *, trained: bool = True) -> tuple[layers.CRF, Chain]:
    """A layer with random weights, also where they are forbidden, and what it gives."""
    layer = layers.CRF(5, *map(np.array, spans.allowed(SPAN_TAGS[scheme], scheme)), trained=trained, dtype="float64")
    layer(batch(5).logits)
    for number, variable in enumerate(layer.trainable_variables):
        variable.assign(random(*variable.shape, seed=20 + number))
    return layer, layer(batch(5).logits)


def well_formed(scheme: str, length: int) -> Array:
    """`<bool>[5 ** length]`: which of all sequences are."""
    tags = SPAN_TAGS[scheme]
    return np.array([not spans.read_tags([tags[tag] for tag in row], scheme)[1] for row in sequences(5, length)])


@both_schemes
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "constraints alone"])
def test_what_is_forbidden_never_comes_and_has_no_probability(scheme: str, trained: bool) -> None:
    chain, given = constrained(scheme, trained=trained)[1], batch(5)
    found, free = answers(chain, given), Chain(*(np.where(scores > -5e3, scores, 0) for scores in map(np.array, chain)))
    for row, length in enumerate(LENGTHS):
        chosen, good = sequences(5, length), well_formed(scheme, length)
        scores = totals(free, given.logits[row], chosen)
        partition = np.log(np.exp(scores[good]).sum())
        assert found["partition"][row] == pytest.approx(partition, rel=1e-12, abs=1e-12)
        assert found["best"][row, :length].tolist() == chosen[good][scores[good].argmax()].tolist()
        probabilities = np.where(good, np.exp(scores - partition), 0)
        tokens = np.tensordot(probabilities, counts(chosen, 5)[0], 1)
        np.testing.assert_allclose(found["marginals"][row], tokens, rtol=1e-9, atol=1e-12)
        arguments = np.broadcast_to(given.logits[row, :length], [len(chosen), length, 5]), chosen, np.full(len(chosen), length)
        if length:
            np.testing.assert_allclose(
                np.exp(layers.log_likelihood(chain, *map(tf.constant, arguments))), probabilities, rtol=1e-9
            )


@both_schemes
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_strong_logits_do_not_break_the_rules(scheme: str, dtype: str) -> None:
    tags = SPAN_TAGS[scheme]
    chain = layers.CRF(5, *spans.allowed(tags, scheme), dtype=dtype)(np.zeros([1, 1, 5], dtype))
    logits, lengths = (200 * random(40, 9, 5, seed=1)).astype(dtype), np.arange(40, dtype=np.int32) % 10
    for row, length in zip(layers.viterbi(chain, tf.constant(logits), lengths).numpy(), lengths, strict=True):
        assert spans.read_tags([tags[tag] for tag in row[:length]], scheme)[1] == []
    marginals = layers.marginals(chain, tf.constant(logits), lengths).numpy()[inside(lengths, 9)]
    np.testing.assert_allclose(marginals.sum(-1), 1, rtol=1e-5)


@both_schemes
def test_gradients_stay_finite_and_leave_the_forbidden_alone(scheme: str) -> None:
    layer, tags = constrained(scheme)[0], SPAN_TAGS[scheme]
    given = batch(5)
    gold = [sequences(5, length)[well_formed(scheme, length)][-1] for length in LENGTHS]
    gold = np.stack([np.pad(row, (0, TIME - len(row))) for row in gold]).astype(np.int32)
    logits = tf.constant(given.logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(layers.log_likelihood(layer(logits), logits, tf.constant(gold), LENGTHS))
    of_logits, *of_weights = tape.gradient(loss, [logits, *(weight.value for weight in layer.trainable_variables)])
    assert np.isfinite(loss) and np.isfinite(of_logits).all()
    for gradient, allowed in zip(of_weights, spans.allowed(tags, scheme), strict=True):
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient.numpy()[~np.array(allowed)], 0)
        assert (np.abs(gradient.numpy()[np.array(allowed)]) > 1e-9).all()


def test_without_training_there_are_no_variables() -> None:
    layer, chain = constrained("bio", trained=False)
    assert layer.variables == []
    for scores, allowed in zip(chain, spans.allowed(SPAN_TAGS["bio"], "bio"), strict=True):
        np.testing.assert_array_equal(scores, np.where(allowed, 0, -1e4))


@pytest.mark.parametrize("trained", [True, False])
def test_a_new_layer_without_constraints_is_a_softmax(trained: bool) -> None:
    given = batch(3)
    layer = layers.CRF(3, trained=trained, dtype="float64")
    found = answers(layer(given.logits), given)
    assert len(layer.trainable_variables) == (3 if trained else 0)
    softmax, real = tf.nn.softmax(given.logits).numpy(), inside(LENGTHS)
    np.testing.assert_allclose(found["marginals"][real], softmax[real], rtol=1e-9)
    np.testing.assert_array_equal(found["best"], given.logits.argmax(-1) * real)
    chosen = np.log(np.take_along_axis(softmax, given.tags[..., None], -1)[..., 0])
    np.testing.assert_allclose(found["likelihood"], (chosen * real).sum(1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_scores_have_the_dtype_of_the_logits(dtype: str) -> None:
    layer = layers.CRF(3, dtype=dtype)
    expected = "bfloat16" if dtype == "mixed_bfloat16" else dtype
    assert {scores.dtype for scores in layer(tf.zeros([1, 1, 3], expected))} == {tf.as_dtype(expected)}
    assert {variable.dtype for variable in layer.variables} == {"float64" if dtype == "float64" else "float32"}
