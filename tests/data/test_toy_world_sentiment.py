"""The toy world of sentiment: what it promises of its sentences, and that counting words cannot solve it."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from itertools import combinations

import pytest

from nlp_tasks.data.toy_world import sentiment
from nlp_tasks.data.toy_world.sentiment import Part, Sentence, generate

Rows = list[tuple[str, str]]


@pytest.fixture(scope="module")
def splits() -> dict[str, Rows]:
    return {split: list(generate(split)) for split in sentiment.SIZES}


def tokens(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+|[^\w\s]", text.lower()))


def test_sizes(splits: dict[str, Rows]) -> None:
    sizes = {"train": sentiment.TRAIN, "validation": sentiment.VALIDATION, "test": sentiment.TEST}
    assert {split: len(rows) for split, rows in splits.items()} == sizes


def test_the_same_seed_gives_the_same_sentences(splits: dict[str, Rows]) -> None:
    assert list(generate("test", seed=0)) == splits["test"]
    assert list(generate("test", seed=1)) != splits["test"]


def test_the_sentences_are_the_same_on_every_machine(splits: dict[str, Rows]) -> None:
    digest = hashlib.sha256("\n".join("\t".join(row) for row in splits["test"]).encode()).hexdigest()
    assert digest[:16] == "bc1cb14023958dcb"


def test_an_unknown_split_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="train, validation, test"):
        generate("dev")


def test_half_of_each_split_is_positive(splits: dict[str, Rows]) -> None:
    for rows in splits.values():
        counts = Counter(label for _, label in rows)
        assert counts == {"negative": len(rows) // 2, "positive": len(rows) // 2}


def test_every_sentence_has_a_partner_of_the_other_class_in_its_split(splits: dict[str, Rows]) -> None:
    for rows in splits.values():
        bags: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for text, label in rows:
            bags[tuple(sorted(tokens(text)))][label] += 1
        assert all(labels["negative"] == labels["positive"] > 0 for labels in bags.values())


def test_no_sentence_stands_twice_or_in_two_splits(splits: dict[str, Rows]) -> None:
    sentences = {split: {tokens(text) for text, _ in rows} for split, rows in splits.items()}
    assert all(len(sentences[split]) == len(rows) for split, rows in splits.items())
    assert all(sentences[a].isdisjoint(sentences[b]) for a, b in combinations(splits, 2))


def test_sentences_are_short_and_made_of_known_words(splits: dict[str, Rows]) -> None:
    words = {split: {word for text, _ in rows for word in tokens(text)} for split, rows in splits.items()}
    assert 100 <= len(words["train"]) <= 250
    assert words["validation"] | words["test"] <= words["train"]
    for text, _ in splits["train"]:
        assert re.fullmatch(r"[A-Z][a-z]*(,? [A-Za-z]+)+\.", text)
        assert 5 <= len(tokens(text)) <= 24


def test_the_meaning_follows_from_the_structure() -> None:
    parts = Part("", +1), Part("not", -1)
    slow = Sentence("{0} slow, but I would {1} call the staff rude", parts, decides=1, sign=-1)
    assert (slow.text, slow.polarity) == ("Slow, but I would not call the staff rude.", +1)
    assert (slow.partner.text, slow.partner.polarity) == ("Not slow, but I would call the staff rude.", -1)
    assert slow.partner.partner == slow


READINGS = [
    ("Not kind, but I do call the bread delicious.", "positive"),
    ("Not only did we not find the lounge quiet, but I would say that the bread was greasy.", "negative"),
    ("The friend who did not drink wine did call the lounge dirty.", "negative"),
    ("Unlike this guest, our neighbour found the lounge dark.", "positive"),
    ("The guide, unlike this guest, found the fish bland.", "positive"),
    ("Next door the delivery was less messy than here.", "negative"),
    ("The booking was reliable, but slow.", "negative"),
    ("Messy, yet we did not find the staff helpful.", "negative"),
    ("Never mind that people never called the staff friendly, the room did strike me as cosy.", "positive"),
    (
        "At first nobody would call the bathroom bright, later everybody would call the fish fresh.",
        "positive",
    ),
    ("I agree that the waiter was grumpy, although my friends deny that the dessert was bland.", "negative"),
]


@pytest.mark.parametrize(("text", "label"), READINGS)
def test_the_label_is_what_a_reader_would_say(splits: dict[str, Rows], text: str, label: str) -> None:
    assert dict(splits["train"])[text] == label


@pytest.mark.parametrize(("longest", "bound"), [(1, 0.55), (2, 0.75)])
def test_counting_words_does_not_help(splits: dict[str, Rows], longest: int, bound: float) -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    linear_model = pytest.importorskip("sklearn.linear_model")
    train, train_labels = zip(*splits["train"], strict=True)
    test, test_labels = zip(*splits["test"], strict=True)
    vectorizer = text.CountVectorizer(ngram_range=(1, longest))
    model = linear_model.LogisticRegression(max_iter=200).fit(vectorizer.fit_transform(train), train_labels)
    assert 0.45 <= model.score(vectorizer.transform(test), test_labels) <= bound
