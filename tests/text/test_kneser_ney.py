"""Kneser-Ney n-grams against values worked out by hand, and against the definition over plain dictionaries."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks.text.kneser_ney import FALLBACK, KneserNey, count, discounts, save

Gram = tuple[int, ...]


class Case(NamedTuple):
    order: int
    classes: int
    tokens: int
    seed: int

    def stream(self) -> list[int]:
        """Frequent and rare tokens, each depending on the one before it; the last class never occurs, if there are more than one."""
        draw = np.random.default_rng(self.seed)
        stream = [0]
        while len(stream) < self.tokens:
            stream.append(int(draw.geometric(0.3) + stream[-1] // 2) % max(self.classes - 1, 1))
        return stream[: self.tokens]


CASES = [
    Case(order=1, classes=30, tokens=300, seed=1),
    Case(order=2, classes=12, tokens=200, seed=2),
    Case(order=3, classes=9, tokens=400, seed=3),
    Case(order=3, classes=40, tokens=150, seed=4),
    Case(order=5, classes=6, tokens=300, seed=5),
    Case(order=4, classes=5, tokens=3, seed=6),  # shorter than the order
    Case(order=2, classes=1, tokens=9, seed=7),
]


class Definition:
    """p(w | h) by Chen & Goodman's definition, in fractions, over dictionaries of n-grams."""

    def __init__(self, stream: list[int], classes: int, order: int) -> None:
        self.classes, self.order = classes, order
        grams = {k: [tuple(stream[i : i + k]) for i in range(len(stream) - k + 1)] for k in range(1, order + 2)}
        self.adjusted: dict[Gram, int] = dict(Counter(grams[order]))
        for k in range(1, order):
            before = defaultdict(set)
            for gram in grams[k + 1]:
                before[gram[1:]].add(gram[0])
            self.adjusted |= {gram: len(before[gram]) or 1 for gram in grams[k]}
        self.discounts = {
            k: self._discounts([a for gram, a in self.adjusted.items() if len(gram) == k]) for k in range(1, order + 1)
        }
        self.probability = cache(self._probability)

    @staticmethod
    def _discounts(adjusted: list[int]) -> list[Fraction]:
        n1, n2, n3, n4 = (adjusted.count(i) for i in (1, 2, 3, 4))
        if n1 and n2 and n3:
            y = Fraction(n1, n1 + 2 * n2)
            found = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            if all(0 < d <= i for i, d in enumerate(found, 1)):
                return [Fraction(0), *found]
        return [Fraction(0), Fraction(1, 2), Fraction(1), Fraction(3, 2)]

    def _probability(self, context: Gram, token: int) -> Fraction:
        lower = self.probability(context[1:], token) if context else Fraction(1, self.classes)
        adjusted = [self.adjusted.get((*context, v), 0) for v in range(self.classes)]
        if not sum(adjusted):
            return lower
        taken = [self.discounts[len(context) + 1][min(a, 3)] for a in adjusted]
        return (adjusted[token] - taken[token] + sum(taken) * lower) / Fraction(sum(adjusted))

    def distributions(self, contexts: np.ndarray) -> np.ndarray:
        return np.array([[float(self.probability(tuple(h), w)) for w in range(self.classes)] for h in contexts.tolist()])


def model(stream: list[int], classes: int, order: int) -> KneserNey:
    return KneserNey(count(np.array(stream, np.uint16), classes, order))


def contexts(case: Case) -> np.ndarray:
    """Contexts `<int32>[n, order - 1]`: seen ones, the end of the stream, and others, of which some end in a seen context."""
    width, stream = case.order - 1, case.stream()
    seen = [stream[i : i + width] for i in range(0, len(stream) - width + 1, 5)]
    last = stream[max(len(stream) - width, 0) :]
    draw = np.random.default_rng(case.seed)
    drawn = draw.integers(0, case.classes, [20, width])
    half = [[case.classes - 1, *context[1:]] for context in seen[:10] if width]
    ends = [[0] * (width - len(last)) + last] if width else [[]]
    rows = [*seen, *ends, *half, *drawn.tolist(), [case.classes - 1] * width]
    return np.array(rows, np.int32).reshape(len(rows), width)


@pytest.fixture(params=CASES, ids=str, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def test_bigrams_by_hand() -> None:
    # Stream 0 1 0 2, classes 0 … 3. Each bigram (01, 10, 02) occurs once, so that there is no n2, and the fallback takes 1/2 of each.
    # Unigrams: 0, 1 and 2 each follow one token: p = (1 - 1/2) / 3 + γ / 4 with γ = 3/2 / 3 = 1/2: 7/24; p(3) = 1/8.
    # After 0: two bigrams, γ = 1/2: p(1) = p(2) = 1/4 + 7/48 = 19/48, p(0) = 7/48, p(3) = 3/48.
    # After 1: one bigram, γ = 1/2: p(0) = 1/2 + 7/48 = 31/48, p(1) = p(2) = 7/48, p(3) = 3/48.
    # After 2 the stream ends, 3 never occurs, -1 is no token: the unigrams.
    expected = np.array([[7, 19, 19, 3], [31, 7, 7, 3], [14, 14, 14, 6], [14, 14, 14, 6], [14, 14, 14, 6]]) / 48
    found = model([0, 1, 0, 2], 4, 2).log_probabilities(tf.constant([[0], [1], [2], [3], [-1]]))
    assert found.dtype == tf.float32
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-6)


def test_the_first_token_of_the_stream_counts_although_nothing_precedes_it() -> None:
    # Stream 3 1 1 1, classes 0 … 3: 1 follows two different tokens, 3 none, which makes 1: a = 0 2 0 1, total 3, fallback: D1 = 1/2, D2 = 1.
    # γ = 3/2 / 3 = 1/2; p(1) = 1/3 + 1/8 = 11/24, p(3) = 1/6 + 1/8 = 7/24, p(0) = p(2) = 3/24.
    found = model([3, 1, 1, 1], 4, 2).log_probabilities(tf.constant([[0]]))
    np.testing.assert_allclose(np.exp(found), np.array([[3, 11, 3, 7]]) / 24, rtol=1e-6)


def test_unigrams_by_hand() -> None:
    # Four tokens once, two twice, one three and one four times, two never: n = 4 2 1 1, D = 1/2, 5/4, 1 (below), total 15.
    # γ = (4 · 1/2 + 2 · 5/4 + 2 · 1) / 15 = 6.5 / 15; of it each of the 10 classes gets 0.65 / 15.
    stream = [*range(8), 4, 5, 6, 6, 7, 7, 7]
    expected = np.array([*[0.5] * 4, *[0.75] * 2, 2, 3, 0, 0]) / 15 + 0.65 / 15
    found = model(stream, 10, 1).log_probabilities(tf.zeros([2, 0], tf.int32))
    np.testing.assert_allclose(np.exp(found), [expected, expected], rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        ([4, 2, 1, 1], (0.5, 1.25, 1)),  # Y = 4/8: 1 - 2 · 1/2 · 2/4, 2 - 3 · 1/2 · 1/2, 3 - 4 · 1/2 · 1/1
        ([4, 2, 1, 0], (0.5, 1.25, 3)),
        ([0, 2, 1, 1], FALLBACK),
        ([4, 0, 1, 1], FALLBACK),
        ([4, 2, 0, 1], FALLBACK),
        ([4, 2, 3, 1], FALLBACK),  # 2 - 3 · 1/2 · 3/2 < 0
        ([4, 2, 1, 2], FALLBACK),  # 3 - 4 · 1/2 · 2/1 < 0
        ([12, 12, 24, 3], FALLBACK),  # 2 - 3 · 1/3 · 24/12 = 0
        ([0, 0, 0, 0], FALLBACK),
    ],
)
def test_discounts(n: list[int], expected: tuple[float, ...]) -> None:
    adjusted = np.repeat([1, 2, 3, 4, 0, 9], [*n, 7, 5])
    np.testing.assert_allclose(discounts(adjusted), [0, *expected], rtol=1e-12)


def test_distributions_are_those_of_the_definition(case: Case) -> None:
    stream, asked = case.stream(), contexts(case)
    found = np.exp(model(stream, case.classes, case.order).log_probabilities(tf.constant(asked)))
    np.testing.assert_allclose(found, Definition(stream, case.classes, case.order).distributions(asked), rtol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    assert found.min() > 0
    assert found.max() <= 1


def test_the_cases_have_discounts_of_their_own_and_fallbacks() -> None:
    fallback = [
        discounts[1:] == [*map(Fraction, FALLBACK)]
        for case in CASES
        for discounts in Definition(case.stream(), case.classes, case.order).discounts.values()
    ]
    assert fallback.count(True) >= 5
    assert fallback.count(False) >= 5


def test_one_token_has_the_probability_that_all_tokens_have(case: Case) -> None:
    asked, held = contexts(case), model(case.stream(), case.classes, case.order)
    pairs = np.array([*product(range(len(asked)), range(case.classes))], np.int32)
    found = held.log_probability(tf.constant(asked[pairs[:, 0]]), tf.constant(pairs[:, 1]))
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(tf.reshape(found, [len(asked), -1]), held.log_probabilities(tf.constant(asked)))


def test_padding_on_the_left_is_a_shorter_context(case: Case) -> None:
    stream, asked = case.stream(), contexts(case)
    definition = Definition(stream, case.classes, case.order)
    for padding in range(1, case.order):
        padded = asked.copy()
        padded[:, :padding] = -1
        found = model(stream, case.classes, case.order).log_probabilities(tf.constant(padded))
        np.testing.assert_allclose(np.exp(found), definition.distributions(asked[:, padding:]), rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 2, 7, 100])
def test_chunks_change_nothing(case: Case, chunk: int) -> None:
    stream = np.array(case.stream())
    whole, parts = (count(stream, case.classes, case.order, **options) for options in ({}, {"chunk": chunk}))
    assert whole.keys() == parts.keys()
    for name, values in whole.items():
        assert values.dtype == parts[name].dtype
        np.testing.assert_array_equal(values, parts[name])


def test_the_trie_by_hand() -> None:
    # Stream 1 0 1 0 0, 2 classes. Bigrams 00, 01, 10 at places 0, 1, 2; trigrams 010 (1·2 + 0), 100 (2·2 + 0), 101 (2·2 + 1).
    arrays = count(np.array([1, 0, 1, 0, 0], np.uint8), 2, 3)
    assert arrays["keys_2"].tolist() == [0, 1, 2]
    assert arrays["keys_3"].tolist() == [2, 4, 5]
    assert {name: values.dtype.name for name, values in arrays.items()} == {
        "order": "int64", "log_probabilities_1": "float32", "log_weights_1": "float32", "keys_2": "int64",
        "log_probabilities_2": "float32", "log_weights_2": "float32", "keys_3": "int64", "log_probabilities_3": "float32",
    }  # fmt: skip
    assert arrays["log_weights_2"][0] == 0  # 00 ends the stream


def test_a_memory_map_is_counted(tmp_path: Path) -> None:
    stream = np.array(CASES[2].stream(), np.uint16)
    np.save(tmp_path / "stream.npy", stream)
    mapped = count(np.load(tmp_path / "stream.npy", mmap_mode="r"), 9, 3, chunk=50)
    for name, values in count(stream, 9, 3).items():
        np.testing.assert_array_equal(values, mapped[name])


@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_stream_of_one_token(order: int) -> None:
    # D1 = 1/2 by fallback: half of the mass stays, the other half is dealt out to all 4 classes.
    found = model([2], 4, order).log_probabilities(tf.constant([[2] * (order - 1)], tf.int32, [1, order - 1]))
    np.testing.assert_allclose(np.exp(found), [[0.125, 0.125, 0.625, 0.125]], rtol=1e-6)


@pytest.mark.parametrize("order", [1, 3])
def test_an_empty_stream_says_nothing(order: int) -> None:
    found = model([], 4, order).log_probabilities(tf.zeros([1, order - 1], tf.int32))
    np.testing.assert_allclose(np.exp(found), [[0.25] * 4], rtol=1e-6)


def test_no_rows(case: Case) -> None:
    held, nothing = model(case.stream(), case.classes, case.order), tf.zeros([0, case.order - 1], tf.int32)
    assert held.log_probabilities(nothing).shape == (0, case.classes)
    assert held.log_probability(nothing, tf.zeros([0], tf.int32)).shape == (0,)


def test_saved_and_loaded(tmp_path: Path) -> None:
    case = CASES[2]
    arrays = count(np.array(case.stream()), case.classes, case.order)
    save(arrays, tmp_path / "ngrams.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["ngrams.npz"]
    loaded, asked = KneserNey.load(tmp_path / "ngrams.npz"), tf.constant(contexts(case))
    assert (loaded.classes, loaded.order, len(loaded.variables)) == (9, 3, 7)
    np.testing.assert_array_equal(loaded.log_probabilities(asked), KneserNey(arrays).log_probabilities(asked))


def exported(held: KneserNey, function: Callable[..., tf.Tensor], signature: list[tf.TensorSpec], folder: Path) -> tf.Module:
    module = tf.Module()
    module.held = held.variables
    module.answer = tf.function(function, signature, autograph=False)
    tf.saved_model.save(module, str(folder))
    return tf.saved_model.load(str(folder))


def test_whole_distributions_exported(case: Case, tmp_path: Path) -> None:
    held, asked = model(case.stream(), case.classes, case.order), tf.constant(contexts(case))
    loaded = exported(held, held.log_probabilities, [tf.TensorSpec([None, case.order - 1], tf.int32)], tmp_path)
    np.testing.assert_allclose(loaded.answer(asked), held.log_probabilities(asked), rtol=1e-6)
    assert loaded.answer(asked[:0]).shape == (0, case.classes)


def test_single_probabilities_exported(case: Case, tmp_path: Path) -> None:
    held, asked = model(case.stream(), case.classes, case.order), tf.constant(contexts(case))
    signature = [tf.TensorSpec([None, case.order - 1], tf.int32), tf.TensorSpec([None], tf.int32)]
    loaded = exported(held, held.log_probability, signature, tmp_path)
    tokens = tf.range(len(asked)) % case.classes
    np.testing.assert_allclose(loaded.answer(asked, tokens), held.log_probability(asked, tokens), rtol=1e-6)
    assert loaded.answer(asked[:0], tokens[:0]).shape == (0,)


def test_log_probabilities_of_long_streams_stay_finite() -> None:
    # 00 a thousand times: p(0 | 0) is nearly one, and its logarithm must not be above zero.
    found = model([0] * 1000, 3, 2).log_probabilities(tf.constant([[0]]))[0]
    assert math.isfinite(float(tf.reduce_min(found)))
    assert float(tf.reduce_max(found)) <= 0


@pytest.mark.parametrize(("classes", "order", "message"), [(0, 1, "at least 1, not 1 and 0"), (3, 0, "at least 1, not 0 and 3")])
def test_nothing_to_count(classes: int, order: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count(np.array([0]), classes, order)


def test_keys_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="4294967296 contexts of 1 tokens times 4294967296 classes do not fit"):
        count(np.array([0, 1]), 2**32, 2)


@pytest.mark.parametrize("stream", [[0, 3], [-1, 0]])
def test_tokens_that_are_no_classes(stream: list[int]) -> None:
    with pytest.raises(ValueError, match=r"tokens lie between -?\d and \d, not in 0 … 2"):
        count(np.array(stream), 3, 2)
