"""Modules imported at their first use, so that `--help`, `list` and most error messages do not wait for TensorFlow."""

from __future__ import annotations

import importlib
from typing import Any


class _LazyModule:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)

    def __repr__(self) -> str:
        return f"<lazy module {self._name!r}>"


def lazy(name: str) -> Any:
    """The module `name`, imported when an attribute of it is first asked for.

    Example:
        >>> tf = lazy("tensorflow")   # nothing is imported yet
        >>> tf.constant(1)            # now it is
    """
    return _LazyModule(name)
