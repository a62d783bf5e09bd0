"""Question answering from files to an export that answers, by real processes and by the command line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nlp_tasks import inference, recipe
from nlp_tasks.data import passages
from nlp_tasks.data.rows import Counts
from nlp_tasks.data.toy_world.question_answering import generate
from nlp_tasks.tasks.question_answering import QuestionAnswering
from nlp_tasks.text.vocabulary import read_vocabulary

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Call, Finish, Kill, TwoDevices

RECIPE = """
[task]
name = "question_answering"

[data]
directory = "{folder}"
train = "train.json"
validation = "dev.json"
test = "test.json"

[text]
minimum_count = 1

[model]
kind = "{kind}"
embedding = 8
characters = 6
units = 6
token_dropout = 0.2
{more}

[decoding]
max_answer_tokens = 9

[training]
epochs = 2
batch_tokens = 1500
batch_rows = 16
learning_rate = 0.01
evaluations = 2
patience = 0
average_last = 2
checkpoint_seconds = 0

[export]
compare = 12
"""
MORE = {"attentive": "", "drqa": "depth = 2", "bidaf": "depth = 1"}
PASSAGE = "Anna gave Karl a 🎉 copper ring on Monday. Karl lives in Rome."


def squad(count: int, start: int = 0) -> dict[str, Any]:
    """Of the toy world, in the form of SQuAD 1.1."""
    paragraphs: dict[str, list[dict[str, Any]]] = {}
    rows = [*generate("validation")][start : start + count]
    for question, passage, answers, starts, name, _ in rows:
        given = [{"text": text, "answer_start": place} for text, place in zip(answers, starts, strict=True)]
        paragraphs.setdefault(passage, []).append({"id": name, "question": question, "answers": given})
    return {
        "version": "1.1",
        "data": [{"title": "World", "paragraphs": [{"context": p, "qas": q} for p, q in paragraphs.items()]}],
    }


def prepare(folder: Path, kind: str = "drqa") -> Path:
    folder.mkdir(exist_ok=True)
    for name, start, count in (("train", 0, 120), ("dev", 120, 15), ("test", 135, 15)):
        (folder / f"{name}.json").write_text(json.dumps(squad(count, start)))
    (folder / "small.toml").write_text(RECIPE.format(folder=folder, kind=kind, more=MORE[kind]))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, finish: Finish) -> Path:
    """A small reader, trained, scored and exported by one real process. Treat what it left as read-only."""
    return finish(prepare(tmp_path_factory.mktemp("reading")))


# A run


@pytest.mark.slow
def test_what_a_run_leaves(made: Path) -> None:
    run = made / "runs" / "small"
    content = json.loads((run / "scores.json").read_text())
    assert content["headline"] == "f1" and content["scores"].keys() == {"f1", "exact_match"}
    assert content["baseline"]["name"] == "sliding window" and "f1" in content["baseline"]["difference"]
    rows = [json.loads(row) for row in (run / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 15 and all(row["answer"] in row["text"] for row in rows)
    page, text = (run / "report.html").read_text(), (run / "report.txt").read_text()
    for part in ("question word", "sliding window", "words of the shortest gold answer"):
        assert part in page
    assert "F1 by question word" in text and "nan" not in text
    assert "validation_span_accuracy" in (run / "history.csv").read_text()


@pytest.mark.slow
def test_the_export_answers_like_the_run(made: Path, loaded: Callable[[Any], inference.Loaded]) -> None:
    run, export = loaded(made / "runs" / "small"), loaded(made / "saved_models" / "small")
    assert set(export.functions) == {"serving_default", "n_best"}
    inputs = [
        ("Who?", PASSAGE, 2),
        ("", PASSAGE, 1),
        ("Who?", "", 3),
        ("谁?", "好い天気", 2),
        ("Where does Karl live?", PASSAGE, 4),
    ]
    one, other = run("n_best", inputs), export("n_best", inputs)
    for name, value in one.items():
        if value.dtype == object:
            assert value.tolist() == other[name].tolist()
        else:
            np.testing.assert_allclose(value, other[name], atol=1e-5)


@pytest.mark.slow
def test_ask_by_lines_by_passage_and_by_file(made: Path, call: Call, tmp_path: Path) -> None:
    model = str(made / "saved_models" / "small")
    lines = [json.dumps({"question": "Who gave Karl a ring?", "passage": PASSAGE}), "", '{"question": "", "passage": "x"}']
    plain = call("ask", model, given="\n".join(lines).encode())
    assert (plain.code, plain.err) == (0, "") and plain.out.count("\n") == 3 and plain.out.split("\n")[1:] == ["", "", ""]
    answer = plain.out.split("\n")[0]
    assert answer and answer in PASSAGE
    rows = [json.loads(row) for row in call("predict", model, "--format", "jsonl", given=lines[0].encode()).out.splitlines()]
    assert (
        rows[0]["question"] == "Who gave Karl a ring?"
        and PASSAGE[rows[0]["start"] : rows[0]["end"]] == rows[0]["answer"] == answer
    )
    (tmp_path / "passage.txt").write_text(PASSAGE)
    named = call(
        "ask", model, "--passage", str(tmp_path / "passage.txt"), "--n-best", "3", "--scores", given=b"Who gave Karl a ring?\n"
    )
    assert len(named.out.splitlines()) == 3 and named.out.splitlines()[0].split("\t")[1] == answer
    shown = call("ask", model, "--passage", str(tmp_path / "passage.txt"), "--highlight", given=b"Who gave Karl a ring?\n")
    start, end = rows[0]["start"], rows[0]["end"]
    assert shown.out == f"{PASSAGE[:start]}⟦{answer}⟧{PASSAGE[end:]}\n"
    official = call("ask", model, str(made / "test.json"), "--format", "squad")
    found = json.loads(official.out)
    rows = [json.loads(row) for row in (made / "runs" / "small" / "predictions.jsonl").read_text().splitlines()]
    assert found == {row["id"]: row["answer"] for row in rows}
    content = json.loads((made / "test.json").read_text())
    content["data"].append(content["data"][0])
    (tmp_path / "twice.json").write_text(json.dumps(content))
    twice = call("ask", model, str(tmp_path / "twice.json"), "--format", "squad")
    assert twice.out == official.out and f"{len(rows)} left out (duplicate id)" in twice.err
    (tmp_path / "none.json").write_text('{"data": []}')
    assert json.loads(call("ask", model, str(tmp_path / "none.json"), "--format", "squad").out) == {}


# What is refused


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"{\n", "standard input:1: broken JSON"),
        (b'{"question": "Who?", "passage": "Anna."}\n{"question": "Who?"}\n', "standard input:2: no question and passage"),
    ],
)
def test_lines_that_are_refused(made: Path, call: Call, given: bytes, message: str) -> None:
    done = call("ask", str(made / "saved_models" / "small"), given=given)
    assert done.code == 2 and message in done.err and "hint: write" in done.err and not done.out


@pytest.mark.slow
def test_what_a_model_is_not_asked(made: Path, call: Call, tmp_path: Path) -> None:
    model = str(made / "saved_models" / "small")
    (tmp_path / "broken.json").write_text('{"data": [')
    (tmp_path / "latin.txt").write_bytes("Zoë".encode("latin-1"))
    second = json.loads((made / "test.json").read_text())
    second["data"][0]["paragraphs"][0]["qas"][0].update(answers=[], is_impossible=True)
    (tmp_path / "second.json").write_text(json.dumps(second))
    no_line = call("ask", model, "--passage", "nowhere.txt", given=b"")
    assert no_line.code == 2 and "cannot read the passage nowhere.txt" in no_line.err
    for arguments, message in (
        (("ask", model, "--passage", "nowhere.txt"), "cannot read the passage nowhere.txt"),
        (("ask", model, "--passage", str(tmp_path / "latin.txt")), "latin.txt: invalid UTF-8 at byte 2"),
        (("ask", model, str(tmp_path / "second.json"), "--format", "squad"), "questions have no answer (SQuAD 2.0)"),
        (("ask", model, "--beam", "3"), "takes no --beam"),
        (("ask", model, "--highlight", "--n-best", "2"), "--highlight and --n-best"),
        (("ask", model, "--highlight", "--format", "jsonl"), "--highlight and --format jsonl"),
        (("ask", model, str(tmp_path / "broken.json"), "--format", "squad"), "broken.json:1: broken JSON at column"),
        (("ask", model, str(made / "test.json")), "add --format squad"),
        (("ask", model, str(made / "test.json"), "--format", "squad", "--n-best", "2"), "--format squad takes no --n-best"),
        (("translate", model, "--n-best", "0"), "--n-best"),
    ):
        done = call(*arguments, given=b"Who?\n")
        assert done.code == 2 and message in done.err and not done.out, (arguments, done)


def changed(folder: Path, **question: Any) -> Path:
    content = squad(12)
    content["data"][0]["paragraphs"][1]["qas"][0].update(question)
    (folder / "train.json").write_text(json.dumps(content))
    return folder


def test_data_that_is_refused(tmp_path: Path, call: Call) -> None:
    folder = prepare(tmp_path / "data")
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: (folder / "train.json").write_text('{"data": [\n{]}'), "train.json:2: broken JSON at column 2"),
        (lambda: changed(folder, answers=[], is_impossible=True), "1 of 12 questions have no answer (SQuAD 2.0)"),
        (lambda: (folder / "train.json").unlink(), "no file"),
    ]
    for break_it, message in cases:
        break_it()
        done = call("run", str(folder / "small.toml"), "--run-dir", str(tmp_path / "runs"), "--export-dir", str(tmp_path / "out"))
        assert done.code == 2 and message in done.err, done.err
        assert not list(tmp_path.glob("runs/*")) and not (tmp_path / "out").exists()


def test_what_a_look_at_the_data_tells(tmp_path: Path, call: Call) -> None:
    folder = prepare(tmp_path / "data")
    content = squad(12)
    first, second = (paragraph["qas"] for paragraph in content["data"][0]["paragraphs"][:2])
    first[0]["answers"][0]["answer_start"] += 1
    first[1]["id"] = first[0]["id"]
    second[0]["answers"] = [{"text": "nowhere at all", "answer_start": 0}]
    second[1]["question"] = " "
    (folder / "train.json").write_text(json.dumps(content))
    done = call("check", str(folder / "small.toml"), "--json")
    assert done.code == 0, done.err
    told = [finding["message"] for finding in json.loads(done.out)["findings"] if finding["split"] == "train"]
    for message in (
        f"{passages.MOVED}: 1",
        f"{passages.LOST}: 1",
        "1 left out: duplicate id",
        "1 left out: no answer that stands in its passage",
        "1 left out: an empty question or passage",
    ):
        assert message in told, told
    task = QuestionAnswering(recipe.load(str(folder / "small.toml"), lambda name: QuestionAnswering.recipe_type, []))
    splits = task.splits(task.recipe, None)
    task.prepare(lambda: task.fit(task.read(splits.rows("train"), Counts()), Counts()), tmp_path)
    described = json.loads(done.out)["splits"]["train"]
    assert described["vocabularies"]["question and passage"]["kept"] == len([*read_vocabulary(tmp_path / "vocabulary.tsv")])
    assert described["fields"]["question"]["unknown"] == described["fields"]["passage"]["unknown"] == 0


# Killed, and on two devices


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["attentive", "drqa", "bidaf"])
def test_a_killed_run_is_the_undisturbed_one(tmp_path: Path, finish: Finish, kill: Kill, kind: str) -> None:
    whole, killed = finish(prepare(tmp_path / "whole", kind)), prepare(tmp_path / "killed", kind)
    for _ in range(2):
        kill(killed, "last.npz", random.randint(1, 8))
    finish(killed)
    one, other = (np.load(folder / "runs/small/checkpoints/chosen.npz") for folder in (whole, killed))
    assert set(one.files) == set(other.files)
    for name in set(one.files) - {"position"}:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["attentive", "drqa", "bidaf"])
def test_two_devices_give_the_weights_of_one(tmp_path: Path, two_devices: TwoDevices, kind: str) -> None:
    differences = two_devices(prepare(tmp_path / "data", kind) / "small.toml", "training.clip_norm=0.5", "training.batch_rows=7")
    worst = max(differences, key=lambda name: differences[name])
    assert len(differences) > 5 and differences[worst] <= 1e-9, (worst, differences[worst])
