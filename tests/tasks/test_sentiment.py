"""The parts that only this task uses, and the lesson of its toy world."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import report, scores
from nlp_tasks.text import affixes, ragged, word_vectors


def test_both_ends_of_a_long_row_stay() -> None:
    rows = tf.ragged.constant([[1, 2, 3, 4, 5, 6], [7, 8], [], [1, 2, 3, 4]], dtype=tf.int32)
    assert ragged.keep(rows, ragged.both_ends(rows, 4, 0.5)).to_list() == [[1, 2, 5, 6], [7, 8], [], [1, 2, 3, 4]]
    assert ragged.keep(rows, ragged.both_ends(rows, 4, 0.25)).to_list() == [[1, 4, 5, 6], [7, 8], [], [1, 2, 3, 4]]


def test_padding_has_at_least_one_column() -> None:
    assert ragged.padded(tf.ragged.constant([[], []], dtype=tf.int32)).numpy().tolist() == [[0], [0]]
    assert ragged.padded(tf.ragged.constant([[1], [2, 3]], dtype=tf.int32)).numpy().tolist() == [[1, 0], [2, 3]]


def test_words_share_the_affixes_they_share() -> None:
    unhappy, unhappily, happy, short = affixes.affix_ids(tf.constant(["unhappy", "unhappily", "happy", "né"]), 1_000_000).numpy()
    assert short.tolist() == [0] * affixes.PER_TOKEN
    assert (unhappy == unhappily).tolist() == [True] * 4 + [False] * 4  # unh unha unhap unhapp | py ppy appy happy
    assert (unhappy[4:7] == happy[4:7]).all() and unhappy[7] > 0 == happy[7]
    assert len({*unhappy}) == affixes.PER_TOKEN


def test_vectors_are_those_of_the_ppmi_matrix() -> None:
    ids, texts = np.array([2, 3, 2, 4, 4, 3]), np.array([0, 0, 0, 1, 1, 1])
    counts = np.zeros((5, 5))
    for left, right, weight in [(2, 3, 1), (3, 2, 1), (2, 2, 0.5), (4, 4, 1), (4, 3, 1), (4, 3, 0.5)]:
        counts[left, right] += weight
        counts[right, left] += weight
    words, contexts = counts.sum(1), counts.sum(1) ** 0.75
    ppmi = np.zeros((5, 5))
    for i, j in zip(*np.nonzero(counts), strict=True):
        ppmi[i, j] = max(0.0, math.log(counts[i, j] / (words[i] * contexts[j] / contexts.sum())))
    left, values, _ = np.linalg.svd(ppmi)
    expected = (left * np.sqrt(values))[:, :4]
    expected *= 0.1 / np.sqrt(np.square(expected[2:]).mean())
    found = word_vectors.ppmi_vectors([(ids, texts)], 5, 4)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)  # equal but for the signs of the axes


def test_plots_take_labels_that_look_like_formulas(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    history.write_text("epoch,loss,validation_loss\n1,2.0,1.5\n2,1.0,1.2\n")
    many = [f"${number}_$x" for number in range(120)]
    gold = list(range(120))
    report.plots(tmp_path / "plots", history, scores.classification(gold, np.eye(120) * 0.9 + 0.1 / 120, many))
    few = scores.classification([0, 1], np.array([[0.6, 0.4], [0.3, 0.7]]), ["$0_$10", "$10_$20"])
    report.plots(tmp_path / "plots", history, few)
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "calibration.png",
        "confusion.png",
        "learning_curves.png",
    ]


@pytest.mark.slow
def test_order_decides_in_the_toy_world(tmp_path: Path) -> None:
    """A recurrent network reads what no set of n-grams can."""
    accuracy = {}
    for name, settings in {"recurrent": [], "bag_of_ngrams": ['model.parts=["bag_of_ngrams"]']}.items():
        command = [
            sys.executable,
            "-m",
            "nlp_tasks",
            "run",
            "sentiment/sample",
            "--name",
            name,
            "--run-dir",
            str(tmp_path / "runs"),
        ]
        command += ["--export-dir", str(tmp_path / "models"), *(word for setting in settings for word in ("--set", setting))]
        subprocess.run(command, check=True, capture_output=True)
        accuracy[name] = json.loads((tmp_path / "runs" / name / "scores.json").read_text())["scores"]["accuracy"]
    assert accuracy["recurrent"] > 0.95
    assert accuracy["bag_of_ngrams"] < 0.65
