"""Scores against values worked out beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nlp_tasks import scores
from nlp_tasks.data.spans import Span, read_tags, write_tags

GOLD = [0, 0, 1, 2]
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6]])
LABELS = ["a", "b", "$c"]


def test_classification_golden_values() -> None:
    found = scores.classification(GOLD, PROBABILITIES, LABELS)
    assert found.scores["accuracy"] == 3 / 4
    assert found.scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)  # F1 of a: 2·1·½/(1½), of b the same, of c 1
    assert found.scores["log_loss"] == pytest.approx(-sum(map(math.log, (0.7, 0.1, 0.5, 0.6))) / 4)
    assert found.scores["calibration_error"] == pytest.approx((0.3 + 0.8 + 0.5 + 0.4) / 4)  # each alone in its bin
    assert found.counts == {"examples": 4}
    assert found.figures["confusion"]["matrix"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert found.intervals.keys() <= found.scores.keys() == found.signatures.keys()


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for seed in range(200):
        right = random.random(300) < 0.8
        drawn = scores.bootstrap(300, lambda weights, right=right: weights @ right / 300, repetitions=400, seed=seed)
        low, high = scores.interval(drawn)
        covered += low <= 0.8 <= high
    assert 0.90 <= covered / 200 <= 0.985  # 95 %, four standard errors of 200 trials


def test_the_interval_of_f1_is_that_of_resampled_examples() -> None:
    random = np.random.default_rng(0)
    gold = random.integers(0, 3, 400)
    probabilities = np.eye(3)[np.where(random.random(400) < 0.7, gold, random.integers(0, 3, 400))] * 0.8 + 0.2 / 3
    low, high = scores.classification(list(gold), probabilities, LABELS).intervals["macro_f1"]
    drawn = [scores.metrics.f1_score(gold[i], probabilities.argmax(1)[i], average="macro")
             for i in random.integers(0, 400, (300, 400))]  # fmt: skip
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.012)


def test_an_interval_holds_95_percent() -> None:
    assert scores.interval(np.arange(1001)[::-1]) == (25, 975)
    assert scores.interval(np.ones(1000)) == (1, 1)


def test_each_draw_has_as_many_examples_as_there_are() -> None:
    drawn: list[np.ndarray] = []

    def metric(weights: np.ndarray) -> np.ndarray:
        drawn.append(weights)
        return weights[:, 0]

    values, again = (scores.bootstrap(7, metric, repetitions=120) for _ in range(2))
    assert values.shape == (120,)
    np.testing.assert_array_equal(values, again)
    assert {weights.shape for weights in drawn} == {(50, 7), (20, 7)}
    assert all((weights.sum(1) == 7).all() for weights in drawn)
    assert not np.array_equal(values, scores.bootstrap(7, metric, repetitions=120, seed=1))


# One tag a word

SENTENCES = [["D", "N", "V"], [], ["N"], ["D", "N"]]
ANSWERS = [["D", "N", "N"], [], ["N"], ["X", "N"]]
KNOWN = [[True, False, True], [], [False], [True, True]]


def test_tagging_golden_values() -> None:
    found = scores.tagging(SENTENCES, ANSWERS, KNOWN)
    assert found.scores == {"accuracy": 4 / 6, "known_accuracy": 2 / 4, "unknown_accuracy": 1, "sentence_accuracy": 1 / 3}
    assert found.counts == {"examples": 4, "words": 6, "unknown_words": 2}
    assert found.figures["confusion"] == {
        "labels": ["D", "N", "V", "X"], "matrix": [[1, 0, 0, 1], [0, 3, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]],
    }  # fmt: skip
    assert found.intervals.keys() == found.scores.keys() == found.signatures.keys()
    assert {name for name, signature in found.signatures.items() if signature.startswith("unit:sentence|")} == {
        "sentence_accuracy"
    }
    assert "unit:word|interval:bootstrap1000 of sentences|scikit-learn:" in found.signatures["accuracy"]
    for tag, line in {"V": "0.0000 0.0000 0.0000 1", "X": "0.0000 0.0000 0.0000 0", "N": "0.7500 1.0000 0.8571 3"}.items():
        assert f"{tag} {line}" in [" ".join(row.split()) for row in found.text.splitlines()]


def test_sentences_without_words_change_no_score() -> None:
    some = [0, 2, 3]
    with_empty = scores.tagging(SENTENCES, ANSWERS, KNOWN)
    without = scores.tagging(*([column[i] for i in some] for column in (SENTENCES, ANSWERS, KNOWN)))
    assert with_empty.scores == without.scores


@pytest.mark.parametrize("known", [True, False])
def test_of_no_words_the_accuracy_is_zero(known: bool) -> None:
    found = scores.tagging([["N"], ["V"]], [["N"], ["V"]], [[known], [known]])
    none, every = ("unknown_accuracy", "known_accuracy") if known else ("known_accuracy", "unknown_accuracy")
    assert (found.scores[none], found.scores[every]) == (0, 1)
    assert (found.intervals[none], found.intervals[every]) == ((0, 0), (1, 1))


def test_whole_sentences_are_drawn() -> None:
    """Nine right words and one wrong one: the draws are both of the first, each once, both of the second."""
    found = scores.tagging([["N"] * 9, ["N"]], [["N"] * 9, ["V"]], [[True] * 9, [True]])
    assert set(found.samples["accuracy"]) == {1, 9 / 10, 0}
    assert set(found.samples["sentence_accuracy"]) == {1, 1 / 2, 0}
    assert np.mean(found.samples["accuracy"] == 0.9) == pytest.approx(1 / 2, abs=0.08)  # five standard errors


# Spans

NAMES = [
    ["B-PER", "I-PER", "O", "B-LOC"],
    ["B-ORG", "I-ORG", "I-ORG"],
    [],
    ["B-LOC", "B-LOC"],
    ["O", "O"],
]
READ = [
    ["B-PER", "I-PER", "O", "B-PER"],  # right; another kind
    ["B-ORG", "I-ORG", "O"],  # ends too early
    [],
    ["B-LOC", "I-LOC"],  # two are one
    ["B-ORG", "O"],  # there is none
]


def test_spans_golden_values() -> None:
    found = scores.spans(NAMES, READ)
    assert found.scores == pytest.approx({"span_f1": 2 / 10, "precision": 1 / 5, "recall": 1 / 5})
    assert found.counts == {"examples": 5, "spans": 5, "answered_spans": 5}
    assert found.intervals.keys() == found.scores.keys() == found.signatures.keys()
    assert found.signatures["span_f1"].startswith(
        "mode:strict|scheme:IOB2|average:micro|interval:bootstrap1000 of sentences|seqeval:"
    )
    rows = [" ".join(row.split()) for row in found.text.splitlines()]
    assert {"PER 0.5000 1.0000 0.6667 1", "LOC 0.0000 0.0000 0.0000 3", "ORG 0.0000 0.0000 0.0000 1"} <= set(rows)


def test_right_spans_are_all_right() -> None:
    found = scores.spans(NAMES, NAMES)
    assert found.scores == {"span_f1": 1, "precision": 1, "recall": 1}
    assert set(found.samples["span_f1"]) == {0, 1}  # some draws hold no span at all
    assert found.intervals["span_f1"] == (1, 1)


def test_answers_without_spans_score_zero() -> None:
    for gold, answers in ((["B-X", "O"], ["O", "O"]), (["O", "O"], ["B-X", "O"])):
        found = scores.spans([gold], [answers])
        assert set(found.scores.values()) == {0.0}
        assert set(found.intervals.values()) == {(0, 0)}


def test_without_any_span_the_scores_are_zero() -> None:
    assert set(scores.spans([["O", "O"], []], [["O", "O"], []]).scores.values()) == {0.0}


def conlleval(gold: list[list[str]], answers: list[list[str]]) -> tuple[int, int, int]:
    """Right, gold and given chunks, as the script of CoNLL-2000 counts them: over pairs of neighbouring tags, in one pass."""

    def parts(tag: str) -> tuple[str, str]:
        return (tag[0], tag[2:])

    def ends(before: tuple[str, str], tag: tuple[str, str]) -> bool:
        return before[0] in "BI" and (tag[0] in "BO" or before[1] != tag[1])

    def starts(before: tuple[str, str], tag: tuple[str, str]) -> bool:
        return tag[0] == "B" or (tag[0] == "I" and (before[0] == "O" or before[1] != tag[1]))

    right = found_gold = found_answers = 0
    before, before_answer, in_right = ("O", ""), ("O", ""), False
    for sentence, given in zip(gold, answers, strict=True):
        for tag, answer in zip(map(parts, [*sentence, "O"]), map(parts, [*given, "O"]), strict=True):
            if in_right:
                if ends(before, tag) and ends(before_answer, answer):
                    right, in_right = right + 1, False
                elif ends(before, tag) != ends(before_answer, answer) or tag[1] != answer[1]:
                    in_right = False
            if starts(before, tag) and starts(before_answer, answer) and tag[1] == answer[1]:
                in_right = True
            found_gold += starts(before, tag)
            found_answers += starts(before_answer, answer)
            before, before_answer = tag, answer
    return right, found_gold, found_answers


def random_spans(random: np.random.Generator, like: list[str] | None = None) -> list[str]:
    """IOB2 tags of some spans; half of them where `like` has them."""
    length = len(like) if like is not None else int(random.integers(0, 12))
    made, begin = [], 0
    while begin < length:
        end = begin + int(random.integers(1, 4))
        if end <= length and random.random() < 0.6:
            made.append(Span(str(random.choice(["A", "B", "LONG-ER"])), begin, end))
        begin = end
    if like is not None:
        kept = [span for span in read_tags(like, "bio")[0] if random.random() < 0.6]
        taken = {word for span in kept for word in range(span.start, span.end)}
        made = kept + [span for span in made if taken.isdisjoint(range(span.start, span.end))]
    return write_tags(made, length, "bio")


def test_spans_count_as_conlleval_counts() -> None:
    random = np.random.default_rng(5)
    for _ in range(10):
        gold = [random_spans(random) for _ in range(20)]
        answers = [random_spans(random, sentence) for sentence in gold]
        right, all_gold, given = conlleval(gold, answers)
        found = scores.spans(gold, answers)
        assert found.counts == {"examples": 20, "spans": all_gold, "answered_spans": given}
        assert 0 < right < min(all_gold, given)
        assert found.scores == pytest.approx(
            {"precision": right / given, "recall": right / all_gold, "span_f1": 2 * right / (all_gold + given)}
        )


def test_the_interval_of_span_f1_is_that_of_resampled_sentences() -> None:
    random = np.random.default_rng(6)
    gold = [random_spans(random) for _ in range(150)]
    answers = [random_spans(random, sentence) for sentence in gold]
    found = scores.spans(gold, answers)
    drawn = []
    for rows in random.integers(0, 150, (400, 150)):
        right, all_gold, given = conlleval([gold[row] for row in rows], [answers[row] for row in rows])
        drawn.append([2 * right / (all_gold + given), right / given, right / all_gold])
    for name, values in zip(("span_f1", "precision", "recall"), np.transpose(drawn), strict=True):
        assert found.intervals[name] == pytest.approx(scores.interval(values), abs=0.02)


# Two scorings of the same examples


def test_equal_answers_differ_in_no_sample() -> None:
    for score in (lambda: scores.tagging(SENTENCES, ANSWERS, KNOWN), lambda: scores.spans(NAMES, READ),
                  lambda: scores.classification(GOLD, PROBABILITIES, LABELS)):  # fmt: skip
        one, other = score(), score()
        assert one.samples
        for metric, values in one.samples.items():
            assert values.shape == (1000,)
            np.testing.assert_array_equal(values - other.samples[metric], 0)
        assert all(row == [0, 0, 0] for row in scores.difference(one, other).values())


def test_who_is_right_wherever_the_other_is_wins_every_draw() -> None:
    random = np.random.default_rng(7)
    gold = [[str(tag) for tag in random.choice(["N", "V"], random.integers(1, 9))] for _ in range(60)]
    worse = [["N" for _ in sentence] for sentence in gold]
    better = [sentence if row < 10 else worse[row] for row, sentence in enumerate(gold)]
    known = [[True for _ in sentence] for sentence in gold]
    one, other = (scores.tagging(gold, answers, known) for answers in (better, worse))
    differences = one.samples["accuracy"] - other.samples["accuracy"]
    assert (differences >= 0).all() and differences.any()
    difference, low, high = scores.difference(one, other)["accuracy"]
    assert difference == one.scores["accuracy"] - other.scores["accuracy"]
    assert (low, high) == scores.interval(differences)
    assert 0 < low < difference < high < 0.25
    assert one.intervals["accuracy"][0] < other.intervals["accuracy"][1]  # whoever compares the two intervals does not see it


def test_only_what_both_have_is_compared() -> None:
    one, other = scores.spans(NAMES, READ), scores.tagging(NAMES, READ, [[True] * len(tags) for tags in NAMES])
    assert scores.difference(one, other) == {}
    assert set(scores.difference(scores.joined(one, other), other)) == set(other.scores)


def test_joined_scores_are_both() -> None:
    one, other = scores.spans(NAMES, READ), scores.tagging(NAMES, READ, [[True] * len(tags) for tags in NAMES])
    both = scores.joined(one, other)
    assert list(both.scores) == [*one.scores, *other.scores]
    assert both.scores == one.scores | other.scores
    assert both.intervals == one.intervals | other.intervals
    assert both.signatures == one.signatures | other.signatures
    assert both.counts == {"examples": 5, "spans": 5, "answered_spans": 5, "words": 11, "unknown_words": 0}
    assert both.text.startswith(one.text) and both.text.endswith(other.text)
    assert both.figures == other.figures


def test_the_confusion_matrix_is_aligned() -> None:
    lines = scores.confusion_text(np.array([[10, 2], [3, 400]]), ["no", "perhaps"]).splitlines()
    assert lines == ["gold \\ answer  no  perhaps", "no             10        2", "perhaps         3      400"]
