"""Output layers against NumPy: exact probabilities, losses in training, gradients by finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks.layers import AdaptiveSoftmax, Embedding, FullSoftmax, SampledSoftmax, softmax
from nlp_tasks.layers.dropout import Noise, random_bits

Array = np.ndarray
SIZE, FEATURES, HEAD = 20, 8, 6
COUNTS = np.array([0, 0, *(1000 // n for n in range(1, SIZE - 1))])
"""Of the padding, of an unknown unit that training never has, and by Zipf's law."""
HIDDEN = np.random.default_rng(1).normal(size=(11, FEATURES))
ROWS = np.arange(len(HIDDEN), dtype=np.uint32)
TARGETS = np.array([1, 2, 5, 6, 9, 10, 19, 12, 7, 3, 15], np.int32)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def filled(layer: Any) -> Any:
    layer.set_weights([np.random.default_rng([2, n]).normal(size=v.shape) / 2 for n, v in enumerate(layer.variables)])
    return layer


def embedding() -> Embedding:
    table = Embedding(SIZE, FEATURES)
    table(tf.constant([1]))
    return filled(table)


def made(kind: type[FullSoftmax], *, tied: bool = False, **options: Any) -> Any:
    layer = kind(COUNTS, embedding() if tied else None, **options)
    layer(HIDDEN)
    return filled(layer)


def full(*, tied: bool = False) -> FullSoftmax:
    return made(FullSoftmax, tied=tied)


def sampled(*, tied: bool = False, head: int = HEAD, samples: int = 4) -> SampledSoftmax:
    return made(SampledSoftmax, tied=tied, head=head, samples=samples)


def adaptive(*, tied: bool = False, cutoffs: tuple[int, ...] = (6, 10), factor: int = 2) -> AdaptiveSoftmax:
    return made(AdaptiveSoftmax, tied=tied, cutoffs=cutoffs, factor=factor)


MADE = {"full": full, "sampled": sampled, "adaptive": adaptive}
every_kind = pytest.mark.parametrize("make", MADE.values(), ids=MADE)
either = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])


def noise(seed: int = 7) -> Noise:
    return Noise(tf.constant(seed, tf.uint32), ROWS)


def log_softmax(logits: Array) -> Array:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def scores_of(layer: Any) -> Array:
    return HIDDEN @ np.float64(layer.table).T + np.float64(layer.bias)


# Probabilities


@every_kind
@either
def test_probabilities_sum_to_one_and_padding_has_none(make: Callable[..., Any], tied: bool) -> None:
    layer = make(tied=tied)
    found = layer(HIDDEN).numpy()
    assert (found.shape, found.dtype) == ((len(HIDDEN), SIZE), np.float64)
    np.testing.assert_allclose(np.exp(found).sum(1), 1, rtol=1e-12)
    assert (np.exp(found[:, 0]) == 0).all() and (np.exp(found[:, 1:]) > 0).all()
    np.testing.assert_array_equal(layer.log_probabilities(HIDDEN), found)


@every_kind
@either
def test_losses_without_noise_are_those_of_the_probabilities(make: Callable[..., Any], tied: bool) -> None:
    layer = make(tied=tied)
    expected = -layer(HIDDEN).numpy()[np.arange(len(TARGETS)), TARGETS]
    np.testing.assert_allclose(layer.losses(HIDDEN, TARGETS), expected, rtol=1e-12)


@every_kind
@either
@pytest.mark.parametrize("piece", [1, 2 * SIZE, 3 * SIZE])
def test_pieces_change_nothing(make: Callable[..., Any], tied: bool, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make(tied=tied)
    whole = layer.losses(HIDDEN, TARGETS)
    monkeypatch.setattr(softmax, "PIECE", piece)
    largest: list[int] = []
    kept = layer._cross_entropy
    monkeypatch.setattr(layer, "_cross_entropy", lambda hidden, targets: largest.append(len(hidden)) or kept(hidden, targets))
    np.testing.assert_allclose(layer.losses(HIDDEN, TARGETS), whole, rtol=1e-12)
    assert len(largest) == -(-len(TARGETS) // max(1, piece // SIZE)) and max(largest) == max(1, piece // SIZE)


@either
@pytest.mark.parametrize("make", [full, sampled])
def test_the_full_softmax_follows_its_equation(make: Callable[..., Any], tied: bool) -> None:
    layer = make(tied=tied)
    assert layer.table.shape == (SIZE, FEATURES)
    np.testing.assert_allclose(layer(HIDDEN)[:, 1:], log_softmax(scores_of(layer)[:, 1:]), rtol=1e-10)


@either
@pytest.mark.parametrize("factor", [1, 2, 4, 100])
@pytest.mark.parametrize("cutoffs", [(6, 10), (2,), (6, 10, 19), (6, 20, 400), (20,), (1000,)])
def test_the_adaptive_softmax_follows_its_equation(tied: bool, factor: int, cutoffs: tuple[int, ...]) -> None:
    layer = adaptive(tied=tied, cutoffs=cutoffs, factor=factor)
    ends = [*(cutoff for cutoff in cutoffs if cutoff < SIZE), SIZE]
    assert layer.clusters == list(pairwise(ends))
    scores = HIDDEN @ np.float64(layer.table)[: ends[0]].T + np.float64(layer.bias)
    if layer.clusters:
        entries = HIDDEN @ np.float64(layer.cluster_kernel) + np.float64(layer.cluster_bias)
        scores = np.concatenate([scores, entries], 1)
    head = log_softmax(scores[:, 1:])
    expected = [head[:, : ends[0] - 1]]
    for number, (start, end) in enumerate(layer.clusters, 1):
        down, up = (np.float64(getattr(layer, f"{name}_{number}")) for name in ("down", "up"))
        assert down.shape[1] == max(1, FEATURES // factor**number) and len(up) == end - start
        expected.append(head[:, ends[0] + number - 2, None] + log_softmax(HIDDEN @ down @ up.T))
    expected = np.concatenate(expected, 1)
    np.testing.assert_allclose(layer(HIDDEN)[:, 1:], expected, rtol=1e-9)
    losses = layer.losses(HIDDEN, TARGETS, noise())
    np.testing.assert_allclose(losses, -expected[np.arange(len(TARGETS)), TARGETS - 1], rtol=1e-9)


@pytest.mark.parametrize("targets", [[1, 5, 2], [6, 7, 9], [10, 19, 12], [19, 1, 6], []], ids=str)
def test_a_batch_may_leave_clusters_empty(targets: list[int]) -> None:
    layer = adaptive()
    hidden, wanted = tf.constant(HIDDEN[: len(targets)]), tf.constant(targets, tf.int32)
    with tf.GradientTape() as tape:
        losses = layer.losses(hidden, wanted)
    np.testing.assert_allclose(losses, -tf.gather(layer(hidden), wanted, batch_dims=1), rtol=1e-12)
    for gradient in tape.gradient(losses, [variable.value for variable in layer.trainable_variables]):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


@pytest.mark.parametrize("cutoffs", [(), (1, 5), (10, 6), (6, 6)])
def test_cutoffs_must_ascend(cutoffs: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected ascending ids from 2"):
        AdaptiveSoftmax(COUNTS, cutoffs=cutoffs)


def test_the_first_probabilities_are_the_frequencies() -> None:
    """Of vectors that say nothing; inside of a cluster they are equal."""
    nothing, seen = np.zeros([1, FEATURES]), np.maximum(COUNTS[1:], 0.1)
    frequencies = seen / seen.sum()
    for make in (FullSoftmax, lambda counts: SampledSoftmax(counts, head=HEAD, samples=3)):
        np.testing.assert_allclose(np.exp(make(COUNTS)(nothing)[0, 1:]), frequencies, rtol=1e-10)
    layer = AdaptiveSoftmax(COUNTS, cutoffs=(6, 10))
    found = np.exp(layer(nothing)[0, 1:])
    np.testing.assert_allclose(found[:5], frequencies[:5], rtol=1e-10)
    np.testing.assert_allclose(found[5:9], frequencies[5:9].mean(), rtol=1e-10)
    np.testing.assert_allclose(found[9:], frequencies[9:].mean(), rtol=1e-10)


@every_kind
def test_a_tied_layer_has_no_table_of_its_own(make: Callable[..., Any]) -> None:
    layer = make(tied=True)
    assert not any(variable.name in ("kernel", "table") for variable in layer.variables)
    assert [variable.name for variable in make().variables].count("kernel") == 1


@every_kind
@either
def test_any_number_of_vectors_in_a_graph(make: Callable[..., Any], tied: bool) -> None:
    layer = make(tied=tied)
    signature = [tf.TensorSpec([None, FEATURES], tf.float64), tf.TensorSpec([None], tf.int32)]
    given = noise()

    def both(hidden: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return layer.log_probabilities(hidden), layer.losses(hidden, targets), layer.losses(hidden, targets, given)

    function = tf.function(both, input_signature=signature, autograph=False)
    for n in (len(TARGETS), 3, 0):
        for one, other in zip(function(HIDDEN[:n], TARGETS[:n]), both(HIDDEN[:n], TARGETS[:n]), strict=True):
            assert one.shape[0] == n
            np.testing.assert_allclose(one, other, rtol=1e-12)


# Gradients


@every_kind
@either
@pytest.mark.parametrize("noisy", [False, True], ids=["exact", "noisy"])
def test_gradients_are_those_of_finite_differences(make: Callable[..., Any], tied: bool, noisy: bool) -> None:
    layer, given = make(tied=tied), noise() if noisy else None
    weights = tf.constant(np.linspace(0.5, 1.5, len(TARGETS)))

    def loss(hidden: tf.Tensor) -> tf.Tensor:
        return tf.tensordot(layer.losses(hidden, TARGETS, given), weights, 1)

    variables = [*(variable.value for variable in layer.trainable_variables), *([layer.table] if tied else [])]
    hidden = tf.constant(HIDDEN)
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        value = loss(hidden)
    of_hidden, *gradients = tape.gradient(value, [hidden, *variables])
    step, random = 1e-5, np.random.default_rng(3)
    for variable, gradient in zip(variables, gradients, strict=True):
        start, direction = variable.numpy(), random.normal(size=variable.shape)
        ends = []
        for sign in (1, -1):
            variable.assign(start + sign * step * direction)
            ends.append(float(loss(hidden)))
        variable.assign(start)
        expected = (ends[0] - ends[1]) / (2 * step)
        assert (tf.convert_to_tensor(gradient).numpy() * direction).sum() == pytest.approx(expected, rel=1e-6, abs=1e-8)
    direction = random.normal(size=HIDDEN.shape)
    expected = (loss(HIDDEN + step * direction) - loss(HIDDEN - step * direction)) / (2 * step)
    assert (of_hidden.numpy() * direction).sum() == pytest.approx(float(expected), rel=1e-6)


@either
def test_smoothed_targets_follow_their_equation(tied: bool) -> None:
    """In training a target is 1 - ε of the token and ε of all alike but padding; without noise it is the token."""
    layer, epsilon = made(FullSoftmax, tied=tied, smoothing=0.3), 0.3
    logs = layer(HIDDEN).numpy()
    own = logs[np.arange(len(TARGETS)), TARGETS]
    np.testing.assert_allclose(
        layer.losses(HIDDEN, TARGETS, noise()), -(1 - epsilon) * own - epsilon * logs[:, 1:].mean(1), rtol=1e-9
    )
    np.testing.assert_allclose(layer.losses(HIDDEN, TARGETS), -own, rtol=1e-9)


# The sampled softmax


def samples_of(layer: SampledSoftmax, seed: int) -> tuple[Array, Array]:
    """Ids and their probabilities q, by the definition in float64."""
    uniform = random_bits(tf.constant(seed, tf.uint32), layer.name, layer.samples).numpy() / 2.0**32
    ids = np.floor(layer.head * (SIZE / layer.head) ** uniform).astype(int)
    return ids, np.log((ids + 1) / ids) / np.log(SIZE / layer.head)


@either
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_the_sum_is_estimated_by_its_equation(tied: bool, seed: int) -> None:
    layer = sampled(tied=tied, samples=9)
    ids, q = samples_of(layer, seed)
    assert ids.min() >= HEAD and ids.max() < SIZE
    scores, found = scores_of(layer), layer.losses(HIDDEN, TARGETS, noise(seed)).numpy()
    in_sample = 0
    for row, target in enumerate(TARGETS):
        z = np.exp(scores[row, 1:HEAD]).sum()
        z += sum(np.exp(scores[row, v]) / (9 * q_v) for v, q_v in zip(ids, q, strict=True) if v != target)
        z += np.exp(scores[row, target]) if target >= HEAD else 0
        in_sample += target in ids
        assert found[row] == pytest.approx(np.log(z) - scores[row, target], rel=1e-9)
    assert in_sample  # a target in the sample is not counted twice


def test_the_estimate_of_the_sum_is_right_on_average() -> None:
    layer = sampled(samples=8)
    scores = scores_of(layer)
    exact = np.exp(scores[:, 1:]).sum(1)
    own = np.exp(scores[np.arange(len(TARGETS)), TARGETS])
    losses = tf.function(lambda seed: layer.losses(HIDDEN, TARGETS, Noise(seed, ROWS)), autograph=False)
    drawn = np.array([np.exp(losses(tf.constant(seed, tf.uint32))) * own for seed in range(1500)])
    error = drawn.std(0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(0) - exact) < 4.5 * error).all()
    assert (error < 0.05 * exact).all()


def test_ids_are_drawn_by_zipfs_law() -> None:
    layer = SampledSoftmax(COUNTS, head=HEAD, samples=200_000)
    ids, minus_log_kq = layer._sample(noise())
    q = np.log((np.arange(HEAD, SIZE) + 1) / np.arange(HEAD, SIZE)) / np.log(SIZE / HEAD)
    assert q.sum() == pytest.approx(1)
    counts = np.bincount(ids, minlength=SIZE)
    assert counts[:HEAD].sum() == 0
    expected = 200_000 * q
    chi_square = ((counts[HEAD:] - expected) ** 2 / expected).sum()
    assert abs(chi_square - (len(q) - 1)) < 5 * np.sqrt(2 * (len(q) - 1))
    np.testing.assert_allclose(np.exp(minus_log_kq), 1 / (200_000 * q[ids.numpy() - HEAD]), rtol=1e-12)


@pytest.mark.parametrize("head", [SIZE, SIZE + 1, 10**6])
def test_a_head_of_all_ids_is_the_full_softmax(head: int) -> None:
    layer, other = sampled(head=head), full()
    np.testing.assert_array_equal(layer.losses(HIDDEN, TARGETS, noise()), other.losses(HIDDEN, TARGETS))


def test_the_smallest_head_and_one_rare_id() -> None:
    layer = sampled(head=0, samples=3)
    assert layer.head == 2
    assert np.isfinite(layer.losses(HIDDEN, TARGETS, noise())).all()
    layer = sampled(head=SIZE - 1, samples=1)  # the sample is the rare id, whose q is 1: nothing is estimated
    np.testing.assert_allclose(layer.losses(HIDDEN, TARGETS, noise()), full().losses(HIDDEN, TARGETS), rtol=1e-10)


def test_samples_depend_on_the_step_and_the_place_alone() -> None:
    layer = sampled()
    whole = layer.losses(HIDDEN, TARGETS, noise()).numpy()
    np.testing.assert_array_equal(layer.losses(HIDDEN, TARGETS, noise()), whole)
    parts = [
        layer.losses(HIDDEN[rows], TARGETS[rows], Noise(noise().seed, ROWS[rows])).numpy()
        for rows in (slice(0, 4), slice(4, None))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-12)
    others = [layer._sample(noise(seed))[0].numpy().tobytes() for seed in range(20)]
    assert len(set(others)) == 20
    elsewhere = SampledSoftmax(COUNTS, head=HEAD, samples=4, name="elsewhere")
    assert elsewhere._sample(noise())[0].numpy().tobytes() != layer._sample(noise())[0].numpy().tobytes()


@either
def test_the_gradient_of_the_table_is_sparse(tied: bool) -> None:
    layer = sampled(tied=tied)
    with tf.GradientTape() as tape:
        losses = layer.losses(HIDDEN, TARGETS, noise())
    gradient = tape.gradient(losses, layer.table)
    assert isinstance(gradient, tf.IndexedSlices)
    touched = {*range(1, HEAD), *TARGETS.tolist(), *samples_of(layer, 7)[0].tolist()}
    assert set(gradient.indices.numpy().tolist()) == touched


# Precision


@every_kind
@either
def test_bfloat16_is_float32_within_its_error(make: Callable[..., Any], tied: bool) -> None:
    keras.config.set_dtype_policy("float32")
    exact = make(tied=tied)
    expected = exact.losses(tf.constant(HIDDEN, tf.float32), TARGETS)
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer, hidden = make(tied=tied), tf.constant(HIDDEN, tf.bfloat16)
    assert {variable.dtype for variable in layer.variables} == {"float32"}

    def losses(hidden: tf.Tensor) -> tf.Tensor:
        return layer.losses(hidden, TARGETS, noise())

    graph = tf.function(losses, autograph=False).get_concrete_function(hidden).graph
    assert "SparseMatMul" not in {operation.type for operation in graph.get_operations()}  # what TensorFlow takes for mixed types
    with tf.GradientTape() as tape:
        found = losses(hidden)
    assert found.dtype == layer(hidden).dtype == tf.float32
    for gradient in tape.gradient(found, [variable.value for variable in layer.trainable_variables]):
        assert gradient.dtype == tf.float32
    if make is not sampled:
        np.testing.assert_allclose(found, expected, atol=0.06)
    np.testing.assert_allclose(layer.losses(hidden, TARGETS), expected, atol=0.06)
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(layer(hidden)), 1), 1, rtol=1e-5)
