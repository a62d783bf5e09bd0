"""Workers on this machine: started together, watched, ended together, and started again from the last checkpoint."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from nlp_tasks import machine
from nlp_tasks.crew import LOST
from nlp_tasks.errors import UserError
from nlp_tasks.progress import tell

GRACE = 10.0
"""Seconds that workers get to end by themselves before they are killed."""
SETTLE = 2.0
"""Seconds after the first end of a worker in which the others notice it, before somebody is blamed."""


class Launcher:
    """Runs one command as several workers.

    Args:
        command: e.g. `["run", "sentiment/imdb"]`.
        workers: how many.
        logs: folder for `0.log`, `1.log`, …: what each worker says. What the chief says is also said here.
        restarts: how often all are started again when one has died or frozen.
        deadline: seconds that workers wait for each other as they begin.
        silence: seconds without a sign of life after which a worker counts as frozen.
        begun: what the chief writes as it begins a run anew: once it has, `--restart` is over, and is not said again.
        program: what takes the command.
    """

    def __init__(
        self, command: Sequence[str], workers: int, logs: Path, *, restarts: int = 0, deadline: float = 120.0, silence: float = 30.0,
        begun: Path | None = None, program: Sequence[str] = (sys.executable, "-m", "nlp_tasks"),
    ) -> None:  # fmt: skip
        self._command, self._count, self._logs = [*program, *command, "--strategy", "multi_worker"], workers, logs
        self._restarts, self._deadline, self._silence = restarts, deadline, silence
        self._begun, self._before = begun, _written(begun)
        self._workers: list[subprocess.Popen[bytes]] = []
        self._teller: threading.Thread | None = None
        self._asked = 0
        """The signal that asked this launcher to stop, if one did."""

    def run(self) -> int:
        """Runs to the end; the exit code of the whole: 0, 2 for a user's error, 130 when stopped, 1 when a worker failed."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for attempt in range(self._restarts + 1):
            code, reason = self._attempt(first=attempt == 0)
            if self._asked:
                return 128 + signal.SIGINT if code else 0
            if reason is None:
                return code
            if _written(self._begun) != self._before:
                self._command = [word for word in self._command if word != "--restart"]
            left = self._restarts - attempt
            _tell(
                f"{reason}; "
                + (f"all workers start again from the last checkpoint ({left} restarts left)" if left else "all are stopped")
            )
        _tell(f"hint: the same command goes on from the last checkpoint; the logs are in {self._logs}")
        return 1

    def _attempt(self, *, first: bool) -> tuple[int, str | None]:
        """All workers from their start to their end: the exit code, and who died of what where a restart may help."""
        with _signals(self._stop), contextlib.ExitStack() as files:
            try:
                self._start(first, files)
                if self._asked:  # while there was nobody yet to tell
                    self._stop(self._asked, None)
                return self._wait()
            finally:
                self._end(signal.SIGTERM, GRACE if self._asked else 0)
                if self._teller:
                    self._teller.join(GRACE)

    def _start(self, first: bool, files: contextlib.ExitStack) -> None:
        places = [f"127.0.0.1:{port}" for port in free_ports(self._count)]
        self._workers, self._teller = [], None
        every = gpus()
        each = len(every) // self._count  # TensorFlow wants as many on each
        for index, cores in enumerate(shares(self._count)):
            log = files.enter_context((self._logs / f"{index}.log").open("wb" if first else "ab"))
            environment = machine.given() | {
                "TF_CONFIG": json.dumps({"cluster": {"worker": places}, "task": {"type": "worker", "index": index}}),
                "NLP_TASKS_DEADLINE": f"{self._deadline:g}", "NLP_TASKS_SILENCE": f"{self._silence:g}",
            }  # fmt: skip
            if every:
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(every[index * each : (index + 1) * each])
            chief = index == 0
            self._workers.append(subprocess.Popen(
                self._command, env=environment,
                stdin=subprocess.DEVNULL, stdout=None if chief else log, stderr=subprocess.PIPE if chief else log,
                start_new_session=True,  # Ctrl-C at a terminal comes to us alone; we hand it on
                preexec_fn=_prepared(cores),
            ))  # fmt: skip
            if chief:
                self._teller = threading.Thread(target=_tee, args=(self._workers[0].stderr, log), daemon=True)
                self._teller.start()

    def _wait(self) -> tuple[int, str | None]:
        """Until all have ended, or one has ended badly, or stands still. (From TensorFlow's start on workers notice that themselves.)"""
        running = dict.fromkeys(range(self._count), time.monotonic())
        while True:
            for index, worker in enumerate(self._workers):
                if not _is_stopped(worker.pid):
                    running[index] = time.monotonic()
                elif time.monotonic() - running[index] > self._silence + SETTLE:
                    return 1, f"worker {index} froze: stopped for {self._silence:g} seconds"
            codes = [worker.poll() for worker in self._workers]
            if all(code == 0 for code in codes):
                return 0, None
            if any(code not in (None, 0) for code in codes):
                return self._blame()
            time.sleep(0.05)

    def _blame(self) -> tuple[int, str | None]:
        """Who ended badly. The others noticed it, and say so by their exit code LOST; whoever is left then, froze."""
        until = time.monotonic() + (GRACE if self._asked else SETTLE)
        while time.monotonic() < until and any(worker.poll() is None for worker in self._workers):
            time.sleep(0.05)
        ended = {index: worker.poll() for index, worker in enumerate(self._workers)}
        for index, code in ended.items():  # first: what the others then say, and whatever code they end with, comes of that
            if code is not None and code < 0:
                return 1, f"worker {index} was killed by {signal.Signals(-code).name}"
        for index, code in ended.items():
            if code in (2, 130):
                self._show(index)
                return code, None
        for index, code in ended.items():
            if code not in (None, 0, LOST):
                self._show(index)
                return 1, f"worker {index} failed with exit code {code}"
        frozen = [index for index, code in ended.items() if code is None]
        if frozen:
            return 1, f"worker {', '.join(map(str, frozen))} froze: no sign of life for {self._silence:g} seconds"
        return 1, "the workers lost each other"

    def _show(self, index: int) -> None:
        """The last lines that a worker said, where they have not been shown here."""
        if index:
            lines = (self._logs / f"{index}.log").read_text(errors="replace").splitlines()
            _tell("\n".join(lines[-30 if "Traceback" in "".join(lines[-60:]) else -2 :]))

    def _stop(self, number: int, frame: object) -> None:
        """Hands Ctrl-C and SIGTERM on; all workers stop after the same step. The second time they do not wait."""
        self._asked = number
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(number)

    def _end(self, number: signal.Signals, seconds: float) -> None:
        """Nobody is left behind: asked first, killed after some seconds; a frozen process hears nothing else."""
        until = time.monotonic() + seconds
        for worker in self._workers:
            if worker.poll() is None and seconds:
                worker.send_signal(number)
        for worker in self._workers:
            try:
                worker.wait(max(0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def _written(path: Path | None) -> int | None:
    return path.stat().st_mtime_ns if path and path.exists() else None


def _is_stopped(process: int) -> bool:
    """Whether a process was stopped (SIGSTOP), where the system tells."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except OSError:
        return False


def shares(workers: int) -> list[set[int]]:
    """Which cores of this machine each worker gets: as even as they go, one to several workers where there are fewer."""
    if not hasattr(os, "sched_getaffinity"):
        return [set()] * workers
    cores = sorted(os.sched_getaffinity(0))
    if workers >= len(cores):
        return [{cores[index % len(cores)]} for index in range(workers)]
    return [set(cores[index::workers]) for index in range(workers)]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at now."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


@functools.cache
def gpus() -> list[str]:
    """The GPUs that TensorFlow sees, as CUDA_VISIBLE_DEVICES names them. A process of its own looks: who has looked holds them."""
    if not Path("/proc/driver/nvidia").exists():
        return []
    looking = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
    done = subprocess.run([sys.executable, "-c", looking], capture_output=True, text=True, check=False)
    count = int(done.stdout) if done.returncode == 0 else 0
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]


def check(workers: int) -> None:
    """Refuses more workers than this machine has cores for several times over, a slip of the finger; or than it has GPUs."""
    most = 8 * machine.cores()
    if workers > most:
        raise UserError(f"--workers {workers}: this machine has {machine.cores()} cores", f"start at most {most} workers here")
    if 0 < len(gpus()) < workers:
        raise UserError(f"--workers {workers}: TensorFlow sees {len(gpus())} GPU here, and workers do not share one",
                        "start no more workers than GPUs, or set CUDA_VISIBLE_DEVICES=-1 to train on the cores")  # fmt: skip


def _prepared(cores: set[int]) -> Callable[[], None]:
    """What a worker does before it begins: it takes its cores, and dies with its launcher."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        if cores:
            os.sched_setaffinity(0, cores)
        if library:
            library.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    return prepare


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody looks any more
        tell(text)


def _tee(source: BinaryIO, log: BinaryIO) -> None:
    with source:
        for line in source:
            log.write(line)
            log.flush()
            with contextlib.suppress(OSError):  # the chief goes on
                sys.stderr.write(line.decode(errors="replace"))
                sys.stderr.flush()


@contextlib.contextmanager
def _signals(handler: Callable[[int, object], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, kept in before.items():
            signal.signal(number, kept)
