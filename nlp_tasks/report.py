"""What a run leaves for people: scores.json, report.txt, plots, and the table at the end."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlp_tasks.scores import Scores


def write_json(path: Path, content: Any) -> None:
    """Writes beside, then renames: a file that exists is whole."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def with_interval(metric: str, scores: Mapping[str, Any]) -> str:
    """`"92.51 % [92.18, 92.84]"` for accuracies and F1, `"0.2134 [0.2051, 0.2219]"` for others."""
    percent = metric.endswith(("accuracy", "_f1", "precision", "recall"))

    def shown(value: float) -> str:
        return f"{100 * value:.2f}" if percent else f"{value:.4f}"

    interval = scores.get("intervals", {}).get(metric)
    text = shown(scores["scores"][metric]) + (" %" if percent else "")
    return f"{text} [{shown(interval[0])}, {shown(interval[1])}]" if interval else text


def table(rows: Sequence[Sequence[str]], header: Sequence[str], right: Sequence[int] = ()) -> str:
    """Aligned columns, plain text; `right` lists the columns of numbers."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()

    return "\n".join([line(cells[0]), "  ".join("─" * width for width in widths), *map(line, cells[1:])])


def summary(scores: Mapping[str, Mapping[str, Any]], headline: Mapping[str, str]) -> str:
    """The table at the end of `run`: a line a run.

    Args:
        scores: content of scores.json by recipe.
        headline: the metric to show, by recipe.
    """
    rows = []
    for name, content in scores.items():
        metric = headline[name]
        baseline = content.get("baseline")
        rows.append([
            name, f"{content['parameters']:,}", f"{content['training_seconds']:.0f}", metric, with_interval(metric, content),
            with_interval(metric, baseline) if baseline else "–",
        ])  # fmt: skip
    return table(rows, ("recipe", "parameters", "seconds", "score", "test, 95 % interval", "baseline"), right=(1, 2))


def text_report(content: Mapping[str, Any], scores: Scores, title: str, metric: str) -> str:
    """report.txt: the headline with what stands beside it, then every table."""
    lines = [title, "=" * len(title), ""]
    lines.append(f"{metric}  {with_interval(metric, content)}   ({content['counts']['examples']:,} test examples)")
    if content.get("baseline"):
        baseline = content["baseline"]
        lines.append(f"baseline  {with_interval(metric, baseline)}   {baseline['name']}")
        if metric in baseline.get("difference", {}):
            more, low, high = (f"{100 * value:+.2f}" for value in baseline["difference"][metric])
            lines.append(f"difference  {more} [{low}, {high}]   in points, on the same examples (paired bootstrap)")
    for anchor in content["anchor"]:
        mark = "" if anchor["comparable"] else "≠ "
        lines.append(f"anchor  {mark}{anchor['value']}   {anchor['source']}")
    lines.append("")
    rows = [[name, with_interval(name, content), content["signatures"].get(name, "")] for name in content["scores"]]
    lines.append(table(rows, ("metric", "test, 95 % interval", "signature")))
    lines += ["", scores.text]
    facts = {
        "parameters": f"{content['parameters']:,}",
        "training": f"{content['training_seconds']:.0f} s, {content['tokens_per_second']:,.0f} tokens/s, "
        f"padding {content['padding_share']:.0%}",
        "seed": str(content["seed"]),
        "data": content["data_hash"][:16],
    }
    lines.append(table([[key, value] for key, value in facts.items()], ("run", "")))
    return "\n".join(lines) + "\n"


def plots(folder: Path, history: Path, scores: Scores) -> None:
    """Learning curves, confusion and calibration as PNG, where there is something to show."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(exist_ok=True)
    _learning_curves(folder / "learning_curves.png", history)
    if "confusion" in scores.figures:
        _confusion(folder / "confusion.png", **scores.figures["confusion"])
    if "calibration" in scores.figures:
        _calibration(folder / "calibration.png", **scores.figures["calibration"])


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _close(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    beside = path.with_name(f".{path.name}.partial")
    figure.savefig(beside, dpi=130, format="png")
    pyplot.close(figure)
    os.replace(beside, path)


def _learning_curves(path: Path, history: Path) -> None:
    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    metrics = [name for name in rows[0] if f"validation_{name}" in rows[0]]
    if "log_loss" in metrics:  # the answer's, which both splits have; "loss" is what training descends
        metrics.remove("loss")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(metrics), figsize=(4.5 * len(metrics), 3.2), layout="constrained", squeeze=False)
    epochs = [float(row["epoch"]) for row in rows]
    for panel, metric in zip(axes[0], metrics, strict=True):
        panel.spines[["top", "right"]].set_visible(False)
        panel.plot(epochs, [float(row[metric]) for row in rows], marker="o", markersize=3, label="training")
        panel.plot(epochs, [float(row[f"validation_{metric}"]) for row in rows], marker="o", markersize=3, label="validation")
        panel.set(xlabel="epoch", title=metric)
        panel.legend(frameon=False)
    _close(figure, path)


def _confusion(path: Path, labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> None:
    size = min(14.0, max(3.2, 0.45 * len(labels) + 1.8))
    figure, axes = _figure(size, size * 0.9)
    shares = [[cell / max(1, sum(row)) for cell in row] for row in matrix]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= 40:
        names = [(label if len(label) <= 16 else label[:15] + "…").replace("$", r"\$") for label in labels]  # no formulas
        axes.set_xticks(range(len(labels)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(labels)), names)
    axes.set(xlabel="answer", ylabel="gold")
    if len(labels) <= 20:
        for i, row in enumerate(matrix):
            for j, cell in enumerate(row):
                axes.text(
                    j, i, f"{cell:,}", ha="center", va="center", color="white" if shares[i][j] > 0.5 else "black", fontsize=9
                )
    _close(figure, path)


def _calibration(path: Path, confidence: Sequence[float], accuracy: Sequence[float], count: Sequence[int]) -> None:
    figure, axes = _figure(3.6, 3.4)
    low = max(0.0, min(min(confidence), min(accuracy)) - 0.05)
    axes.plot([low, 1], [low, 1], color="0.7", linewidth=1, label="calibrated")
    largest = max(count)
    axes.scatter(confidence, accuracy, s=[10 + 120 * n / largest for n in count], alpha=0.6, linewidth=0)
    axes.plot(confidence, accuracy, linewidth=1, label="this model")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(low, 1.02), ylim=(low, 1.02))
    axes.legend(frameon=False, loc="upper left")
    _close(figure, path)
