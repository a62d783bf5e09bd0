"""Runs recipes as a user would and writes their scores to tasks/measured.json, which `nlp-tasks list` shows.

python benchmarks/recipes.py sentiment/imdb --data-dir DIR
python benchmarks/recipes.py sentiment/sst2 --data-dir DIR --seeds 1 2 3
python benchmarks/recipes.py ner/wnut17 --set data.directory=DIR
python benchmarks/recipes.py ner/wnut17 --set data.directory=DIR --set data.vectors=glove.6B.50d.txt --name ner-wnut17-glove

A variant, which has a --name, is shown but not written.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from nlp_tasks import recipe
from nlp_tasks.report import table, with_interval, write_json

MEASURED = Path(__file__).resolve().parent.parent / "tasks" / "measured.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", metavar="RECIPE")
    parser.add_argument("--data-dir")
    parser.add_argument("--run-dir", default="runs")
    parser.add_argument("--export-dir", default="saved_models")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--name")
    arguments = parser.parse_args()
    for name in arguments.recipes:
        runs = [one_run(name, seed, arguments) for seed in arguments.seeds]
        if not arguments.name:
            measured = {**recipe.measured(), name: entry(runs)}
            write_json(MEASURED, dict(sorted(measured.items())))
        show(name, runs)


def one_run(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """scores.json of a run by the command line; finished runs are not trained again."""
    run_name = (arguments.name or name.replace("/", "-")) + ("" if arguments.seeds == [1] else f"-seed{seed}")
    command = [sys.executable, "-m", "nlp_tasks", "run", name, "--name", run_name, "--seed", str(seed)]
    command += ["--run-dir", arguments.run_dir, "--export-dir", arguments.export_dir]
    command += ["--data-dir", arguments.data_dir] if arguments.data_dir else []
    command += [option for setting in arguments.settings for option in ("--set", setting)]
    begun = time.monotonic()
    subprocess.run(command, check=True)
    content = json.loads((Path(arguments.run_dir) / run_name / "scores.json").read_text())
    print(f"{run_name}: {time.monotonic() - begun:.0f} s in all")
    return content


def entry(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What is kept of one run; of several seeds the mean score, with the mean of the intervals' ends."""
    first, metric = runs[0], runs[0]["headline"]
    ends = [[run["intervals"][metric][end] for run in runs] for end in (0, 1)]
    return {
        "headline": metric,
        "scores": {metric: statistics.mean(run["scores"][metric] for run in runs)},
        "intervals": {metric: [statistics.mean(end) for end in ends]},
        "each_seed": {str(run["seed"]): run["scores"][metric] for run in runs},
        "signature": first["signatures"][metric],
        "baseline": first["baseline"],
        "parameters": first["parameters"],
        "training_seconds": statistics.mean(run["training_seconds"] for run in runs),
        "tokens_per_second": round(statistics.mean(run["tokens_per_second"] for run in runs)),
        "versions": first["versions"],
        "commit": first["commit"],
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
    }


def machine() -> str:
    """CPU model and the units that matter."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n") if info.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "")
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if unit in flags.split()]
    return f"{model}, {lines.count('') - 1 or '?'} threads, {' '.join(units)}"


def show(name: str, runs: list[dict[str, Any]]) -> None:
    metric = runs[0]["headline"]
    rows = [
        [name, str(run["seed"]), with_interval(metric, run), with_interval(metric, run["baseline"]) if run["baseline"] else "–",
         f"{run['training_seconds']:.0f}", f"{run['tokens_per_second']:,}", f"{run['parameters']:,}"]
        for run in runs
    ]  # fmt: skip
    header = ("recipe", "seed", f"{metric}, 95 % interval", "baseline", "seconds", "tokens/s", "parameters")
    print(table(rows, header, right=(1, 4, 5, 6)))


if __name__ == "__main__":
    main()
