"""The vocabulary: counted, cut, saved one token a line, looked up in graph."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_tasks.errors import UserError
from nlp_tasks.text.vocabulary import PADDING, UNKNOWN, Vocabulary, count_tokens, read_vocabulary, write_vocabulary


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    path = tmp_path / "vocabulary.tsv"
    write_vocabulary(path, Counter({b"rare": 1, b"the": 5, "é".encode(): 2, b"a": 2}), minimum_count=1, size=10)
    assert path.read_bytes() == "the\t5\na\t2\né\t2\nrare\t1\n".encode()
    return Vocabulary(path)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from([b"a", b"b", b"\xc3\xa9", b"don't"]))))
def test_counts(batches: list[list[bytes]]) -> None:
    counts = count_tokens(tf.constant(batch, tf.string) for batch in batches)
    assert counts == Counter(token for batch in batches for token in batch)


def test_ids_follow_padding_and_unknown(vocabulary: Vocabulary) -> None:
    assert (PADDING, UNKNOWN, len(vocabulary)) == (0, 1, 6)
    assert vocabulary.counts == [5, 2, 2, 1]
    ids = vocabulary.lookup(tf.constant([["é", "the"], ["nowhere", ""]]))
    assert ids.dtype == tf.int32
    assert ids.numpy().tolist() == [[4, 2], [1, 1]]


def test_a_file_written_anew_has_a_table_of_its_own(vocabulary: Vocabulary, tmp_path: Path) -> None:
    write_vocabulary(tmp_path / "vocabulary.tsv", Counter({b"b": 3}), minimum_count=1, size=10)
    other = Vocabulary(tmp_path / "vocabulary.tsv")
    assert other.lookup(tf.constant(["b", "the"])).numpy().tolist() == [2, 1]
    assert vocabulary.lookup(tf.constant(["b", "the"])).numpy().tolist() == [1, 2], "the earlier one keeps its own"


def test_ragged_tokens_keep_their_rows(vocabulary: Vocabulary) -> None:
    assert vocabulary.lookup(tf.ragged.constant([["a"], [], ["rare", "?"]], tf.string)).to_list() == [[3], [], [5, 1]]


def test_rare_tokens_and_those_beyond_the_size_stay_out(tmp_path: Path) -> None:
    counts = Counter({b"c": 3, b"b": 2, b"a": 2, b"once": 1})
    write_vocabulary(tmp_path / "rare", counts, minimum_count=2, size=10)
    write_vocabulary(tmp_path / "many", counts, minimum_count=1, size=2)
    assert [token for token, _ in read_vocabulary(tmp_path / "rare")] == [b"c", b"a", b"b"]
    assert [token for token, _ in read_vocabulary(tmp_path / "many")] == [b"c", b"a"]


def test_no_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no token of the training data(.|\n)*minimum_count is 2"):
        write_vocabulary(tmp_path / "none", Counter({b"a": 1}), minimum_count=2, size=10)
    assert not (tmp_path / "none").exists()
