"""How much of two cores do two workers of one core each use, against two independent processes of one core each?

    python benchmarks/distribution.py RECIPE [--grown] [--data-dir DIR] [--set KEY=VALUE] [--turns 5] [--seconds 60]
    python benchmarks/distribution.py --growth MEGABYTES SECONDS      the model of docs/workers.md, for other numbers

Each turn trains the recipe as it stands, one after the other: once in two processes that know nothing of each other, each pinned to one
core, and once by `nlp-tasks launch --workers 2`, whose workers share each batch. Rates are tokens and seconds between two checkpoints, so
that neither the start nor the first, slow steps count. Independent processes compute whole batches, workers half ones; with --grown the
workers share batches of twice the size, so that a step is as much work for a worker as for an independent process.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from nlp_tasks import machine, recipe, tasks
from nlp_tasks.report import table

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contenders import processor

PROGRAM = [sys.executable, "-m", "nlp_tasks"]
WARM = 25
"""Seconds from the first checkpoint of a process to the one that counting begins with."""


def position(folder: Path) -> dict[str, Any]:
    """Of the last checkpoint; empty where there is none."""
    try:
        with np.load(folder / "checkpoints" / "last.npz") as content:
            return json.loads(content["position"].tobytes())
    except OSError:
        return {}


def measured(
    folders: list[Path], processes: list[subprocess.Popen[bytes]], before: list[dict[str, Any]], seconds: float
) -> list[dict[str, float]]:
    """Tokens/s of each training, counted over the same time, and the share of it that went into adding up gradients.

    before: where the trainings stood when these processes were started: what follows is theirs.
    """

    def after(begun: list[dict[str, Any]], more: float) -> list[dict[str, Any]]:
        while True:
            found = [position(folder) for folder in folders]
            if any(process.poll() is not None for process in processes):
                raise SystemExit(f"a training ended too early; look into {folders[0].parent}")
            if all(one.get("seconds", 0.0) > old.get("seconds", 0.0) + more for old, one in zip(begun, found, strict=True)):
                return found
            time.sleep(0.5)

    first = after(after(before, 0.0), WARM)
    last = after(first, seconds)
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in processes:
        process.wait()
    return [
        {
            "rate": (after["tokens"] - before["tokens"]) / (after["seconds"] - before["seconds"]),
            "reducing": (after["reducing"] - before["reducing"]) / (after["seconds"] - before["seconds"]),
        }
        for before, after in zip(first, last, strict=True)
    ]


def grown(options: argparse.Namespace) -> list[str]:
    """Settings for a batch of twice the recipe's size."""
    training = recipe.load(options.recipe, lambda task: tasks.find(task).recipe_type, options.settings).training
    return [f"training.batch_tokens={2 * training.batch_tokens}", f"training.batch_rows={2 * training.batch_rows}"]


def turn(options: argparse.Namespace, folder: Path, workers: bool) -> list[dict[str, float]]:
    """One measurement; run folders are used again, so that data is encoded once."""
    names = ["workers"] if workers else ["first", "second"]
    settings = ["training.checkpoint_seconds=15", "training.epochs=1000", "training.patience=0", *options.settings]
    settings += grown(options) if workers and options.grown else []
    common = [options.recipe, "--run-dir", str(folder), *(word for setting in settings for word in ("--set", setting))]
    common += ["--data-dir", options.data_dir] if options.data_dir else []
    processes, folders = [], [folder / name for name in names]
    before = [position(one) for one in folders]
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))[:2]]
    for core, name in zip(cores, names, strict=False):
        verb = ["launch", "--workers", "2", "--only-train"] if workers else ["train", "--strategy", "cpu"]
        pinned = ["taskset", "--cpu-list", ",".join(cores) if workers else core]
        log = (folder / f"{name}.log").open("wb")
        command = [*pinned, *PROGRAM, *verb, *common, "--name", name]
        processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=machine.given()))
        log.close()
    try:
        return measured(folders, processes, before, options.seconds)
    finally:
        for process in processes:
            process.kill()


def growth(megabytes: float, seconds: float) -> str:
    """How training grows with workers of one GPU each, from what a step reduces and how long it takes on one worker.

    A ring all-reduce sends 2 (k − 1) / k times the gradient through each worker's link, in 2 (k − 1) messages:

        T(k) = C / k + 2 (k − 1) / k · B / W + 2 (k − 1) · L          one global batch, dealt to k workers
        T(k) = C     + 2 (k − 1) / k · B / W + 2 (k − 1) · L          a global batch that grows with k
    """
    rows = []
    for name, bandwidth, latency in (("10 Gbit/s", 1.25e9, 50e-6), ("100 Gbit/s", 12.5e9, 10e-6), ("NVLink", 300e9, 5e-6)):
        for workers in (2, 8, 64):
            reducing = 2 * (workers - 1) / workers * megabytes * 1e6 / bandwidth + 2 * (workers - 1) * latency
            same = seconds / (seconds / workers + reducing)
            grown = workers * seconds / (seconds + reducing)
            rows.append([name, str(workers), f"{reducing * 1e3:.1f}", f"{same:.1f}", f"{grown:.1f}"])
    columns = ("link", "workers", "ms to add up", "speed-up, same batch", "speed-up, batch grows")
    return table(rows, columns, right=range(1, 5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("--grown", action="store_true")
    parser.add_argument("--data-dir")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--growth", nargs=2, type=float, metavar=("MEGABYTES", "SECONDS"))
    options = parser.parse_args()
    if options.growth:
        print(growth(*options.growth))
        return
    if not options.recipe:
        parser.error("name a recipe")
    print(processor())
    rows, ratios = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, options.turns + 1):
            alone = turn(options, Path(folder), workers=False)
            together = turn(options, Path(folder), workers=True)[0]
            total = sum(one["rate"] for one in alone)
            ratios.append(together["rate"] / total)
            rows.append([str(number), *(f"{one['rate']:,.0f}" for one in alone), f"{total:,.0f}", f"{together['rate']:,.0f}",
                         f"{together['reducing']:.0%}", f"{ratios[-1]:.2f}"])  # fmt: skip
            print(f"turn {number}: {ratios[-1]:.2f}", file=sys.stderr)
    print(table(rows, ("turn", "first alone", "second alone", "sum", "two workers", "adding up", "ratio"), right=range(1, 7)))
    print(f"\n{options.recipe}: tokens/s; median ratio {statistics.median(ratios):.2f} of two independent processes")


if __name__ == "__main__":
    main()
