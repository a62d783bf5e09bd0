"""English sentences, and the same in a language that was made up: Sembarian.

    The old bakers near the mill do not see a stone house.  →  Pekir vetoi mulenlo na un steganodomuun ne sidant.

The lessons:

* Order. The verb comes last, adjectives behind their nouns, and what stands before a place in English stands behind it. With each
  further clause, a word and its translation stand further from the ends of their sentences.
* Endings. A noun says by its ending whether it acts, is acted upon, or is a place; adjectives and verbs agree with a noun that
  may stand far off. What decides an ending stands elsewhere in the source.
* Compounds. "stone house" is one word, with the material first. Of all compounds a third stand in the test alone: only who reads and
  writes pieces of words can make them.
* Length. A sentence has one clause, or up to five: a single vector cannot hold the long ones, who looks back need not hold them.

Each English sentence has one translation, so that all of it can be right.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from nlp_tasks.data.toy_world.sentiment import pick

TRAIN, VALIDATION, TEST = 8_000, 500, 1_000
COLUMNS = ("source", "target")
SIZES = {"train": TRAIN, "validation": VALIDATION, "test": TEST}

BEINGS = {  # a stem with an "a" among its last two letters is feminine
    "baker": "pek", "boy": "puer", "girl": "nela", "cook": "kof", "doctor": "medra", "farmer": "agro", "fisher": "pisko",
    "guard": "varda", "king": "reg", "nurse": "kura", "poet": "vate", "queen": "dama", "sailor": "naut", "smith": "fabra",
    "teacher": "doko", "monk": "moino", "bird": "avi", "cat": "mau", "dog": "kani", "fox": "vulpa", "goat": "kapro", "horse": "ekvo",
}  # fmt: skip
THINGS = {
    "apple": "poma", "boat": "bark", "book": "libro", "cup": "tasa", "hat": "kapel", "lamp": "luma", "letter": "skriba",
    "ring": "anul", "rope": "fun", "song": "kanta",
}  # fmt: skip
BUILDINGS = {"house": "domu", "bridge": "pont", "tower": "tura", "gate": "porta", "wall": "mur", "mill": "mulen"}
MATERIALS = {
    "stone": "stegan", "wood": "lign", "glass": "vitr", "iron": "fer", "brick": "tegul", "paper": "papr", "straw": "palj", "clay": "lut",
    "silver": "argen", "copper": "kupr",
}  # fmt: skip
PLACES = {
    "harbour": "havno",
    "river": "flum",
    "forest": "silva",
    "garden": "horto",
    "market": "merka",
    "hill": "kolin",
    **BUILDINGS,
}
ADJECTIVES = {
    "old": "vet", "young": "jun", "small": "par", "big": "gran", "red": "rub", "blue": "blav", "wise": "sag", "poor": "misr",
    "happy": "gaud", "quiet": "tak", "tired": "las", "strange": "estr",
}  # fmt: skip
VERBS = {  # present, past
    ("sees", "saw"): "sid", ("finds", "found"): "trov", ("loves", "loved"): "am", ("hears", "heard"): "aud", ("sells", "sold"): "vend",
    ("paints", "painted"): "ping", ("hides", "hid"): "kel", ("brings", "brought"): "port", ("wants", "wanted"): "vol",
    ("draws", "drew"): "dras", ("steals", "stole"): "furt", ("guards", "guarded"): "kust",
}  # fmt: skip
NEAR = {"near": "na", "behind": "tras", "under": "sub", "above": "sur", "beside": "apud"}
DETERMINERS = {"the": "", "a": "un", "every": "omn", "two": "du", "three": "tri", "many": "mult"}
PLURAL = ("two", "three", "many")
HELD_OUT = {
    (material, building) for m, material in enumerate(MATERIALS) for b, building in enumerate(BUILDINGS) if (m + b) % 3 == 0
}
"""Compounds of the test alone."""
JOINTS = {"and": "e", "but": "mas", "because": "kar", "while": "dum"}

ACTOR, OBJECT, PLACE = "", "un", "lo"
"""Endings of a noun by what it does."""


class Phrase(NamedTuple):
    english: list[str]
    translated: list[str]
    plural: bool


def compound(rng: random.Random, unseen: bool) -> tuple[str, str]:
    """A material and a building, of those held out too where `unseen`."""
    while True:
        both = pick(rng, [*MATERIALS]), pick(rng, [*BUILDINGS])
        if unseen or both not in HELD_OUT:
            return both


def phrase(rng: random.Random, case: str, unseen: bool, depth: int = 0) -> Phrase:
    """A noun with what belongs to it."""
    determiner = pick(rng, [*DETERMINERS, "the", "the"])
    plural = determiner in PLURAL or (determiner == "the" and rng.random() < 0.4)
    if case == OBJECT and rng.random() < 0.35:
        material, building = compound(rng, unseen)
        english, stem = [material, building], MATERIALS[material] + "o" + BUILDINGS[building]
    else:
        known = {ACTOR: BEINGS, OBJECT: {**BEINGS, **THINGS}, PLACE: PLACES}[case]
        noun = pick(rng, [*known])
        english, stem = [noun], known[noun]
    adjective = pick(rng, [*ADJECTIVES]) if rng.random() < 0.4 else ""
    words = [determiner, *filter(None, [adjective]), *english[:-1], english[-1] + ("s" if plural else "")]
    translated = [*filter(None, [DETERMINERS[determiner]]), stem + ("ir" if plural else "") + case]
    if adjective:
        gender = "a" if "a" in stem[-2:] else "o"
        translated.append(ADJECTIVES[adjective] + gender + ("i" if plural else ""))
    if depth == 0 and case != PLACE and rng.random() < 0.3:
        near = pick(rng, [*NEAR])
        place = phrase(rng, PLACE, unseen, 1)
        words += [near, *place.english]
        translated += [*place.translated, NEAR[near]]
    return Phrase(words, translated, plural)


def clause(rng: random.Random, unseen: bool) -> Phrase:
    """Who does what to whom."""
    actor, other = phrase(rng, ACTOR, unseen), phrase(rng, OBJECT, unseen)
    forms = pick(rng, [*VERBS])
    past, negated = rng.random() < 0.4, rng.random() < 0.25
    plain = forms[0].removesuffix("s")
    if negated:
        auxiliary = "did" if past else "do" if actor.plural else "does"
        verb = [auxiliary, "not", plain]
    else:
        verb = [forms[1] if past else plain if actor.plural else forms[0]]
    ending = ("is" if past else "a") + ("nt" if actor.plural else "t")
    translated = [*actor.translated, *other.translated, *(["ne"] if negated else []), VERBS[forms] + ending]
    return Phrase([*actor.english, *verb, *other.english], translated, actor.plural)


def sentence(rng: random.Random, unseen: bool) -> tuple[str, str]:
    """A sentence and its translation."""
    english: list[str] = []
    translated: list[str] = []
    for number in range(1 + int(5 * rng.random() ** 2)):
        if number:
            joint = pick(rng, [*JOINTS])
            english[-1] += ","
            translated[-1] += ","
            english.append(joint)
            translated.append(JOINTS[joint])
        made = clause(rng, unseen)
        english += made.english
        translated += made.translated
    return _written(english), _written(translated)


def _written(words: list[str]) -> str:
    text = " ".join(words)
    return f"{text[0].upper()}{text[1:]}."


def generate(split: str, seed: int = 0) -> Iterator[tuple[str, str]]:
    """English sentences of a split and their translations, none of them twice; the same for the same `seed`.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SIZES:
        raise ValueError(f"no split {split!r}; expected one of: {', '.join(SIZES)}")
    rng = random.Random(seed)
    seen: set[str] = set()
    known = _distinct(rng, seen, unseen=False)
    if split == "train":
        return islice(known, TRAIN)
    for _ in islice(known, TRAIN):
        pass
    validation = list(islice(known, VALIDATION))
    return iter(validation) if split == "validation" else islice(_distinct(rng, seen, unseen=True), TEST)


def _distinct(rng: random.Random, seen: set[str], *, unseen: bool) -> Iterator[tuple[str, str]]:
    while True:
        pair = sentence(rng, unseen)
        if pair[0] not in seen:
            seen.add(pair[0])
            yield pair
