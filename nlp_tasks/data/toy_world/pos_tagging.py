"""Sentences whose words take their part of speech from what stands around them, or from how they end.

The lessons:

* A word has no tag of its own. "Rich", "duck", "boxes", "outside", "help" are each now this, now that: whoever gives
  every word its most frequent tag is wrong in almost every fourth place.
* Who reads only from left to right decides too early. Sentences come in pairs, and most pairs begin alike:

      The rich duck outside the mill without help .      rich/NOUN duck/VERB help/NOUN
      The rich duck outside the mill will help .         rich/ADJ  duck/NOUN help/VERB

  At "duck" no memory of what went before can tell the one from the other. What follows does, but some words later, so
  that a look at the neighbours does not help either. In other pairs what decides stands as far to the left.
* A word never seen before still has an ending. Made-up words, each used once in all the world, stand where their
  neighbours leave open what they are: "they glimbify drink" (VERB NOUN), "they snorkly drink" (ADV VERB).

The whole sentence decides everything: who reads both ways, and letters too, can get every word right.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import islice, product

from nlp_tasks.data.toy_world.sentiment import pick

TRAIN, VALIDATION, TEST = 4_000, 500, 1_000  # sentences, each beside its partner
COLUMNS = ("words", "tags")
SIZES = {"train": TRAIN, "validation": VALIDATION, "test": TEST}

Sentence = tuple[tuple[str, ...], tuple[str, ...]]

# Pairs of patterns, filled with the same words. First what only the words to the right decide, some of them far away.
GARDEN_PATHS = (
    ("the {rich}/NOUN {duck}/VERB {place} without {help}/NOUN", "the {rich}/ADJ {duck}/NOUN {place} {will} {help}/VERB"),
    (
        "the {rich}/NOUN {duck}/VERB {cut}/ADJ {boxes}/NOUN {place} nowadays",
        "the {rich}/ADJ {duck}/NOUN {cut}/VERB {boxes}/NOUN {place} recently",
    ),
    (
        "the {rich}/NOUN {duck}/VERB {cut}/ADJ {help}/NOUN {place} nowadays",
        "the {rich}/ADJ {duck}/NOUN {cut}/VERB {help}/NOUN {place} recently",
    ),
)
FROM_THE_RIGHT = (
    ("{empty}/VERB {boxes}/NOUN {place} without {help}/NOUN", "{empty}/ADJ {boxes}/NOUN {place} {will} {help}/VERB"),
    ("{water}/VERB {boxes}/NOUN {place} without {help}/NOUN", "{water}/NOUN {boxes}/NOUN {place} {will} {help}/VERB"),
    ("the {duck}/NOUN {boxes}/VERB {place} without {help}/NOUN", "the {duck}/NOUN {boxes}/NOUN {place} {will} {help}/VERB"),
    (
        "{they} {doubt} that/DET {help}/NOUN {place} without {help2}/NOUN",
        "{they} {doubt} that/SCONJ {help}/NOUN {place} {will} {help2}/VERB",
    ),
    ("{they} saw her {duck}/VERB the {duck2}/NOUN", "{they} saw her {duck}/NOUN {help}/VERB"),
    ("{she} {boxes}/VERB {outside}/ADV", "{she} {boxes}/VERB {outside}/ADP the {cold}/NOUN"),
    ("{she} {boxes}/VERB behind the {cold}/NOUN", "{she} {boxes}/VERB behind the {cold}/ADJ {mill}/NOUN"),
)
FROM_THE_LEFT = (
    ("{she} can neither {help}/VERB {place} nor {help2}/VERB", "{she} {has} neither {help}/NOUN {place} nor {help2}/NOUN"),
    ("{she} can neither {empty}/VERB {place} nor {empty2}/VERB", "{she} was neither {empty}/ADJ {place} nor {empty2}/ADJ"),
    ("{she} neither {boxes}/VERB {place} nor {boxes2}/VERB", "{she} {has} neither {boxes}/NOUN {place} nor {boxes2}/NOUN"),
    ("{they} neither {duck}/VERB {place} nor {duck2}/VERB", "{she} neither {boxes}/VERB {place} nor {boxes2}/VERB"),
)
FROM_THE_ENDING = (
    ("{they} {-VERB}/VERB {help}/NOUN {place}", "{they} {-ADV}/ADV {help}/VERB {place}"),
    ("{they} {-VERB}/VERB {-NOUN}/NOUN {place}", "{they} {-ADV}/ADV {-VERB2}/VERB {place}"),
    ("{they} saw her {-VERB}/VERB {place}", "{they} saw her {-NOUN}/NOUN {place}"),
    ("{she} calls it {-ADJ}/ADJ", "{she} calls it {-NOUN}/NOUN"),
    ("{she} finds it {-ADJ}/ADJ {place}", "{she} finds it {-ADV}/ADV {place}"),
)
PAIRS = (*GARDEN_PATHS * 3, *FROM_THE_RIGHT, *FROM_THE_LEFT, *FROM_THE_ENDING * 2)  # each as often as it stands here
PLACES = (
    *("{outside}/ADV", "{outside}/ADV", "{outside}/ADV", "{outside}/ADP the {cold}/NOUN"),
    *("{outside}/ADP the {cold}/ADJ {mill}/NOUN", "{outside}/ADP the {mill}/NOUN {outside2}/ADV"),
)

# What may fill a place in a pattern ("{duck2}" is another word like "{duck}").
WORDS = {
    "rich": "rich poor old young brave wise blind idle",  # ADJ, or NOUN after "the"
    "duck": "duck cook guard spy fly judge clown crow nurse",  # NOUN, or VERB
    "boxes": "boxes drums ducks flies plants cooks spies clowns",  # NOUN, or VERB
    "help": "help work drink sleep fish smoke paint water",  # NOUN without article, or VERB
    "empty": "empty clean open cool warm dry slow calm",  # ADJ, or VERB
    "water": "water paint dust butter salt sugar guard nurse",  # NOUN, or VERB
    "cold": "cold light dark wild deep open",  # ADJ, or NOUN after "the"
    "cut": "cut split spread hurt",  # ADJ, or VERB in the past, which does not show who did it
    "outside": "outside inside below above underneath opposite",  # ADP, or ADV
    "mill": "mill can bakery harbour",
    "doubt": "doubt trust notice guess",
    "has": "has likes",
    "will": "will may must",
    "they": "we they you",
    "she": "she he",
}
ENDINGS = {"NOUN": "ness ment ship", "VERB": "ify ize", "ADJ": "ous ful", "ADV": "ly wise"}

# The tag of a word to which the pattern gives none.
CLOSED = {
    "DET": "the",
    "ADP": "without behind",
    "ADV": "nowadays recently",
    "PRON": "we they you she he her it",
    "AUX": "will can may must was",
    "CCONJ": "neither nor",
    "VERB": "saw calls finds has likes doubt trust notice guess",
    "PUNCT": ".",
}
TAGS = {word: tag for tag, words in CLOSED.items() for word in words.split()}

# Stems of made-up words: "gl" + "i" + "mb" + "er", and then an ending.
ONSETS = "bl br cl cr dr fl fr gl gr kl kr pl pr sk sm sn spl spr squ str thr tr tw zw".split()
MIDDLES = "bb dg ff ggl lb mb mp nd nk rb rg rk rp zz".split()


def stems(rng: random.Random) -> Iterator[str]:
    """Stems of words that do not exist, each of them once, in any order."""
    parts = product(ONSETS, "aeiou", MIDDLES, ("", "er", "el", "in"))
    return iter(sorted(map("".join, parts), key=lambda _: rng.random()))


def fill(rng: random.Random, pattern: str, words: dict[str, str], made_up: Iterator[str]) -> str:
    """The pattern with a word at each place; `words` remembers which, for the next pattern."""

    def word(place: re.Match[str]) -> str:
        name = place[1]
        if name not in words:
            if name == "place":
                words[name] = fill(rng, pick(rng, PLACES), {}, made_up)
            elif name.startswith("-"):
                words[name] = next(made_up) + pick(rng, ENDINGS[name.strip("-2")].split())
            else:
                choices = WORDS[name.rstrip("2")].split()
                words[name] = pick(rng, [choice for choice in choices if choice not in words.values()])
        return words[name]

    return re.sub(r"{([^}]+)}", word, pattern)


def parse(text: str) -> Sentence:
    """Words and tags of "the rich/ADJ duck/NOUN", with a capital and a full stop."""
    parts = [item.partition("/") for item in [*text.split(), "."]]
    words = [word for word, _, _ in parts]
    return (words[0].capitalize(), *words[1:]), tuple(tag or TAGS[word] for word, _, tag in parts)


def pairs(seed: int) -> Iterator[tuple[Sentence, Sentence]]:
    """Sentences with their partners, none of them twice."""
    rng = random.Random(seed)
    made_up = stems(rng)
    seen: set[tuple[str, ...]] = set()
    while True:
        first, second = pick(rng, PAIRS)
        words: dict[str, str] = {}
        pair = parse(fill(rng, first, words, made_up)), parse(fill(rng, second, words, made_up))
        texts = {text for text, _ in pair}
        if seen.isdisjoint(texts):
            seen |= texts
            yield pair


def generate(split: str, seed: int = 0) -> Iterator[Sentence]:
    """The words of each sentence of a split, and their tags; the same for the same `seed`.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SIZES:
        raise ValueError(f"no split {split!r}; expected one of: {', '.join(SIZES)}")
    start = {"train": 0, "validation": TRAIN, "test": TRAIN + VALIDATION}[split] // 2
    drawn = islice(pairs(seed), start, start + SIZES[split] // 2)
    rng = random.Random(seed)
    return iter(sorted((sentence for pair in drawn for sentence in pair), key=lambda _: rng.random()))
