"""A small world in which words are related in three ways: capitals and countries, one and many, he and she.

Each word belongs to a topic (a country, a thing, a kind of person) and plays a role (capital or country, one or many, man or woman).
In a sentence stands beside it what goes with its topic, whatever the role, and what goes with its role, whatever the topic:

    fjord the mayor oslo streets of salmon
    near president kroner norway border skiing again

So the company of a word is that of its topic and that of its role put together, and of four words of two topics and two roles the
vectors make a parallelogram: oslo - norway + greece = athens. The four never need to stand together.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

from nlp_tasks.data.questions import Question

COLUMNS = ("text",)
SIZES = {"train": 30_000, "validation": 1_000, "test": 2_000}
"""Sentences."""


class Relation(NamedTuple):
    """Pairs of words, each with what goes with both; and what goes with the left and with the right word of any pair."""

    section: str
    topics: dict[tuple[str, str], tuple[str, ...]]
    left: tuple[str, ...]
    right: tuple[str, ...]


def _relation(section: str, topics: dict[str, str], left: str, right: str) -> Relation:
    def pair(words: str) -> tuple[str, str]:
        one, other = words.split()
        return one, other

    return Relation(
        section,
        {pair(words): tuple(company.split()) for words, company in topics.items()},
        tuple(left.split()),
        tuple(right.split()),
    )


RELATIONS = (
    _relation(
        "capital-country",
        {
            "oslo norway": "fjord salmon skiing kroner", "athens greece": "olives temple islands feta",
            "tirana albania": "eagle bunkers raki mountains", "lima peru": "llama potatoes inca ceviche",
            "cairo egypt": "pyramid camel papyrus nile", "quito ecuador": "bananas volcano galapagos equator",
            "dublin ireland": "clover whiskey harp pubs", "hanoi vietnam": "rice noodles mekong lanterns",
            "tunis tunisia": "couscous dates harissa medina", "riga latvia": "amber rye birch choirs",
            "sofia bulgaria": "roses yoghurt thracian monasteries", "havana cuba": "cigars rum sugar rumba",
        },
        "mayor streets suburb square tram stadium airport townhall",
        "border army constitution provinces president export coastline flag",
    ),
    _relation(
        "one-many",
        {
            "river rivers": "water fish bank mill", "horse horses": "saddle oats gallop stable",
            "lamp lamps": "oil light wick glow", "bridge bridges": "arch stones cross toll",
            "apple apples": "tree pie sweet orchard", "wagon wagons": "wheel cart axle load",
            "letter letters": "ink stamp post envelope", "mirror mirrors": "glass face silver reflect",
            "rope ropes": "knot hemp sail tie", "tower towers": "bell stairs clock high",
            "hat hats": "felt brim feather wear", "candle candles": "wax flame burn tallow",
        },
        "a this each one is was another single",
        "many these several few are were all dozens",
    ),
    _relation(
        "man-woman",
        {
            "king queen": "throne crown reign palace", "prince princess": "heir castle ball carriage",
            "actor actress": "stage film role applause", "waiter waitress": "tray menu table tip",
            "uncle aunt": "cousins family visit birthday", "nephew niece": "school toys young homework",
            "monk nun": "prayer cell vows cloister", "wizard witch": "spell potion broom cauldron",
            "duke duchess": "estate hunt court hounds", "hero heroine": "quest rescue brave dragon",
            "host hostess": "guests dinner toast welcome", "groom bride": "wedding ring altar cake",
        },
        "he his him himself sir gentleman beard moustache",
        "she her hers herself madam lady gown bonnet",
    ),
)  # fmt: skip
FILLERS = (
    "the",
    "of",
    "and",
    "in",
    "near",
    "with",
    "often",
    "there",
    "then",
    "again",
    "old",
    "new",
    "seen",
    "said",
    "about",
    "for",
)


def sentence(rng: random.Random) -> str:
    """One or two words of a relation, each between what goes with its topic and what goes with its role."""
    relation = rng.choice(RELATIONS)
    words: list[str] = []
    for _ in range(rng.randint(1, 2)):
        pair, topic = rng.choice([*relation.topics.items()])
        side = rng.randrange(2)
        role = (relation.left, relation.right)[side]
        around = [rng.choice(company) for company in (topic, topic, role, role, FILLERS, FILLERS)]
        rng.shuffle(around)
        words += [*around[:3], pair[side], *around[3:]]
    return " ".join(words) + " ."


def generate(split: str, seed: int = 0) -> Iterator[tuple[str]]:
    """Sentences of a split; the same for the same `seed`.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SIZES:
        raise ValueError(f"no split {split!r}; expected one of: {', '.join(SIZES)}")
    rng = random.Random(f"{seed} {split}")
    return ((sentence(rng),) for _ in range(SIZES[split]))


def questions() -> list[Question]:
    """Every two pairs of a relation, in both directions: "oslo norway athens greece", "norway oslo greece athens"."""
    made = []
    for relation in RELATIONS:
        for one, other in permutations(relation.topics, 2):
            made += [Question(relation.section, (*one, *other)), Question(relation.section, (*one[::-1], *other[::-1]))]
    return made


def frequent() -> list[str]:
    """Words whose neighbours tell something."""
    return ["oslo", "norway", "river", "rivers", "king", "queen"]
