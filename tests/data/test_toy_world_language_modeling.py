"""The toy world of language modelling: what it promises of its sentences, and that what decides stands too far back to count."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations

import pytest
import tensorflow as tf

from nlp_tasks.data.toy_world import language_modeling as world
from nlp_tasks.data.toy_world.language_modeling import Probe, Sentence, generate, probes, twins
from nlp_tasks.text.tokenizer import Tokenizer

Words = tuple[str, ...]
Splits = dict[str, list[Words]]
Found = set[tuple[str, int, int]]

PLURAL_NOUNS = {f"{noun}s" for noun in (*world.PERSONS, *world.THINGS)}
NOUNS = PLURAL_NOUNS | {*world.PERSONS, *world.THINGS}
PLURAL_VERBS = {"are", "have", *world.DO_TO_PERSONS, *world.DO_TO_THINGS, *world.DO}
VERBS = PLURAL_VERBS | {"is", "has"} | {f"{verb}s" for verb in PLURAL_VERBS - {"are", "have"}}
SEX = {name: pronoun for pronoun, names in world.NAMES.items() for name in names}
CLAUSE_FOLLOWS = {"that", ",", "and", "but", "while", "because", "so"}
OBJECT_FOLLOWS = {*world.NEAR, *world.SAW, *world.SAID, *world.TOLD}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return {split: [tuple(text.split(" ")) for (text,) in generate(split)] for split in world.SIZES}


@pytest.fixture(scope="module")
def all_probes() -> list[Probe]:
    return list(probes())


@pytest.fixture(scope="module")
def trained() -> dict[str, list[Sentence]]:
    return {split: list(world.drawn(split, 0)) for split in ("train", "test")}


def read(words: Iterable[str]) -> Found:
    """What decides what, found by a parser that only knows the words: a stack of brackets over stacks of waiting subjects.

    Raises:
        ValueError: something does not fit.
    """
    found: Found = set()
    brackets: list[tuple[str, int, int]] = []
    subjects: list[int] = []
    words, name, subject_follows = tuple(words), -1, True
    for place, word in enumerate(words):
        if word in "([{":
            brackets.append((word, place, len(subjects)))
            subject_follows = True
        elif word in ")]}":
            opening, source, waiting = brackets.pop() if brackets else ("", 0, 0)
            if opening + word not in ("()", "[]", "{}") or waiting != len(subjects):
                raise ValueError(f"{place}: {word}")
            found.add(("bracket", source, place))
            subject_follows = False
        elif word in NOUNS:
            if subject_follows:
                subjects.append(place)
            subject_follows = False
        elif word in VERBS:
            if len(subjects) == (brackets[-1][2] if brackets else 0) or (words[subjects[-1]] in PLURAL_NOUNS) != (
                word in PLURAL_VERBS
            ):
                raise ValueError(f"{place}: {word}")
            found.add(("agreement", subjects.pop(), place))
        elif word in SEX:
            name, subject_follows = place, False
        elif word in SEX.values():
            if name < 0 or SEX[words[name]] != word:
                raise ValueError(f"{place}: {word}")
            found.add(("pronoun", name, place))
            subject_follows = False
        elif word in CLAUSE_FOLLOWS:
            subject_follows = True
        elif word in OBJECT_FOLLOWS:
            subject_follows = False
        elif word == "." and (subjects or brackets or place < len(words) - 1):
            raise ValueError(f"{place}: {word}")
    return found


def fits(words: Iterable[str]) -> bool:
    try:
        return bool(read(words))
    except ValueError:
        return False


def group(distance: int) -> tuple[int, int]:
    return next(group for group in world.DISTANCES if group[0] <= distance <= group[1])


def test_sizes(splits: Splits) -> None:
    sizes = {"train": 12_000, "validation": 1_000, "test": 2_000}
    assert {split: len(rows) for split, rows in splits.items()} == sizes == world.SIZES
    assert 150_000 < sum(map(len, splits["train"])) < 220_000


def test_the_same_seed_gives_the_same_sentences_and_probes(splits: Splits, all_probes: list[Probe]) -> None:
    assert [tuple(text.split()) for (text,) in generate("test", seed=0)] == splits["test"]
    assert [tuple(text.split()) for (text,) in generate("test", seed=1)] != splits["test"]
    assert list(probes("test")) == all_probes


def test_the_sentences_and_probes_are_the_same_on_every_machine(splits: Splits, all_probes: list[Probe]) -> None:
    text = "\n".join([*map(" ".join, splits["test"]), *map(repr, all_probes)])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "5456c29568fbc66d"


@pytest.mark.parametrize("rows", [generate, probes])
def test_an_unknown_split_is_refused_at_once(rows: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="train, validation, test"):
        rows("dev")


def test_no_sentence_stands_twice_or_in_two_splits(splits: Splits) -> None:
    assert all(len(set(rows)) == len(rows) for rows in splits.values())
    assert all(set(splits[a]).isdisjoint(splits[b]) for a, b in combinations(splits, 2))


def test_the_tokenizer_finds_the_same_words(splits: Splits) -> None:
    rows = splits["validation"] + splits["test"]
    found = Tokenizer(lowercase=True)(tf.constant([" ".join(words) for words in rows])).text
    assert found.values.numpy().tolist() == [word.encode() for words in rows for word in words]
    assert found.row_lengths().numpy().tolist() == [len(words) for words in rows]


def test_the_words_are_few_and_all_are_in_train(splits: Splits) -> None:
    words = {split: Counter(word for words in rows for word in words) for split, rows in splits.items()}
    assert 250 <= len(words["train"]) <= 400
    assert words["validation"].keys() | words["test"].keys() <= words["train"].keys()
    assert words["train"].keys() >= NOUNS | VERBS | SEX.keys() | {*SEX.values(), *"()[]{}"}
    assert min(words["train"].values()) >= 30
    assert all(3 <= len(words) <= 40 for rows in splits.values() for words in rows)


SENTENCES = [
    "the cooks that the boy near the ships likes bring the lamp .",
    "the cook ( the boy likes [ of course ] the guests ) still brings the lamps .",
    "mary , who met the boys , told the cooks near the ships that she left { alas } .",
]
MISTAKES = [
    ("the cooks that the boy near the ships likes brings the lamp .", "9: brings"),
    ("the cooks that the boy near the ships like bring the lamp .", "8: like"),
    ("the cooks ( the boy likes [ of course ) the guests ] bring the lamp .", r"9: \)"),
    ("the cooks ( the boy ) likes the guests bring the lamp .", r"5: \)"),
    ("the cooks ( the boy likes the guests bring the lamp .", "8: bring"),
    ("the cooks that the boy near the ships likes .", r"9: \."),
    ("mary told the cooks near the ships that he left .", "8: he"),
]


@pytest.mark.parametrize("text", SENTENCES)
def test_the_parser_reads_what_is_right(text: str) -> None:
    assert read(text.split())


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_the_parser_finds_mistakes(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(text.split())


def test_every_sentence_fits_and_its_links_are_those_that_a_reader_finds(trained: dict[str, list[Sentence]]) -> None:
    for sentence in (sentence for rows in trained.values() for sentence in rows):
        assert read(sentence.words) == set(sentence.links)


def test_the_distances_are_spread(trained: dict[str, list[Sentence]]) -> None:
    counts = Counter((link.kind, group(link.distance)) for sentence in trained["train"] for link in sentence.links)
    kinds = [counts[kind, distances] for kind in ("agreement", "bracket", "pronoun") for distances in world.DISTANCES]
    assert min(kinds) > 300
    far = sum(count for (kind, distances), count in counts.items() if kind == "agreement" and distances[0] >= 4)
    assert far > 6_000


def test_brackets_stand_in_brackets(splits: Splits) -> None:
    def depth(words: Words) -> int:
        steps = [(word in "([{") - (word in ")]}") for word in words]
        return max(sum(steps[: i + 1]) for i in range(len(steps)))

    depths = Counter(map(depth, splits["train"]))
    assert depths[1] > 1_500 and depths[2] > 1_000 and depths[3] > 200 and depths.keys() <= {0, 1, 2, 3}


def test_right_and_wrong_words_are_equally_frequent(splits: Splits) -> None:
    counts = Counter(word for words in splits["train"] for word in words)
    plural, singular = sum(counts[verb] for verb in PLURAL_VERBS), sum(counts[verb] for verb in VERBS - PLURAL_VERBS)
    assert 0.98 < plural / singular < 1.02
    assert 0.95 < counts["he"] / counts["she"] < 1.05
    assert all(0.9 < counts[a] / counts[b] < 1.1 for a, b in combinations(")]}", 2))
    for verb in PLURAL_VERBS:
        other = counts[{"are": "is", "have": "has"}.get(verb, f"{verb}s")]
        assert 0.35 < counts[verb] / (counts[verb] + other) < 0.65, verb


def test_the_nearest_noun_does_not_tell_the_number(trained: dict[str, list[Sentence]]) -> None:
    same = []
    for sentence in trained["train"]:
        for kind, source, target in sentence.links:
            between = [word for word in sentence.words[source + 1 : target] if word in NOUNS]
            if kind == "agreement" and between:
                same.append((between[-1] in PLURAL_NOUNS) == (sentence.words[source] in PLURAL_NOUNS))
    assert len(same) > 5_000
    assert 0.48 < sum(same) / len(same) < 0.52


def test_there_are_probes_of_every_kind_at_every_distance(all_probes: list[Probe]) -> None:
    counts = Counter((probe.kind, group(probe.distance)) for probe in all_probes)
    assert counts == {(kind, distances): 150 for kind in ("agreement", "bracket", "pronoun") for distances in world.DISTANCES}


def test_the_right_word_of_a_probe_fits_and_the_wrong_one_does_not(all_probes: list[Probe]) -> None:
    for kind, distance, prefix, right, wrong in all_probes:
        words = prefix.split(" ")
        assert not fits([*words, wrong])
        assert (kind, len(words) - 1 - distance, len(words)) in read([*words, right])


def test_probes_come_in_twins_that_differ_by_one_word(all_probes: list[Probe]) -> None:
    for one, other in zip(all_probes[::2], all_probes[1::2], strict=True):
        assert (one.kind, one.distance, one.right, one.wrong) == (other.kind, other.distance, other.wrong, other.right)
        pairs = list(zip(one.prefix.split(), other.prefix.split(), strict=True))
        assert [a != b for a, b in pairs] == [i == len(pairs) - 1 - one.distance for i in range(len(pairs))]


def test_probes_are_of_test_sentences_and_neither_twin_stands_in_train(splits: Splits, all_probes: list[Probe]) -> None:
    train, test = set(splits["train"]), set(splits["test"])
    pairs = list(twins(world.drawn("test", 0), train))
    assert len(pairs) == len(all_probes) / 2
    for (first, second, link), probe in zip(pairs, all_probes[::2], strict=True):
        assert first.words in test and not {first.words, second.words} & train
        assert first.text.startswith(f"{probe.prefix} {probe.right} ") and second.words[link.target] == probe.wrong


def test_from_four_words_on_something_misleads_half_of_the_time(all_probes: list[Probe]) -> None:
    far = [probe for probe in all_probes if probe.distance >= 4]
    misled = []
    for kind, distance, prefix, right, _ in far:
        words = prefix.split()
        between = words[len(words) - distance :]
        if kind == "agreement":
            nearest = next(word for word in reversed(between) if word in NOUNS)
            misled.append((nearest in PLURAL_NOUNS) != (right in PLURAL_VERBS))
        elif kind == "bracket":
            assert sum(word in "([{" for word in words) >= 2
    assert 2 * sum(misled) == len(misled) == 450


def counting(rows: Iterable[Words], order: int) -> Callable[[Words, str], float]:
    """Probabilities from counts; where a word never followed, those of a shorter context (Brants et al. 2007)."""
    follow: defaultdict[Words, Counter[str]] = defaultdict(Counter)
    start = ("<s>",) * (order - 1)
    for words in rows:
        padded = start + words
        for i in range(len(start), len(padded)):
            for length in range(order):
                follow[padded[i - length : i]][padded[i]] += 1
    totals = {context: words.total() for context, words in follow.items()}

    def probability(prefix: Words, word: str) -> float:
        padded = start + prefix
        contexts = [padded[len(padded) - length :] for length in reversed(range(order))]
        seen = (0.4**i * follow[c][word] / totals[c] for i, c in enumerate(contexts) if c in totals and follow[c][word])
        return next(seen, 0.0)

    return probability


@pytest.mark.parametrize("order", [1, 3])
def test_counting_words_is_at_chance_where_it_does_not_reach(splits: Splits, all_probes: list[Probe], order: int) -> None:
    probability = counting(splits["train"], order)
    right: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for kind, distance, prefix, *words in all_probes:
        for_right, for_wrong = (probability(tuple(prefix.split()), word) for word in words)
        right[kind, min(distance, order - 1)].append((1 + (for_right > for_wrong) - (for_right < for_wrong)) / 2)
    share = {where: sum(each) / len(each) for where, each in right.items()}
    for kind in ("agreement", "bracket", "pronoun"):
        assert share[kind, order - 1] == 0.5  # beyond its reach: of two twins exactly one
    if order == 3:
        assert min(share["agreement", 0], share["bracket", 1], share["pronoun", 1]) > 0.85


@pytest.mark.parametrize(("order", "bounds"), [(1, (110, 150)), (2, (24, 32))])
def test_there_are_many_words_to_choose_from(splits: Splits, order: int, bounds: tuple[int, int]) -> None:
    """The perplexity of counting, mixed with shorter contexts wherever there is more to come (Witten and Bell 1991)."""
    totals: Counter[Words] = Counter()
    counts: Counter[Words] = Counter()
    for words in splits["train"]:
        for gram in (words[max(i - k, 0) : i + 1] for i in range(len(words)) for k in range(min(order, i + 1))):
            counts[gram] += 1
            totals[gram[:-1]] += 1
    kinds = Counter(gram[:-1] for gram in counts)

    def probability(gram: Words) -> float:
        shorter = probability(gram[1:]) if len(gram) > 1 else 1 / 400
        context = gram[:-1]
        return (counts[gram] + kinds[context] * shorter) / (totals[context] + kinds[context])

    grams = [words[max(i - order + 1, 0) : i + 1] for words in splits["test"] for i in range(len(words))]
    perplexity = math.exp(-sum(math.log(probability(gram)) for gram in grams) / len(grams))
    assert bounds[0] < perplexity < bounds[1]
