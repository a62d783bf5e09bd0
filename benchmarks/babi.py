"""How many questions about bAbI's stories does a memory network answer, task by task?

    python benchmarks/babi.py FOLDER [--tasks 1 2 …] [--set KEY=VALUE …] [--run-dir DIR] [--name babi]

FOLDER has qa1_single-supporting-fact_train.txt and its like. Each task is a model of its own, by `question_answering/babi_dmn`;
`--set model.supervision=0 --name babi-alone` is the same without being told which facts matter. Finished tasks are not trained again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contenders import table

from nlp_tasks.report import with_interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", type=int, nargs="+", default=range(1, 21))
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--run-dir", type=Path, default=Path("runs"))
    parser.add_argument("--export-dir", type=Path, default=Path("saved_models"))
    parser.add_argument("--name", default="babi")
    options = parser.parse_args()
    rows, means, seconds = [], [], 0.0
    for task in options.tasks:
        name = f"{options.name}-qa{task}"
        command = [sys.executable, "-m", "nlp_tasks", "run", "question_answering/babi_dmn", "--name", name, "--set", f"data.tasks=[{task}]",
                   "--set", f"data.directory={options.folder.resolve()}", "--run-dir", str(options.run_dir), "--export-dir",
                   str(options.export_dir), *(word for setting in options.settings for word in ("--set", setting))]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        content = json.loads((options.run_dir / name / "scores.json").read_text())
        scores, baseline = content["scores"], content["baseline"]
        file = next(options.folder.glob(f"qa{task}_*_test.txt"))
        rows.append([str(task), file.stem.split("_")[1], with_interval("accuracy", content), with_interval("accuracy", baseline),
                     f"{100 * scores['supporting_recall']:.1f} %", f"{content['training_seconds']:.0f}"])  # fmt: skip
        means.append((scores["accuracy"], baseline["scores"]["accuracy"]))
        seconds += content["training_seconds"]
    ours, theirs = (100 * sum(column) / len(means) for column in zip(*means, strict=True))
    rows.append(["mean", "", f"{ours:.2f} %", f"{theirs:.2f} %", "", f"{seconds:.0f}"])
    table("bAbI", ["task", "", "accuracy, 95 % interval", "words alone", "supporting facts looked at", "seconds"], rows)


if __name__ == "__main__":
    main()
