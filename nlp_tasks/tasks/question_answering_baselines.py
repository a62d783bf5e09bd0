"""What a reader has to beat: the words of the passage that stand closest to those of the question (Richardson 2013)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from nlp_tasks.text.scripts import UNSPACED_CLASS

AROUND = 12
"""So many words on both sides of a candidate are compared with the question."""
LONGEST = 15
"""Words of an answer."""
SENTENCE_ENDS = frozenset(".!?;。！？；।")
LENGTH = 0.4
"""What the logarithm of a span's length is worth beside closeness: short spans are right more often, long ones share more with the right
one. By F1, the headline, on every fifth question of SQuADShifts' dev.json: 0.05, 0.1, 0.2 and 0.4 gave 15.5, 18.5, 22.1 and 23.6 %."""


def tokens(text: str) -> list[tuple[int, int]]:
    """First character and the one behind it, of each word, symbol, or character of a script without spaces."""
    return [match.span() for match in re.finditer(rf"[{UNSPACED_CLASS}]|[^\W{UNSPACED_CLASS}]+|[^\w\s]", text)]


def sliding_window(question: str, passage: str) -> str:
    """The span that has most of the question's words around it.

    A question's word counts log(1 + 1 / how often the passage has it) (Richardson 2013, algorithm 1), once, in the nearest place, and the
    less the further away it stands. Spans begin with a word that the question lacks, end with a word, and stay in their sentence.
    """
    places = tokens(passage)
    words = [passage[start:end].lower() for start, end in places]
    counts, asked = Counter(words), {question[start:end].lower() for start, end in tokens(question)}
    if not words:
        return ""
    worth = {word: math.log(1 + 1 / counts[word]) for word in asked if word in counts and _is_word(word)}
    here = [(index, word) for index, word in enumerate(words) if word in worth]
    closeness = [_near(index, here, worth) for index in range(len(words))]
    best, chosen = -1.0, (0, 0)
    for first in range(len(words)):
        if words[first] in asked or not _is_word(words[first]):
            continue
        total = 0.0
        for last in range(first, min(len(words), first + LONGEST)):
            if words[last] in SENTENCE_ENDS:
                break
            total += closeness[last]
            size = last - first + 1
            value = total / size * (1 + LENGTH * math.log(size))
            if value > best and _is_word(words[last]):
                best, chosen = value, (first, last)
    return passage[places[chosen[0]][0] : places[chosen[1]][1]]


def _is_word(token: str) -> bool:
    return any(character.isalnum() for character in token)


def _near(index: int, here: Sequence[tuple[int, str]], worth: dict[str, float]) -> float:
    nearest: dict[str, int] = {}
    for place, word in here:
        distance = abs(place - index)
        if distance <= AROUND and distance < nearest.get(word, AROUND + 1):
            nearest[word] = distance
    return sum(worth[word] / (1 + distance / AROUND) for word, distance in nearest.items())
