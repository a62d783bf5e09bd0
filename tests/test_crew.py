"""Workers that meet, agree, share, and notice each other's end, as threads of one process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn

import numpy as np
import pytest

from nlp_tasks import crew
from nlp_tasks.crew import Cluster, Crew
from nlp_tasks.errors import UserError
from nlp_tasks.launch import free_ports

GOOD: dict[str, Any] = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}


def test_TF_CONFIG_is_read() -> None:
    assert crew.cluster(json.dumps(GOOD)) == Cluster(("a:1", "b:2"), 1)
    with_chief = {"cluster": {"worker": ["a:1", "[::1]:2"], "chief": ["c:3"]}, "task": {"type": "worker", "index": 1}}
    assert crew.cluster(json.dumps(with_chief)) == Cluster(("c:3", "a:1", "[::1]:2"), 2)
    assert crew.cluster(json.dumps(with_chief | {"task": {"type": "chief", "index": 0}})).index == 0


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"cluster": None}, "cluster.worker is missing"),
        ({"cluster": {"worker": []}}, "cluster.worker is missing"),
        ({"cluster": {"worker": "a:1"}}, "cluster.worker: expected a list of addresses, got 'a:1'"),
        ({"cluster": {"worker": ["a:1", "b"]}}, "cluster.worker[1]: expected host:port, got 'b'"),
        ({"cluster": {"worker": ["a:1", "b:70000"]}}, "cluster.worker[1]: expected host:port, got 'b:70000'"),
        ({"cluster": {"worker": ["a:1", 5]}}, "cluster.worker[1]: expected host:port, got 5"),
        ({"cluster": {"worker": ["a:1", "a:1"]}}, "a:1 stands there twice"),
        ({"cluster": {"worker": ["a:1"], "ps": ["b:2"]}}, "cluster.ps: only workers"),
        ({"cluster": {"worker": ["a:1"], "chief": ["b:2", "c:3"]}}, "cluster.chief: one chief, got 2"),
        ({"task": None}, "task is missing"),
        ({"task": {"type": "chief", "index": 0}}, "task.type: expected one of worker, got 'chief'"),
        ({"task": {"type": "worker"}}, "task.index: expected 0 to 1, got None"),
        ({"task": {"type": "worker", "index": 2}}, "task.index: expected 0 to 1, got 2"),
        ({"task": {"type": "worker", "index": "0"}}, "task.index: expected 0 to 1, got '0'"),
        ({"task": {"type": "worker", "index": True}}, "task.index: expected 0 to 1, got True"),
        ({"task": {"type": ["worker"], "index": 0}}, "task.type: expected one of worker, got ['worker']"),
        ({"cluster": {"worker": ["a:²"]}}, "cluster.worker[0]: expected host:port, got 'a:²'"),
        ({"cluster": {"worker": ["a..b:2222"]}}, "cluster.worker[0]: expected host:port, got 'a..b:2222'"),
    ],
)
def test_a_broken_TF_CONFIG_is_refused_by_its_key(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as refused:
        crew.cluster(json.dumps(GOOD | changed))
    assert refused.value.message.startswith("TF_CONFIG: ") and expected in refused.value.message


@pytest.mark.parametrize(("text", "expected"), [('{"cluster": ', "no JSON"), ("[]", "expected an object, got []")])
def test_a_TF_CONFIG_that_is_no_object_is_refused(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected.replace("[", r"\[")):
        crew.cluster(text)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why workers would have ended their processes."""
    reasons: list[str] = []
    monkeypatch.setattr(crew, "end_lost", reasons.append)
    return reasons


Start = Callable[[int, Callable[[Crew], Any]], Future[Any]]


@pytest.fixture
def start(ends: list[str]) -> Iterator[Start]:
    """`start(index, what it does with its crew of three)`, each in a thread of its own; the crew has not met."""
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(3))
    with ThreadPoolExecutor(4) as pool:

        def started(index: int, work: Callable[[Crew], Any], silence: float = 30.0) -> Future[Any]:
            def worker() -> Any:
                with Crew(Cluster(addresses, index), silence) as ours:
                    return work(ours)

            return pool.submit(worker)

        def listen(index: int) -> socket.socket:
            return socket.create_server(crew._place(addresses[index]))

        started.addresses, started.listen = addresses, listen  # type: ignore[attr-defined]
        yield started


def together(start: Start, work: Callable[[Crew], Any]) -> list[Any]:
    return [future.result(20) for future in [start(index, work) for index in (2, 0, 1)]]


def test_what_the_chief_makes_is_everywhere(start: Start, ends: list[str]) -> None:
    made: list[int] = []
    large = np.arange(300_000, dtype=np.float64).reshape(3, -1)

    def work(ours: Crew) -> Any:
        ours.meet({"data": "x"}, 10)

        def make() -> bytes:
            made.append(ours.index)
            return b"\x00chief"

        first = ours.share(make)
        values = ours.share_values(lambda: {"loss": 0.5, "stopped": False})
        arrays = ours.share_arrays(lambda: {"model/a": large, "b": np.array([7], np.int16)})
        return first, values, arrays

    for first, values, arrays in together(start, work):
        assert first == b"\x00chief" and values == {"loss": 0.5, "stopped": False}
        np.testing.assert_array_equal(arrays["model/a"], large)
        assert arrays["b"].dtype == np.int16
    assert made == [0] and ends == []


def test_a_crew_of_one_needs_no_connection() -> None:
    with Crew() as ours:
        ours.meet({"a": "b"}, 1)
        ours.agree({"a": "b"})
        assert ours.chief and ours.size == 1
        assert ours.share(lambda: b"x") == b"x" and ours.share_values(lambda: [1]) == [1]
        assert ours.share_arrays(dict) == {}


def test_workers_that_differ_are_refused_everywhere_and_both_are_shown(start: Start) -> None:
    def work(ours: Crew) -> str:
        with pytest.raises(UserError) as refused:
            ours.meet({"data": "a" * 100 if ours.index < 2 else "b" * 100, "training.epochs": str(3 + (ours.index == 1))}, 10)
        return refused.value.message

    messages = together(start, work)
    assert len(set(messages)) == 1
    assert "training.epochs is 3 on worker 0 and 4 on worker 1" in messages[0]
    assert f"data is {'a' * 24}…{'a' * 24} on worker 0 and {'b' * 24}…{'b' * 24} on worker 2" in messages[0]


def test_a_worker_that_never_comes_is_named(start: Start) -> None:
    def work(ours: Crew) -> str:
        begun = time.monotonic()
        with pytest.raises(UserError) as refused:
            ours.meet({}, 1.5)
        assert time.monotonic() - begun < 10
        return refused.value.message

    messages = [future.result(20) for future in (start(0, work), start(1, work))]
    expected = f"not there within 1.5 seconds: worker 2 ({start.addresses[2]})"  # type: ignore[attr-defined]
    assert messages == [expected, expected]


def test_a_chief_that_never_comes_is_named(start: Start) -> None:
    def work(ours: Crew) -> str:
        with pytest.raises(UserError) as refused:
            ours.meet({}, 1)
        return refused.value.message

    message = start(1, work).result(20)
    assert f"cannot reach worker 0 ({start.addresses[0]}) for 1 seconds" in message  # type: ignore[attr-defined]


def test_two_workers_with_one_index_are_refused(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    # On one machine the second one finds its port taken. On two machines it does not, and the chief sees two of them.
    listen = Crew._listen
    monkeypatch.setattr(Crew, "_listen", lambda self: listen(self) if self.chief else socket.socket())

    def work(ours: Crew) -> str:
        with pytest.raises(UserError) as refused:
            ours.meet({}, 10)
        return refused.value.message

    messages = [future.result(20) for future in (start(0, work), start(1, work), start(1, work))]
    assert len(set(messages)) == 1 and "two workers have the index 1: " in messages[0]
    assert messages[0].count(f"process {os.getpid()}") == 2


def test_a_worker_that_was_started_again_takes_the_place_of_the_dead_one(start: Start) -> None:
    address = crew._place(start.addresses[0])  # type: ignore[attr-defined]
    chief = start(0, lambda ours: ours.meet({}, 10))
    greeting = {"index": 1, "addresses": start.addresses, "host": "here", "process": 1}  # type: ignore[attr-defined]
    for _ in range(50):
        try:
            dead = socket.create_connection(address)
            break
        except OSError:
            time.sleep(0.1)
    crew._say(dead, b"M", json.dumps(greeting).encode())
    time.sleep(0.3)
    dead.close()
    others = [start(index, lambda ours: ours.meet({}, 10)) for index in (1, 2)]
    assert [future.result(20) for future in (chief, *others)] == [None] * 3


def test_a_worker_that_is_gone_when_all_are_there_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    say = crew._say

    def broken(connection: socket.socket, kind: bytes, content: bytes) -> None:
        if content == b"[]":  # the chief: all are there
            raise BrokenPipeError
        say(connection, kind, content)

    class Ended(Exception):
        pass

    def end(reason: str) -> NoReturn:
        raise Ended(reason)

    monkeypatch.setattr(crew, "_say", broken)
    monkeypatch.setattr(crew, "end_lost", end)
    futures = [start(index, lambda ours: ours.meet({}, 2)) for index in (0, 1, 2)]
    with pytest.raises(Ended, match=r"worker [12] \(.*\) went away before all workers were there"):
        futures[0].result(20)
    for future in futures[1:]:
        with pytest.raises(UserError, match="cannot reach worker 0 "):
            future.result(20)


def test_a_chief_that_died_while_all_met_may_be_started_again(start: Start) -> None:
    """A worker that has greeted it does not take its end for an answer."""
    dying = start.listen(0)  # type: ignore[attr-defined]
    others = [start(index, lambda ours: ours.meet({}, 10)) for index in (1, 2)]
    for _ in others:
        connection, _ = dying.accept()
        assert crew._greeting(connection)
        connection.close()
    dying.close()
    chief = start(0, lambda ours: ours.meet({}, 10))
    assert [future.result(20) for future in (chief, *others)] == [None] * 3


def test_a_worker_at_another_address_than_the_others_think_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    listen = Crew._listen

    def elsewhere(ours: Crew) -> socket.socket:
        listening = listen(ours)
        if ours.index == 2:
            listening.close()
        return listening

    def work(ours: Crew) -> str:
        with pytest.raises(UserError) as refused:
            ours.meet({}, 1.5)
        return refused.value.message

    monkeypatch.setattr(Crew, "_listen", elsewhere)
    messages = together(start, work)
    expected = f"worker 2 ({start.addresses[2]}) is there, but cannot be reached at this address for 1.5 seconds: "  # type: ignore[attr-defined]
    assert len(set(messages)) == 1 and messages[0].startswith(expected), messages


def test_a_port_in_use_is_refused(start: Start) -> None:
    address = start.addresses[1]  # type: ignore[attr-defined]
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(address.rpartition(":")[2])))
        other.listen()
        with pytest.raises(UserError) as refused:
            start(1, lambda ours: ours.meet({}, 1)).result(20)
    assert refused.value.message == f"worker 1: cannot listen at {address}: Address already in use"


@pytest.mark.parametrize("count", [1, 5])
def test_another_cluster_is_refused(start: Start, count: int) -> None:
    """Of fewer workers, or of so many that the chief has no such index."""
    more = (start.addresses[0], *(f"127.0.0.1:{port}" for port in free_ports(count)))  # type: ignore[attr-defined]
    elsewhere = Cluster(more, count)

    def stranger() -> str:
        with pytest.raises(UserError) as refused, Crew(elsewhere) as ours:
            ours.meet({}, 10)
        return refused.value.message

    def chief(ours: Crew) -> str:
        with pytest.raises(UserError) as refused:
            ours.meet({}, 10)
        return refused.value.message

    waiting = start(0, chief)
    assert stranger() == waiting.result(20)
    assert "has another cluster in its TF_CONFIG" in waiting.result() and more[1] in waiting.result()


GREETING = {"index": 9, "addresses": [], "host": "x", "process": 1}


@pytest.mark.parametrize(
    "said",
    [
        b"", b"GET / HTTP/1.1\r\n\r\n", struct.pack("!cQ", b"M", 1 << 40), struct.pack("!cQ", b"M", 2) + b"{}",
        struct.pack("!cQ", b"M", 3) + b"\xff[[", struct.pack("!cQ", b"M", 2) + b"[]",
        struct.pack("!cQ", b"M", len(json.dumps(GREETING))) + json.dumps(GREETING).encode(),
    ],
)  # fmt: skip
def test_whoever_is_none_of_ours_is_sent_away(start: Start, said: bytes) -> None:
    chief = start(0, lambda ours: ours.meet({}, 15))
    host, port = start.addresses[0].split(":")  # type: ignore[attr-defined]
    until = time.monotonic() + 10
    while True:
        try:
            stranger = socket.create_connection((host, int(port)))
            break
        except ConnectionRefusedError:
            assert time.monotonic() < until
            time.sleep(0.02)
    with stranger:
        stranger.sendall(said)
        with contextlib.suppress(OSError):  # it has been sent away already
            stranger.shutdown(socket.SHUT_WR)
        others = [start(index, lambda ours: ours.meet({}, 15)) for index in (1, 2)]
        for future in (chief, *others):
            future.result(20)


def test_a_worker_that_dies_is_noticed_at_once(start: Start, ends: list[str]) -> None:
    noticed = threading.Event()

    def chief(ours: Crew) -> None:
        ours.meet({}, 10)
        until = time.monotonic() + 10
        while not any(end.startswith("worker 1 ") for end in ends) and time.monotonic() < until:  # its own end may say it first
            time.sleep(0.01)
        noticed.set()

    def dies(ours: Crew) -> None:
        ours.meet({}, 10)
        link = ours._links.pop(0)
        link._connection.shutdown(socket.SHUT_RDWR)  # as the kernel does for a process that is killed
        noticed.wait(10)
        link._connection.close()

    def stays(ours: Crew) -> None:
        ours.meet({}, 10)
        noticed.wait(10)

    futures = [start(0, chief), start(1, dies), start(2, stays)]
    for future in futures:
        future.result(20)
    addresses = start.addresses  # type: ignore[attr-defined]
    assert f"worker 1 ({addresses[1]}) is gone: its connection ended" in ends


def test_a_worker_that_freezes_is_noticed(start: Start, ends: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PULSE", 0.05)
    frozen, noticed = threading.Event(), threading.Event()

    def work(ours: Crew) -> None:
        ours.meet({}, 10)
        if ours.index == 2:
            ours._closing.set()  # its pulse stops, its connections stay
            frozen.set()
            noticed.wait(10)
        elif ours.chief:
            frozen.wait(10)
            until = time.monotonic() + 10
            while not ends and time.monotonic() < until:
                time.sleep(0.01)
            noticed.set()
        else:
            noticed.wait(10)

    futures = [start(index, work, 0.5) for index in range(3)]  # type: ignore[call-arg]
    for future in futures:
        future.result(20)
    addresses = start.addresses  # type: ignore[attr-defined]
    assert ends and set(ends) == {f"worker 2 ({addresses[2]}) gives no sign of life for 0.5 seconds"}


def test_a_worker_that_stops_says_why(start: Start, ends: list[str]) -> None:
    told = threading.Event()

    def refuses(ours: Crew) -> None:
        ours.meet({}, 10)
        raise UserError("the disk is full", "free some space")

    def waits(ours: Crew) -> None:
        ours.meet({}, 10)
        until = time.monotonic() + 10
        while not ends and time.monotonic() < until:
            time.sleep(0.01)
        told.set()

    futures = [start(0, waits), start(1, refuses), start(2, lambda ours: (ours.meet({}, 10), told.wait(10)))]
    with pytest.raises(UserError):
        futures[1].result(20)
    for future in (futures[0], futures[2]):
        future.result(20)
    assert ends[0].startswith("worker 1 (") and ends[0].endswith("stopped: the disk is full")
