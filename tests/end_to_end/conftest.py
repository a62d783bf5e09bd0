"""The command line in the process of the tests, which has TensorFlow already; each model is loaded once."""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from nlp_tasks import cli, inference


class Outcome(NamedTuple):
    """What a command left: its exit code, the bytes it wrote, and what it said beside."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()


Call = Callable[..., Outcome]
Load = Callable[[str | Path], inference.Loaded]


@pytest.fixture(scope="module")
def loaded() -> Load:
    """Models are loaded once; a trace takes a second."""
    return functools.cache(inference.load)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], loaded: Load) -> Call:
    """`call("predict", MODEL, given=b"lines")`."""
    monkeypatch.setattr(inference, "load", loaded)

    def called(*arguments: str, given: bytes = b"") -> Outcome:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.setattr(sys, "argv", ["nlp-tasks", *arguments])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
            cli.main()
        raw, err = capsysbinary.readouterr()
        assert isinstance(end.value.code, int)
        return Outcome(end.value.code, raw, err.decode())

    return called
