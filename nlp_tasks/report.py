"""What a run leaves for people: scores.json, report.txt, plots, and the table at the end."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nlp_tasks.files import whole

if TYPE_CHECKING:
    from nlp_tasks.scores import Scores


def write_json(path: Path, content: Any) -> None:
    """Writes JSON for people; a file that exists is whole."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8; a file that exists is whole."""
    with whole(path) as file:
        file.write(text.encode())


def with_interval(metric: str, scores: Mapping[str, Any]) -> str:
    """`"92.51 % [92.18, 92.84]"` for accuracies and F1, `"0.2134 [0.2051, 0.2219]"` for others."""
    interval = scores.get("intervals", {}).get(metric)
    text = shown(metric, scores["scores"][metric]) + (" %" if is_percent(metric) else "")
    return f"{text} [{shown(metric, interval[0])}, {shown(metric, interval[1])}]" if interval else text


def is_percent(metric: str) -> bool:
    """Whether a fraction is shown as percent, as the field does."""
    return metric.endswith(("accuracy", "_f1", "precision", "recall")) or metric in ("f1", "exact_match")


def is_points(metric: str) -> bool:
    """Whether a score goes from 0 to 100, as it is shown."""
    return metric.startswith(("bleu", "chrf", "greedy_bleu"))


def shown(metric: str, value: float) -> str:
    """A value of a metric, without its unit."""
    if is_percent(metric):
        return f"{100 * value:.2f}"
    return f"{value:.2f}" if is_points(metric) else f"{value:.4f}"


def published(anchor: Mapping[str, Any]) -> float:
    """The value of an `[[anchor]]` as we count it: percents are written as such there."""
    return anchor["value"] / (100 if is_percent(anchor["metric"]) else 1)


def source(anchor: Mapping[str, Any]) -> str:
    """Where a published score comes from, ≠ where its data, split or metric is another."""
    return ("" if anchor["comparable"] else "≠ ") + anchor["source"]


def difference_text(difference: Sequence[float], metric: str) -> str:
    """`"+4.43 [+3.90, +4.95] points"`: a difference with its interval."""
    factor, digits, unit = (100, 2, " points") if is_percent(metric) else (1, 2, " points") if is_points(metric) else (1, 4, "")
    more, low, high = (f"{round(factor * value, digits) + 0.0:+.{digits}f}" for value in difference[:3])
    return f"{more} [{low}, {high}]{unit}"


def signature_lines(metrics: Iterable[tuple[str, str]]) -> str:
    """How metrics were counted, a line each, from (metric, signature)."""
    return "\n".join(f"{metric}: {signature}" for metric, signature in dict.fromkeys(metrics) if signature)


def larger_is_better(metric: str) -> bool:
    return not metric.endswith(("loss", "error", "perplexity", "bits_per_character")) and "nats_per_token" not in metric


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
    counted = [
        (f"{headline[name]} of {content['task']}", content["signatures"].get(headline[name], ""))
        for name, content in scores.items()
    ]
    header = ("recipe", "parameters", "seconds", "score", "test, 95 % interval", "baseline")
    return f"{table(rows, header, right=(1, 2))}\n\n{signature_lines(counted)}"


def _replicas(content: Mapping[str, Any]) -> str:
    """How many devices or workers trained, where there was more than one, and what that cost."""
    count = content.get("replicas", 1)
    return f"; {count} replicas, {content['reducing_share']:.0%} of the time to add up gradients" if count > 1 else ""


def text_report(content: Mapping[str, Any], scores: Scores, title: str, metric: str) -> str:
    """report.txt: the headline with what stands beside it, then every table."""
    lines = [title, "=" * len(title), ""]
    lines.append(f"{metric}  {with_interval(metric, content)}   ({content['counts']['examples']:,} test examples)")
    if content.get("baseline"):
        baseline = content["baseline"]
        lines.append(f"baseline  {with_interval(metric, baseline)}   {baseline['name']}")
        if metric in baseline.get("difference", {}):
            lines.append(
                f"difference  {difference_text(baseline['difference'][metric], metric)}   on the same examples (paired bootstrap)"
            )
    if less := content.get("without_copies"):
        lines.append(
            f"without copies  {with_interval(metric, less)}   {less['left_out']:,} test examples left out that train has too"
        )
    for anchor in content["anchor"]:
        mark = "" if anchor["comparable"] else "≠ "
        of = "" if anchor["metric"] == metric else f" {anchor['metric']}"
        lines.append(f"anchor  {mark}{anchor['value']}{of}   {anchor['source']}")
    lines.append("")
    rows = [[name, with_interval(name, content), content["signatures"].get(name, "")] for name in content["scores"]]
    lines.append(table(rows, ("metric", "test, 95 % interval", "signature")))
    lines += ["", scores.text]
    facts = {
        "parameters": f"{content['parameters']:,}",
        "training": f"{content['training_seconds']:.0f} s, {content['tokens_per_second']:,.0f} tokens/s, "
        f"padding {content['padding_share']:.0%}{_replicas(content)}",
        "seed": str(content["seed"]),
        "data": content["data_hash"][:16],
    }
    lines.append(table([[key, value] for key, value in facts.items()], ("run", "")))
    return "\n".join(lines) + "\n"


# What a look at the data found

SPLIT_HEADER = ("split", "examples", "field", "tokens", "median", "95 %", "longest", "cut", "unknown", "padding")
"""Of the table of splits: lengths in tokens; tokens that the recipe's limit cuts off; tokens that its vocabulary lacks."""


def check_text(content: Mapping[str, Any], title: str) -> str:
    """What `nlp-tasks check` prints."""
    parts = [
        f"{title}: {counted(content)}, in {content['seconds']:.0f} s",
        _split_table(content["splits"]),
        _label_table(content["splits"]),
    ]
    for finding in content["findings"]:
        lines = [f"{finding['level']:<7}  {finding['split']}: {finding['message']}"]
        if finding["places"]:
            places = ", ".join(map(short_place, finding["places"]))
            lines.append(f"         {places}" + (", …" if finding["count"] > len(finding["places"]) else ""))
        if finding["advice"]:
            lines.append(f"         → {finding['advice']}")
        parts.append("\n".join(lines))
    return "\n\n".join(filter(None, parts))


def short_place(place: str) -> str:
    """Places without the name of their data set, which everyone who looks knows."""
    return re.sub(r"tfds:\S*/|toy_world/", "", place)


def counted(content: Mapping[str, Any]) -> str:
    """`"1 error, 3 warnings, 2 notes"`."""
    levels = Counter(finding["level"] for finding in content["findings"])
    return ", ".join(
        f"{levels[level] or 'no'} {level}{'' if levels[level] == 1 else 's'}" for level in ("error", "warning", "note")
    )


def split_rows(splits: Mapping[str, Any]) -> list[list[str]]:
    """A row a split and field: what `SPLIT_HEADER` says."""
    rows = []
    for name, split in splits.items():
        for field_name, content in split["fields"].items():
            length = content["length"]
            rows.append([
                name, f"{split['examples']:,}", field_name, f"{content['tokens']:,}", f"{length['median']:,}", f"{length['95%']:,}",
                f"{length['max']:,}", f"{content['cut_tokens']:.1%}" if "cut_tokens" in content else "–",
                f"{content['unknown']:.1%}" if "unknown" in content else "–", f"{content['padding']:.0%}" if "padding" in content else "–",
            ])  # fmt: skip
    return rows


def _split_table(splits: Mapping[str, Any]) -> str:
    text = table(split_rows(splits), SPLIT_HEADER, right=(1, 3, 4, 5, 6, 7, 8, 9)) if splits else ""
    for name, content in splits.get("train", {}).get("vocabularies", {}).items():
        kept = f"{content['kept']:,} of the " if "kept" in content else "open, "
        text += f"\n\nvocabulary of {name}: {kept}{content['distinct']:,} different ones in train"
    return text


def _label_table(splits: Mapping[str, Any], most: int = 20) -> str:
    """How the labels are distributed, the most frequent first."""
    labels = list(dict.fromkeys(label for split in splits.values() for label in split["labels"]))
    if not labels:
        return ""
    totals = {name: max(1, sum(split["labels"].values())) for name, split in splits.items()}
    rows = [
        [label, *(f"{split['labels'].get(label, 0) / totals[name]:.1%}" for name, split in splits.items())]
        for label in labels[:most]
    ]
    if len(labels) > most:
        rows.append([f"and {len(labels) - most:,} more", *("" for _ in splits)])
    return table(rows, ("label", *splits), right=range(1, len(splits) + 1))


# Pictures


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


def save_figure(figure: Any, path: Path) -> None:
    """Writes a picture, as its ending says; a file that exists is whole."""
    from matplotlib import pyplot

    with whole(path) as file:
        figure.savefig(file, dpi=130, format=path.suffix[1:].lower())
    pyplot.close(figure)


class Curve(NamedTuple):
    """A metric over the epochs of a training, of each split that has it."""

    metric: str
    lines: dict[str, tuple[list[float], list[float]]]
    """Epochs and values, by "training" and "validation"."""


def curves(history: Path) -> list[Curve]:
    """What history.csv says of each metric that validation has."""
    if not history.is_file():
        return []
    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    metrics = [name.removeprefix("validation_") for name in (rows[0] if rows else ()) if name.startswith("validation_")]
    if "log_loss" in metrics:  # the answer's, which both splits have; "loss" is what training descends
        metrics.remove("loss")
    made = []
    for metric in metrics:
        lines = {}
        for name, column in (("training", metric), ("validation", f"validation_{metric}")):
            if points := [(float(row["epoch"]), float(row[column])) for row in rows if row.get(column)]:
                lines[name] = ([epoch for epoch, _ in points], [value for _, value in points])
        made.append(Curve(metric, lines))
    return made


def _learning_curves(path: Path, history: Path) -> None:
    if not (found := curves(history)):
        return
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(4.5 * len(found), 3.2), layout="constrained", squeeze=False)
    for panel, curve in zip(axes[0], found, strict=True):
        panel.spines[["top", "right"]].set_visible(False)
        for name, (epochs, values) in curve.lines.items():
            panel.plot(epochs, values, marker="o", markersize=3, label=name, color="0.55" if name == "training" else "C0")
        panel.set(xlabel="epoch", title=curve.metric)
        panel.legend(frameon=False)
    save_figure(figure, path)


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
    save_figure(figure, path)


def _calibration(path: Path, confidence: Sequence[float], accuracy: Sequence[float], count: Sequence[int]) -> None:
    figure, axes = _figure(3.6, 3.4)
    low = max(0.0, min(min(confidence), min(accuracy)) - 0.05)
    axes.plot([low, 1], [low, 1], color="0.7", linewidth=1, label="calibrated")
    largest = max(count)
    axes.scatter(confidence, accuracy, s=[10 + 120 * n / largest for n in count], alpha=0.6, linewidth=0)
    axes.plot(confidence, accuracy, linewidth=1, label="this model")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(low, 1.02), ylim=(low, 1.02))
    axes.legend(frameon=False, loc="upper left")
    save_figure(figure, path)
