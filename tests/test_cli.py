"""The command line: every bad input of a person is one clear message, exit code 2, and nothing left behind."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import cli, inference, recipe, run, tasks

TRAIN = "good film\tpos\nbad film\tneg\nfine film\tpos\npoor film\tneg\n"
FILES = ("run", "sentiment/own_files", "--set", "data.train=train.tsv", "--set", "data.validation=train.tsv", "--set", "data.test=test.tsv",
         "--set", "model.parts=['bag_of_ngrams']")  # fmt: skip
FOLDER = Path("runs/sentiment-own_files")
"""Where FILES goes."""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Outcome]
Refusal = Callable[..., str]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a small data set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    Path("train.tsv").write_text(TRAIN)
    Path("test.tsv").write_text(TRAIN)
    return tmp_path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process."""

    def called(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["nlp-tasks", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, int)
        return Outcome(end.value.code, *capsys.readouterr())

    return called


def contents(folder: Path) -> dict[str, bytes]:
    """All files and all folders that are not empty."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files if path.name != ".lock"}


@pytest.fixture
def refused(call: Call, place: Path) -> Refusal:
    """The message of a call that must be refused; message and hint are the last two lines, and no file is new or other than before."""

    def called(*arguments: str) -> str:
        before = contents(place)
        outcome = call(*arguments)
        assert outcome.code == 2, outcome
        assert outcome.out == ""
        assert "Traceback" not in outcome.err
        *progress, message, hint = outcome.err.splitlines()
        assert message.startswith("error: ")
        assert hint.startswith("hint: ")
        assert not any(line.startswith(("error: ", "hint: ")) for line in progress)
        assert contents(place) == before
        assert not any(
            path.is_dir()
            for parent in ("runs", "saved_models")
            for path in Path(parent).glob("*")
            if str(path) not in str(before)
        )
        return message

    return called


@pytest.fixture
def begun(call: Call, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was stopped by Ctrl-C."""

    def interrupted(begun: run.Run) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "_prepare", interrupted)
        outcome = call(*FILES)
    assert outcome.code == 130
    assert outcome.err.strip().endswith("stopped; the same command goes on from here")
    assert (FOLDER / "identity.json").exists()
    return FOLDER


# Recipes


def test_an_unknown_recipe(refused: Refusal, call: Call) -> None:
    assert refused("run", "sentiment/smaple") == "error: unknown recipe 'sentiment/smaple'"
    assert "did you mean sentiment/sample" in call("run", "sentiment/smaple").err
    assert refused("train", "nowhere.toml") == "error: no recipe file nowhere.toml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[task\n", "own.toml:1: broken TOML: "),
        ('[task]\nname = "sentiment"\n[data]\ntrian = "a"\n', "own.toml:4: unknown key data.trian"),
        ('[task]\nname = "sentiment"\n[data]\ntrain = 3\n', "own.toml:4: data.train = 3: expected `str`, got `int`"),
        ('[task]\nname = "sentiment"\n[data]\n[training]\nepochs = 0\n', "own.toml:5: training.epochs = 0: expected `int` >= 1"),
        ('[task]\nname = "sentiment"\n[data]\n', "data.train is not set"),
    ],
)
def test_a_broken_recipe(refused: Refusal, text: str, message: str) -> None:
    Path("own.toml").write_text(text)
    for command in ("run", "train", "evaluate", "export"):
        assert refused(command, "own.toml").startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs=0", "--set training.epochs=0: training.epochs = 0: expected `int` >= 1"),
        ("training.batch_rows=-1", "--set training.batch_rows=-1: training.batch_rows = -1: expected `int` >= 1"),
        ("data.validation_share=-0.1", "--set data.validation_share=-0.1: data.validation_share = -0.1: expected `float` >= 0.0"),
        ("training.epochs=many", "--set training.epochs=many: training.epochs = 'many': expected `int`, got `str`"),
        ("training.epoch=1", "--set training.epoch=1: unknown key training.epoch"),
        ("epochs", "--set epochs: expected section.key=value"),
    ],
)
def test_a_bad_setting(refused: Refusal, setting: str, message: str) -> None:
    assert refused("run", "sentiment/sample", "--set", setting) == f"error: {message}"


@pytest.mark.parametrize("arguments", [["--seed", "-1"], ["--seed", "x"], ["--strategy", "tpu"], ["--no-such-option"], []])
def test_bad_options_are_told_by_the_command_line_itself(call: Call, place: Path, arguments: list[str]) -> None:
    before = contents(place)
    outcome = call("run", *(["sentiment/sample", *arguments] if arguments else []))
    assert (outcome.code, outcome.out) == (2, "")
    assert "\nError: " in outcome.err
    assert contents(place) == before


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "/"])
def test_a_name_that_is_none(refused: Refusal, name: str) -> None:
    assert refused("run", "sentiment/sample", "--name", name) == f"error: --name {name!r}: not a name for a folder"


def test_one_name_for_several_recipes(refused: Refusal) -> None:
    assert refused("run", "sentiment/sample", "sentiment/imdb", "--name", "x") == "error: --name with several recipes"


# Data


def test_a_missing_file(refused: Refusal) -> None:
    for split in ("train", "validation", "test"):
        assert refused(*FILES, "--set", f"data.{split}=none.tsv") == "error: no file none.tsv"
    assert refused("predict", "saved_models/x", "none.txt") == "error: no file none.txt"


@pytest.mark.parametrize(
    ("split", "content", "message"),
    [
        ("train", b"", "a.tsv: empty file"),
        ("train", b"good\tpos\nalone\n", "a.tsv:2: 1 column(s), no label: 'alone'"),
        ("train", b"good\tpos\n\nbad\t \n", "a.tsv:3: a row without a label"),
        ("train", b"good\tpos\nb\xe4d\tneg\n", "a.tsv:2: invalid UTF-8 at byte 1 of the line (e4 64 09 6e)"),
        ("train", b"text\tstars\n", "a.tsv:1: the header line has no column for label: it has 'text, stars'"),
        ("validation", b"good\tpos\nbad\t\n", "a.tsv:2: a row without a label"),
        ("test", b"", "a.tsv: empty file"),
    ],
)
def test_a_bad_file(refused: Refusal, split: str, content: bytes, message: str) -> None:
    Path("a.tsv").write_bytes(content)
    assert refused(*FILES, "--set", f"data.{split}=a.tsv") == f"error: {message}"


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("a\tpos\nb\tpos\n", "the training data has only one class, 'pos'"),
        ("text\tlabel\n", "the training data has no rows"),
        (" \tpos\n\u200b \tneg\n", "no token of the training data gets into the vocabulary"),
        (
            "".join(f"{number}\t{number}\n" for number in range(1001)),
            "the training data has 1,001 different labels; are the columns swapped?",
        ),
    ],
)
def test_training_data_that_teaches_nothing(refused: Refusal, train: str, message: str) -> None:
    Path("train.tsv").write_text(train)
    assert refused(*FILES) == f"error: {message}"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_never_seen_in_training(refused: Refusal, split: str) -> None:
    Path("other.tsv").write_text("good\tpos\n\nwell\tmixed\n")
    assert refused(*FILES, "--set", f"data.{split}=other.tsv") == "error: other.tsv:3: label 'mixed' was never seen in training"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_nothing_held_out(refused: Refusal, split: str) -> None:
    message = refused(*FILES, "--set", f"data.{split}=", "--set", f"data.{split}_share=0")
    assert message == f"error: no rows for {split} (0% of the rows of train.tsv)"


def test_a_data_set_that_is_not_prepared(refused: Refusal, call: Call, place: Path) -> None:
    arguments = ("run", "sentiment/imdb", "--data-dir", "nowhere")
    assert refused(*arguments) == "error: data set 'imdb_reviews' is not prepared in nowhere/imdb_reviews/plain_text/1.0.0"
    assert "tfds.builder('imdb_reviews', data_dir='nowhere').download_and_prepare()" in call(*arguments).err


def test_an_unknown_source(refused: Refusal) -> None:
    assert refused("run", "sentiment/sample", "--set", "data.source=toyworld").startswith("error: data.source = 'toyworld'")


# The run folder


def test_the_run_of_another_recipe(refused: Refusal, begun: Path) -> None:
    message = refused(*FILES, "--set", "training.epochs=3")
    assert message == f"error: {begun} is the run of another recipe; here is different: epochs = 3"


def test_the_run_of_other_data(refused: Refusal, begun: Path) -> None:
    Path("test.tsv").write_text("good\tneg\n")
    for command in ("run", "train", "export"):
        assert refused(command, *FILES[1:]).startswith(f"error: {begun} was begun with other data (its hash was ")


def test_a_trained_run_is_not_evaluated_as_another(refused: Refusal, begun: Path) -> None:
    (begun / "checkpoints").mkdir()
    (begun / "checkpoints" / "chosen.npz").write_bytes(b"")
    assert "is the run of another recipe" in refused("evaluate", *FILES[1:], "--seed", "7")


def test_restart_forgets_the_other_run(refused: Refusal, begun: Path, call: Call) -> None:
    Path("train.tsv").write_text("a\tpos\n")
    outcome = call(*FILES, "--restart")
    assert outcome.code == 2
    assert "only one class" in outcome.err
    assert not begun.exists()


def test_a_restart_killed_while_it_forgets_leaves_a_run_folder(call: Call, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    (begun / "resources").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(run.shutil, "rmtree", killed)
        assert call(*FILES, "--restart").code == 130
    assert (begun / "identity.json").exists()


def test_two_processes_in_one_run_folder(refused: Refusal, begun: Path) -> None:
    with (begun / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert refused(*FILES).startswith(f"error: {begun} is in use by process {os.getpid()} on ")
        assert refused(*FILES, "--restart").startswith(f"error: {begun} is in use by ")
    assert "another recipe" in refused(*FILES, "--seed", "3")


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_run_that_was_not_trained(refused: Refusal, command: str) -> None:
    assert refused(command, *FILES[1:]) == f"error: {FOLDER} is not trained to the end"


@pytest.mark.parametrize("restart", [[], ["--restart"]])
def test_a_folder_with_other_things_is_left_alone(refused: Refusal, place: Path, restart: list[str]) -> None:
    (place / "papers").mkdir()
    (place / "papers" / "thesis.tex").write_text("years of work")
    message = refused(*FILES, "--run-dir", ".", "--name", "papers", *restart)
    assert message == "error: papers is no run folder, and it holds other things: thesis.tex"


# Places and devices


@pytest.mark.parametrize("option", ["--run-dir", "--export-dir"])
def test_an_output_below_a_file(refused: Refusal, option: str) -> None:
    assert refused(*FILES, option, "train.tsv/x") == f"error: cannot write train.tsv/x/{FOLDER.name}: train.tsv is a file"


@pytest.mark.parametrize("option", ["--run-dir", "--export-dir"])
def test_an_output_that_is_read_only(refused: Refusal, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    Path("locked").mkdir()
    writable = os.access  # a superuser may write below whatever chmod says
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked" and writable(path, mode))
    assert refused(*FILES, option, "locked") == f"error: cannot write locked/{FOLDER.name}: locked is read-only"


def test_an_output_that_cannot_be_made(refused: Refusal) -> None:
    Path("link").symlink_to("/nowhere/at/all")
    assert refused(*FILES, "--run-dir", "link").startswith("error: cannot ")
    assert refused(*FILES, "--run-dir", "x" * 300).startswith("error: cannot ")


@pytest.mark.parametrize(
    ("limit", "message"),
    [(0, "error: no temporary file can be written"), (200, "error: cannot read or write the output: File too large")],
)
def test_a_disk_that_is_full(place: Path, limit: int, message: str) -> None:
    before = contents(place)
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); from nlp_tasks.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script, *FILES], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2, done.stderr
    *_, told, hint = done.stderr.splitlines()
    assert told == message
    assert hint.startswith("hint: free some space, or ")
    assert "Traceback" not in done.stderr
    assert contents(place) == before
    assert not FOLDER.parent.exists()


def test_a_disk_that_fills_while_the_data_is_encoded(refused: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, chunks: object) -> None:
        (folder.parent / "half").mkdir(parents=True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run, "write_store", full)
    assert refused(*FILES) == "error: cannot read or write the output: No space left on device"


def test_a_gpu_where_there_is_none(refused: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    assert refused(*FILES, "--strategy", "gpu") == "error: --strategy gpu: TensorFlow sees no GPU here"
    path = ("--set", "training.recurrent=cudnn")
    assert refused(*FILES, *path) == 'error: recurrent path "cudnn": TensorFlow sees no GPU here'


def test_workers_without_a_cluster(refused: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert refused(*FILES, "--strategy", "multi_worker") == "error: --strategy multi_worker: TF_CONFIG is not set"


# Models


def test_a_path_that_is_no_model(refused: Refusal, begun: Path) -> None:
    Path("empty").mkdir()
    Path("broken/1/assets.extra").mkdir(parents=True)
    Path("broken/1/saved_model.pb").write_bytes(b"no protocol buffer")
    Path("broken/1/assets.extra/recipe.toml").write_text(
        recipe.load("sentiment/sample", lambda task: tasks.find(task).recipe_type).resolved()
    )
    Path("foreign").mkdir()
    Path("foreign/saved_model.pb").write_bytes(b"")
    assert refused("predict", "nowhere") == "error: nowhere is neither a SavedModel nor a run folder: it does not exist"
    assert refused("predict", "train.tsv") == "error: train.tsv is neither a SavedModel nor a run folder: it is a file"
    assert refused("predict", "empty") == "error: empty is neither a SavedModel nor a run folder: it is empty of both"
    assert refused("predict", "broken").startswith("error: broken/1: not a whole SavedModel: ")
    assert refused("predict", "foreign").startswith("error: foreign is a SavedModel, but not of nlp-tasks")
    assert refused("predict", str(begun)) == f"error: {begun} is not trained to the end"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A model that finds texts with an "o" good; the list gets the size of each batch it answers."""
    sizes: list[int] = []

    def answer(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        good = [b"o" in text for text in texts.numpy()]
        sizes.append(len(good))
        return {
            "label": tf.constant(["good" if found else "bad" for found in good], tf.string, [len(good)]),
            "probabilities": tf.constant([[0.25, 0.75] if found else [1.0, 0.0] for found in good], shape=[len(good), 2]),
            "labels": tf.constant([["bad", "good"]] * len(good), tf.string, [len(good), 2]),
        }

    loaded = inference.Loaded(tasks.find("sentiment"), {"serving_default": answer}, {"serving_default": {"texts": ("string", 1)}})
    monkeypatch.setattr(inference, "load", lambda path: loaded)
    return sizes


def test_predict_answers_line_by_line_in_order(call: Call, model: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["no", "", "a\tb", "x" * 99 + "o", "né", *(str(number) for number in range(100)), "go"]
    Path("texts.txt").write_bytes("\r\n".join(texts).encode() + b"\n\xff")
    expected = ["good\t0.7500" if "o" in text else "bad\t1.0000" for text in [*texts, "\ufffd"]]
    assert call("predict", "x", "texts.txt") == (0, "".join(f"{line}\n" for line in expected), "")
    assert model == [64, 42, 1]
    rows = [json.loads(line) for line in call("predict", "x", "texts.txt", "--format", "jsonl").out.splitlines()]
    assert [row["text"] for row in rows] == [*texts, "\ufffd"]
    assert rows[0] == {"text": "no", "label": "good", "probability": 0.75, "probabilities": {"bad": 0.25, "good": 0.75}}
    assert call("predict", "x", "texts.txt", "--format", "tsv").out.splitlines()[1:3] == ["\tbad\t1.0000", "a b\tbad\t1.0000"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"so\n")))
    assert call("predict", "x").out == "good\t0.7500\n"


def test_predict_of_nothing_is_nothing(call: Call, model: list[int]) -> None:
    Path("none.txt").touch()
    assert call("predict", "x", "none.txt") == (0, "", "")
    assert model == []


def test_predict_answers_before_the_input_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(read, encoding="utf-8"))
    with os.fdopen(write, "wb", buffering=0) as pipe:
        chunks = cli._lines("-")
        pipe.write(b"one\ntwo\nthr")
        assert next(chunks) == ["one", "two"]
        pipe.write(b"ee\n")
        assert next(chunks) == ["three"]
    assert list(chunks) == []
    sys.stdin.close()


def test_a_model_answers_in_python_whatever_the_batch(model: list[int]) -> None:
    loaded = inference.load("x")
    assert [row["label"] for row in loaded.predict(["long text of words", "", "bad"])] == ["good", "bad", "bad"]
    assert loaded.predict([]) == []
    outputs = loaded("serving_default", [("x" * number,) for number in (3, 1, 2, 5, 4)], batch=2)
    assert sorted(model[-3:]) == [1, 2, 2]
    assert {name: np.shape(value) for name, value in outputs.items()} == {
        "label": (5,),
        "probabilities": (5, 2),
        "labels": (5, 2),
    }


# Lists and help


def test_list(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    score = {
        "headline": "accuracy",
        "scores": {"accuracy": 0.9},
        "intervals": {"accuracy": [0.88, 0.92]},
        "signature": "unit:example",
    }
    monkeypatch.setattr(recipe, "measured", lambda: {"sentiment/sample": score})
    outcome = call("list")
    assert outcome.code == 0
    table, counted = outcome.out.split("\n\n")
    assert counted == "accuracy of sentiment: unit:example\n"
    header, _, *rows = table.splitlines()
    assert header.split("  ")[0] == "recipe"
    assert [row.split()[0] for row in rows] == recipe.names()
    (sample,) = (row for row in rows if row.startswith("sentiment/sample"))
    assert sample.endswith("accuracy 90.00 % [88.00, 92.00]")
    assert "nothing" in sample


def test_list_for_machines(call: Call) -> None:
    entries = json.loads(call("list", "--json").out)
    assert [entry["recipe"] for entry in entries] == recipe.names()
    assert all(set(entry) == {"recipe", "task", "data", "needs", "minutes", "description", "measured"} for entry in entries)
    assert {entry["recipe"]: entry["needs"] for entry in entries}["sentiment/imdb"] == "TFDS imdb_reviews"


def test_every_command_and_verb_has_help(call: Call) -> None:
    outcome = call("--help")
    assert outcome.code == 0
    for command in ("run", "train", "evaluate", "export", "list", *tasks.VERBS):
        assert f"\n  {command} " in outcome.out
        assert f" {command} [OPTIONS] " in f"{call(command, '--help').out.splitlines()[0]} "
    assert call("--version").out.startswith("nlp-tasks, version ")


def test_help_takes_less_than_half_a_second() -> None:
    def seconds() -> float:
        begun = time.monotonic()
        subprocess.run([sys.executable, "-m", "nlp_tasks", "--help"], check=True, capture_output=True)
        return time.monotonic() - begun

    assert any(seconds() < 0.5 for _ in range(8))  # the machine may be busy


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["list"],
        ["run", "sentiment/smaple"],
        ["run", "sentiment/own_files", "--set", "data.train=none"],
    ],
)
def test_what_needs_no_tensorflow_does_not_wait_for_it(arguments: list[str]) -> None:
    script = """if True:
        import sys
        from nlp_tasks.cli import main
        try:
            main()
        except SystemExit:
            print(sorted({"tensorflow", "keras", "matplotlib", "tensorflow_datasets"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
