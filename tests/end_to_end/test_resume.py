"""Real processes, killed at the worst moments: the same command again gives what an undisturbed run gives, bit for bit."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.conftest import Place

SIGNAL_AT = """
import os, runpy, signal, sys
number, name, count, when, *sys.argv[1:] = sys.argv[1:]
replace, left = os.replace, int(count)

def watched(source, target):
    global left
    left -= os.path.basename(target) == name
    reached = left == 0 and os.path.basename(target) == name
    if reached and when == "inside":
        os.truncate(source, os.path.getsize(source) // 2)
    if reached and when != "after":
        os.kill(os.getpid(), int(number))
    replace(source, target)
    if reached and when == "after":
        os.kill(os.getpid(), int(number))

os.replace = watched
runpy.run_module("nlp_tasks", run_name="__main__")
"""
"""The program, but a signal comes when it puts a file or folder in its place for the nth time: before, after, or inside its writing."""


def signal_at(
    place: Place, number: signal.Signals, name: str, count: int = 1, when: str = "before", verb: str = "run"
) -> list[str]:
    return [sys.executable, "-c", SIGNAL_AT, str(int(number)), name, str(count), when, *place.arguments(verb)]


def finish(place: Place) -> None:
    done = place.do(place.command())
    assert done.returncode == 0, done.stderr


def arrays(place: Place) -> dict[str, Any]:
    """All that `chosen.npz` holds; of the position, what no clock has measured."""
    with np.load(place.run / "checkpoints" / "chosen.npz") as content:
        found = dict(content)
    position = json.loads(found.pop("position").tobytes())
    del position["seconds"]
    return {"position": position, **found}


def scores(place: Place) -> dict[str, Any]:
    content = json.loads((place.run / "scores.json").read_text())
    for key in ("training_seconds", "tokens_per_second", "commit"):
        del content[key]
    del content["baseline"]["seconds"]
    return content


def assert_same(place: Place, expected: Place) -> None:
    ours, theirs = arrays(place), arrays(expected)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    for name in ("history.csv", "predictions.jsonl"):
        assert (place.run / name).read_bytes() == (expected.run / name).read_bytes(), name
    assert scores(place) == scores(expected)
    assert [path.name for path in place.export.iterdir()] == ["1"]
    assert list(place.folder.rglob("*.partial")) == []


@contextmanager
def started(place: Place, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process, dead at the end whatever happens."""
    with (place.folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command, cwd=place.folder, stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen[bytes], condition: Any, seconds: float = 200) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process ended"
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.05)


def stopped(process: subprocess.Popen[bytes]) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_the_undisturbed_run_has_all_that_makes_a_resume_hard(finished: Place) -> None:
    recipe = (finished.run / "recipe.toml").read_text()
    for setting in ("dropout = 0.5", "token_dropout = 0.1", "average_last = 3", "patience = 2"):
        assert setting in recipe
    position = arrays(finished)["position"]
    assert position["stopped"] and position["epoch"] < 8
    environment = json.loads((finished.run / "environment.json").read_text())
    cores = environment["cores"]
    assert environment["inter_op_threads"] == cores and environment["parts"] == cores // environment["intra_op_threads"]


def test_a_run_killed_in_an_epoch_while_another_waits_for_it(finished: Place, place: Place) -> None:
    with started(place, signal_at(place, signal.SIGSTOP, "last.npz", 7, "after")) as process:
        wait_for(process, lambda: stopped(process))
        second = place.do(place.command())
        assert second.returncode == 2
        assert f"in use by process {process.pid} on" in second.stderr and "hint: " in second.stderr
    assert (place.run / "checkpoints" / "last.npz").exists()
    again = place.do(place.command())
    assert again.returncode == 0, again.stderr
    assert "resuming at epoch 1, step 7" in again.stderr
    assert_same(place, finished)


KILLS = [
    ("recipe.toml", 1, "before"),
    ("resources", 1, "before"),
    ("train", 1, "before"),
    ("validation", 1, "before"),
    ("last.npz", 3, "before"),
    ("last.npz", 8, "inside"),
    ("best.npz", 1, "after"),
    ("recent-3.npz", 1, "after"),
    ("history.csv", 3, "after"),  # the first one of a process cuts the history back
    ("last.npz", 9, "after"),
    ("chosen.npz", 1, "before"),
    ("chosen.npz", 1, "after"),
    ("predictions.jsonl", 1, "inside"),
    ("baseline.json", 1, "before"),
    ("scores.json", 1, "before"),
    ("1", 1, "before"),
    ("1", 1, "after"),
]


@pytest.mark.slow
def test_a_run_killed_at_every_stage_in_turn(finished: Place, place: Place) -> None:
    for name, count, when in KILLS:
        done = place.do(signal_at(place, signal.SIGKILL, name, count, when))
        assert done.returncode == -signal.SIGKILL, (name, count, when, done.stderr)
    finish(place)
    assert_same(place, finished)


@pytest.mark.slow
def test_a_run_killed_at_random_moments(finished: Place, place: Place) -> None:
    draw = random.Random()
    delays = [draw.uniform(0, 4) for _ in range(5)]
    for delay in delays:
        with started(place, place.command()) as process:
            wait_for(process, lambda process=process: process.poll() is not None or (place.run / "identity.json").exists())
            time.sleep(3 + delay)
    finish(place)
    print(f"killed after {delays}")
    assert_same(place, finished)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop(finished: Place, place: Place, number: signal.Signals) -> None:
    done = place.do(signal_at(place, number, "best.npz", 2))
    assert done.returncode == 130
    assert "the same command goes on from here" in done.stderr and "Traceback" not in done.stderr
    finish(place)
    assert_same(place, finished)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predictions.jsonl", "1"])
def test_Ctrl_C_while_scoring_and_exporting(finished: Place, place: Place, name: str) -> None:
    done = place.do(signal_at(place, signal.SIGINT, name))
    assert done.returncode == 130 and "Traceback" not in done.stderr
    finish(place)
    assert_same(place, finished)


@pytest.mark.slow
def test_two_threads_give_the_same_bits_where_tensors_are_large(place: Place, tmp_path: Path) -> None:
    """Small tensors are never split among threads; these are."""
    draw, lines = random.Random(0), []
    for _ in range(900):
        label = draw.choice(["bad", "good"])
        words = [f"w{int(draw.paretovariate(0.4)) % 5000}" for _ in range(draw.randint(30, 90))]
        lines.append(" ".join([*words, label]) + f"\t{label}\n")
    (tmp_path / "data.tsv").write_text("".join(lines))
    settings = (
        f'data.directory="{tmp_path}"', 'data.train="data.tsv"', 'data.validation=""', 'data.test=""', "training.epochs=2",
        "training.batch_rows=64", "training.batch_tokens=8192", "training.checkpoint_seconds=60", "model.recurrent.embedding=128",
        "model.recurrent.units=128", "model.recurrent.window=0", 'model.recurrent.pooling="max_attention"', "model.recurrent.affixes=500",
    )  # fmt: skip
    places = [place._replace(folder=tmp_path / name) for name in ("first", "second")]
    for place in places:
        place.folder.mkdir()
        done = place.do([*place.command("train"), *(argument for setting in settings for argument in ("--set", setting))])
        assert done.returncode == 0, done.stderr
    first, second = (arrays(place) for place in places)
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)
