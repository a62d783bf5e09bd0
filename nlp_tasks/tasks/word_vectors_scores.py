"""How word vectors are scored: contexts that they predict, analogies, judged similarity; neighbours for the eye."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nlp_tasks.data.questions import Pair, Question
from nlp_tasks.data.rows import chunks
from nlp_tasks.lazy import lazy
from nlp_tasks.tasks.task import Answering, Inputs, Signature

if TYPE_CHECKING:
    import tensorflow as tf

    from nlp_tasks import scores
    from nlp_tasks.scores import Scores
    from nlp_tasks.text import ragged
else:
    tf, scores, ragged = lazy("tensorflow"), lazy("nlp_tasks.scores"), lazy("nlp_tasks.text.ragged")

SHOWN = 10
"""Neighbours of a word in the report."""
RANKS = range(100, 1300, 100)
"""The words whose neighbours are shown where none are named."""


def contexts(results: Sequence[Mapping[str, Any]], signature: str) -> Scores:
    """How well contexts are told from negative samples.

    Args:
        results: of each piece of text its nats (sum of losses), contexts, and how often one stood above a negative sample (right).
        signature: what was compared.
    """
    nats, count, right = (np.array([result[name] for result in results], np.float64) for name in ("nats", "contexts", "right"))
    parts = {"context_accuracy": np.stack([right, count]), "context_loss": np.stack([nats, count])}
    signature = f"unit:context|{signature}|interval:bootstrap1000 of pieces"
    return scores.Scores(
        {name: float(above.sum() / max(1.0, below.sum())) for name, (above, below) in parts.items()},
        scores.ratios(parts),
        parts,
        {"examples": len(results), "contexts": int(count.sum())},
        {"context_accuracy": signature, "context_loss": f"log:natural|{signature}"},
    )


def analogies(answer: Answering, questions: Sequence[Question], lowercase: bool) -> Scores:
    """Of the questions whose four words are in the vocabulary, how many have the right word as the nearest one."""
    known = in_vocabulary(answer, [word for question in questions for word in question.words])
    covered = [question for question in questions if all(known[word] for word in question.words)]
    outputs = answer("analogy", [(*question.words[:3], 1) for question in covered]) if covered else {}
    wanted = [question.words[3].lower() if lowercase else question.words[3] for question in covered]
    right = np.array([found[0].decode() == word for found, word in zip(outputs.get("words", ()), wanted, strict=True)], float)
    part = np.stack([right, np.ones_like(right)])
    sections = list(dict.fromkeys(question.section for question in questions))
    of = np.array([sections.index(question.section) for question in covered], int)
    asked = np.bincount([sections.index(question.section) for question in questions], minlength=len(sections))
    rows = [
        [name, f"{100 * right[of == place].mean():.1f} %" if (of == place).any() else "–", f"{(of == place).sum():,} of {asked[place]:,}"]
        for place, name in enumerate(sections)
    ]  # fmt: skip
    figures = {
        "by_section": scores.grouped(
            "analogy_accuracy", "section", {name: part * (of == place) for place, name in enumerate(sections)}
        )
    }
    return scores.Scores(
        {"analogy_accuracy": float(right.mean()) if len(right) else 0.0},
        scores.ratios({"analogy_accuracy": part}),
        {"analogy_accuracy": part},
        {"questions": len(questions), "covered_questions": len(covered)},
        {"analogy_accuracy": "unit:covered question|3CosAdd, the question's words left out|interval:bootstrap1000 of questions"},
        _table(("analogies", "right", "covered"), rows),
        figures,
    )


def similarity(answer: Answering, pairs: Sequence[Pair]) -> Scores:
    """Spearman's correlation of cosines with what people judged, over the pairs whose words are in the vocabulary."""
    words = list(dict.fromkeys(word for pair in pairs for word in pair.words))
    outputs = answer("serving_default", [(word,) for word in words])
    vectors = dict(zip(words, outputs["vectors"].astype(np.float64), strict=True))
    known = dict(zip(words, outputs["known"].tolist(), strict=True))
    covered = [pair for pair in pairs if all(known[word] for word in pair.words)]
    counts = {"similarity_pairs": len(pairs), "covered_similarity_pairs": len(covered)}
    signature = {"similarity_spearman": "unit:covered pair|cosine|interval:bootstrap1000 of pairs, ranks kept"}
    if len(covered) < 2:
        return scores.Scores({"similarity_spearman": 0.0}, counts=counts, signatures=signature)
    cosines = [_cosine(*(vectors[word] for word in pair.words)) for pair in covered]
    ranks = np.stack([_ranks(np.array(cosines)), _ranks(np.array([pair.score for pair in covered]))])

    def correlations(weights: np.ndarray) -> np.ndarray:
        weights = weights / weights.sum(1, keepdims=True)
        mean = weights @ ranks.T
        first, second = (weights @ np.square(side) - mean[:, place] ** 2 for place, side in enumerate(ranks))
        both = weights @ (ranks[0] * ranks[1]) - mean[:, 0] * mean[:, 1]
        spread = np.sqrt(np.maximum(first * second, 0))
        return np.divide(both, spread, out=np.zeros_like(both), where=spread > 0)

    whole = float(correlations(np.ones((1, len(covered))))[0])
    samples = scores.bootstrap(len(covered), correlations)
    return scores.Scores({"similarity_spearman": whole}, {"similarity_spearman": samples}, counts=counts, signatures=signature)


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(values)


def neighbours(answer: Answering, words: Sequence[str]) -> Scores:
    """A table of the nearest words; no score."""
    if not words:
        words = [word for place, word in enumerate(vocabulary(answer, RANKS[-1] + 1)) if place in RANKS]
    if not words:
        return scores.Scores({})
    outputs = answer("neighbours", [(word, SHOWN) for word in words])
    rows = []
    for word, found, cosines in zip(words, outputs["neighbours"], outputs["cosines"], strict=True):
        shown = [f"{other.decode()} {cosine:.2f}" for other, cosine in zip(found, cosines, strict=True) if other]
        rows.append([word, ", ".join(shown) or "not in the vocabulary"])
    return scores.Scores({}, text=_table(("neighbours", ""), rows))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the last one as it is."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header) - 1)]
    return "".join(
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip() + "\n" for row in cells
    )


def in_vocabulary(answer: Answering, words: Sequence[str]) -> dict[str, bool]:
    """Whether the training text has each word often enough."""
    distinct = list(dict.fromkeys(words))
    return dict(zip(distinct, answer("serving_default", [(word,) for word in distinct])["known"].tolist(), strict=True))


def vocabulary(answer: Answering, most: int = 2**31 - 1, size: int = 4096) -> Iterator[str]:
    """The words, most frequent first."""
    for start in range(0, most, size):
        ranks = np.arange(start, min(start + size, most), dtype=np.int32)
        words = answer.functions["vocabulary"](ranks=tf.constant(ranks))["words"].numpy()
        for word in words:
            if not word:
                return
            yield word.decode("utf-8", "replace")


class Direct:
    """Answers by signatures' graphs, without a run or an export."""

    def __init__(self, signatures: Mapping[str, Signature]) -> None:
        self._specs = {name: signature.inputs for name, signature in signatures.items()}
        self.functions: Mapping[str, Callable[..., dict[str, tf.Tensor]]] = {
            name: tf.function(signature.function, autograph=False, input_signature=signature.inputs)
            for name, signature in signatures.items()
        }

    def __call__(self, signature: str, inputs: Sequence[Inputs]) -> dict[str, np.ndarray]:
        parts = []
        for chunk in chunks(inputs, 64):
            columns = zip(self._specs[signature], zip(*chunk, strict=True), strict=True)
            tensors = {spec.name: ragged.tensor(column, spec.dtype.name, spec.shape.rank) for spec, column in columns}
            parts.append({name: value.numpy() for name, value in self.functions[signature](**tensors).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
