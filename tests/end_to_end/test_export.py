"""What is shipped: a folder that takes any strings and gives the answers of the trained model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import export, load
from nlp_tasks.errors import UserError
from nlp_tasks.tasks.task import Signature

if TYPE_CHECKING:
    from tests.conftest import Place

TEXTS = [
    "word1 good word2", "", " \t\n ", "bad", "👍🏽 👩‍👩‍👧 good 🇩🇪", "好い天気", "good\0bad", "e\u0301te\u0301 good", "x" * 100_000,
    "good " + "word3 " * 5000 + "bad " * 5000,
]  # fmt: skip
BYTES = [b"\xff\xfe good", b"good \xc3", b"\xed\xa0\x80 bad", b"\xf4\x90\x80\x80"]  # no UTF-8: stray, cut, surrogate, too large

Answer = Callable[[Sequence[str | bytes]], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def answer(finished: Place) -> Answer:
    """`serving_default` of the export, by nothing but TensorFlow."""
    loaded = tf.saved_model.load(str(finished.export / "1"))

    def call(texts: Sequence[str | bytes]) -> dict[str, np.ndarray]:
        outputs = loaded.signatures["serving_default"](texts=tf.constant(texts, tf.string, [len(texts)]))
        return {name: value.numpy() for name, value in outputs.items()}

    return call


def test_every_text_is_answered(answer: Answer) -> None:
    texts = [*TEXTS, *BYTES]
    outputs = answer(texts)
    assert outputs.keys() == {"label", "probabilities", "labels"}
    assert outputs["labels"].tolist() == [[b"bad", b"good"]] * len(texts)
    np.testing.assert_allclose(outputs["probabilities"].sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(outputs["label"], np.array([b"bad", b"good"])[outputs["probabilities"].argmax(1)])
    assert outputs["label"][0] == b"good" and outputs["label"][3] == b"bad"


def test_no_text_has_no_answer(answer: Answer) -> None:
    assert {name: value.shape for name, value in answer([]).items()} == {"label": (0,), "probabilities": (0, 2), "labels": (0, 2)}


def test_an_answer_does_not_depend_on_its_neighbours(answer: Answer) -> None:
    texts = [*TEXTS, *BYTES]
    together, backwards = answer(texts)["probabilities"], answer(texts[::-1])["probabilities"][::-1]
    alone = np.concatenate([answer([text])["probabilities"] for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(backwards, alone, atol=1e-6)


def test_invalid_utf_8_is_read_as_the_replacement_character(answer: Answer) -> None:
    one, other = (answer([text])["probabilities"] for text in (b"good \xff", "good \ufffd"))
    np.testing.assert_array_equal(one, other)


def test_the_export_answers_as_the_run_does(finished: Place) -> None:
    run, exported = (load(folder).predict(TEXTS) for folder in (finished.run, finished.export))
    for one, other in zip(run, exported, strict=True):
        assert one["label"] == other["label"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_the_scores_are_those_of_the_export(finished: Place, answer: Answer) -> None:
    lines = (finished.recipe.parent / "test.tsv").read_text().splitlines()
    texts, gold = zip(*(line.split("\t") for line in lines), strict=True)
    scores = json.loads((finished.run / "scores.json").read_text())["scores"]
    assert scores["accuracy"] == np.mean(answer(texts)["label"] == np.array(gold, "S"))


def test_what_stands_beside_the_model(finished: Place, answer: Answer) -> None:
    folder = finished.export / "1" / "assets.extra"
    assert (folder / "recipe.toml").read_bytes() == (finished.run / "recipe.toml").read_bytes()
    assert (folder / "scores.json").read_bytes() == (finished.run / "scores.json").read_bytes()
    inputs = json.loads((folder / "example_inputs.json").read_text())
    assert len(inputs) == 3
    assert json.loads((folder / "row_wise.json").read_text()) == {"serving_default": []}
    assert json.loads((folder / "view.json").read_text()) == {"kind": "label"}
    case = json.loads((folder / "example_outputs.json").read_text())["serving_default"]
    assert case["inputs"] == {"texts": [text for (text,) in inputs]}
    answers = answer(case["inputs"]["texts"])
    assert case["outputs"]["label"] == answers["label"].astype(str).tolist()
    assert np.allclose(case["outputs"]["probabilities"], answers["probabilities"], atol=1e-5)
    ops = (folder / "ops.txt").read_text().split()
    assert {"LookupTableFindV2", "While"} & set(ops) and not [op for op in ops if "PyFunc" in op]


# The exporter, by a model that says how long a text is


class Lengths:
    """As much of a task as the exporter sees; `function` may be replaced by one that cannot be shipped."""

    scored = "serving_default"

    def __init__(self, function: Callable[[tf.Tensor], Any]) -> None:
        self.function = function
        self.model = type("NoVariables", (), {"variables": []})()

    def signatures(self, model: Any) -> dict[str, Signature]:
        inputs = (tf.TensorSpec([None], tf.string, "texts"),)
        return {"serving_default": Signature(lambda texts: {"length": self.function(texts)}, inputs)}

    def resources(self) -> list[Any]:
        return []

    def write(self, folder: Path) -> Path:
        made: Any = export.functions(self, self.model)  # type: ignore[arg-type]
        return export.write(
            self, self.model, made, folder, extra={"note.txt": "hello"}, samples={"serving_default": [("a",), ("ab",)]}
        )  # type: ignore[arg-type]


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "check", lambda *given: export.Checked(["StringLength"], 1.5))


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_versions_count_up(tmp_path: Path, unchecked: None) -> None:
    task = Lengths(tf.strings.length)
    assert [task.write(tmp_path).name for _ in range(2)] == ["1", "2"]
    shutil.rmtree(tmp_path / "1")
    assert task.write(tmp_path).name == "3"
    assert (tmp_path / "3" / "assets.extra" / "note.txt").read_text() == "hello"
    assert visible(tmp_path) == ["2", "3"] and export.versions(tmp_path) == [2, 3]


def test_what_a_killed_export_left_counts_for_nothing(tmp_path: Path, unchecked: None) -> None:
    (tmp_path / ".1.partial" / "variables").mkdir(parents=True)
    (tmp_path / ".1.partial" / "saved_model.pb").write_bytes(b"half")
    (tmp_path / ".1.partial" / "variables" / "half").touch()
    with pytest.raises(UserError, match="neither a SavedModel nor a run folder"):
        load(tmp_path)
    assert Lengths(tf.strings.length).write(tmp_path).name == "1"
    assert visible(tmp_path) == ["1"] and not (tmp_path / "1" / "variables" / "half").exists()
    assert tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"](tf.constant(["four"]))["length"].numpy() == 4


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), RuntimeError("other answers"), tf.errors.ResourceExhaustedError(None, None, "no space")]
)
def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*given: Any) -> None:
        raise error

    monkeypatch.setattr(export, "check", fail)
    with pytest.raises(UserError if isinstance(error, tf.errors.OpError) else type(error)):
        Lengths(tf.strings.length).write(tmp_path / "model")
    assert visible(tmp_path) == []


def test_an_op_that_no_server_has_is_refused(tmp_path: Path) -> None:
    task = Lengths(lambda texts: tf.py_function(lambda texts: tf.strings.length(texts), [texts], tf.int32))
    with pytest.raises(UserError, match="ops that no server has: EagerPyFunc") as refused:
        task.write(tmp_path / "model")
    assert "core TensorFlow ops only" in refused.value.hint
    assert visible(tmp_path) == []


def test_other_answers_are_found_out(finished: Place, answer: Answer) -> None:
    def changed(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = answer(list(texts.numpy()))
        return {name: tf.constant(value[::-1] if name == "probabilities" else value) for name, value in outputs.items()}

    specs = {"serving_default": {"texts": ("string", 1)}}
    samples = {"serving_default": [("good",), ("bad",), ("",)]}
    with pytest.raises(RuntimeError, match=r"serving_default/probabilities of the reloaded export differs by 0\.\d+"):
        export.check(finished.export / "1", {"serving_default": changed}, specs, samples)


def test_of_two_equal_texts_the_other_is_forgiven_once(finished: Place, answer: Answer) -> None:
    """With its numbers; but not in every row."""
    texts = [b"good", b"bad", b"word1", b""]
    specs = {"serving_default": {"texts": ("string", 1)}}
    samples = {"serving_default": [(text.decode(),) for text in texts]}

    def changed(rows: Sequence[int]) -> Any:
        def function(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = {name: value.copy() for name, value in answer(list(texts.numpy())).items()}
            outputs["label"][list(rows)], outputs["probabilities"][list(rows)] = b"another", 0.5
            return {name: tf.constant(value) for name, value in outputs.items()}

        return {"serving_default": function}

    export.check(finished.export / "1", changed([2]), specs, samples)
    with pytest.raises(RuntimeError, match=r"serving_default of the reloaded export differs .* for 2 of 4"):
        export.check(finished.export / "1", changed([0, 2]), specs, samples)


# By the command line


@pytest.mark.slow
def test_another_export_is_another_version(finished: Place, place: Place) -> None:
    shutil.copytree(finished.folder, place.folder, dirs_exist_ok=True)
    done = place.do(place.command("export"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["saved_models/small/2"] and visible(place.export) == ["1", "2"]
    answers = [load(place.export / version).predict(TEXTS) for version in ("1", "2")]
    assert answers[0] == answers[1] == load(place.export).predict(TEXTS)


@pytest.mark.slow
def test_saved_model_cli_runs_it(finished: Place) -> None:
    program = Path(sys.executable).with_name("saved_model_cli")
    command = [str(program), "run", "--dir", str(finished.export / "1"), "--tag_set", "serve", "--signature_def", "serving_default",
               "--input_exprs", "texts=['word1 good word2', '']"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Result for output key label:\n[b'good'" in done.stdout
