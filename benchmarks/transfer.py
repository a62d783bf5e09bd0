"""What are word vectors worth where labels are few? Random, own and GloVe's, frozen and tuned, on reviews and on parts of speech.

    python benchmarks/transfer.py --own own.txt --glove glove.6B.50d.txt --data-dir DIR [--seeds 1 2 3] [--only reviews|tags]

own.txt is what `nlp-tasks write-vectors` makes of word_vectors/imdb_text; DIR holds TFDS' imdb_reviews and universal_dependencies/en_ewt.
Reviews: sentiment/imdb_small with 1,000 and 5,000 labels, beside TF-IDF and logistic regression on the same rows. Tags:
pos_tagging/ud_english_ewt with a tenth of its sentences. A seed draws the labelled rows and trains the model; intervals are those of
Student's t over the seeds. Finished runs are not trained again. A picture shows the score by labelled reviews.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contenders import processor, table

HERE = Path(__file__).resolve().parent
REVIEWS, SENTENCES = (1000, 5000), 1254
"""Labelled examples; the sentences are a tenth of 12,543."""
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""The 97.5 % point of Student's t for so many seeds."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--own", type=Path, help="a file of our own vectors")
    parser.add_argument("--glove", type=Path, help="a file of GloVe's")
    parser.add_argument("--data-dir")
    parser.add_argument("--run-dir", default="runs")
    parser.add_argument("--export-dir", default="saved_models")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", choices=["reviews", "tags"])
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "transfer.png")
    options = parser.parse_args()
    if len(options.seeds) > max(STUDENT):
        parser.error(f"at most {max(STUDENT)} seeds")
    return options


def variants(options: argparse.Namespace, place: str, later: int) -> dict[str, list[str]]:
    """Settings by name; `place`: the section that says what becomes of the vectors of a file, which tuning begins after `later` steps."""
    found: dict[str, list[str]] = {"random": []}
    if "recurrent" in place:
        found["random, frozen"] = [f"{place}.vectors=frozen"]
    for name, path in (("own", options.own), ("GloVe", options.glove)):
        if path:
            base = [f"data.vectors={path.resolve()}", *([f"{place}.initial=vectors"] if "recurrent" in place else [])]
            found[f"{name}, frozen"] = [*base, f"{place}.vectors=frozen"]
            found[f"{name}, tuned"] = [*base, f"{place}.vectors=tuned"]
            found[f"{name}, tuned after {later} steps"] = [*base, f"{place}.vectors=tuned", f"{place}.tuned_after={later}"]
    return found


def score(options: argparse.Namespace, recipe: str, name: str, seed: int, settings: list[str]) -> dict[str, Any]:
    """scores.json of one run by the command line."""
    slug = "".join(letter if letter.isalnum() else "-" for letter in name.lower())
    run = f"transfer-{recipe.replace('/', '-')}-{slug}-seed{seed}"
    command = [sys.executable, "-m", "nlp_tasks", "run", recipe, "--name", run, "--seed", str(seed), "--run-dir", options.run_dir]
    command += ["--export-dir", options.export_dir, *(["--data-dir", options.data_dir] if options.data_dir else [])]
    every = [*settings, f"data.train_rows_seed={seed}", *options.settings]
    command += [part for setting in every for part in ("--set", setting)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return json.loads((Path(options.run_dir) / run / "scores.json").read_text())


def spread(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval."""
    if len(values) < 2:
        return values[0], 0.0
    return statistics.mean(values), STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5


def shown(values: list[float]) -> str:
    mean, half = spread([100 * value for value in values])
    return f"{mean:.2f} ± {half:.2f}" if len(values) > 1 else f"{mean:.2f}"


def measure(
    options: argparse.Namespace, recipe: str, size: int, found: dict[str, list[str]], baseline: str
) -> dict[str, list[float]]:
    """Accuracy by variant, one a seed; that of the runs' baseline beside."""
    scores: dict[str, list[float]] = {baseline: []}
    for name, settings in found.items():
        for seed in options.seeds:
            content = score(options, recipe, f"{name} {size}", seed, [f"data.train_rows={size}", *settings])
            scores.setdefault(name, []).append(content["scores"]["accuracy"])
            if name == "random":
                scores[baseline].append(content["baseline"]["scores"]["accuracy"])
            print(f"{recipe} {size} {name} seed {seed}: {scores[name][-1]:.4f}", file=sys.stderr, flush=True)
    return scores


def draw(path: Path, scores: dict[int, dict[str, list[float]]]) -> None:
    """Accuracy by labelled reviews, a line a variant."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.4, 4.2), layout="constrained")
    sizes = list(scores)
    best_first = sorted(scores[sizes[-1]], key=lambda name: -statistics.mean(scores[sizes[-1]][name]))
    for number, name in enumerate(best_first):
        means, halves = zip(*(spread([100 * value for value in scores[size][name]]) for size in sizes), strict=True)
        beside = [size * 1.015 ** (number - len(best_first) / 2) for size in sizes]  # intervals that do not cover each other
        axes.errorbar(beside, means, halves, label=name, marker="o", markersize=4, capsize=3, color=f"C{number}")
    axes.set(
        xscale="log", xlabel="labelled reviews", ylabel="test accuracy, %", xticks=sizes, xticklabels=[f"{n:,}" for n in sizes]
    )
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    options = arguments()
    print(processor())
    header = ["accuracy, %, mean of seeds and 95 % interval"]
    if options.only in (None, "reviews"):
        found = variants(options, "model.recurrent", 200)
        by_size = {n: measure(options, "sentiment/imdb_small", n, found, "TF-IDF + logistic regression") for n in REVIEWS}
        rows = [[name, *(shown(by_size[size][name]) for size in REVIEWS)] for name in by_size[REVIEWS[0]]]
        table("sentiment/imdb_small", [*header, *(f"{size:,} labels" for size in REVIEWS)], rows)
        draw(options.picture, by_size)
    if options.only in (None, "tags"):
        found = variants(options, "model", 400)
        scores = measure(options, "pos_tagging/ud_english_ewt", SENTENCES, found, "most frequent tag of each word")
        rows = [[name, shown(values)] for name, values in scores.items()]
        table("pos_tagging/ud_english_ewt", [*header, f"{SENTENCES:,} sentences"], rows)


if __name__ == "__main__":
    main()
