"""Stories: facts are read as lines or sentences, gates learn which of them matter, and padding and neighbours change nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import export, inference
from nlp_tasks.data.rows import Where
from nlp_tasks.errors import LineError
from nlp_tasks.tasks import question_answering_stories_verbs
from nlp_tasks.tasks.question_answering_stories import Asked, QuestionAnsweringStories
from nlp_tasks.training import build

ROWS = [
    ("Mary went home.\nJohn went to the office.", "Where is Mary?", "home", (0,)),
    ("John took the milk.\nMary sleeps.\nJohn went home.", "Where is the milk?", "home", (0, 2)),
    ("Mary went to the office.", "Where is Mary?", "office", (0,)),
    ("It rains.", "Who sleeps?", "nobody", ()),
]


def examples() -> list[Asked]:
    return [
        Asked((story, question), answer, Where("a", n), facts, f"s{n}", f"qa{1 + n % 2}")
        for n, (story, question, answer, facts) in enumerate(ROWS)
    ]


class Reader:
    def __init__(self, folder: Path) -> None:
        content = {
            "task": {"name": "question_answering_stories"},
            "data": {"train": "a.txt"},
            "model": {"embedding": 6, "units": 8, "longest": 5, "episodes": 2},
            "training": {"precision": "float64"},
        }
        self.task = QuestionAnsweringStories(msgspec.convert(content, QuestionAnsweringStories.recipe_type))
        self.task.prepare(lambda: iter(examples()), folder)
        self.task.load(folder)
        self.model: Any = build(self.task, self.task.recipe.training)
        draw = np.random.default_rng(3)
        for variable in self.model.trainable_variables:
            variable.assign(draw.normal(0, 0.6, variable.shape))
        self.functions = export.functions(self.task, self.model)
        self.loaded = inference.Loaded(self.task, self.functions, export.specs(self.task, self.model))

    def answer(self, stories: list[str], questions: list[str]) -> dict[str, np.ndarray]:
        found = self.functions["serving_default"](tf.constant(stories), tf.constant(questions))
        return {name: value.numpy() for name, value in found.items()}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("resources"))


@pytest.fixture(autouse=True)
def float32_again() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def test_facts_are_lines_or_sentences(reader: Reader) -> None:
    apart = reader.answer(["Mary went home.\nJohn sleeps."], ["Where is Mary?"])
    for story in ("Mary went home. John sleeps.", "\nMary went home.\n\nJohn sleeps.\n", "Mary went home.  John sleeps. "):
        found = reader.answer([story], ["Where is Mary?"])
        np.testing.assert_allclose(found["gates"], apart["gates"], rtol=1e-6)
        assert found["lengths"].tolist() == [2] and found["answers"].tolist() == apart["answers"].tolist()
    assert [fact.strip() for fact in found["facts"][0]] == [b"Mary went home.", b"John sleeps."]
    lines = reader.answer(["Mary went home. John sleeps.\n"], ["Where is Mary?"])
    assert lines["lengths"].tolist() == [1], "lines are facts, whatever stands in them"


def test_neighbours_change_nothing(reader: Reader) -> None:
    stories, questions = ([*column] for column in zip(*(row[:2] for row in ROWS), strict=True))
    together = reader.answer(stories, questions)
    for row in range(len(ROWS)):
        alone = reader.answer(stories[row : row + 1], questions[row : row + 1])
        count = alone["lengths"][0]
        assert alone["answers"][0] == together["answers"][row] and count == together["lengths"][row]
        np.testing.assert_allclose(alone["scores"][0], together["scores"][row], rtol=1e-6)
        np.testing.assert_allclose(alone["gates"][0], together["gates"][row, :, :count], rtol=1e-5)
        np.testing.assert_allclose(together["gates"][row].sum(-1), 1, rtol=1e-5)
        assert not together["gates"][row, :, count:].any()


def test_no_story_or_no_question_has_no_answer(reader: Reader) -> None:
    found = reader.answer(["", "Mary sleeps.", " \n "], ["Who?", "", "Who?"])
    assert found["answers"].tolist() == [b""] * 3 and not found["scores"].any() and not found["gates"].any()
    none = reader.functions["serving_default"](tf.zeros([0], tf.string), tf.zeros([0], tf.string))
    assert none["answers"].shape == (0,)


def test_the_gates_are_told_one_fact_an_episode(reader: Reader) -> None:
    task = reader.task
    fields = task.encode(*(tf.constant(column) for column in zip(*(row[:2] for row in ROWS), strict=True)))
    batch: dict[str, Any] = {"weight": tf.ones([4], tf.float64)}
    for name, value in fields.items():
        batch[name], batch[f"{name}_lengths"] = value.to_tensor(), tf.cast(value.row_lengths(), tf.int32)
    targets = task.targets(examples())
    batch["answer"] = tf.constant(targets["answer"])
    flat, lengths = targets["supporting"]
    batch["supporting"] = tf.RaggedTensor.from_row_lengths(flat, lengths).to_tensor()
    batch["supporting_lengths"] = tf.constant(lengths, tf.int32)
    wanted, known = task._wanted(batch)
    assert wanted[:3].numpy().tolist() == [[0, 0], [0, 2], [0, 0]] and known.numpy().tolist() == [True, True, True, False]
    loss = task.loss(reader.model, batch, (), None)
    logits, gates = (part.numpy() for part in reader.model(batch, None))
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    answers = -logs[np.arange(4), targets["answer"]].sum()
    told = 0.0
    for row in range(3):
        for episode, fact in enumerate(wanted[row].numpy()):
            inside = gates[row, episode, : batch["facts_lengths"][row]]
            told += (np.log(np.exp(inside).sum()) - inside[fact]) / 2
    assert loss.parts["answer_loss"][0].numpy() == pytest.approx(answers, rel=1e-6)
    assert loss.parts["gate_loss"][0].numpy() == pytest.approx(told, rel=1e-6)
    assert loss.parts["gate_loss"][1].numpy() == 3, "rows that name facts"
    assert loss.total.numpy() == pytest.approx(answers + told, rel=1e-6) and loss.weight.numpy() == 4


def test_an_answer_that_training_lacks_is_not_learned_from(reader: Reader) -> None:
    found = reader.task.targets([examples()[0]._replace(target="garden")])
    assert found["answer"].tolist() == [-1]
    many = reader.task.targets([examples()[1]._replace(facts=(0, 1, 2))])["supporting"]
    assert many[0].tolist() == [1, 2] and many[1].tolist() == [2], "of more facts than episodes the last ones"


def test_scores_by_task(reader: Reader) -> None:
    results = reader.task.evaluate(reader.loaded, examples())
    assert [result["gold"] for result in results] == [row[2] for row in ROWS] and len(results[1]["episodes"]) == 2
    found = reader.task.score(results)
    assert found.scores.keys() == {"accuracy", "supporting_recall"}
    assert found.figures["by_task"]["names"] == ["qa1", "qa2"] and sum(found.figures["by_task"]["counts"]) == 4
    untold = reader.task.score([{**result, "supporting": []} for result in results])
    assert untold.scores.keys() == {"accuracy"}, "nobody knows which facts support an answer"
    name, baseline = reader.task.baseline(lambda split: iter(examples()), examples())
    assert name == "logistic regression on words" and baseline.scores["accuracy"] > 0.5


def test_facts_that_are_not_read_to_their_end_are_told(reader: Reader) -> None:
    longest = reader.task.recipe.model.longest
    read, cut = "a " * longest, "a " * (longest + 1)
    asked = examples()[0]
    examiner = reader.task.examiner()
    for split, line, facts in (("train", 3, (read, cut)), ("train", 4, (cut,)), ("test", 5, (cut + "b", read))):
        inputs = "".join(fact + "\n" for fact in facts), "Where?"
        examiner.see(split, asked._replace(inputs=inputs, where=Where("a.txt", line)))
    found = [(finding.split, finding.count, finding.places) for finding in examiner.findings()]
    assert found == [("train", 1, ["a.txt:3"]), ("test", 1, ["a.txt:5"])]


def test_a_list_of_one_fact_is_one_fact(reader: Reader) -> None:
    predict, _ = question_answering_stories_verbs.verbs()
    one = predict.inputs(json.dumps({"story": ["Mr. Smith went home."], "question": "Where?"}), {})
    many = predict.inputs(json.dumps({"story": ["Mr. Smith went home.", "John sleeps."], "question": "Where?"}), {})
    facts = reader.loaded("serving_default", [one, many])["facts"]
    assert facts.tolist() == [[b"Mr. Smith went home.", b""], [b"Mr. Smith went home.", b"John sleeps."]]


def test_verbs(reader: Reader) -> None:
    predict, align = question_answering_stories_verbs.verbs()
    line = json.dumps({"story": ["Mary went home.", "John sleeps."], "question": "Where is Mary?"})
    (answer,) = reader.loaded.answer(predict, [predict.inputs(line, {})])
    assert answer["answer"] in reader.task.answers and np.shape(answer["gates"]) == (2, 2)
    assert predict.text(line, answer, {"scores": True}) == f"{answer['score']:.4f}\t{answer['answer']}"
    (looked,) = reader.loaded.answer(align, [align.inputs(line, {})])
    assert looked["facts"] == ["Mary went home.", "John sleeps."]
    assert len(align.tsv(line, looked).splitlines()) == 2
    figure = align.picture({**align.asked(line, {}), **looked})
    (axes,) = figure.axes
    assert figure.get_supxlabel() == f"Where is Mary? → {looked['answer']}"
    assert [label.get_text() for label in axes.get_yticklabels()] == looked["facts"]
    for broken in ("{", "[]", '{"story": 1, "question": "x"}', "Where?"):
        with pytest.raises(LineError):
            predict.inputs(broken, {})
