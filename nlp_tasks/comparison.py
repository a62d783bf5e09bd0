"""Runs side by side, with paired tests on the same test examples."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from nlp_tasks import page, report
from nlp_tasks.errors import UserError
from nlp_tasks.scores import interval, mcnemar, p_value


@dataclass
class Contender:
    """One run, from its folder or from its export.

    Attributes:
        name: of the run.
        path: what was named.
        scores: content of scores.json.
        samples, parts: of statistics.npz, as in `Scores`.
        exported: content of export.json; empty where there is none.
    """

    name: str
    path: str
    scores: dict[str, Any]
    samples: dict[str, np.ndarray]
    parts: dict[str, np.ndarray]
    exported: dict[str, Any]


def open_contender(path: Path) -> Contender:
    """A run folder, `saved_models/NAME` (its newest version) or `saved_models/NAME/VERSION`.

    Raises:
        UserError: no such folder, neither a run nor an export, not scored, or scored by a version that kept less.
    """
    if not path.is_dir():
        raise UserError(f"no folder {path}", "give run folders (runs/NAME) or exports (saved_models/NAME)")
    numbered = sorted((int(child.name), child) for child in path.iterdir() if child.name.isdecimal() and child.is_dir())
    root = numbered[-1][1] if numbered else path
    folder = root / "assets.extra" if (root / "assets.extra").is_dir() else path
    if folder == path and not any((path / name).is_file() for name in ("identity.json", "scores.json")):
        raise UserError(f"{path} is neither a run nor an export", "give run folders (runs/NAME) or exports (saved_models/NAME)")
    if not (folder / "scores.json").is_file():
        raise UserError(f"{path} has no scores", "run its recipe to the end: `nlp-tasks train` alone scores nothing")
    try:
        return _read(path, folder)
    except (ValueError, EOFError, BadZipFile) as error:
        raise UserError(
            f"{folder}: broken scores.json or statistics.npz ({error})",
            "remove both and run its recipe again: it is only scored anew",
        ) from None


def _read(path: Path, folder: Path) -> Contender:
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    if not (folder / "statistics.npz").is_file() or "test_hash" not in scores:
        raise UserError(
            f"{path} was scored before comparing was there",
            "remove its scores.json and run its recipe again: it is only scored anew",
        )
    with np.load(folder / "statistics.npz") as content:
        arrays = {name.partition("/")[::2]: content[name] for name in content.files}
    samples, parts = (
        {name: values for (kind, name), values in arrays.items() if kind == wanted} for wanted in ("samples", "parts")
    )
    exported = json.loads((folder / "export.json").read_text(encoding="utf-8")) if (folder / "export.json").is_file() else {}
    return Contender(scores["recipe"], str(path), scores, samples, parts, exported)


def compare(paths: Sequence[Path]) -> dict[str, Any]:
    """Everything that the table, the page and --json show.

    Raises:
        UserError: fewer than two runs, other tasks or headline scores, other test examples.
    """
    if len(paths) < 2:
        raise UserError("only one run", "name two or more")
    contenders = _named([open_contender(path) for path in paths])
    _check_same(contenders, "are runs of different tasks", lambda scores: f"{scores['task']}, scored by {scores['headline']}")
    _check_same(contenders, "were scored on different test examples", lambda scores: f"test data {scores['test_hash'][:12]}, "
                f"{scores['counts']['examples']:,} examples")  # fmt: skip
    metric = contenders[0].scores["headline"]
    contenders.sort(key=lambda contender: contender.scores["scores"][metric], reverse=report.larger_is_better(metric))
    return {
        "task": contenders[0].scores["task"], "headline": metric, "test_examples": contenders[0].scores["counts"]["examples"],
        "anchors": _anchors(contenders, lambda of: of == metric), "other_anchors": _anchors(contenders, lambda of: of != metric),
        "signature": contenders[0].scores["signatures"].get(metric, ""),
        "runs": [_run(contender, metric) for contender in contenders],
        "pairs": [_pair(one, other) for one, other in combinations(contenders, 2)],
    }  # fmt: skip


def _named(contenders: list[Contender]) -> list[Contender]:
    """By their paths where two have one name."""
    names = [contender.name for contender in contenders]
    for contender in contenders:
        if names.count(contender.name) > 1:
            contender.name = contender.path
    return contenders


def _check_same(contenders: Sequence[Contender], what: str, key: Any) -> None:
    groups: dict[str, list[str]] = {}
    for contender in contenders:
        groups.setdefault(key(contender.scores), []).append(contender.path)
    if len(groups) > 1:
        listed = "; ".join(f"{', '.join(paths)} ({name})" for name, paths in groups.items())
        raise UserError(
            f"these {what}: {listed}",
            "compare those of one group; a run whose data changed since must be run again under a new --name",
        )


def _run(contender: Contender, metric: str) -> dict[str, Any]:
    scores = contender.scores
    return {
        "name": contender.name, "path": contender.path, "score": scores["scores"][metric], "interval": scores["intervals"].get(metric),
        "scores": scores["scores"], "intervals": scores["intervals"], "validation": scores.get("validation"),
        "parameters": scores["parameters"],
        "training_seconds": scores["training_seconds"], "tokens_per_second": scores["tokens_per_second"],
        "bytes": contender.exported.get("bytes"), "latency_ms": contender.exported.get("latency_ms"), "seed": scores["seed"],
    }  # fmt: skip


def _anchors(contenders: Sequence[Contender], wanted: Callable[[str], bool]) -> list[dict[str, Any]]:
    """The published scores that stand beside any of the runs, of the metrics that are wanted."""
    every = [anchor for contender in contenders for anchor in contender.scores["anchor"] if wanted(anchor["metric"])]
    return [anchor for number, anchor in enumerate(every) if anchor not in every[:number]]


def _pair(one: Contender, other: Contender) -> dict[str, Any]:
    """Differences of all scores that both have, each with its interval and p-values."""
    metrics = {}
    for metric, values in one.samples.items():
        if metric not in other.samples:
            continue
        rights = [contender.parts.get(metric) for contender in (one, other)]
        if metric.endswith("accuracy") and not _same_totals(rights):
            continue  # such as that of words unknown to one model: other words than the other's
        observed = one.scores["scores"][metric] - other.scores["scores"][metric]
        differences = values - other.samples[metric]
        metrics[metric] = {"difference": [observed, *interval(differences)], "p": p_value(observed, differences)}
        if metric.endswith("accuracy") and all(right is not None and right[1].max(initial=0) <= 1 for right in rights):
            only_one, only_other, p = mcnemar(*(right[0].astype(bool) for right in rights if right is not None))
            metrics[metric]["mcnemar"] = {"only_first": only_one, "only_second": only_other, "p": p}
    return {"first": one.name, "second": other.name, "metrics": metrics}


def _same_totals(parts: Sequence[np.ndarray | None]) -> bool:
    """Whether two scores are shares of the same things."""
    totals = [part[1] for part in parts if part is not None]
    return len(totals) < 2 or np.array_equal(*totals)


RUN_HEADER = ("run", "test, 95 % interval", "validation", "parameters", "seconds", "tokens/s", "on disk", "one text")
PAIR_HEADER = ("difference", "95 % interval", "paired bootstrap", "McNemar")


def run_rows(content: Mapping[str, Any]) -> list[list[str]]:
    metric = content["headline"]
    return [
        [run["name"], report.with_interval(metric, run), report.with_interval(metric, run["validation"]) if run["validation"] else "–",
         f"{run['parameters']:,}", f"{run['training_seconds']:,.0f}",
         f"{run['tokens_per_second']:,}", f"{run['bytes'] / 1e6:,.1f} MB" if run["bytes"] else "–",
         f"{run['latency_ms']:.2f} ms" if run["latency_ms"] else "–"]
        for run in content["runs"]
    ]  # fmt: skip


def published(content: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Names and values of the published scores; ≠ where data, split or metric are others."""
    return [(report.source(a), report.published(a)) for a in content["anchors"]]


def other_rows(content: Mapping[str, Any]) -> list[list[str]]:
    """Published scores of other metrics than the headline, each beside those of the runs."""
    return [
        [report.source(a), a["metric"], report.shown(a["metric"], report.published(a)),
         *(report.with_interval(a["metric"], run) if a["metric"] in run["scores"] else "–" for run in content["runs"])]
        for a in content["other_anchors"]
    ]  # fmt: skip


def other_header(content: Mapping[str, Any]) -> tuple[str, ...]:
    return ("published elsewhere", "metric", "published", *(run["name"] for run in content["runs"]))


def pair_rows(content: Mapping[str, Any]) -> list[list[str]]:
    metric, rows = content["headline"], []
    for pair in content["pairs"]:
        if not (found := pair["metrics"].get(metric)):
            continue
        test = found.get("mcnemar")
        rows.append([
            f"{pair['first']} − {pair['second']}", report.difference_text(found["difference"], metric), _p(found["p"]),
            f"{_p(test['p'])} (only right: {test['only_first']:,} and {test['only_second']:,})" if test else "–",
        ])  # fmt: skip
    return rows


def _p(value: float) -> str:
    return f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"


def as_text(content: Mapping[str, Any]) -> str:
    """What `nlp-tasks compare` prints."""
    title = f"{content['task']}: {content['headline']} on the same {content['test_examples']:,} test examples"
    return "\n\n".join(filter(None, [
        title,
        report.table(run_rows(content), RUN_HEADER, right=(3, 4, 5, 6, 7)),
        "\n".join(f"published  {report.shown(content['headline'], value)}  {name}" for name, value in published(content)),
        report.table(other_rows(content), other_header(content)) if content["other_anchors"] else "",
        report.table(pair_rows(content), PAIR_HEADER),
        report.signature_lines([(content["headline"], content["signature"])]),
    ]))  # fmt: skip


def as_page(content: Mapping[str, Any]) -> str:
    """The same as one HTML file."""
    metric = content["headline"]
    rows = [{"name": run["name"], "kind": "model", "score": run["score"], "interval": run["interval"]} for run in content["runs"]]
    rows += [{"name": name, "note": "published", "kind": "anchor", "score": value} for name, value in published(content)]
    return page.render("compare.html", title=f"{len(rows)} runs of {content['task']}", metric=metric.replace("_", " "), content=content,
                       chart=page.scale(rows, metric), runs=run_rows(content), run_header=RUN_HEADER, pairs=pair_rows(content),
                       pair_header=PAIR_HEADER, others=other_rows(content), other_header=other_header(content))  # fmt: skip
