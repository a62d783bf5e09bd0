"""Short passages about people, their houses and gifts, and questions whose answer is a span of the passage.

    On Friday Mira gave Tomas a copper lamp. On Monday Tomas gave Mira a glass ring. Mira is the teacher of Tomas. On Sunday Mira gave
    Leo a paper kite. Mira lives in the red mill beside the lake. Leo lives in the dark inn near the river.

    Who gave Mira a glass ring?                       Tomas
    When did Tomas get a copper lamp from Mira?       On Friday
    Where does the teacher of Tomas live?             in the red mill beside the lake

The lessons:

* Near copies. To each statement that answers a question stands another one in its passage with the same words but for who gives and who
  takes, which day, or which thing: the overlap of words misleads.
* Roles. Only the order of words says who gave and who got.
* Two steps. Who "the teacher of Tomas" is stands elsewhere in the passage.
* Names. Half of the names in the test never occur in training: whoever only knows words does not know them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from nlp_tasks.data.toy_world.sentiment import pick

TRAIN, VALIDATION, TEST = 2_400, 200, 400
"""Passages; each has three questions."""
COLUMNS = ("question", "passage", "answers", "starts", "id", "title")
SIZES = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
QUESTIONS = 3

NAMES = (
    "Mira", "Tomas", "Lena", "Anton", "Julia", "Peter", "Nora", "Simon", "Clara", "Victor", "Emma", "Oskar", "Paula", "Felix", "Irene",
    "Martin", "Vera", "Jonas", "Sofia", "Bruno", "Marta", "Leo", "Diana", "Hugo",
)  # fmt: skip
NEW_NAMES = ("Selma", "Ruben", "Tilda", "Arvid", "Noemi", "Casper", "Flora", "Gustav", "Edith", "Marius", "Wanda", "Konrad")
"""Names of the test alone."""
MATERIALS = ("copper", "silver", "wooden", "golden", "glass", "paper", "leather", "iron", "woollen", "stone")
THINGS = ("lamp", "ring", "box", "cup", "hat", "coat", "boat", "book", "clock", "key", "map", "drum", "kite", "mirror", "bell")
HOUSES = ("house", "cottage", "tower", "mill", "castle", "cabin", "farm", "inn")
ADJECTIVES = ("old", "small", "red", "white", "narrow", "quiet", "tall", "yellow", "round", "dark")
PLACES = ("river", "market", "harbour", "forest", "hill", "church", "lake", "garden", "bridge", "station", "school", "field")
NEAR = ("near", "behind", "beside", "above", "opposite")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
KIN = ("neighbour", "teacher", "cousin", "friend", "doctor", "pupil", "guest", "tenant")


class Asked(NamedTuple):
    """A question, the sentence of the passage that answers it, and the answer in this sentence."""

    question: str
    sentence: str
    answer: str


def gift(giver: str, taker: str, thing: str, day: str) -> list[Asked]:
    sentence = f"On {day} {giver} gave {taker} {thing}."
    return [
        Asked(f"Who gave {taker} {thing}?", sentence, giver),
        Asked(f"Who got {thing} from {giver}?", sentence, taker),
        Asked(f"What did {giver} give {taker}?", sentence, thing),
        Asked(f"When did {taker} get {thing} from {giver}?", sentence, f"On {day}"),
    ]


def home(person: str, place: str) -> list[Asked]:
    return [Asked(f"Where does {person} live?", f"{person} lives {place}.", place)]


def passage(rng: random.Random, names: tuple[str, ...]) -> tuple[str, list[Asked]]:
    """Sentences in any order, and questions with one answer each."""
    people: list[str] = []
    while len(people) < 4:
        if (name := pick(rng, names)) not in people:
            people.append(name)
    a, b, c, d = people

    def thing() -> str:
        material = pick(rng, MATERIALS)
        return f"{'an' if material[0] in 'aeiou' else 'a'} {material} {pick(rng, THINGS)}"

    def place() -> str:
        return f"in the {pick(rng, ADJECTIVES)} {pick(rng, HOUSES)} {pick(rng, NEAR)} the {pick(rng, PLACES)}"

    first, second, third = thing(), thing(), thing()
    days = [pick(rng, DAYS) for _ in range(3)]
    homes = place(), place()
    kin = pick(rng, KIN)
    if len({first, second, third}) < 3 or homes[0] == homes[1]:
        return passage(rng, names)
    # Near copies: another thing back, and a third thing to another taker.
    back, at_home, far = gift(b, a, second, days[1]), home(b, homes[0]), home(d, homes[1])
    asked = [*gift(a, b, first, days[0]), *back, *gift(a, c, third, days[2]), *at_home, *far]
    sentences = {one.sentence for one in asked} | {f"{b} is the {kin} of {a}."}
    asked += 2 * [Asked(f"Where does the {kin} of {a} live?", at_home[0].sentence, homes[0]),
                  Asked(f"What did the {kin} of {a} give {a}?", back[0].sentence, second)]  # fmt: skip
    if rng.random() < 0.5:
        other = pick(rng, tuple(word for word in KIN if word != kin))
        sentences.add(f"{d} is the {other} of {a}.")
        asked += 2 * [Asked(f"Where does the {other} of {a} live?", far[0].sentence, homes[1])]
    order = sorted((rng.random(), sentence) for sentence in sorted(sentences))
    return " ".join(sentence for _, sentence in order), asked


def generate(split: str, seed: int = 0) -> Iterator[tuple[str, str, tuple[str, ...], tuple[int, ...], str, str]]:
    """Question, passage, answers, their first characters, id, title of "train", "validation" or "test"."""
    rng = random.Random(f"question answering {split} {seed}")
    for number in range(SIZES[split]):
        names = NEW_NAMES if split == "test" and number % 2 else NAMES
        text, asked = passage(rng, names)
        chosen: dict[str, Asked] = {}
        while len(chosen) < QUESTIONS:
            one = pick(rng, tuple(asked))
            chosen[one.question] = one
        title = "new names" if names is NEW_NAMES else "known names"
        for index, one in enumerate(chosen.values(), 1):
            # Whoever takes stands behind who gives.
            inside = one.sentence.rindex(one.answer) if one.question.startswith("Who got") else one.sentence.index(one.answer)
            yield one.question, text, (one.answer,), (text.index(one.sentence) + inside,), f"{split}-{number + 1}-{index}", title
