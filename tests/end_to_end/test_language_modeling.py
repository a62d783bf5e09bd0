"""Language modelling by the command line: texts in files to an export, what it says and writes, and every input that it must refuse."""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from nlp_tasks import inference

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Call, Kill, TwoDevices

RECIPE = """
[task]
name = "language_modeling"

[data]
directory = "{folder}"
train = "text.txt"
random_windows = 16

[text]
unit = "characters"

[model]
kind = "lstm"
embedding = 6
tied = false
units = 12
dropout = 0.1
embedding_dropout = 0.1
output_dropout = 0.1

[training]
window = 8
batch_rows = 6
epochs = 2
learning_rate = 0.01
evaluations = 2
patience = 0
checkpoint_seconds = 0
"""
COUNTED = """
[task]
name = "language_modeling"

[data]
directory = "{folder}"
train = "text.txt[:80%]"
validation = "text.txt[80%:90%]"
test = "text.txt[90%:]"

[model]
kind = "ngram"
order = 3
"""


def made_up(seed: int, lines: int) -> str:
    draw = random.Random(seed)
    nouns, verbs = "cat dog bird naïve-man".split(), "sees hears likes".split()
    return "".join(f"the {draw.choice(nouns)} {draw.choice(verbs)} the {draw.choice(nouns)} — {number % 7}.\n"
                   for number in range(lines))  # fmt: skip


class Made(NamedTuple):
    """A folder with a text and a recipe, and what a run left in it."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "small"

    @property
    def export(self) -> Path:
        return self.folder / "saved_models" / "small"

    def scores(self) -> dict[str, Any]:
        content = json.loads((self.run / "scores.json").read_text())
        for key in ("training_seconds", "tokens_per_second", "commit"):
            content.pop(key)
        content["baseline"].pop("seconds")
        return content

    def predictions(self) -> list[dict[str, Any]]:
        return [json.loads(row) for row in (self.run / "predictions.jsonl").read_text().splitlines()]

    def chosen(self) -> dict[str, Any]:
        with np.load(self.run / "checkpoints" / "chosen.npz") as content:
            return {name: content[name] for name in content.files if name != "position"}


def command(folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "nlp_tasks", *arguments], cwd=folder, input=given, capture_output=True, timeout=550
    )


def prepare(folder: Path, recipe: str) -> Made:
    folder.mkdir(exist_ok=True)
    (folder / "text.txt").write_text(made_up(0, 90))
    (folder / "small.toml").write_text(recipe.format(folder=folder))
    return Made(folder)


def finish(made: Made) -> Made:
    done = command(made.folder, "run", "small.toml", "--strategy", "cpu")
    assert done.returncode == 0, done.stderr.decode()
    assert b"WARNING" not in done.stderr and b"Traceback" not in done.stderr, done.stderr.decode()
    return made


@pytest.fixture(scope="module")
def characters(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small LSTM of characters, trained, scored and exported by one real process. Treat what it left as read-only."""
    return finish(prepare(tmp_path_factory.mktemp("characters"), RECIPE))


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A counted n-gram of words."""
    return finish(prepare(tmp_path_factory.mktemp("counted"), COUNTED))


# A run


def test_the_scores_are_those_of_the_predictions(characters: Made) -> None:
    content, rows = characters.scores(), characters.predictions()
    text = (characters.folder / "text.txt").read_text()
    assert "".join(row["text"] for row in rows) == text[-len("".join(row["text"] for row in rows)) :]
    assert sum(len(row["text"].encode()) for row in rows) == pytest.approx(0.1 * len(text.encode()), abs=4)
    nats, tokens = (sum(row[name] for row in rows) for name in ("nats", "tokens"))
    assert tokens == sum(len(row["text"]) for row in rows) == content["counts"]["tokens"]
    expected = {
        "nats_per_token": nats / tokens,
        "perplexity": math.exp(nats / tokens),
        "bits_per_character": nats / math.log(2) / tokens,
    }
    assert content["headline"] == "nats_per_token"
    for name, value in expected.items():
        assert content["scores"][name] == pytest.approx(value)
        low, high = content["intervals"][name]
        assert low <= value + 1e-9 and value - 1e-9 <= high
        more = content["baseline"]["difference"][name][0]
        assert more == pytest.approx(value - content["baseline"]["scores"][name])
    assert content["baseline"]["name"] == "Kneser-Ney 8-gram"
    assert content["scores"]["nats_per_token_in_windows_of_16"] == pytest.approx(expected["nats_per_token"], rel=0.2)
    assert 0 < content["validation"]["scores"]["nats_per_token"] < math.log(len({*text}) + 1)
    assert content["validation"]["intervals"].keys() == content["validation"]["scores"].keys()
    assert sum(group[1] for row in rows for group in row["by_count"]) == tokens


def test_what_a_run_leaves(characters: Made, counted: Made) -> None:
    for made in (characters, counted):
        for name in (
            "report.txt",
            "report.html",
            "history.csv",
            "predictions.jsonl",
            "statistics.npz",
            "export.json",
            "check.json",
        ):
            if made is characters or name != "history.csv":
                assert (made.run / name).stat().st_size > 0, name
        text = (made.run / "report.txt").read_text()
        page = (made.run / "report.html").read_text()
        for word in ("nats_per_token", "perplexity", "bits_per_character"):
            assert word in text and word.replace("_", " ") in page
        for wrong in ("nan", "None", "inf "):
            assert wrong not in text
        assert not (made.run / "cache").exists()
        assert json.loads((made.run / "check.json").read_text())["copies"] == []
    assert "Kneser-Ney 8-gram" in (characters.run / "report.txt").read_text()


def test_the_counted_run_is_scored_as_it_answers(counted: Made, loaded: Callable[[Any], inference.Loaded]) -> None:
    """The headline is what its export says of the test text."""
    content, rows = counted.scores(), counted.predictions()
    assert content["headline"] == "perplexity" and content["baseline"]["name"] == "unigrams"
    whole = "".join(row["text"] for row in rows)
    answer = loaded(counted.export)("score", [(whole,)])
    assert answer["length"][0] == content["counts"]["tokens"] == len(whole.replace("\n", " <eos> ").split())
    assert math.exp(-answer["log_probability"][0] / answer["length"][0]) == pytest.approx(
        content["scores"]["perplexity"], rel=1e-4
    )
    assert content["scores"]["perplexity"] < content["baseline"]["scores"]["perplexity"]


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
folder, texts = sys.argv[1], json.loads(sys.argv[2])
loaded = tf.saved_model.load(folder)
options = {"length": [9, 5], "temperature": [1.0, 0.0], "top_k": [0, 0], "top_p": [1.0, 0.9], "seed": [3, 4]}
dtypes = {"length": tf.int32, "temperature": tf.float32, "top_k": tf.int32, "top_p": tf.float32, "seed": tf.int32}
answers = {}
for signature in ("serving_default", "score", "generate"):
    given = {"texts": tf.constant(texts)}
    if signature == "generate":
        given = {"prompts": tf.constant(texts), **{name: tf.constant(value, dtypes[name]) for name, value in options.items()}}
    outputs = loaded.signatures[signature](**given)
    answers[signature] = {}
    for name, value in outputs.items():
        if name != "unknown":
            array = value.numpy()
            answers[signature][name] = (np.char.decode(array.astype("S")) if value.dtype == tf.string else array).tolist()
assert not {"keras", "nlp_tasks"} & set(sys.modules)
print(json.dumps([sorted(loaded.signatures), answers]))
"""


@pytest.mark.parametrize("kind", ["characters", pytest.param("counted", marks=pytest.mark.slow)])
def test_the_export_answers_with_nothing_but_tensorflow(
    request: pytest.FixtureRequest, loaded: Callable[[Any], inference.Loaded], kind: str
) -> None:
    made, texts = request.getfixturevalue(kind), ["the cat sees", "the "]
    done = subprocess.run([sys.executable, "-P", "-c", FRESH, str(made.export / "1"), json.dumps(texts)],
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    signatures, answers = json.loads(done.stdout.splitlines()[-1])
    assert signatures == ["advance", "generate", "score", "serving_default"]
    run = loaded(made.run)
    for signature in ("serving_default", "score"):
        for name, value in run(signature, [(text,) for text in texts]).items():
            if value.dtype == object:
                assert np.char.decode(value.astype("S")).tolist() == answers[signature][name]
            else:
                np.testing.assert_allclose(answers[signature][name], value, atol=1e-5)
    inputs: Any = [(texts[0], 9, 1.0, 0, 1.0, 3), (texts[1], 5, 0.0, 0, 0.9, 4)]
    written = run("generate", inputs)
    assert [text.decode() for text in written["text"]] == answers["generate"]["text"]
    np.testing.assert_allclose(answers["generate"]["log_probability"], written["log_probability"], atol=1e-4)
    ops = (made.export / "1" / "assets.extra" / "ops.txt").read_text().split()
    assert ops and not [op for op in ops if "PyFunc" in op or op.startswith("Xla")]


# Killed, and on two devices


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resources", "train", "chosen.npz", "predictions.jsonl"])
def test_a_counted_run_killed_after_each_stage_goes_on(counted: Made, tmp_path: Path, kill: Kill, name: str) -> None:
    made = prepare(tmp_path / "killed", COUNTED)
    kill(made.folder, name, 1)
    finish(made)
    assert made.scores() == counted.scores()
    assert list(made.folder.rglob("*.partial")) == []


@pytest.mark.slow
def test_a_run_killed_at_random_steps_is_the_undisturbed_one(characters: Made, tmp_path: Path, kill: Kill) -> None:
    """The state that is carried from batch to batch is part of a checkpoint."""
    made = prepare(tmp_path / "killed", RECIPE)
    (made.folder / "text.txt").write_bytes((characters.folder / "text.txt").read_bytes())
    counts = [random.randint(2, 20) for _ in range(2)]
    for count in counts:
        kill(made.folder, "last.npz", count)
    finish(made)
    ours, theirs = made.chosen(), characters.chosen()
    assert ours.keys() == theirs.keys() != set()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=f"{name}, killed after {counts}")
    assert (made.run / "history.csv").read_bytes() == (characters.run / "history.csv").read_bytes()
    strip = [[{**row, "where": Path(row["where"]).name} for row in place.predictions()] for place in (made, characters)]
    assert strip[0] == strip[1]
    assert made.scores() == characters.scores()
    assert list(made.folder.rglob("*.partial")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ["training.clip_norm=0.5"],
        ['model.kind="transformer"', "model.units=8", "model.heads=2", "model.context=9"],
        [
            'text.unit="words"',
            'model.softmax="sampled"',
            "model.head=4",
            "model.samples=5",
            "model.tied=true",
            'model.kind="gru"',
        ],
    ],
)
def test_two_devices_give_the_weights_of_one(tmp_path: Path, two_devices: TwoDevices, settings: list[str]) -> None:
    made = prepare(tmp_path, RECIPE)
    differences = two_devices(made.folder / "small.toml", "training.batch_rows=7", *settings)
    worst = max(differences, key=lambda name: differences[name])
    assert len(differences) > 4 and differences[worst] <= 1e-9, (worst, differences[worst])


# Generate, score, predict


@pytest.mark.parametrize("place", ["run", "export"])
def test_generate(characters: Made, call: Call, loaded: Callable[[Any], inference.Loaded], tmp_path: Path, place: str) -> None:
    model, path = str(getattr(characters, place)), tmp_path / "prompts.txt"
    path.write_text("the cat\n\nthe dog sees\n")
    prompts = ["the cat", "", "the dog sees"]
    written = loaded(Path(model))("generate", [(prompt, 40, 0.8, 5, 0.95, 9) for prompt in prompts])["text"]
    expected = [text.decode() for text in written]
    options = ["--max-tokens", "40", "--temperature", "0.8", "--top-k", "5", "--top-p", "0.95", "--seed", "9"]
    outcome = call("generate", model, str(path), *options)
    whole = [prompt + text for prompt, text in zip(prompts, expected, strict=True)]
    assert (outcome.code, outcome.out, outcome.err) == (0, "".join(f"{text}\n" for text in whole), "")
    assert call("generate", model, *options, given=path.read_bytes()) == outcome
    assert call("generate", model, "--prompt", "the cat", *options).out == f"{whole[0]}\n"
    rows = call("generate", model, str(path), "--format", "jsonl", *options).out.splitlines()
    assert [json.loads(row) for row in rows] == [{"prompt": p, "text": t} for p, t in zip(prompts, expected, strict=True)]
    stop = expected[0][17:19]
    short = call("generate", model, "--prompt", "the cat", "--stop", stop, *options).out
    assert short == f"the cat{expected[0].partition(stop)[0]}\n"
    assert call("generate", model, "--prompt", "the cat", *options[:-1], "10").out != f"{whole[0]}\n"


def test_a_table_of_written_texts_has_one_row_each(characters: Made, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("the cat\nthe dog sees\n")
    outcome = call("generate", str(characters.run), str(path), "--format", "tsv", "--max-tokens", "120")
    rows = [row.split("\t") for row in outcome.out.split("\n")[:-1]]
    assert [len(row) for row in rows] == [2, 2] and [row[0] for row in rows] == ["the cat", "the dog sees"]


@pytest.mark.parametrize("kind", ["characters", "counted"])
def test_score_and_predict(
    request: pytest.FixtureRequest, call: Call, loaded: Callable[[Any], inference.Loaded], tmp_path: Path, kind: str
) -> None:
    made, path = request.getfixturevalue(kind), tmp_path / "lines.txt"
    lines = ["the cat sees the dog — 3.", "", "the zebra", "tab\there"]
    path.write_text("".join(f"{line}\n" for line in lines))
    model, answers = str(made.export), loaded(made.export)("score", [(f"{line}\n",) for line in lines])
    expected = [
        {"text": line, "log_probability": float(total), "tokens": int(count), "perplexity": math.exp(-float(total) / int(count))}
        for line, total, count in zip(lines, answers["log_probability"], answers["length"], strict=True)
    ]
    assert expected[1]["tokens"] == 1, "of an empty line its end"
    rows = [json.loads(row) for row in call("score", model, str(path), "--format", "jsonl").out.splitlines()]
    for row, wanted in zip(rows, expected, strict=True):
        assert row["text"] == wanted["text"] and row["tokens"] == wanted["tokens"]
        assert row["log_probability"] == pytest.approx(wanted["log_probability"], abs=1e-4)
        assert row["perplexity"] == pytest.approx(wanted["perplexity"], rel=1e-4)
    text = call("score", model, str(path)).out.splitlines()
    assert text == [f"{row['log_probability']:.4f}\t{row['perplexity']:.4f}\t{row['tokens']}" for row in rows]
    table = call("score", model, given=path.read_bytes()).out.splitlines()
    assert table == text
    cells = [row.split("\t") for row in call("score", model, str(path), "--format", "tsv").out.splitlines()]
    assert [row[0] for row in cells] == [line.replace("\t", " ") for line in lines] and {len(row) for row in cells} == {4}
    rows = [json.loads(row) for row in call("predict", model, str(path), "--format", "jsonl").out.splitlines()]
    answers = loaded(made.export)("serving_default", [(line,) for line in lines])
    for row, line, tokens, probabilities in zip(rows, lines, answers["tokens"], answers["probabilities"], strict=True):
        assert row["text"] == line and list(row["next"]) == [token.decode() for token in tokens]
        assert list(row["next"].values()) == pytest.approx(probabilities.tolist(), abs=1e-5)
    assert len(call("predict", model, str(path)).out.splitlines()) == len(lines)


@pytest.mark.slow
def test_by_a_real_process(characters: Made) -> None:
    done = command(characters.folder, "generate", "runs/small", "--prompt", "the ", "--max-tokens", "5", "--temperature", "0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"the ") and len(done.stdout.decode()) == len("the ") + 5 + 1


# What is refused

OPTIONS = [
    (["--temperature", "-1"], "'--temperature': -1.0 is not in the range 0"),
    (["--temperature", "nan"], "'--temperature': nan is not a number"),
    (["--top-p", "0"], "'--top-p': 0.0 is not in the range 0"),
    (["--top-p", "1.5"], "'--top-p': 1.5 is not in the range 0"),
    (["--top-k", "0"], "'--top-k': 0 is not in the range x>=1"),
    (["--max-tokens", "0"], "'--max-tokens': 0 is not in the range 1"),
    (["--seed", "-1"], "'--seed': -1 is not in the range 0"),
    (["--max-tokens", "many"], "'--max-tokens': 'many' is not a valid integer"),
    (["--tokenized"], "this model cannot generate texts that come in tokens"),
    (["--format", "conllu"], "this model has no --format conllu"),
    (["--prompt", "THE ß"], "--prompt: the training text never had: T H E ß"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_options_that_make_no_sense(characters: Made, call: Call, options: list[str], message: str) -> None:
    given = [] if "--prompt" in options else ["--prompt", "the"]
    outcome = call("generate", str(characters.export), *given, *options)
    assert (outcome.code, outcome.out) == (2, "") and message in outcome.err and "Traceback" not in outcome.err


def test_a_prompt_and_a_file_are_one_too_many(characters: Made, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("the\n")
    outcome = call("generate", str(characters.export), str(path), "--prompt", "the")
    assert (outcome.code, outcome.out) == (2, "") and f"error: --prompt and the file {path}\n" in outcome.err


def test_a_model_of_words_tells_what_it_does_not_know(counted: Made, call: Call) -> None:
    outcome = call("generate", str(counted.export), "--prompt", "the zebra sees", "--max-tokens", "3")
    assert outcome.code == 0 and outcome.out.startswith("the zebra sees ")
    assert outcome.err == "read as <unk>, as the training text never had it: zebra\n"


@pytest.mark.slow
def test_a_model_of_another_task_cannot_write(finished: Any, call: Call) -> None:
    outcome = call("generate", str(finished.export), "--prompt", "x")
    assert (outcome.code, outcome.out) == (2, "") and "this model cannot generate" in outcome.err


def write(folder: Path, name: str) -> list[str]:
    """The settings of a recipe whose data is wrong in one way."""
    text = made_up(0, 40)
    files: dict[str, bytes] = {"good.txt": text.encode()}
    settings: dict[str, str] = {"train": "good.txt"}
    if name == "empty":
        files["bad.txt"], settings["train"] = b"", "bad.txt"
    elif name == "short":
        files["bad.txt"], settings["train"] = b"abc\n", "bad.txt"
        settings |= {"validation": "good.txt", "test": "good.txt"}
    elif name == "blank test":
        files["bad.txt"], settings["test"] = b"", "bad.txt"
    elif name == "blank test of a counted model":
        files["bad.txt"], settings["test"], settings["model.kind"] = b"", "bad.txt", "ngram"
    elif name == "blank validation of a counted model":
        files["bad.txt"], settings["validation"], settings["model.kind"] = b"", "bad.txt", "ngram"
    elif name == "binary":
        files["bad.txt"], settings["train"] = text.replace(" ", "\0").encode(), "bad.txt"
    elif name == "no UTF-8":
        lines = "".join(f"un {chr(0xE0 + number % 20)}ta ici\n" for number in range(200))  # each split has a message of its own
        files["bad.txt"], settings["train"] = lines.encode("latin-1"), "bad.txt"
    elif name == "missing":
        settings["train"] = "nowhere.txt"
    elif name == "missing test":
        settings["test"] = "nowhere.txt[90%:]"
    elif name == "part":
        settings["train"] = "good.txt[90%:10%]"
    elif name == "part in lines":
        settings["train"] = "good.txt[:100]"
    elif name == "part over 100 %":
        settings["test"] = "good.txt[50%:120%]"
    elif name == "folder":
        (folder / "notes").mkdir()
        files["notes/a.md"], settings["train"] = text.encode(), "notes"
    elif name == "heads":
        settings["model.kind"], settings["model.units"], settings["model.heads"] = "transformer", "10", "4"
    elif name == "cutoffs":
        settings["model.softmax"], settings["model.cutoffs"] = "adaptive", "[10, 5]"
    for path, content in files.items():
        (folder / path).write_bytes(content)
    keyed = {key if "." in key else f"data.{key}": value for key, value in settings.items()}
    return [argument for key, value in keyed.items() for argument in ("--set", f"{key}={value}")]


REFUSED = [
    ("empty", "the training data has no rows"),
    ("short", "the training text has 4 characters, less than one window of 8"),
    ("blank test", "no rows for test"),
    ("blank test of a counted model", "no rows for test"),
    ("blank validation of a counted model", "no rows for validation"),
    ("binary", "a NUL byte; is this a binary file?"),
    ("no UTF-8", "invalid UTF-8 (e0 74 61 20); is this a binary file?"),
    ("missing", "no file {folder}/nowhere.txt"),
    ("missing test", "no file {folder}/nowhere.txt"),
    ("part", "'good.txt[90%:10%]': not a part of a text"),
    ("part in lines", "'good.txt[:100]': not a part of a text"),
    ("part over 100 %", "'good.txt[50%:120%]': not a part of a text"),
    ("folder", "{folder}/notes: no file matches data.pattern = '**/*.txt'"),
    ("heads", "model.units = 10 with model.heads = 4"),
    ("cutoffs", "model.cutoffs = [10, 5]"),
]


@pytest.mark.parametrize(("name", "message"), REFUSED)
def test_data_that_cannot_be_trained_on(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    """One clear message, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE.format(folder=tmp_path))
    settings = write(tmp_path, name)
    before = sorted(tmp_path.rglob("*"))
    outcome = call("run", "small.toml", "--strategy", "cpu", *settings)
    assert outcome.code == 2 and "Traceback" not in outcome.err, outcome.err
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message.format(folder=tmp_path) in errors[0]
    assert "\nhint: " in outcome.err
    assert sorted(tmp_path.rglob("*")) == before


# Check


def test_check_finds_nothing_wrong_with_a_text(characters: Made, call: Call, tmp_path: Path) -> None:
    """Pieces of a text repeat themselves by nature; so do the verses of a song."""
    text = made_up(0, 60) + ("refrain refrain\n" * 300) + made_up(1, 60)
    (tmp_path / "text.txt").write_text(text)
    (tmp_path / "small.toml").write_text(RECIPE.format(folder=tmp_path))
    outcome = call("check", str(tmp_path / "small.toml"), "--json")
    assert outcome.code == 0, outcome.err
    content = json.loads(outcome.out)
    assert content["findings"] == [] and content["copies"] == []
    tokens = {name: split["fields"]["tokens"]["tokens"] for name, split in content["splits"].items()}
    assert sum(tokens.values()) == len(text)


def test_check_tells_lines_of_the_test_text_that_train_has(call: Call, tmp_path: Path) -> None:
    long = [f"this is the sentence number {number} of a document that was copied\n" for number in range(30)]
    (tmp_path / "train.txt").write_text(made_up(0, 60) + "".join(long[:20]))
    (tmp_path / "test.txt").write_text(made_up(1, 60) + "".join(long[15:]))
    (tmp_path / "validation.txt").write_text(made_up(1, 9) + long[15])
    (tmp_path / "small.toml").write_text(RECIPE.format(folder=tmp_path))
    settings = [f"data.{split}={split}.txt" for split in ("train", "validation", "test")]
    outcome = call("check", str(tmp_path / "small.toml"), "--json", *(part for one in settings for part in ("--set", one)))
    found = {finding["split"]: finding for finding in json.loads(outcome.out)["findings"]}
    assert outcome.code == 0 and found.keys() == {"validation", "test"}
    assert found["test"]["message"] == "5 of 15 lines of at least 40 characters stand in train as well"
    assert (
        found["test"]["places"]
        == [f"{tmp_path}/test.txt:{number}" for number in (61, 62, 63, 64, 65)][: len(found["test"]["places"])]
    )
    assert found["validation"]["message"] == "1 of 1 lines of at least 40 characters stand in train as well"
    assert found["validation"]["places"] == [f"{tmp_path}/validation.txt:10"]


def test_check_of_the_sample_is_clean(call: Call) -> None:
    outcome = call("check", "language_modeling/sample", "--json")
    assert outcome.code == 0, outcome.err
    assert [finding for finding in json.loads(outcome.out)["findings"] if finding["level"] != "note"] == []


@pytest.mark.slow
def test_who_reads_further_is_better(tmp_path: Path) -> None:
    """The lecture's order, by the recipes themselves: what the samples' page says of them."""
    names = ("sample_ngram", "sample_feedforward", "sample_rnn", "sample")
    found = {}
    for name in names:
        done = command(tmp_path, "run", f"language_modeling/{name}", "--strategy", "cpu")
        assert done.returncode == 0, done.stderr
        found[name] = json.loads((tmp_path / "runs" / f"language_modeling-{name}" / "scores.json").read_text())
    perplexities = [found[name]["intervals"]["perplexity"] for name in names]
    for (worse, _), (_, better) in itertools.pairwise(perplexities):
        assert better < worse, "each interval lies below the one before"
    far = {name: content["figures"]["by_distance_agreement"]["scores"][-1] for name, content in found.items()}
    assert far["sample_ngram"] == far["sample_feedforward"] == 0.5, "they do not see so far"
    assert far["sample"] > 0.6
