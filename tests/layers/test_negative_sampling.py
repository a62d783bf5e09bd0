"""Negative sampling against loops over pairs in plain NumPy: blocks, losses, gradients, what is drawn and where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_tasks.layers import NegativeSampling, Noise, Stream
from nlp_tasks.layers.negative_sampling import POWER, Blocks, kept_shares
from nlp_tasks.text.character_ngrams import ngram_ids

BOUNDARY = 2
COUNTS = np.array([0, 0, 0, *(400 // n for n in range(1, 18))])
"""Of padding, unknown words and line ends, which are no words; and of 17 words by Zipf's law."""
SIZE, FEATURES = len(COUNTS), 7
BUCKETS = 11
Array = np.ndarray


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def stream(*, window: int = 3, size: int = 8, threshold: float = 0.05) -> Stream:
    layer = Stream(COUNTS, boundary=BOUNDARY, threshold=threshold, window=window, size=size, name="stream")
    layer.build((None, None))
    return layer


def sampling(kind: Any = "skip_gram", *, window: int = 3, size: int = 8, ngrams: bool = False) -> NegativeSampling:
    grams = None
    if ngrams:
        lengths = np.array([0, 0, 0, *(n % 4 for n in range(17))])
        grams = (np.random.default_rng(3).integers(0, BUCKETS, lengths.sum()), lengths, BUCKETS)
    layer = NegativeSampling(
        COUNTS, FEATURES, kind=kind, negatives=5, shared=6, window=window, size=size, ngrams=grams, name="sampling"
    )
    layer.build()
    for number, table in enumerate((layer.inputs, layer.outputs)):
        table.assign(np.random.default_rng([4, number]).normal(size=table.shape) / 2)
    return layer


def text(rows: int = 4, time: int = 70, seed: int = 0) -> Array:
    """Ids by their counts, some unknown, lines of about fifteen, the last row not full."""
    draw = np.random.default_rng(seed)
    ids = draw.choice(SIZE, (rows, time), p=COUNTS / COUNTS.sum()).astype(np.int32)
    ids[draw.random(ids.shape) < 0.1] = 1
    ids[draw.random(ids.shape) < 1 / 15] = BOUNDARY
    ids[-1, time // 2 :] = 0
    return ids


def noise(rows: Array, seed: int = 5) -> Noise:
    return Noise(tf.constant(seed, tf.uint32), tf.constant(rows, tf.uint32))


def expected_pairs(layer: Stream, ids: Array, where: Noise) -> list[list[tuple[int, int, int, int]]]:
    """Of each row, by loops, (place of the word among those kept, its id, place and id of a context)."""
    kept, reaches = layer.kept(tf.constant(ids), where).numpy(), layer.windows(tf.constant(ids), where).numpy()
    found = []
    for row in range(len(ids)):
        words, line = [], 0
        for place, word in enumerate(ids[row]):
            line += word == BOUNDARY
            if kept[row, place]:
                words.append((int(word), line, int(reaches[row, place])))
        pairs = []
        for i, (word, line, reach) in enumerate(words):
            for j in range(max(0, i - reach), min(len(words), i + reach + 1)):
                if i != j and words[j][1] == line:
                    pairs.append((i, word, j, words[j][0]))
        found.append(pairs)
    return found


# What is kept


def test_the_shares_are_those_of_word2vec() -> None:
    """Its code keeps a word where (sqrt(f / (t n)) + 1) (t n) / f exceeds a number drawn from [0, 1)."""
    total, threshold = COUNTS.sum(), 0.05
    for word, share in enumerate(kept_shares(COUNTS, threshold)):
        count = COUNTS[word]
        expected = 0 if not count else min(1, ((count / (threshold * total)) ** 0.5 + 1) * threshold * total / count)
        assert share == pytest.approx(expected)
    assert (kept_shares(COUNTS, 0) == (COUNTS > 0)).all()


def test_frequent_words_are_kept_as_often_as_their_share() -> None:
    layer, ids = stream(), np.tile(np.arange(SIZE, dtype=np.int32)[:, None], 3000)
    kept = layer.kept(tf.constant(ids), noise(np.arange(SIZE))).numpy().mean(1)
    share = kept_shares(COUNTS, 0.05)
    assert (np.abs(kept - share) <= 4 * np.sqrt(share * (1 - share) / 3000)).all()
    assert share[3] < 0.6 and (kept[share == 1] == 1).all() and not kept[:3].any()


def test_windows_are_drawn_evenly() -> None:
    found = stream(window=4).windows(tf.ones([20, 1000], tf.int32), noise(np.arange(20))).numpy()
    counts = np.bincount(found.ravel(), minlength=5)
    assert counts[0] == 0 and len(counts) == 5 and (np.abs(counts[1:] - 5000) < 4 * (20_000 * 0.25 * 0.75) ** 0.5).all()


# Blocks


@settings(max_examples=40, deadline=None)
@given(window=st.integers(1, 5), size=st.integers(1, 9), time=st.integers(1, 60), seed=st.integers(0, 99))
def test_blocks_hold_each_pair_once(window: int, size: int, time: int, seed: int) -> None:
    layer, ids, where = stream(window=window, size=size), text(3, time, seed), noise(np.arange(3), seed)
    blocks = layer(tf.constant(ids), where)
    found: list[list[tuple[int, int, int, int]]] = [[] for _ in ids]
    for block, pairs, row, number in zip(*(part.numpy() for part in blocks), strict=True):
        for i, j in zip(*np.nonzero(pairs), strict=True):
            start = number * size
            found[row].append((start + i, block[window + i], start + j - window, block[j]))
    assert found == expected_pairs(layer, ids, where)
    lengths = layer.kept(tf.constant(ids), where).numpy().sum(1)
    assert len(blocks.ids) == sum(-(-length // size) for length in lengths)


def test_a_text_without_words_has_no_blocks_and_no_loss() -> None:
    for ids in (np.zeros((2, 5), np.int32), np.full((2, 5), BOUNDARY, np.int32), np.zeros((0, 5), np.int32)):
        where = noise(np.arange(len(ids)))
        blocks = stream()(tf.constant(ids), where)
        assert len(blocks.ids) == 0
        for kind in ("skip_gram", "cbow"):
            assert all(len(part) == 0 for part in sampling(kind)(blocks, where, compare=True))


# Losses and gradients


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def u_of(layer: NegativeSampling, inputs: Array, word: int) -> tuple[Array, list[int]]:
    """The vector of a word, and the rows of the table that it is the mean of."""
    rows = [word]
    if layer._ngrams:
        ids, lengths, _ = layer._ngrams
        start = lengths[:word].sum()
        rows += [SIZE + int(gram) for gram in ids[start : start + lengths[word]]]
    return inputs[rows].mean(0), rows


def by_loops(layer: NegativeSampling, blocks: Blocks, negatives: Array) -> dict[str, Any]:
    """Loss, gradients of both tables, number of true contexts, and the share of negatives they stand above, a pair at a time."""
    inputs, outputs = layer.inputs.numpy(), layer.outputs.numpy()
    made: dict[str, Any] = {"loss": 0.0, "contexts": 0, "right": 0.0}
    made["inputs"], made["outputs"] = np.zeros_like(inputs), np.zeros_like(outputs)

    def learn(vector: Array, rows: list[tuple[int, float]], true: int, block: int) -> None:
        """One true context and k negatives in expectation."""
        share = layer.negatives / layer.shared
        terms = [(true, 1.0, 1.0), *((int(word), share, 0.0) for word in negatives[block])]
        scores = [float(vector @ outputs[word]) for word, _, _ in terms]
        slope = np.zeros_like(vector)
        for (word, weight, label), score in zip(terms, scores, strict=True):
            made["loss"] -= weight * np.log(sigmoid(score if label else -score))
            slope += weight * (sigmoid(score) - label) * outputs[word]
            made["outputs"][word] += weight * (sigmoid(score) - label) * vector
        for row, part in rows:
            made["inputs"][row] += part * slope
        made["contexts"] += 1
        others = np.array(scores[1:])
        tied = np.isclose(others, scores[0], rtol=1e-9, atol=1e-9)
        made["right"] += np.mean(np.where(tied, 0.5, scores[0] > others))

    ids, pairs = blocks.ids.numpy(), blocks.pairs.numpy()
    for block in range(len(ids)):
        for i in range(layer.size):
            word, contexts = ids[block, layer.window + i], ids[block, pairs[block, i]]
            if layer.kind == "skip_gram":
                vector, rows = u_of(layer, inputs, word)
                for context in contexts:
                    learn(vector, [(row, 1 / len(rows)) for row in rows], context, block)
            elif len(contexts):
                found = [u_of(layer, inputs, context) for context in contexts]
                mean = np.mean([vector for vector, _ in found], 0)
                learn(mean, [(row, 1 / len(rows) / len(found)) for _, rows in found for row in rows], word, block)
    return made


@pytest.mark.parametrize("ngrams", [False, True], ids=["words", "n-grams"])
@pytest.mark.parametrize("kind", ["skip_gram", "cbow"])
def test_losses_and_gradients_are_those_of_loops_over_pairs(kind: str, ngrams: bool) -> None:
    layer, ids, where = sampling(kind, ngrams=ngrams), text(), noise(np.arange(4))
    blocks = stream()(tf.constant(ids), where)
    tables = [layer.inputs.value, layer.outputs.value]
    with tf.GradientTape() as tape:
        measured = layer(blocks, where, compare=True)
        loss = tf.reduce_sum(measured.losses)
    gradients = tape.gradient(loss, tables)
    assert all(isinstance(gradient, tf.IndexedSlices) for gradient in gradients), "a step costs what the touched rows cost"
    expected = by_loops(layer, blocks, layer.drawn(blocks, where).numpy())
    assert expected["contexts"] > 50
    assert float(loss) == pytest.approx(expected["loss"], rel=1e-10)
    assert float(tf.reduce_sum(measured.contexts)) == expected["contexts"]
    assert float(tf.reduce_sum(measured.right)) == pytest.approx(expected["right"], rel=1e-10)
    for name, gradient in zip(("inputs", "outputs"), gradients, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), expected[name], atol=1e-10)


def test_rows_are_measured_alone_as_together() -> None:
    """Padding, neighbours and the part that a row is computed in change nothing; its number does."""
    ids, layer, cutting = text(5), sampling(), stream()

    def by_row(rows: Array, padding: int = 0) -> Array:
        where = noise(rows)
        given = np.pad(ids[rows], ((0, 0), (0, padding)))
        blocks = cutting(tf.constant(given), where)
        return np.bincount(blocks.rows.numpy(), layer(blocks, where).losses.numpy(), len(rows))

    together = by_row(np.arange(5))
    for rows in ([3], [4, 0], [2, 1, 3]):
        np.testing.assert_allclose(by_row(np.array(rows), padding=9), together[rows], rtol=1e-12)
    ids[1] = ids[0]
    assert by_row(np.arange(5))[1] != pytest.approx(together[0])


# Negative samples


def test_negatives_are_drawn_by_the_smoothed_counts() -> None:
    layer, ids = sampling(), text(40, 400)
    where = noise(np.arange(40))
    blocks = stream(threshold=0)(tf.constant(ids), where)
    found = np.bincount(layer.drawn(blocks, where).numpy().ravel(), minlength=SIZE)
    expected = COUNTS**POWER / (COUNTS**POWER).sum()
    total = found.sum()
    assert total > 8000 and not found[:3].any()
    assert (np.abs(found - total * expected) <= 4.5 * np.sqrt(total * expected * (1 - expected))).all()


def test_each_block_and_each_step_has_negatives_of_its_own() -> None:
    layer, ids = sampling(), text()
    one, other = (stream(threshold=0)(tf.constant(ids), noise(np.arange(4), seed)) for seed in (1, 1))
    drawn = layer.drawn(one, noise(np.arange(4), 1)).numpy()
    assert len({tuple(block) for block in drawn}) == len(drawn)
    np.testing.assert_array_equal(layer.drawn(other, noise(np.arange(4), 1)), drawn)
    assert (layer.drawn(other, noise(np.arange(4), 2)).numpy() != drawn).any()


# Vectors of words


def test_a_word_is_the_mean_of_its_own_vector_and_its_ngrams() -> None:
    layer = sampling(ngrams=True)
    inputs = layer.inputs.numpy()
    words = np.array([5, 3, 19, 5], np.int32)
    expected = [u_of(layer, inputs, word)[0] for word in words]
    np.testing.assert_allclose(layer.vectors(tf.constant(words)), expected, rtol=1e-12)
    grams = tf.ragged.constant([[2, 2, 7], [], [1]], dtype=tf.int32)
    found = layer.composed(tf.constant([0, 0, 4]), grams).numpy()
    np.testing.assert_allclose(found[0], inputs[[SIZE + 2, SIZE + 2, SIZE + 7]].mean(0), rtol=1e-12)
    assert not found[1].any()
    np.testing.assert_allclose(found[2], inputs[[4, SIZE + 1]].mean(0), rtol=1e-12)


def by_slices(word: str) -> list[str]:
    marked = f"<{word}>"
    found = [
        marked[start : start + size] for size in range(3, 7) if size < len(marked) for start in range(len(marked) - size + 1)
    ]
    return found or ([marked] if len(marked) == 3 else [])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=9), max_size=5))
def test_ngrams_are_the_slices_of_the_marked_word(words: list[str]) -> None:
    found = ngram_ids(tf.constant(words, tf.string), 1 << 20)
    expected = [[int(tf.strings.to_hash_bucket_fast(gram, 1 << 20)) for gram in by_slices(word)] for word in words]
    assert found.to_list() == expected


def test_of_where_there_are_fourteen_ngrams() -> None:
    assert by_slices("where") == "<wh whe her ere re> <whe wher here ere> <wher where here> <where where>".split()
    assert by_slices("né") == ["<né", "né>"] and by_slices("a") == ["<a>"] and by_slices("") == []
    assert [len(row) for row in ngram_ids(tf.constant(["where", "né", "a", ""]), 100).to_list()] == [14, 2, 1, 0]
