"""The toy world of names: what it promises of its sentences, and that the words alone do not tell whose names they are."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

import pytest
import tensorflow as tf

from nlp_tasks.data.spans import Span, read_tags
from nlp_tasks.data.toy_world import ner
from nlp_tasks.data.toy_world.ner import EPITHETS, FIRST, KINDS, LAST, Sentence, generate
from nlp_tasks.text.tokenizer import Tokenizer

Splits = dict[str, list[Sentence]]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return {split: list(generate(split)) for split in ner.SIZES}


def spans(tags: Sequence[str]) -> set[Span]:
    return set(read_tags(tags, "bio")[0])


def names(sentences: Iterable[Sentence]) -> list[tuple[tuple[str, ...], str]]:
    return [(words[span.start : span.end], span.kind) for words, tags in sentences for span in spans(tags)]


def test_sizes(splits: Splits) -> None:
    sizes = {"train": ner.TRAIN, "validation": ner.VALIDATION, "test": ner.TEST}
    assert {split: len(rows) for split, rows in splits.items()} == sizes


def test_the_same_seed_gives_the_same_sentences(splits: Splits) -> None:
    assert list(generate("test", seed=0)) == splits["test"]
    assert list(generate("test", seed=1)) != splits["test"]


def test_the_sentences_are_the_same_on_every_machine(splits: Splits) -> None:
    text = "\n".join(" ".join((*words, *tags)) for words, tags in splits["test"])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "4b362933c418b354"


def test_an_unknown_split_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="train, validation, test"):
        generate("dev")


def test_no_sentence_stands_twice_or_in_two_splits(splits: Splits) -> None:
    sentences = {split: {words for words, _ in rows} for split, rows in splits.items()}
    assert all(len(sentences[split]) == len(rows) for split, rows in splits.items())
    assert all(sentences[a].isdisjoint(sentences[b]) for a, b in combinations(splits, 2))


def test_the_tokenizer_finds_the_same_words(splits: Splits) -> None:
    words = [words for rows in splits.values() for words, _ in rows]
    found = Tokenizer(lowercase=False)(tf.constant([" ".join(each) for each in words])).text
    assert found.values.numpy().tolist() == [word.encode() for each in words for word in each]
    assert found.row_lengths().numpy().tolist() == [len(each) for each in words]


def test_tags_are_well_formed(splits: Splits) -> None:
    for words, tags in (sentence for rows in splits.values() for sentence in rows):
        assert len(words) == len(tags)
        assert set(tags) <= {"O", *(f"{mark}-{kind}" for mark in "BI" for kind in KINDS)}
        assert read_tags(tags, "bio")[1] == []


READINGS = [
    "Florence/B-SHOP Field/I-SHOP and/I-SHOP Austin/I-SHOP , as the old man on the hill knows , sells shoes until nine .",
    "The train to Florence/B-LOC Lane/I-LOC was late .",
    "The parcel bought at Florence/B-SHOP was late .",
    "May you buy shoes from May/B-SHOP ?",
    "Will you dance with Will/B-PER every spring ?",
    "Unlike Sydney/B-SHOP Old/B-SHOP Sandy/I-SHOP Hill/I-SHOP , as one learns in the sandy lane , sells shoes until nine .",
    "Unlike Olive/B-PER Thrirgin/B-PER Park/I-PER pays for the shoes .",
    "Bill/B-SHOP and Lincoln/B-SHOP , as a penny paper wrote , sell shoes until nine .",
    "We sold Klendin/B-PER Jordan/B-SHOP for a penny .",
    "We talk of Squerbel/B-PER today but never saw such a dentist .",
    "Rose growers marry Old/B-PER May/I-PER Wood/I-PER at will .",
    "Unlike Marks/B-SHOP Park/I-SHOP May/B-SHOP may sell out again .",
    "Every spring May/B-LOC has rain until nine .",
]


@pytest.mark.parametrize("reading", READINGS)
def test_the_tags_are_what_a_reader_would_say(splits: Splits, reading: str) -> None:
    words, _, tags = zip(*(item.partition("/") for item in reading.split()), strict=True)
    assert dict(splits["train"])[words] == tuple(tag or "O" for tag in tags)


def test_every_pattern_and_every_sign_is_used(splits: Splits) -> None:
    text = "\n".join(" ".join(words) for words, _ in splits["train"]).lower()
    signs = [sign for kinds in ner.SIGNS.values() for choices in kinds.values() for sign in choices.split("|")]
    words = [word for choices in ner.WORDS.values() for word in choices.split("|")]
    frames = [part for pattern in ner.PATTERNS for part in re.split(r"\[.*?\]|{.*?}", pattern)]
    assert [part for part in (*signs, *words, *frames) if part.strip() not in text] == []


def test_every_name_is_of_each_kind(splits: Splits) -> None:
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for words, kind in names(splits["train"]):
        if "and" not in words:
            kinds[next(word for word in words if word not in EPITHETS)][kind] += 1
    for first in FIRST:
        assert all(counts > 0.2 * kinds[first].total() for counts in (kinds[first][kind] for kind in KINDS))


def test_names_are_of_one_to_three_words_or_joined_by_and(splits: Splits) -> None:
    lengths = Counter(len(words) for words, _ in names(splits["train"]) if "and" not in words)
    assert lengths.keys() == {1, 2, 3}
    assert min(lengths.values()) > 200
    joined = [kind for words, kind in names(splits["train"]) if "and" in words]
    assert set(joined) == {"SHOP"}
    two = 0
    for words, tags in splits["train"]:
        starts = {span.start for span in spans(tags)}
        two += sum(words[span.end] == "and" and span.end + 1 in starts for span in spans(tags))
    assert 0.4 < len(joined) / (len(joined) + two) < 0.6


def test_the_words_of_a_name_tell_where_it_begins_and_ends(splits: Splits) -> None:
    for words, _ in (name for rows in splits.values() for name in names(rows)):
        for part in " ".join(words).split(" and "):
            rest = [word for word in part.split() if word not in (*EPITHETS, *LAST)]
            assert len(rest) == 1
            assert part.split().index(rest[0]) <= 1


def test_many_names_stand_side_by_side(splits: Splits) -> None:
    beside = [tags[span.end] for _, tags in splits["test"] for span in spans(tags) if tags[span.end] == f"B-{span.kind}"]
    assert len(beside) > 0.08 * len(splits["test"])  # of one kind, where only B tells the second from the first
    assert {tag[2:] for tag in beside} == set(KINDS)


def test_the_words_of_names_also_stand_where_no_name_is(splits: Splits) -> None:
    other = {word for words, tags in splits["train"] for word, tag in zip(words, tags, strict=True) if tag == "O"}
    assert {"May", "Will", "Old", "Little", "Young", "Rose", "Olive", "Ginger", "Daisy"} <= other
    assert {word.lower() for word in (*FIRST[10:], *LAST, *EPITHETS)} <= other


def test_many_names_of_the_test_are_unknown(splits: Splits) -> None:
    known = {word for words, _ in (*splits["train"], *splits["validation"]) for word in words}
    unknown = [kind for words, kind in names(splits["test"]) if not known.issuperset(words)]
    assert 0.2 < len(unknown) / len(names(splits["test"])) < 0.4
    assert all(count > 0.2 * len(unknown) for count in Counter(unknown).values())
    once = Counter(word for words, _ in splits["train"] for word in words)
    assert sum(count == 1 for count in once.values()) > 1_000


def test_the_most_frequent_tag_of_each_word_finds_few_names(splits: Splits) -> None:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for words, tags in splits["train"]:
        for word, tag in zip(words, tags, strict=True):
            counts[word][tag] += 1
    guess = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
    right = found = there = 0
    for words, tags in splits["test"]:
        answers, gold = spans([guess.get(word, "O") for word in words]), spans(tags)
        right, found, there = right + len(answers & gold), found + len(answers), there + len(gold)
    assert 0.1 < 2 * right / (found + there) < 0.35


def test_the_whole_sentence_decides() -> None:
    """Over several seeds: the same words always have the same tags."""
    tags_of: defaultdict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for seed in range(4):
        for words, tags in generate("train", seed):
            tags_of[words].add(tags)
    assert sum(len(tags) > 1 for tags in tags_of.values()) == 0
    assert len(tags_of) < 4 * ner.TRAIN  # some did come again
