"""Requests a second and latency of `nlp-tasks serve`, batching on and off, beside the same signature called in a loop in Python.

    python benchmarks/serving.py saved_models/sentiment-sample saved_models/pos_tagging-sample
    python benchmarks/serving.py saved_models/pos_tagging-sample --swap

Each request is one text, of the toy world's test sentences. The load comes from wrk where it is installed, otherwise from a client of
our own, on the same machine: it takes its share of the cores. --swap: a minute of full load, in which a new version of the model takes over
and a broken one is refused; failed requests and the server's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nlp_tasks.data.toy_world import sentiment
from nlp_tasks.report import table

CONNECTIONS = (1, 8, 64)


class Load(NamedTuple):
    """What a load generator saw: requests a second, latencies in milliseconds, requests that failed."""

    rate: float
    median: float
    p99: float
    failed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exports", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--turns", type=int, default=3, help="medians of so many")
    parser.add_argument("--swap", action="store_true")
    arguments = parser.parse_args()
    texts = [text for text, _ in sentiment.generate("test")][:512]
    print(
        f"load from {'wrk' if shutil.which('wrk') else 'an asyncio client'}, {arguments.seconds:g} s each, median of {arguments.turns}"
    )
    for export in arguments.exports:
        if arguments.swap:
            swap(export, texts, seconds=max(60.0, arguments.seconds))
        else:
            compare(export, texts, arguments.seconds, arguments.turns)


def compare(export: Path, texts: list[str], seconds: float, turns: int) -> None:
    """Batching on and off in turn."""
    called, together = loop(export, texts)
    print(
        f"\n{export.name}: in a Python loop {called:.2f} ms a text, {1000 / called:,.0f} texts/s; 64 at once {together:,.0f} texts/s"
    )
    found: dict[tuple[str, int], list[Load]] = {}
    for _ in range(turns):
        for name, options in {"on": [], "off": ["--batch-size", "1"]}.items():
            with server(export.parent, options) as (port, _process):
                url = f"http://127.0.0.1:{port}/v1/models/{export.name}:predict"
                generate(url, texts, 8, 2)
                for connections in CONNECTIONS:
                    found.setdefault((name, connections), []).append(generate(url, texts, connections, seconds))
    rows = []
    for connections in CONNECTIONS:
        rate = {name: statistics.median(load.rate for load in found[name, connections]) for name in ("on", "off")}
        for name in ("on", "off"):
            loads = found[name, connections]
            median, p99 = (statistics.median(getattr(load, key) for load in loads) for key in ("median", "p99"))
            rows.append([
                str(connections), name, f"{rate[name]:,.0f}", f"{median:.2f}", f"{p99:.2f}", f"{median - called:+.2f}",
                f"{rate[name] / rate['off']:.2f}", str(sum(load.failed for load in loads)),
            ])  # fmt: skip
    head = ("connections", "batching", "requests/s", "p50 ms", "p99 ms", "p50 − loop", "× off", "failed")
    print(table(rows, head, right=tuple(range(2, 8))))


LOOP = """
import json, statistics, sys, time
from concurrent.futures import ThreadPoolExecutor
from nlp_tasks import machine
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
texts, signature = json.loads(sys.stdin.read()), model.signatures["serving_default"]
def call(batch):
    begun = time.perf_counter()
    for value in signature(texts=tf.constant(batch)).values():
        value.numpy()
    return time.perf_counter() - begun
for text in texts[:50]:
    call([text])
alone = statistics.median(call([text]) for text in texts)
batches = [texts[start : start + 64] for start in range(0, len(texts), 64)] * 4
with ThreadPoolExecutor(machine.parts()) as pool:
    list(pool.map(call, batches[:4]))
    begun = time.perf_counter()
    list(pool.map(call, batches))
    print(json.dumps([1000 * alone, sum(map(len, batches)) / (time.perf_counter() - begun)]))
"""


def loop(export: Path, texts: list[str]) -> tuple[float, float]:
    """The limit: milliseconds of a text alone, and texts a second 64 at once on all cores, without a server."""
    version = max((path for path in export.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    done = subprocess.run(
        [sys.executable, "-c", LOOP, str(version)], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    alone, together = json.loads(done.stdout.splitlines()[-1])
    return alone, together


@contextmanager
def server(folder: Path, options: list[str]) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "nlp_tasks", "serve", str(folder), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    port, told = 0, list[str]()
    for line in process.stderr:
        told.append(line)
        if found := re.search(r"serving on http://127.0.0.1:(\d+)/", line):
            port = int(found[1])
            break
    if not port:
        raise SystemExit("".join(told))
    reader = threading.Thread(
        target=lambda: [print(line, end="") for line in process.stderr or () if "refused" in line], daemon=True
    )
    reader.start()
    try:
        yield port, process
    finally:
        process.terminate()
        process.wait(30)


# Load


def generate(url: str, texts: list[str], connections: int, seconds: float) -> Load:
    return wrk(url, texts, connections, seconds) if shutil.which("wrk") else asyncio.run(client(url, texts, connections, seconds))


SCRIPT = """
local bodies, next = BODIES, 0
request = function()
  next = next % #bodies + 1
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, bodies[next])
end
"""
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def wrk(url: str, texts: list[str], connections: int, seconds: float) -> Load:
    bodies = "{" + ",".join(f"[==[{json.dumps({'instances': [text]})}]==]" for text in texts) + "}"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.replace("BODIES", bodies))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "--latency", "-s", script.name, url]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def latency(share: str) -> float:
        value, unit = re.search(rf"{share}%\s+([\d.]+)(us|ms|s|m)\b", told).groups()  # type: ignore[union-attr]
        return float(value) * _UNITS[unit]

    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1])  # type: ignore[index]
    failed = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", told)))
    if errors := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", told):
        failed += sum(map(int, errors.groups()))
    return Load(rate, latency("50"), latency("99"), failed)


async def client(url: str, texts: list[str], connections: int, seconds: float) -> Load:
    """Each connection sends its next request when it has its answer."""
    host, path = re.match(r"http://([^/]+)(/.*)", url).groups()  # type: ignore[union-attr]
    name, port = host.split(":")
    requests = []
    for text in texts:
        body = json.dumps({"instances": [text]}).encode()
        requests.append(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    latencies, failed, end = list[float](), 0, time.perf_counter() + seconds

    async def one(number: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(name, int(port))
        while time.perf_counter() < end:
            begun = time.perf_counter()
            writer.write(requests[number % len(requests)])
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
            except (OSError, asyncio.IncompleteReadError):
                failed += 1
                reader, writer = await asyncio.open_connection(name, int(port))
                continue
            latencies.append(1000 * (time.perf_counter() - begun))
            failed += not head.startswith(b"HTTP/1.1 200")
            number += connections
        writer.close()

    await asyncio.gather(*(one(number) for number in range(connections)))
    latencies.sort()
    return Load(len(latencies) / seconds, latencies[len(latencies) // 2], latencies[int(0.99 * len(latencies))], failed)


# Versions that change under load


def swap(export: Path, texts: list[str], seconds: float) -> None:
    """64 connections; a new version after a third of the time, a broken one after two thirds."""
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / export.name
        newest = max((path for path in export.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
        shutil.copytree(newest, model / "1")
        with server(Path(place), []) as (port, process):
            url = f"http://127.0.0.1:{port}/v1/models/{export.name}"
            generate(f"{url}:predict", texts, 64, 15)  # until memory has been asked for by batches of all sizes
            memory, over = [resident(process.pid)], threading.Event()

            def watch() -> None:
                while not over.wait(1):
                    memory.append(resident(process.pid))

            def change() -> None:
                if not over.wait(seconds / 3):
                    shutil.copytree(newest, model / ".2")
                    (model / ".2").rename(model / "2")
                if not over.wait(seconds / 3):
                    (model / "3").mkdir()
                    (model / "3" / "saved_model.pb").write_bytes(b"broken")
                    shutil.copytree(newest, model / ".4")  # loads, and says that it answered otherwise when it was exported
                    outputs = model / ".4" / "assets.extra" / "example_outputs.json"
                    outputs.write_text(outputs.read_text().replace('"tags"', '"other tags"').replace('"label"', '"other label"'))
                    (model / ".4").rename(model / "4")

            threads = [threading.Thread(target=watch), threading.Thread(target=change)]
            for thread in threads:
                thread.start()
            load = generate(f"{url}:predict", texts, 64, seconds)
            over.set()
            for thread in threads:
                thread.join()
            with urllib.request.urlopen(url, timeout=10) as answer:
                states = {state["version"]: state["state"] for state in json.load(answer)["model_version_status"]}
    third = len(memory) // 3
    print(
        f"\n{export.name}: {seconds:g} s, 64 connections, {load.rate:,.0f} requests/s, p99 {load.p99:.0f} ms, failed {load.failed}"
    )
    print(f"versions at the end: {states}")
    print(
        f"memory in MB: {memory[0]} before, {max(memory[:third])} in the first third, {max(memory)} at most, {memory[-1]} at the end"
    )
    if load.failed or states != {"1": "END", "2": "AVAILABLE", "3": "END", "4": "END"}:
        raise SystemExit("requests failed, or version 2 is not the one that is served")


def resident(pid: int) -> int:
    """MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) // 1024  # type: ignore[index]


if __name__ == "__main__":
    main()
