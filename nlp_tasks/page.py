"""Pages: what a run or a comparison left in files, as one HTML file that needs nothing else. Text from data is escaped."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from nlp_tasks.errors import UserError
from nlp_tasks.report import (
    counted,
    curves,
    difference_text,
    is_percent,
    published,
    short_place,
    shown,
    source,
    split_rows,
    with_interval,
)  # fmt: skip

WORST = 30
"""So many wrong answers are shown."""
HARDEST = 10
"""So many texts are shown where none is right or wrong."""
LONGEST = 1200
"""So many characters of a text are shown at once."""
LABELS = 20
"""Confusion matrices of more labels are too wide to read: their most frequent confusions are shown."""


@cache
def _environment() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("nlp_tasks", "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def render(template: str, **content: Any) -> str:
    return _environment().get_template(template).render(content).strip() + "\n"


def report(folder: Path) -> str:
    """The page of a run.

    Args:
        folder: of a run that was scored: scores.json, predictions.jsonl, history.csv, and check.json, environment.json, export.json and
            recipe.toml where they are there.

    Raises:
        UserError: no scores.
    """
    if not (folder / "scores.json").is_file():
        raise UserError(f"{folder} has no scores.json", "first run `nlp-tasks run` with its recipe to the end")
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    found, facts, exported = (_json(folder / name) for name in ("check.json", "environment.json", "export.json"))
    recipe = folder / "recipe.toml"
    resolved = recipe.read_text(encoding="utf-8") if recipe.is_file() else ""
    metric = scores["headline"]
    figures = scores.get("figures", {})
    baseline = scores["baseline"]
    wrong, errors = _errors(folder / "predictions.jsonl")
    return render(
        "report.html",
        name=scores["recipe"], metric=_words(metric), description=_description(resolved),
        headline=headline(scores), beside=beside(metric, scores),
        others=[beside(of, scores) | {"title": _words(of)} for of in dict.fromkeys(a["metric"] for a in scores["anchor"]) if of != metric],
        difference=f"The difference to the baseline is {difference_text(baseline['difference'][metric], metric)} on the same examples "
                   "(paired bootstrap)." if baseline and metric in baseline.get("difference", {}) else "",
        copies=_copies(metric, scores),
        anchors_differ=any(not anchor["comparable"] for anchor in scores["anchor"]),
        trained=_trained(scores, exported, resolved),
        learning=_learning(folder / "history.csv"),
        has_baseline=bool(baseline),
        scores=[{"metric": _words(name), "value": _value(name, scores), "interval": _interval(name, scores),
                 "baseline": with_interval(name, baseline) if baseline and name in baseline["scores"] else "–",
                 "signature": scores["signatures"].get(name, "")} for name in scores["scores"]],
        groups=[_grouped(figure) for figure in figures.values() if isinstance(figure, dict) and figure.get("names")],
        classes=[{**row, **{key: f"{100 * row[key]:.2f}" for key in ("precision", "recall", "f1")}, "count": f"{row['count']:,}"}
                 for row in sorted(figures.get("classes", ()), key=lambda row: -row["count"])],
        confusion=_confusion(figures.get("confusion")), confusions=_confusions(figures.get("confusion")),
        calibration=_calibration(figures.get("calibration")),
        errors=errors, wrong=None if wrong is None else f"{wrong:,}",
        check=found and {"splits": split_rows(found["splits"]), "counted": counted(found), "findings": [
            {**finding, "places": [*map(short_place, finding["places"])]} for finding in found["findings"]
        ]},
        command=(facts or {}).get("command", ""), environment=_facts(facts or {}, scores), recipe=resolved,
    )  # fmt: skip


def headline(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The score that a run is known by, with its interval, as scores.json has them."""
    metric = scores["headline"]
    return {"value": _value(metric, scores), "interval": _interval(metric, scores), "metric": _words(metric),
            "examples": f"{scores['counts']['examples']:,}", "signature": scores["signatures"].get(metric, "")}  # fmt: skip


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("f1", "F1")


def _value(metric: str, scores: Mapping[str, Any]) -> str:
    return shown(metric, scores["scores"][metric]) + (" %" if is_percent(metric) else "")


def _interval(metric: str, scores: Mapping[str, Any]) -> str:
    interval = scores.get("intervals", {}).get(metric)
    return f"[{shown(metric, interval[0])}, {shown(metric, interval[1])}]" if interval else ""


def _description(resolved: str) -> str:
    lines = [line for line in resolved.splitlines() if line.startswith("description = ")]
    return json.loads(lines[0].partition(" = ")[2]) if lines else ""


# Scores on an axis


def scale(rows: Iterable[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """Scores on one axis, for the macro `scale`.

    Args:
        rows: name, kind ("model", "other" or "anchor"), score, and interval and note where there are.
        metric: what the scores are.
    """
    rows = list(rows)
    ends = [end for row in rows for end in (row["score"], *(row.get("interval") or ()))]
    low, high = min(ends), max(ends)
    room = max(0.08 * (high - low), 0.002 if is_percent(metric) else 1e-4 * abs(high), 1e-9)
    low, high = low - room, high + room
    if is_percent(metric):
        low, high = max(0.0, low), min(1.0, high + room / 10)

    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    made = []
    for row in rows:
        interval = row.get("interval")
        made.append({
            "name": row["name"], "kind": row["kind"], "note": row.get("note", ""), "at": at(row["score"]),
            "low": at(interval[0]) if interval else None, "high": at(interval[1]) if interval else None,
            "value": shown(metric, row["score"]) + (" %" if is_percent(metric) else ""),
            "interval": f"[{shown(metric, interval[0])}, {shown(metric, interval[1])}]" if interval else "",
        })  # fmt: skip
    factor = 100 if is_percent(metric) else 1
    return {"rows": made, "ticks": [{"at": at(tick), "text": f"{factor * tick:g}"} for tick in _ticks(low, high, factor)]}


def _ticks(low: float, high: float, factor: float = 1, most: int = 5) -> list[float]:
    """Round numbers between two ends, in units of 1 / factor."""
    import numpy as np

    low, high = low * factor, high * factor
    raw = (high - low) / most
    power = 10 ** np.floor(np.log10(raw))
    step = next(power * unit for unit in (1, 2, 5, 10) if power * unit >= raw)
    return [round(float(tick), 10) / factor for tick in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]


def beside(metric: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a metric: this model's, the baseline's, published ones."""
    rows: list[dict[str, Any]] = []

    def add(name: str, kind: str, of: Mapping[str, Any], note: str = "") -> None:
        if metric in of["scores"]:
            score, interval = of["scores"][metric], of["intervals"].get(metric)
            rows.append({"name": name, "kind": kind, "note": note, "score": score, "interval": interval})

    add("this model", "model", scores)
    if less := scores.get("without_copies"):
        note = f"without {less['left_out']:,} test examples that train has too"
        add("this model", "model", less, note)
    if baseline := scores["baseline"]:
        add(baseline["name"], "other", baseline, "baseline")
    for anchor in scores["anchor"]:
        if anchor["metric"] == metric:
            rows.append({"name": source(anchor), "kind": "anchor", "note": "published", "score": published(anchor)})
    return scale(rows, metric)


def _copies(metric: str, scores: Mapping[str, Any]) -> str:
    less = scores.get("without_copies")
    if not less:
        return ""
    return f"{less['left_out']:,} test examples stand in train as well, wholly or nearly; without them the {_words(metric)} is {with_interval(metric, less)}."  # noqa: E501


def _grouped(figure: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {"name": name, "note": f"{count:,}", "kind": "model", "score": score, "interval": interval}
        for name, count, score, interval in zip(*(figure[key] for key in ("names", "counts", "scores", "intervals")), strict=True)
    ]
    return scale(rows, figure["metric"]) | {"title": f"{_words(figure['metric'])} by {figure['title']}"}


# Curves


def _curve(title: str, unit: str, lines: Sequence[Mapping[str, Any]], steps: Sequence[float]) -> dict[str, Any]:
    """For the macro `curves`; a line has name, kind, x, y, and r (radius of its dots)."""
    every = [value for line in lines for value in line["y"]]
    low, high = min(every), max(every)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    first, last = min(min(line["x"]) for line in lines), max(max(line["x"]) for line in lines)
    span = max(last - first, 1e-9)

    def across(value: float) -> float:
        return round(300 * (value - first) / span, 1)

    def up(value: float) -> float:
        return round(140 * (high - value) / (high - low), 1)

    made = []
    for line in lines:
        dots = [
            {"x": across(x), "y": up(y), "r": r, "title": f"{x:g}: {y:.4g}"}
            for x, y, r in zip(line["x"], line["y"], line["r"], strict=True)
        ]
        points = " ".join(f"{dot['x']},{dot['y']}" for dot in dots)
        made.append({"name": line["name"], "kind": line["kind"], "points": points, "dots": dots})
    return {
        "title": title, "unit": unit, "lines": made, "diagonal": None,
        "ticks": [{"y": up(tick), "text": f"{tick:g}"} for tick in _ticks(low, high, most=4)],
        "steps": [{"x": across(step), "text": f"{step:g}"} for step in steps],
    }  # fmt: skip


def _learning(path: Path) -> list[dict[str, Any]]:
    """A panel a metric."""
    charts = []
    for curve in curves(path):
        lines = [
            {"name": name, "kind": "model" if name == "validation" else "other", "x": x, "y": y, "r": [2.5] * len(x)}
            for name, (x, y) in curve.lines.items()
        ]
        if not curve.lines:
            continue
        epochs = next(iter(curve.lines.values()))[0]
        steps = _ticks(epochs[0], epochs[-1]) if len(epochs) > 1 else epochs
        charts.append(_curve(_words(curve.metric), "epoch", lines, steps))
    return charts


def _calibration(curve: Mapping[str, Sequence[float]] | None) -> dict[str, Any] | None:
    if not curve or not curve["count"]:
        return None
    largest = max(curve["count"])
    low = min(0.9, *curve["confidence"], *curve["accuracy"])
    sizes = [round(2 + 6 * (count / largest) ** 0.5, 1) for count in curve["count"]]
    line = {
        "name": "this model",
        "kind": "model",
        "x": [100 * c for c in curve["confidence"]],
        "y": [100 * a for a in curve["accuracy"]],
        "r": sizes,
    }
    corner = {"name": "calibrated", "kind": "other", "x": [100 * low, 100], "y": [100 * low, 100], "r": [0, 0]}
    chart = _curve("right answers, %", "probability given, %", [line, corner], _ticks(100 * low, 100))
    chart["lines"][1] |= {"points": "", "dots": []}
    return chart | {"diagonal": (0, 140)}


# Tables


def _confusion(figure: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not figure or len(figure["labels"]) > LABELS:
        return None
    rows = []
    for i, (label, counts) in enumerate(zip(figure["labels"], figure["matrix"], strict=True)):
        total = max(1, sum(counts))
        cells = [
            {"count": f"{count:,}" if count else "", "shade": round(70 * count / total), "right": i == j}
            for j, count in enumerate(counts)
        ]
        rows.append({"label": label, "cells": cells})
    return {"labels": figure["labels"], "rows": rows}


def _confusions(figure: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The most frequent ones, where the matrix is not shown."""
    if not figure or len(figure["labels"]) <= LABELS:
        return []
    labels = figure["labels"]
    found = [(n, i, j) for i, row in enumerate(figure["matrix"]) for j, n in enumerate(row) if n and i != j]
    return [{"gold": labels[i], "answer": labels[j], "count": f"{n:,}"} for n, i, j in heapq.nlargest(20, found)]


def _trained(scores: Mapping[str, Any], exported: Mapping[str, Any] | None, resolved: str) -> list[tuple[str, str]]:
    counts = scores["counts"]
    rows = [("task", scores["task"])]
    rows += [(name, value) for name in ("source", "origin", "licence") if (value := _setting(resolved, name))]
    rows += [
        (f"{split} rows", f"{counts[f'{split}_rows']:,}")
        for split in ("train", "validation", "test")
        if f"{split}_rows" in counts
    ]
    rows += [
        ("parameters", f"{scores['parameters']:,}"), ("training", f"{scores['training_seconds']:,.0f} s"),
        ("tokens a second", f"{scores['tokens_per_second']:,}"), ("padding", f"{scores['padding_share']:.0%}"),
    ]  # fmt: skip
    if scores.get("replicas", 1) > 1:
        rows += [("replicas", str(scores["replicas"])), ("time to add up gradients", f"{scores['reducing_share']:.0%}")]
    if exported:
        rows += [
            ("export on disk", f"{exported['bytes'] / 1e6:,.1f} MB"),
            ("one text, median", f"{exported['latency_ms']:.1f} ms"),
        ]
    return rows


def _setting(resolved: str, key: str) -> str:
    """A text of `[data]` of a resolved recipe."""
    import tomllib

    return str(tomllib.loads(resolved).get("data", {}).get(key, "")) if resolved else ""


def _facts(facts: Mapping[str, Any], scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("seed", str(scores["seed"])),
        ("commit", scores["commit"][:12] or "–"),
        ("hash of the data", scores["data_hash"][:16]),
    ]
    rows += [(name, str(facts[name])) for name in ("python", "platform") if name in facts]
    rows += [(name, number) for name, number in scores["versions"].items()]
    if "cores" in facts:
        rows += [("cores", f"{facts['cores']}, {', '.join(facts['cpu_flags']) or 'no vector units listed'}"),
                 ("oneDNN", "on" if facts["onednn"] else "off"),
                 ("strategy", f"{facts['strategy']}, {facts['replicas']} device(s)")]  # fmt: skip
    return rows


# Wrong answers


def _errors(path: Path) -> tuple[int | None, list[dict[str, Any]] | None]:
    """How many results are wrong, and those with the highest loss; None where there are no results.

    Where no result is right or wrong, as those of language models: None, and the results with the highest loss.
    """
    if not path.is_file():
        return 0, None
    wrong, judged = 0, True

    def wrong_ones() -> Iterator[dict[str, Any]]:
        nonlocal wrong, judged
        with path.open(encoding="utf-8") as file:
            for line in file:
                result = json.loads(line)
                judged &= "gold" in result
                if not judged or result.get("gold") != result.get("answer"):
                    wrong += 1
                    yield result

    worst = heapq.nlargest(WORST, wrong_ones(), key=lambda result: result.get("loss", 0.0))
    return wrong if judged else None, [_error(result) for result in worst[: WORST if judged else HARDEST]]


def _error(result: Mapping[str, Any]) -> dict[str, Any]:
    """A wrong answer: a text with its label, or words with a tag each."""
    made = {
        "where": result.get("where", ""),
        "loss": f"{result.get('loss', 0.0):.2f}",
        "gold": "",
        "answer": "",
        "text": [],
        "rest": [],
        "words": [],
    }
    if "words" in result:
        made["words"] = [
            {"text": word, "gold": gold, "answer": answer, "wrong": gold != answer}
            for word, gold, answer in zip(result["words"], result["gold"], result["answer"], strict=True)
        ]
        return made
    text = result.get("text", "")
    cut = (
        len(text)
        if len(text) <= LONGEST
        else text.rfind(" ", LONGEST // 2, LONGEST)
        if " " in text[LONGEST // 2 : LONGEST]
        else LONGEST
    )
    marks = result.get("marks", {})
    both = {"text": _marked(text, marks, 0, cut), "rest": _marked(text, marks, cut, len(text))}
    return made | {"gold": result.get("gold"), "answer": result.get("answer")} | both


def _marked(text: str, marks: Mapping[str, Sequence[int]], start: int, end: int) -> list[tuple[str, str]]:
    """A part of a text in pieces, each with the names of the marks `{name: (first character, the one behind the last)}` that it is in."""
    places = sorted({start, end, *(min(max(place, start), end) for mark in marks.values() for place in mark)})
    return [
        (text[first:last], " ".join(name for name, (begins, stops) in marks.items() if begins <= first and last <= stops))
        for first, last in pairwise(places)
    ]
