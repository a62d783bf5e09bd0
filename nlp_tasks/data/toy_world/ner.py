"""Sentences with names that may be a person's, a place's or a shop's, and only the sentence says which.

The lessons:

* A name has no kind of its own: "Florence pays for the shoes", "the train to Florence was late", "Florence sells shoes
  until nine". Every name is each of the three about equally often, so the most frequent tag of each word finds little.
* What decides stands before the name or after it, and often some way off: "the bakery that, if the little green book is
  right, is called Florence". Names never seen before ("Skonkin Stone") are read by the same signs.
* Capitals do not tell where a name begins and ends. Names stand side by side ("unlike Paris Old May Hill snores until
  nine"), "Marks and May" are one shop if it sells shoes and two if they sell them, and "May we sail to May Hill?"
  begins with no name at all.

A name has one first word, never a second; "Old", "Little" or "Young" may stand before it and a word such as "Hill" after
it. By this, the whole sentence decides everything.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import islice

from nlp_tasks.data.toy_world.pos_tagging import stems
from nlp_tasks.data.toy_world.sentiment import pick

TRAIN, VALIDATION, TEST = 4_000, 500, 1_000  # sentences
COLUMNS = ("words", "tags")
SIZES = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
KINDS = ("PER", "LOC", "SHOP")

Sentence = tuple[tuple[str, ...], tuple[str, ...]]

# The parts of a name: perhaps an epithet, always a first word, perhaps a last one. Many are words like others, too.
EPITHETS = "Old Little Young".split()
FIRST = (
    *"Paris Florence Jordan Chelsea Victoria Sydney Austin Georgia Lincoln Devon".split(),
    *"May Marks Rose Will Bill Penny Olive Ginger Sandy Daisy".split(),
)
LAST = "Hill Green Wood Stone Brook Lane Park Field".split()
MADE_UP = 0.25  # so many of the first words are made up, and occur once

# "[LOC]" is the name of a place, "[?]" one of the kind that is the sentence's own, which also decides what fits "{does}".
PATTERNS = (
    # What decides comes after the name, at once or later.
    *("[?] {does}", "{today} [?] {does}", "[?] , {aside} , {does}", "[?] , {aside} , {does}", "{aside} [?] {does}"),
    *("[?] is by the way the name of a {kind}", "{they} talk of [?] {today} but never saw such a {kind}"),
    # What decides comes before it.
    *("{they} {visit} [?] {today}", "the {news} [?] was late", "may {they} {visit} [?] ?", "will {they} {visit} [?] {today} ?"),
    *("the {kind} that , {aside} , is called [?]", "no other {kind} in the green book had the name [?]"),
    *("{olive} growers {visit} [?] at will", "little bill marks show that {they} {visit} [?]"),
    # Two names side by side, of one kind or of two.
    *("unlike [?] [?] {does}", "just like [?] [?] {does}", "unlike [?] [?] , {aside} , {does}"),
    *("in [LOC] [PER] is a hero", "{they} sold [PER] [SHOP] for a penny", "at [SHOP] [LOC] is on every map"),
    # One name or two: "Marks and May" is a shop if it sells, and if they sell, they are two.
    *("[SHOP&] {sells}", "[SHOP&] , {aside} , {sells}", "[?] and [?] {do}", "[?] and [?] , {aside} , {do}"),
)
SIGNS = {
    "does": {
        "PER": "pays for the shoes|has two brothers|snores until nine|may marry again",
        "LOC": "has a mayor|has two bridges|has rain until nine|may build a harbour",
        "SHOP": "sells shoes until nine|has two tills|opens at nine|may sell out again",
    },
    "do": {
        "PER": "pay for the shoes|have two brothers|snore until nine",
        "LOC": "have a mayor|have two bridges|have rain until nine",
        "SHOP": "sell shoes until nine|have two tills|open at nine",
    },
    "kind": {"PER": "cousin|dentist|singer", "LOC": "village|harbour|island", "SHOP": "bakery|bookshop|shoe shop"},
    "news": {
        "PER": "letter from aunt|dog that bit|wedding of",
        "LOC": "train to|mayor of|bus through",
        "SHOP": "cashier of|parcel bought at|winter sale at",
    },
    "visit": {
        "PER": "marry|hug|dance with",
        "LOC": "sail to|emigrate to|cycle through",
        "SHOP": "shop at|browse in|buy shoes from",
    },
}
WORDS = {
    "sells": "sells shoes until nine|has two tills|opens at nine",
    "they": "we|they|you",
    "today": "today|every spring|after the green tea with ginger|when the rose field is wet",
    "aside": "as the old man on the hill knows|if the little green book is right|as a penny paper wrote"
    "|whatever the marks on the stone may mean|as daisy fields and olive wood will tell"
    "|as young men in the park by the brook say|as one learns in the sandy lane",
    "olive": "old hill|olive|rose|ginger|daisy|young wood",
}


def name(rng: random.Random, made_up: Iterator[str], taken: list[str]) -> list[str]:
    """The words of a name: one, two or three of them. Its first word is put with those that are `taken`."""
    first = next(made_up).capitalize() if rng.random() < MADE_UP else pick(rng, [word for word in FIRST if word not in taken])
    taken.append(first)
    epithet = [pick(rng, EPITHETS)] if rng.random() < 0.2 else []
    return [*epithet, first, *([pick(rng, LAST)] if rng.random() < 0.4 else [])]


def fill(rng: random.Random, pattern: str, kind: str) -> str:
    """The pattern with words at each place, save for the names."""
    return re.sub(r"{(\w+)}", lambda place: pick(rng, (WORDS.get(place[1]) or SIGNS[place[1]][kind]).split("|")), pattern)


def draw(rng: random.Random, made_up: Iterator[str]) -> Sentence:
    """Any sentence, with a capital and a full stop."""
    own_kind = pick(rng, KINDS)
    text = fill(rng, pick(rng, PATTERNS), own_kind)
    words: list[str] = []
    tags: list[str] = []
    taken: list[str] = []
    for item in text.split() if text.endswith("?") else [*text.split(), "."]:
        if item.startswith("["):
            kind = item.strip("[&]").replace("?", own_kind)
            found = name(rng, made_up, taken)
            if "&" in item:
                found += ["and", *name(rng, made_up, taken)]
            words += found
            tags += [f"B-{kind}", *[f"I-{kind}"] * (len(found) - 1)]
        else:
            words.append(item)
            tags.append("O")
    return (words[0][0].upper() + words[0][1:], *words[1:]), tuple(tags)


def sentences(seed: int) -> Iterator[Sentence]:
    """Sentences, none of them twice."""
    rng = random.Random(seed)
    made_up = stems(rng)
    seen: set[tuple[str, ...]] = set()
    while True:
        words, tags = draw(rng, made_up)
        if words not in seen:
            seen.add(words)
            yield words, tags


def generate(split: str, seed: int = 0) -> Iterator[Sentence]:
    """The words of each sentence of a split, and their tags; the same for the same `seed`.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SIZES:
        raise ValueError(f"no split {split!r}; expected one of: {', '.join(SIZES)}")
    start = {"train": 0, "validation": TRAIN, "test": TRAIN + VALIDATION}[split]
    return islice(sentences(seed), start, start + SIZES[split])
