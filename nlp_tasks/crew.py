"""The workers of one run: who is there, what the chief tells the others, and a sign of life from each.

TensorFlow's collectives add gradients up. What they leave open is done here, over one TCP connection from every worker to the chief: to
meet, to find out before hours are spent that all run the same thing, to hear what the chief has read or decided, and to notice a worker
that died or froze. Frames are a kind (one byte), a length (eight bytes, big-endian) and that many bytes.
"""

from __future__ import annotations

import functools
import io
import json
import os
import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NoReturn

import msgspec
import numpy as np

from nlp_tasks.errors import UserError

LOST = 75
"""Exit code of a worker that ends because another one is gone (EX_TEMPFAIL): nothing is wrong with itself."""
PULSE = 1.0
"""Seconds between two signs of life."""
SHORTEST_SILENCE = 4 * PULSE
"""Less than that is no sign that a worker froze: TensorFlow alone can keep one from saying anything for longer than a pulse."""
GREETING = 1 << 20
"""No frame of a meeting is longer: whoever sends more is none of ours."""
LONGER = "to wait longer: launch --deadline SECONDS, or NLP_TASKS_DEADLINE"

_HEADER = struct.Struct("!cQ")
_MESSAGE, _PULSE, _FAREWELL = b"M", b"P", b"F"


class Cluster(msgspec.Struct, frozen=True):
    """What TF_CONFIG says: all addresses (`host:port`), the chief's first, and which of them is ours."""

    addresses: tuple[str, ...]
    index: int


def cluster(text: str) -> Cluster:
    """Reads TF_CONFIG.

    Raises:
        UserError: naming the key that is missing or wrong.
    """
    hint = 'e.g. {"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'

    def refused(reason: str) -> UserError:
        return UserError(f"TF_CONFIG: {reason}", hint)

    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise refused(f"no JSON ({error.msg}, character {error.pos + 1})") from None
    if not isinstance(content, dict):
        raise refused(f"expected an object, got {text[:40]}")
    jobs, task = content.get("cluster"), content.get("task")
    if not isinstance(jobs, dict) or not jobs.get("worker"):
        raise refused("cluster.worker is missing: the list of all workers' addresses")
    for job, addresses in jobs.items():
        if job not in ("chief", "worker"):
            raise refused(f"cluster.{job}: only workers, and a chief, train together")
        if not isinstance(addresses, list):
            raise refused(f"cluster.{job}: expected a list of addresses, got {addresses!r}")
        for number, address in enumerate(addresses):
            if not isinstance(address, str) or not _is_address(address):
                raise refused(f"cluster.{job}[{number}]: expected host:port, got {address!r}")
    if len(jobs.get("chief", [])) > 1:
        raise refused(f"cluster.chief: one chief, got {len(jobs['chief'])}")
    every = (*jobs.get("chief", []), *jobs["worker"])
    doubled = next((address for number, address in enumerate(every) if address in every[:number]), None)
    if doubled:
        raise refused(f"cluster: {doubled} stands there twice")
    if not isinstance(task, dict):
        raise refused("task is missing: which of the workers this one is")
    if not isinstance(task.get("type"), str) or task["type"] not in jobs:
        raise refused(f"task.type: expected one of {', '.join(sorted(jobs))}, got {task.get('type')!r}")
    count, index = len(jobs[task["type"]]), task.get("index")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
        raise refused(f"task.index: expected 0 to {count - 1}, got {index!r}")
    return Cluster(every, index + (len(jobs.get("chief", [])) if task["type"] == "worker" else 0))


def _is_address(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        host.encode("idna")
    except UnicodeError:  # no name of a machine
        return False
    return bool(host) and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _is_here(address: str) -> bool:
    """Whether this machine has an address. (Behind a proxy or in a container it may not know its own.)"""
    host, _ = _place(address)
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.bind(place)
    except OSError:
        return False
    return True


def _connect(address: str, until: float, vain: Callable[[], bool] = lambda: False) -> socket.socket:
    """A connection, tried for again until then, or until that is in vain; raises the OSError of the last time."""
    while True:
        try:
            return socket.create_connection(_place(address), timeout=max(0.01, min(5, until - time.monotonic())))
        except OSError:
            if time.monotonic() >= until or vain():
                raise
            time.sleep(0.2)


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    return error.strerror or str(error) or "it ends the connection"


def _is_closed(connection: socket.socket) -> bool:
    """Whether the other side has ended it; what it has sent is still there afterwards."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


class Crew:
    """The workers of a run, seen by one of them; a context that ends the connections.

    `Crew()` is a run of one process: it is its own chief, and everything below costs nothing.

    Args:
        cluster: the addresses of all.
        silence: seconds without a sign of life after which a worker counts as frozen.
    """

    def __init__(self, cluster: Cluster | None = None, silence: float = 30.0) -> None:
        self.addresses = cluster.addresses if cluster else ("",)
        self.index = cluster.index if cluster else 0
        self.silence = silence
        self._links: dict[int, _Link] = {}
        self._closing = threading.Event()

    @property
    def size(self) -> int:
        return len(self.addresses)

    @property
    def chief(self) -> bool:
        """Whether this worker is the one that writes."""
        return self.index == 0

    # To meet

    def meet(self, facts: Mapping[str, str], seconds: float) -> None:
        """Waits for all workers, and refuses them if they do not run the same thing.

        Args:
            facts: what must be the same everywhere, by name.
            seconds: how long to wait.

        Raises:
            UserError: a port in use, a worker that does not come, two with one index, different facts.
        """
        if self.size == 1:
            return
        until = time.monotonic() + seconds
        listening = self._listen()
        try:
            found = self._receive_all(listening, until, seconds) if self.chief else self._reach_chief(until, seconds)
        finally:
            listening.close()  # TensorFlow's own server takes the place
        self._links = {index: _Link(connection, self._named(index), self._lost) for index, connection in found.items()}
        threading.Thread(target=self._watch, name="pulse", daemon=True).start()
        self.agree(facts)

    def _listen(self) -> socket.socket:
        """Our own place, taken, so that a program that has it already is found out."""
        address = self.addresses[self.index]
        host, port = _place(address)
        local = host in ("localhost", "127.0.0.1", "::1")
        both = not local and socket.has_dualstack_ipv6()
        found = socket.getaddrinfo(host if local else None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family = socket.AF_INET6 if both else found[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if both:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listening.bind((host if local else "", port))
            listening.listen()
        except OSError as error:
            listening.close()
            raise UserError(f"worker {self.index}: cannot listen at {address}: {error.strerror}",
                            "another program has this port, or another worker was given the same task.index") from None  # fmt: skip
        return listening

    def _receive_all(self, listening: socket.socket, until: float, seconds: float) -> dict[int, socket.socket]:
        """The chief's side: a connection of every other worker."""
        found: dict[int, socket.socket] = {}
        who: dict[int, str] = {}
        refused = None

        def drop_dead() -> None:
            """Who died while others were waited for may have been started again."""
            for index in [index for index, connection in found.items() if _is_closed(connection)]:
                found.pop(index).close()

        while not refused:
            drop_dead()
            if len(found) == self.size - 1:
                refused = self._unreachable(found, until, seconds)
                drop_dead()
                if refused or len(found) == self.size - 1:
                    break
            missing = [self._named(index) for index in range(1, self.size) if index not in found]
            listening.settimeout(max(0.01, until - time.monotonic()))
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                elsewhere = "" if _is_here(self.addresses[0]) else f"; is this the machine of worker 0, at {self.addresses[0]}?"
                refused = UserError(f"not there within {seconds:g} seconds: {', '.join(missing)}",
                                    f"start it, and look whether its machine can reach this one{elsewhere}; {LONGER}")  # fmt: skip
                break
            greeting = _greeting(connection)
            if greeting is None or greeting["index"] not in range(len(greeting["addresses"])):  # none of ours
                connection.close()
                continue
            index, name = greeting["index"], f"{greeting['host']}, process {greeting['process']}"
            drop_dead()
            if greeting["addresses"] != list(self.addresses):
                refused = UserError(f"{name} has another cluster in its TF_CONFIG: {', '.join(greeting['addresses'])}; "
                                    f"here {', '.join(self.addresses)}", "give all workers the same cluster")  # fmt: skip
            elif index in found or index == 0:
                refused = UserError(f"two workers have the index {index}: {who.get(index, 'this one')}, and {name}",
                                    "give each worker a task.index of its own in TF_CONFIG")  # fmt: skip
            found[-1 if refused else index], who[index] = connection, name
        gone = None
        for index, connection in found.items():
            try:
                _say(connection, _MESSAGE, msgspec.json.encode([refused.message, refused.hint] if refused else []))
            except OSError:
                gone = gone or self._named(index)
        if not refused and not gone:
            return found
        for connection in found.values():
            connection.close()
        if refused:
            raise refused
        end_lost(f"{gone} went away before all workers were there")

    def _unreachable(self, found: Mapping[int, socket.socket], until: float, seconds: float) -> UserError | None:
        """All are there and listen: at whose address does nobody? TensorFlow would not say."""
        until = max(until, time.monotonic() + PULSE / 2)  # the others wait a pulse longer
        for index, connection in sorted(found.items()):
            try:
                _connect(self.addresses[index], until, functools.partial(_is_closed, connection)).close()
            except OSError as error:
                if _is_closed(connection):  # it died meanwhile
                    return None
                return UserError(
                    f"{self._named(index)} is there, but cannot be reached at this address for {seconds:g} seconds: {_reason(error)}",
                    "give it the address of its own machine in TF_CONFIG, and open that port between the machines",
                )
        return None

    def _reach_chief(self, until: float, seconds: float) -> dict[int, socket.socket]:
        """The other workers' side: the connection to the chief."""
        hint = f"is it started, and can this machine reach it? {LONGER}"
        ours = {"index": self.index, "addresses": self.addresses, "host": socket.gethostname(), "process": os.getpid()}
        connection = None
        while True:
            try:
                connection = _connect(self.addresses[0], until)
                connection.settimeout(seconds + PULSE)  # the chief's own deadline comes first, though it may have begun just now
                _say(connection, _MESSAGE, msgspec.json.encode(ours))
                _, content = _hear(connection, GREETING)
                break
            except OSError as error:  # a chief that died may be started again
                if connection:
                    connection.close()
                if time.monotonic() >= until:
                    reason = _reason(error)
                    raise UserError(f"cannot reach {self._named(0)} for {seconds:g} seconds: {reason}", hint) from None
                time.sleep(0.2)
        refused = json.loads(content)
        if refused:
            connection.close()
            raise UserError(*refused)
        connection.settimeout(None)
        return {0: connection}

    # To be one

    def share(self, make: Callable[[], bytes] = bytes) -> bytes:
        """What the chief makes, everywhere. All call it, in the same order; only the chief calls `make`."""
        if not self.chief:
            return self._links[0].receive()
        content = make()
        for link in self._links.values():
            link.send(_MESSAGE, content)
        return content

    def share_values(self, make: Callable[[], Any]) -> Any:
        """`share` of what JSON can say."""
        return make() if self.size == 1 else msgspec.json.decode(self.share(lambda: msgspec.json.encode(make())))

    def share_arrays(self, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """`share` of named arrays."""
        if self.size == 1:
            return make()
        file = io.BytesIO()
        if self.chief:
            arrays = make()
            np.savez(file, **arrays)  # type: ignore[arg-type]
            self.share(file.getvalue)
            return arrays
        with np.load(io.BytesIO(self.share())) as content:
            return dict(content)

    def agree(self, facts: Mapping[str, str]) -> None:
        """Refuses workers whose facts differ, all of them with the same message. All call it; it is a barrier, too."""
        if not self.chief:
            self._links[0].send(_MESSAGE, msgspec.json.encode(facts))
        elsewhere = {index: json.loads(link.receive()) for index, link in self._links.items()} if self.chief else {}
        different = self.share_values(lambda: [
            f"{name} is {_short(facts.get(name))} on worker 0 and {_short(theirs.get(name))} on worker {index}"
            for index, theirs in elsewhere.items() for name in {**facts, **theirs} if facts.get(name) != theirs.get(name)
        ])  # fmt: skip
        if different:
            self._closing.set()  # all of them end, and for this reason
            more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
            raise UserError("the workers do not run the same: " + "; ".join(different[:3]) + more,
                            "give all workers the same command, data and versions")  # fmt: skip

    # To live and to end

    def wait_for_loss(self) -> None:
        """To call where a collective has failed: if that was because a worker is gone, this process ends here."""
        if self.size > 1:
            time.sleep(self.silence + 2 * PULSE)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        message = error.message if isinstance(error, UserError) else str(error).strip().partition("\n")[0]
        reason = "" if error is None else message or type(error).__name__
        for link in self._links.values():
            link.close(reason)
        self._links = {}

    def _named(self, index: int) -> str:
        return f"worker {index} ({self.addresses[index]})" if 0 <= index < self.size else "another worker"

    def _watch(self) -> None:
        """Sends signs of life and looks for those of others."""
        before = time.monotonic()
        while not self._closing.wait(PULSE):
            now = time.monotonic()
            for link in [*self._links.values()]:
                if now - before > 4 * PULSE:  # it was us who stood still: what the others said has not been read yet
                    link.heard = now
                link.pulse()
                if now - link.heard > self.silence and not link.left:
                    self._lost(f"{link.name} gives no sign of life for {self.silence:g} seconds")
            before = now

    def _lost(self, reason: str) -> None:
        if not self._closing.is_set():
            end_lost(reason)


def end_lost(reason: str) -> NoReturn:
    """Ends this process, whatever its other threads wait for: a collective that a dead worker is part of never returns."""
    hint = "the same command goes on from the last checkpoint, once all workers are started again"
    sys.stderr.write(f"{UserError(reason, hint)}\n")
    sys.stderr.flush()
    os._exit(LOST)


class _Link:
    """A connection to one worker: messages whole and in order. A thread reads, so that pulses are heard while others compute."""

    def __init__(self, connection: socket.socket, name: str, lost: Callable[[str], None]) -> None:
        self.name, self.heard, self.left = name, time.monotonic(), False
        self._connection, self._lost = connection, lost
        self._messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._sending = threading.Lock()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._read, name=f"from {name}", daemon=True).start()

    def send(self, kind: bytes, content: bytes) -> None:
        with self._sending:
            try:
                _say(self._connection, kind, content)
            except OSError as error:
                self._lost(f"{self.name} is gone: {error.strerror}")

    def pulse(self) -> None:
        """Unless a message is under way, which is sign enough."""
        if self._sending.acquire(blocking=False):
            try:
                self._connection.sendall(_HEADER.pack(_PULSE, 0))
            except OSError:
                pass  # the reading thread says what is wrong
            finally:
                self._sending.release()

    def receive(self) -> bytes:
        return self._messages.get()

    def close(self, reason: str) -> None:
        """Says good-bye first, so that the other does not think us dead."""
        try:
            with self._sending:
                self._connection.settimeout(PULSE)
                _say(self._connection, _FAREWELL, reason.encode())
                self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is gone already
        finally:
            self._connection.close()

    def _read(self) -> None:
        try:
            while True:
                kind, content = _hear(self._connection, None, self._hear_of)
                if kind == _FAREWELL:
                    self.left = True
                    if content:
                        time.sleep(2 * PULSE)  # what it said before may be reason enough to end, and a better one
                        self._lost(f"{self.name} stopped: {content.decode(errors='replace')}")
                    return
                if kind == _MESSAGE:
                    self._messages.put(content)
        except OSError as error:
            self._lost(f"{self.name} is gone: {error.strerror or 'its connection ended'}")

    def _hear_of(self) -> None:
        self.heard = time.monotonic()


def _say(connection: socket.socket, kind: bytes, content: bytes) -> None:
    connection.sendall(_HEADER.pack(kind, len(content)))
    connection.sendall(content)


def _hear(connection: socket.socket, most: int | None, heard: Callable[[], None] = lambda: None) -> tuple[bytes, bytes]:
    """The next frame: its kind and content. `heard` is called with every part of it that comes."""

    def exactly(size: int) -> bytes:
        content = bytearray(size)
        view, filled = memoryview(content), 0
        while filled < size:
            received = connection.recv_into(view[filled:])
            if not received:
                raise ConnectionError
            filled += received
            heard()
        return bytes(content)

    kind, size = _HEADER.unpack(exactly(_HEADER.size))
    if most is not None and size > most:
        raise ConnectionError
    return kind, exactly(size)


def _greeting(connection: socket.socket) -> dict[str, Any] | None:
    """What a worker says first; None from anybody else."""
    connection.settimeout(5)
    try:
        content = json.loads(_hear(connection, GREETING)[1])
        expected = {"index": int, "addresses": list, "host": str, "process": int}
        if not all(isinstance(content[key], kind) for key, kind in expected.items()):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    connection.settimeout(None)
    return content


def _short(fact: str | None) -> str:
    return "missing" if fact is None else fact if len(fact) <= 60 else f"{fact[:24]}…{fact[-24:]}"
