"""What lies in examples/: a C program without Python, a client of the standard library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tensorflow as tf

from nlp_tasks.serving import saved_model
from nlp_tasks.serving.batcher import Limits

if TYPE_CHECKING:
    from tests.serving.conftest import Running, Serve

EXAMPLES = Path(__file__).parents[2] / "examples"
QUIET = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}

Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """examples/predict.c, built as its head says."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler is installed")
    if sys.platform != "linux":
        pytest.skip("TensorFlow's libraries have other names here")
    lib, built = tf.sysconfig.get_lib(), tmp_path_factory.mktemp("c") / "predict"
    subprocess.run(
        [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", EXAMPLES / "predict.c", f"-I{tf.sysconfig.get_include()}", f"-L{lib}",
         "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{lib}", "-o", built],
        check=True,
    )  # fmt: skip
    return lambda *words: subprocess.run([built, *map(str, words)], capture_output=True, text=True, env=QUIET)


@pytest.mark.slow
def test_no_python_is_needed(program: Program, exports: Path) -> None:
    folder = exports / "sentiment" / "1"
    outputs = saved_model.load(folder, "m", 1).signature_def["serving_default"]["outputs"]
    texts = ["", "bad service here", "é 👍🏽"]
    done = program(folder, "serving_default_texts", outputs["label"]["name"], *texts)
    assert (done.returncode, done.stdout) == (0, "positive\nnegative\nnegative\n")
    done = program(folder, "serving_default_texts", outputs["probabilities"]["name"], *texts)
    assert done.stdout == "0\t1\n0.941176\t0.0588235\n0.916667\t0.0833333\n"


@pytest.mark.slow
def test_what_the_c_program_refuses(program: Program, exports: Path) -> None:
    folder = exports / "sentiment" / "1"
    assert program(folder).returncode == 2
    for words, message in [
        ((folder, "none", "StatefulPartitionedCall:0", "a"), "error: the graph has no none\n"),
        ((exports / "none", "x", "y", "a"), "error: Could not find SavedModel .pb"),
    ]:
        done = program(*words)
        assert done.returncode == 1 and message in done.stderr


def client(server: Running, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / "client.py", f"http://127.0.0.1:{server.port}", *words], capture_output=True, text=True
    )


def test_a_client(server: Running) -> None:
    done = client(server, "language_modeling", "a")
    assert (
        done.stdout == '{"text": "a", "answer": {"probabilities": [0.5, 0.25, 0.1], "tokens": ["the", "a", {"b64": "IP8="}]}}\n'
    )
    done = client(server, "none", "a")
    assert done.returncode == 1 and done.stderr == "error 404: Servable not found for request: Latest(none)\n"


def test_a_client_comes_back(own_exports: Path, serve: Serve) -> None:
    with serve(own_exports, Limits(queue=1, deadline=1.5)) as server:
        endless = {"prompts": "a", "length": 2_000_000_000, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 1}
        busy = threading.Thread(
            target=server.predict, args=("language_modeling",), kwargs={"signature_name": "generate", "instances": [endless]}
        )
        busy.start()
        done = client(server, "sentiment", "a")
        busy.join()
        assert done.returncode == 0 and '"label": "negative"' in done.stdout
