"""N-gram keys against a plain Python reference."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlp_tasks.text.ngrams import ID_BITS, NgramVocabulary, ngram_keys
from nlp_tasks.text.vocabulary import UNKNOWN

LARGEST = 2**ID_BITS - 1
BATCHES = st.lists(st.lists(st.sampled_from([UNKNOWN, 2, 3, 4, LARGEST]), max_size=7), max_size=4)


def ragged(rows: list[list[int]]) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_lengths(tf.constant([*chain(*rows)], tf.int32), tf.constant([*map(len, rows)], tf.int64))


def reference(row: list[int], order: int) -> set[int]:
    grams = [row[start : start + n] for n in range(1, order + 1) for start in range(len(row) - n + 1)]
    return {sum(token << 21 * place for place, token in enumerate(gram)) for gram in grams if UNKNOWN not in gram}


@settings(max_examples=100, deadline=None)
@given(BATCHES, st.integers(1, 3))
@example([], 3)
@example([[], [LARGEST] * 3, [], [2, UNKNOWN, 2, 3]], 3)
def test_keys_are_those_of_the_reference_once_a_row(rows: list[list[int]], order: int) -> None:
    keys = ngram_keys(ragged(rows), order).to_list()
    assert [set(row) for row in keys] == [reference(row, order) for row in rows]
    assert all(len(row) == len(set(row)) for row in keys)


def test_the_key_of_a_trigram_is_written_out() -> None:
    assert max(ngram_keys(ragged([[5, 6, 7]]), 3).to_list()[0]) == 5 + 6 * 2_097_152 + 7 * 4_398_046_511_104


@settings(max_examples=60, deadline=None)
@given(BATCHES, st.sets(st.integers(0, 40), min_size=1))
def test_lookup_gives_the_place_of_each_known_ngram(rows: list[list[int]], chosen: set[int]) -> None:
    everything = sorted(set().union(*(reference(row, 2) for row in rows), {17}))
    known = np.array([key for index, key in enumerate(everything) if index in chosen or key == 17], np.int64)
    ids = NgramVocabulary(known, 2).lookup(ragged(rows))
    expected = [Counter(known.tolist().index(key) + 1 for key in reference(row, 2) if key in known) for row in rows]
    assert ids.dtype == tf.int32
    assert [Counter(row) for row in ids.to_list()] == expected


@pytest.fixture
def ngrams() -> NgramVocabulary:
    return NgramVocabulary(np.array([2, 3, 2 + (3 << 21), 3 + (2 << 21) + (3 << 42)], np.int64), 3)


def test_saved_and_loaded(ngrams: NgramVocabulary, tmp_path: Path) -> None:
    np.savez(tmp_path / "ngrams.npz", keys=ngrams.keys, order=3)
    loaded = NgramVocabulary.load(tmp_path / "ngrams.npz")
    assert (loaded.keys.tolist(), loaded.order, len(loaded)) == (ngrams.keys.tolist(), 3, 5)
