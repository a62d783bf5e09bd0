"""Progress with time left: a moving bar at a terminal, a plain line every ten seconds in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType

PLAIN_SECONDS = 10.0


def duration(seconds: float) -> str:
    """`"1:02:03"`, or `"2:03"` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """A context in which `advance` tells how far the work is.

    Args:
        title: what is being done.
        total: how many units make the whole; None where nobody knows.
        done: units that were done before (a resumed run).
    """

    def __init__(self, title: str, total: int | None, done: int = 0) -> None:
        self.title, self.total, self._done, self._begun = title, total, done, done
        self._start = self._told = time.monotonic()
        self._moving = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more units are done; `note` is shown beside."""
        self._done += count
        now = time.monotonic()
        if now - self._told >= (0.2 if self._moving else PLAIN_SECONDS):
            self._told = now
            self._write(self._line(now, note))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._moving:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _line(self, now: float, note: str) -> str:
        elapsed = now - self._start
        parts = [self.title]
        if self.total and self._done <= self.total:  # some work has further rounds
            share = self._done / self.total
            if self._moving:
                filled = round(20 * share)
                parts.append("━" * filled + " " * (20 - filled))
            rest = elapsed / max(1, self._done - self._begun) * (self.total - self._done)
            parts += [f"{share:4.0%}", f"{duration(rest)} left"]
        else:
            parts.append(f"{self._done:,}")
        return "  ".join([*parts, note] if note else parts)

    def _write(self, line: str) -> None:
        sys.stderr.write(f"\r\x1b[K{line}" if self._moving else f"{line}\n")
        sys.stderr.flush()


def tell(message: str = "") -> None:
    """A line for the person who watches; results go to standard output, this does not."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
