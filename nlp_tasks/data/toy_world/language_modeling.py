"""Small stories in which the word that decides the next one stands far back.

The lessons:

* A verb agrees with its subject, however much stands between the two:

      the cook near the ships brings the lamp .
      the cooks that the boy near the ships likes also bring the lamp .

  Nouns and verbs in between have numbers of their own, drawn like the subject's, so the nearest noun says as often the wrong
  thing as the right one.
* A bracket closes as it was opened, and the one opened last closes first. Brackets of three kinds hold a word, a clause, or a
  clause with brackets of its own:

      the cooks ( the boy likes [ of course ] the guests ) bring the lamp .

* A name from the beginning of a story says who "he" or "she" is at its end: "mary told the cooks near the ships that she left".

A model of n words that does not reach back to what decides is at chance, exactly: `probes` come in twins, of which one has
right what the other has wrong, and which differ by the far word alone. A network that remembers has all it needs. The rest of
a sentence is drawn freely from some three hundred words, so that there is always something left to wonder about.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from nlp_tasks.data.toy_world.sentiment import pick

TRAIN, VALIDATION, TEST = 12_000, 1_000, 2_000  # sentences
COLUMNS = ("text",)
SIZES = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
LONGEST = 40  # words of a sentence
DISTANCES = ((0, 1), (2, 3), (4, 6), (7, 10), (11, LONGEST))  # groups of probes, by the words between
TWINS = 75  # pairs of probes, at most, in each group of each kind

# With an "s" a noun is a plural and a verb a singular; no word below ends in "s" of itself.
PERSONS = (
    *"boy cook nurse pilot farmer singer baker doctor teacher guard driver".split(),
    *"tailor sailor student neighbour guest painter clerk dancer writer".split(),
)
THINGS = (
    *"ship lamp boat garden tower bridge wagon table window letter basket bottle".split(),
    *"drum apple cake coat hat map book clock kite ladder mirror pot".split(),
)
DO_TO_PERSONS = "know like help visit praise trust greet fear follow admire thank love".split()
DO_TO_THINGS = "bring buy sell clean hide keep draw count find break need lose want mend move own".split()
DO = "sleep sing laugh wait work smile swim talk dream cough nod yawn".split()
SINGULARS = {"are": "is", "have": "has", **{verb: f"{verb}s" for verb in (*DO_TO_PERSONS, *DO_TO_THINGS, *DO)}}

# The past shows no number.
SAW = "saw met missed heard forgot noticed called remembered watched painted".split()
LEFT = "left smiled slept sang laughed waited danced yawned".split()
SAID, TOLD = "said thought knew hoped".split(), "told warned reminded promised".split()

DETERMINERS = "the the the my our your their".split()
ABOUT_PERSONS = "happy tired clever brave quiet proud hungry polite lazy famous old tall young strange".split()
ABOUT_THINGS = "new heavy broken cheap round empty wooden dusty yellow pretty old tall small strange".split()
NEAR = "near behind beside with under above without before".split()
OFTEN = "always still now also".split()
AT_HOME = ("in town", "at home", "on duty", "at sea", "in bed")
MODIFIERS = ((0, 0, 1, 1, 2, 2), (0, 0, 0, 0, 1, 1), (0, 0, 0, 1))  # how many follow a subject, by depth
TODAY = ("today", "tonight", "this week", "every morning", "after dinner", "in winter")
AND = ("and", "but", "while", "because", ", and", ", but", ", so")

ALAS = "alas perhaps indeed sadly luckily really oddly naturally again surely".split()
OF_COURSE = ("of course", "as always", "no wonder", "so they say", "in my view", "to be honest")
NAMES = {"he": "peter paul john tom david simon oscar felix".split(), "she": "mary anna lucy emma clara julia nina rosa".split()}
BRACKETS = {"(": ")", "[": "]", "{": "}"}
OPENING = {closing: opening for opening, closing in BRACKETS.items()}

# A word and the one that would stand there if the word that decides were another: of another number, of another sex.
_PAIRS = (
    *((noun, f"{noun}s") for noun in (*PERSONS, *THINGS)),
    *SINGULARS.items(),
    *zip(*NAMES.values(), strict=True),
    ("he", "she"),
)
OTHER = {word: other for pair in _PAIRS for word, other in (pair, pair[::-1])}
NOUNS = {noun + ending for noun in (*PERSONS, *THINGS) for ending in ("", "s")}


class Link(NamedTuple):
    """The place of a word that decides, and the place of the word that it decides."""

    kind: str
    source: int
    target: int

    @property
    def distance(self) -> int:
        """How many words stand between."""
        return self.target - self.source - 1


class Sentence(NamedTuple):
    """Words, and what is decided among them."""

    words: tuple[str, ...]
    links: tuple[Link, ...]

    @property
    def text(self) -> str:
        """The sentence as it is written."""
        return " ".join(self.words)

    def replace(self, link: Link, source: str, target: str) -> Sentence:
        """The sentence with other words at both ends of the link."""
        words = list(self.words)
        words[link.source], words[link.target] = source, target
        return self._replace(words=tuple(words))

    def probe(self, link: Link, wrong: Sentence) -> Probe:
        """Whether the word at the link's end is known from what stands before it, and not taken for that of `wrong`."""
        prefix = " ".join(self.words[: link.target])
        return Probe(link.kind, link.distance, prefix, self.words[link.target], wrong.words[link.target])


class Probe(NamedTuple):
    """A place in a sentence, one word that fits there, and one that does not."""

    kind: str
    """"agreement", "bracket" or "pronoun"."""
    distance: int
    """Words between the one that decides and the place."""
    prefix: str
    """The sentence up to the place."""
    right: str
    wrong: str
    """As frequent as `right`."""


class Writer:
    """Writes one sentence from left to right, and notes what is decided where.

    Clauses and asides stand in one another, `depth` says how deep; the deeper, the shorter.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.words: list[str] = []
        self.links: list[Link] = []

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def write(self, *texts: str) -> int:
        """Writes on; the place of the last word."""
        self.words += " ".join(texts).split()
        return len(self.words) - 1

    def verb(self, head: int, base: str) -> None:
        """A verb in the number of the noun at `head`."""
        is_plural = self.words[head].endswith("s")
        self.links.append(Link("agreement", head, self.write(base if is_plural else SINGULARS[base])))

    def noun_phrase(self, nouns: tuple[str, ...]) -> int:
        """*The old cooks*; the place of the noun."""
        self.write(pick(self.rng, DETERMINERS))
        if self.chance(0.25):
            self.write(pick(self.rng, ABOUT_PERSONS if nouns is PERSONS else ABOUT_THINGS))
        return self.write(pick(self.rng, nouns) + pick(self.rng, ("", "s")))

    def any_noun_phrase(self) -> None:
        self.noun_phrase(pick(self.rng, (PERSONS, THINGS)))

    def relative_clause(self, nouns: tuple[str, ...], depth: int) -> None:
        """*That the boy near the ships likes*, or *who saw the boys*: what stands before it decides nothing in it."""
        if nouns is PERSONS and self.chance(0.25):
            self.write("who", pick(self.rng, SAW))
            self.any_noun_phrase()
        else:
            self.write("that")
            self.verb(self.subject(PERSONS, depth + 1), pick(self.rng, DO_TO_PERSONS if nouns is PERSONS else DO_TO_THINGS))

    def modifier(self, nouns: tuple[str, ...], depth: int) -> None:
        """What may follow a noun."""
        draw = self.rng.random()
        if draw < 0.1 and nouns is PERSONS:
            self.write(pick(self.rng, AT_HOME))
        elif draw < 0.2 and depth < 2:
            self.aside(depth + 1)
        elif draw < 0.6 and depth < 2:
            self.relative_clause(nouns, depth)
        else:
            self.write(pick(self.rng, NEAR))
            self.any_noun_phrase()

    def subject(self, nouns: tuple[str, ...], depth: int) -> int:
        """A noun phrase and all that stands before its verb; the place of the noun."""
        head = self.noun_phrase(nouns)
        for _ in range(pick(self.rng, MODIFIERS[depth])):
            self.modifier(nouns, depth)
        if self.chance(0.25):
            self.write(pick(self.rng, OFTEN))
        return head

    def clause(self, depth: int) -> None:
        """A subject and what it does or is."""
        nouns = PERSONS if self.chance(0.75) else THINGS
        head = self.subject(nouns, depth)
        draw = self.rng.random() if nouns is PERSONS else 0.0
        if draw < 0.2:
            self.verb(head, "are")
            self.write(pick(self.rng, ABOUT_PERSONS if nouns is PERSONS else ABOUT_THINGS))
        elif draw < 0.4:
            self.verb(head, pick(self.rng, DO))
        else:
            objects, verbs = pick(self.rng, ((PERSONS, DO_TO_PERSONS), (THINGS, DO_TO_THINGS), (THINGS, ["have"])))
            self.verb(head, pick(self.rng, verbs))
            self.noun_phrase(objects)
            if self.chance(0.2):
                self.modifier(objects, depth + 1)
        if self.chance(0.2):
            self.write(pick(self.rng, TODAY))

    def aside(self, depth: int) -> None:
        """Brackets, and what they hold."""
        kind = pick(self.rng, tuple(BRACKETS))
        opening, draw = self.write(kind), self.rng.random()
        if draw < 0.25:
            self.write(pick(self.rng, ALAS))
        elif draw < 0.4:
            self.write(pick(self.rng, OF_COURSE))
        else:
            self.clause(depth)
        if depth < 2 and self.chance(0.4):
            self.aside(depth + 1)
        self.links.append(Link("bracket", opening, self.write(BRACKETS[kind])))

    def story(self) -> None:
        """*Mary told the cooks that she left*: one name, and at the end what she did."""
        pronoun = pick(self.rng, tuple(NAMES))
        name = self.write(pick(self.rng, NAMES[pronoun]))
        if self.chance(0.2):
            self.write(", who", pick(self.rng, SAW))
            self.any_noun_phrase()
            self.write(",")
        draw = self.rng.random()
        if draw < 0.4:
            self.write(pick(self.rng, SAID), *(["that"] if draw < 0.2 else []))
        elif draw < 0.75:
            self.write(pick(self.rng, TOLD))
            self.noun_phrase(PERSONS)
            if self.chance(0.4):
                self.modifier(PERSONS, 1)
            self.write(*(["that"] if self.chance(0.8) else []))
        else:
            self.write(pick(self.rng, SAID), "that")
            self.clause(1)
            self.write(pick(self.rng, AND))
        self.links.append(Link("pronoun", name, self.write(pronoun)))
        if self.chance(0.5):
            self.write(pick(self.rng, LEFT))
        else:
            self.write(pick(self.rng, SAW))
            self.any_noun_phrase()

    def sentence(self) -> Sentence:
        """All of it."""
        if self.chance(0.15):
            self.write(pick(self.rng, TODAY), ",")
        if self.chance(0.35):
            self.story()
        else:
            self.clause(0)
            if self.chance(0.2):
                self.write(pick(self.rng, AND))
                self.clause(1)
        if self.chance(0.3):
            self.aside(0)
        self.write(".")
        return Sentence(tuple(self.words), tuple(self.links))


def sentences(seed: int) -> Iterator[Sentence]:
    """Sentences, none of them twice, without end."""
    rng = random.Random(seed)
    seen: set[tuple[str, ...]] = set()
    while True:
        sentence = Writer(rng).sentence()
        if len(sentence.words) <= LONGEST and sentence.words not in seen:
            seen.add(sentence.words)
            yield sentence


def drawn(split: str, seed: int) -> Iterator[Sentence]:
    """The sentences of a split; the same for the same `seed`.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SIZES:
        raise ValueError(f"no split {split!r}; expected one of: {', '.join(SIZES)}")
    start = {"train": 0, "validation": TRAIN, "test": TRAIN + VALIDATION}[split]
    return islice(sentences(seed), start, start + SIZES[split])


def generate(split: str, seed: int = 0) -> Iterator[tuple[str]]:
    """Rows of "train", "validation" or "test": a text each, its words separated by single spaces."""
    return ((sentence.text,) for sentence in drawn(split, seed))


def lures(sentence: Sentence, link: Link) -> list[str]:
    """What might be taken for the word that decides: nouns in between; closing brackets of those in between and of those around."""
    between = sentence.words[link.source + 1 : link.target]
    if link.kind != "bracket":
        return [word for word in reversed(between) if word in NOUNS]
    around = [
        sentence.words[it.target]
        for it in sentence.links
        if it.kind == "bracket" and it.source < link.source and it.target > link.target
    ]
    return [word for word in reversed(between) if word in BRACKETS.values()] + around


def twin(sentence: Sentence, link: Link, rng: random.Random) -> Sentence:
    """The sentence with the other word at both ends of the link; another bracket is that of a lure, if one can be had."""
    source, target = sentence.words[link.source], sentence.words[link.target]
    if link.kind != "bracket":
        return sentence.replace(link, OTHER[source], OTHER[target])
    other = next((lure for lure in lures(sentence, link) if lure != target), None)
    other = other or pick(rng, [closing for closing in BRACKETS.values() if closing != target])
    return sentence.replace(link, OPENING[other], other)


def twins(
    rows: Iterable[Sentence], train: Container[tuple[str, ...]], seed: int = 0
) -> Iterator[tuple[Sentence, Sentence, Link]]:
    """Sentences of `rows` and their twins, with the link at whose ends alone they differ; no twin stands in `train`.

    There are at most `TWINS` of each kind and group of distances. From four words on, a noun between subject and verb, or a
    second pair of brackets, might be taken for what decides.
    """
    rng = random.Random(seed)
    counts: Counter[tuple[str, tuple[int, int]]] = Counter()
    for sentence in rows:
        for link in sentence.links:
            group = next(group for group in DISTANCES if group[0] <= link.distance <= group[1])
            is_easy = link.distance >= 4 and link.kind != "pronoun" and not lures(sentence, link)
            other = twin(sentence, link, rng)
            if counts[link.kind, group] < TWINS and not is_easy and other.words not in train:
                counts[link.kind, group] += 1
                yield sentence, other, link


def probes(split: str = "test", seed: int = 0) -> Iterator[Probe]:
    """Minimal pairs (Linzen et al. 2016): does a model give `right` a higher probability than `wrong` after `prefix`?

    Each probe has its twin beside it, in which another word decides, so that right is wrong.
    """
    rows, train = drawn(split, seed), {sentence.words for sentence in drawn("train", seed)}
    pairs = twins(rows, train, seed)
    return (probe for one, other, link in pairs for probe in (one.probe(link, other), other.probe(link, one)))
