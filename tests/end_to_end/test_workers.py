"""Workers of one machine, as real processes: the weights of one, whatever happens to them on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nlp_tasks.launch import free_ports

if TYPE_CHECKING:
    from tests.conftest import Place

PROGRAM = [sys.executable, "-m", "nlp_tasks"]


def launch(place: Place, *options: str) -> list[str]:
    return [*PROGRAM, "launch", "--workers", "2", *options, str(place.recipe)]


def weights(place: Place) -> dict[str, np.ndarray]:
    with np.load(place.run / "checkpoints" / "chosen.npz") as content:
        return {name: content[name] for name in content.files if name.startswith("model/")}


def finish(place: Place, command: list[str]) -> str:
    done = place.do(command)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def launched(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The small recipe run by two workers, undisturbed. Treat it as read-only."""
    from tests.conftest import Place

    place = Place(tmp_path_factory.mktemp("launched"), small_recipe)
    told = finish(place, launch(place))
    assert "by 2 workers" in told and "of the time to add up gradients" in told and "Traceback" not in told
    return place


@pytest.mark.slow
def test_two_workers_train_score_and_export_what_one_does(launched: Place, finished: Place) -> None:
    one, two = weights(finished), weights(launched)
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=2e-4, err_msg=name)
    assert json.loads((launched.run / "environment.json").read_text())["replicas"] == 2
    assert (launched.run / "scores.json").exists() and [path.name for path in launched.export.iterdir()] == ["1"]
    assert {path.name for path in launched.run.iterdir()} == {
        path.name for path in finished.run.iterdir()
    }  # the chief alone writes
    assert {path.name for path in (launched.folder / "runs").iterdir()} == {"small", "small.workers"}
    assert {path.name for path in (launched.folder / "runs" / "small.workers").iterdir()} == {"0.log", "1.log"}


@pytest.mark.slow
def test_a_finished_run_is_left_alone(launched: Place) -> None:
    before = {path: path.stat().st_mtime_ns for path in launched.run.rglob("*") if path.name != ".lock"}
    assert "nothing to do, the run is finished" in finish(launched, launch(launched))
    assert {path: path.stat().st_mtime_ns for path in launched.run.rglob("*") if path.name != ".lock"} == before


@pytest.mark.slow
def test_what_two_began_one_goes_on_with_and_back(launched: Place, place: Place) -> None:
    def stop_at(step: int, command: list[str]) -> None:
        with running(place, command) as process:
            wait(process, lambda: step_of(place) >= step)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130

    stop_at(5, launch(place))
    stop_at(11, place.command())
    told = finish(place, launch(place))
    assert "resuming at epoch" in told
    for name, value in weights(launched).items():
        np.testing.assert_allclose(weights(place)[name], value, atol=2e-4, err_msg=name)


def step_of(place: Place) -> int:
    """How far the last checkpoint is."""
    try:
        with np.load(place.run / "checkpoints" / "last.npz") as content:
            return json.loads(content["position"].tobytes())["step"]
    except OSError:
        return 0


@contextmanager
def running(place: Place, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with (place.folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command, cwd=place.folder, stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait(process: subprocess.Popen[bytes], condition: Callable[[], bool], seconds: float = 200) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the launcher ended"
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.05)


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Process numbers of a launcher's workers, the chief's first."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(int(child) for child in children)


def said(place: Place) -> str:
    return (place.folder / "stderr").read_text()


DEATHS = [
    (signal.SIGKILL, 0, False),
    (signal.SIGKILL, 1, False),
    (signal.SIGKILL, 0, True),
    (signal.SIGKILL, 1, True),
    (signal.SIGSTOP, 0, False),
    (signal.SIGSTOP, 1, True),
    (signal.SIGKILL, 0, True),
    (signal.SIGKILL, 0, False),
]
"""How, which worker, and whether at any moment after its start: while they meet, read, encode, build. Else in training."""


@pytest.mark.slow
def test_workers_that_die_and_freeze_at_random_moments(place: Place, tmp_path: Path) -> None:
    longer = ("--set", "training.epochs=150", "--set", "training.patience=0")
    undisturbed = place._replace(folder=tmp_path / "undisturbed")
    undisturbed.folder.mkdir()
    finish(undisturbed, launch(undisturbed, *longer))
    draw = random.Random()
    with running(place, launch(place, "--restarts", str(len(DEATHS) + 2), "--silence", "6", *longer)) as process:
        dead: set[int] = set()
        for kind, index, early in DEATHS:
            wait(process, lambda: len(set(workers_of(process)) - dead) == 2)
            both, before = workers_of(process), step_of(place)
            if not early:
                wait(process, lambda before=before: step_of(place) > before)
                both = workers_of(process)
            after = draw.uniform(0, 8 if early else 1.5)
            time.sleep(after)
            print(f"{kind.name} to worker {index}, {after:.2f} s after {'its start' if early else f'step {step_of(place)}'}")
            os.kill(both[index], kind)
            wait(process, lambda both=both: not set(both) & set(workers_of(process)))
            dead.update(both)
        assert process.wait(300) == 0, said(place)
    for message in ("worker 0 was killed by SIGKILL", "worker 1 was killed by SIGKILL", "worker 0 froze", "worker 1 froze"):
        assert message in said(place)
    for name, value in weights(undisturbed).items():
        np.testing.assert_array_equal(weights(place)[name], value, err_msg=name)
    for name in ("history.csv", "predictions.jsonl"):
        assert (place.run / name).read_bytes() == (undisturbed.run / name).read_bytes()


def one_by_one(place: Place, commands: list[list[str]], folders: list[Path]) -> list[subprocess.CompletedProcess[str]]:
    """Two workers as somebody else starts them, each by its own command in its own folder."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    started = []
    for index, (command, folder) in enumerate(zip(commands, folders, strict=True)):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {"TF_CONFIG": json.dumps(config), "NLP_TASKS_DEADLINE": "60"}
        started.append(
            subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    finished = []
    for command, process in zip(commands, started, strict=True):
        out, err = process.communicate(timeout=300)
        finished.append(subprocess.CompletedProcess(command, process.returncode, out, err))
    return finished


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_run_folder_encodes_for_itself(launched: Place, place: Place) -> None:
    folders = [place.folder / "first", place.folder / "second"]
    for folder in folders:
        folder.mkdir()
    command = [*PROGRAM, "run", str(place.recipe)]  # TF_CONFIG alone says that there are several
    for done in one_by_one(place, [command, command], folders):
        assert done.returncode == 0, done.stderr
    first, second = (place._replace(folder=folder) for folder in folders)
    assert (first.run / "scores.json").exists() and first.export.exists()
    assert (second.run / "resources").exists() and not (second.run / "scores.json").exists() and not second.export.exists()
    for name, value in weights(launched).items():
        np.testing.assert_allclose(
            weights(first)[name], value, atol=2e-4, err_msg=name
        )  # these have all cores, and cut otherwise


def test_workers_that_run_different_recipes_or_data_are_refused(place: Place, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in place.recipe.parent.glob("*.tsv"):
        (data / path.name).write_text(path.read_text() + ("one more row\tgood\n" if path.name == "train.tsv" else ""))
    ours = place.command()[:-2]
    theirs = [*ours, "--set", f'data.directory="{data}"', "--set", "training.epochs=5"]
    both = one_by_one(place, [ours, theirs], [place.folder, place.folder])
    for done in both:
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "error: the workers do not run the same: " in done.stderr and "the data is " in done.stderr
        assert "training.epochs is 8 on worker 0 and 5 on worker 1" in done.stderr
    assert not (place.folder / "runs").exists()


def test_bad_input_is_told_before_any_worker_starts(place: Place) -> None:
    for options, expected in (
        (["--workers", "2", "nothing/here"], "nothing/here"),
        (["--workers", "1000", str(place.recipe)], "--workers 1000: this machine has"),
        (["--workers", "2", "--strategy", "cpu", str(place.recipe)], "launch --strategy cpu: workers train with multi_worker"),
        (["--workers", "0", str(place.recipe)], "0 is not in the range x>=1"),
    ):
        done = place.do([*PROGRAM, "launch", *options])
        assert done.returncode == 2 and expected in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert [path.name for path in place.folder.iterdir()] == []
    strange = place.folder / "runs" / "small" / "notes.txt"
    strange.parent.mkdir(parents=True)
    strange.touch()
    done = place.do(launch(place, "--run-dir", "new/runs", "--export-dir", str(strange / "below")))
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert not (place.folder / "new").exists()  # the workers had begun, and nothing of it is left
    done = place.do(launch(place, "--silence", "1"))
    assert done.returncode == 2 and "1.0 is not in the range x>=4" in done.stderr, done.stderr
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    for config, expected in (("", "TF_CONFIG is not set"), ("{", "TF_CONFIG: no JSON")):
        done = subprocess.run([*PROGRAM, "run", str(place.recipe), "--strategy", "multi_worker"], cwd=place.folder, text=True,
                              capture_output=True, env=environment | {"TF_CONFIG": config}, timeout=100)  # fmt: skip
        assert done.returncode == 2 and expected in done.stderr and "Traceback" not in done.stderr, done.stderr
