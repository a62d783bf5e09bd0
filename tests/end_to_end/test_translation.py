"""Translation by the command line: aligned files to an export, what it answers and draws, and every input that it must refuse."""

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
import tensorflow as tf

from nlp_tasks import inference
from nlp_tasks.data.toy_world.translation import generate

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Call, Finish, Kill, TwoDevices

RECIPE = """
[task]
name = "translation"

[data]
directory = "{folder}"
source_language = "en"
target_language = "xx"
train = "train"
validation = "val"
test = "test"

[text]
subwords = 330

[model]
kind = "{kind}"
units = 16
encoder_depth = 1
decoder_depth = 1
{own}
dropout = 0.1

[decoding]
beam = 2

[training]
epochs = 2
batch_tokens = 600
batch_rows = 16
learning_rate = 0.01
evaluations = 2
glances = 4
patience = 0
average_last = 2
checkpoint_seconds = 0

[export]
compare = 12
"""


def prepare(folder: Path, kind: str = "transformer") -> Path:
    folder.mkdir(exist_ok=True)
    pairs = list(generate("validation"))
    for name, start, count in (("train", 0, 90), ("val", 90, 12), ("test", 110, 12)):
        for side, language in enumerate(("en", "xx")):
            lines = [pair[side] for pair in pairs[start : start + count]]
            if name == "train":
                lines[40:40] = ["", "an odd\tone"] if language == "en" else ["nothing", "un odd\tone"]
            (folder / f"{name}.{language}").write_text("".join(f"{line}\n" for line in lines))
    own = "heads = 2\nhidden = 24" if kind == "transformer" else "embedding = 12"
    (folder / "small.toml").write_text(RECIPE.format(folder=folder, kind=kind, own=own))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, finish: Finish) -> Path:
    """A small Transformer, trained, scored and exported by one real process. Treat what it left as read-only."""
    return finish(prepare(tmp_path_factory.mktemp("translation")))


# A run


def test_what_a_run_leaves(made: Path) -> None:
    run = made / "runs" / "small"
    content = json.loads((run / "scores.json").read_text())
    assert content["headline"] == "bleu" and {"bleu", "bleu_tok_lc", "chrf", "loss", "perplexity"} <= content["scores"].keys()
    assert "nrefs:1|case:mixed" in content["signatures"]["bleu"] and "tok:13a" in content["signatures"]["bleu"]
    assert content["baseline"]["name"] in ("each word by IBM model 1", "the source itself")
    assert {"bleu", "chrf"} <= content["baseline"]["difference"].keys()
    rows = [json.loads(row) for row in (run / "predictions.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == (made / "test.en").read_text().splitlines()
    assert [row["gold"] for row in rows] == (made / "test.xx").read_text().splitlines()
    assert "validation_greedy_bleu" in (run / "history.csv").read_text()
    page, text = (run / "report.html").read_text(), (run / "report.txt").read_text()
    for part in ("words of the source", "chrf", "IBM model 1"):
        assert part in page
    assert "BLEU by words of the source" in text and "nan" not in text


def test_pairs_that_are_left_out_are_told(made: Path) -> None:
    findings = json.loads((made / "runs" / "small" / "check.json").read_text())["findings"]
    assert any(finding["message"] == "1 left out: an empty side" and finding["split"] == "train" for finding in findings)


def test_the_export_answers_like_the_run(made: Path, loaded: Callable[[Any], inference.Loaded]) -> None:
    run, export = loaded(made / "runs" / "small"), loaded(made / "saved_models" / "small")
    texts = ["The cat sees a dog.", "", "你好 dog", *(made / "test.en").read_text().splitlines()]
    assert set(export.functions) == {"serving_default", "n_best", "score", "align"}
    for signature, inputs in (
        ("n_best", [(text, 2 + row % 3, 2) for row, text in enumerate(texts)]),
        ("score", [(text, "Kaniun ne kustat.") for text in texts]),
    ):
        one, other = run(signature, inputs), export(signature, inputs)
        for name, value in one.items():
            if value.dtype == object:
                assert value.tolist() == other[name].tolist()
            else:
                np.testing.assert_allclose(value, other[name], atol=1e-4)


def test_translations_come_line_by_line(made: Path, call: Call) -> None:
    lines = "The cat sees a dog.\n\nTwo old cats sleep.\n"
    model = str(made / "saved_models" / "small")
    plain = call("translate", model, given=lines.encode())
    assert plain.code == 0 and plain.out.count("\n") == 3 and plain.out.split("\n")[1] == ""
    assert call("predict", model, given=lines.encode()).out == plain.out
    scored = call("translate", model, "--scores", given=lines.encode()).out.splitlines()
    assert [line.partition("\t")[2] for line in scored] == plain.out.splitlines()
    three = call("translate", model, "--n-best", "3", "--beam", "3", given=lines.encode()).out
    assert three.count("\n") == 9 and three.split("\n")[3:6] == ["", "", ""]
    many = call("translate", model, "--beam", "4", "--n-best", "2", "--format", "jsonl", given=b"The cat sees a dog.\n")
    (answer,) = map(json.loads, many.out.splitlines())
    assert answer["n_best"][0]["translation"] == answer["translation"] and len(answer["n_best"]) == 2
    assert answer["n_best"][0]["score"] >= answer["n_best"][1]["score"]


def test_alignments_are_pictures(made: Path, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    done = call("align", str(made / "saved_models" / "small"), "--output", str(path),
                given=b"The cat sees a dog.\tMau un kaniun sidat.\nTwo cats.\n")  # fmt: skip
    assert done.code == 0, done.err
    assert done.out.splitlines() == [str(path), str(tmp_path / "picture-2.png")]
    for file in done.out.splitlines():
        image = tf.io.decode_png(tf.io.read_file(file)).numpy()
        assert image.shape[0] > 100 and image.std() > 5
    assert not list(tmp_path.glob(".*"))
    told = call("align", str(made / "saved_models" / "small"), "--format", "jsonl", given=b"Two cats.\n")
    answer = json.loads(told.out)
    assert np.shape(answer["alignment"]) == (len(answer["target"]), len(answer["source"])) and answer["source"][-1] == "⏎"
    table = call("align", str(made / "saved_models" / "small"), "--format", "tsv", given=b"Two cats.\n").out
    assert [line.split("\t")[0] for line in table.splitlines() if line] == answer["target"]


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("translate", "{model}", "--beam", "0"), "--beam"),
        (("translate", "{model}", "--n-best", "0"), "--n-best"),
        (("translate", "{model}", "--beam", "2", "--n-best", "3"), "--n-best 3 with --beam 2"),
        (("align", "{model}", "--output", "nowhere/a.png"), "cannot write nowhere/a.png: no folder nowhere"),
        (("align", "{model}", "--output", "a.docx"), "cannot write a.docx: no picture is called so"),
        (("generate", "{model}"), "this model cannot generate"),
    ],
)
def test_what_a_model_is_not_asked(made: Path, call: Call, arguments: tuple[str, ...], message: str) -> None:
    done = call(*(argument.format(model=made / "saved_models" / "small") for argument in arguments), given=b"A dog.\n")
    assert done.code == 2 and message in done.err and not done.out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("data.target_language=cs",), "train is there in en, xx, not in 'cs'"),
        (("data.target_language=en",), "are both 'en'"),
        (('data.source_language=""',), "without data.source_language"),
        (("data.test=test_2016",), "no file"),
        (("decoding.beam=0",), "decoding.beam = 0"),
        (("text.subwords=200",), "text.subwords = 200"),
        (("model.kind=transformer", "model.heads=3"), "even number of units"),
    ],
)
def test_recipes_that_cannot_be(made: Path, call: Call, tmp_path: Path, settings: tuple[str, ...], message: str) -> None:
    given = [part for setting in settings for part in ("--set", setting)]
    done = call(
        "run", str(made / "small.toml"), "--run-dir", str(tmp_path / "runs"), "--export-dir", str(tmp_path / "out"), *given
    )
    assert done.code == 2 and message in done.err, done.err
    assert not list(tmp_path.glob("runs/*")) and not (tmp_path / "out").exists()


def test_files_of_different_length(tmp_path: Path, call: Call) -> None:
    folder = prepare(tmp_path / "data")
    with (folder / "train.xx").open("a") as file:
        file.write("more\n")
    done = call("check", str(folder / "small.toml"))
    assert done.code == 2 and "train.en has 92 lines" in done.out and "train.xx 93" in done.out


# Killed, and on two devices


def weights(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "runs" / "small" / "checkpoints" / "chosen.npz") as content:
        return {name: content[name] for name in content.files if name != "position"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformer", "additive", "multiplicative"])
def test_a_killed_run_is_the_undisturbed_one(tmp_path: Path, finish: Finish, kill: Kill, kind: str) -> None:
    whole, killed = finish(prepare(tmp_path / "whole", kind)), prepare(tmp_path / "killed", kind)
    for _ in range(2):
        kill(killed, "last.npz", random.randint(1, 5))
    finish(killed)
    one, other = weights(whole), weights(killed)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    assert (whole / "runs/small/predictions.jsonl").read_text() == (killed / "runs/small/predictions.jsonl").read_text().replace(
        str(killed), str(whole)
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformer", "additive"])
def test_two_devices_give_the_weights_of_one(tmp_path: Path, two_devices: TwoDevices, kind: str) -> None:
    differences = two_devices(prepare(tmp_path / "data", kind) / "small.toml", "training.clip_norm=0.5")
    worst = max(differences, key=lambda name: differences[name])
    assert len(differences) > 5 and differences[worst] <= 1e-9, (worst, differences[worst])


# The lesson


@pytest.mark.slow
def test_a_single_vector_is_not_enough(tmp_path: Path) -> None:
    """The lecture's order, by the recipes themselves: what the samples' page says of them."""
    found = {}
    for name in ("sample_vanilla", "sample_attention", "sample"):
        command = [sys.executable, "-m", "nlp_tasks", "run", f"machine_translation/{name}", "--strategy", "cpu"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        found[name] = json.loads((tmp_path / "runs" / f"machine_translation-{name}" / "scores.json").read_text())["scores"][
            "bleu"
        ]
    assert found["sample_attention"] > 95 and found["sample"] > 85
    assert found["sample_vanilla"] < 40, "in the same minute"
