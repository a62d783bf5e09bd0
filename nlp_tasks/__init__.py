"""Small language models of one's own: train, score and ship as one folder that takes strings and gives answers."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlp_tasks.inference import load as load

try:
    __version__ = version("nlp-tasks")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.0.0"

# TensorFlow reads these once, when it is first imported, and every module of this package is imported after this one:
# the only place where oneDNN is decided. A run records what was in force in its environment.json.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def __getattr__(name: str) -> Any:
    """`from nlp_tasks import load` without paying for TensorFlow before it is asked for."""
    if name == "load":
        from nlp_tasks.inference import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
