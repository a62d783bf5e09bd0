"""The toy world of tagging: what it promises of its sentences, and what neither memory nor reading on can solve."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from itertools import combinations, islice

import pytest
import tensorflow as tf

from nlp_tasks.data.toy_world import pos_tagging
from nlp_tasks.data.toy_world.pos_tagging import ENDINGS, PAIRS, WORDS, Sentence, generate, parse
from nlp_tasks.text.tokenizer import Tokenizer

Splits = dict[str, list[Sentence]]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return {split: list(generate(split)) for split in pos_tagging.SIZES}


def tagged(sentences: Iterable[Sentence]) -> list[tuple[str, str]]:
    return [pair for words, tags in sentences for pair in zip(words, tags, strict=True)]


def best_score(seen: Iterable[tuple[Hashable, str]]) -> float:
    """The share of right tags of whoever sees no more than this of each word, and knows the answers."""
    counts: defaultdict[Hashable, Counter[str]] = defaultdict(Counter)
    for what, tag in seen:
        counts[what][tag] += 1
    return sum(max(tags.values()) for tags in counts.values()) / sum(tags.total() for tags in counts.values())


def test_sizes(splits: Splits) -> None:
    sizes = {"train": pos_tagging.TRAIN, "validation": pos_tagging.VALIDATION, "test": pos_tagging.TEST}
    assert {split: len(rows) for split, rows in splits.items()} == sizes


def test_the_same_seed_gives_the_same_sentences(splits: Splits) -> None:
    assert list(generate("test", seed=0)) == splits["test"]
    assert list(generate("test", seed=1)) != splits["test"]


def test_the_sentences_are_the_same_on_every_machine(splits: Splits) -> None:
    text = "\n".join(" ".join((*words, *tags)) for words, tags in splits["test"])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "0d653379d0ca8236"


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


def test_a_word_without_a_tag_has_the_one_of_its_list() -> None:
    assert parse("the {rich}/ADJ duck/NOUN") == (("The", "{rich}", "duck", "."), ("DET", "ADJ", "NOUN", "PUNCT"))


READINGS = [
    "The/DET poor/NOUN cook/VERB outside/ADP the/DET wild/NOUN without/ADP drink/NOUN ./PUNCT",
    "The/DET idle/ADJ duck/NOUN inside/ADP the/DET wild/ADJ can/NOUN will/AUX work/VERB ./PUNCT",
    "The/DET poor/NOUN cook/VERB cut/ADJ work/NOUN above/ADV nowadays/ADV ./PUNCT",
    "The/DET blind/ADJ cook/NOUN cut/VERB drums/NOUN opposite/ADV recently/ADV ./PUNCT",
    "Water/VERB plants/NOUN above/ADV without/ADP help/NOUN ./PUNCT",
    "Empty/VERB ducks/NOUN underneath/ADP the/DET cold/ADJ can/NOUN without/ADP work/NOUN ./PUNCT",
    "Calm/ADJ ducks/NOUN below/ADV may/AUX help/VERB ./PUNCT",
    "The/DET spy/NOUN flies/VERB inside/ADP the/DET cold/ADJ mill/NOUN without/ADP fish/NOUN ./PUNCT",
    "They/PRON doubt/VERB that/SCONJ fish/NOUN opposite/ADV may/AUX drink/VERB ./PUNCT",
    "They/PRON saw/VERB her/PRON duck/VERB the/DET cook/NOUN ./PUNCT",
    "We/PRON saw/VERB her/PRON duck/NOUN smoke/VERB ./PUNCT",
    "She/PRON can/AUX neither/CCONJ dry/VERB above/ADP the/DET open/NOUN nor/CCONJ clean/VERB ./PUNCT",
    "He/PRON was/AUX neither/CCONJ calm/ADJ outside/ADP the/DET deep/ADJ mill/NOUN nor/CCONJ open/ADJ ./PUNCT",
    "He/PRON likes/VERB neither/CCONJ flies/NOUN above/ADP the/DET wild/ADJ harbour/NOUN nor/CCONJ cooks/NOUN ./PUNCT",
    "They/PRON brelbinize/VERB smempelness/NOUN outside/ADV ./PUNCT",
    "They/PRON trulbly/ADV drink/VERB above/ADP the/DET wild/NOUN ./PUNCT",
]


@pytest.mark.parametrize("reading", READINGS)
def test_the_tags_are_what_a_reader_would_say(splits: Splits, reading: str) -> None:
    words, _, tags = zip(*(item.partition("/") for item in reading.split()), strict=True)
    assert dict(splits["train"])[words] == tags


def test_every_pattern_and_every_word_is_used(splits: Splits) -> None:
    texts = [" ".join(words[:-1]).lower() for words, _ in splits["train"]]

    def choices(place: re.Match[str]) -> str:
        return f"({WORDS[place[1]].replace(' ', '|')})" if place[1] in WORDS else ".+"

    for pattern in {pattern for pair in PAIRS for pattern in pair}:
        expression = re.compile(re.sub(r"{-?(\w+?)2?}", choices, re.sub(r"/[A-Z]+", "", pattern)))
        assert any(map(expression.fullmatch, texts)), pattern
    assert {word for words in WORDS.values() for word in words.split()} <= {word for text in texts for word in text.split()}


def test_most_content_words_are_ambiguous(splits: Splits) -> None:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for word, tag in tagged(splits["train"]):
        counts[word.lower()][tag] += 1
    content = [tags for tags in counts.values() if tags.total() > 20 and {"NOUN", "VERB", "ADJ"} & tags.keys()]
    ambiguous = [tags for tags in content if tags.most_common(1)[0][1] < 0.9 * tags.total()]
    assert len(ambiguous) > 0.75 * len(content)


def test_the_most_frequent_tag_of_each_word_is_wrong_in_almost_every_fourth_place(splits: Splits) -> None:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for word, tag in tagged(splits["train"]):
        counts[word][tag] += 1
    overall = Counter(tag for _, tag in tagged(splits["train"])).most_common(1)[0][0]
    guess = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
    right = [guess.get(word, overall) == tag for word, tag in tagged(splits["test"])]
    assert 0.70 < sum(right) / len(right) < 0.78


def test_most_pairs_begin_alike_and_have_other_tags_there() -> None:
    """Each of two tags equally often, and up to the word itself nothing differs."""
    pairs = list(islice(pos_tagging.pairs(0), 1_000))
    undecided = 0
    for (words_a, tags_a), (words_b, tags_b) in pairs:
        alike = sum(words_a[: i + 1] == words_b[: i + 1] for i in range(min(len(words_a), len(words_b))))
        undecided += any(a != b for a, b in zip(tags_a[:alike], tags_b[:alike], strict=True))
    assert undecided > 0.5 * len(pairs)


@pytest.mark.parametrize(("ahead", "bound"), [(0, 0.94), (1, 0.945), (2, 0.95)])
def test_what_stands_to_the_left_does_not_decide(splits: Splits, ahead: int, bound: float) -> None:
    """Not even with the answers at hand, and a look at the next word or two."""
    seen = [((i, words[: i + 1 + ahead]), tag) for words, tags in splits["test"] for i, tag in enumerate(tags)]
    assert best_score(seen) < bound


def test_the_neighbours_do_not_decide(splits: Splits) -> None:
    padded = [(("", "", *words, "", ""), tags) for words, tags in splits["test"]]
    assert best_score((words[i : i + 5], tag) for words, tags in padded for i, tag in enumerate(tags)) < 0.95


def test_the_whole_sentence_decides() -> None:
    """Over several seeds: the same words always have the same tags."""
    tags_of: defaultdict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for seed in range(4):
        for words, tags in generate("train", seed):
            tags_of[words].add(tags)
    assert all(len(tags) == 1 for tags in tags_of.values())


def test_unknown_words_are_told_by_their_endings(splits: Splits) -> None:
    known = {word for word, _ in tagged(splits["train"])}
    endings = {ending: tag for tag, ending_list in ENDINGS.items() for ending in ending_list.split()}
    for split in ("validation", "test"):
        unknown = [(word, tag) for word, tag in tagged(splits[split]) if word not in known]
        assert 0.03 < len(unknown) / len(tagged(splits[split])) < 0.07
        assert all([tag] == [endings[end] for end in endings if word.endswith(end)] for word, tag in unknown)
        assert max(Counter(tag for _, tag in unknown).values()) < 0.5 * len(unknown)


def test_made_up_words_are_many_in_train_and_each_stands_once(splits: Splits) -> None:
    counts = Counter(word for rows in splits.values() for word, _ in tagged(rows))
    once = {word for word, count in counts.items() if count == 1}
    in_train = [(word, tag) for word, tag in tagged(splits["train"]) if word in once]
    assert len(in_train) > 1_000
    for tag, ending_list in ENDINGS.items():
        for ending in ending_list.split():
            assert sum(word.endswith(ending) and tag == its for word, its in in_train) > 50
