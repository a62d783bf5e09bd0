"""Threads, parts, and work side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from nlp_tasks import machine


@pytest.mark.parametrize(
    ("cores", "asked", "threads", "parts"),
    [
        (1, None, "1", 1),
        (2, None, "1", 2),
        (4, None, "1", 4),
        (6, None, "1", 6),
        (16, None, "4", 4),
        (2, "2", "2", 1),
        (8, "1", "1", 8),
    ],
)
def test_cores_are_shared_between_parts_and_the_threads_of_an_op(
    monkeypatch: pytest.MonkeyPatch, cores: int, asked: str | None, threads: str, parts: int
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", asked)
    machine.prepare()
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == threads
    assert machine.parts() == parts


def test_without_a_number_of_threads_a_batch_is_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "0")
    assert machine.parts() == 1


def test_results_come_in_order_and_items_are_read_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "parts", lambda: 2)
    first_may_end, read = threading.Event(), []

    def items() -> Iterator[int]:
        for number in range(6):
            read.append(number)
            yield number

    def function(number: int) -> int:
        if number == 0:
            assert first_may_end.wait(10)  # the second is computed meanwhile
        if number == 1:
            first_may_end.set()
        return number * number

    results = machine.side_by_side(function, items())
    assert next(results) == 0
    assert len(read) == 3
    assert list(results) == [1, 4, 9, 16, 25]
    assert list(machine.side_by_side(function, [])) == []


def test_an_error_comes_out_where_its_result_would() -> None:
    def function(number: int) -> float:
        return 1 / number

    results = machine.side_by_side(function, [1, 2, 0, 4])
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)
