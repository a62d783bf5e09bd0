"""Errors that are the user's to mend: one message, one hint, exit code 2, no trace. Everything else is a defect."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right.

    Args:
        message: what is wrong, where (`file:line`), what was received and what was expected.
        hint: what to do about it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"error: {self.message}" + (f"\nhint: {self.hint}" if self.hint else "")


class LineError(UserError):
    """What is wrong with one line of input; whoever reads the lines knows its place and tells it, too."""


def nearest(word: str, choices: Iterable[str], count: int = 3) -> str:
    """`"did you mean …?"` for a misspelt word, or the list of all choices where none is near."""
    choices = sorted(choices)
    near = difflib.get_close_matches(word, choices, n=count, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(near) + "?"
    return "choose one of: " + ", ".join(choices)
