"""Hotel reviews in which the words say nothing and their order says everything.

The lesson: a bag of words cannot read a review. Every sentence here has a partner of the other class that is
made of the same words, so whatever merely counts words is right exactly half of the time. What decides is

* negation and its scope: "who did not pay did call" is not "who did pay did not call";
* which of two clauses counts: the one after "but", the one that does not begin with "although";
* order: who speaks and who is only quoted, what is compared with what.

At least three words stand between a negation that decides and the adjective that it turns round, so counting
pairs of neighbours helps little. A network that reads on and remembers has all it needs.

A sentence is a pattern with two open places, two parts that could stand at either, and the knowledge which
place decides. Exchanging the parts makes the partner. For example

    pattern  "{0} slow, but I would {1} call the staff rude"
    parts    "" (value +1: leaves a judgement as it is) and "not" (value -1: turns it round)
    decides  place 1, since what follows "but" counts
    sign     -1, since "rude" is a reproach

reads "Slow, but I would not call the staff rude." and means -1 * -1 = +1, positive; with the parts exchanged
it reads "Not slow, but I would call the staff rude." and means -1 * +1 = -1, negative.

Pairs are drawn at random, no sentence twice, and then cut into splits: partners stay together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

TRAIN, VALIDATION, TEST = 12_000, 1_000, 2_000  # sentences, half of them positive
COLUMNS = ("text", "label")
SIZES = {"train": TRAIN, "validation": VALIDATION, "test": TEST}

T = TypeVar("T")
Topic = tuple[str, str, str]


@dataclass(frozen=True)
class Part:
    """What stands at an open place, and its value there: +1 or -1."""

    text: str
    value: int


@dataclass(frozen=True)
class Sentence:
    """A pattern, the parts at its places {0} and {1}, which place decides, the sign of what is said there."""

    pattern: str
    parts: tuple[Part, Part]
    decides: int
    sign: int = +1

    @property
    def polarity(self) -> int:
        """The meaning, +1 or -1: what the part at the deciding place makes of the judgement there."""
        return self.sign * self.parts[self.decides].value

    @property
    def partner(self) -> Sentence:
        """The same words with the parts exchanged. As these differ in value, it means the contrary."""
        return replace(self, parts=self.parts[::-1])

    @property
    def text(self) -> str:
        """The sentence as it is written, with a capital and a full stop."""
        words = " ".join(self.pattern.format(*(part.text for part in self.parts)).split())
        return f"{words[0].upper()}{words[1:]}."


# What is judged: nouns, the praise that fits them, the reproach that fits them (in the order of contraries).
TOPICS: tuple[Topic, ...] = (
    ("soup bread fish dessert", "fresh tasty light delicious", "stale bland greasy burnt"),
    ("room suite bathroom lounge", "clean bright quiet cosy", "dirty dark noisy damp"),
    ("service reception delivery booking", "quick smooth careful reliable", "slow messy careless clumsy"),
    ("staff waiter owner cook", "friendly polite helpful kind", "grumpy rude lazy arrogant"),
)

# Clauses, by the two words that may stand at {n}: one that affirms and one that denies.
IS, WAS = " the {noun} {adjective}", " that the {noun} was {adjective}"
NOT_CLAUSES = (
    *(start + IS for start in ("I would {n} call", "I do {n} call", "we did {n} find", "they did {n} find")),
    *("the {noun} did {n} strike me as {adjective}", "I would {n} say" + WAS),
)
INVERTED = tuple(start + IS for start in ("would I {n} call", "do I {n} call", "did we {n} find"))
CLAUSES = (
    (("", "not"), NOT_CLAUSES),
    (("everybody", "nobody"), ("{n} at our table called" + IS, "{n} would call" + IS)),
    (("always", "never"), ("we {n} found" + IS, "people {n} called" + IS)),
    (("agree", "deny"), ("I {n}" + WAS, "my friends {n}" + WAS)),
)
PLAIN = tuple("the {noun} was {adjective}" + when for when in ("", "", " that day", " all week"))

# Two clauses or two adjectives, and which of them counts. The "never" of "never mind" denies nothing.
LINKS = (
    *((link, 1) for link in ("{a}, but {b}", "{a}, yet {b}", "at first {a}, later {b}")),
    *((link, 1) for link in ("although {a}, {b}", "even if {a}, {b}", "never mind that {a}, {b}")),
    *((link, 0) for link in ("{a}, although {b}", "{a}, even if {b}", "{a}, never mind that {b}")),
)
CONTRASTS = (
    *(("the {noun} was {a}, but {b}", 1), ("the {noun} was {a}, yet {b}", 1)),
    *(("although {a}, the {noun} was {b}", 1), ("the {noun} was {a}, although {b}", 0)),
)

# Who speaks, what is compared, and whose habits have nothing to do with the house.
SELVES, OTHERS = ("this guest", "this writer"), ("the guide", "my sister", "our neighbour", "the brochure")
HERE, ELSEWHERE = ("here", "in this house"), ("next door", "across the street", "in the old inn")
PEOPLE, HABITS = ("guest", "friend", "visitor"), ("pay", "book early", "stay long", "drink wine")


def pick(rng: random.Random, choices: Sequence[T]) -> T:
    """One of `choices`. Only `random()` is promised to give the same sequence on every version of Python."""
    return choices[int(rng.random() * len(choices))]


def two_parts(rng: random.Random, plus: str, minus: str) -> tuple[Part, Part]:
    """A part of value +1 and one of value -1, in either order."""
    return pick(rng, ((Part(plus, +1), Part(minus, -1)), (Part(minus, -1), Part(plus, +1))))


def two_topics(rng: random.Random) -> tuple[Topic, Topic]:
    """Two different topics, so that no two clauses contradict each other."""
    first = pick(rng, TOPICS)
    return first, pick(rng, [topic for topic in TOPICS if topic is not first])


def judgement(rng: random.Random, topic: Topic, sign: int = 0) -> tuple[dict[str, str], int]:
    """A noun and an adjective, and whether that is praise (+1) or reproach (-1): `sign`, or else either."""
    nouns, praise, reproach = (words.split() for words in topic)
    sign = sign or pick(rng, (+1, -1))
    return {"noun": pick(rng, nouns), "adjective": pick(rng, praise if sign > 0 else reproach)}, sign


def statement(rng: random.Random, topic: Topic, value: int) -> Part:
    """A whole clause, one in three without a word of denial, that amounts to praise (+1) or reproach (-1)."""
    words_of_denial, clauses = pick(rng, CLAUSES)
    part, _ = two_parts(rng, *words_of_denial)
    if rng.random() < 1 / 3:
        part, clauses = Part("", +1), PLAIN
    words, _ = judgement(rng, topic, value * part.value)
    return Part(pick(rng, clauses).format(n=part.text, **words), value)


def denial(rng: random.Random) -> Sentence:
    """Which of two clauses is denied: *I do call the fish bland, but we did not find the cook rude* (+)."""
    words_of_denial, clauses = pick(rng, CLAUSES)
    link, decides = pick(rng, LINKS)
    (first, sign_a), (second, sign_b) = (judgement(rng, topic) for topic in two_topics(rng))
    a, b = pick(rng, clauses).format(n="{0}", **first), pick(rng, clauses).format(n="{1}", **second)
    sign = (sign_a, sign_b)[decides]
    return Sentence(link.format(a=a, b=b), two_parts(rng, *words_of_denial), decides, sign)


def escalation(rng: random.Random) -> Sentence:
    """A "not" without effect: *Not only do I call the fish stale, but we did not find the cook kind*."""
    topic_a, topic_b = two_topics(rng)
    first, sign = judgement(rng, topic_a)
    second, sign = judgement(rng, topic_b, -sign)  # one of them will be denied: both point the same way
    a, b = pick(rng, INVERTED).format(n="{0}", **first), pick(rng, NOT_CLAUSES).format(n="{1}", **second)
    return Sentence(f"not only {a}, but {b}", two_parts(rng, "", "not"), 1, sign)


def fragment(rng: random.Random) -> Sentence:
    """A bare adjective before the clause that counts: *Slow, but I would not call the staff rude* (+)."""
    (first, _), (second, sign) = (judgement(rng, topic) for topic in two_topics(rng))
    start = f"{{0}} {first['adjective']}, {pick(rng, ('but', 'yet'))} "
    clause = pick(rng, NOT_CLAUSES).format(n="{1}", **second)
    return Sentence(start + clause, two_parts(rng, "", "not"), 1, sign)


def scope(rng: random.Random) -> Sentence:
    """What is denied of whom: *The guest who did not pay did call the soup stale* (-)."""
    words, sign = judgement(rng, pick(rng, TOPICS))
    guest = f"{pick(rng, ('a', 'the'))} {pick(rng, PEOPLE)} who did {{0}} {pick(rng, HABITS)} "
    clause = f"did {{1}} {pick(rng, ('call', 'find'))}" + IS.format(**words)
    return Sentence(guest + clause, two_parts(rng, "", "not"), 1, sign)


def succession(rng: random.Random) -> Sentence:
    """Which of two clauses counts: *The fish was stale, but nobody would call the cook rude* (+)."""
    link, decides = pick(rng, LINKS)
    (topic_a, topic_b), value = two_topics(rng), pick(rng, (+1, -1))
    clauses = statement(rng, topic_a, value), statement(rng, topic_b, -value)
    return Sentence(link.format(a="{0}", b="{1}"), clauses, decides)


def contrast(rng: random.Random) -> Sentence:
    """The same of adjectives, where neighbours betray it for once: *The waiter was lazy, but kind* (+)."""
    nouns, praise, reproach = (words.split() for words in pick(rng, TOPICS))
    good = pick(rng, praise)
    bad = pick(rng, [word for word, contrary in zip(reproach, praise, strict=True) if contrary != good])
    link, decides = pick(rng, CONTRASTS)
    return Sentence(link.format(noun=pick(rng, nouns), a="{0}", b="{1}"), two_parts(rng, good, bad), decides)


def voices(rng: random.Random) -> Sentence:
    """Who speaks and who is quoted: *Unlike this guest, the guide found the soup stale* (+)."""
    words, sign = judgement(rng, pick(rng, TOPICS))
    start, decides = pick(rng, (("unlike {0}, {1} ", 1), ("{0}, unlike {1}, ", 0)))
    clause = pick(rng, ("found", "called")) + IS.format(**words)
    return Sentence(start + clause, two_parts(rng, pick(rng, SELVES), pick(rng, OTHERS)), decides, sign)


def comparison(rng: random.Random) -> Sentence:
    """What is compared with what: *Next door the soup was less stale than here* (-)."""
    words, sign = judgement(rng, pick(rng, TOPICS))
    degree, turn = pick(rng, (("more", +1), ("less", -1)))
    pattern = f"{{0}} the {words['noun']} was {degree} {words['adjective']} than {{1}}"
    return Sentence(pattern, two_parts(rng, pick(rng, HERE), pick(rng, ELSEWHERE)), 0, sign * turn)


# Each construction as often as it stands here.
CONSTRUCTIONS: tuple[Callable[[random.Random], Sentence], ...] = (
    *(denial, denial, denial, succession, succession, succession, contrast, contrast),
    *(escalation, fragment, scope, voices, comparison),
)


def pairs(seed: int) -> Iterator[tuple[Sentence, Sentence]]:
    """Sentences with their partners, none of them twice, without end."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while True:
        sentence = pick(rng, CONSTRUCTIONS)(rng)
        pair = sentence, sentence.partner
        texts = {member.text for member in pair}
        if seen.isdisjoint(texts):
            seen |= texts
            yield pair


def generate(split: str, seed: int = 0) -> Iterator[tuple[str, str]]:
    """The sentences of a split, each with its label, "negative" or "positive"; the same for the same `seed`.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SIZES:
        raise ValueError(f"no split {split!r}; expected one of: {', '.join(SIZES)}")
    start = {"train": 0, "validation": TRAIN, "test": TRAIN + VALIDATION}[split] // 2
    drawn = islice(pairs(seed), start, start + SIZES[split] // 2)
    rng = random.Random(seed)
    shuffled = sorted((sentence for pair in drawn for sentence in pair), key=lambda _: rng.random())
    return ((sentence.text, "positive" if sentence.polarity > 0 else "negative") for sentence in shuffled)
