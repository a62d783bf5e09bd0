"""Scores against values worked out beside them."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest
from statsmodels.stats import contingency_tables

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


@pytest.mark.parametrize("other_right", [0, 0.75])
def test_of_1000_intervals_of_accuracies_and_their_differences_95_percent_cover_the_truth(other_right: float) -> None:
    random = np.random.default_rng(11)
    ours, theirs = random.random((300, 1000)) < 0.8, random.random((300, 1000)) < other_right
    drawn = scores.bootstrap(300, lambda weights: weights @ (1.0 * ours - theirs) / 300)
    low, high = np.transpose([scores.interval(values) for values in drawn.T])
    assert 0.93 <= np.mean((low <= 0.8 - other_right) & (0.8 - other_right <= high)) <= 0.97


def test_of_1000_intervals_of_words_95_percent_cover_the_truth() -> None:
    """Some sentences are easier than others: whole ones must be drawn."""
    random = np.random.default_rng(11)
    words = random.integers(1, 13, (1000, 200))
    right = random.binomial(words, random.beta(4, 1, words.shape))
    drawn = scores.ratios({str(trial): np.stack(pair) for trial, pair in enumerate(zip(right, words, strict=True))})
    low, high = np.transpose([scores.interval(values) for values in drawn.values()])
    assert 0.93 <= np.mean((low <= 0.8) & (high >= 0.8)) <= 0.97


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


def test_several_metrics_share_their_draws() -> None:
    values = np.random.default_rng(1).random((9, 3))
    together = scores.bootstrap(9, lambda weights: (weights @ values).reshape(-1, 3, 1), repetitions=70)
    assert together.shape == (70, 3, 1)
    for column in range(3):
        alone = scores.bootstrap(9, lambda weights, column=column: weights @ values[:, column], repetitions=70)
        np.testing.assert_allclose(together[:, column, 0], alone)


def test_25000_examples_are_scored_in_two_seconds() -> None:
    random = np.random.default_rng(0)
    positive = random.random(25_000)
    gold = list((random.random(25_000) < positive).astype(int))
    begun = time.process_time()
    found = scores.classification(gold, np.stack([1 - positive, positive], 1), ["bad", "good"])
    assert time.process_time() - begun <= 2
    assert found.scores["accuracy"] == pytest.approx(0.75, abs=0.02)


def test_the_class_table_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(4)
    gold, answers = random.integers(0, 4, (2, 200))
    answers[answers == 3] = 0  # never answered
    rows = scores.class_table(scores.metrics.confusion_matrix(gold, answers), ["a", "b", "c", "d"])
    expected = scores.metrics.precision_recall_fscore_support(gold, answers, zero_division=0)
    assert [row["name"] for row in rows] == ["a", "b", "c", "d"]
    np.testing.assert_allclose(
        [[row[key] for key in ("precision", "recall", "f1", "count")] for row in rows], np.transpose(expected)
    )


def test_a_class_without_examples_scores_zero() -> None:
    (row,) = scores.class_table(np.zeros((1, 1), int), ["a"])
    assert row == {"name": "a", "precision": 0, "recall": 0, "f1": 0, "count": 0}


def test_what_comparing_takes_is_saved_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "statistics.npz"
    path.write_text("an older one")
    found = scores.classification(GOLD, PROBABILITIES, LABELS)
    found.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["statistics.npz"]
    with np.load(path) as content:
        assert set(content.files) == {"samples/accuracy", "samples/macro_f1", "samples/log_loss", "parts/accuracy"}
        for name, values in found.samples.items():
            np.testing.assert_array_equal(content[f"samples/{name}"], values)
        np.testing.assert_array_equal(content["parts/accuracy"], [[1, 0, 1, 1], [1, 1, 1, 1]])


# Ratios, and scores in groups

HALF = np.array([[1, 0], [1, 1]])
"""Of two examples one is right."""


def test_ratios_are_those_of_the_drawn_examples() -> None:
    values = scores.ratios({"a": HALF})["a"]
    assert set(values) == {0, 1 / 2, 1}
    assert np.mean(values == 1 / 2) == pytest.approx(1 / 2, abs=0.08)  # five standard errors


def test_ratios_share_their_draws() -> None:
    random = np.random.default_rng(2)
    one, other = random.integers(0, 5, (2, 2, 30)) + np.array([[0], [1]])
    both = scores.ratios({"one": one, "tenfold": 10 * one, "other": other})
    assert not np.array_equal(both["one"], both["other"])
    np.testing.assert_allclose(both["one"], both["tenfold"])
    np.testing.assert_array_equal(both["other"], scores.ratios({"other": other})["other"])
    weighted = scores.bootstrap(30, lambda weights: weights @ other[0] / (weights @ other[1]))
    np.testing.assert_allclose(both["other"], weighted)


def test_a_ratio_to_nothing_is_zero() -> None:
    values = scores.ratios({"never": np.array([[1, 1], [0, 0]]), "at times": np.array([[1, 0], [1, 0]])})
    assert set(values["never"]) == {0}
    assert set(values["at times"]) == {0, 1}  # a quarter of the draws has the second example only
    assert scores.ratios({}) == {}


def test_groups_have_their_scores_counts_and_intervals() -> None:
    found = scores.grouped(
        "accuracy", "kind", {"words": np.array([[3, 1], [4, 4]]), "none": np.zeros((2, 2)), "wrong": np.array([[0, 0], [0, 2]])}
    )
    assert (found["title"], found["names"], found["scores"], found["counts"]) == ("kind", ["words", "wrong"], [1 / 2, 0], [8, 2])
    assert found["intervals"] == [(1 / 4, 3 / 4), (0, 0)]


def test_one_group_scores_as_all_examples_do() -> None:
    found = scores.grouped("accuracy", "all", {"all": HALF})
    assert found["intervals"] == [scores.interval(scores.ratios({"x": HALF})["x"])]


@pytest.mark.parametrize("groups", [1, 2, 6, 40])
def test_groups_by_size_part_the_examples(groups: int) -> None:
    random = np.random.default_rng(groups)
    sizes = random.geometric(0.1, 300)
    parts = np.stack([random.integers(0, 2, 300), np.ones(300, int)])
    found = scores.by_size("accuracy", "words", sizes, parts, groups)
    ends = [[int(end) for end in f"{name}–{name}".split("–")] for name in found["names"]]
    ranges = [range(end[0], end[1] + 1) if "–" in name else range(end[0], end[0] + 1)
              for name, end in zip(found["names"], ends, strict=True)]  # fmt: skip
    assert ranges[0].start == min(sizes) and ranges[-1].stop == max(sizes) + 1
    assert all(one.stop == other.start for one, other in pairwise(ranges))
    inside = [np.isin(sizes, group) for group in ranges]
    assert found["counts"] == [int(mask.sum()) for mask in inside]
    assert found["scores"] == pytest.approx([parts[0][mask].mean() for mask in inside])
    assert len(ranges) == 1 if groups == 1 else 1 < len(ranges) <= groups


def test_groups_by_size_have_equally_many() -> None:
    sizes = np.random.default_rng(0).permutation(60) + 1
    found = scores.by_size("accuracy", "words", sizes, np.ones((2, 60)))
    assert len(found["names"]) == 6
    assert all(9 <= count <= 11 for count in found["counts"])


def test_examples_of_one_size_are_one_group() -> None:
    found = scores.by_size("accuracy", "words", np.array([3, 3, 3]), np.array([[1, 0, 1], [1, 1, 1]]))
    assert (found["names"], found["scores"], found["counts"]) == (["3"], [2 / 3], [3])


def test_of_no_examples_there_are_no_groups() -> None:
    found = scores.by_size("accuracy", "words", np.zeros(0, int), np.zeros((2, 0)))
    assert found == {"metric": "accuracy", "title": "words", "names": [], "scores": [], "intervals": [], "counts": []}


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


def test_tagging_by_tag() -> None:
    rows = {row["name"]: row for row in scores.tagging(SENTENCES, ANSWERS, KNOWN).figures["classes"]}
    assert rows["N"] == {"name": "N", "precision": 3 / 4, "recall": 1, "f1": 6 / 7, "count": 3}
    assert rows["D"] == {"name": "D", "precision": 1, "recall": 1 / 2, "f1": 2 / 3, "count": 2}
    assert rows["X"] == {"name": "X", "precision": 0, "recall": 0, "f1": 0, "count": 0}


def test_the_calibration_of_tagging_is_that_of_its_words() -> None:
    found = scores.tagging(SENTENCES, ANSWERS, KNOWN, [[0.99, 0.97, 0.51], [], [0.98], [0.52, 1.0]]).figures["calibration"]
    assert found["count"] == [2, 4]
    assert found["accuracy"] == [0, 1]
    assert found["confidence"] == pytest.approx([(0.51 + 0.52) / 2, (0.99 + 0.97 + 0.98 + 1) / 4])
    assert "calibration" not in scores.tagging(SENTENCES, ANSWERS, KNOWN).figures


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


def test_spans_by_kind() -> None:
    assert scores.spans(NAMES, READ).figures["classes"] == [
        {"name": "LOC", "precision": 0, "recall": 0, "f1": 0, "count": 3},
        {"name": "ORG", "precision": 0, "recall": 0, "f1": 0, "count": 1},
        {"name": "PER", "precision": 1 / 2, "recall": 1, "f1": 2 / 3, "count": 1},
    ]


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


@pytest.mark.parametrize(("observed", "p"), [(0, 6 / 6), (1, 5 / 6), (-2, 3 / 6), (2, 3 / 6), (3, 1 / 6)])
def test_p_counts_differences_about_their_mean(observed: float, p: float) -> None:
    assert scores.p_value(observed, np.arange(5)) == p  # they are 2, 1, 0, 1 and 2 off their mean


def test_of_equal_models_one_in_twenty_seems_to_differ() -> None:
    random = np.random.default_rng(0)
    one, other = random.random((2, 300, 1000)) < 0.8
    drawn = scores.bootstrap(300, lambda weights: weights @ (1.0 * one - other) / 300)
    found = [scores.p_value(observed, values) for observed, values in zip((1.0 * one - other).mean(0), drawn.T, strict=True)]
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.02)  # three standard errors
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.05)


def test_the_paired_bootstrap_is_that_of_sacrebleu() -> None:
    """BLEU of two systems, one a little better. sacrebleu counts the upper tail of the differences only, we both."""
    random = np.random.default_rng(5)
    words = [f"w{number}" for number in range(60)]
    gold = [random.choice(words, random.integers(6, 15)) for _ in range(200)]
    ours, theirs = ([" ".join(np.where(random.random(len(line)) < share, random.choice(words, len(line)), line)) for line in gold]
                    for share in (0.30, 0.33))  # fmt: skip
    bleu, references = BLEU(tokenize="none"), [[" ".join(line) for line in gold]]
    _, found = PairedTest([("theirs", theirs), ("ours", ours)], {"BLEU": bleu}, references, "bs", n_samples=5000)()
    their_result, our_result = found["BLEU"]
    statistics = [np.array(bleu._extract_corpus_statistics(lines, references)) for lines in (ours, theirs)]

    def both(weights: np.ndarray) -> np.ndarray:
        totals = [(weights @ table).tolist() for table in statistics]
        return np.array([[bleu._compute_score_from_stats(line).score for line in lines] for lines in totals]).T

    drawn = scores.bootstrap(200, both, repetitions=5000)
    for values, result in zip(drawn.T, (our_result, their_result), strict=True):
        low, high = scores.interval(values)
        assert values.mean() == pytest.approx(result.mean, abs=0.1)
        assert (high - low) / 2 == pytest.approx(result.ci, rel=0.05)
    p = scores.p_value(our_result.score - their_result.score, drawn[:, 0] - drawn[:, 1])
    assert 0.01 < our_result.p_value < 0.05
    assert p == pytest.approx(2 * our_result.p_value, abs=0.018)  # three standard errors


def test_translations_are_scored_as_sacrebleu_scores_them() -> None:
    gold = ["Ein Hund läuft über das Gras.", "Zwei Männer stehen am Herd.", "Ein Mädchen singt.", "Das Haus ist alt und klein."]
    answers = ["Ein Hund läuft über Gras.", "zwei Männer stehen an dem Herd.", "", "Das Haus ist alt und klein."]
    results = [
        {"text": "x", "gold": g, "answer": a, "length": 2 + 3 * row, "loss": 2.0 * row, "tokens": 3 + row}
        for row, (g, a) in enumerate(zip(gold, answers, strict=True))
    ]
    found = scores.translation(results)
    expected = {"bleu": BLEU(), "bleu_tok_lc": BLEU(lowercase=True), "chrf": CHRF()}
    for name, metric in expected.items():
        assert found.scores[name] == pytest.approx(metric.corpus_score(answers, [gold]).score)
        assert str(metric.get_signature()) in found.signatures[name]
        low, high = found.intervals[name]
        assert low <= found.scores[name] <= high or name == "bleu"
    assert found.scores["bleu"] == pytest.approx(scores.bleu(gold, answers))
    assert found.scores["loss"] == pytest.approx(12 / 18) and found.scores["perplexity"] == pytest.approx(np.exp(12 / 18))
    figure = found.figures["by_length"]
    assert figure["names"] == ["2–5", "6–8", "9–11"] and figure["counts"] == [2, 1, 1]
    groups = [slice(0, 2), slice(2, 3), slice(3, 4)]
    assert figure["scores"] == pytest.approx([BLEU().corpus_score(answers[part], [gold[part]]).score for part in groups])
    plain = scores.translation([{name: result[name] for name in ("text", "gold", "answer", "length")} for result in results])
    assert set(plain.scores) == set(expected)


def test_lists_of_different_length_are_no_translations() -> None:
    with pytest.raises(ValueError, match="1 answers for 2 references"):
        scores.bleu(["a", "b"], ["a"])


def test_mcnemar_is_that_of_statsmodels() -> None:
    random = np.random.default_rng(9)
    shares = [(0.5, 0.5), (0.9, 0.1), (1, 0), (0, 1), (0.95, 0.9)]
    for size in (1, 2, 7, 60, 500):
        for ours_right, theirs_right in shares:
            ours, theirs = random.random(size) < ours_right, random.random(size) < theirs_right
            table = [[np.sum(o & t) for t in (theirs, ~theirs)] for o in (ours, ~ours)]
            only_ours, only_theirs, p = scores.mcnemar(ours, theirs)
            assert (only_ours, only_theirs) == (table[0][1], table[1][0])
            assert p == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue)


@pytest.mark.parametrize("right", [[], [True], [False, False], [True, False, True]])
def test_mcnemar_of_equal_answers_is_one(right: list[bool]) -> None:
    assert scores.mcnemar(np.array(right, bool), np.array(right, bool)) == (0, 0, 1)


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
    assert both.figures == other.figures | one.figures


def test_the_confusion_matrix_is_aligned() -> None:
    lines = scores.confusion_text(np.array([[10, 2], [3, 400]]), ["no", "perhaps"]).splitlines()
    assert lines == ["gold \\ answer  no  perhaps", "no             10        2", "perhaps         3      400"]


# Language models


def language_pieces(count: int = 200) -> list[dict[str, Any]]:
    random = np.random.default_rng(6)
    tokens = random.integers(0, 40, (count, 2))
    nats = random.gamma(2.0 * tokens + 1e-9, [1.0, 2.0])
    return [
        {
            "nats": float(own.sum()), "tokens": int(n.sum()), "characters": int(5 * n.sum() + 1),
            "by_count": [[float(own[0]), int(n[0])], [float(own[1]), int(n[1])], [0.0, 0]],
        }
        for n, own in zip(tokens, nats, strict=True)
    ]  # fmt: skip


def test_language_model_golden_values() -> None:
    results = [
        {"nats": 6.0, "tokens": 3, "characters": 9, "by_count": [[1.0, 1], [5.0, 2]]},
        {"nats": 4.0, "tokens": 2, "characters": 7, "by_count": [[0.0, 0], [4.0, 2]]},
    ]
    found = scores.language_model(results, "words", ["often", "seldom"])
    assert found.scores == pytest.approx(
        {"perplexity": math.exp(2), "nats_per_token": 2, "bits_per_character": 10 / (math.log(2) * 16)}, rel=1e-12
    )
    assert list(found.scores) == list(found.samples) == list(found.signatures)
    assert found.counts == {"examples": 2, "tokens": 5, "characters": 16}
    np.testing.assert_array_equal(found.parts["nats_per_token"], [[6, 4], [3, 2]])
    np.testing.assert_allclose(found.parts["bits_per_character"], [np.array([6, 4]) / np.log(2), [9, 7]])
    figure = found.figures["by_frequency"]
    assert (figure["names"], figure["counts"], figure["metric"]) == (["often", "seldom"], [1, 4], "nats_per_token")
    assert figure["scores"] == pytest.approx([1, 9 / 4])
    assert found.signatures["perplexity"].startswith("tokens:words and line ends|")
    assert "line ends" not in scores.language_model(results, "bytes", ["often", "seldom"]).signatures["perplexity"]


def test_the_intervals_of_a_language_model_are_those_of_resampled_pieces() -> None:
    results = language_pieces()
    found = scores.language_model(results, "characters", ["a", "b", "none"])
    assert found.intervals.keys() == found.scores.keys()
    for metric, (low, high) in found.intervals.items():
        assert low < found.scores[metric] < high
    assert found.scores["perplexity"] == math.exp(found.scores["nats_per_token"])
    np.testing.assert_allclose(found.samples["perplexity"], np.exp(found.samples["nats_per_token"]))
    nats, tokens = (np.array([result[name] for result in results]) for name in ("nats", "tokens"))
    drawn = np.random.default_rng(9).integers(0, len(results), (2000, len(results)))
    expected = np.quantile(nats[drawn].sum(1) / tokens[drawn].sum(1), [0.025, 0.975])
    assert found.intervals["nats_per_token"] == pytest.approx(expected, abs=0.012)
    figure = found.figures["by_frequency"]
    assert figure["names"] == ["a", "b"]  # nothing is counted in the third
    for place in range(2):
        above, below = np.sum([result["by_count"][place] for result in results], 0)
        assert figure["scores"][place] == pytest.approx(above / below)
        assert figure["intervals"][place][0] < above / below < figure["intervals"][place][1]


def test_a_language_model_without_pieces_or_without_hope() -> None:
    empty = scores.language_model([], "words", ["a", "b"])
    assert (empty.scores["nats_per_token"], empty.counts["tokens"], empty.figures["by_frequency"]["names"]) == (0, 0, [])
    piece = {"nats": 1e9, "tokens": 1, "characters": 1, "by_count": [[1e9, 1]]}
    assert math.isfinite(scores.language_model([piece], "words", ["a"]).scores["perplexity"])
    piece = {"nats": 0.0, "tokens": 0, "characters": 0, "by_count": [[0.0, 0]]}
    assert scores.language_model([piece], "words", ["a"]).scores["nats_per_token"] == 0


def test_windows() -> None:
    nats = np.random.default_rng(2).gamma(50, 2.0, 300)
    found = scores.windows(nats, 64)
    (name,) = found.scores
    assert name == "nats_per_token_in_windows_of_64"
    assert found.scores[name] == pytest.approx(nats.mean() / 64)
    low, high = found.intervals[name]
    error = nats.std() / math.sqrt(300) / 64
    assert low == pytest.approx(found.scores[name] - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(found.scores[name] + 1.96 * error, abs=0.3 * error)
    assert found.signatures[name].startswith("windows:300 at random")
    np.testing.assert_array_equal(found.parts[name], [nats, np.full(300, 64)])


def test_minimal_pairs_by_kind_and_distance() -> None:
    distances = np.array([0, 1, 2, 3, 4, 6, 7, 10, 11, 99, 0, 5])
    kinds = ["verb"] * 10 + ["bracket"] * 2
    right = np.array([1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0], bool)
    found = scores.minimal_pairs(right, kinds, distances)
    assert found.scores == {"verb_accuracy": 6 / 10, "bracket_accuracy": 1 / 2}
    assert found.counts == {"pairs": 12}
    verb, bracket = found.figures["by_distance_verb"], found.figures["by_distance_bracket"]
    assert verb["names"] == ["0–1", "2–3", "4–6", "7–10", "11 and more"]
    assert (verb["scores"], verb["counts"]) == ([1 / 2, 1, 0, 1, 1 / 2], [2] * 5)
    assert (bracket["names"], bracket["scores"], bracket["counts"]) == (["0–1", "4–6"], [1, 0], [1, 1])
    assert found.text.splitlines()[1:3] == ["verb  0–1  50.0 %  2", "verb  2–3  100.0 %  2"]
    assert found.signatures.keys() == found.samples.keys() == found.scores.keys()
    assert sum(part[1].sum() for part in found.parts.values()) == 12


def test_intervals_of_minimal_pairs_are_those_of_each_kind() -> None:
    random = np.random.default_rng(8)
    right, kinds = random.random(600) < 0.7, [("verb", "bracket")[number % 2] for number in range(600)]
    found = scores.minimal_pairs(right, kinds, random.integers(0, 15, 600))
    for number, kind in enumerate(("verb", "bracket")):
        share = right[number::2].mean()
        error = math.sqrt(share * (1 - share) / 300)
        assert found.scores[f"{kind}_accuracy"] == pytest.approx(share)
        assert found.intervals[f"{kind}_accuracy"] == pytest.approx((share - 1.96 * error, share + 1.96 * error), abs=0.4 * error)
    assert scores.minimal_pairs(np.zeros(0, bool), [], np.zeros(0, int)).scores == {}
