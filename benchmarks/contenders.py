"""What the benchmarks against peers share: contenders that are processes of their own and take turns, medians, the table."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[[], Any]


# A contender's side


def median(call: Call) -> float:
    """Milliseconds of one call: the median of as many as fit a third of a second, at least three."""
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < 0.33:
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(taken)


def work(contender: Callable[[str, str], Call]) -> None:
    """Answers lines "size|kind" by milliseconds ("waiting": by what the call returns), until there are no more."""
    calls: dict[str, Call] = {}
    for line in sys.stdin:
        if line not in calls:
            calls[line] = contender(*line.rstrip("\n").split("|"))
            for _ in range(2):  # traced, and compiled
                calls[line]()
        print(f"milliseconds {calls[line]() if 'waiting' in line else median(calls[line])}", flush=True)


# The other side


class Contender:
    """A process that waits for its turn."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip

    def turn(self, size: str, kind: str) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{size}|{kind}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("milliseconds"):
                return float(line.split()[1])
        raise SystemExit(f"{' '.join(map(str, self.process.args))} ended at {size} {kind}: run it by hand")


def alternate(runs: dict[str, tuple[Contender, str]], size: str, turns: int) -> dict[str, float]:
    for contender, kind in runs.values():
        contender.turn(size, kind)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, (contender, kind) in runs.items():
            taken[name].append(contender.turn(size, kind))
    return {name: statistics.median(values) for name, values in taken.items()}


def processor() -> str:
    lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    cpu = {key.strip(): value.strip() for key, value in lines}
    units = sorted(flag for flag in cpu["flags"].split() if flag.startswith(("avx", "amx", "fma")))
    return f"{cpu['model name']}, {len(os.sched_getaffinity(0))} cores ({' '.join(units)}), Python {platform.python_version()}"


def table(title: str, header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    print(f"\n{title}")
    for row in [header, *rows]:
        print(
            "  ".join(
                f"{cell:>{width}}" if column else f"{cell:{width}}"
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )
    sys.stdout.flush()
