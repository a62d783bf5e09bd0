"""The encoded store: what was written is read, in the smallest dtype, row by row and in padded batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_tasks.data.store import Store, write_store

Rows = list[list[int]]
ROWS = st.lists(st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(0, 300), max_size=6), min_size=1, max_size=8)


def ragged(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    return np.array([value for row in rows for value in row], np.int64), np.array([len(row) for row in rows], np.int64)


def chunks(rows: Rows, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield len(part), {"tokens": ragged(part), "label": np.arange(start, start + len(part), dtype=np.int32)}


def fixed(width: int) -> Callable[[str, int], int]:
    return lambda name, longest: width


def smallest(values: list[int]) -> np.dtype:
    """The first of the integer types, narrow before wide and unsigned before signed, that holds all values."""
    for bits in (8, 16, 32, 64):
        for name, low, high in ((f"uint{bits}", 0, 2**bits - 1), (f"int{bits}", -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)):
            if all(low <= value <= high for value in values):
                return np.dtype(name)
    raise AssertionError(values)


@settings(max_examples=50, deadline=None)
@given(ROWS, st.integers(1, 4), st.integers(0, 7), st.integers(0, 2), st.randoms())
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, size: int, width: int, extra: int, random: Any
) -> None:
    folder = tmp_path_factory.mktemp("store") / "train"
    store = write_store(folder, chunks(rows, size))
    assert store.rows == len(rows)
    lengths = store.lengths("tokens")
    assert (lengths.dtype, lengths.tolist()) == (np.int64, [len(row) for row in rows])
    assert store.values["tokens"].dtype == smallest([value for row in rows for value in row])
    chosen = random.sample(range(len(rows)), random.randint(1, len(rows)))
    batch = store.batch(np.array(chosen), len(chosen) + extra, fixed(width))
    filled = [rows[row][:width] for row in chosen] + [[]] * extra
    assert batch["tokens"].tolist() == [row + [0] * (width - len(row)) for row in filled]
    assert batch["tokens_lengths"].tolist() == [len(row) for row in filled]
    assert batch["label"].tolist() == chosen + [0] * extra
    assert batch["weight"].tolist() == [1.0] * len(chosen) + [0.0] * extra
    assert batch["row"].tolist() == list(range(len(chosen) + extra))
    types = {name: values.dtype.name for name, values in batch.items()}
    assert types == {"tokens": "int32", "tokens_lengths": "int32", "label": "int32", "weight": "float32", "row": "int32"}


@pytest.mark.parametrize(
    "values",
    [
        [0, 255],
        [256],
        [-1, 127],
        [-1, 128],
        [-129],
        [-1, 2**15 - 1],
        [-1, 2**15],
        [65_536],
        [2**32],
        [-1, 2**31],
        [-1, 2**40],
        [-(2**63), 2**63 - 1],
    ],
)
def test_integers_take_the_smallest_type_that_holds_them(tmp_path: Path, values: list[int]) -> None:
    store = write_store(tmp_path / "a", [(len(values), {"label": np.array(values, np.int64)})])
    assert store.values["label"].dtype == smallest(values)
    assert store.values["label"].tolist() == values


def test_floats_and_fields_of_more_dimensions_stay_as_they_are(tmp_path: Path) -> None:
    scores = np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2)
    pairs = np.arange(8).reshape(4, 2), np.array([1, 0, 3])
    store = write_store(tmp_path / "a", [(2, {"scores": scores[:2], "pairs": (pairs[0][:1], pairs[1][:2])}),
                                         (1, {"scores": scores[2:], "pairs": (pairs[0][1:], pairs[1][2:])})])  # fmt: skip
    batch = store.batch(np.array([2, 1]), 3, fixed(2))
    assert batch["scores"].tolist() == [scores[2].tolist(), scores[1].tolist(), [0, 0]]
    assert batch["scores"].dtype == np.float32
    assert batch["pairs"].tolist() == [[[2, 3], [4, 5]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert batch["pairs_lengths"].tolist() == [2, 0, 0]


def test_the_width_is_asked_of_the_longest_row_of_the_batch(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a", chunks([[1], [2] * 5, [3] * 3, []], 4))
    width = mock.Mock(return_value=5)
    store.batch(np.array([0, 2]), 2, width)
    store.batch(np.array([3]), 2, width)
    assert [call.args for call in width.call_args_list] == [("tokens", 3), ("tokens", 1)]


def test_lengths_near_the_limit_of_a_small_type_do_not_wrap(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a", chunks([[7] * 253, []], 2))
    assert store.row_splits["tokens"].dtype == np.uint8
    assert (store.lengths("tokens") + 10).tolist() == [263, 10]
    batch = store.batch(np.array([1, 0]), 2, fixed(256))
    assert batch["tokens"].sum(1).tolist() == [0, 7 * 253]


def test_fields_of_the_same_lengths_are_aligned(tmp_path: Path) -> None:
    fields = {"tokens": ragged([[1, 2], [3]]), "tags": ragged([[9, 300], [9]]), "letters": ragged([[1], [2, 3]])}
    store = write_store(tmp_path / "a", [(2, fields)])
    assert store.aligned("tokens") == {"tokens", "tags"}
    assert store.aligned("letters") == {"letters"}


CUTS = st.lists(st.integers(0, 40), max_size=6)


@settings(max_examples=50, deadline=None)
@given(ROWS, CUTS, st.integers(0, 5))
def test_the_same_values_in_other_rows(tmp_path_factory: pytest.TempPathFactory, rows: Rows, cuts: list[int], width: int) -> None:
    values, lengths = ragged(rows)
    fields = {"tokens": (values, lengths), "places": (np.arange(len(values)), lengths)}
    store = write_store(tmp_path_factory.mktemp("store") / "train", [(len(rows), fields)])
    splits = np.array([0, *sorted(min(cut, len(values)) for cut in cuts), len(values)])
    recut, expected = store.recut("tokens", splits), [list(range(start, end)) for start, end in pairwise(splits)]
    assert (recut.rows, recut.lengths("tokens").tolist()) == (len(expected), [len(row) for row in expected])
    assert recut.examples == store.examples == len(rows)
    assert recut.aligned("places") == {"tokens", "places"}
    batch = recut.batch(np.arange(len(expected)), len(expected) + 1, fixed(width))
    filled = [row[:width] for row in expected] + [[]]
    assert batch["tokens_lengths"].tolist() == batch["places_lengths"].tolist() == [len(row) for row in filled]
    assert batch["places"].tolist() == [row + [0] * (width - len(row)) for row in filled]
    assert batch["tokens"].tolist() == [
        [int(np.int32(values[place])) for place in row] + [0] * (width - len(row)) for row in filled
    ]
    assert (store.rows, store.lengths("tokens").tolist()) == (len(rows), lengths.tolist())  # as it was


def test_fields_of_other_lengths_cannot_be_recut(tmp_path: Path) -> None:
    fields = {"tokens": ragged([[1, 2], [3]]), "letters": ragged([[1], [2, 3]])}
    with pytest.raises(ValueError, match="not as long as tokens: letters"):
        write_store(tmp_path / "a", [(2, fields)]).recut("tokens", np.array([0, 3]))
    with pytest.raises(ValueError, match="not as long as tokens: label"):
        write_store(tmp_path / "b", chunks([[1, 2], [3]], 2)).recut("tokens", np.array([0, 3]))


def test_large_arrays_are_mapped_and_not_read(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a", chunks([[value] for value in range(6000)], 1000))
    assert isinstance(store.values["tokens"], np.memmap)
    assert store.batch(np.array([5999, 0, 300]), 3, fixed(1))["tokens"].tolist() == [[5999], [0], [300]]


def test_a_store_of_no_rows(tmp_path: Path) -> None:
    assert write_store(tmp_path / "none", []).rows == 0
    store = write_store(tmp_path / "empty", chunks([[], []], 1))
    assert store.lengths("tokens").tolist() == [0, 0]
    assert store.batch(np.array([0, 1]), 2, fixed(3))["tokens"].tolist() == [[0, 0, 0]] * 2


def test_what_an_interrupted_writer_left_is_written_anew(tmp_path: Path) -> None:
    def interrupted() -> Iterator[tuple[int, dict[str, Any]]]:
        yield from chunks([[1, 2], [3]], 1)
        raise KeyboardInterrupt

    folder = tmp_path / "train"
    with pytest.raises(KeyboardInterrupt):
        write_store(folder, interrupted())
    assert [path.name for path in tmp_path.iterdir()] == ["train.partial"]
    store = write_store(folder, chunks([[4]], 1))
    assert [path.name for path in tmp_path.iterdir()] == ["train"]
    assert (store.rows, store.values["tokens"].tolist()) == (1, [4])


def test_a_store_is_plain_files(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    written = write_store(folder, chunks([[1, 2], [], [300]], 2))
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["label.npy", "store.json", "tokens.npy", "tokens.row_splits.npy"]
    assert json.loads((folder / "store.json").read_text()) == {"rows": 3}
    assert np.load(folder / "tokens.npy").tolist() == [1, 2, 300]
    assert np.load(folder / "tokens.row_splits.npy").tolist() == [0, 2, 2, 3]
    again = Store(folder)
    assert (again.rows, again.values["label"].tolist()) == (written.rows, written.values["label"].tolist())
