"""The command line in the process of the tests, which has TensorFlow already, each model loaded once; and runs in processes of their own
that are killed, or that have two devices."""

from __future__ import annotations

import functools
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
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


Finish = Callable[[Path], Path]


@pytest.fixture(scope="session")
def finish() -> Finish:
    """Runs small.toml of a folder to the end, in a process of its own; gives the folder."""

    def finished(folder: Path) -> Path:
        command = [sys.executable, "-m", "nlp_tasks", "run", "small.toml", "--strategy", "cpu"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=550)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr and "Traceback" not in done.stderr, done.stderr
        return folder

    return finished


Kill = Callable[[Path, str, int], None]

KILLED = """
import os, runpy, signal, sys
name, count, *sys.argv[1:] = sys.argv[1:]
replace, left = os.replace, int(count)

def watched(source, target):
    global left
    replace(source, target)
    left -= os.path.basename(target) == name
    if left == 0 and os.path.basename(target) == name:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = watched
runpy.run_module("nlp_tasks", run_name="__main__")
"""


@pytest.fixture
def kill() -> Kill:
    """`kill(folder, "last.npz", 3)`: runs the folder's small.toml, killed when the third file of this name is there."""

    def killed(folder: Path, name: str, count: int) -> None:
        print(f"killed when {name} is written the {count}. time")  # shown where the test fails
        command = [sys.executable, "-c", KILLED, name, str(count), "run", "small.toml", "--strategy", "cpu"]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=550)
        assert done.returncode == -signal.SIGKILL, (name, count, done.stderr.decode())

    return killed


TwoDevices = Callable[..., dict[str, float]]

ON_TWO_DEVICES = """
import runpy, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
runpy.run_module("nlp_tasks", run_name="__main__")
"""

PROGRAM = [sys.executable, "-m", "nlp_tasks"]
ON_TWO = {
    "mirrored": [sys.executable, "-c", ON_TWO_DEVICES, "train", "--strategy", "mirrored"],
    "workers": [*PROGRAM, "launch", "--workers", "2", "--only-train"],
}


def trained(command: list[str], recipe: Path, settings: Sequence[str], run_dir: Path) -> tuple[dict[str, np.ndarray], int]:
    """The weights of a training, in float64, and how many replicas it had."""
    options = [option for setting in ('training.precision="float64"', *settings) for option in ("--set", setting)]
    command = [*command, str(recipe), "--run-dir", str(run_dir), "--name", "trained", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    folder = run_dir / "trained"
    with np.load(folder / "checkpoints" / "chosen.npz") as arrays:
        weights = {name: arrays[name] for name in arrays.files if name.startswith("model/")}
    return weights, json.loads((folder / "environment.json").read_text())["replicas"]


@pytest.fixture(params=ON_TWO)
def two_devices(request: pytest.FixtureRequest, tmp_path: Path) -> TwoDevices:
    """`two_devices(recipe, *settings)`: by how much each weight of a training on two devices, or by two workers, differs from one on one."""

    def differences(path: Path, *settings: str) -> dict[str, float]:
        one, replicas = trained([*PROGRAM, "train", "--strategy", "cpu"], path, settings, tmp_path / "one device")
        assert replicas == 1
        two, replicas = trained(ON_TWO[request.param], path, settings, tmp_path / "two devices")
        assert replicas == 2 and one.keys() == two.keys()
        return {name: float(np.abs(value - two[name]).max()) for name, value in one.items()}

    return differences
