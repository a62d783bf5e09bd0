"""The tasks. The registry below is the one line that a new task adds; nothing is imported before it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nlp_tasks.errors import UserError, nearest

if TYPE_CHECKING:
    from nlp_tasks.tasks.task import Task

REGISTRY = {
    "sentiment": "nlp_tasks.tasks.sentiment:Sentiment",
    "tagging": "nlp_tasks.tasks.tagging:Tagging",
}

VERBS = {
    "predict": "The model's answer for each line of text.",
}
"""The commands that tasks declare, known here so that `--help` need not import them."""

DOCUMENTS = ("conllu",)
"""Their formats, beside lines of text."""


def find(name: str) -> type[Task]:
    """The class of a task by its name in a recipe."""
    if name not in REGISTRY:
        raise UserError(f"[task] name = {name!r}: no such task", nearest(name, REGISTRY))
    module, _, attribute = REGISTRY[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
