"""Thin doors to the field's scorers; intervals and signatures, so that a score never stands alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn import metrics

from nlp_tasks.data.spans import Span, read_tags, write_tags
from nlp_tasks.files import whole


@dataclass
class Scores:
    """What a scoring gives.

    Attributes:
        scores: `{metric: number}`; fractions, not percentages.
        samples: `{metric: <float>[repetitions]}`: the metric on resampled examples.
        parts: `{metric: <float>[2, examples]}`: where a metric is a ratio of two sums over examples, what each adds to both.
        counts: `{what: number}`, such as examples.
        signatures: `{metric: how it was counted}`.
        text: tables for a person, such as a report by class.
        figures: `{name: data}` for pictures and tables: "confusion", "calibration", "classes" (precision, recall and F1 of each),
            and any `grouped`.
    """

    scores: dict[str, float]
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    text: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes samples and parts, which is what comparing two models takes: the file that exists is whole."""
        arrays: dict[str, Any] = {f"samples/{name}": values for name, values in self.samples.items()}
        arrays |= {f"parts/{name}": values.astype(np.float32) for name, values in self.parts.items()}
        with whole(path) as file:
            np.savez_compressed(file, **arrays)

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """`{metric: (low, high)}`, 95 %."""
        return {metric: interval(values) for metric, values in self.samples.items()}


def bootstrap(count: int, metric: Callable[[np.ndarray], np.ndarray], *, repetitions: int = 1000, seed: int = 0) -> np.ndarray:
    """A metric on examples drawn with replacement, `<float>[repetitions, …]` (Efron & Tibshirani 1993, ch. 13).

    Two models on the same examples get the same draws: the differences of their values are those of a paired bootstrap.

    Args:
        count: number of examples.
        metric: from weights `<float64>[repetitions, examples]` (how often each example was drawn) to `<float>[repetitions, …]`.
    """
    random = np.random.default_rng(seed)
    values = []
    for start in range(0, repetitions, 50):
        size = min(50, repetitions - start)
        drawn = random.integers(0, count, (size, count))
        weights = np.stack([np.bincount(row, minlength=count) for row in drawn])
        values.append(metric(weights.astype(np.float64)))
    return np.concatenate(values)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of bootstrapped values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def ratios(parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Bootstrapped ratios of two sums over examples, all on the same draws; 0 where there is nothing to divide by.

    Args:
        parts: `{metric: <float>[2, examples]}`, as in `Scores.parts`.
    """
    if not parts or not next(iter(parts.values())).size:
        return {name: np.zeros(1000) for name in parts}
    stacked = np.stack(list(parts.values())).astype(np.float64)
    totals = bootstrap(stacked.shape[2], lambda weights: weights @ stacked.reshape(-1, stacked.shape[2]).T)
    above, below = np.moveaxis(totals.reshape(-1, *stacked.shape[:2]), 0, -1).transpose(1, 0, 2)
    values = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return dict(zip(parts, values, strict=True))


def grouped(metric: str, title: str, groups: Mapping[str, np.ndarray], counts: Mapping[str, int] | None = None) -> dict[str, Any]:
    """A score in groups, such as by length, with intervals: for `Scores.figures`.

    Args:
        metric: which score.
        title: what the groups are.
        groups: `{name: <float>[2, examples]}`, parts as in `Scores.parts`; a group in which nothing is counted is left out.
        counts: how many each group has; where not given, what its score is a share of.
    """
    groups = {name: parts for name, parts in groups.items() if parts[1].sum() > 0}
    samples = ratios(groups)
    return {
        "metric": metric,
        "title": title,
        "names": list(groups),
        "scores": [float(parts[0].sum() / parts[1].sum()) for parts in groups.values()],
        "intervals": [interval(samples[name]) for name in groups],
        "counts": [counts[name] if counts else int(parts[1].sum()) for name, parts in groups.items()],
    }


def by_size(metric: str, title: str, sizes: np.ndarray, parts: np.ndarray, groups: int = 6) -> dict[str, Any]:
    """`grouped` by a number of each example, in groups of about equally many.

    Args:
        sizes: `<int>[examples]`.
        parts: `<float>[2, examples]`, as in `Scores.parts`.
    """
    names, place = _sized(sizes, groups)
    counts = {name: int((place == index).sum()) for index, name in enumerate(names)}
    return grouped(metric, title, {name: parts * (place == index) for index, name in enumerate(names)}, counts)


def _sized(sizes: np.ndarray, groups: int) -> tuple[list[str], np.ndarray]:
    """Names of groups of about equally many examples, such as "3–5", and the group of each example."""
    ends = np.unique(np.quantile(sizes, np.linspace(0, 1, groups + 1)[1:], method="higher")) if len(sizes) else np.zeros(0)
    starts = [int(min(sizes, default=0)), *(int(end) + 1 for end in ends[:-1])]
    names = [f"{start}–{int(end)}" if start < end else str(start) for start, end in zip(starts, ends, strict=False)]
    return names, np.searchsorted(ends, sizes)


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

    hits = np.stack([(truth == label) & right for label in every], 1).astype(np.float64)
    shares = np.stack([(truth == label).astype(np.float64) + (answers == label) for label in every], 1)

    def drawn(weights: np.ndarray) -> np.ndarray:
        twice, either = 2 * weights @ hits, weights @ shares
        f1 = np.divide(twice, either, out=np.zeros_like(twice), where=either > 0).sum(1) / classes
        return np.stack([weights @ right / len(truth), f1, weights @ losses / len(truth)], 1)

    samples = dict(zip(("accuracy", "macro_f1", "log_loss"), bootstrap(len(truth), drawn).T, strict=True))
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
        "calibration": calibration_curve(probabilities.max(1), right),
        "classes": class_table(matrix, labels, np.bincount(answers, minlength=classes)),
    }
    text = f"{report}\n{confusion_text(matrix, labels)}"
    parts = {"accuracy": np.stack([right, np.ones_like(right)]).astype(np.float64)}
    return Scores(scores, samples, parts, {"examples": len(truth)}, signatures, text, figures)


def tagging(
    gold: Sequence[Sequence[str]], answers: Sequence[Sequence[str]], known: Sequence[Sequence[bool]],
    confidence: Sequence[Sequence[float]] | None = None,
) -> Scores:  # fmt: skip
    """Accuracy of one tag a word: of all words, of those known from training and of the others; and of whole sentences.

    Args:
        gold: right tags of each sentence.
        answers: given tags, as many.
        known: whether a word stood in the training data, in exactly this form.
        confidence: the probability of each given tag, where there is one.
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
    parts = {name: np.stack(pair).astype(np.float64) for name, pair in pairs.items()}
    flat_gold, flat_answers = list(chain.from_iterable(gold)), list(chain.from_iterable(answers))
    tags = sorted({*flat_gold, *flat_answers})
    report = metrics.classification_report(flat_gold, flat_answers, labels=tags, digits=4, zero_division=0)
    matrix = metrics.confusion_matrix(flat_gold, flat_answers, labels=tags)
    signature = f"interval:bootstrap1000 of sentences|scikit-learn:{sklearn.__version__}"
    figures = {"confusion": {"labels": tags, "matrix": matrix.tolist()}, "classes": class_table(matrix, tags)}
    if confidence is not None:
        figures["calibration"] = calibration_curve(
            np.array(list(chain.from_iterable(confidence)), float), np.concatenate([[], *right])
        )
    return Scores(
        {name: float(right.sum() / max(1, total.sum())) for name, (right, total) in parts.items()},
        ratios(parts),
        parts,
        {"examples": len(gold), "words": len(flat_gold), "unknown_words": int(pairs["unknown_accuracy"][1].sum())},
        {name: f"unit:{'sentence' if name == 'sentence_accuracy' else 'word'}|{signature}" for name in pairs},
        f"{report}\n{confusion_text(matrix, tags)}",
        figures,
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
    kinds = sorted({span.kind for sentence in found for span in chain(*sentence)})
    parts = {
        "span_f1": np.stack([2 * hits, right + given]),
        "precision": np.stack([hits, given]),
        "recall": np.stack([hits, right]),
    }
    some = right.any() or given.any()  # seqeval makes no table of nothing
    report = classification_report(gold, answers, mode="strict", scheme=IOB2, digits=4, zero_division=0) if some else "no spans\n"
    signature = f"mode:strict|scheme:IOB2|average:micro|interval:bootstrap1000 of sentences|seqeval:{version('seqeval')}"
    return Scores(
        {"span_f1": float(f1), "precision": float(precision), "recall": float(recall)},
        ratios(parts),
        {name: pair.astype(np.float64) for name, pair in parts.items()},
        {"examples": len(gold), "spans": int(right.sum()), "answered_spans": int(given.sum())},
        dict.fromkeys(("span_f1", "precision", "recall"), signature),
        report,
        {"classes": [_kind_row(kind, found) for kind in kinds]},
    )


def _kind_row(kind: str, found: Sequence[tuple[list[Span], list[Span]]]) -> dict[str, Any]:
    of_kind = [({s for s in gold if s.kind == kind}, {s for s in given if s.kind == kind}) for gold, given in found]
    right, gold, given = (sum(map(len, column)) for column in zip(*((g & a, g, a) for g, a in of_kind), strict=True))
    return _class_row(kind, right, gold, given)


def _class_row(name: str, right: int, gold: int, given: int) -> dict[str, Any]:
    return {"name": name, "precision": right / max(1, given), "recall": right / max(1, gold), "f1": 2 * right / max(1, gold + given),
            "count": gold}  # fmt: skip


def class_table(matrix: np.ndarray, labels: Sequence[str], answered: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of gold examples of each label.

    Args:
        matrix: confusion matrix `<int>[gold, answers]`.
        labels: their names.
        answered: `<int>[labels]`: how often each was answered, where the matrix leaves out examples whose gold label is none of these.
    """
    given = matrix.sum(0) if answered is None else answered
    return [_class_row(label, int(matrix[i, i]), int(matrix[i].sum()), int(given[i])) for i, label in enumerate(labels)]


def language_model(results: Sequence[Mapping[str, Any]], unit: str, groups: Sequence[str]) -> Scores:
    """Nats per token, perplexity and bits per character of a text.

        perplexity = exp(nats / tokens)        bits per character = nats / (ln 2 · characters)

    Args:
        results: of each piece of the text its nats (-log p of all its tokens), tokens, characters, and `by_count`, [nats, tokens] of each
            of `groups`.
        unit: what the tokens are: "words", "characters" or "bytes".
        groups: names of the groups of tokens by how often training has them.
    """
    nats, tokens, characters = (
        np.array([result[name] for result in results], np.float64) for name in ("nats", "tokens", "characters")
    )
    parts = {"nats_per_token": np.stack([nats, tokens]), "bits_per_character": np.stack([nats / np.log(2), characters])}
    values = {name: float(above.sum() / max(1.0, below.sum())) for name, (above, below) in parts.items()}
    samples = ratios(parts)
    values["perplexity"] = float(np.exp(min(values["nats_per_token"], 700)))
    samples["perplexity"] = np.exp(np.minimum(samples["nats_per_token"], 700))
    signature = f"tokens:{unit}{' and line ends' if unit == 'words' else ''}|pass:contiguous|interval:bootstrap1000 of pieces"
    by_count = np.array([result["by_count"] for result in results], np.float64).reshape(len(results), len(groups), 2)
    figures = {
        "by_frequency": grouped(
            "nats_per_token",
            "how often training has the token",
            {name: by_count[:, place].T for place, name in enumerate(groups)},
        )
    }
    order = ("perplexity", "nats_per_token", "bits_per_character")
    return Scores(
        {name: values[name] for name in order},
        {name: samples[name] for name in order},
        parts,
        {"examples": len(results), "tokens": int(tokens.sum()), "characters": int(characters.sum())},
        {"perplexity": signature, "nats_per_token": f"log:natural|{signature}", "bits_per_character": f"log:2|{signature}"},
        "",
        figures,
    )


def windows(nats: np.ndarray, size: int) -> Scores:
    """Nats per token over windows of a text that were read each for itself: `<float>[windows]`, tokens of each."""
    name = f"nats_per_token_in_windows_of_{size}"
    parts = {name: np.stack([nats, np.full(len(nats), float(size))])}
    signature = f"windows:{len(nats)} at random|log:natural|interval:bootstrap1000 of windows"
    return Scores({name: float(nats.sum() / (size * len(nats)))}, ratios(parts), parts, signatures={name: signature})


def minimal_pairs(preferred: np.ndarray, kinds: Sequence[str], distances: np.ndarray) -> Scores:
    """How often a model prefers the right word of two, by kind and distance (Linzen 2016).

    Args:
        preferred: `<float>[pairs]`: 1 where the right word is, 0 where the wrong one is, 0.5 where neither is.
        kinds: of each pair.
        distances: `<int>[pairs]`: words between what decides and the word.
    """
    found: dict[str, np.ndarray] = {}
    figures = {}
    ends = (1, 3, 6, 10)
    names = [f"{low}–{high}" for low, high in zip((0, 2, 4, 7), ends, strict=True)] + ["11 and more"]
    for kind in dict.fromkeys(kinds):
        these = np.array([other == kind for other in kinds])
        found[f"{kind}_accuracy"] = np.stack([preferred * these, these]).astype(np.float64)
        groups = {
            name: found[f"{kind}_accuracy"] * (np.searchsorted(ends, distances) == place) for place, name in enumerate(names)
        }
        figures[f"by_distance_{kind}"] = grouped(f"{kind}_accuracy", "words between it and what decides it", groups)
    rows = [
        [kind, name, f"{100 * score:.1f} %", f"{count:,}"]
        for kind in dict.fromkeys(kinds)
        for name, score, count in zip(
            *(figures[f"by_distance_{kind}"][key] for key in ("names", "scores", "counts")), strict=True
        )
    ]
    text = "\n".join(["right word preferred, by words between it and what decides it", *("  ".join(row) for row in rows)]) + "\n"
    return Scores(
        {name: float(part[0].sum() / part[1].sum()) for name, part in found.items()},
        ratios(found),
        found,
        {"pairs": len(preferred)},
        dict.fromkeys(found, "unit:minimal pair|interval:bootstrap1000 of pairs"),
        text,
        figures,
    )


def bleu(references: Sequence[str], answers: Sequence[str], language: str = "") -> float:
    """Corpus BLEU of detokenised text as sacrebleu counts it: 0 to 100 (Papineni 2002; Post 2018)."""
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=_bleu_tokens(language)).corpus_score(list(answers), [_same_length(references, answers)]).score


def _bleu_tokens(language: str) -> str:
    """What BLEU counts in a language, as sacrebleu calls it: of one that is written without spaces, characters."""
    code = re.split("[-_]", language.lower())[0]
    return "zh" if code == "zh" else "char" if code in ("ja", "th", "lo", "km", "my") else "13a"


def translation(results: Sequence[Mapping[str, Any]], language: str = "") -> Scores:
    """BLEU and chrF of detokenised text, BLEU by length, and loss and perplexity of the references where a model gives them.

    Args:
        results: of each example its "text", "gold" translation, "answer", "length" (words of the text), and with a model "loss" (-log p of
            the gold translation, its end included) and "tokens" (of how many).
        language: of the translations, such as "de"; it decides what BLEU counts.
    """
    from sacrebleu.metrics import BLEU, CHRF

    gold, answers = [result["gold"] for result in results], [result["answer"] for result in results]
    tokens_of = _bleu_tokens(language)
    cased, lowered, chrf = BLEU(tokenize=tokens_of), BLEU(lowercase=True, tokenize=tokens_of), CHRF()
    measured = {"bleu": cased, "bleu_tok_lc": lowered, "chrf": chrf}
    statistics = {name: _statistics(metric, gold, answers) for name, metric in measured.items()}
    values = {name: _corpus(metric, statistics[name].sum(0)) for name, metric in measured.items()}
    count = len(results)
    samples = {name: _drawn(metric, statistics[name]) for name, metric in measured.items()}
    signatures = {name: f"{metric.get_signature()}|interval:bootstrap1000" for name, metric in measured.items()}
    sizes = np.array([result["length"] for result in results])
    figures: dict[str, Any] = {"by_length": _bleu_by_size(cased, statistics["bleu"], sizes)}
    parts: dict[str, np.ndarray] = {}
    counts = {"examples": count, "reference_words": sum(len(text.split()) for text in gold)}
    if all("loss" in result for result in results):
        nats, tokens = (np.array([result[name] for result in results], float) for name in ("loss", "tokens"))
        parts["loss"] = np.stack([nats, tokens])
        samples |= {"loss": ratios(parts)["loss"]}
        samples["perplexity"] = np.exp(samples["loss"])
        values |= {"loss": float(nats.sum() / tokens.sum()), "perplexity": float(np.exp(nats.sum() / tokens.sum()))}
        signatures |= dict.fromkeys(("loss", "perplexity"), "unit:subword, ends counted|log:natural|interval:bootstrap1000")
        counts["reference_tokens"] = int(tokens.sum())
    return Scores(values, samples, parts, counts, signatures, _bleu_text(values, figures["by_length"]), figures)


def _same_length(references: Sequence[str], answers: Sequence[str]) -> list[str]:
    """sacrebleu takes lists of different length without a word."""
    if len(references) != len(answers):
        raise ValueError(f"{len(answers)} answers for {len(references)} references")
    return list(references)


def _statistics(metric: Any, gold: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """What each sentence adds to the counts of which the corpus's score is made: `<float>[sentences, counts]`."""
    if not answers:
        return np.zeros((0, 1))
    return np.array(metric._extract_corpus_statistics(list(answers), [_same_length(gold, answers)]), float)


def _corpus(metric: Any, counts: np.ndarray) -> float:
    return float(metric._compute_score_from_stats(counts.astype(int).tolist()).score) if counts.any() else 0.0


def _drawn(metric: Any, statistics: np.ndarray) -> np.ndarray:
    """The corpus's score on sentences drawn with replacement, `<float>[repetitions]`."""
    return bootstrap(len(statistics), lambda weights: np.array([_corpus(metric, counts) for counts in weights @ statistics]))


def _bleu_by_size(metric: Any, statistics: np.ndarray, sizes: np.ndarray, groups: int = 6) -> dict[str, Any]:
    """BLEU in groups of about equally many sentences, by their size; as `grouped` gives it."""
    names, place = _sized(sizes, groups)
    of = [statistics[place == group] for group in range(len(names))]
    drawn = [_drawn(metric, part) for part in of]
    return {
        "metric": "bleu", "title": "words of the source", "names": names, "scores": [_corpus(metric, part.sum(0)) for part in of],
        "intervals": [interval(values) for values in drawn], "counts": [len(part) for part in of],
    }  # fmt: skip


def _bleu_text(values: Mapping[str, float], groups: Mapping[str, Any]) -> str:
    rows = zip(groups["names"], groups["scores"], groups["counts"], strict=True)
    lines = ["BLEU by words of the source", *(f"{name:>8}  {score:6.2f}  {count:,} sentences" for name, score, count in rows)]
    return "\n".join(lines) + "\n"


def difference(ours: Scores, theirs: Scores) -> dict[str, list[float]]:
    """`{metric: [ours - theirs, low, high]}`, the interval that of a paired bootstrap over the same examples (Koehn 2004)."""
    return {
        metric: [ours.scores[metric] - theirs.scores[metric], *interval(values - theirs.samples[metric])]
        for metric, values in ours.samples.items()
        if metric in theirs.samples
    }


def p_value(observed: float, differences: np.ndarray) -> float:
    """Of a paired bootstrap, two-sided: how often differences, moved to a mean of zero, are as large as the observed one.

    sacrebleu counts the upper tail alone, which is half of it where the difference is clear.

    Args:
        observed: difference of two scores on all examples.
        differences: `<float>[repetitions]`, of the same scores on resampled examples.
    """
    as_large = np.abs(differences - differences.mean()) >= abs(observed)
    return float((as_large.sum() + 1) / (len(differences) + 1))


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, int, float]:
    """Examples that only ours has right, that only theirs has right, and the exact two-sided p-value (McNemar 1947).

    Args:
        ours, theirs: `<bool>[examples]`, whether an answer was right.
    """
    from scipy.stats import binomtest

    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if not only_ours + only_theirs:
        return 0, 0, 1.0
    return only_ours, only_theirs, float(binomtest(only_ours, only_ours + only_theirs).pvalue)


def joined(first: Scores, second: Scores) -> Scores:
    """Both side by side, about the same examples; a figure that both have is the first's."""
    text = f"{first.text}\n{second.text}"
    return Scores(first.scores | second.scores, first.samples | second.samples, first.parts | second.parts,
                  first.counts | second.counts, first.signatures | second.signatures, text, second.figures | first.figures)  # fmt: skip


def _sums(values: Iterable[np.ndarray]) -> np.ndarray:
    return np.array([value.sum() for value in values], int)


def calibration_curve(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> dict[str, list[float]]:
    """Mean confidence, accuracy and number of answers of each occupied bin of confidence (Guo 2017, section 2)."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    used = counts > 0
    means = np.bincount(place, confidence, bins)[used] / counts[used]
    accuracies = np.bincount(place, right, bins)[used] / counts[used]
    return {"confidence": means.tolist(), "accuracy": accuracies.tolist(), "count": counts[used].tolist()}


def calibration_error(probabilities: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean gap between confidence and accuracy, weighted by count (Guo 2017, eq. 3)."""
    curve = calibration_curve(probabilities.max(1), right, bins)
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
