"""What the made-up passages promise: answers in their places, splits apart, new names in half of the test, overlap that misleads."""

from __future__ import annotations

import re

from nlp_tasks.data.toy_world.question_answering import NAMES, NEW_NAMES, QUESTIONS, SIZES, generate
from nlp_tasks.tasks.question_answering_baselines import sliding_window

SPLITS = {split: list(generate(split)) for split in SIZES}


def test_three_questions_a_passage_the_same_for_the_same_seed() -> None:
    for split, rows in SPLITS.items():
        assert len(rows) == QUESTIONS * SIZES[split]
        assert len({(question, passage) for question, passage, *_ in rows}) == len(rows)
        assert len({row[4] for row in rows}) == len(rows)
    assert list(generate("test", seed=0)) == SPLITS["test"] != list(generate("test", seed=1))


def test_splits_share_no_passage() -> None:
    passages = [{passage for _, passage, *_ in rows} for rows in SPLITS.values()]
    assert len(set.union(*passages)) == sum(map(len, passages)) == sum(SIZES.values())


def test_each_answer_stands_in_its_place_in_a_statement_of_its_own() -> None:
    for question, passage, (answer,), (start,), *_ in SPLITS["validation"] + SPLITS["test"]:
        assert passage[start : start + len(answer)] == answer
        statement = next(match for match in re.finditer(r"[^.]+\.", passage) if match.start() <= start < match.end()).group()
        if question.startswith(("Who gave", "Who got", "When")):
            copies = [other for other in passage.split(".") if " gave " in other and other.strip(" .") != statement.strip(" .")]
            assert len(copies) == 2, passage


def test_half_of_the_tests_passages_have_names_that_training_lacks() -> None:
    for split, rows in SPLITS.items():
        for _, passage, _, _, _, title in rows:
            words = set(re.findall(r"\w+", passage))
            allowed, other = (NEW_NAMES, NAMES) if title == "new names" else (NAMES, NEW_NAMES)
            assert words & {*allowed} and not words & {*other}
        new = sum(row[5] == "new names" for row in rows)
        assert new == (len(rows) // 2 if split == "test" else 0)


def test_the_words_around_mislead() -> None:
    right = sum(sliding_window(question, passage) == answer for question, passage, (answer,), *_ in SPLITS["test"])
    assert right < 0.3 * len(SPLITS["test"])
