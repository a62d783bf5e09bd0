"""`nlp-tasks serve` as people start and end it."""

from __future__ import annotations

import concurrent.futures
import http.client
import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from nlp_tasks import cli
from nlp_tasks.errors import UserError

SERVE = "import sys; sys.argv[0] = 'nlp-tasks'; from nlp_tasks.cli import main; main()"
WITHOUT_KERAS = """
import importlib.machinery, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "keras" else super().find_spec(name, path, target)

sys.meta_path = [Finder if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
"""


@contextmanager
def started(*arguments: str | Path, before: str = "") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process and its port, once it serves."""
    command = [sys.executable, "-c", before + SERVE, "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        for line in process.stderr:
            if found := re.search(r"serving on http://127.0.0.1:(\d+)/", line):
                yield process, int(found[1])
                return
        raise AssertionError(f"it ended with {process.wait()}")
    finally:
        process.kill()
        process.communicate()


def ask(port: int, model: str, **content: Any) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", f"/v1/models/{model}:predict", json.dumps(content))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.slow
def test_it_serves_without_keras_and_ends_on_sigterm(own_exports: Path) -> None:
    endless = {"prompts": "a", "length": 2_000_000_000, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 1}
    with (
        started(own_exports, "--deadline", "3", before=WITHOUT_KERAS) as (process, port),
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        assert ask(port, "sentiment", instances=["good"])[1]["predictions"][0]["label"] == "negative"
        under_way = pool.submit(ask, port, "language_modeling", signature_name="generate", instances=[endless])
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        assert under_way.result() == (504, {"error": "Deadline exceeded: no answer within 3 s"})  # what is under way is answered
        assert process.wait(10) == 0


@pytest.mark.slow
def test_ctrl_c(own_exports: Path) -> None:
    with started(own_exports) as (process, _):
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
        assert process.returncode == 130 and "Traceback" not in told


# What is wrong is told before TensorFlow is imported


def refused(*arguments: str | Path) -> str:
    with pytest.raises(UserError) as caught:
        cli.cli(["serve", *map(str, arguments)], standalone_mode=False)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").touch()
    return tmp_path


def test_a_port_in_use(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused(folder, "--port", str(port)) == (
            f"error: cannot serve on 127.0.0.1 port {port}: Address already in use\n"
            "hint: end what serves there, or choose another port with --port"
        )


def test_a_host_that_is_none(folder: Path) -> None:
    assert refused(folder, "--host", "no.such.host.invalid").startswith("error: --host no.such.host.invalid: ")
    assert refused(folder, "--host", "192.0.2.1").startswith("error: cannot serve on 192.0.2.1 port 8501: ")


def test_no_folder(tmp_path: Path) -> None:
    assert refused(tmp_path / "none").startswith(f"error: no folder {tmp_path / 'none'}\nhint: ")


def test_the_extra_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("starlette", "uvicorn") else found(name))
    assert refused(folder) == "error: serving needs starlette, uvicorn\nhint: pip install 'nlp-tasks[serve]'"
