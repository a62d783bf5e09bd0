"""Writing text: choices are distributed as asked, depend on (seed, place) alone, and rows do not know of each other; a search finds what
an exhaustive one finds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from nlp_tasks.decoding import Hypotheses, Sampling, State, beam, choose, greedy, largest, sample
from nlp_tasks.layers.dropout import random_bits, random_bits_of_rows

Array = np.ndarray
SIZE = 7
PROBABILITIES = np.array([0.0, 0.02, 0.3, 0.05, 0.4, 0.03, 0.2])
"""Of padding, and of six tokens in no order."""


def logarithm(probabilities: Array) -> Array:
    return np.where(probabilities > 0, np.log(np.maximum(probabilities, 1e-300)), -1e9).astype(np.float32)


def options(rows: int, *, temperature: Any = 1.0, top_k: Any = 0, top_p: Any = 1.0, seeds: Any = 0) -> Sampling:
    def of(value: Any, dtype: tf.DType) -> tf.Tensor:
        return tf.constant(np.broadcast_to(value, [rows]), dtype)

    return Sampling(of(temperature, tf.float32), of(top_k, tf.int32), of(top_p, tf.float32), of(seeds, tf.int32))


def chosen(probabilities: Array, *, places: Any = 0, **given: Any) -> Array:
    """Of rows of probabilities, or of one for all seeds."""
    rows = len(probabilities) if probabilities.ndim == 2 else np.broadcast(given["seeds"], places).size
    table = np.broadcast_to(logarithm(probabilities), [rows, probabilities.shape[-1]])
    found = choose(tf.constant(table), options(rows, **given), tf.constant(np.broadcast_to(places, [rows]), tf.int32))
    assert found.dtype == tf.int32
    return found.numpy()


def asked(probabilities: Array, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Array:
    """The distribution that is asked for, step by step in plain Python."""
    powers = [p ** (1 / temperature) for p in probabilities]
    left = sorted(range(len(powers)), key=lambda token: (-powers[token], token))
    if top_k:
        left = left[:top_k]
    total, kept = sum(powers[token] for token in left), []
    for token in left:
        kept.append(token)
        if sum(powers[token] for token in kept) >= top_p * total - 1e-12:
            break
    expected = np.zeros(len(powers))
    expected[kept] = [powers[token] for token in kept]
    return expected / expected.sum()


# One choice


VARIANTS = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"top_k": 3},
    {"top_k": 100},
    {"top_p": 0.75},
    {"top_p": 0.95},
    {"temperature": 0.5, "top_k": 4, "top_p": 0.9},
    {"temperature": 1.5, "top_k": 2},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("axis", ["seeds", "places"])
def test_choices_are_distributed_as_asked(variant: dict[str, Any], axis: str) -> None:
    expected, count = asked(PROBABILITIES, **variant), 20_000
    varying = {"seeds": np.arange(count), "places": 5} if axis == "seeds" else {"seeds": 5, "places": np.arange(count)}
    counts = np.bincount(chosen(PROBABILITIES, **varying, **variant), minlength=SIZE)
    assert counts[expected == 0].sum() == 0
    kept = expected > 0
    assert kept.sum() == 1 or stats.chisquare(counts[kept], count * expected[kept]).pvalue > 1e-4


def test_neighbouring_seeds_and_places_are_independent() -> None:
    uniform = np.full(5, 0.2)
    for first, second in (
        ({"seeds": np.arange(20_000)}, {"seeds": np.arange(1, 20_001)}),
        ({"seeds": np.arange(20_000), "places": 1}, {"seeds": np.arange(20_000), "places": 2}),
        ({"seeds": 3, "places": np.arange(20_000)}, {"seeds": 4, "places": np.arange(20_000)}),
        ({"seeds": np.arange(20_000), "places": 0}, {"seeds": 0, "places": np.arange(20_000)}),
    ):
        table = np.histogram2d(chosen(uniform, **first), chosen(uniform, **second), bins=5)[0]
        assert stats.chi2_contingency(table).pvalue > 1e-4


def test_without_temperature_the_most_probable_token_is_taken() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(50), 200)
    best = probabilities.argmax(1)
    for given in ({"temperature": 0.0}, {"temperature": 0.0, "top_k": 5, "top_p": 0.5}, {"top_k": 1}, {"top_p": 0.0}):
        np.testing.assert_array_equal(chosen(probabilities, seeds=np.arange(200), **given), best)
    np.testing.assert_array_equal(chosen(probabilities, seeds=np.arange(200), temperature=1e-4), best)
    tied = np.array([[0.0, 0.25, 0.5, 0.5, 0.25]])
    assert chosen(tied, temperature=0.0).tolist() == [2]  # the first of equals


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.01, {4}),
        (0.39, {4}),
        (0.41, {4, 2}),
        (0.69, {4, 2}),
        (0.71, {4, 2, 6}),
        (0.91, {4, 2, 6, 3}),
        (0.99, {4, 2, 6, 3, 5, 1}),
    ],
)
def test_the_fewest_tokens_whose_sum_reaches_p_are_kept(top_p: float, expected: set[int]) -> None:
    assert set(chosen(PROBABILITIES, seeds=np.arange(3000), top_p=top_p)) == expected


def test_a_sum_that_is_reached_exactly_is_enough() -> None:
    halves = np.array([0.0, 0.25, 0.5, 0.125, 0.125])
    for top_p, expected in ((0.5, {2}), (0.75, {1, 2}), (0.875, {1, 2, 3}), (1.0, {1, 2, 3, 4})):
        assert set(chosen(halves, seeds=np.arange(500), top_p=top_p)) == expected


def test_p_is_a_share_of_the_k_most_probable() -> None:
    """0.4 of 0.9 is less than half, 0.7 of 0.9 more than three quarters."""
    for top_p, expected in ((0.43, {4}), (0.46, {4, 2}), (0.77, {4, 2}), (0.79, {4, 2, 6})):
        assert set(chosen(PROBABILITIES, seeds=np.arange(2000), top_k=3, top_p=top_p)) == expected


def test_each_row_is_chosen_for_itself() -> None:
    random = np.random.default_rng(1)
    rows = 40
    probabilities = random.dirichlet(np.ones(SIZE), rows)
    given: dict[str, Array] = {
        "temperature": random.choice([0.0, 0.5, 1.0, 2.0], rows), "top_k": random.integers(0, 5, rows),
        "top_p": random.choice([0.3, 0.9, 1.0], rows), "seeds": random.integers(-(2**31), 2**31, rows),
        "places": random.integers(0, 1000, rows),
    }  # fmt: skip
    together = chosen(probabilities, **given)
    order = random.permutation(rows)
    np.testing.assert_array_equal(chosen(probabilities[order], **{k: v[order] for k, v in given.items()}), together[order])
    alone = [chosen(probabilities[row : row + 1], **{k: v[row : row + 1] for k, v in given.items()})[0] for row in range(rows)]
    np.testing.assert_array_equal(alone, together)


def test_what_has_no_probability_is_never_chosen() -> None:
    only = np.eye(SIZE)[[3] * 500]
    assert set(chosen(only, seeds=np.arange(500), temperature=5.0)) == {3}
    large = np.zeros(30_000)
    large[1:] = 1 / np.arange(1, 30_000) ** 1.1
    found = chosen(large / large.sum(), seeds=np.arange(300), temperature=3.0)
    assert found.min() > 0 and len(set(found)) > 250


def test_rows_of_no_batch_and_other_precisions() -> None:
    assert choose(tf.zeros([0, SIZE]), options(0), tf.zeros([0], tf.int32)).shape == [0]
    for dtype in (tf.float64, tf.bfloat16):
        found = choose(tf.cast(logarithm(np.eye(SIZE)[[2, 5]]), dtype), options(2), tf.zeros([2], tf.int32))
        assert found.numpy().tolist() == [2, 5]


# Random numbers by address


def murmur(x: int) -> int:
    x = (x ^ x >> 16) * 0x85EBCA6B % 2**32
    x = (x ^ x >> 13) * 0xC2B2AE35 % 2**32
    return x ^ x >> 16


def test_numbers_of_rows_are_those_of_the_definition() -> None:
    pairs = [(0, 0), (1, 0), (0, 1), (-1, 5), (2**31 - 1, 2**31 - 1), (-(2**31), 77)]
    seeds, places = (tf.constant(column, tf.int32) for column in zip(*pairs, strict=True))
    expected = [murmur(murmur((seed + 0x9E3779B9) % 2**32) ^ murmur((place * 0x85EBCA77 + 1) % 2**32)) for seed, place in pairs]
    assert random_bits_of_rows(seeds, places).numpy().tolist() == expected


def test_numbers_never_change() -> None:
    """Other ones would write other texts for the seeds that people have noted."""
    assert random_bits_of_rows(tf.constant([0, 7]), tf.constant([0, 3])).numpy().tolist() == [2947049190, 4237865260]
    assert random_bits(tf.constant(7, tf.uint32), "softmax", 3).numpy().tolist() == [3684644371, 2593007597, 3890528911]


def test_a_sample_begins_alike_whatever_its_size() -> None:
    whole = random_bits(tf.constant(7, tf.uint32), "softmax", 50).numpy()
    np.testing.assert_array_equal(random_bits(tf.constant(7, tf.uint32), "softmax", 20), whole[:20])
    uniform = random_bits(tf.constant(1, tf.uint32), "a", 20_000).numpy() / 2**32
    assert stats.kstest(uniform, "uniform").pvalue > 1e-4


# Whole texts


WEIGHTS = np.random.default_rng(5).normal(size=(SIZE, SIZE, SIZE)) * 2


def table(tokens: Any, before: Any) -> Array:
    """Log probabilities after the last two tokens, `[rows, SIZE]`; padding has none."""
    logits = np.array(WEIGHTS[before, tokens])
    logits[:, 0] = -1e9
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


TABLE = tf.constant(np.stack([table(np.arange(SIZE), np.full(SIZE, before)) for before in range(SIZE)]), tf.float32)


def trigram(tokens: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
    """A model whose state is the token before the last one, and how often it was asked, with rows first."""
    before, asked = state
    return tf.gather_nd(TABLE, tf.stack([before[:, 0], tokens], 1)), (tokens[:, None], asked + 1)


def start(rows: int) -> Any:
    return tf.ones([rows, 1], tf.int32), tf.zeros([rows])


def written(lengths: Sequence[int], sampling: Sampling, *, places: Any = 0, step: Any = trigram) -> tuple[Array, Array]:
    rows = len(lengths)
    places = tf.constant(np.broadcast_to(places, [rows]), tf.int32)
    tokens, total = sample(step, tf.fill([rows], 2), start(rows), tf.constant(lengths, tf.int32), sampling, places)
    return tokens.numpy(), total.numpy()


def by_hand(length: int, seed: int, place: int = 0, **given: Any) -> tuple[list[int], float]:
    """One text, token by token."""
    before, token, text, total = 1, 2, [], 0.0
    for t in range(length):
        row = table([token], [before])
        new = int(choose(tf.constant(row, tf.float32), options(1, seeds=seed, **given), tf.constant([place + t]))[0])
        before, token, total = token, new, total + row[0, new]
        text.append(new)
    return text, total


@pytest.mark.parametrize("given", [{}, {"temperature": 0.0}, {"temperature": 0.7, "top_k": 4, "top_p": 0.9}], ids=str)
def test_texts_are_written_token_by_token(given: dict[str, Any]) -> None:
    lengths, seeds = [6, 0, 3, 9, 1], [1, 2, 3, -4, 1]
    tokens, total = written(lengths, options(5, seeds=seeds, **given), places=[0, 5, 7, 0, 0])
    assert (tokens.shape, tokens.dtype, total.dtype) == ((5, 9), np.int32, np.float32)
    for row, (length, seed, place) in enumerate(zip(lengths, seeds, [0, 5, 7, 0, 0], strict=True)):
        text, sum_of_logs = by_hand(length, seed, place, **given)
        assert tokens[row].tolist() == text + [0] * (9 - length)
        assert total[row] == pytest.approx(sum_of_logs, rel=1e-5, abs=1e-6)


def test_finished_rows_keep_their_state() -> None:
    seen: list[tuple[Array, Array, Array]] = []

    def recorded(tokens: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        seen.append((tokens.numpy(), state[0].numpy()[:, 0], state[1].numpy()))
        return trigram(tokens, state)

    lengths = [4, 0, 2]
    tokens, _ = written(lengths, options(3, seeds=[1, 2, 3]), step=recorded)
    assert len(seen) == 4
    for t, (last, before, asked) in enumerate(seen):
        for row, length in enumerate(lengths):
            text = [1, 2, *tokens[row]]
            n = min(t, length)
            assert (last[row], before[row], asked[row]) == (text[n + 1], text[n], n)


def test_going_on_is_as_if_it_had_not_been_cut() -> None:
    sampling = options(3, seeds=[1, 2, 3], temperature=0.9)
    whole, total = written([20, 20, 20], sampling)
    first, total_1 = written([10, 10, 10], sampling)
    state = tf.constant(first[:, 8:9]), tf.zeros([3])
    second, total_2 = sample(trigram, tf.constant(first[:, 9]), state, tf.fill([3], 10), sampling, tf.fill([3], 10))
    np.testing.assert_array_equal(np.concatenate([first, second], 1), whole)
    np.testing.assert_allclose(total_1 + total_2, total, rtol=1e-5)
    again, _ = written([10, 10, 10], sampling, places=10)
    assert not np.array_equal(again, first)  # another place, another choice


def test_equal_seeds_write_equal_texts_whatever_the_batch() -> None:
    alone = written([12], options(1, seeds=[77]))[0][0]
    many, _ = written([12, 3, 12, 15], options(4, seeds=[5, 77, 77, 77], temperature=[0.0, 1.0, 1.0, 1.0]))
    np.testing.assert_array_equal(many[2, :12], alone)
    np.testing.assert_array_equal(many[1, :3], alone[:3])
    np.testing.assert_array_equal(many[3, :12], alone)


def test_texts_have_the_probabilities_of_the_model() -> None:
    """All texts of two tokens, against the product of their probabilities."""
    tokens, total = written([2] * 20_000, options(20_000, seeds=np.arange(20_000)))
    first = np.exp(table([2], [1])[0])
    second = np.exp(np.stack([table([token], [2])[0] for token in range(SIZE)]))
    expected = (first[:, None] * second).reshape(-1)
    counts = np.bincount(tokens[:, 0] * SIZE + tokens[:, 1], minlength=SIZE * SIZE)
    often = expected * 20_000 > 5
    pooled = [np.append(values[often], values[~often].sum()) for values in (counts, 20_000 * expected / expected.sum())]
    assert stats.chisquare(*pooled).pvalue > 1e-4
    np.testing.assert_allclose(np.exp(total), expected[tokens[:, 0] * SIZE + tokens[:, 1]], rtol=1e-4)


class Writer(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = tf.Variable(TABLE, trainable=False)

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None], tf.int32), *(tf.TensorSpec([None], dtype) for dtype in (tf.float32, tf.int32, tf.float32, tf.int32))
        ],
    )  # fmt: skip
    def write(self, lengths: tf.Tensor, *sampling: tf.Tensor) -> dict[str, tf.Tensor]:
        def step(tokens: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
            return tf.gather_nd(self.table, tf.stack([state[0][:, 0], tokens], 1)), (tokens[:, None], state[1] + 1)

        rows = tf.shape(lengths)[0]
        state = tf.fill([rows, 1], 1), tf.zeros([rows])
        tokens, total = sample(step, tf.fill([rows], 2), state, lengths, Sampling(*sampling), tf.zeros([rows], tf.int32))
        return {"tokens": tokens, "total": total}


def test_an_export_writes_the_same(tmp_path: Path) -> None:
    tf.saved_model.save(Writer(), str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for lengths in ([5, 0, 8], [0, 0], [0], [], [1]):
        sampling = options(len(lengths), seeds=np.arange(len(lengths)), temperature=0.8, top_k=5)
        found = loaded.write(tf.constant(lengths, tf.int32), *sampling)
        assert found["tokens"].shape == (len(lengths), max(lengths, default=0))
        if not lengths:
            continue
        for row, length in enumerate(lengths):
            text, total = by_hand(length, row, temperature=0.8, top_k=5)
            assert found["tokens"][row].numpy().tolist() == text + [0] * (max(lengths) - length)
            assert float(found["total"][row]) == pytest.approx(total, rel=1e-5, abs=1e-6)


# Searching

END, WORDS = 2, 5
"""Ids: padding, begin, end and two words."""


def history_model(rows: int, seed: int = 0) -> tuple[Array, Any]:
    """Probabilities that depend on all that was written: `table[row, history]`, where a history is the sum of id · 3^place, mod 97."""
    rng = np.random.default_rng(seed)
    table = np.log(rng.dirichlet(np.ones(WORDS - 2) * 0.7, (rows, 97)))
    table = np.concatenate([np.full((rows, 97, 2), -1e9), table], -1).astype(np.float32)
    return table, tf.constant(table)


def history_step(table: tf.Tensor, lanes: int) -> Any:
    rows = tf.repeat(tf.range(table.shape[0]), lanes)

    def step(tokens: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        history, place = state.own if isinstance(state, State) else state
        history = (history + tokens * 3**place) % 97
        found = tf.gather_nd(table, tf.stack([rows, history], 1)), (history, place + 1)
        return (found[0], State(found[1], state.shared)) if isinstance(state, State) else found

    return step


def started(rows: int, lanes: int) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.zeros([rows * lanes], tf.int32), tf.zeros([rows * lanes], tf.int32)


def log_probability(table: Array, row: int, ids: Sequence[int]) -> float:
    history, before, total = 0, 1, 0.0
    for place, token in enumerate(ids):
        history = (history + before * 3**place) % 97
        total += float(table[row, history, token])
        before = token
    return total


def exhaustive(table: Array, row: int, limit: int, alpha: float) -> list[tuple[float, float, tuple[int, ...]]]:
    """Of every sequence that ends within the limit: score, log probability, ids without the end; best first."""
    found = []
    for length in range(limit):
        for ids in itertools.product(range(END + 1, WORDS), repeat=length):
            total = log_probability(table, row, [*ids, END])
            found.append((total / ((5 + length + 1) / 6) ** alpha, total, ids))
    return sorted(found, reverse=True)


def searched(table: tf.Tensor, limits: Sequence[int], widths: Sequence[int], alpha: float = 1.0) -> Hypotheses:
    rows, lanes = table.shape[0], max(widths)
    return beam(
        history_step(table, lanes), 1, END, State(started(rows, lanes), ()), tf.constant(limits, tf.int32), tf.constant(widths, tf.int32),
        alpha=alpha,
    )  # fmt: skip


def texts(found: Hypotheses, row: int) -> list[tuple[int, ...]]:
    return [tuple(token for token in ids if token) for ids in found.ids.numpy()[row].tolist()]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0])
def test_a_wide_beam_finds_what_an_exhaustive_search_finds(alpha: float) -> None:
    rows, limit, width = 4, 5, 40
    table, tensor = history_model(rows)
    found = searched(tensor, [limit] * rows, [width] * rows, alpha)
    for row in range(rows):
        expected = exhaustive(table, row, limit, alpha)
        np.testing.assert_allclose(found.scores[row, :31], [score for score, _, _ in expected], rtol=1e-5)
        np.testing.assert_allclose(found.log_probabilities[row, :31], [total for _, total, _ in expected], rtol=1e-5)
        assert texts(found, row)[:31] == [ids for _, _, ids in expected]
        assert (found.scores.numpy()[row, 31:] < -1e8).all(), "there are no more"


def test_scores_are_those_of_the_ids() -> None:
    table, tensor = history_model(6, seed=3)
    found = searched(tensor, [9] * 6, [3] * 6)
    for row in range(6):
        for lane, ids in enumerate(texts(found, row)):
            total = log_probability(table, row, [*ids, END])
            assert found.log_probabilities[row, lane].numpy() == pytest.approx(total, rel=1e-4)
            assert found.scores[row, lane].numpy() == pytest.approx(total / ((6 + len(ids)) / 6), rel=1e-4)
        assert sorted(found.scores[row].numpy(), reverse=True) == found.scores[row].numpy().tolist()


def test_a_beam_of_one_is_greedy() -> None:
    _, tensor = history_model(30, seed=5)
    limits = [1 + row % 7 for row in range(30)]
    found = searched(tensor, limits, [1] * 30)
    ids, totals = greedy(history_step(tensor, 1), 1, END, started(30, 1), tf.constant(limits, tf.int32))
    np.testing.assert_array_equal(found.ids[:, 0], ids)
    np.testing.assert_allclose(found.log_probabilities[:, 0], totals, rtol=1e-5)


def test_greedy_takes_the_best_of_each_step() -> None:
    table, tensor = history_model(12, seed=7)
    ids, totals = greedy(history_step(tensor, 1), 1, END, started(12, 1), tf.fill([12], 8))
    for row in range(12):
        written: list[int] = []
        while len(written) < 7:
            history = (1 + sum(token * 3 ** (place + 1) for place, token in enumerate(written))) % 97
            token = int(table[row, history].argmax())
            if token == END:
                break
            written.append(token)
        assert [token for token in ids[row].numpy() if token] == written
        assert totals[row].numpy() == pytest.approx(log_probability(table, row, [*written, END]), rel=1e-4)


def test_neighbours_and_their_beams_change_nothing() -> None:
    _, tensor = history_model(6, seed=9)
    limits, widths = [3, 9, 1, 6, 9, 4], [2, 5, 3, 1, 4, 2]
    together = searched(tensor, limits, widths)
    for row in range(6):
        alone = searched(tensor[row : row + 1], limits[row : row + 1], widths[row : row + 1])
        width = widths[row]
        np.testing.assert_allclose(together.scores[row, :width], alone.scores[0, :width], rtol=1e-6)
        np.testing.assert_allclose(together.scores[row, width:], -1e9)
        assert texts(together, row)[:width] == texts(alone, 0)[:width]


def test_the_end_is_forced_at_the_limit() -> None:
    _, tensor = history_model(3)
    found = searched(tensor, [1, 2, 3], [4] * 3)
    assert [max(map(len, texts(found, row))) for row in range(3)] == [0, 1, 2]
    there = (found.scores.numpy() > -1e8).sum(1).tolist()
    assert there == [1, 3, 4], "of one token there is one sequence, of two there are three"


def test_what_is_never_written() -> None:
    """As if it had no probability, in all of the beam and at the end of a row."""
    banned = END + 2
    table, tensor = history_model(5, seed=11)
    without = np.array(table)
    without[..., banned] = -1e9
    limits, widths = [6, 6, 6, 1, 2], [3, 1, 4, 2, 2]
    found = beam(
        history_step(tensor, 4), 1, END, State(started(5, 4), ()), tf.constant(limits), tf.constant(widths), alpha=1.0, never=(0, banned)
    )  # fmt: skip
    expected = searched(tf.constant(without, tensor.dtype), limits, widths)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)
    assert banned not in found.ids.numpy() and banned in searched(tensor, limits, widths).ids.numpy()
    ids, _ = greedy(history_step(tensor, 1), 1, END, started(5, 1), tf.constant(limits), (0, banned))
    same, _ = greedy(history_step(tf.constant(without, tensor.dtype), 1), 1, END, started(5, 1), tf.constant(limits))
    np.testing.assert_array_equal(ids, same)


@pytest.mark.parametrize("size", [7, 511, 512, 1000, 8000])
@pytest.mark.parametrize("count", [1, 6, 300])
def test_the_largest_are_those_of_a_sort(size: int, count: int) -> None:
    draw = np.random.default_rng(size + count)
    values = draw.normal(size=(9, size)).astype(np.float32).round(1)  # many are equal
    values[0, -3:], values[1], values[2, 64:128] = 9.0, -1e9, 8.0
    count = min(count, size)
    for function in (largest, tf.function(largest, autograph=False)):
        found, places = function(tf.constant(values), tf.constant(count))
        order = np.argsort(-values, 1, kind="stable")[:, :count]
        np.testing.assert_array_equal(places, order)
        np.testing.assert_array_equal(found, np.take_along_axis(values, order, 1))


def test_a_search_in_a_graph_of_no_rows_and_of_unknown_shapes() -> None:
    table, _ = history_model(2)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int32)])
    def search(limits: tf.Tensor) -> Hypotheses:
        rows = tf.shape(limits)[0]
        shared = tf.zeros([rows, 0])

        def step(tokens: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
            flat = tf.repeat(table[:1, 0], tf.shape(tokens)[0], 0)
            return flat, State(state.own, tf.concat([state.shared, tf.ones([rows, 1])], 1))

        return beam(step, 1, END, State((), shared), limits, tf.fill([rows], 2), alpha=1.0)

    assert search(tf.zeros([0], tf.int32)).ids.shape[0] == 0
    assert search(tf.constant([3, 1])).scores.shape == [2, 2]
