"""Texts that occur twice: digests that estimate what two texts share, and the pairs that they find."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nlp_tasks.data.duplicates import FEWEST, NEIGHBOURS, PERMUTATIONS, SHINGLE, SIMILAR, digests, near_pairs, text_hash

SHORTEST = FEWEST + SHINGLE - 1
"""Tokens of the shortest row that is compared."""


def digested(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.concatenate([np.zeros(0, np.uint64), *rows])
    return digests(tokens, np.array([len(row) for row in rows], np.int64))


def words(seed: int, length: int) -> np.ndarray:
    """Hashes of so many words, no two equal."""
    return np.random.default_rng(seed).integers(2**63, size=length, dtype=np.uint64)


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Of the features themselves: runs of `SHINGLE` tokens."""
    sets = [{tuple(row[i : i + SHINGLE]) for i in range(len(row) - SHINGLE + 1)} for row in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def changed(row: np.ndarray, *places: int) -> np.ndarray:
    """The row with another word at each place."""
    return np.where(np.isin(np.arange(len(row)), places), row + np.uint64(1), row)


# Digests


def test_a_hash_is_that_of_the_whole_text() -> None:
    texts = ["", " ", "a", "a ", "A", "é", "e\u0301", "a" * 10_000, "a" * 10_001]
    assert len({text_hash(text) for text in texts}) == len(texts)
    assert text_hash("é") == text_hash("\u00e9") < 2**64


def test_rows_that_are_too_short_are_left_out() -> None:
    kept, matrix = digested([words(seed, SHORTEST + more) for seed, more in enumerate([-1, 0, -SHORTEST, 1, -1, 30])])
    assert kept.tolist() == [1, 3, 5]
    assert (matrix.shape, matrix.dtype) == ((3, PERMUTATIONS), np.uint16)


@pytest.mark.parametrize("lengths", [[], [0, 0], [SHORTEST - 1] * 3])
def test_without_a_row_that_is_long_enough_there_are_no_digests(lengths: list[int]) -> None:
    kept, matrix = digested([words(0, length) for length in lengths])
    assert (kept.shape, matrix.shape) == ((0,), (0, PERMUTATIONS))
    assert near_pairs(matrix).shape == (0, 2)


def test_a_row_has_the_same_digest_in_any_company() -> None:
    """No feature reaches over the end of a row, and those of short rows between are no one's."""
    rows = [words(seed, length) for seed, length in enumerate([12, 3, 40, 0, 11, 9, SHORTEST])]
    kept, matrix = digested(rows)
    alone = [digested([rows[row]])[1][0] for row in kept]
    np.testing.assert_array_equal(matrix, alone)


def test_the_order_of_words_makes_another_text() -> None:
    row = words(0, 40)
    _, matrix = digested([row, row[::-1]])
    assert (matrix[0] != matrix[1]).mean() > 0.9


def test_digests_estimate_the_share_of_features_that_two_texts_have_in_common() -> None:
    random = np.random.default_rng(1)
    rows, exact = [], []
    for seed in range(100):
        row = words(seed, 60)
        places = random.choice(60, size=seed % 16, replace=False)
        rows += [row, changed(row, *places)]
        exact.append(jaccard(rows[-2], rows[-1]))
    _, matrix = digested(rows)
    estimated = (matrix[::2] == matrix[1::2]).mean(1)
    assert min(exact) < 0.3 and max(exact) == 1
    # A share of 64 numbers has a standard deviation of at most 1/16; four of them for the mean of a hundred.
    assert np.abs(estimated - exact).max() < 4 / 16
    assert np.mean(estimated - exact) == pytest.approx(0, abs=4 / 16 / 10)


# Pairs


def test_near_copies_are_found_and_unlike_texts_are_not() -> None:
    rows = [words(seed, 80) for seed in range(200)]
    planted = {(5, 150), (17, 18), (0, 199)}
    for index, (one, other) in enumerate(planted):
        rows[other] = changed(rows[one], 20 + index)  # shares 75 of 81 features
    half = changed(rows[40], *range(40))
    kept, matrix = digested([*rows, half])
    assert jaccard(rows[40], half) < 0.4
    assert {tuple(pair) for pair in kept[near_pairs(matrix)].tolist()} == planted


def test_pairs_that_share_too_little_are_left_out() -> None:
    """However they fall into bands: what counts is the share of equal numbers."""
    random = np.random.default_rng(0)
    same = np.arange(0, PERMUTATIONS + 1)
    matrix = random.integers(2**16, size=(len(same) * 2, PERMUTATIONS), dtype=np.uint16)
    for row, count in enumerate(same):
        matrix[2 * row + 1, :count] = matrix[2 * row, :count]
    expected = [[2 * row, 2 * row + 1] for row, count in enumerate(same) if count / PERMUTATIONS >= SIMILAR]
    assert len(expected) == 13
    assert near_pairs(matrix).tolist() == expected


def test_each_pair_comes_once_and_in_order() -> None:
    row = words(3, 50)
    _, matrix = digested([row, words(4, 50), row, row, words(5, 50), row])
    pairs = near_pairs(matrix).tolist()
    assert pairs == sorted(pairs)
    assert pairs == [[0, 2], [0, 3], [0, 5], [2, 3], [2, 5], [3, 5]]


def test_many_equal_rows_make_few_pairs() -> None:
    """Each is paired with the first and with its neighbours: all pairs of 20,000 rows would be 200 million."""
    count = 20_000
    _, matrix = digested([words(3, SHORTEST)])
    pairs = near_pairs(np.repeat(matrix, count, axis=0))
    assert len(pairs) < (NEIGHBOURS + 1) * count
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert {*pairs[:, 1].tolist()} == {*range(1, count)}
