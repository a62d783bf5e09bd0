"""Versions in memory: their signatures, their self-check, and that nothing of them is left when they are gone."""

from __future__ import annotations

import gc
import json
import re
import shutil
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nlp_tasks import recipe, tasks
from nlp_tasks.serving import pages, saved_model
from nlp_tasks.serving.refused import Refused
from nlp_tasks.serving.tensors import Spec


def strings(*texts: str) -> np.ndarray:
    return np.array([text.encode() for text in texts], object)


def test_what_a_version_is(exports: Path) -> None:
    version = saved_model.load(exports / "tagging" / "1", "tagging", 1)
    assert {name: signature.inputs for name, signature in version.signatures.items()} == {
        "serving_default": {"texts": Spec("string", (None,))},
        "tokens": {"tokens": Spec("string", (None, None))},
        "flat": {"tokens": Spec("string", (None,)), "lengths": Spec("int32", (None,))},
    }
    assert {name: signature.row_wise for name, signature in version.signatures.items()} == {
        "serving_default": True, "tokens": True, "flat": False,
    }  # fmt: skip
    definition = version.signature_def["serving_default"]
    assert definition["method_name"] == "tensorflow/serving/predict"
    assert definition["inputs"]["texts"] == {
        "name": "serving_default_texts:0", "dtype": "DT_STRING",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
    }  # fmt: skip
    assert definition["outputs"]["tags"]["dtype"] == "DT_STRING" and definition["outputs"]["tags"]["name"].endswith(
        "PartitionedCall:4"
    )
    outputs = version.signatures["serving_default"]({"texts": strings("fish swim", "a")})
    assert list(outputs) == ["ends", "lengths", "scores", "starts", "tags", "tokens"]
    assert outputs["tokens"].tolist() == [[b"fish", b"swim"], [b"a", b""]]


RECIPES = {
    "sentiment": "sentiment/sample", "tagging": "pos_tagging/sample", "language_modeling": "language_modeling/sample",
    "translation": "machine_translation/sample", "question_answering": "question_answering/sample",
    "question_answering_stories": "question_answering/babi_dmn", "word_vectors": "word_vectors/sample",
}  # fmt: skip


@pytest.mark.parametrize("name", tasks.REGISTRY)
def test_the_exports_of_these_tests_have_the_signatures_of_the_tasks(exports: Path, name: str) -> None:
    content = recipe.load(RECIPES[name], lambda task: tasks.find(task).recipe_type)
    task: Any = tasks.find(name)(content)
    task.tags = ["NOUN"]
    version = saved_model.load(exports / name / "1", name, 1)
    declared = task.signatures(None)
    assert {key: (signature.row_wise, signature.alike) for key, signature in version.signatures.items()} == {
        key: (each.row_wise, each.alike) for key, each in declared.items()
    }
    for key, signature in version.signatures.items():
        ranks = {
            input: (spec.dtype, len(spec.shape or ()))
            for input, spec in signature.inputs.items()
            if not input.startswith("state_")
        }
        names = {"float32": "float"}
        assert ranks == {
            spec.name: (names.get(spec.dtype.name, spec.dtype.name), spec.shape.rank)
            for spec in declared[key].inputs
            if not spec.name.startswith("state_")
        }
    drawn = re.findall(
        r"^  (\w+): \{$", (Path(pages.renderer.__file__).parent / "templates" / "serve.js").read_text(), re.MULTILINE
    )
    kind = task.view().get("kind")  # without one, inputs and outputs are shown by their names
    assert kind is None or (kind in drawn and version.extra["view"]["kind"] == kind)


def test_an_export_that_says_nothing_is_served_row_by_row(exports: Path, tmp_path: Path) -> None:
    shutil.copytree(exports / "sentiment" / "1", tmp_path / "1")
    shutil.rmtree(tmp_path / "1" / "assets.extra")
    version = saved_model.load(tmp_path / "1", "m", 1)
    assert not version.signatures["serving_default"].row_wise and version.extra == {}


def change(folder: Path, name: str, change: Any) -> None:
    path = folder / "assets.extra" / f"{name}.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


def other_number(content: Any) -> None:
    content["serving_default"]["outputs"]["probabilities"][1][0] += 0.01


def other_texts(content: Any) -> None:
    content["serving_default"]["outputs"]["label"] = ["positive", "positive"]


def other_output(content: Any) -> None:
    content["serving_default"]["outputs"]["odds"] = [1, 2]


def other_rows(content: Any) -> None:
    content["serving_default"]["outputs"]["label"].append("negative")


def other_signature(content: Any) -> Any:
    return {"n_best": content["serving_default"]}


def other_input(content: Any) -> None:
    content["serving_default"]["inputs"] = {"words": ["a"]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (other_number, "self-check: serving_default/probabilities is not what it was when the export was written"),
        (other_texts, "self-check: serving_default answers 2 of 2 examples otherwise than when it was exported"),
        (other_output, "self-check: serving_default has no output odds"),
        (other_rows, "self-check: serving_default/label has the shape [2], not [3]"),
        (other_signature, "self-check: there is no signature n_best"),
        (other_input, "self-check: serving_default does not answer: 'words'"),
    ],
)
def test_the_self_check(exports: Path, tmp_path: Path, changed: Any, message: str) -> None:
    shutil.copytree(exports / "sentiment" / "1", tmp_path / "1")
    saved_model.load(tmp_path / "1", "m", 1)
    change(tmp_path / "1", "example_outputs", changed)
    with pytest.raises(saved_model.Broken) as caught:
        saved_model.load(tmp_path / "1", "m", 1)
    assert str(caught.value) == message


def test_one_text_of_several_may_be_another(exports: Path, tmp_path: Path) -> None:
    shutil.copytree(exports / "sentiment" / "1", tmp_path / "1")

    def changed(content: Any) -> None:
        content["serving_default"]["outputs"]["label"][0] = "positive"
        content["serving_default"]["outputs"]["probabilities"][0] = [0.4, 0.6]

    change(tmp_path / "1", "example_outputs", changed)
    saved_model.load(tmp_path / "1", "m", 1)


def test_an_older_export_is_tried_with_its_examples(exports: Path, tmp_path: Path) -> None:
    shutil.copytree(exports / "tagging" / "1", tmp_path / "1")
    (tmp_path / "1" / "assets.extra" / "example_outputs.json").unlink()
    saved_model.load(tmp_path / "1", "m", 1)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda folder: (folder / "saved_model.pb").write_bytes(b"\xff" * 50), "it does not load: "),
        (lambda folder: (folder / "saved_model.pb").write_bytes(b""), "it does not load: "),
        (
            lambda folder: (folder / "saved_model.pb").write_bytes((folder / "saved_model.pb").read_bytes()[:-2000]),
            "it does not load: ",
        ),
        (lambda folder: (folder / "saved_model.pb").unlink(), "it does not load: "),
        (lambda folder: (folder / "assets.extra" / "view.json").write_text('{"kind":'), "it does not load: "),
    ],
)
def test_what_does_not_load(exports: Path, tmp_path: Path, broken: Any, message: str) -> None:
    shutil.copytree(exports / "sentiment" / "1", tmp_path / "1")
    broken(tmp_path / "1")
    with pytest.raises(saved_model.Broken) as caught:
        saved_model.load(tmp_path / "1", "m", 1)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_inputs_that_the_graph_refuses(exports: Path) -> None:
    version = saved_model.load(exports / "language_modeling" / "1", "m", 1)
    with pytest.raises(Refused, match="StringToNumberOp could not correctly convert string: x") as caught:
        version.signatures["score"]({"texts": strings("1", "x")})
    assert caught.value.status == 400 and "\n" not in caught.value.message


def test_a_call_ends_in_time_or_when_the_version_is_closed(exports: Path) -> None:
    version = saved_model.load(exports / "language_modeling" / "1", "m", 1)
    one = np.ones(1, np.int32)
    inputs = {"prompts": strings("a"), "length": 2_000_000_000 * one, "temperature": one.astype(np.float32), "top_k": one,
              "top_p": one.astype(np.float32), "seed": one}  # fmt: skip
    begun = time.monotonic()
    with pytest.raises(Refused) as caught:
        version.signatures["generate"](inputs, 0.2)
    assert caught.value.status == 504 and time.monotonic() - begun < 10
    threading.Timer(0.2, version.close).start()
    with pytest.raises(Refused) as caught:
        version.signatures["generate"](inputs, 20)
    assert caught.value.status == 504 and time.monotonic() - begun < 10


def test_nothing_is_left_of_a_version(exports: Path) -> None:
    version: Any = saved_model.load(exports / "sentiment" / "1", "m", 1)
    session = weakref.ref(version._session)
    version.signatures["serving_default"]({"texts": strings("a")})
    del version
    gc.collect()
    assert session() is None
