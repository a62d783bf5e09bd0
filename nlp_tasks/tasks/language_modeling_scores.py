"""How a language model is scored: one contiguous pass, random windows, a counted baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nlp_tasks.lazy import lazy
from nlp_tasks.progress import Progress

if TYPE_CHECKING:
    import tensorflow as tf

    from nlp_tasks.text import kneser_ney
else:
    tf, kneser_ney = lazy("tensorflow"), lazy("nlp_tasks.text.kneser_ney")

PASS = 512
"""Tokens that the contiguous pass reads at once."""
COUNTS = (("never", 0), ("1–9", 9), ("10–99", 99), ("100–999", 999), ("1,000 and more", math.inf))
"""Groups of tokens by how often training has them: their names, and the largest count of each."""

Advance = Callable[..., Mapping[str, "tf.Tensor"]]
"""The signature `advance`: tokens, lengths and the state by name → log_probabilities and the next state by name."""
State = Mapping[str, "tf.Tensor"]


def contiguous(advance: Advance, tokens: np.ndarray, state: State) -> np.ndarray:
    """-log p of each token of a text `<int>[tokens]`, read once from its beginning to its end: `<float32>[tokens]`."""
    nats = [np.zeros(0, np.float32)]
    with Progress("scoring", len(tokens)) as progress:
        for start in range(0, len(tokens), PASS):
            read = np.array(tokens[start : start + PASS], np.int32)[None]
            outputs = dict(advance(tokens=tf.constant(read), lengths=tf.constant([read.size]), **state))
            nats.append(-outputs.pop("log_probabilities").numpy()[0])
            state = outputs
            progress.advance(read.size)
    return np.concatenate(nats)


def in_windows(
    advance: Advance, tokens: np.ndarray, size: int, state: Callable[[np.ndarray], State], count: int = 2048
) -> np.ndarray:
    """Of windows drawn with a fixed seed, -log p of all tokens of each: `<float64>[windows]`, as nanoGPT estimates its loss.

    Args:
        state: from the token before each window of a batch to the state in which it is read: nothing else is known.
    """
    starts = np.random.default_rng(0).integers(0, len(tokens) - size, count)
    totals = []
    for batch in np.array_split(starts, -(-count // 64)):
        read = tokens[batch[:, None] + 1 + np.arange(size)].astype(np.int32)
        outputs = advance(tokens=tf.constant(read), lengths=tf.fill([len(batch)], size), **state(tokens[batch]))
        totals.append(-outputs["log_probabilities"].numpy().astype(np.float64).sum(1))
    return np.concatenate(totals)


def of_ngrams(train: np.ndarray, test: np.ndarray, classes: int, order: int, before: int) -> np.ndarray:
    """-log p of each token of a text by a Kneser-Ney n-gram counted on another, tokens from 0: `<float32>[tokens]`.

    Args:
        before: the token that the text follows.
    """
    model = kneser_ney.KneserNey(kneser_ney.count(train, classes, order))
    specs = [tf.TensorSpec([None, order - 1], tf.int32), tf.TensorSpec([None], tf.int32)]
    log_probability = tf.function(model.log_probability, autograph=False, input_signature=specs)
    nowhere = np.full(max(0, order - 2), -1)
    read = np.concatenate([nowhere, [before], test]).astype(np.int32)
    nats = [np.zeros(0, np.float32)]
    for start in range(0, len(test), 1 << 16):
        tokens = np.asarray(test[start : start + (1 << 16)], np.int32)
        places = start + np.arange(len(tokens))[:, None] + np.arange(order - 1)
        nats.append(-log_probability(read[places], tokens).numpy())
    return np.concatenate(nats)


def pieces(
    places: Sequence[str], texts: Sequence[str], lengths: np.ndarray, nats: np.ndarray, counts: np.ndarray
) -> list[dict[str, Any]]:
    """A result a piece of the text.

    Args:
        places, texts: of the pieces.
        lengths: `<int>[pieces]`, tokens of each.
        nats: `<float>[tokens]`, -log p of each token of all pieces, one after another.
        counts: `<int>[tokens]`, how often training has each.
    """
    ends = np.cumsum(lengths)
    results = []
    for index, (place, text, end, length) in enumerate(zip(places, texts, ends, lengths, strict=True)):
        own, often = nats[end - length : end].astype(np.float64), counts[end - length : end]
        total, low, by_count = float(own.sum()), -1.0, []
        for _, high in COUNTS:
            among = (often > low) & (often <= high)
            by_count.append([float(own[among].sum()), int(among.sum())])
            low = high
        results.append({"id": index, "where": place, "nats": total, "tokens": int(length), "characters": len(text),
                        "loss": total / max(1, int(length)), "by_count": by_count, "text": text})  # fmt: skip
    return results
