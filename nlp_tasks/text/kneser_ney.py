"""Interpolated modified Kneser-Ney n-grams (Chen & Goodman 1998, section 3): counted in NumPy, looked up in graph.

A text is one stream of tokens, classes from 0; line ends are tokens as others, and every n-gram of the stream counts. With the adjusted
count a(g) of an n-gram g, a context h, and h' which is h without its first token:

    p(w | h) = (a(hw) - D(a(hw))) / Σ_v a(hv) + γ(h) p(w | h'),    γ(h) = Σ_v D(a(hv)) / Σ_v a(hv)

p(w | h) = p(w | h') where nothing ever followed h, and below the unigrams stands the uniform distribution, so that each class has mass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

CHUNK = 4_000_000
"""N-grams that are sorted at once."""

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts of counts give none; KenLM's."""


def count(stream: np.ndarray, classes: int, order: int, *, chunk: int = CHUNK) -> dict[str, np.ndarray]:
    """Counts a stream into a trie whose level k, from 1 to `order`, holds the distinct n-grams of k tokens.

    Memory is bounded by the distinct n-grams and a chunk.

    Args:
        stream: `<int>[tokens]`, from 0 to classes - 1; may be a memory map.
        classes: number of them.
        order: largest n, at least 1.
        chunk: n-grams that are sorted at once; changes nothing.

    Returns:
        `order`: `<int64>[]`.
        `keys_k` for k > 1: `<int64>[n-grams]`, ascending: place of the first k - 1 tokens in level k - 1, times classes, plus the last
            token. Level 1 has an entry for each class, at the place of its number.
        `log_probabilities_k`: `<float32>[n-grams]`: log p(last token | those before it), interpolated.
        `log_weights_k` for k < order: `<float32>[n-grams]`: log γ of the n-gram as a context; 0 where nothing follows it.
    """
    if order < 1 or classes < 1:
        raise ValueError(f"order and classes must be at least 1, not {order} and {classes}")
    levels: dict[int, np.ndarray] = {}
    counts = np.zeros(0, np.int64)
    for k in range(1, order + 1):
        contexts = (1, classes)[k - 1] if k < 3 else len(levels[k - 1])
        if contexts * classes > np.iinfo(np.int64).max:
            raise ValueError(f"{contexts} contexts of {k - 1} tokens times {classes} classes do not fit into 64 bits")
        levels[k], counts = _distinct(stream, classes, levels, k, chunk)
    return {"order": np.array(order, np.int64)} | _estimate(classes, levels, counts)


def discounts(adjusted: np.ndarray) -> np.ndarray:
    """D(0) = 0, D1, D2, D3+ of a level from its counts of counts n_i (Chen & Goodman 1998, equation 26).

    Y = n1 / (n1 + 2 n2), D_i = i - (i + 1) Y n_{i+1} / n_i. All three are those of `FALLBACK` where one of n1, n2, n3 is zero or a
    discount lies outside of 0 < D_i ≤ i, as KenLM does it; but D_i = 0, too, could leave a context nothing for what never followed it.

    Args:
        adjusted: `<int64>[n-grams]`: adjusted counts; zeros are no n-grams.

    Returns:
        `<float64>[4]`.
    """
    n = np.bincount(np.minimum(adjusted, 5), minlength=6)[:5].astype(np.float64)
    if not n[1:4].all():
        return np.array([0, *FALLBACK])
    i = np.arange(1, 4)
    found = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[2:] / n[1:4]
    return np.array([0, *(found if ((found > 0) & (found <= i)).all() else FALLBACK)])


def save(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Writes what `count` gave, as an .npz."""
    named: dict[str, Any] = dict(arrays)
    np.savez(path, **named)


class Level(NamedTuple):
    """The n-grams of more than one token, by their number of tokens."""

    keys: tf.Variable
    """`<int64>[n-grams]`, ascending."""
    log_probabilities: tf.Variable
    """`<float32>[n-grams]`."""
    log_weights: tf.Variable
    """`<float32>[n-grams of one token less]`: log γ, of the contexts."""


class KneserNey:
    """The model in graph, on core ops. Whatever is exported with it must track `variables`.

    A probability is that of the longest n-gram that is known, times γ of each longer context that is known: exactly the interpolation.

    Contexts are as wide as the order asks for; a shorter one is padded on its left by -1.

    Args:
        arrays: what `count` gives.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.variables: list[tf.Variable] = []

        def hold(name: str, values: np.ndarray) -> tf.Variable:
            self.variables.append(tf.Variable(values, trainable=False, name=f"kneser_ney_{name}"))
            return self.variables[-1]

        self.order = int(arrays["order"])
        self._unigrams = hold("log_probabilities_1", arrays["log_probabilities_1"])
        self.classes = int(self._unigrams.shape[0])
        self._levels: dict[int, Level] = {}
        for k in range(2, self.order + 1):
            keys = arrays[f"keys_{k}"]
            if not len(keys):  # the stream was shorter; no level above has any either
                break
            names = f"log_probabilities_{k}", f"log_weights_{k - 1}"
            self._levels[k] = Level(hold(f"keys_{k}", keys), *(hold(name, arrays[name]) for name in names))

    def __len__(self) -> int:
        """How many n-grams have a probability of their own."""
        return self.classes + sum(int(level.keys.shape[0]) for level in self._levels.values())

    @classmethod
    def load(cls, path: Path) -> KneserNey:
        """Reads what `save` wrote."""
        with np.load(path) as content:
            return cls(content)

    def log_probability(self, contexts: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        """log p(token | context).

        Args:
            contexts: `<int32>[n, order - 1]`, oldest token first.
            tokens: `<int32>[n]`.

        Returns:
            `<float32>[n]`.
        """
        tokens = tf.cast(tokens, tf.int64)
        logs = tf.gather(self._unigrams, tokens)
        for k, context, known, weight in self._contexts(contexts):
            place, seen = self._place(k, context * self.classes + tokens)
            logs = tf.where(known & seen, tf.gather(self._levels[k].log_probabilities, place), logs + weight)
        return logs

    def log_probabilities(self, contexts: tf.Tensor) -> tf.Tensor:
        """log p of every class after each context: from the shortest context on, weighted, and what is known of the longer one put over.

        Args:
            contexts: `<int32>[n, order - 1]`, oldest token first.

        Returns:
            `<float32>[n, classes]`.
        """
        logs = tf.tile(self._unigrams[None], [tf.shape(contexts)[0], 1])
        for k, context, known, weight in self._contexts(contexts):
            level = self._levels[k]
            first = tf.searchsorted(level.keys, context * self.classes, out_type=tf.int64)
            end = tf.searchsorted(level.keys, (context + 1) * self.classes, out_type=tf.int64)
            found = tf.where(known, end - first, 0)
            ends, number = tf.cumsum(found), tf.range(tf.reduce_sum(found))  # the n-grams of all rows, numbered row after row
            row = tf.searchsorted(ends, number, side="right", out_type=tf.int64)
            place = tf.gather(end - ends, row) + number
            token = tf.gather(level.keys, place) - tf.gather(context, row) * self.classes
            better = tf.gather(level.log_probabilities, place)
            logs = tf.tensor_scatter_nd_update(logs + weight[:, None], tf.stack([row, token], 1), better)
        return logs

    def _contexts(self, contexts: tf.Tensor) -> Iterator[tuple[int, tf.Tensor, tf.Tensor, tf.Tensor]]:
        """Each level k > 1 with its contexts, the last k - 1 tokens.

        Yields:
            k; `<int64>[n]` places in level k - 1; `<bool>[n]` whether they are there, else it is any place; `<float32>[n]` log γ, else 0.
        """
        tokens = tf.cast(contexts, tf.int64)
        places, known = tf.maximum(tokens, 0), tokens >= 0  # of the k - 1 tokens from each column on
        for k, level in self._levels.items():
            if k > 2:
                places, seen = self._place(k - 1, places[:, :-1] * self.classes + tokens[:, k - 2 :])
                known = known[:, :-1] & (tokens[:, k - 2 :] >= 0) & seen
            yield k, places[:, -1], known[:, -1], tf.where(known[:, -1], tf.gather(level.log_weights, places[:, -1]), 0.0)

    def _place(self, k: int, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`<int64>[…]` → `<int64>[…]`, `<bool>[…]`: places in level k, and whether the keys are there; else it is any place."""
        known = self._levels[k].keys
        places = tf.reshape(tf.searchsorted(known, tf.reshape(keys, [-1]), out_type=tf.int64), tf.shape(keys))
        places = tf.minimum(places, known.shape[0] - 1)
        return places, tf.gather(known, places) == keys


def _distinct(
    stream: np.ndarray, classes: int, levels: Mapping[int, np.ndarray], k: int, chunk: int
) -> tuple[np.ndarray, np.ndarray]:
    """Keys `<int64>[n-grams]`, ascending, and counts `<int64>[n-grams]` of the n-grams of k tokens; `levels` has those below."""
    keys, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for start in range(0, len(stream) - k + 1, chunk):
        tokens = np.asarray(stream[start : start + chunk + k - 1]).astype(np.int64)
        if tokens.min() < 0 or tokens.max() >= classes:
            raise ValueError(f"tokens lie between {tokens.min()} and {tokens.max()}, not in 0 … {classes - 1}")
        ngrams = tokens
        for j in range(2, k + 1):
            places = ngrams if j == 2 else np.searchsorted(levels[j - 1], ngrams)
            ngrams = places[:-1] * classes + tokens[j - 1 :]
        new, new_counts = np.unique(ngrams, return_counts=True)
        places = np.searchsorted(keys, new)
        old = np.zeros(len(new), bool)
        inside = places < len(keys)
        old[inside] = keys[places[inside]] == new[inside]
        counts[places[old]] += new_counts[old]
        keys = np.insert(keys, places[~old], new[~old])
        counts = np.insert(counts, places[~old], new_counts[~old])
    return keys, counts


def _estimate(classes: int, levels: dict[int, np.ndarray], counts: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of `count` but `order`.

    Adjusted counts are the counts at the highest order, and below it the numbers of distinct tokens before an n-gram. The n-grams at the
    start of the stream may have none: these count 1, which is how often they occur.

    Args:
        levels: keys of each level; of the first one, only the tokens that occur.
        counts: `<int64>[n-grams]`: of the highest level.
    """
    arrays: dict[str, np.ndarray] = {}
    order = max(levels)
    least = np.zeros(classes, np.int64)
    least[levels[1]] = counts if order == 1 else 1
    # Places, one level below, of all tokens but the last, and of all but the first.
    parents = shorter = np.zeros(classes, np.int64)
    below = np.array([1 / classes])
    for k in range(1, order + 1):
        adjusted = least if k == 1 else counts
        if k < order:
            next_parents, tokens = np.divmod(levels[k + 1], classes)
            next_shorter = tokens if k == 1 else np.searchsorted(levels[k], shorter[next_parents] * classes + tokens)
            adjusted = np.maximum(np.bincount(next_shorter, minlength=len(parents)), least if k == 1 else 1)
        probabilities, weights = _interpolate(adjusted, parents, below[shorter], len(below))
        arrays[f"log_probabilities_{k}"] = np.log(probabilities).astype(np.float32)
        if k > 1:
            arrays[f"keys_{k}"] = levels[k]
            arrays[f"log_weights_{k - 1}"] = np.log(weights).astype(np.float32)
        if k < order:
            parents, shorter, below = next_parents, next_shorter, probabilities
    return arrays


def _interpolate(adjusted: np.ndarray, parents: np.ndarray, lower: np.ndarray, contexts: int) -> tuple[np.ndarray, np.ndarray]:
    """p(w | h) of the n-grams and γ of the contexts.

    Args:
        adjusted: `<int64>[n-grams]`.
        parents: `<int64>[n-grams]`: places of their contexts.
        lower: `<float64>[n-grams]`: p(w | h').
        contexts: number of them.

    Returns:
        `<float64>[n-grams]`, `<float64>[contexts]`.
    """
    taken = discounts(adjusted)[np.minimum(adjusted, 3)]
    total = np.bincount(parents, adjusted, contexts)
    weights = np.where(total > 0, np.bincount(parents, taken, contexts) / np.maximum(total, 1), 1)
    probabilities = (adjusted - taken) / np.maximum(total, 1)[parents] + weights[parents] * lower
    return np.minimum(probabilities, 1), weights
