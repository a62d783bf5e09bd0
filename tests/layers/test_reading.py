"""Readers against NumPy, and the best spans against all of them."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks.layers import BilinearPointer, ContextQueryAttention, QuestionAlignment, best_spans, pointed

Array = np.ndarray
DRAW = np.random.default_rng(2)
PASSAGE, QUESTION = DRAW.normal(size=(3, 6, 4)), DRAW.normal(size=(3, 5, 4))
LENGTHS, WORDS = np.array([6, 2, 0], np.int32), np.array([5, 0, 3], np.int32)


@pytest.fixture(autouse=True)
def double_precision() -> Any:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def inside(values: Array, lengths: Array) -> Array:
    return np.where(np.arange(values.shape[1])[None, :, None] < lengths[:, None, None], values, 0.0)


def test_alignment_follows_its_equation() -> None:
    layer = QuestionAlignment(3)
    question = inside(QUESTION, WORDS)
    layer(PASSAGE, question, WORDS)
    found = layer(PASSAGE, question, WORDS).numpy()
    kernel = layer.projection.kernel.numpy()
    for row, t in itertools.product(range(3), range(6)):
        if not WORDS[row]:
            assert not found[row, t].any()
            continue
        words = question[row, : WORDS[row]]
        weights = softmax(np.maximum(0, words @ kernel) @ np.maximum(0, PASSAGE[row, t] @ kernel))
        np.testing.assert_allclose(found[row, t], weights @ words, rtol=1e-9)


def test_context_query_attention_follows_its_equation() -> None:
    layer = ContextQueryAttention()
    passage, question = inside(PASSAGE, LENGTHS), inside(QUESTION, WORDS)
    layer(passage, question, LENGTHS, WORDS)
    for variable in layer.trainable_variables:
        variable.assign(DRAW.normal(size=variable.shape))
    found = layer(passage, question, LENGTHS, WORDS).numpy()
    w_h, w_u, w_both = (getattr(layer, name).numpy() for name in ("of_passage", "of_question", "of_both"))
    h, u = passage[0], question[0]
    similarity = np.array([[w_h @ h_t + w_u @ u_j + w_both @ (h_t * u_j) for u_j in u] for h_t in h])
    seen = np.stack([softmax(row) @ u for row in similarity])
    seeing = softmax(similarity.max(1)) @ h
    np.testing.assert_allclose(found[0], np.concatenate([h, seen, h * seen, h * seeing], -1), rtol=1e-9)
    assert np.isfinite(found).all()
    assert not found[1, :, 4:12].any(), "a question without words tells nothing"


def test_pointers_are_bilinear() -> None:
    layer, question = BilinearPointer(), DRAW.normal(size=(3, 5))
    found = layer(PASSAGE, question).numpy()
    np.testing.assert_allclose(found, np.einsum("rtf,qf,rq->rt", PASSAGE, layer.kernel.numpy(), question), rtol=1e-9)


def test_places_have_probabilities() -> None:
    found = pointed(tf.constant(PASSAGE[:, :, 0]), LENGTHS).numpy()
    np.testing.assert_allclose(np.exp(found).sum(1), [1, 1, 0], atol=1e-12)
    assert (found[1, 2:] < -1e8).all() and (found[2] < -1e8).all()


@pytest.mark.parametrize("longest", [1, 3, 20])
@pytest.mark.parametrize("count", [1, 4, 50])
def test_the_best_spans_are_those_of_a_search_of_all(longest: int, count: int) -> None:
    draw = np.random.default_rng(longest * count)
    lengths = np.array([9, 1, 0, 5], np.int32)
    starts, ends = (pointed(tf.constant(draw.normal(size=(4, 9)) * 2), lengths) for _ in range(2))
    found = best_spans(starts, ends, longest, tf.constant(count))
    assert {part.shape[1] for part in found} == {count}
    for row, length in enumerate(lengths):
        every = [(float(starts[row, i] + ends[row, j]), i, j) for i in range(length) for j in range(i, min(length, i + longest))]
        every.sort(reverse=True)
        best = every[:count]
        np.testing.assert_allclose(found.scores[row, : len(best)], [score for score, _, _ in best], rtol=1e-6)
        assert [(int(i), int(j)) for i, j in zip(found.starts[row], found.ends[row], strict=True)][: len(best)] == [
            (i, j) for _, i, j in best
        ]
        assert (found.scores.numpy()[row, len(best) :] < -1e8).all(), "there are no more"
