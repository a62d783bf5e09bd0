"""Who is blamed when workers end, with programs of a few lines in place of trainings."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from nlp_tasks import launch, machine
from nlp_tasks.crew import LOST
from nlp_tasks.errors import UserError
from nlp_tasks.launch import Launcher, free_ports, shares

BEGIN = """
import json, os, signal, sys, time
config = json.loads(os.environ["TF_CONFIG"])
index, workers = config["task"]["index"], len(config["cluster"]["worker"])
count = len(open("starts").read()) if os.path.exists("starts") else 0
def started():
    with open("starts", "a") as file:
        file.write(".")
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "SETTLE", 0.7)


def run(script: str, *more: str, workers: int = 2, restarts: int = 0, silence: float = 7) -> int:
    program = [sys.executable, "-S", "-c", BEGIN + textwrap.dedent(script)]
    command, logs = ["run", "x", *more], Path("logs")
    return Launcher(command, workers, logs, restarts=restarts, silence=silence, begun=Path("begun"), program=program).run()


def test_all_that_end_well(capfd: pytest.CaptureFixture[str]) -> None:
    code = run("""
        print(f"I am {index} of {workers}, {sys.argv[1:]}, {os.environ['NLP_TASKS_SILENCE']}", file=sys.stderr)
        print("result")
    """)
    assert code == 0
    said, shown = f"I am {{}} of 2, {['run', 'x', '--strategy', 'multi_worker']}, 7", capfd.readouterr()
    assert Path("logs/0.log").read_text().strip() == said.format(0)
    assert Path("logs/1.log").read_text().split("\n")[0] == said.format(1)
    assert shown.out == "result\n" and said.format(0) in shown.err and said.format(1) not in shown.err


def test_a_worker_that_is_killed_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    code = run(f"""
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.3)
        sys.exit({LOST})
    """)
    assert code == 1
    assert "worker 1 was killed by SIGKILL; all are stopped" in capfd.readouterr().err


def test_a_worker_that_froze_is_the_one_that_is_left(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "SETTLE", 2.0)
    begun = time.monotonic()
    code = run(
        f"""
        if index == 2:
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.1)
        sys.exit({LOST})
    """,
        workers=3,
    )
    assert code == 1 and time.monotonic() - begun < 8
    assert "worker 2 froze: no sign of life for 7 seconds; all are stopped" in capfd.readouterr().err


def test_a_worker_that_is_stopped_before_anyone_could_notice(capfd: pytest.CaptureFixture[str]) -> None:
    begun = time.monotonic()
    code = run(
        """
        if index == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(60)
    """,
        silence=1,
    )
    assert code == 1 and 1 < time.monotonic() - begun < 20
    assert "worker 1 froze: stopped for 1 seconds; all are stopped" in capfd.readouterr().err


def test_a_worker_that_is_killed_is_named_whatever_the_others_say(capfd: pytest.CaptureFixture[str]) -> None:
    """Before all have met, the others take the dead one's silence for a user's error."""
    script = """
        if index == 1:
            started()
            if count == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        elif count == 0:
            time.sleep(0.3)
            sys.exit(2)
    """
    assert run(script, restarts=1) == 0
    assert "worker 1 was killed by SIGKILL; all workers start again" in capfd.readouterr().err


def test_a_run_is_forgotten_once() -> None:
    """Not again at each restart; but again where the workers died before it was."""
    script = """
        if index == 0:
            with open("asked", "a") as file:
                file.write(f"{'--restart' in sys.argv} ")
            if count > 0:
                open("begun", "w").close()
            started()
            if count < 3:
                os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run(script, "--restart", restarts=3) == 0
    assert Path("asked").read_text() == "True True False False "


def test_all_start_again(capfd: pytest.CaptureFixture[str]) -> None:
    script = f"""
        if index == 0:
            started()
            if count < 2:
                os.kill(os.getpid(), signal.SIGKILL)
        elif count < 2:
            time.sleep(0.3)
            sys.exit({LOST})
    """
    assert run(script, restarts=1) == 1
    assert (
        "worker 0 was killed by SIGKILL; all workers start again from the last checkpoint (1 restarts left)"
        in capfd.readouterr().err
    )
    Path("starts").unlink()
    assert run(script, restarts=2) == 0
    assert len(Path("starts").read_text()) == 3


def test_what_a_user_has_to_mend_is_told_and_not_tried_again(capfd: pytest.CaptureFixture[str]) -> None:
    code = run(
        f"""
        if index == 0:
            started()
            time.sleep(0.4)
            sys.exit({LOST})
        print("error: bad data", "hint: mend it", sep=chr(10), file=sys.stderr)
        sys.exit(2)
    """,
        restarts=3,
    )
    assert code == 2 and Path("starts").read_text() == "."
    assert "error: bad data\nhint: mend it" in capfd.readouterr().err


def test_a_defect_shows_its_trace(capfd: pytest.CaptureFixture[str]) -> None:
    script = """
        if index == 1:
            raise ValueError("oh")
        time.sleep(20)
    """
    assert run(script) == 1
    told = capfd.readouterr().err
    assert "Traceback" in told and "ValueError: oh" in told and "worker 1 failed with exit code 1" in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_is_handed_on_and_nobody_is_left(number: signal.Signals) -> None:
    script = """
        def stop(number, frame):
            open(f"stopped {index} {number}", "w").close()
            sys.exit(130)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        started()
        time.sleep(30)
    """

    def ask() -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until and not (Path("starts").exists() and len(Path("starts").read_text()) == 2):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    asking = threading.Thread(target=ask)
    asking.start()
    assert run(script, restarts=2) == 130
    asking.join()
    assert Path(f"stopped 0 {int(number)}").exists() and Path(f"stopped 1 {int(number)}").exists()


def test_who_stops_a_hanging_run_gets_no_restart(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "GRACE", 2.0)
    script = """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if index == 1:
            with open("frozen", "w") as file:
                file.write(str(os.getpid()))
        started()
        if index == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(30)
    """

    def stands_still() -> bool:
        return (
            Path("starts").exists() and Path("starts").read_text() == ".." and launch._is_stopped(int(Path("frozen").read_text()))
        )

    def ask() -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until and not stands_still():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    asking = threading.Thread(target=ask)
    asking.start()
    assert run(script, restarts=2, silence=1) == 130
    asking.join()
    assert Path("starts").read_text() == ".." and "start again" not in capfd.readouterr().err


def test_who_stops_before_anybody_runs_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = launch.shares

    def interrupted(workers: int) -> list[set[int]]:
        os.kill(os.getpid(), signal.SIGINT)
        return begin(workers)

    monkeypatch.setattr(launch, "shares", interrupted)
    begun = time.monotonic()
    assert run("time.sleep(30)", restarts=2) == 130 and time.monotonic() - begun < 20


def test_nobody_is_left_where_a_worker_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    popen, started = launch.subprocess.Popen, []

    def first_alone(*arguments: object, **options: object) -> object:
        if started:
            raise OSError("no more processes")
        started.append(popen(*arguments, **options))  # type: ignore[call-overload]
        return started[0]

    monkeypatch.setattr(launch.subprocess, "Popen", first_alone)
    with pytest.raises(OSError, match="no more processes"):
        run("time.sleep(30)")
    assert started[0].poll() is not None


def test_the_chief_goes_on_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, text: str) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    script = """
        if index == 0:
            for number in range(3):
                print("line", number, file=sys.stderr, flush=True)
                time.sleep(0.1)
            started()
            if count == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run(script, restarts=1) == 0 and Path("starts").read_text() == ".."
    assert Path("logs/0.log").read_text() == "line 0\nline 1\nline 2\n" * 2


def test_workers_decide_their_threads_by_their_own_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
        open(f"{index}", "w").write(os.environ.get("TF_NUM_INTRAOP_THREADS", "none") + os.environ["KERAS_BACKEND"])
    """
    monkeypatch.setattr(machine, "_decided", {"TF_NUM_INTRAOP_THREADS"})
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "16")
    monkeypatch.setenv("KERAS_BACKEND", "given")
    assert run(script) == 0
    assert Path("0").read_text() == Path("1").read_text() == "nonegiven"


def test_gpus_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many to each: TensorFlow counts on that."""
    script = """
        open(f"{index}", "w").write(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    """
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for every, first, second in ((["4", "5", "7"], "4", "5"), (["0", "1", "2", "3"], "0,1", "2,3"), ([], "none", "none")):
        monkeypatch.setattr(launch, "gpus", lambda every=every: every)
        assert run(script) == 0
        assert (Path("0").read_text(), Path("1").read_text()) == (first, second)
    monkeypatch.setattr(launch, "gpus", lambda: ["0"])
    with pytest.raises(UserError, match="--workers 2: TensorFlow sees 1 GPU here"):
        launch.check(2)


def test_cores_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 6, 7})
    assert shares(2) == [{3, 6}, {5, 7}]
    assert shares(4) == [{3}, {5}, {6}, {7}]
    assert shares(6) == [{3}, {5}, {6}, {7}, {3}, {5}]


def test_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20
