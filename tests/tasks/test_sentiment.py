"""The parts that only this task uses, and the lesson of its toy world."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import report, scores
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.data.store import write_store
from nlp_tasks.errors import UserError
from nlp_tasks.layers.model import variables_by_name
from nlp_tasks.tasks.sentiment import Example, Sentiment
from nlp_tasks.text import affixes, ragged, word_vectors
from nlp_tasks.training import Trainer


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


# Vectors of a file

VECTORS = "good 1 2 3\nbad -3 2 -1\nonly 4 5 6\n"
TEXTS = [("a good film", "pos"), ("a bad film", "neg"), ("good music", "pos"), ("so bad", "neg")] * 4


def recipe(folder: Path, part: dict[str, Any], **data: Any) -> Any:
    content = {
        "task": {"name": "sentiment"},
        "data": {"directory": str(folder), "train": "a.tsv", "vectors": "vectors.txt", **data},
        "model": {"parts": ["recurrent"], "recurrent": {"initial": "vectors", "units": 3, **part}},
        "training": {"batch_rows": 4, "epochs": 2, "learning_rate": 0.05, "patience": 0, "keep": "last"},
    }
    return msgspec.convert(content, Sentiment.recipe_type)


def trainer(folder: Path, **part: Any) -> Trainer:
    folder.mkdir(exist_ok=True)
    (folder / "vectors.txt").write_text(VECTORS)
    task = Sentiment(recipe(folder, part))
    rows = [Row({"text": text, "label": label}, Where("a.tsv", line)) for line, (text, label) in enumerate(TEXTS, 1)]
    examples = list(task.read(iter(rows), Counts()))
    (folder / "resources").mkdir()
    task.prepare(lambda: iter(examples), folder / "resources")
    task.load(folder / "resources")
    encoded: Any = task.encode(tf.constant([example.inputs[0] for example in examples]))
    fields = {name: (value.values.numpy(), value.row_lengths().numpy()) for name, value in encoded.items()}
    store = write_store(folder / "cache", [(len(examples), {**fields, **task.targets(examples)})])
    return Trainer(task, task.recipe.training, tf.distribute.get_strategy(), store, store, folder)


def table(made: Trainer) -> np.ndarray:
    (found,) = (value.numpy() for name, value in variables_by_name(made.model).items() if name.endswith("embedding/table"))
    return found


def ids(made: Trainer, text: str) -> list[int]:
    task: Any = made.task
    return task.encode(tf.constant([text]))["tokens"].values.numpy().tolist()


def test_words_of_the_file_start_with_its_vectors_and_others_at_random(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = trainer(tmp_path / "run")
    good, only, film, unknown = ids(made, "good only film zebra")
    rows = table(made)
    np.testing.assert_array_equal(rows[[good, only]], [[1, 2, 3], [4, 5, 6]])
    assert rows[film].any() and rows[unknown].any() and unknown == 1 and len({good, only, film, unknown}) == 4
    spread = math.sqrt(3 * np.square(np.array([[1, 2, 3], [-3, 2, -1], [4, 5, 6]])).mean())
    assert np.abs(rows[film]).max() <= spread and rows.shape[1] == 3, "as many features as the file has"
    assert "vectors  3 of 3 features; of the training data they know" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "changes"),
    [({"vectors": "frozen"}, [False, False]), ({"vectors": "tuned"}, [True, True]), ({"tuned_after": 6}, [False, True])],
    ids=["frozen", "tuned", "tuned after 6 steps"],
)
def test_frozen_tuned_and_tuned_later(tmp_path: Path, part: dict[str, Any], changes: list[bool]) -> None:
    """Of 8 steps, what the first six have changed, and what all have."""
    made = trainer(tmp_path / "run", **part)
    before, step = table(made), made._step
    seen: list[bool] = []

    def watched(batch: Any, *wishes: Any) -> Any:
        told = step(batch, *wishes)
        seen.append(not np.array_equal(table(made), before))
        return told

    made._step = watched  # type: ignore[method-assign]
    made.run()
    assert len(seen) == 8 and [any(seen[:6]), seen[-1]] == changes
    trained = [variable.path for variable in made.model.trainable_variables]
    assert any(path.endswith("embedding/table") for path in trained) == (part.get("vectors") != "frozen")


def test_random_vectors_can_be_frozen(tmp_path: Path) -> None:
    task = Sentiment(recipe(tmp_path, {"initial": "random", "vectors": "frozen"}, vectors=""))
    assert not task._networks["recurrent"].tuned_after and task._networks["recurrent"].vectors == "frozen"


@pytest.mark.parametrize(
    ("part", "data", "message"),
    [
        ({}, {"vectors": ""}, 'model.recurrent.initial = "vectors" without data.vectors'),
        ({"initial": "random"}, {}, "data.vectors without a part that reads it"),
        ({"initial": "ppmi", "tuned_after": 5}, {"vectors": ""}, "model.recurrent.tuned_after = 5 has no effect"),
        ({"vocabulary": 9}, {}, 'model.recurrent.vocabulary = 9 has no effect with initial = "vectors"'),
        ({"vectors": "frozen", "tuned_after": 5}, {}, 'model.recurrent.tuned_after = 5 has no effect with vectors = "frozen"'),
    ],
)
def test_settings_of_vectors_that_make_no_sense(tmp_path: Path, part: dict[str, Any], data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Sentiment(recipe(tmp_path, part, **data))
    assert caught.value.message.startswith(message) and caught.value.hint


def test_the_baseline_of_texts_that_scikit_learn_sees_no_words_in(tmp_path: Path) -> None:
    task = Sentiment(recipe(tmp_path, {}))
    task.labels = ["bad", "good"]
    train = [Example((text,), label, Where("a.tsv", 1)) for text, label in [("😀 a", "good"), ("😡 b", "bad")] * 4]
    _, found = task.baseline(lambda split: iter(train), train[:2])
    assert found.scores["accuracy"] == 1


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
