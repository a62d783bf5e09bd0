"""The second language: each sentence has one translation, and the lessons are in the data."""

from __future__ import annotations

import pytest

from nlp_tasks.data.toy_world.translation import BUILDINGS, HELD_OUT, MATERIALS, SIZES, generate

SPLITS = {split: list(generate(split)) for split in SIZES}


def test_sizes() -> None:
    assert {split: len(pairs) for split, pairs in SPLITS.items()} == SIZES


def test_the_same_every_time_and_another_with_another_seed() -> None:
    assert list(generate("validation")) == SPLITS["validation"] != list(generate("validation", seed=1))


def test_no_sentence_stands_twice() -> None:
    sources = [source for pairs in SPLITS.values() for source, _ in pairs]
    assert len(set(sources)) == len(sources)


def test_each_sentence_has_one_translation() -> None:
    """Both ways: a model can get everything right, and tell every source apart."""
    pairs = [pair for pairs in SPLITS.values() for pair in pairs]
    assert len({target for _, target in pairs}) == len(pairs)


def test_sentences_are_short_and_long() -> None:
    lengths = [len(source.split()) for source, _ in SPLITS["test"]]
    assert min(lengths) <= 6 and sum(length > 30 for length in lengths) > 100


def test_the_verb_comes_last() -> None:
    short = [pair for pair in SPLITS["train"] if "," not in pair[0]]
    assert all(target.rstrip(".").endswith("t") for _, target in short)


def test_a_third_of_the_compounds_stand_in_the_test_alone() -> None:
    every = {f"{material} {building}" for material in MATERIALS for building in BUILDINGS}
    found = {
        split: {words for words in every if any(words in source.lower() for source, _ in pairs)}
        for split, pairs in SPLITS.items()
    }
    held_out = {" ".join(both) for both in HELD_OUT}
    assert found["test"] == every and len(held_out) == len(every) / 3
    assert found["train"] == every - held_out and not found["validation"] & held_out


@pytest.mark.parametrize(
    ("english", "translated"),
    [("stone bridge", "steganopont"), ("paper gate", "paproporta")],
)
def test_compounds_are_one_word(english: str, translated: str) -> None:
    found = [target for source, target in SPLITS["train"] if f" {english}" in source]
    assert found and all(translated in target.lower() for target in found)


def test_there_is_no_other_split() -> None:
    with pytest.raises(ValueError, match="no split 'dev'; expected one of: train, validation, test"):
        generate("dev")
