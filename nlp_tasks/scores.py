"""Thin doors to the field's scorers; intervals and signatures, so that a score never stands alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np
import sklearn
from sklearn import metrics

from nlp_tasks.data.spans import read_tags, write_tags


@dataclass
class Scores:
    """What a scoring gives.

    Attributes:
        scores: `{metric: number}`; fractions, not percentages.
        samples: `{metric: <float>[repetitions]}`: the metric on resampled examples.
        counts: `{what: number}`, such as examples.
        signatures: `{metric: how it was counted}`.
        text: tables for a person, such as a report by class.
        figures: `{name: data}` for pictures: "confusion" and "calibration".
    """

    scores: dict[str, float]
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    text: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """`{metric: (low, high)}`, 95 %."""
        return {metric: interval(values) for metric, values in self.samples.items()}


def bootstrap(count: int, metric: Callable[[np.ndarray], np.ndarray], *, repetitions: int = 1000, seed: int = 0) -> np.ndarray:
    """A metric on examples drawn with replacement, `<float>[repetitions]` (Efron & Tibshirani 1993, ch. 13).

    Two models on the same examples get the same draws: the differences of their values are those of a paired bootstrap.

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
    return np.concatenate(values)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of bootstrapped values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _ratio(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Bootstrapped ratio of two sums over examples, 0 where there is nothing to divide by."""

    def metric(weights: np.ndarray) -> np.ndarray:
        totals = (weights @ denominators).astype(float)
        return np.divide(weights @ numerators, totals, out=np.zeros(len(weights)), where=totals > 0)

    return bootstrap(len(numerators), metric)


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

    samples = {
        "accuracy": bootstrap(len(truth), lambda weights: weights @ right / len(truth)),
        "macro_f1": bootstrap(len(truth), macro_f1),
        "log_loss": bootstrap(len(truth), lambda weights: weights @ losses / len(truth)),
    }
    scorer = f"scikit-learn:{sklearn.__version__}"
    signatures = {
        "accuracy": f"unit:example|interval:bootstrap1000|{scorer}",
        "macro_f1": f"average:macro|classes:{classes}|interval:bootstrap1000|{scorer}",
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
    return Scores(scores, samples, {"examples": len(truth)}, signatures, text, figures)


def tagging(gold: Sequence[Sequence[str]], answers: Sequence[Sequence[str]], known: Sequence[Sequence[bool]]) -> Scores:
    """Accuracy of one tag a word: of all words, of those known from training and of the others; and of whole sentences.

    Args:
        gold: right tags of each sentence.
        answers: given tags, as many.
        known: whether a word stood in the training data, in exactly this form.
    """
    sentences = range(len(gold))
    right = [np.array(gold[i], object) == np.array(answers[i], object) for i in sentences]
    seen = [np.array(known[i], bool) for i in sentences]
    pairs = {
        "accuracy": (_sums(right), _sums(map(np.ones_like, right))),
        "known_accuracy": (_sums(r & k for r, k in zip(right, seen, strict=True)), _sums(seen)),
        "unknown_accuracy": (_sums(r & ~k for r, k in zip(right, seen, strict=True)), _sums(~k for k in seen)),
        "sentence_accuracy": (np.array([r.size > 0 and r.all() for r in right]), np.array([r.size > 0 for r in right])),
    }
    flat_gold, flat_answers = list(chain.from_iterable(gold)), list(chain.from_iterable(answers))
    tags = sorted({*flat_gold, *flat_answers})
    report = metrics.classification_report(flat_gold, flat_answers, labels=tags, digits=4, zero_division=0)
    matrix = metrics.confusion_matrix(flat_gold, flat_answers, labels=tags)
    signature = f"interval:bootstrap1000 of sentences|scikit-learn:{sklearn.__version__}"
    return Scores(
        {name: float(right.sum() / max(1, total.sum())) for name, (right, total) in pairs.items()},
        {name: _ratio(*pair) for name, pair in pairs.items()},
        {"examples": len(gold), "words": len(flat_gold), "unknown_words": int(pairs["unknown_accuracy"][1].sum())},
        {name: f"unit:{'sentence' if name == 'sentence_accuracy' else 'word'}|{signature}" for name in pairs},
        f"{report}\n{confusion_text(matrix, tags)}",
        {"confusion": {"labels": tags, "matrix": matrix.tolist()}},
    )


def spans(gold: Sequence[Sequence[str]], answers: Sequence[Sequence[str]]) -> Scores:
    """Precision, recall and F1 of spans written as BIO tags, by seqeval: a span counts where its kind and both its ends are right.

    Args:
        gold: right tags of each sentence, BIO; malformed ones are read as conlleval reads them.
        answers: given tags, as many.
    """
    from seqeval.metrics import classification_report
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    found = [(read_tags(g, "bio")[0], read_tags(a, "bio")[0]) for g, a in zip(gold, answers, strict=True)]
    gold, answers = ([write_tags(f[i], len(tags), "bio") for f, tags in zip(found, gold, strict=True)] for i in (0, 1))
    precision, recall, f1, _ = precision_recall_fscore_support(
        gold, answers, average="micro", mode="strict", scheme=IOB2, zero_division=0
    )
    hits, right, given = np.array([(len({*g} & {*a}), len(g), len(a)) for g, a in found], int).reshape(-1, 3).T
    some = right.any() or given.any()  # seqeval makes no table of nothing
    report = classification_report(gold, answers, mode="strict", scheme=IOB2, digits=4, zero_division=0) if some else "no spans\n"
    signature = f"mode:strict|scheme:IOB2|average:micro|interval:bootstrap1000 of sentences|seqeval:{version('seqeval')}"
    return Scores(
        {"span_f1": float(f1), "precision": float(precision), "recall": float(recall)},
        {"span_f1": _ratio(2 * hits, right + given), "precision": _ratio(hits, given), "recall": _ratio(hits, right)},
        {"examples": len(gold), "spans": int(right.sum()), "answered_spans": int(given.sum())},
        dict.fromkeys(("span_f1", "precision", "recall"), signature),
        report,
    )


def difference(ours: Scores, theirs: Scores) -> dict[str, list[float]]:
    """`{metric: [ours - theirs, low, high]}`, the interval that of a paired bootstrap over the same examples (Koehn 2004)."""
    return {
        metric: [ours.scores[metric] - theirs.scores[metric], *interval(values - theirs.samples[metric])]
        for metric, values in ours.samples.items()
        if metric in theirs.samples
    }


def joined(first: Scores, second: Scores) -> Scores:
    """Both side by side, about the same examples."""
    text = f"{first.text}\n{second.text}"
    return Scores(first.scores | second.scores, first.samples | second.samples, first.counts | second.counts,
                  first.signatures | second.signatures, text, first.figures | second.figures)  # fmt: skip


def _sums(values: Iterable[np.ndarray]) -> np.ndarray:
    return np.array([value.sum() for value in values], int)


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
