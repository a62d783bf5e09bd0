"""Sequence tagging: sentences that leave each other alone, three signatures that agree, tags that are well-formed, words seen once."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import export, inference, machine, scores
from nlp_tasks.data import spans
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.data.spans import Span
from nlp_tasks.data.store import Store, write_store
from nlp_tasks.data.toy_world import ner, pos_tagging
from nlp_tasks.errors import UserError
from nlp_tasks.layers import Noise
from nlp_tasks.layers.model import variables_by_name
from nlp_tasks.tasks import tagging_baselines, tagging_meanings
from nlp_tasks.tasks.tagging import Sentence, Tagging
from nlp_tasks.text import ragged
from nlp_tasks.text.vocabulary import UNKNOWN
from nlp_tasks.training import Trainer, build

POS = """
the/DET cat/NOUN sleeps/VERB ./PUNCT
the/DET dog/NOUN sees/VERB the/DET cat/NOUN ./PUNCT
a/DET dog/NOUN sees/VERB a/DET bird/NOUN ./PUNCT
Paris/PROPN sleeps/VERB ./PUNCT
the/DET happy/ADJ bird/NOUN sings/VERB ./PUNCT
"""
"""Words that occur once: Paris, happy, sings."""

NER = """
Anna/B-PER Lee/I-PER sees/O Paris/B-LOC ./O
Anna/B-PER sleeps/O in/O New/B-LOC York/I-LOC City/I-LOC ./O
the/O dog/O sees/O Anna/B-PER Bob/B-PER ./O
the/O dog/O sleeps/O ./O
"""

SMALL: dict[str, Any] = {
    "embedding": 5,
    "units": 4,
    "characters": {"embedding": 3, "filters": 4, "units": 3, "longest": 6, "widths": [2]},
}


def parse(text: str) -> list[tuple[list[str], list[str]]]:
    """Words and tags of each line of word/TAG."""
    pairs = ([item.rpartition("/")[::2] for item in line.split()] for line in text.strip().splitlines())
    return [([word for word, _ in line], [tag for _, tag in line]) for line in pairs]


def rows(sentences: str, scheme: str = "tags", file: str = "train.conll", **also: Callable[[str], str]) -> Iterator[Row]:
    """One word a line, an empty line after each sentence; NER's tags in another scheme if so asked."""
    number = 1
    for words, tags in parse(sentences):
        if scheme == "bioes":
            tags = spans.write_tags(spans.read_tags(tags, "bio")[0], len(tags), scheme)
        further = {name: tuple(map(made_of, words)) for name, made_of in also.items()}
        yield Row(
            {"words": tuple(words), "tags": tuple(tags), **further},
            Where(file, number),
            tuple(range(number, number + len(words))),
        )
        number += len(words) + 1


def make(folder: Path, examples: Sequence[Row], **sections: Any) -> Tagging:
    """A task with its resources in the folder."""
    model = {**SMALL, **sections.pop("model", {})}
    model["characters"] = SMALL["characters"] | model["characters"]
    recipe = msgspec.convert({"task": {"name": "tagging"}, "data": {}, **sections, "model": model}, Tagging.recipe_type)
    task = Tagging(recipe)
    folder.mkdir(exist_ok=True)
    task.prepare(lambda: task.read(iter(examples), Counts()), folder)
    task.load(folder)
    return task


class Tagger:
    """A task, its model, and their graphs, each traced when it is first asked for."""

    def __init__(self, task: Tagging) -> None:
        self.task = task
        self.model: Any = build(task, task.recipe.training)
        self.functions = export.functions(task, self.model)

    def answer(self, signature: str, *inputs: Any) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.functions[signature](*map(tf.constant, inputs)).items()}

    def results(self, examples: Sequence[Sentence]) -> list[dict[str, Any]]:
        def answer(signature: str, inputs: Any) -> dict[str, np.ndarray]:
            return self.answer(signature, ragged.strings([words for (words,) in inputs], 2))

        return self.task.evaluate(answer, examples)

    def loss(self, batch: Mapping[str, tf.Tensor]) -> dict[str, Any]:
        """Sums over the batch, as evaluations have them."""
        found = self._loss(dict(batch))
        parts = {name: np.array([float(value), float(count)]) for name, (value, count) in found.parts.items()}
        return {"total": float(found.total), "weight": float(found.weight), **parts}

    @functools.cached_property
    def _loss(self) -> Any:
        def shape(name: str) -> list[int | None]:
            return {"characters": [None, None, self.task.recipe.model.characters.longest]}.get(name, [None, None])

        ragged_fields = ["words", "tags", *(["characters"] if self.task.recipe.model.characters.network != "none" else [])]
        spec = {name: tf.TensorSpec(shape(name), tf.int32) for name in ragged_fields}
        spec |= {f"{name}_lengths": tf.TensorSpec([None], tf.int32) for name in ragged_fields}
        spec |= {"weight": tf.TensorSpec([None], tf.float32), "row": tf.TensorSpec([None], tf.int32)}
        return tf.function(lambda batch: self.task.loss(self.model, batch, (), None), autograph=False, input_signature=[spec])

    def loaded(self) -> inference.Loaded:
        return inference.Loaded(self.task, self.functions, export.specs(self.task, self.model))

    def scatter(self, seed: int) -> None:
        """Weights at random, large enough for answers of all kinds."""
        draw = np.random.default_rng(seed)
        for variable in self.model.trainable_variables:
            variable.assign(draw.normal(0, 0.7, variable.shape))


def tagger(task: Tagging) -> Tagger:
    made = Tagger(task)
    made.scatter(0)
    return made


def batch(task: Tagging, examples: Sequence[Sentence], folder: Path, *, size: int = 0, wider: int = 0) -> dict[str, tf.Tensor]:
    """As training has it: encoded, stored, padded to the longest row and `wider`, filled up to `size` rows."""
    number = len(list(folder.glob("store*")))
    store = write_store(folder / f"store{number}", [(len(examples), fields(task, examples))])
    made = store.batch(np.arange(len(examples)), size or len(examples), lambda name, longest: longest + wider)
    return {name: tf.constant(value) for name, value in made.items()}


def fields(task: Tagging, examples: Sequence[Sentence]) -> dict[str, Any]:
    encoded: Any = task.encode(ragged.strings([words for ((words,), *_) in examples], 2))
    return {name: (value.values.numpy(), value.row_lengths().numpy()) for name, value in encoded.items()} | {
        **task.targets(examples)
    }


def sentence(text: str) -> Sentence:
    ((words, tags),) = parse(text) or [([], [])]
    return Sentence((tuple(words),), tuple(tags), Where("here", 1))


def noise(batch: Mapping[str, tf.Tensor], seed: int = 1) -> Noise:
    return Noise(tf.constant(seed, tf.uint32), tf.cast(batch["row"], tf.uint32))


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "tags, softmax": ("tags", {}),
    "tags, CRF, GRU, two layers, characters by LSTM": (
        "tags",
        {"output": "crf", "cell": "gru", "depth": 2, "characters": {"network": "lstm"}},
    ),
    "BIO, softmax in BIOES": ("bio", {"characters": {"widths": [2, 3]}}),
    "BIO, CRF in BIO": ("bio", {"output": "crf", "spans": "bio"}),
    "BIOES, CRF in BIOES": ("bioes", {"output": "crf", "spans": "bioes"}),
    "BIOES, softmax in BIO, one direction, no characters": (
        "bioes",
        {"spans": "bio", "bidirectional": False, "cell": "min_gru", "characters": {"network": "none"}},
    ),
}
SPANS = [kind for kind, (scheme, _) in KINDS.items() if scheme != "tags"]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tagger]:
    """A tagger of each kind, in double precision, made once."""

    @functools.cache
    def made(kind: str) -> Tagger:
        scheme, model = KINDS[kind]
        examples = list(rows(POS if scheme == "tags" else NER, scheme))
        sections = {"data": {"scheme": scheme}, "model": {"characters": {}, **model}, "training": {"precision": "float64"}}
        return tagger(make(tmp_path_factory.mktemp("resources"), examples, **sections))

    return made


@pytest.fixture(params=KINDS)
def each(request: pytest.FixtureRequest, kinds: Callable[[str], Tagger]) -> Tagger:
    return kinds(request.param)


def some(task: Tagging, count: int = 7, seed: int = 0, longest: int = 9) -> list[Sentence]:
    """Sentences of any words, known and unknown, with any well-formed tags; the third has no words."""
    draw = np.random.default_rng(seed)
    words = [*sorted(task.forms), "unknown", "Élan", "👍🏽", "extraordinarily"]
    scheme = task.recipe.data.scheme
    made = []
    for number in range(count):
        length = 0 if number == 2 else int(draw.integers(1, longest))
        tags = [str(tag) for tag in draw.choice(task.tags, length)]
        if scheme != "tags":
            found, start = [], 0
            while start < length:
                end = start + int(draw.integers(1, 4))
                if end <= length and draw.random() < 0.6:
                    found.append(Span(str(draw.choice(["PER", "LOC"])), start, end))
                start = end
            tags = spans.write_tags(found, length, task.recipe.model.spans)
        made.append(Sentence((tuple(map(str, draw.choice(words, length))),), tuple(tags), Where("here", number + 1)))
    return made


# Rows that leave each other alone


def test_the_loss_of_a_row_depends_on_nothing_beside_it(each: Tagger, tmp_path: Path) -> None:
    """Padding, longer rows, rows that fill up, an empty sentence: the sums over the batch are those of its rows."""
    examples = some(each.task, 4)
    together = each.loss(batch(each.task, examples, tmp_path))
    assert together["weight"] == sum(len(example.target) for example in examples)
    for size, wider in ((4, 5), (6, 0)):
        other = each.loss(batch(each.task, examples, tmp_path, size=size, wider=wider))
        for name, value in together.items():
            np.testing.assert_allclose(other[name], value, rtol=1e-12, err_msg=name)
    alone = [each.loss(batch(each.task, [example], tmp_path)) for example in examples]
    assert alone[2]["total"] == alone[2]["weight"] == 0
    for name, value in together.items():
        np.testing.assert_allclose(sum(row[name] for row in alone), value, rtol=1e-12, err_msg=name)
    several = batch(each.task, examples, tmp_path)
    for number, row in enumerate(alone):
        masked = each.loss({**several, "weight": tf.one_hot(number, len(examples))})
        for name, value in row.items():
            np.testing.assert_allclose(masked[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


def test_the_answers_of_a_row_depend_on_nothing_beside_it(each: Tagger) -> None:
    inputs = [words for ((words,), *_) in some(each.task, 4)]
    together = each.answer("tokens", ragged.strings(inputs, 2))
    assert together["lengths"].tolist() == [len(words) for words in inputs]
    for number, words in enumerate(inputs):
        alone = each.answer("tokens", ragged.strings([words], 2))
        length = len(words)
        assert alone["tags"][0, :length].tolist() == together["tags"][number, :length].tolist()
        np.testing.assert_allclose(alone["scores"][0, :length], together["scores"][number, :length], rtol=1e-12)
        assert set(together["tags"][number, length:]) <= {b""}
        assert not together["scores"][number, length:].any()


def test_empty_sentences_harm_nothing(each: Tagger, tmp_path: Path) -> None:
    nothing = batch(each.task, [sentence("")] * 3, tmp_path, wider=2)
    found = each.loss(nothing)
    assert found["total"] == found["weight"] == 0
    assert all(not value.any() for name, value in found.items() if name not in ("total", "weight"))
    with tf.GradientTape() as tape:
        total = each.task.loss(each.model, nothing, (), noise(nothing)).total
    gradients = tape.gradient(total, [variable.value for variable in each.model.trainable_variables])
    assert all(not tf.convert_to_tensor(gradient).numpy().any() for gradient in gradients if gradient is not None)
    assert [result["answer"] for result in each.results([sentence("")] * 3)] == [[], [], []]


# Signatures

TEXTS = [
    "the cat sleeps .",
    "",
    "Anna Lee sees New York City .",
    "👍🏽 Zorp 👩‍👩‍👧 !",
    "e\u0301te\u0301 nai\u0308ve don't",
    " \t ",
    "sees",
]
"""Each with white space between all of its tokens."""


@pytest.fixture(scope="module", params=["tags, softmax", "BIO, CRF in BIO"])
def traced(request: pytest.FixtureRequest, kinds: Callable[[str], Tagger]) -> Tagger:
    return kinds(request.param)


def test_words_are_answered_as_their_text(traced: Tagger) -> None:
    by_text, by_words = (
        traced.answer("serving_default", TEXTS),
        traced.answer("tokens", ragged.strings([t.split() for t in TEXTS], 2)),
    )
    lengths = [len(text.split()) for text in TEXTS]
    assert by_text["lengths"].tolist() == by_words["lengths"].tolist() == lengths
    for name in ("tags", "scores"):
        for row, length in enumerate(lengths):
            np.testing.assert_array_equal(by_text[name][row, :length], by_words[name][row, :length])
    tokens = [[token.decode() for token in row[:length]] for row, length in zip(by_text["tokens"], lengths, strict=True)]
    assert tokens == [text.split() for text in TEXTS]
    assert by_text["scores"].dtype == by_words["scores"].dtype and (by_words["scores"] <= 1).all()


def test_flat_words_are_answered_as_rows_of_words(traced: Tagger) -> None:
    sentences = [text.split() for text in TEXTS]
    lengths = [len(words) for words in sentences]
    one = traced.answer("tokens", ragged.strings(sentences, 2))
    other = traced.answer("flat", [word for words in sentences for word in words], np.array(lengths, np.int32))
    inside = np.arange(max(lengths)) < np.array(lengths)[:, None]
    for name in ("tags", "scores"):
        np.testing.assert_array_equal(other[name], one[name][inside])


def test_offsets_point_at_the_tokens(traced: Tagger) -> None:
    texts = [*TEXTS, "Don't,stop:the 👍🏽cat!", "好い天気", "a\u00a0b\u2003c", "\ufeffthe x\u200by"]
    given: list[Any] = [text.encode() for text in texts]
    given += [b"\xff the \xc3", b"cat\xfedog", b"\xed\xa0\x80 sees", b"\xf4\x90\x80\x80"]  # no UTF-8
    answers = traced.loaded().answer(traced.task.verbs[0], [(text,) for text in texts])
    outputs = traced.answer("serving_default", given)
    for row, text in enumerate(given):
        length, characters = outputs["lengths"][row], text.decode("utf-8", "replace")
        tokens = [token.decode() for token in outputs["tokens"][row, :length]]
        places = list(zip(outputs["starts"][row, :length].tolist(), outputs["ends"][row, :length].tolist(), strict=True))
        assert [characters[start:end] for start, end in places] == tokens
        assert "".join(tokens) == "".join(characters.replace("\ufeff", "").replace("\u200b", "").split())
        assert all(traced.task.tags.index(tag.decode()) >= 0 for tag in outputs["tags"][row, :length])
        if row < len(texts):
            assert answers[row]["tokens"] == tokens and answers[row]["offsets"] == [list(place) for place in places]
            assert answers[row]["tags"] == [tag.decode() for tag in outputs["tags"][row, :length]]


def test_a_long_text_beside_a_short_one(traced: Tagger) -> None:
    words = ["the", "cat", "sees", "Anna", "."] * 1000
    outputs = traced.answer("serving_default", [" ".join(words), "the cat"])
    assert outputs["lengths"].tolist() == [5000, 2]
    assert b"" not in outputs["tags"][0]
    np.testing.assert_array_equal(outputs["tags"][1, :2], traced.answer("serving_default", ["the cat"])["tags"][0])
    assert np.isfinite(outputs["scores"]).all()


def test_a_batch_of_nothing(traced: Tagger) -> None:
    shapes = {name: value.shape for name, value in traced.answer("serving_default", np.zeros([0], str)).items()}
    assert {shape[0] for shape in shapes.values()} == {0} and shapes["lengths"] == (0,)
    assert {value.shape[0] for value in traced.answer("tokens", np.zeros([0, 1], str)).values()} == {0}
    assert {value.shape for value in traced.answer("flat", np.zeros([0], str), np.zeros([0], np.int32)).values()} == {(0,)}
    empty = traced.answer("serving_default", ["", " "])
    assert empty["lengths"].tolist() == [0, 0] and set(empty["tags"].ravel()) <= {b""}
    flat = traced.answer("flat", np.zeros([0], str), np.zeros([2], np.int32))
    assert flat["tags"].shape == flat["scores"].shape == (0,)


def test_answers_in_python(traced: Tagger) -> None:
    loaded = traced.loaded()
    (by_text, nothing), (by_words,) = (
        loaded.predict(["Anna sees the cat .", ""]),
        loaded.predict([["Anna", "sees", "the", "cat", "."]]),
    )
    assert loaded.predict([]) == []
    assert nothing.pop("spans", []) == [] and nothing == {"tokens": [], "offsets": [], "tags": [], "scores": []}
    assert by_text.pop("offsets") == [[0, 4], [5, 9], [10, 13], [14, 17], [18, 19]]
    assert by_text == by_words and by_text["tokens"] == ["Anna", "sees", "the", "cat", "."]
    written = [Span(**found) for found in by_text.get("spans", [])]
    if traced.task.recipe.data.scheme != "tags":
        assert written == spans.read_tags(by_text["tags"], "bio")[0]


# Tags that write spans


@pytest.mark.parametrize("kind", SPANS)
def test_answers_are_well_formed_BIO_and_the_loss_counts_their_spans(
    kind: str, kinds: Callable[[str], Tagger], tmp_path: Path
) -> None:
    made, prefixes = kinds(kind), Counter[str]()
    try:
        for seed in range(4):
            made.scatter(seed)
            examples = some(made.task, 12, seed)
            results = made.results(examples)
            for result, example in zip(results, examples, strict=True):
                assert spans.read_tags(result["answer"], "bio")[1] == []
                read = spans.read_tags(example.target, made.task.recipe.model.spans)[0]
                assert spans.read_tags(result["gold"], "bio") == (read, [])
                prefixes.update(tag[0] for tag in result["answer"])
            parts = made.loss(batch(made.task, examples, tmp_path))
            found = made.task.score(results)
            for name in ("span_f1", "accuracy"):
                value, count = parts[name]
                if name == "accuracy" and made.task.recipe.model.spans == "bioes":
                    continue  # the loss counts the finer tags
                assert found.scores[name] == pytest.approx(value / max(count, 1e-30)), name
            assert found.counts["spans"] + found.counts["answered_spans"] == parts["span_f1"][1]
    finally:
        made.scatter(0)
    assert set(prefixes) == set("BIO")


def test_malformed_spans_are_counted_with_their_place_and_mended_as_conlleval_reads(tmp_path: Path) -> None:
    text = "a/I-PER b/I-PER c/O\nd/B-PER e/I-LOC f/I-LOC\ng/B-LOC h/I-LOC"
    for inside, expected in (
        ("bio", [["B-PER", "I-PER", "O"], ["B-PER", "B-LOC", "I-LOC"], ["B-LOC", "I-LOC"]]),
        ("bioes", [["B-PER", "E-PER", "O"], ["S-PER", "B-LOC", "E-LOC"], ["B-LOC", "E-LOC"]]),
    ):
        task, counts = (
            make(tmp_path, list(rows(NER, "bio")), data={"scheme": "bio"}, model={"spans": inside, "characters": {}}),
            Counts(),
        )
        assert [list(s.target) for s in task.read(rows(text, "bio", "dev.conll"), counts)] == expected
        (places,) = counts.mended.values()
        assert places == ["dev.conll:1: I-PER at the beginning", "dev.conll:6: I-LOC after B-PER"]
        assert "2 malformed tag sequences, read as conlleval reads them (dev.conll:1: " in str(counts)


def test_a_tag_of_another_scheme_is_refused_with_its_place(tmp_path: Path) -> None:
    task = make(tmp_path, list(rows(NER, "bio")), data={"scheme": "bio"}, model={"characters": {}})
    with pytest.raises(UserError, match=r"dev.conll:3: 'S-PER' is no tag of bio") as refused:
        list(task.read(rows("a/B-PER b/I-PER c/S-PER", "bio", "dev.conll"), Counts()))
    assert "data.scheme" in refused.value.hint


# Tags that training lacks


@pytest.mark.parametrize("kind", ["tags, softmax", "BIO, softmax in BIOES"])
def test_a_tag_unseen_in_training_costs_nothing(kind: str, kinds: Callable[[str], Tagger], tmp_path: Path) -> None:
    """With each known tag in its place, what is more is that tag's loss: their probabilities add up to one."""
    made = kinds(kind)
    words, length = ("the", "dog", "sleeps"), 3

    def of(tag: str) -> dict[str, Any]:
        tags = (made.task.tags[0], tag, made.task.tags[0])
        return made.loss(batch(made.task, [Sentence((words,), tags, Where("here", 1))], tmp_path))

    unseen = of("B-NEW")
    assert unseen["weight"] == length - 1 and unseen["accuracy"][1] == length
    more = [of(tag)["total"] - unseen["total"] for tag in made.task.tags]
    assert sum(math.exp(-value) for value in more) == pytest.approx(1)
    assert unseen["accuracy"][0] <= min(of(tag)["accuracy"][0] for tag in made.task.tags)


@pytest.mark.parametrize("kind", ["tags, CRF, GRU, two layers, characters by LSTM", "BIO, CRF in BIO"])
def test_a_sentence_with_a_tag_unseen_in_training_costs_a_field_nothing(
    kind: str, kinds: Callable[[str], Tagger], tmp_path: Path
) -> None:
    made = kinds(kind)
    known = some(made.task, 2)
    strange = Sentence((("the", "dog"),), (made.task.tags[-1], "NEW"), Where("here", 1))
    with_it, without = (made.loss(batch(made.task, examples, tmp_path)) for examples in ([*known, strange], known))
    assert with_it["total"] == pytest.approx(without["total"])
    assert with_it["accuracy"][1] == without["accuracy"][1] + 2


def test_gradients_are_finite_where_a_tag_is_unseen(each: Tagger, tmp_path: Path) -> None:
    length = 4
    examples = [
        Sentence((("the", "dog", "sleeps", "."),), tags, Where("here", 1))
        for tags in (("NEW",) * length, (each.task.tags[0], "NEW") * 2)
    ]
    given = batch(each.task, examples, tmp_path)
    variables = [variable.value for variable in each.model.trainable_variables]
    with tf.GradientTape() as tape:
        total = each.task.loss(each.model, given, (), noise(given)).total
    gradients = [tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(total, variables) if gradient is not None]
    assert gradients and all(np.isfinite(gradient).all() for gradient in gradients)


def test_a_tag_unseen_in_training_counts_as_wrong_and_is_told(kinds: Callable[[str], Tagger]) -> None:
    made = kinds("tags, softmax")
    examples = [sentence("the/DET dog/NOUN ./X"), sentence("oh/INTJ oh/INTJ")]
    results = made.results(examples)
    for result, example in zip(results, examples, strict=True):  # as if the model were perfect
        result["answer"] = [tag if tag in made.task.tags else "NOUN" for tag in example.target]
    found = made.task.score(results)
    assert found.scores["accuracy"] == pytest.approx(2 / 5)
    assert found.scores["sentence_accuracy"] == 0
    assert found.counts["words_with_a_tag_never_seen_in_training"] == 3
    assert "tags never seen in training, counted as wrong: X (1), INTJ (2)" in found.text
    clean = made.task.score(made.results([sentence("the/DET dog/NOUN")]))
    assert "words_with_a_tag_never_seen_in_training" not in clean.counts and "never seen" not in clean.text


def test_a_span_of_a_kind_unseen_in_training_counts_as_missed(kinds: Callable[[str], Tagger]) -> None:
    made = kinds("BIO, CRF in BIO")
    example = Sentence((("Anna", "eats", "Corn", "Flakes"),), ("B-PER", "O", "B-FOOD", "I-FOOD"), Where("here", 1))
    (result,) = made.results([example])
    found = made.task.score([{**result, "answer": ["B-PER", "O", "O", "O"]}])
    assert (found.scores["precision"], found.scores["recall"]) == (1, 0.5)
    assert "B-FOOD (1), I-FOOD (1)" in found.text


# Words: known, seen once, in a file of vectors


def plain(folder: Path, **sections: Any) -> Tagger:
    """A tagger that sees nothing of a word but its vector, and leaves nothing out."""
    model = {"characters": {"network": "none"}, "dropout": 0.0, "embedding_dropout": 0.0, **sections.pop("model", {})}
    return tagger(make(folder, list(rows(POS)), model=model, **sections))


def table_of(made: Tagger, layer: str) -> tf.Variable:
    (table,) = (value for name, value in variables_by_name(made.model).items() if name.endswith(f"/{layer}/table"))
    return table


def read_ids(made: Tagger, given: dict[str, tf.Tensor], noise: Noise | None) -> np.ndarray:
    """The rows of the table of vectors that a loss reads, `[batch, time]`: those that its gradient has."""
    table = table_of(made, "embedding")
    with tf.GradientTape() as tape:
        total = made.task.loss(made.model, given, (), noise).total
    return tape.gradient(total, table).indices.numpy().reshape(given["words"].shape)


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    return plain(tmp_path_factory.mktemp("forgetful"), model={"singleton_dropout": 0.5})


def test_a_word_seen_once_is_read_as_unknown_in_training(forgetful: Tagger, tmp_path: Path) -> None:
    made = forgetful
    examples = [sentence("the/DET happy/ADJ Paris/PROPN dog/NOUN")] * 200
    given = batch(made.task, examples, tmp_path)
    ids = given["words"].numpy()
    assert UNKNOWN not in ids
    read = read_ids(made, given, noise(given))
    np.testing.assert_array_equal(read[:, [0, 3]], ids[:, [0, 3]])
    assert ((read == ids) | (read == UNKNOWN)).all()
    assert ((read[:, 1:3] == UNKNOWN).mean(0) > 0.35).all() and ((read[:, 1:3] == UNKNOWN).mean(0) < 0.65).all()
    assert (read_ids(made, given, noise(given, 2)) != read).any()
    np.testing.assert_array_equal(read_ids(made, given, None), ids)


def test_a_word_seen_once_is_known_in_answers(forgetful: Tagger) -> None:
    function = forgetful.task.signatures(forgetful.model)["tokens"].function
    happy, again, unknown, other = (
        function(tf.constant([["the", word]]))["scores"][0, 1].numpy() for word in ("happy", "happy", "zorp", "blip")
    )
    assert happy == again != unknown == other


@pytest.mark.parametrize("lowercase", [True, False])
def test_words_in_lower_case_or_as_they_are(tmp_path: Path, lowercase: bool) -> None:
    task = make(tmp_path, list(rows(POS)), text={"lowercase": lowercase}, model={"characters": {}})
    encoded: Any = task.encode(tf.constant([["the", "THE", "paris", "Paris", "DOG"]]))
    the, upper, paris, capital, dog = encoded["words"].values.numpy()
    assert UNKNOWN not in (the, capital)
    if lowercase:
        assert the == upper and paris == capital and dog != UNKNOWN
    else:
        assert upper == paris == dog == UNKNOWN
    characters = encoded["characters"].values.numpy()
    assert (characters[0] != characters[1]).any() and (characters[2] != characters[3]).any()


VECTORS = "the 1 2 3\nDog 9 9 9\nonly 4 5 6\nalso 4 5 6\ncat 0.5 0 -1\nother 6 5 4\n"


@pytest.fixture
def vectors(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "vectors.txt").write_text(VECTORS)
    return {"directory": str(tmp_path), "vectors": "vectors.txt"}


def test_how_much_the_vectors_know_is_told(tmp_path: Path, vectors: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    for lowercase, words, text in ((True, 2, 6), (False, 2, 6)):  # "the" 4 times, "cat" twice
        make(tmp_path, list(rows(POS)), data=vectors, text={"lowercase": lowercase}, model={"characters": {}})
        counts = Counter(word.lower() if lowercase else word for words_, _ in parse(POS) for word in words_)
        assert capsys.readouterr().err.strip() == (
            f"vectors  6 of 3 features; of the training data they know {words / len(counts):.1%} of the words, "
            f"{text / counts.total():.1%} of the text"
        )


def test_words_that_only_the_file_has_get_their_vector(tmp_path: Path, vectors: dict[str, Any]) -> None:
    made = plain(tmp_path, data=vectors, text={"lowercase": False})
    words = ["the", "only", "also", "cat", "Dog", "dog", "zorp"]
    ids = made.task.encode(tf.constant([words]))["words"].values.numpy()
    expected = [[1, 2, 3], [4, 5, 6], [4, 5, 6], [0.5, 0, -1], [9, 9, 9], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(table_of(made, "vectors").numpy()[ids], expected)
    assert "vectors" not in str([variable.path for variable in made.model.trainable_variables])
    function = made.task.signatures(made.model)["tokens"].function
    only, also, other, zorp = (
        function(tf.constant([["the", word]]))["scores"][0, 1].numpy() for word in ("only", "also", "other", "zorp")
    )
    assert only == also and len({float(only), float(other), float(zorp)}) == 3
    examples = [sentence("only/NOUN cat/NOUN zorp/NOUN dog/NOUN")]
    given = batch(made.task, examples, tmp_path)
    read = read_ids(made, given, None)[0].tolist()
    assert read == [UNKNOWN, given["words"].numpy()[0, 1], UNKNOWN, given["words"].numpy()[0, 3]]  # of its own it has no vector


# Training

WORLD = """
the/DET cat/NOUN sleeps/VERB ./PUNCT
a/DET dog/NOUN barks/VERB
the/DET dog/NOUN sees/VERB a/DET cat/NOUN ./PUNCT
Anna/PROPN sleeps/VERB
the/DET old/ADJ cat/NOUN barks/VERB at/ADP a/DET dog/NOUN in/ADP Paris/PROPN ./PUNCT
oh/INTJ
Bob/PROPN sees/VERB Anna/PROPN ./PUNCT
a/DET small/ADJ dog/NOUN sleeps/VERB in/ADP the/DET old/ADJ house/NOUN
"""


def trainer(
    folder: Path, *, strategy: Any = None, callbacks: Any = (), model: Any = None, data: Any = None, **training: Any
) -> Trainer:
    """All that makes two devices or a resume hard: dropouts, further columns, tuned vectors, a field. 8 sentences, 3 batches an epoch."""
    folder.mkdir(exist_ok=True)
    (folder / "vectors.txt").write_text(VECTORS)
    data = {"directory": str(folder), "vectors": "vectors.txt", "also": ["case"], **(data or {})}
    case = {"case": lambda word: "upper" if word[0].isupper() else "lower"} if data["also"] else {}
    examples = list(rows(WORLD, **case))
    model = {"output": "crf", "vectors": "tuned", "token_dropout": 0.1, "dropout": 0.3, "characters": {}, **(model or {})}
    training = {
        "batch_rows": 3,
        "epochs": 2,
        "learning_rate": 0.01,
        "precision": "float64",
        "buckets": 2,
        "watch": "accuracy",
        **training,
    }
    task = make(folder / "resources", examples, data=data, model=model, training=training)
    read = list(task.read(iter(examples), Counts()))
    stores = []
    for split, part in (("train", read), ("validation", read[:3])):
        known = folder / "cache" / split
        stores.append(Store(known) if known.exists() else write_store(known, [(len(part), fields(task, part))]))
    return Trainer(task, task.recipe.training, strategy or tf.distribute.get_strategy(), *stores, folder, callbacks)


@pytest.fixture(autouse=True)
def float32_again() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def weights(made: Trainer) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in variables_by_name(made.model).items()}


RESUMED: dict[str, Any] = {"evaluations": 2, "average_last": 2, "patience": 0, "keep": "last"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, dict[str, np.ndarray]]:
    """A finished training on one part, and the weights before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "parts", lambda: 1)
        made = trainer(tmp_path_factory.mktemp("undisturbed"), **RESUMED)
        before = weights(made)
        made.run()
        assert made.position.step == 2 * made.steps_per_epoch >= 6
    return made, before


@pytest.mark.slow
def test_tuned_vectors_and_further_columns_are_learned(undisturbed: tuple[Trainer, dict[str, np.ndarray]]) -> None:
    made, before = undisturbed
    after = weights(made)
    still = {name for name, value in after.items() if np.array_equal(value, before[name])}
    assert still == set()
    (also,) = {name for name in after if "also" in name and name.endswith("kernel")}
    assert after[also].shape[-1] == 2  # upper and lower


def test_further_columns_stay_out_of_answers(undisturbed: tuple[Trainer, dict[str, np.ndarray]]) -> None:
    made, _ = undisturbed
    task: Any = made.task
    for signature, given in (("serving_default", ["Anna sees"]), ("tokens", [["Anna", "sees"]])):
        outputs = task.signatures(made.model)[signature].function(tf.constant(given))
        assert set(outputs) <= {"tokens", "tags", "scores", "lengths", "starts", "ends"}
        assert set(outputs["tags"].numpy().ravel()) <= {tag.encode() for tag in task.tags}
    assert not {"upper", "lower"} & {*task.tags}


def test_further_columns_count_in_training_alone(undisturbed: tuple[Trainer, dict[str, np.ndarray]]) -> None:
    made, _ = undisturbed
    given = {name: tf.constant(value) for name, value in made.train.batch(np.arange(3), 3, lambda name, longest: longest).items()}
    (column,) = (name for name in given if name.startswith("also") and not name.endswith("lengths"))
    other = {**given, column: 1 - given[column]}
    task, model = made.task, made.model
    assert float(task.loss(model, given, (), None).total) == float(task.loss(model, other, (), None).total)
    assert float(task.loss(model, given, (), noise(given)).total) != float(task.loss(model, other, (), noise(given)).total)


@pytest.mark.slow
def test_frozen_vectors_stay_as_they_are(tmp_path: Path) -> None:
    made = trainer(
        tmp_path,
        model={"vectors": "frozen", "output": "softmax", "characters": {"network": "none"}},
        epochs=1,
        precision="float32",
        data={"also": []},
    )
    before = weights(made)
    made.run()
    after = weights(made)
    (still,) = (name for name, value in after.items() if np.array_equal(value, before[name]))
    assert still.endswith("/vectors/table") and before[still].any()
    assert still not in {variable.path for variable in made.model.trainable_variables}


def test_vectors_tuned_after_some_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, they are those of the file bit for bit; then they learn, as everything else did all along."""
    monkeypatch.setattr(machine, "parts", lambda: 1)
    made = trainer(tmp_path, model={"vectors": "tuned", "tuned_after": 4, "output": "softmax"}, epochs=2)
    (name,) = (name for name in weights(made) if name.endswith("/vectors/table"))
    before, step = weights(made), made._step
    seen: list[set[str]] = []

    def watched(batch: Any, *wishes: Any) -> Any:
        told = step(batch, *wishes)
        after = weights(made)
        seen.append({other for other, value in after.items() if not np.array_equal(value, before[other])})
        return told

    made._step = watched  # type: ignore[method-assign]
    made.run()
    assert [name in changed for changed in seen] == [False] * 4 + [True] * (len(seen) - 4) and len(seen) >= 6
    assert len(seen[0]) > 3


def test_tuning_later_is_for_vectors_that_are_tuned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'model.tuned_after = 4 has no effect with data.vectors = ""'):
        make(tmp_path, list(rows(POS)), model={"tuned_after": 4, "characters": {}})


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 5])
def test_the_parts_of_a_batch_are_one_batch(
    undisturbed: tuple[Trainer, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    monkeypatch.setattr(machine, "parts", lambda: parts)
    made = trainer(tmp_path, **RESUMED)
    made.run()
    for row, expected in zip(made.position.history, undisturbed[0].position.history, strict=True):
        assert row == pytest.approx(expected, abs=1e-9)
    for name, value in weights(undisturbed[0]).items():
        np.testing.assert_allclose(weights(made)[name], value, rtol=0, atol=1e-9, err_msg=name)


class Interrupt(keras.callbacks.Callback):
    """The process runs out of memory when so many steps have been made."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if not self.left:
            raise MemoryError


@pytest.mark.slow
def test_a_resume_is_exact(
    undisturbed: tuple[Trainer, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "parts", lambda: 1)
    with pytest.raises(MemoryError):
        trainer(tmp_path, callbacks=[Interrupt(5)], checkpoint_seconds=0, **RESUMED).run()
    begun: list[int] = []
    counted = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: begun.append(batch))
    made = trainer(tmp_path, callbacks=[counted], **RESUMED)
    made.run()
    assert len(begun) == undisturbed[0].position.step - 4
    expected = weights(undisturbed[0])
    assert weights(made).keys() == expected.keys()
    for name, value in weights(made).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert (tmp_path / "history.csv").read_bytes() == (undisturbed[0].folder / "history.csv").read_bytes()


# Baselines


def test_the_most_frequent_tag_of_each_word() -> None:
    train = parse("run/VERB run/NOUN run/NOUN\nthe/DET dog/NOUN Dog/PROPN the/DET the/DET the/DET the/DET")
    answers = tagging_baselines.most_frequent(train)
    # NOUN stands three times, DET five times: DET for words that training lacks.
    assert answers([["the", "run", "Dog", "dog", "zorp"], []]) == [["DET", "NOUN", "PROPN", "NOUN", "DET"], []]


def test_the_baseline_of_tags(kinds: Callable[[str], Tagger]) -> None:
    task = kinds("tags, softmax").task
    train = list(task.read(rows(POS), Counts()))
    test = [sentence("the/DET cat/NOUN sees/VERB"), sentence("a/DET zorp/X Paris/NOUN")]
    name, found = task.baseline(lambda split: iter({"train": train, "validation": []}[split]), test)
    assert name == "most frequent tag of each word"
    # "a" is DET and "zorp" what is most frequent, PUNCT or NOUN or DET (5 times each), "Paris" PROPN.
    assert found.scores["accuracy"] == pytest.approx(4 / 6)
    assert (found.scores["known_accuracy"], found.scores["unknown_accuracy"], found.scores["sentence_accuracy"]) == (
        4 / 5,
        0,
        0.5,
    )
    assert found.intervals["accuracy"][0] <= 4 / 6 <= found.intervals["accuracy"][1]


@pytest.mark.parametrize("kind", ["BIO, CRF in BIO", "BIO, softmax in BIOES", "BIOES, CRF in BIOES"])
def test_the_baseline_of_spans_where_there_is_no_package_for_fields(
    kind: str, kinds: Callable[[str], Tagger], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn_crfsuite", None)
    assert tagging_baselines.conditional_random_field([(["a"], ["O"])], [(["a"], ["O"])], lambda answers: 0.0) is None
    task = kinds(kind).task
    scheme = KINDS[kind][0]
    train = list(task.read(rows(NER, scheme), Counts()))
    test = list(task.read(rows("Anna/B-PER sees/O York/B-LOC\nthe/O City/B-LOC Lee/B-PER", scheme), Counts()))
    name, found = task.baseline(lambda split: iter({"train": train, "validation": train}[split]), test)
    assert name == "most frequent tag of each word"
    assert 'pip install "nlp-tasks[crf]"' in capsys.readouterr().err
    # Each word has the tag it has in training; a span that only goes on is begun, as conlleval reads it: all four are right.
    assert found.scores["span_f1"] == 1 and found.scores["accuracy"] == 1 and found.counts["spans"] == 4


def test_the_baseline_of_spans(kinds: Callable[[str], Tagger], capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever stands behind "Mr" is a person, whatever the name; no other word tells."""
    task = kinds("BIO, CRF in BIO").task
    text = "\n".join(
        f"Mr/O {name}/B-PER saw/O {other}/O ./O"
        for name, other in zip("Ab Cd Ef Gh Ij Kl".split(), "Cd Ef Gh Ij Kl Ab".split(), strict=True)
    )
    train = list(task.read(rows(text, "bio"), Counts()))
    test = list(task.read(rows("Mr/O Yz/B-PER saw/O Cd/O ./O\nMr/O Gh/B-PER saw/O Ef/O ./O", "bio"), Counts()))
    name, found = task.baseline(lambda split: iter(train), test)
    if name != "CRF on word shapes":
        pytest.skip("sklearn-crfsuite is not installed")
    assert "pip install" not in capsys.readouterr().err
    assert found.scores["span_f1"] == 1


def test_the_penalties_of_the_field_are_chosen_on_validation() -> None:
    pytest.importorskip("sklearn_crfsuite")
    train = parse("a/O b/X\nb/X a/O\na/O a/O")
    seen: list[list[list[str]]] = []

    def score(answers: list[Any]) -> float:
        seen.append([list(tags) for tags in answers])
        return float(len(seen) == 4)

    found = tagging_baselines.conditional_random_field(train, parse("a/O b/X a/O"), score)
    assert found is not None and len(seen) == 9
    assert [list(tags) for tags in found([["a", "b", "a"]])] == seen[3] == [["O", "X", "O"]]


# The lessons of the toy worlds


def trained(folder: Path, recipe: str, name: str, *settings: str) -> dict[str, float]:
    """Scores on validation data."""
    places = ["--name", name, "--run-dir", str(folder / "runs"), "--export-dir", str(folder / "models")]
    places += [word for setting in settings for word in ("--set", setting)]
    for command in (["train", recipe], ["evaluate", recipe, "--json"]):
        done = subprocess.run([sys.executable, "-m", "nlp_tasks", *command, *places], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["scores"]


def by_the_most_frequent_tag(world: Any) -> tuple[list[list[str]], list[list[str]]]:
    """Right and given tags of the validation data."""
    words, gold = zip(*world.generate("validation"), strict=True)
    return list(map(list, gold)), [list(tags) for tags in tagging_baselines.most_frequent(world.generate("train"))(words)]


@pytest.mark.slow
def test_both_directions_and_characters_decide_in_the_toy_world(tmp_path: Path) -> None:
    gold, answers = by_the_most_frequent_tag(pos_tagging)
    right = [one == other for a, b in zip(gold, answers, strict=True) for one, other in zip(a, b, strict=True)]
    assert np.mean(right) < 0.8
    both = trained(tmp_path, "pos_tagging/sample", "both")
    assert both["accuracy"] > 0.97
    one = trained(tmp_path, "pos_tagging/sample", "one", "model.bidirectional=false")
    assert one["accuracy"] < both["accuracy"] - 0.05
    blind = trained(tmp_path, "pos_tagging/sample", "blind", 'model.characters.network="none"')
    assert blind["unknown_accuracy"] < both["unknown_accuracy"] - 0.2


@pytest.mark.slow
def test_the_sentence_decides_in_the_toy_world_of_names(tmp_path: Path) -> None:
    gold, answers = by_the_most_frequent_tag(ner)
    answers = [spans.write_tags(spans.read_tags(tags, "bio")[0], len(tags), "bio") for tags in answers]
    assert scores.spans(gold, answers).scores["span_f1"] < 0.5
    assert trained(tmp_path, "ner/sample", "names")["span_f1"] > 0.9


def test_what_tags_mean() -> None:
    assert tagging_meanings.of(["NOUN", "VBZ", "B-PER", "I-PER", "B-person", "O", "B-made-up", "§"]) == {
        "NOUN": "noun", "VBZ": "verb, present, third person singular", "PER": "person", "person": "person",
    }  # fmt: skip
