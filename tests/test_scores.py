"""Scores against values worked out beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nlp_tasks import scores

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
        low, high = scores.bootstrap(300, lambda weights, right=right: weights @ right / 300, repetitions=400, seed=seed)
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


def test_the_confusion_matrix_is_aligned() -> None:
    lines = scores.confusion_text(np.array([[10, 2], [3, 400]]), ["no", "perhaps"]).splitlines()
    assert lines == ["gold \\ answer  no  perhaps", "no             10        2", "perhaps         3      400"]
