"""What TensorFlow is told about this machine before it is imported, and work done side by side on its cores."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_decided: set[str] = set()
"""Variables that `prepare` has set, and nobody before."""

PARTS = 4
"""Above this many cores, cores join to give an op more threads: with many more parts, the matrix products of each get too small."""


def prepare() -> None:
    """Sets what TensorFlow reads once, when it is first imported; what the environment already says stands.

    oneDNN is on. The threads of one op (TF_NUM_INTRAOP_THREADS) are few, one on fewer than eight cores: the many small matrix products of
    recurrent networks do not share well, so that a batch is computed in as many parts side by side as there are cores (`parts`).
    """
    decided = {
        "TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow",
        "TF_NUM_INTRAOP_THREADS": str(max(1, cores() // PARTS)),
    }  # fmt: skip
    for name in decided.keys() - os.environ.keys():
        os.environ[name] = decided[name]
        _decided.add(name)


def given() -> dict[str, str]:
    """The environment without what `prepare` decided: for a process on other cores, which decides for itself."""
    return {name: value for name, value in os.environ.items() if name not in _decided}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parts() -> int:
    """Into how many parts a batch is cut on a CPU so that all cores work."""
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return max(1, cores() // int(threads)) if threads.isdigit() and int(threads) else 1


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` on as many threads as a batch has parts, results in order, reading no more than one item a thread ahead."""
    with ThreadPoolExecutor(parts()) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > parts():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def cpu_flags() -> set[str]:
    """What the CPU can do, as Linux names it; empty where that is not to be had."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return set()
    lines = [line for line in info.read_text().split("\n") if line.startswith(("flags", "Features"))]
    return set(lines[0].split(":", 1)[1].split()) if lines else set()
