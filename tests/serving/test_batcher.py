"""Batches, queues and deadlines, with signatures that say what they were given."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from nlp_tasks.serving.batcher import Batcher, Limits
from nlp_tasks.serving.refused import Refused, invalid
from nlp_tasks.serving.tensors import Arrays


class Doubling:
    """Answers each row with itself twice, and counts its rows; waits for `gate` before."""

    model, name = "doubling", "serving_default"
    alike: tuple[str, ...] = ()

    def __init__(self, *, row_wise: bool = True, is_open: bool = True, bad: bytes = b"bad") -> None:
        self.row_wise, self.gate, self.batches, self.bad = row_wise, threading.Event(), list[list[Any]](), bad
        if is_open:
            self.gate.set()

    def __call__(self, inputs: Arrays, seconds: float) -> dict[str, np.ndarray]:
        self.batches.append(inputs["x"].tolist())
        if not self.gate.wait(seconds):
            raise Refused(504, "too late")
        if self.bad in inputs["x"]:
            raise invalid("a bad row")
        if b"defect" in inputs["x"]:
            raise ZeroDivisionError("a defect")
        return {"y": inputs["x"] + inputs["x"], "n": np.array([len(inputs["x"])] * len(inputs["x"]))}


def texts(*rows: str) -> dict[str, np.ndarray]:
    return {"x": np.array([row.encode() for row in rows], object)}


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def soon(seconds: float = 10.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def ask(batcher: Batcher, signature: Doubling, *rows: str, seconds: float = 10.0) -> list[str]:
    parts = await batcher.answer(signature, texts(*rows), soon(seconds))
    return [text.decode() for outputs in parts for text in outputs["y"]]


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.002)


async def hold_worker(batcher: Batcher) -> tuple[Doubling, asyncio.Task[Any]]:
    """Keeps the only worker busy until the gate opens."""
    holding = Doubling(is_open=False)
    task = asyncio.create_task(ask(batcher, holding, "held"))
    await until(lambda: bool(holding.batches))
    return holding, task


def test_requests_that_arrive_together_are_answered_together() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(), 1), Doubling()
        holding, held = await hold_worker(batcher)
        tasks = [asyncio.create_task(ask(batcher, signature, f"a{i}", f"b{i}")) for i in range(5)]
        await asyncio.sleep(0.02)
        holding.gate.set()
        assert await asyncio.gather(*tasks) == [[f"a{i}" * 2, f"b{i}" * 2] for i in range(5)]
        assert [len(batch) for batch in signature.batches] == [10]
        await held

    run(test)


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        (Limits(rows=4), [4, 4, 2]),
        (Limits(rows=1), [1] * 10),
        (Limits(bytes=3 * 8), [3, 3, 3, 1]),  # eight bytes a row
        (Limits(rows=3, bytes=2 * 8), [2] * 5),
    ],
)
def test_batches_are_bounded(limits: Limits, sizes: list[int]) -> None:
    async def test() -> None:
        batcher, signature = Batcher(limits, 1), Doubling()
        holding, held = await hold_worker(batcher)
        tasks = [asyncio.create_task(ask(batcher, signature, f"row {i:4}")) for i in range(10)]
        await asyncio.sleep(0.02)
        holding.gate.set()
        assert await asyncio.gather(*tasks) == [[f"row {i:4}" * 2] for i in range(10)]
        assert [len(batch) for batch in signature.batches] == sizes
        await held

    run(test)


def test_a_long_row_keeps_the_memory_of_a_batch_bounded() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(), 1), Doubling()
        holding, held = await hold_worker(batcher)
        long = "x" * 20_000  # two of them, squared, are more than SQUARED
        tasks = [asyncio.create_task(ask(batcher, signature, text)) for text in ("a", long, "b", "c")]
        await asyncio.sleep(0.02)
        holding.gate.set()
        await asyncio.gather(*tasks)
        assert [[len(text) for text in batch] for batch in signature.batches] == [[1, 1, 1], [20_000]]
        await held

    run(test)


def test_a_large_request_is_answered_in_parts() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(rows=64), 2), Doubling()
        rows = [f"{i}" for i in range(10_000)]
        assert await ask(batcher, signature, *rows) == [row * 2 for row in rows]
        assert max(len(batch) for batch in signature.batches) == 64
        assert sum(len(batch) for batch in signature.batches) == 10_000

    run(test)


def test_one_client_after_another_never_waits() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(wait=5.0), 1), Doubling()
        begun = time.monotonic()
        for i in range(20):
            await ask(batcher, signature, str(i))
        assert time.monotonic() - begun < 2.5
        assert [len(batch) for batch in signature.batches] == [1] * 20

    run(test)


def test_a_queue_waits_for_as_many_as_came_before_and_no_longer_than_it_may() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(wait=0.3), 1), Doubling()
        holding, held = await hold_worker(batcher)
        tasks = [asyncio.create_task(ask(batcher, signature, str(i))) for i in range(3)]
        await asyncio.sleep(0.02)
        holding.gate.set()
        await asyncio.gather(*tasks, held)
        first = asyncio.create_task(ask(batcher, signature, "a"))
        await asyncio.sleep(0.05)
        assert signature.batches[1:] == []  # three came before
        await asyncio.gather(first, ask(batcher, signature, "b"), ask(batcher, signature, "c"))
        assert signature.batches[1:] == [[b"a", b"b", b"c"]]
        begun = time.monotonic()
        await ask(batcher, signature, "alone")
        assert 0.25 < time.monotonic() - begun < 2
        await ask(batcher, signature, "again")
        assert signature.batches[2:] == [[b"alone"], [b"again"]]

    run(test)


def test_a_bad_request_fails_alone() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(), 1), Doubling()
        holding, held = await hold_worker(batcher)
        tasks = [asyncio.create_task(ask(batcher, signature, text)) for text in ("a", "bad", "b", "defect", "c")]
        await asyncio.sleep(0.02)
        holding.gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [found[0], found[2], found[4]] == [["aa"], ["bb"], ["cc"]]
        assert isinstance(found[1], Refused) and found[1].message == "a bad row"
        assert isinstance(found[3], ZeroDivisionError)
        assert [len(batch) for batch in signature.batches] == [5, 1, 1, 1, 1, 1]
        await held

    run(test)


def test_what_is_not_row_wise_is_never_answered_together() -> None:
    async def test() -> None:
        batcher, flat = Batcher(Limits(rows=2), 1), Doubling(row_wise=False)
        holding, held = await hold_worker(batcher)
        tasks = [asyncio.create_task(ask(batcher, flat, *"abc")) for _ in range(3)]
        await asyncio.sleep(0.02)
        holding.gate.set()
        assert await asyncio.gather(*tasks) == [["aa", "bb", "cc"]] * 3
        assert flat.batches == [[b"a", b"b", b"c"]] * 3
        (outputs,) = await batcher.answer(flat, {"x": np.array([b"a", b"b"], object), "lengths": np.array([2])}, soon())
        assert outputs["y"].tolist() == [b"aa", b"bb"]
        await held

    run(test)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.array([b"a", b"b"], object), "n": np.array([1])}, "must have equal 0th-dimension size"),
        ({"x": np.array(b"a", object)}, "must have at least one dimension"),
    ],
)
def test_rows_that_are_none(inputs: dict[str, np.ndarray], message: str) -> None:
    async def test() -> None:
        with pytest.raises(Refused, match=message):
            await Batcher(Limits(), 1).answer(Doubling(), inputs, soon())

    run(test)


def test_no_rows() -> None:
    async def test() -> None:
        assert await ask(Batcher(Limits(), 1), Doubling()) == []

    run(test)


def test_shorter_rows_are_padded() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(), 1), Doubling(bad=b"none")
        holding, held = await hold_worker(batcher)
        short = {"x": np.array([[b"a"]], object), "n": np.ones((1, 2), np.int32)}
        long = {"x": np.array([[b"b", b"c", b"d"], [b"e", b"f", b"g"]], object), "n": np.ones((2, 1), np.int32)}
        tasks = [asyncio.create_task(batcher.answer(signature, inputs, soon())) for inputs in (short, long)]
        await asyncio.sleep(0.02)
        holding.gate.set()
        found = await asyncio.gather(*tasks)
        assert signature.batches == [[[b"a", b"", b""], [b"b", b"c", b"d"], [b"e", b"f", b"g"]]]
        assert found[0][0]["y"].tolist() == [[b"aa", b"", b""]] and len(found[1][0]["y"]) == 2
        await held

    run(test)


def test_the_deadline_of_a_request() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(deadline=0.1), 1), Doubling()
        holding, held = await hold_worker(batcher)
        with pytest.raises(Refused) as caught:
            await ask(batcher, signature, "late", seconds=0.1)
        assert caught.value.status == 504 and caught.value.message == "Deadline exceeded: no answer within 0.1 s"
        holding.gate.set()
        await held
        await ask(batcher, signature, "in time")
        assert signature.batches == [[b"in time"]]  # what was late is never computed

    run(test)


def test_what_nobody_waits_for_is_dropped() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(), 1), Doubling()
        holding, held = await hold_worker(batcher)
        waiting = asyncio.create_task(ask(batcher, signature, "gone"))
        await asyncio.sleep(0.02)
        waiting.cancel()
        held.cancel()
        await asyncio.gather(waiting, held, return_exceptions=True)
        holding.gate.set()
        assert await ask(batcher, signature, "here") == ["herehere"]
        assert signature.batches == [[b"here"]]

    run(test)


def test_what_runs_ends_at_the_last_deadline_of_its_batch() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(), 1), Doubling(is_open=False)
        holding, held = await hold_worker(batcher)
        soon, later = (asyncio.create_task(ask(batcher, signature, text, seconds=s)) for text, s in (("a", 0.2), ("b", 0.6)))
        await asyncio.sleep(0.02)
        begun = time.monotonic()
        holding.gate.set()
        found = await asyncio.gather(soon, later, return_exceptions=True)
        assert all(isinstance(error, Refused) and error.status == 504 for error in found)
        await held
        signature.gate.set()
        assert await ask(batcher, signature, "here") == ["herehere"]
        assert 0.4 < time.monotonic() - begun < 5

    run(test)


def test_two_workers_answer_side_by_side() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(rows=1), 2), Doubling(is_open=False)
        tasks = [asyncio.create_task(ask(batcher, signature, text)) for text in "abc"]
        await until(lambda: len(signature.batches) == 2)
        await asyncio.sleep(0.02)
        assert len(signature.batches) == 2
        signature.gate.set()
        assert await asyncio.gather(*tasks) == [["aa"], ["bb"], ["cc"]]

    run(test)


def test_signatures_take_turns_by_age() -> None:
    async def test() -> None:
        order: list[str] = []
        batcher = Batcher(Limits(rows=1), 1, lambda signature, requests, rows: order.append(signature.model))
        holding, held = await hold_worker(batcher)
        kinds = []
        for name in ("one", "two", "one", "two"):
            signature = next((kind for kind in kinds if kind.model == name), None) or Doubling()
            signature.model = name
            kinds.append(signature)
        tasks = []
        for signature in kinds:
            tasks.append(asyncio.create_task(ask(batcher, signature, "a")))
            await asyncio.sleep(0.005)
        holding.gate.set()
        await asyncio.gather(*tasks, held)
        assert order == ["doubling", "one", "two", "one", "two"]

    run(test)


def test_nobody_waits_for_all_parts_of_a_large_request() -> None:
    async def test() -> None:
        batcher = Batcher(Limits(rows=2), 1)
        large, small = Doubling(), Doubling()
        holding, held = await hold_worker(batcher)
        first = asyncio.create_task(ask(batcher, large, *"abcdef"))
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(ask(batcher, each, "x", "y")) for each in (large, small)]
        await asyncio.sleep(0.01)
        holding.gate.set()
        done, _ = await asyncio.wait([first, others[1]], return_when=asyncio.FIRST_COMPLETED)
        assert done == {others[1]} and len(large.batches) <= 2
        assert await first == ["aa", "bb", "cc", "dd", "ee", "ff"] and await others[0] == ["xx", "yy"]
        assert large.batches == [[b"a", b"b"], [b"x", b"y"], [b"c", b"d"], [b"e", b"f"]]
        await held

    run(test)


def test_rows_that_take_longer_are_a_batch_of_their_own() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(), 1), Doubling()
        signature.alike = ("length",)
        holding, held = await hold_worker(batcher)
        asked = [{**texts(name), "length": np.array([length])} for name, length in (("a", 5), ("b", 900), ("c", 5))]
        tasks = [asyncio.create_task(batcher.answer(signature, inputs, soon())) for inputs in asked]
        await asyncio.sleep(0.01)
        holding.gate.set()
        await asyncio.gather(*tasks, held)
        assert signature.batches == [[b"a", b"c"], [b"b"]]

    run(test)


def test_the_queue_is_bounded() -> None:
    async def test() -> None:
        batcher = Batcher(Limits(queue=2, queue_bytes=100), 1)
        with batcher.admitted() as hold, batcher.admitted():
            hold(60)
            hold(40)
            with pytest.raises(Refused, match="their bodies have 101 bytes") as caught:
                hold(1)
            assert caught.value.status == 503 and caught.value.headers == {"retry-after": "1"}
            with pytest.raises(Refused, match="2 are under way") as caught, batcher.admitted():
                pass
            assert caught.value.status == 503 and caught.value.headers == {"retry-after": "1"}
        assert (batcher.requests, batcher.bytes) == (0, 0)

    run(test)


def test_nothing_is_kept_of_what_was_answered() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(), 1), Doubling()
        await asyncio.gather(*(ask(batcher, signature, str(i)) for i in range(5)))
        kept = weakref.ref(signature)
        del signature
        await asyncio.sleep(0.02)
        gc.collect()
        assert kept() is None

    run(test)


def test_the_end_waits_for_what_is_running() -> None:
    async def test() -> None:
        batcher, signature = Batcher(Limits(), 1), Doubling(is_open=False)
        task = asyncio.create_task(ask(batcher, signature, "a"))
        await until(lambda: bool(signature.batches))
        begun = time.monotonic()
        await batcher.close(0.1)
        assert 0.05 < time.monotonic() - begun < 2 and not task.done()
        signature.gate.set()
        await batcher.close(5)
        assert await task == ["aa"]

    run(test)


def test_a_signature_that_lies_about_its_rows() -> None:
    class Lying(Doubling):
        def __call__(self, inputs: Arrays, seconds: float) -> dict[str, np.ndarray]:
            super().__call__(inputs, seconds)
            return {"y": np.zeros(1)}

    async def test() -> None:
        batcher, signature = Batcher(Limits(), 1), Lying()
        holding, held = await hold_worker(batcher)
        tasks = [asyncio.create_task(batcher.answer(signature, texts(text), soon())) for text in "ab"]
        await asyncio.sleep(0.02)
        holding.gate.set()
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(found, RuntimeError) and "row-wise" in str(found)
        await held

    run(test)
