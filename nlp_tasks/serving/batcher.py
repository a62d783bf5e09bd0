"""Requests that arrive together are answered together: queues by signature, batches of bounded size, a deadline for each request.

Everything but the signatures themselves runs on the event loop, so that nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np

from nlp_tasks.serving.refused import Refused, full, invalid, late
from nlp_tasks.serving.tensors import Arrays, stacked

SQUARED = 1 << 27
"""Rows times the square of the longest, in bytes, stay below this in a batch: what the memory of attention grows with."""

_log = logging.getLogger(__name__)


class Signature(Protocol):
    """What answers."""

    model: str
    """Whose it is."""
    name: str

    @property
    def row_wise(self) -> bool:
        """Whether each row of the outputs is the answer to the same row of the inputs, whatever stands in the others."""

    @property
    def alike(self) -> Sequence[str]:
        """Inputs of numbers that say how much is to be computed: a batch takes the time of its largest."""

    def __call__(self, inputs: Arrays, seconds: float) -> dict[str, np.ndarray]:
        """Outputs by name, computed in a thread of its own. Raises Refused where the inputs are to blame, or after so many seconds."""


@dataclass(frozen=True)
class Limits:
    """What a server takes on.

    Attributes:
        rows: of a batch; 1 answers each row alone.
        bytes: of a batch: its rows times the longest of them. One row may be longer.
        wait: seconds that a request waits for others at most.
        queue: requests that are under way.
        queue_bytes: of their bodies, together.
        deadline: seconds until a request is answered.
    """

    rows: int = 64
    bytes: int = 1 << 18
    wait: float = 0.002
    queue: int = 256
    queue_bytes: int = 1 << 26
    deadline: float = 30.0


@dataclass(eq=False)
class Work:
    """Rows of a request that fit into a batch."""

    inputs: Arrays
    rows: int
    longest: int
    """Bytes of the longest row."""
    request: object
    """What it is a part of."""
    arrived: float
    deadline: float
    answer: asyncio.Future[dict[str, np.ndarray]]

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it."""
        return self.answer.done() or self.deadline <= asyncio.get_running_loop().time()


@dataclass(eq=False)
class Queue:
    """What waits for one signature of one version."""

    waiting: deque[Work] = field(default_factory=deque)
    rows: int = 0

    def add(self, work: Work) -> None:
        self.waiting.append(work)
        self.rows += work.rows

    def remove(self, work: Work) -> None:
        if work in self.waiting:
            self.waiting.remove(work)
            self.rows -= work.rows


class Batcher:
    """Answers requests, as many together as there are.

    A queue waits until it holds as many rows as its last batch had, or until its first request has waited for `limits.wait`: requests one
    after another never wait, and many at once fill batches. Signatures take turns, and so do the requests of one, part by part, so that
    nobody waits for all of somebody else's ten thousand rows.

    Args:
        limits: what is taken on.
        workers: batches that are answered at the same time.
        told: called with each batch's signature, requests and rows.
    """

    def __init__(self, limits: Limits, workers: int, told: Callable[[Signature, int, int], None] = lambda *_: None) -> None:
        self.limits, self._told = limits, told
        self.requests = self.bytes = 0
        """Under way."""
        self._queues: dict[Signature, Queue] = {}
        """None is empty: a version that is gone leaves nothing behind."""
        self._last: WeakKeyDictionary[Signature, int] = WeakKeyDictionary()
        """Rows of each signature's last batch: so many are likely to come again."""
        self._turn, self._turns = 0, WeakKeyDictionary[Signature, int]()
        """Batches so far, and which of them was each signature's last."""
        self._free, self._pool = workers, ThreadPoolExecutor(workers, "answering")
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    @contextmanager
    def admitted(self) -> Iterator[Callable[[int], None]]:
        """One request is under way within; the function counts bytes of its body. Raises Refused where there is no room."""
        if self.requests >= self.limits.queue:
            raise full(f"Too many requests: {self.requests} are under way")
        self.requests += 1
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if self.bytes + size > self.limits.queue_bytes:
                raise full(f"Too many requests: their bodies have {self.bytes + size:,} bytes together")
            self.bytes += size
            held += size

        try:
            yield hold
        finally:
            self.requests -= 1
            self.bytes -= held

    async def answer(self, signature: Signature, inputs: Arrays, deadline: float) -> list[dict[str, np.ndarray]]:
        """Outputs by name, of some rows after others. Where the caller is cancelled, what has not begun is dropped.

        Args:
            inputs: arrays; those of a row-wise signature have one number of rows.
            deadline: by the clock of the event loop.

        Raises:
            Refused: the inputs do not fit, or the deadline has passed.
        """
        request = object()
        works = [_work(part, request, deadline) for part in self._parts(signature, inputs)]
        queue = self._queues.setdefault(signature, Queue())
        for work in works:
            queue.add(work)
        self._pump()
        try:
            async with asyncio.timeout_at(deadline):
                return [await work.answer for work in works]
        except TimeoutError:
            raise late(self.limits.deadline) from None
        finally:
            for work in works:
                work.answer.cancel()
                queue.remove(work)
            if not queue.waiting and self._queues.get(signature) is queue:
                del self._queues[signature]

    async def close(self, seconds: float) -> None:
        """Waits for what is running, so long at most."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _parts(self, signature: Signature, inputs: Arrays) -> list[Arrays]:
        """A request as parts that fit into a batch each, where the signature answers rows."""
        if not signature.row_wise:
            return [inputs]
        if not all(array.ndim for array in inputs.values()):
            raise invalid("Batching Run() input tensors must have at least one dimension")
        if len({len(array) for array in inputs.values()}) != 1:
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        lengths = _lengths(inputs)
        cuts, longest = [0], 0
        for row, length in enumerate(lengths):
            longest = max(longest, length)
            if not self._fits(row - cuts[-1] + 1, longest):
                cuts.append(row)
                longest = length
        return [{name: array[a:b] for name, array in inputs.items()} for a, b in pairwise([*cuts, len(lengths)])]

    def _fits(self, rows: int, longest: int) -> bool:
        """Whether rows of this length make one batch."""
        limits = self.limits
        return rows <= 1 or (rows <= limits.rows and rows * longest <= limits.bytes and rows * longest**2 <= SQUARED)

    def _pump(self) -> None:
        """Begins batches while there is a free worker and a queue that need not wait; calls itself again when one need not any more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._free and self._queues:
            ripens = {signature: self._ripens(signature, queue) for signature, queue in self._queues.items()}
            ripe = [signature for signature, at in ripens.items() if at <= loop.time()]
            if not ripe:
                self._timer = loop.call_at(min(ripens.values()), self._pump)
                return
            signature = min(ripe, key=lambda one: (self._turns.get(one, 0), ripens[one]))
            self._turn += 1
            self._turns[signature] = self._turn
            if batch := self._take(signature):
                self._free -= 1
                task = loop.create_task(self._answer(signature, batch))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    def _ripens(self, signature: Signature, queue: Queue) -> float:
        """When a queue need not wait any longer."""
        arrived = queue.waiting[0].arrived
        is_ripe = not signature.row_wise or queue.rows >= min(self._last.get(signature, 1), self.limits.rows)
        return arrived if is_ripe else arrived + self.limits.wait

    def _take(self, signature: Signature) -> list[Work]:
        """The next batch of a queue, in the order in which requests came; those that do not fit stay where they are, and what is left of
        those that are in it goes behind all others."""
        queue, batch = self._queues[signature], list[Work]()
        rows = longest = 0
        for work in list(queue.waiting):
            if work.is_over:
                queue.remove(work)
            elif not batch or (
                signature.row_wise
                and self._fits(rows + work.rows, max(longest, work.longest))
                and all(work.inputs[name].ndim == array.ndim for name, array in batch[0].inputs.items())
                and all(work.inputs[name].max(initial=0) == batch[0].inputs[name].max(initial=0) for name in signature.alike)
            ):
                queue.remove(work)
                batch.append(work)
                rows, longest = rows + work.rows, max(longest, work.longest)
            if rows >= self.limits.rows:
                break
        if batch:
            self._last[signature] = rows
            taken = {work.request for work in batch}
            queue.waiting = deque(sorted(queue.waiting, key=lambda work: work.request in taken))
        if not queue.waiting:
            del self._queues[signature]
        return batch

    async def _answer(self, signature: Signature, batch: list[Work]) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._told(signature, len(batch), sum(work.rows for work in batch))
            seconds = max(work.deadline for work in batch) - loop.time()
            results = await loop.run_in_executor(self._pool, _results, signature, [w.inputs for w in batch], seconds)
            for work, result in zip(batch, results, strict=True):
                if work.answer.done():
                    continue
                if isinstance(result, BaseException):
                    work.answer.set_exception(result)
                    work.answer.exception()  # another part of the request may have been refused before: nobody asks for this one
                else:
                    work.answer.set_result(result)
        finally:
            self._free += 1
            self._pump()


Result = dict[str, np.ndarray] | BaseException


def _results(signature: Signature, batch: Sequence[Arrays], seconds: float) -> list[Result]:
    """The answers to a batch, or to each of its requests alone where the batch fails: a bad one fails alone."""
    end = time.monotonic() + seconds
    together = _answered(signature, stacked(batch), end)
    if len(batch) == 1:
        return [together]
    if isinstance(together, BaseException):
        return [_answered(signature, inputs, end) for inputs in batch]
    cuts = np.cumsum([0, *(_rows(inputs) for inputs in batch)])
    if any(not array.ndim or len(array) != cuts[-1] for array in together.values()):
        return [RuntimeError("a signature that is row-wise gave another number of rows than it got")] * len(batch)
    return [{name: array[a:b] for name, array in together.items()} for a, b in pairwise(cuts)]


def _answered(signature: Signature, inputs: Arrays, end: float) -> Result:
    """`end`: by time.monotonic."""
    try:
        return signature(inputs, max(0.001, end - time.monotonic()))
    except Refused as error:
        return error
    except Exception as error:
        _log.exception("a signature failed")
        return error


def _work(inputs: Arrays, request: object, deadline: float) -> Work:
    loop = asyncio.get_running_loop()
    return Work(inputs, _rows(inputs), max(_lengths(inputs), default=0), request, loop.time(), deadline, loop.create_future())


def _rows(inputs: Arrays) -> int:
    return max((len(array) for array in inputs.values() if array.ndim), default=1)


def _lengths(inputs: Arrays) -> list[int]:
    """Bytes of each row."""
    totals: list[int] = []
    for array in inputs.values():
        if array.dtype != object:
            lengths = [array.itemsize * int(np.prod(array.shape[1:]))] * (len(array) if array.ndim else 1)
        elif array.ndim == 1:
            lengths = [len(text) for text in array]
        else:
            lengths = [sum(len(text) + 1 for text in row) for row in array.reshape(len(array) if array.ndim else 1, -1)]
        totals = [a + b for a, b in zip(totals, lengths, strict=False)] if totals else lengths
    return totals
