"""Small language models of one's own: train, score and ship as one folder that takes strings and gives answers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from nlp_tasks import machine

if TYPE_CHECKING:
    from nlp_tasks.inference import load as load

try:
    __version__ = version("nlp-tasks")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.0.0"

# Every module of this package is imported after this one: the only place where oneDNN and threads are decided. A run records what was
# in force in its environment.json.
machine.prepare()


def __getattr__(name: str) -> Any:
    """`from nlp_tasks import load` without paying for TensorFlow before it is asked for."""
    if name == "load":
        from nlp_tasks.inference import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
