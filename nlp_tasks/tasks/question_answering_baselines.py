"""What a reader has to beat: the words of the passage that stand closest to those of the question (Richardson 2013)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from nlp_tasks.text.scripts import UNSPACED_CLASS

AROUND = 12
"""So many words on both sides of a candidate are compared with the question."""
LONGEST = 5
"""Words of an answer."""


def tokens(text: str) -> list[tuple[int, int]]:
    """First character and the one behind it, of each word, symbol, or character of a script without spaces."""
    return [match.span() for match in re.finditer(rf"[{UNSPACED_CLASS}]|[^\W{UNSPACED_CLASS}]+|[^\w\s]", text)]


def sliding_window(question: str, passage: str) -> str:
    """The span that is no part of the question and has most of the question's words around it.

    A question's word counts log(1 + 1 / how often the passage has it) (Richardson 2013, algorithm 1), once, in the nearest place, and the
    less the further away it stands. Spans begin and end with a word that the question lacks.
    """
    places = tokens(passage)
    words = [passage[start:end].lower() for start, end in places]
    counts, asked = Counter(words), {question[start:end].lower() for start, end in tokens(question)}
    if not words:
        return ""
    worth = {word: math.log(1 + 1 / counts[word]) for word in asked if word in counts}
    here = [(index, word) for index, word in enumerate(words) if word in worth]
    closeness = [_near(index, here, worth) for index in range(len(words))]
    free = [word not in asked and any(character.isalnum() for character in word) for word in words]
    best, chosen = -1.0, (0, 0)
    for first in range(len(words)):
        if not free[first]:
            continue
        value = 0.0
        for last in range(first, min(len(words), first + LONGEST)):
            if words[last] in asked or not any(character.isalnum() for character in words[last]):
                break
            value += closeness[last]
            mean = value / (last - first + 1) + 0.05 * min(last - first, 1)
            if mean > best:
                best, chosen = mean, (first, last)
    return passage[places[chosen[0]][0] : places[chosen[1]][1]]


def _near(index: int, here: Sequence[tuple[int, str]], worth: dict[str, float]) -> float:
    nearest: dict[str, int] = {}
    for place, word in here:
        distance = abs(place - index)
        if distance <= AROUND and distance < nearest.get(word, AROUND + 1):
            nearest[word] = distance
    return sum(worth[word] / (1 + distance / AROUND) for word, distance in nearest.items())
