"""What does a model score on a test set that its recipe does not know, from another time or another source?

    python benchmarks/second_test.py saved_models/NAME FILE [saved_models/OTHER …]

FILE has the form of the recipe's own test file. Nothing is trained and nothing chosen; all models answer the same examples.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import msgspec

from nlp_tasks import load
from nlp_tasks.errors import UserError
from nlp_tasks.report import table, with_interval
from nlp_tasks.scores import Scores


def scored(model: str, file: Path) -> tuple[Scores, int, float]:
    """Scores on a file, how many examples it has, and seconds."""
    loaded = load(model)
    task = loaded.task
    if not file.is_file():
        raise UserError(f"no file {file}", "name one in the form of the recipe's own test file")
    data = task.recipe.data
    others = {"tasks": ()} if hasattr(data, "tasks") else {}  # of stories, which would be looked for below a directory
    data = msgspec.structs.replace(
        data, source="files", directory="", train=data.train or "not read", test=str(file.resolve()), **others
    )
    splits = task.splits(msgspec.structs.replace(task.recipe, data=data), None)
    examples = list(task.read(splits.rows("test"), splits.counts["test"]))
    print(f"{file}: {splits.counts['test']}", file=sys.stderr)
    begun = time.perf_counter()
    return task.score(task.evaluate(loaded, examples)), len(examples), time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("file", type=Path)
    parser.add_argument("others", nargs="*")
    options = parser.parse_args()
    rows = []
    for model in (options.model, *options.others):
        scores, count, seconds = scored(model, options.file)
        shown = {"scores": scores.scores, "intervals": scores.intervals}
        rows += [[model, metric, with_interval(metric, shown), f"{count:,}", f"{seconds:.0f}"] for metric in scores.scores]
    print(table(rows, ("model", "metric", "score, 95 % interval", "examples", "seconds"), right=(3, 4)))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
