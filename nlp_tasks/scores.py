"""Thin doors to the field's scorers; intervals and signatures, so that a score never stands alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sklearn
from sklearn import metrics


@dataclass
class Scores:
    """What a scoring gives.

    Attributes:
        scores: `{metric: number}`; fractions, not percentages.
        intervals: `{metric: (low, high)}`, 95 %.
        counts: `{what: number}`, such as examples.
        signatures: `{metric: how it was counted}`.
        text: tables for a person, such as a report by class.
        figures: `{name: data}` for pictures: "confusion" and "calibration".
    """

    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    text: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def bootstrap(
    count: int, metric: Callable[[np.ndarray], np.ndarray], *, repetitions: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval over examples (Efron & Tibshirani 1993, ch. 13).

    Args:
        count: number of examples.
        metric: from weights `<int64>[repetitions, examples]` (how often each example was drawn) to `<float>[repetitions]`.
    """
    random = np.random.default_rng(seed)
    values = []
    for start in range(0, repetitions, 50):
        size = min(50, repetitions - start)
        drawn = random.integers(0, count, (size, count))
        weights = np.stack([np.bincount(row, minlength=count) for row in drawn])
        values.append(metric(weights))
    low, high = np.quantile(np.concatenate(values), [0.025, 0.975])
    return float(low), float(high)


def classification(gold: Sequence[int], probabilities: np.ndarray, labels: Sequence[str]) -> Scores:
    """Accuracy, macro F1, log loss and calibration of one label an example.

    Args:
        gold: index of the right label of each example; -1 where the label is none of `labels` (counts as wrong).
        probabilities: `<float>[examples, labels]`.
        labels: their names.
    """
    truth = np.asarray(gold)
    answers = probabilities.argmax(1)
    right = truth == answers
    classes = len(labels)
    chosen = np.where(truth >= 0, probabilities[np.arange(len(truth)), truth], 0.0)
    losses = -np.log(np.clip(chosen, 1e-12, 1.0))
    every = list(range(classes))
    scores = {
        "accuracy": float(metrics.accuracy_score(truth, answers)),
        "macro_f1": float(metrics.f1_score(truth, answers, labels=every, average="macro", zero_division=0)),
        "log_loss": float(losses.mean()),
        "calibration_error": calibration_error(probabilities, right),
    }

    def macro_f1(weights: np.ndarray) -> np.ndarray:
        total = np.zeros(len(weights))
        for label in every:
            hits = weights @ ((truth == label) & right)
            share = weights @ (truth == label) + weights @ (answers == label)
            total += np.divide(2 * hits, share, out=np.zeros(len(weights)), where=share > 0)
        return total / classes

    intervals = {
        "accuracy": bootstrap(len(truth), lambda weights: weights @ right / len(truth)),
        "macro_f1": bootstrap(len(truth), macro_f1),
        "log_loss": bootstrap(len(truth), lambda weights: weights @ losses / len(truth)),
    }
    version = f"scikit-learn:{sklearn.__version__}"
    signatures = {
        "accuracy": f"unit:example|interval:bootstrap1000|{version}",
        "macro_f1": f"average:macro|classes:{classes}|interval:bootstrap1000|{version}",
        "log_loss": "log:natural|clip:1e-12|interval:bootstrap1000",
        "calibration_error": "bins:15|weight:count",
    }
    report = metrics.classification_report(truth, answers, labels=every, target_names=list(labels), digits=4, zero_division=0)
    matrix = metrics.confusion_matrix(truth, answers, labels=every)
    figures = {
        "confusion": {"labels": list(labels), "matrix": matrix.tolist()},
        "calibration": calibration_curve(probabilities, right),
    }
    text = f"{report}\n{confusion_text(matrix, labels)}"
    return Scores(scores, intervals, {"examples": len(truth)}, signatures, text, figures)


def calibration_curve(probabilities: np.ndarray, right: np.ndarray, bins: int = 15) -> dict[str, list[float]]:
    """Mean confidence, accuracy and number of examples of each occupied bin of confidence (Guo 2017, section 2)."""
    confidence = probabilities.max(1)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    used = counts > 0
    means = np.bincount(place, confidence, bins)[used] / counts[used]
    accuracies = np.bincount(place, right, bins)[used] / counts[used]
    return {"confidence": means.tolist(), "accuracy": accuracies.tolist(), "count": counts[used].tolist()}


def calibration_error(probabilities: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean gap between confidence and accuracy, weighted by count (Guo 2017, eq. 3)."""
    curve = calibration_curve(probabilities, right, bins)
    gaps = np.abs(np.subtract(curve["confidence"], curve["accuracy"]))
    return float(np.average(gaps, weights=curve["count"]))


def confusion_text(matrix: np.ndarray, labels: Sequence[str], most: int = 20) -> str:
    """A confusion matrix for a terminal: rows are gold, columns are answers."""
    if len(labels) > most:
        return f"confusion matrix: {len(labels)} labels, see plots/confusion.png\n"
    cells = [["gold \\ answer", *labels]] + [[label, *map(str, row)] for label, row in zip(labels, matrix, strict=True)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = []
    for row in cells:
        lines.append("  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]))
    return "\n".join(lines) + "\n"
