"""Question answering: answers are cut out of the passage's own bytes, scored as the official script does, and depend on nothing beside."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_tasks import export, inference, layers
from nlp_tasks.data import passages
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.errors import LineError, UserError
from nlp_tasks.tasks import question_answering_baselines, question_answering_verbs
from nlp_tasks.tasks import question_answering_scores as scoring
from nlp_tasks.tasks.question_answering import Question, QuestionAnswering
from nlp_tasks.training import build

PASSAGE = "Anna was born in Rome. Her brother Karl lives in an old house near the Tiber, and 🎉 parties there."
ROWS = [
    ("Where was Anna born?", PASSAGE, ("Rome", "in Rome"), (17, 14)),
    ("Who lives in an old house?", PASSAGE, ("Karl", "brother Karl"), (35, 27)),
    ("What is it?", "It is a\u0301 cafe\u0301 好い天気 x.", ("cafe\u0301",), (9,)),
    ("Where is the ar?", "The market is far.", ("ar",), (5,)),  # not where tokens begin and end
]
KINDS: dict[str, dict[str, Any]] = {
    "attentive": {"kind": "attentive", "characters": 0, "overlap": False},
    "drqa": {"kind": "drqa", "depth": 2, "pairs": 50, "token_dropout": 0.3},
    "bidaf": {"kind": "bidaf", "depth": 1},
}


def open_task(folder: Path, **sections: Any) -> QuestionAnswering:
    content = {
        "task": {"name": "question_answering"},
        "data": {"train": "a.json", **sections.get("data", {})},
        "text": {"minimum_count": 1},
        "model": {"embedding": 6, "characters": 4, "units": 5, **sections.get("model", {})},
        "decoding": {"max_answer_tokens": 4},
        "training": {"precision": "float64"},
    }
    task = QuestionAnswering(msgspec.convert(content, QuestionAnswering.recipe_type))
    folder.mkdir(exist_ok=True)
    task.prepare(lambda: iter(examples()), folder)
    task.load(folder)
    return task


def examples() -> list[Question]:
    return [
        Question((q, p), answers, Where("a.json", n), starts, f"q{n}", "T_1") for n, (q, p, answers, starts) in enumerate(ROWS)
    ]


class Reader:
    """A task, its model with weights at random, and its graphs."""

    def __init__(self, task: QuestionAnswering) -> None:
        self.task = task
        self.model: Any = build(task, task.recipe.training)
        draw = np.random.default_rng(3)
        for variable in self.model.trainable_variables:
            variable.assign(draw.normal(0, 0.7, variable.shape))
        self.functions = export.functions(task, self.model)
        self.loaded = inference.Loaded(task, self.functions, export.specs(task, self.model))

    def answer(self, signature: str, *inputs: Any) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.functions[signature](*map(tf.constant, inputs)).items()}


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Reader]:
    @functools.cache
    def made(kind: str) -> Reader:
        return Reader(open_task(tmp_path_factory.mktemp("resources"), model=KINDS[kind]))

    return made


@pytest.fixture(params=["drqa", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("attentive", "bidaf"))])
def each(request: pytest.FixtureRequest, readers: Callable[[str], Reader]) -> Reader:
    return readers(request.param)


@pytest.fixture(autouse=True)
def float32_again() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


# Answers


def test_answers_are_cut_out_of_the_passage(each: Reader) -> None:
    questions, passages = zip(*(row[:2] for row in ROWS), strict=True)
    found = each.answer("n_best", questions, passages, np.int32([3, 1, 2, 3]))
    for row, (passage, length) in enumerate(zip(passages, found["lengths"], strict=True)):
        assert length > 0
        for index in range(length):
            text = found["answers"][row, index].decode()
            start, end = found["starts"][row, index], found["ends"][row, index]
            assert (
                text
                == passage[start:end]
                == passage.encode()[found["byte_starts"][row, index] : found["byte_ends"][row, index]].decode()
            )
            assert 0 < found["scores"][row, index] <= 1
        assert len({*found["answers"][row, :length]}) == length, "different texts"
        assert not found["scores"][row, length:].any() and not found["starts"][row, length:].any()
        assert list(found["scores"][row, :length]) == sorted(found["scores"][row, :length], reverse=True)
    best = each.answer("serving_default", questions, passages)
    for name, value in best.items():
        if name == "scores":
            np.testing.assert_allclose(value, found[name][:, 0], rtol=1e-6)
        else:
            np.testing.assert_array_equal(value, found[name][:, 0])


PARTS = st.sampled_from(
    ["Rome", " ", "🎉", "👩‍👩‍👧", "e\u0301", "好い", "né", ".", "\n", "\t", "ß", "\u200b", "ar", "'", "🇩🇪", "\u00a0", "กา"]
)


@settings(max_examples=40, deadline=None)
@given(passage=st.lists(PARTS, max_size=30).map("".join), question=st.lists(PARTS, max_size=5).map("".join))
def test_any_answer_is_an_exact_part_of_any_passage(readers: Callable[[str], Reader], passage: str, question: str) -> None:
    found = readers("drqa").answer("n_best", [question], [passage], np.int32([4]))
    for index in range(found["lengths"][0]):
        text = found["answers"][0, index].decode()
        assert text and text == passage[found["starts"][0, index] : found["ends"][0, index]]
        assert found["answers"][0, index] == passage.encode()[found["byte_starts"][0, index] : found["byte_ends"][0, index]]


def test_no_question_or_no_passage_has_no_answer(each: Reader) -> None:
    found = each.answer("serving_default", ["", "Where?", " \t", "Where?"], [PASSAGE, "", PASSAGE, "Rome"])
    assert found["answers"].tolist() == [b"", b"", b"", b"Rome"]
    assert found["scores"][:3].tolist() == [0, 0, 0] and found["scores"][3] == pytest.approx(1)
    assert not any(found[name][:3].any() for name in ("starts", "ends", "byte_starts", "byte_ends"))
    assert each.answer("serving_default", np.array([], object), np.array([], object))["answers"].shape == (0,)


def test_neighbours_change_nothing(each: Reader) -> None:
    questions, passages = zip(*(row[:2] for row in ROWS), strict=True)
    together = each.answer("n_best", questions, passages, np.int32([1, 3, 2, 1]))
    for row, count in enumerate([1, 3, 2, 1]):
        alone = each.answer("n_best", questions[row : row + 1], passages[row : row + 1], np.int32([count]))
        length = alone["lengths"][0]
        assert length == together["lengths"][row]
        np.testing.assert_array_equal(alone["answers"][0, :length], together["answers"][row, :length])
        np.testing.assert_allclose(alone["scores"][0, :length], together["scores"][row, :length], rtol=1e-5)


def test_neighbours_that_want_more_change_nothing(readers: Callable[[str], Reader]) -> None:
    """Many of the best spans of this passage are the same text, so that it matters how many are looked at."""
    reader, passage = readers("drqa"), "the old cat sees Rome . " * 60
    alone, asked = reader.answer("n_best", ["Where?"], [passage], np.int32([2])), ["Where?"] * 2
    beside = reader.answer("n_best", asked, [passage] * 2, np.int32([2, 2**31 - 1]))
    assert beside["answers"].shape[1] <= 100 and beside["lengths"][1] > 2
    for name, value in alone.items():
        np.testing.assert_array_equal(value[0], beside[name][0, : value.shape[1]] if value.ndim > 1 else beside[name][0])
    none = reader.answer("n_best", asked, [passage] * 2, np.int32([0, -5]))
    assert none["lengths"].tolist() == [0, 0] and set(none["answers"].ravel()) == {b""}


def test_a_passage_of_thousands_of_words(readers: Callable[[str], Reader]) -> None:
    passage = "the old cat sees Rome . " * 900
    found = readers("drqa").answer("serving_default", ["Where is the cat?"], [passage])
    assert found["answers"][0].decode() == passage[found["starts"][0] : found["ends"][0]] != ""


# Data


def test_rows_become_questions() -> None:
    task = QuestionAnswering(
        msgspec.convert({"task": {"name": "question_answering"}, "data": {"train": "a"}}, QuestionAnswering.recipe_type)
    )
    counts = Counts()
    fields = {
        "question": "Who?",
        "passage": "Anna and Karl.",
        "answers": ("Karl", "Anna", "Eva"),
        "starts": (9, 3, 0),
        "id": "q",
        "title": "",
    }
    (question,) = task.read([Row(fields, Where("a.json", 1))], counts)
    assert question.starts == (9, 0, -1) and question.inputs == ("Who?", "Anna and Karl.")
    assert {kind: len(places) for kind, places in counts.mended.items()} == {passages.MOVED: 1, passages.LOST: 1}
    assert task.unfit(question) == "" and task.unfit(question._replace(starts=(-1,))) == "no answer that stands in its passage"
    assert task.unfit(question._replace(inputs=(" ", "x"))) == "an empty question or passage"


def test_all_questions_without_an_answer_are_counted() -> None:
    task = QuestionAnswering(
        msgspec.convert({"task": {"name": "question_answering"}, "data": {"train": "a"}}, QuestionAnswering.recipe_type)
    )
    rows = [Row({"id": name, "question": "Who?", "passage": "Anna.", "answers": answers, "starts": (0,) * len(answers), "title": ""},
                Where("squad/v2.0", number)) for number, (name, answers) in
            enumerate((("a", ("Anna",)), ("b", ()), ("c", ("Anna",)), ("d", ())), 1)]  # fmt: skip
    with pytest.raises(UserError, match=r"squad/v2\.0:2: 2 of 4 questions have no answer, first 'b'"):
        list(task.read(rows, Counts()))


def test_targets_are_the_fewest_tokens_that_cover(readers: Callable[[str], Reader]) -> None:
    task = readers("drqa").task
    found = task.targets(examples())
    assert found["starts"][0].tolist() == [4, 3, 8, 7, 3, 1] and found["ends"][0].tolist() == [4, 4, 8, 8, 3, 1]
    assert found["starts"][1].tolist() == [2, 2, 1, 1]


def test_a_look_at_the_data_finds_answers_inside_words_and_copied_passages(readers: Callable[[str], Reader]) -> None:
    examiner = readers("drqa").task.examiner()
    first, *_, cut = examples()
    no_token = first._replace(inputs=("Who?", " "), target=(" ",), starts=(0,))
    four, five = (first._replace(target=(text,), starts=(21,)) for text in (". Her brother Karl", ". Her brother Karl lives"))
    for split, example in (("train", first), ("test", first), ("test", cut), ("test", no_token), ("test", four), ("test", five)):
        examiner.see(split, example)
    found = {finding.kind: finding for finding in examiner.findings()}
    assert found.keys() == {"cut_answers", "copied_passages", "long_answers"}
    assert found["cut_answers"].message.endswith("1 of 6") and found["cut_answers"].places == ["a.json:3"]
    assert found["copied_passages"].count == 1 and found["copied_passages"].places == ["a.json:0"]
    assert found["long_answers"].message == "answers of more than 4 tokens, which are never given: 1 of 6"
    assert found["long_answers"].places == ["a.json:0"] and found["long_answers"].level == "warning"


# Training


def test_the_loss_is_that_of_the_annotators(each: Reader) -> None:
    """Mean over their answers of -log p(start) - log p(end), from the scores of single spans."""
    task = each.task
    fields = task.encode(*(tf.constant(column) for column in zip(*(row[:2] for row in ROWS), strict=True)))
    batch: dict[str, Any] = {"weight": tf.constant([1.0, 1.0, 1.0, 0.0], tf.float64)}
    for name, value in fields.items():
        batch[name], batch[f"{name}_lengths"] = value.to_tensor(), tf.cast(value.row_lengths(), tf.int32)
    for name, (flat, lengths) in task.targets(examples()).items():
        batch[name] = tf.RaggedTensor.from_row_lengths(flat, lengths).to_tensor()
        batch[f"{name}_lengths"] = tf.constant(lengths, tf.int32)
    loss = task.loss(each.model, batch, (), None)
    logits = [part.numpy() for part in each.model(batch, None)]
    expected = 0.0
    for row in range(3):
        length, answers = batch["passage_lengths"][row], batch["starts_lengths"][row]
        logs = [part[row, :length] - np.log(np.exp(part[row, :length]).sum()) for part in logits]
        expected -= np.mean([logs[0][batch["starts"][row, a]] + logs[1][batch["ends"][row, a]] for a in range(answers)])
    assert loss.total.numpy() == pytest.approx(expected, rel=1e-6) and loss.weight.numpy() == 3
    assert 0 <= loss.parts["span_accuracy"][0] <= loss.parts["span_accuracy"][1] == 3


def test_dropped_words_are_unknown_ones(tmp_path: Path) -> None:
    """Where all are dropped, other words change nothing in training; characters and overlap are not looked at here."""
    options = {
        "kind": "drqa",
        "depth": 1,
        "characters": 0,
        "overlap": False,
        "token_dropout": 0.999,
        "embedding_dropout": 0.0,
        "dropout": 0.0,
    }
    reader = Reader(open_task(tmp_path, model=options))
    noise = layers.Noise(tf.constant(1, tf.uint32), tf.constant([0], tf.uint32))

    def starts(question: str, noise: Any) -> np.ndarray:
        batch = {}
        for name, value in reader.task.encode(tf.constant([question]), tf.constant([PASSAGE])).items():
            batch[name], batch[f"{name}_lengths"] = value.to_tensor(), tf.cast(value.row_lengths(), tf.int32)
        return reader.model(batch, noise)[0].numpy()

    assert not np.allclose(starts("Anna was born", None), starts("Karl lives near", None))
    np.testing.assert_array_equal(starts("Anna was born", noise), starts("Karl lives near", noise))


# Scores


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("the Denver Broncos", ["Denver Broncos", "Carolina"], 1, 1.0),
        ("Denver", ["Denver Broncos"], 0, 2 / 3),
        ("Santa Clara, California", ["Levi's Stadium", "in Santa Clara"], 0, 2 * 2 / (3 + 3)),
        ("gold.", ["Gold"], 1, 1.0),
        ("", ["Gold"], 0, 0.0),
        ("The", ["a"], 1, 0.0),  # as in the official script: nothing is left of both
        ("to to be", ["to be to"], 0, 1.0),
    ],
)
def test_scores_are_those_of_the_official_script(answer: str, gold: list[str], exact: int, f1: float) -> None:
    assert scoring.exact_match(answer, gold) == exact and scoring.f1(answer, gold) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("question", "group"),
    [("How many are there?", "how many / much"), ("どのくらいの大きさですか", "how many / much"), ("どのように作られるか", "how"),
     ("どの町ですか", "which"), ("何年に洗礼を受けたか", "when"), ("何世紀の町ですか", "when"), ("何年間続いたか", "how many / much"),
     ("何時間かかるか", "how many / much"), ("何か月ですか", "how many / much"), ("何ですか", "what"), ("In what year did who go?", "what"), ("Tell me", "other")],
)  # fmt: skip
def test_what_a_question_asks_for(question: str, group: str) -> None:
    assert scoring._asked(question) == group


def test_characters_are_counted_where_words_have_no_spaces() -> None:
    assert scoring.f1("手塚", ["手塚治虫"], characters=True) == pytest.approx(2 * 2 / 6) and scoring.f1("手塚", ["手塚治虫"]) == 0


def test_groups_of_scores() -> None:
    rows = [
        ("What is it?", "cat"),
        ("In what year was it?", "1990"),
        ("How many are there?", "two"),
        ("Name it", "cat"),
        ("誰ですか", "彼"),
    ]
    results = [
        {
            "question": question,
            "golds": [gold],
            "answer": gold if number % 2 else "no",
            "title": f"{'A%E2%80%93Z' if number < 3 else 'B'}_{number}",
        }
        for number, (question, gold) in enumerate(rows)
    ]
    found = scoring.reading(results)
    assert found.scores == {"f1": 0.4, "exact_match": 0.4}
    words = found.figures["by_question_word"]
    assert dict(zip(words["names"], words["counts"], strict=True)) == {"what": 2, "how many / much": 1, "other": 1, "who": 1}
    assert dict(zip(found.figures["by_domain"]["names"], found.figures["by_domain"]["counts"], strict=True)) == {"A–Z": 3, "B": 2}


def test_the_sliding_window_takes_what_stands_near_the_questions_words() -> None:
    passage = "The river is deep. Anna was born in a small town near Rome. " + "The mills beside the lake are old and dark. " * 3
    assert question_answering_baselines.sliding_window("Where was Anna born?", passage) == "in a small town near Rome"
    assert question_answering_baselines.sliding_window("Where?", "") == ""
    assert question_answering_baselines.sliding_window("x", "x") == "x"


def test_wrong_answers_are_marked_in_their_text(readers: Callable[[str], Reader]) -> None:
    reader = readers("drqa")
    lost = Question(("Who?", PASSAGE), ("Eva",), Where("a.json", 9), (-1,))
    results = reader.task.evaluate(reader.loaded, [*examples(), lost])
    wrong = [result for result in results if result["gold"] != result["answer"]]
    assert wrong and all(not result["marks"] for result in results if result not in wrong)
    for result in wrong:
        marked = {name: result["text"][start:end] for name, (start, end) in result["marks"].items()}
        named = ("answer",) if result["gold"] == "Eva" else ("gold", "answer")
        assert marked == {name: result[name] for name in named}


# What people ask


def test_lines_of_json_and_lines_about_one_passage(readers: Callable[[str], Reader], tmp_path: Path) -> None:
    reader = readers("drqa")
    verb = inference.find_verb(reader.task, "predict")
    line = json.dumps({"question": "Where was Anna born?", "passage": PASSAGE})
    (tmp_path / "passage.txt").write_text(PASSAGE)
    named = {"passage": str(tmp_path / "passage.txt"), "n_best": 2}
    both = [verb.inputs(line, {"n_best": 2}), verb.inputs("Where was Anna born?", named)]
    one, other = reader.loaded.answer(verb, both)
    assert one == other and len(one["n_best"]) == 2 and one["answer"] == PASSAGE[one["start"] : one["end"]]
    rows = verb.tsv(line, one).split("\n")
    assert [row.split("\t")[1:3] for row in rows] == [[each["answer"], f"{each['score']:.4f}"] for each in one["n_best"]]
    assert verb.text(line, one, {"n_best": 3}) == "\n".join([*(each["answer"] for each in one["n_best"]), ""])
    assert verb.text(line, one, {"n_best": 2, "scores": True}).split("\t")[0] == f"{one['score']:.4f}"
    shown = verb.text(line, one, {"highlight": True})
    assert shown.replace("⟦", "").replace("⟧", "") == PASSAGE and f"⟦{one['answer']}⟧" in shown
    assert rows[0].split("\t")[3:] == [str(one["start"]), str(one["end"])]
    assert verb.asked(line, {}) == {"question": "Where was Anna born?"}
    assert verb.inputs("  ", {}) == ("", "", 1)


@pytest.mark.parametrize("line", ["{", "[]", '{"question": "Who?"}', '{"question": 1, "passage": "x"}', "Who?"])
def test_lines_that_are_no_questions(line: str) -> None:
    (verb,) = question_answering_verbs.verbs()
    with pytest.raises(LineError):
        verb.inputs(line, {})


def test_a_passage_that_is_not_there(tmp_path: Path) -> None:
    (verb,) = question_answering_verbs.verbs()
    with pytest.raises(UserError, match="cannot read the passage"):
        verb.inputs("Who?", {"passage": str(tmp_path / "none.txt")})


# Vectors of a file


@pytest.mark.slow
def test_vectors_are_frozen_or_tuned_or_tuned_later(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("anna 1 2\nrome 3 4\n")
    data = {"directory": str(tmp_path), "vectors": "vectors.txt"}
    for number, (model, delay) in enumerate((({}, None), ({"vectors": "tuned"}, 0), ({"vectors": "tuned", "tuned_after": 7}, 7))):
        task = open_task(tmp_path / str(number), data=data, model=model)
        built: Any = build(task, task.recipe.training)
        place = task.encode(tf.constant(["Anna"]), tf.constant(["Rome"]))
        np.testing.assert_array_equal(built.vectors.table.numpy()[place["question"].values.numpy()], [[1, 2]])
        trained = {variable.path: task.delay(variable.path) for variable in built.trainable_variables}
        found = [value for path, value in trained.items() if path.endswith("/vectors/table")]
        assert found == ([] if delay is None else [delay]) and sum(trained.values()) == (delay or 0)
    with pytest.raises(UserError, match=r'model.tuned_after = 7 has no effect with model.vectors = "frozen"'):
        open_task(tmp_path / "wrong", data=data, model={"tuned_after": 7})
