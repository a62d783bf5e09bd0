"""The toy world of word vectors: what stands beside a word is that of its topic and that of its role, and nothing else."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice

import numpy as np
import pytest

from nlp_tasks.data.toy_world import word_vectors as world

SPLITS = ("train", "validation", "test")
WORDS = [word for relation in world.RELATIONS for pair in relation.topics for word in pair]


def company(relation: world.Relation, pair: tuple[str, str], side: int) -> set[str]:
    return {*relation.topics[pair], *(relation.left, relation.right)[side]}


def test_sizes_and_repetition() -> None:
    for split in SPLITS:
        sentences = list(world.generate(split))
        assert len(sentences) == world.SIZES[split] and sentences[:50] == list(islice(world.generate(split), 50))
    assert next(world.generate("train", seed=1)) != next(world.generate("train"))
    with pytest.raises(ValueError, match="no split 'dev'"):
        world.generate("dev")


def test_each_word_has_one_meaning() -> None:
    others = [
        word
        for relation in world.RELATIONS
        for words in (*relation.topics.values(), relation.left, relation.right)
        for word in words
    ]
    counts = Counter([*WORDS, *others, *world.FILLERS])
    assert max(counts.values()) == 1 and not {*"".join(counts)} & {*" .\t"}


def test_around_a_word_stands_its_topic_and_its_role() -> None:
    """Three words before and three behind: two of the topic, two of the role, two of neither."""
    of = {pair[side]: (relation, pair, side) for relation in world.RELATIONS for pair in relation.topics for side in (0, 1)}
    for (text,) in islice(world.generate("train"), 3000):
        words = text.removesuffix(" .").split()
        assert len(words) in (7, 14)
        for start in range(0, len(words), 7):
            before, word, behind = words[start : start + 3], words[start + 3], words[start + 4 : start + 7]
            relation, pair, side = of[word]
            around = Counter("topic" if other in relation.topics[pair] else "role" if other in company(relation, pair, side) else "filler"
                             for other in before + behind)  # fmt: skip
            assert around == {"topic": 2, "role": 2, "filler": 2}


def test_questions_are_all_pairs_of_a_relation_both_ways() -> None:
    questions = world.questions()
    assert len(questions) == len(set(questions)) == sum(2 * n * (n - 1) for n in (len(r.topics) for r in world.RELATIONS))
    pairs = {relation.section: {*relation.topics} | {pair[::-1] for pair in relation.topics} for relation in world.RELATIONS}
    for section, (a, b, c, d) in questions:
        assert {(a, b), (c, d)} <= pairs[section] and len({a, b, c, d}) == 4
    assert {*world.frequent()} <= {*WORDS}


def test_counted_company_makes_parallelograms() -> None:
    """Log-counts of contexts, a word a row: the four of a question are one sum of two parts, far more than of two others."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for (text,) in world.generate("train"):
        words = text.removesuffix(" .").split()
        for start in range(0, len(words), 7):
            counts[words[start + 3]].update(words[start : start + 3] + words[start + 4 : start + 7])
    contexts = sorted(set().union(*counts.values()))
    rows = {word: np.log([found[context] + 1 for context in contexts]) for word, found in counts.items()}
    for section, (a, b, c, d) in world.questions()[::40]:
        gap = np.square(rows[b] - rows[a] + rows[c] - rows[d]).sum()
        assert gap < 0.2 * np.square(rows[a] - rows[d]).sum(), (section, a, b, c, d)
