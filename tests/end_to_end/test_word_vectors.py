"""Word vectors by the command line: from a text, or the texts of a labelled table, to an export, a file, a picture and another model."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nlp_tasks import inference
from nlp_tasks.text.word_vectors import read_vectors

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Call, Finish, Kill, TwoDevices

RECIPE = """
[task]
name = "word_vectors"

[data]
directory = "{folder}"
train = "reviews.tsv"
questions = "questions.txt"
similarity = "judged.csv"
neighbours_of = ["good", "zebra"]

[text]
rules = true
lowercase = true
minimum_count = 3

[model]
kind = "{kind}"
embedding = 8
window = 3
shared = 16
block = 16
buckets = {buckets}

[training]
epochs = 2
band = 32
batch_rows = 3
optimizer = "adagrad"
learning_rate = 0.2
evaluations = 2
checkpoint_seconds = 0
"""
SENTIMENT = """
[task]
name = "sentiment"

[data]
directory = "{folder}"
train = "reviews.tsv"
vectors = "own.txt.gz"
train_rows = 60

[model]
parts = ["recurrent"]

[model.recurrent]
initial = "vectors"
vectors = "frozen"
units = 4

[training]
epochs = 1
batch_rows = 16
"""
LABELS = {"good": "pos", "fine": "pos", "bad": "neg", "awful": "neg"}


def reviews(count: int = 200, seed: int = 0) -> str:
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        word = draw.choice([*LABELS])
        rows.append(
            f"A {word} film, the {draw.choice(['actor', 'music', 'plot'])} was {draw.choice(['so', 'very'])} {word} rare{number}.\t{LABELS[word]}"
        )
    return "text\tlabel\n" + "\n".join(rows) + "\n"


def prepare(folder: Path, kind: str = "skip_gram", buckets: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "reviews.tsv").write_text(reviews())
    (folder / "questions.txt").write_text(": quality\nGood fine bad awful\nfine good awful bad\n: unseen\ngood fine zebra film\n")
    (folder / "judged.csv").write_text("word 1,word 2,score\ngood,fine,9\ngood,film,2\nactor,music,6\nzebra,film,1\n")
    (folder / "small.toml").write_text(RECIPE.format(folder=folder, kind=kind, buckets=buckets))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, finish: Finish) -> Path:
    """Small vectors, trained, scored and exported by one real process. Treat what it left as read-only."""
    return finish(prepare(tmp_path_factory.mktemp("vectors")))


def model(made: Path) -> str:
    return str(made / "saved_models" / "small")


# A run


def test_what_a_run_leaves(made: Path) -> None:
    run = made / "runs" / "small"
    content = json.loads((run / "scores.json").read_text())
    assert content["headline"] == "analogy_accuracy"
    assert content["scores"].keys() == {"context_accuracy", "context_loss", "analogy_accuracy", "similarity_spearman"}
    assert content["counts"]["questions"] == 3 and content["counts"]["covered_questions"] == 2
    assert content["counts"]["similarity_pairs"] == 4 and content["counts"]["covered_similarity_pairs"] == 3
    assert content["baseline"]["name"] == "PPMI and SVD, 8 features"
    assert content["baseline"]["difference"].keys() == {"context_accuracy", "analogy_accuracy", "similarity_spearman"}
    assert content["validation"]["scores"].keys() == {"context_accuracy", "context_loss"}
    rows = [json.loads(row) for row in (run / "predictions.jsonl").read_text().splitlines()]
    right, contexts = (sum(row[name] for row in rows) for name in ("right", "contexts"))
    assert content["scores"]["context_accuracy"] == pytest.approx(right / contexts) and contexts == content["counts"]["contexts"]
    text, page = (run / "report.txt").read_text(), (run / "report.html").read_text()
    assert "quality" in text and "2 of 2" in text and "0 of 1" in text and "zebra" in text and "not in the vocabulary" in text
    assert "analogy accuracy" in page and "quality" in page and "nan" not in text
    history = (run / "history.csv").read_text().splitlines()
    assert "validation_context_accuracy" in history[0] and len(history) == 5
    vocabulary = (run / "resources" / "units.tsv").read_text()
    assert "good" in vocabulary and "pos" not in vocabulary and "label" not in vocabulary, "texts alone, without labels"


FRESH = """
import importlib.machinery, json, sys
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("keras", "nlp_tasks", "tensorflow_text"):
            return None
        return super().find_spec(name, path, target)
sys.meta_path = [Finder if f is importlib.machinery.PathFinder else f for f in sys.meta_path if "editable" not in repr(f)]
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
answers = {}
for signature, columns in json.loads(sys.argv[2]).items():
    given = {name: tf.constant(value) for name, value in columns.items()}
    outputs = loaded.signatures[signature](**given)
    answers[signature] = {name: value.numpy().astype(str if value.dtype == tf.string else None).tolist() for name, value in outputs.items()}
assert not {"keras", "nlp_tasks"} & set(sys.modules)
print(json.dumps([sorted(loaded.signatures), answers]))
"""


def test_the_export_answers_with_nothing_but_tensorflow(made: Path, loaded: Callable[[Any], inference.Loaded]) -> None:
    words = ["good", "FILM", "zebra", ""]
    asked = {
        "serving_default": {"words": words},
        "neighbours": {"words": words, "counts": [3, 2, 4, 1]},
        "analogy": {"a": words, "b": words[1:] + words[:1], "c": ["bad"] * 4, "counts": [2] * 4},
        "vocabulary": {"ranks": [0, 3, 10_000]},
        "score": {"texts": ["A good film.\nA bad one.\n", ""]},
    }
    done = subprocess.run([sys.executable, "-P", "-c", FRESH, str(made / "saved_models" / "small" / "1"), json.dumps(asked)],
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    signatures, answers = json.loads(done.stdout.splitlines()[-1])
    assert signatures == sorted(asked)
    run = loaded(made / "runs" / "small")
    for signature, columns in asked.items():
        for name, value in run(signature, list(zip(*columns.values(), strict=True))).items():
            if value.dtype == object:
                assert value.astype(str).tolist() == answers[signature][name]
            else:
                np.testing.assert_allclose(answers[signature][name], value, atol=1e-5)
    shown = json.loads((made / "saved_models" / "small" / "1" / "assets.extra" / "example_inputs.json").read_text())
    assert len(shown) == 3 and all(
        len(row) == 1 and row[0] in (made / "runs/small/resources/units.tsv").read_text() for row in shown
    )


# Asked


def test_neighbours_word_by_word(made: Path, call: Call, loaded: Callable[[Any], inference.Loaded]) -> None:
    outputs = loaded(model(made))("neighbours", [("good", 2), ("film", 2)])
    outcome = call("neighbours", model(made), "good", "film", "--count", "2", "--format", "jsonl")
    assert (outcome.code, outcome.err) == (0, "")
    rows = [json.loads(row) for row in outcome.out.splitlines()]
    for row, word, found, cosines in zip(rows, ("good", "film"), outputs["neighbours"], outputs["cosines"], strict=True):
        assert row["word"] == word and row["known"] and list(row["neighbours"]) == [other.decode() for other in found]
        assert list(row["neighbours"].values()) == pytest.approx(cosines.tolist(), abs=1e-5)
    assert call("neighbours", model(made), "--count", "2", "--format", "jsonl", given=b"good\nfilm\n") == outcome
    text = call("neighbours", model(made), "good", "--count", "2").out
    first, second = rows[0]["neighbours"].items()
    assert text == f"good: {first[0]} {first[1]:.3f}, {second[0]} {second[1]:.3f}\n"
    lines = [line.split("\t") for line in call("neighbours", model(made), "good", "film", "--format", "tsv").out.splitlines()]
    assert len(lines) == 20 and {line[0] for line in lines} == {"good", "film"}


def test_an_unknown_word_is_told_and_the_others_are_answered(made: Path, call: Call) -> None:
    outcome = call("neighbours", model(made), "good", "awfull", "film")
    assert outcome.code == 2 and [line.split(":")[0] for line in outcome.out.splitlines()] == ["good", "film"]
    error, hint = outcome.err.splitlines()
    assert error.startswith("error: 'awfull': not in the vocabulary of ") and hint == "hint: awfull: did you mean awful?"


def test_analogy(made: Path, call: Call) -> None:
    outcome = call("analogy", model(made), "good", "bad", "fine", "--format", "jsonl")
    content = json.loads(outcome.out)
    assert outcome.code == 0 and content["question"] == ["good", "bad", "fine"] and len(content["words"]) == 10
    assert call("analogy", model(made), "good bad fine", "--format", "jsonl").out == outcome.out
    for words, message in ((("good", "bad"), "2 words, not three"), (("good", "bad", "zebra"), "'zebra': not in the vocabulary")):
        outcome = call("analogy", model(made), *words)
        assert (outcome.code, outcome.out) == (2, "") and message in outcome.err


def test_a_picture(made: Path, call: Call, tmp_path: Path) -> None:
    for name in ("words.png", "words.svg"):
        outcome = call("plot-vectors", model(made), "--words", "good,bad", "fine", "awful", "--output", str(tmp_path / name))
        assert (outcome.code, outcome.out) == (0, f"{tmp_path / name}\n") and (tmp_path / name).stat().st_size > 1000
    content = json.loads(call("plot-vectors", model(made), "good", "bad", "fine", "--format", "jsonl").out)
    assert content["words"] == ["good", "bad", "fine"] and np.shape(content["points"]) == (3, 2)
    for arguments, message in (
        (("good", "bad"), "2 words, which are no picture"),
        (("good", "bad", "zebra"), "'zebra': not in the vocabulary"),
        (("good", "bad", "fine", "--output", str(tmp_path / "none" / "a.png")), "cannot write"),
        (("good", "bad", "fine", "--output", str(tmp_path / "a.txt")), "no picture is called so"),
    ):
        outcome = call("plot-vectors", model(made), *arguments)
        assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err


@pytest.mark.parametrize("arguments", [["predict"], ["predict", "--format", "tsv"], ["predict", "--format", "jsonl"]])
def test_vectors_of_words_line_by_line(made: Path, call: Call, arguments: list[str]) -> None:
    outcome = call(arguments[0], model(made), *arguments[1:], given=b"good\nzebra\n")
    assert outcome.code == 0 and len(outcome.out.splitlines()) == 2
    if "jsonl" in arguments:
        good, zebra = map(json.loads, outcome.out.splitlines())
        assert good["word"] == "good" and good["known"] and not zebra["known"] and zebra["vector"] == [0.0] * 8
    else:
        assert [len(line.split()) for line in outcome.out.splitlines()] == [9, 9]


def test_verbs_are_for_models_that_have_them(made: Path, call: Call) -> None:
    outcome = call("generate", model(made), "--prompt", "good")
    assert (
        outcome.code == 2 and "this model cannot generate" in outcome.err and "neighbours, analogy, plot-vectors" in outcome.err
    )


# Carried over


@pytest.mark.slow
def test_own_vectors_in_another_model(made: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen embedding of the export's own vectors, of a classifier of 60 of the reviews."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.tsv").write_text(reviews())
    outcome = call("write-vectors", model(made), str(tmp_path / "own.txt.gz"))
    read = read_vectors(tmp_path / "own.txt.gz")
    assert (outcome.code, outcome.out) == (0, f"{tmp_path / 'own.txt.gz'}: {len(read.words)} words, 8 features\n")
    (tmp_path / "sentiment.toml").write_text(SENTIMENT.format(folder=tmp_path))
    outcome = call("run", "sentiment.toml", "--strategy", "cpu")
    assert outcome.code == 0, outcome.err
    assert f"vectors  {len(read.words)} of 8 features; of the training data they know" in outcome.err
    assert "60 rows of reviews.tsv: 60 rows, " in outcome.err and "left out (beyond data.train_rows)" in outcome.err
    with np.load(tmp_path / "runs" / "sentiment" / "checkpoints" / "chosen.npz") as content:
        (table,) = (content[name] for name in content.files if name.endswith("recurrent_embedding/table"))
    words = [line.split("\t")[0] for line in (tmp_path / "runs/sentiment/resources/vocabulary.tsv").read_text().splitlines()]
    for word, vector in zip(read.words, read.values, strict=True):
        np.testing.assert_array_equal(table[2 + words.index(word)], vector)


# Refused

REFUSED = [
    (["data.questions=none.txt"], "no file {folder}/none.txt"),
    (["data.questions=flat.txt"], "{folder}/flat.txt:1: a question before the first section: 'good fine bad awful'"),
    (["data.similarity=flat.txt"], "{folder}/flat.txt: no pairs in it"),
    (["data.train=short.txt", "text.minimum_count=1", "data.validation=reviews.tsv", "data.test=reviews.tsv"],
     "the training text has 3 words, line ends counted, no more than a window of 3"),
    (["data.train=rare.txt"], "no word of the training text is frequent enough for a vector"),
    (["data.train=alone.txt", "data.validation=reviews.tsv", "data.test=reviews.tsv"], "nothing to learn from in"),
    (["data.train=empty.txt"], "the training data has no rows"),
    (["data.text_column=review"], "no header line with the columns review"),
    (["data.train=reviews.tsv[:50%]"], "no file {folder}/reviews.tsv"),
    (["model.kind=glove"], "model.kind = 'glove'"),
    (["training.learning_rate=1e9", "training.optimizer=sgd"], "is not a number"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_what_cannot_be_trained_on(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, settings: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    (tmp_path / "flat.txt").write_text("good fine bad awful\n")
    (tmp_path / "short.txt").write_text("a b\n")
    (tmp_path / "rare.txt").write_text("".join(f"word{n} other{n}\n" for n in range(200)))
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "alone.txt").write_text("cat\ndog\nbird\n" * 40)
    outcome = call("run", "small.toml", "--strategy", "cpu", *(part for setting in settings for part in ("--set", setting)))
    assert outcome.code == 2 and "Traceback" not in outcome.err, outcome.err
    assert message.format(folder=tmp_path) in outcome.err and "\nhint: " in outcome.err


# Killed, and on two devices


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "buckets"), [("skip_gram", 0), ("cbow", 40)])
def test_a_killed_run_is_the_undisturbed_one(tmp_path: Path, finish: Finish, kill: Kill, kind: str, buckets: int) -> None:
    places = []
    for name in ("killed", "undisturbed"):
        folder = prepare(tmp_path / name, kind, buckets)
        if name == "killed":
            for file, count in (("last.npz", random.randint(2, 25)), ("last.npz", random.randint(1, 9)), ("chosen.npz", 1)):
                kill(folder, file, count)
        finish(folder)
        places.append(folder / "runs" / "small")
    with np.load(places[0] / "checkpoints" / "chosen.npz") as ours, np.load(places[1] / "checkpoints" / "chosen.npz") as theirs:
        assert ours.files == theirs.files
        for name in ours.files:
            if name != "position":
                np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert (places[0] / "history.csv").read_bytes() == (places[1] / "history.csv").read_bytes()
    scores = [json.loads((place / "scores.json").read_text())["scores"] for place in places]
    assert scores[0] == scores[1]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "buckets"), [("skip_gram", 0), ("skip_gram", 40), ("cbow", 0)])
def test_two_devices_give_the_weights_of_one(tmp_path: Path, two_devices: TwoDevices, kind: str, buckets: int) -> None:
    folder = prepare(tmp_path, kind, buckets)
    differences = two_devices(folder / "small.toml", "training.batch_rows=5", 'training.optimizer="sgd"')
    worst = max(differences, key=lambda name: differences[name])
    assert len(differences) >= 4 and differences[worst] <= 1e-9, (worst, differences[worst])


# The toy world


@pytest.mark.slow
def test_vectors_of_the_toy_world_answer_its_analogies(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "nlp_tasks", "run", "word_vectors/sample", "--strategy", "cpu"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=550)  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "runs" / "word_vectors-sample" / "scores.json").read_text())
    assert content["counts"]["covered_questions"] == content["counts"]["questions"] == 792
    assert content["scores"]["analogy_accuracy"] > 0.95
    low, high = (content["figures"]["by_section"][key] for key in ("names", "scores"))
    assert len(low) == 3 and min(high) > 0.9
