"""What a translator has to beat: each word by its most probable translation (IBM model 1, Brown 1993)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

ROUNDS = 5
MOST = 50_000
"""So many pairs are enough to learn from."""
LONGEST = 60
"""Pairs with a side of more words are left out."""


def words(text: str) -> list[str]:
    """Words and punctuation."""
    return re.findall(r"\w+|[^\w\s]", text)


def dictionary(pairs: Sequence[tuple[str, str]]) -> Callable[[str], str]:
    """Translates each word alone and in its place, as t(target | source) of IBM model 1 has it; unknown words stay.

        t(f | e) ∝ Σ over pairs  t(f | e) / Σ_{e' in source} t(f | e')        (Brown 1993, eq. 14-17)

    Punctuation is learned like a word. A source word may best be left out: it is where nothing has its translation as its best.
    """
    split = [(words(source), words(target)) for source, target in pairs]
    split = [(s, t) for s, t in split if 0 < len(s) <= LONGEST and 0 < len(t) <= LONGEST]
    if not split:
        return lambda text: text
    vocabularies = [sorted({word for pair in split for word in pair[side]}) for side in (0, 1)]
    ids = [{word: number for number, word in enumerate(vocabulary)} for vocabulary in vocabularies]
    # Each place of a target beside each place of its source: the word pair, and the place of the target among all.
    combined, places, place = [], [], 0
    for source, target in split:
        s, t = np.array([ids[0][word] for word in source]), np.array([ids[1][word] for word in target])
        combined.append((s[None] * len(ids[1]) + t[:, None]).ravel())
        places.append(np.repeat(np.arange(place, place + len(t)), len(s)))
        place += len(t)
    keys, index = np.unique(np.concatenate(combined), return_inverse=True)
    place_of, source_of = np.concatenate(places), keys // len(ids[1])
    probability = np.ones(len(keys))
    for _ in range(ROUNDS):
        each = probability[index]
        share = each / np.bincount(place_of, each)[place_of]
        counts = np.bincount(index, share, len(keys))
        probability = counts / np.bincount(source_of, counts, len(ids[0]))[source_of]
    order = np.lexsort([probability, source_of])
    last = np.append(np.flatnonzero(np.diff(source_of[order])), len(order) - 1)
    best = {vocabularies[0][source_of[i]]: vocabularies[1][keys[i] % len(ids[1])] for i in order[last]}
    return lambda text: detokenized([best.get(word) or best.get(word.lower(), word) for word in words(text)])


def detokenized(found: Sequence[str]) -> str:
    """Words with spaces between, but none before closing punctuation nor after an opening one."""
    text = " ".join(found)
    text = re.sub(r" ([.,;:!?%)\]}])", r"\1", text)
    return re.sub(r"([(\[{]) ", r"\1", text)
