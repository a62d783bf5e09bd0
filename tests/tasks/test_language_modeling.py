"""Language modelling: one way to read a text, whether it is scored, trained on, asked about or gone on with."""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlp_tasks import distribution, export, inference
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.data.store import write_store
from nlp_tasks.data.toy_world import language_modeling as toy_world
from nlp_tasks.errors import UserError
from nlp_tasks.layers import Noise
from nlp_tasks.layers.recurrent import recurrent_path
from nlp_tasks.tasks import language_modeling as module
from nlp_tasks.tasks import language_modeling_scores as scoring
from nlp_tasks.tasks import language_modeling_verbs as verbs
from nlp_tasks.tasks.language_modeling import LanguageModeling, Piece
from nlp_tasks.training import Trainer, build

TEXT = """the cat sees the dog , and the dog sees the cat .
a bird sings in the old house .

the old dog sleeps near the naïve cat — the bird sings .
the cat sleeps .
"""
WORDS = TEXT.replace("\n", " <eos> ").split()

SMALL: dict[str, Any] = {"embedding": 6, "units": 8, "heads": 2, "context": 5, "dropout": 0.2, "output_dropout": 0.2, "order": 3}

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ngram, words": ("words", {"kind": "ngram"}),
    "ngram, bytes, order 1": ("bytes", {"kind": "ngram", "order": 1}),
    "ngram, characters, order 2": ("characters", {"kind": "ngram", "order": 2}),
    "feed_forward, words": ("words", {"kind": "feed_forward"}),
    "feed_forward, characters, order 1, depth 2": ("characters", {"kind": "feed_forward", "order": 1, "depth": 2, "tied": False}),
    "rnn, characters, residual": ("characters", {"kind": "rnn", "depth": 2, "residual": True}),
    "gru, bytes": ("bytes", {"kind": "gru", "tied": False, "variational": True}),
    "lstm, words, adaptive": ("words", {"kind": "lstm", "softmax": "adaptive", "cutoffs": (4, 9)}),
    "lstm, words, sampled": ("words", {"kind": "lstm", "softmax": "sampled", "head": 4, "samples": 3, "units": 6}),
    "lstm, characters, depth 2": ("characters", {"kind": "lstm", "depth": 2}),
    "min_gru, words by rules": ("rules", {"kind": "min_gru"}),
    "transformer, words": ("words", {"kind": "transformer"}),
    "transformer, bytes, context 2": ("bytes", {"kind": "transformer", "context": 2, "units": 4, "depth": 2}),
}
NETWORKS = [kind for kind in KINDS if not kind.startswith("ngram")]


def rows(text: str, lines: int = 2) -> Iterator[Row]:
    """A text in pieces of so many lines."""
    whole = text.splitlines(keepends=True)
    for start in range(0, len(whole), lines):
        yield Row({"text": "".join(whole[start : start + lines])}, Where("a.txt", start + 1))


def open_task(folder: Path, written: str = TEXT, unit: str = "words", **sections: Any) -> LanguageModeling:
    """A task with its resources in the folder, made of a text."""
    units = {"unit": "words", "rules": True} if unit == "rules" else {"unit": unit}
    recipe = msgspec.convert(
        {
            "task": {"name": "language_modeling"},
            "data": sections.pop("data", {"train": "a.txt"}),
            "text": {**units, **sections.pop("text", {})},
            "model": {**SMALL, **sections.pop("model", {})},
            "training": {"precision": "float64", **sections.pop("training", {})},
        },
        LanguageModeling.recipe_type,
    )
    assert not sections
    task = LanguageModeling(recipe)
    folder.mkdir(exist_ok=True)
    task.prepare(lambda: task.read(rows(written), Counts()), folder)
    task.load(folder)
    return task


def given_specs() -> tuple[tf.TensorSpec, tf.TensorSpec]:
    """Of tokens and lengths."""
    return tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)


class Reader:
    """A task, its model with weights at random, and their graphs, each traced when it is first asked for."""

    def __init__(self, task: LanguageModeling) -> None:
        self.task = task
        self.model: Any = build(task, task.recipe.training)
        draw = np.random.default_rng(0)
        for variable in self.model.trainable_variables:
            variable.assign(draw.normal(0, 0.5, variable.shape))
        self.functions = export.functions(task, self.model)
        self.loaded = inference.Loaded(task, self.functions, export.specs(task, self.model))

    def answer(self, signature: str, *inputs: Any) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.functions[signature](*map(tf.constant, inputs)).items()}

    def ids(self, text: str | bytes) -> list[int]:
        return self.task.encode(tf.constant([text]))["tokens"].values.numpy().tolist()

    @property
    def classes(self) -> int:
        """Units that can come: the padding is none."""
        return len(self.task.units) - 1

    def read(self, tokens: np.ndarray, lengths: Any = None, state: Any = None) -> tuple[np.ndarray, Any]:
        """-log p of each token `<int>[rows, time]` in full precision, and the state after them."""
        tokens = np.asarray(tokens, np.int32)
        lengths = np.full(len(tokens), tokens.shape[1]) if lengths is None else lengths
        state = self.task.initial_state(len(tokens)) if state is None else state
        losses, state = self._read(tf.constant(tokens), tf.constant(lengths, tf.int32), state)
        return losses.numpy(), state

    @functools.cached_property
    def _read(self) -> Any:
        def read(tokens: tf.Tensor, lengths: tf.Tensor, state: Any) -> Any:
            with recurrent_path("packed", gradient=False):
                return self.task.advance(self.model, tokens, lengths, state)

        return tf.function(read, autograph=False, input_signature=[*given_specs(), self.state_spec])

    @property
    def state_spec(self) -> Any:
        return tf.nest.map_structure(lambda part: tf.TensorSpec([None, *part.shape[1:]], part.dtype), self.task.initial_state(1))

    def loss(self, given: dict[str, tf.Tensor], state: Any, seed: int = 0) -> Any:
        """As training has it, with dropout by the seed; without where it is 0."""
        return (self._noisy if seed else self._quiet)(given, state, tf.constant(seed, tf.uint32))

    @functools.cached_property
    def _noisy(self) -> Any:
        return self._loss(True)

    @functools.cached_property
    def _quiet(self) -> Any:
        return self._loss(False)

    def _loss(self, noisy: bool) -> Any:
        def loss(given: dict[str, tf.Tensor], state: Any, seed: tf.Tensor) -> Any:
            noise = Noise(seed, tf.cast(given["row"], tf.uint32)) if noisy else None
            return self.task.loss(self.model, given, state, noise)

        tokens, lengths = given_specs()
        row = tf.TensorSpec([None], tf.int32)
        fields = {"tokens": tokens, "tokens_lengths": lengths, "weight": tf.TensorSpec([None], tf.float32), "row": row}
        return tf.function(loss, autograph=False, input_signature=[fields, self.state_spec, tf.TensorSpec([], tf.uint32)])

    def following(self, tokens: Sequence[int]) -> np.ndarray:
        """The probability of each id after some tokens, by reading each of them: `<float64>[size]`."""
        every = np.arange(1, self.classes + 1)
        losses, _ = self.read(np.concatenate([np.tile(np.array(tokens, int), (len(every), 1)), every[:, None]], 1))
        return np.append(0.0, np.exp(-losses[:, -1]))

    def generate(self, prompts: Sequence[str | bytes], length: Any = 9, temperature: Any = 1.0, top_k: Any = 0, top_p: Any = 1.0,
                 seed: Any = 1) -> list[bytes]:  # fmt: skip
        def column(value: Any, dtype: Any) -> np.ndarray:
            return np.broadcast_to(np.asarray(value, dtype), [len(prompts)])

        inputs = (column(length, np.int32), column(temperature, np.float32), column(top_k, np.int32), column(top_p, np.float32),
                  column(seed, np.int32))  # fmt: skip
        return self.answer("generate", list(prompts), *inputs)["text"].tolist()


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Reader]:
    """A reader of each kind, in double precision, made once."""

    @functools.cache
    def made(kind: str) -> Reader:
        unit, model = KINDS[kind]
        return Reader(open_task(tmp_path_factory.mktemp("resources"), unit=unit, model=model))

    return made


@pytest.fixture(params=KINDS)
def each(request: pytest.FixtureRequest, readers: Callable[[str], Reader]) -> Reader:
    return readers(request.param)


@pytest.fixture(params=["ngram, words", "gru, bytes", "lstm, characters, depth 2", "transformer, words"])
def some(request: pytest.FixtureRequest, readers: Callable[[str], Reader]) -> Reader:
    return readers(request.param)


@pytest.fixture(autouse=True)
def float32_again() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


TEXTS = ["the cat sees the", "", "\n", "a bird\nsings in\n", "the zebra 👍🏽 naïve — \tcat", "sings " * 15, "z"]


def pieces(text: str, lines: int = 2) -> list[Piece]:
    return [Piece((row.fields["text"],), "", row.where) for row in rows(text, lines)]


# What comes next


def test_what_comes_next_is_what_reading_each_token_says(each: Reader) -> None:
    answers = each.answer("serving_default", TEXTS)
    assert answers["probabilities"].shape == (len(TEXTS), min(10, each.classes)) == answers["tokens"].shape
    for row, text in enumerate(TEXTS):
        probabilities = each.following(each.ids(text))
        assert probabilities.sum() == pytest.approx(1, abs=1e-6 if each.task.counted else 1e-9)
        best = np.sort(probabilities)[::-1][: min(10, each.classes)]
        np.testing.assert_allclose(answers["probabilities"][row], best, rtol=1e-5)
        assert (np.diff(answers["probabilities"][row]) <= 0).all() and answers["probabilities"][row].sum() <= 1 + 1e-6
        names = each.task.units.names.numpy().tolist()
        found = [probabilities[names.index(token)] for token in answers["tokens"][row].tolist()]
        np.testing.assert_allclose(found, best, rtol=1e-5)


def test_a_score_is_the_sum_over_its_tokens_read_at_once_or_in_pieces(each: Reader) -> None:
    """The signature `score`, `advance` in one go, `advance` in pieces with the state carried, and one distribution after another."""
    texts, draw = [*TEXTS, TEXT], random.Random(0)
    answers = each.answer("score", texts)
    for row, text in enumerate(texts):
        ids = each.ids(text)
        assert answers["length"][row] == len(ids)
        if not ids:
            assert answers["log_probability"][row] == 0
            continue
        whole, after = each.read(np.array([ids]))
        assert answers["log_probability"][row] == pytest.approx(-whole.sum(), rel=1e-5)
        np.testing.assert_allclose(answers["token_log_probabilities"][row, : len(ids)], -whole[0], rtol=1e-5)
        assert not answers["token_log_probabilities"][row, len(ids) :].any()
        names = each.task.units.names.numpy()
        assert answers["tokens"][row, : len(ids)].tolist() == names[ids].tolist()
        state, parts, start = None, [], 0
        while start < len(ids):
            end = start + draw.randint(1, 7)
            losses, state = each.read(np.array([ids[start:end]]), state=state)
            parts.append(losses)
            start = end
        np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=1e-10)
        tf.nest.map_structure(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12), state, after)
    ids = each.ids(TEXTS[0])
    steps = [-math.log(each.following(ids[:place])[token]) for place, token in enumerate(ids)]
    assert -answers["log_probability"][0] == pytest.approx(sum(steps), rel=1e-5)


def test_the_signature_advance_reads_as_the_task_does(some: Reader) -> None:
    ids = some.ids(TEXT)[:24]
    expected, _ = some.read(np.array([ids]))
    state: dict[str, Any] = {name: np.asarray(value) for name, value in some.task._named(some.task.initial_state(1)).items()}
    found = []
    for start, end in ((0, 1), (1, 9), (9, 24)):
        given = np.array([ids[start:end]], np.int32)
        outputs = dict(some.functions["advance"](tokens=given, lengths=np.array([end - start], np.int32), **state))
        found.append(outputs.pop("log_probabilities").numpy())
        state = outputs
    np.testing.assert_allclose(-np.concatenate(found, 1), expected, rtol=1e-5)


# Neighbours, padding, parts


def test_neighbours_and_padding_change_nothing(each: Reader) -> None:
    together = each.answer("score", TEXTS)
    backwards = each.answer("score", TEXTS[::-1])
    np.testing.assert_allclose(backwards["log_probability"][::-1], together["log_probability"], rtol=1e-6)
    asked = each.answer("serving_default", TEXTS)
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(
            each.answer("score", [text])["log_probability"][0], together["log_probability"][row], rtol=1e-6
        )
        alone = each.answer("serving_default", [text])
        np.testing.assert_allclose(alone["probabilities"][0], asked["probabilities"][row], rtol=1e-6)
    ids = [each.ids(text) for text in TEXTS]
    for wider in (0, 9):
        tokens = np.zeros([len(ids), max(map(len, ids)) + wider], np.int32)
        for row, own in enumerate(ids):
            tokens[row, : len(own)] = own
        losses, state = each.read(tokens, [len(own) for own in ids])
        for row, own in enumerate(ids):
            assert not losses[row, len(own) :].any()
            if own:
                alone, after = each.read(np.array([own]))
                np.testing.assert_allclose(losses[row, : len(own)], alone[0], rtol=1e-9)
            else:
                after = each.task.initial_state(1)
            tf.nest.map_structure(
                lambda one, other, row=row: np.testing.assert_allclose(one[row], np.asarray(other)[0], rtol=1e-9, atol=1e-12),
                state,
                after,
            )


def batch(tokens: np.ndarray, lengths: Sequence[int], first: int = 0) -> dict[str, tf.Tensor]:
    """As training has it."""
    filled = np.where(np.arange(tokens.shape[1]) < np.array(lengths)[:, None], tokens, 0)
    return {
        "tokens": tf.constant(filled, tf.int32),
        "tokens_lengths": tf.constant(lengths, tf.int32),
        "weight": tf.cast(tf.constant(lengths) > 0, tf.float32),
        "row": tf.range(first, first + len(tokens)),
    }


@pytest.mark.parametrize("kind", NETWORKS)
def test_parts_have_the_loss_of_the_whole(readers: Callable[[str], Reader], kind: str) -> None:
    """Batches with the state carried, with dropout and without, in parts and whole; two rows of five end early."""
    reader, draw = readers(kind), np.random.default_rng(1)
    whole_state: Any = reader.task.initial_state(5)
    cut_state = whole_state
    for parts, seed in ((2, 7), (3, 8), (2, 0), (5, 9)):
        given = batch(draw.integers(1, reader.classes + 1, [5, 6]), [6, 6, 3, 0, 6])
        whole = reader.loss(given, whole_state, seed)
        found = [reader.loss(*part, seed) for part in distribution.cut((given, cut_state), parts)]
        assert float(whole.weight) == 21 == sum(float(part.weight) for part in found)
        np.testing.assert_allclose(sum(float(part.total) for part in found), float(whole.total), rtol=1e-10)
        whole_state, cut_state = whole.state, distribution.join([part.state for part in found], tf.constant(5))
        tf.nest.map_structure(
            lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12), cut_state, whole_state
        )


def test_dropout_is_heard_and_has_an_address(readers: Callable[[str], Reader]) -> None:
    reader = readers("lstm, characters, depth 2")
    given = batch(np.random.default_rng(1).integers(1, reader.classes + 1, [3, 6]), [6, 6, 6])
    one, again, other = (float(reader.loss(given, reader.task.initial_state(3), seed).total) for seed in (1, 1, 2))
    assert one == again != other


# Windows


@settings(max_examples=150, deadline=None)
@given(tokens=st.integers(1, 400), window=st.integers(1, 40), batch_rows=st.integers(1, 12))
@example(tokens=1, window=1, batch_rows=12)
@example(tokens=12, window=4, batch_rows=4)
def test_each_token_is_in_one_window_and_rows_go_on(tokens: int, window: int, batch_rows: int) -> None:
    task = planner(window, batch_rows)
    if tokens < window:
        with pytest.raises(UserError, match=rf"the training text has {tokens} words, less than one window of {window}"):
            task.plan(np.diff(task.windows(tokens)), task.recipe.training, 0)
        return
    splits = task.windows(tokens)
    assert splits[0] == 0 and splits[-1] == tokens
    lengths = np.diff(splits)
    assert (lengths[:-1] == window).all() and 1 <= lengths[-1] <= window
    for epoch in (0, 3, None):
        batches = task.plan(lengths, task.recipe.training, epoch)
        seen = Counter(int(row) for planned in batches for row in planned.rows)
        assert seen == Counter(range(len(lengths)))
        assert len({planned.size for planned in batches}) == 1 and batches[0].size <= batch_rows
        assert all(planned.width == window and len(planned.rows) <= planned.size for planned in batches)
        for planned, following in itertools.pairwise(batches):
            stay = len(following.rows)
            assert (following.rows == planned.rows[:stay] + 1).all() and len(planned.rows) - stay in (0, 1)
        assert sum(planned.size for planned in batches) - len(lengths) < len(batches), "at most one row is missing a batch"


@functools.cache
def planner(window: int, batch_rows: int) -> LanguageModeling:
    recipe = msgspec.convert(
        {
            "task": {"name": "language_modeling"},
            "data": {"train": "a.txt"},
            "training": {"window": window, "batch_rows": batch_rows},
        },
        LanguageModeling.recipe_type,
    )
    return LanguageModeling(recipe)


def test_an_epoch_reads_the_text_as_one_pass_over_each_of_its_parts(tmp_path: Path) -> None:
    """What the trainer says of a validation text is what reading its parts from their beginning to their end says."""
    text = TEXT * 3
    task = open_task(tmp_path / "resources", text, training={"window": 5, "batch_rows": 4, "epochs": 1})
    encoded = task.encode(tf.constant([piece.inputs[0] for piece in pieces(text)]))["tokens"]
    flat, row_lengths = encoded.values.numpy(), encoded.row_lengths().numpy()
    store = write_store(tmp_path / "store", [(len(row_lengths), {"tokens": (flat, row_lengths)})])
    arranged = store.recut("tokens", task.windows(len(flat)))
    trainer = Trainer(task, task.recipe.training, tf.distribute.get_strategy(), arranged, arranged, tmp_path)
    reader = Reader(task)
    reader.model = trainer.model
    windows = -(-len(flat) // 5)
    steps = -(-windows // 4)
    total = sum(reader.read(part[None])[0].sum() for part in np.split(flat, np.arange(5 * steps, len(flat), 5 * steps)))
    assert trainer.evaluate(arranged)["validation_loss"] == pytest.approx(total / len(flat), rel=1e-9)


# Scores


def test_each_token_is_scored_once_with_all_before_it(each: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "PASS", 7)
    text = TEXT + "the zebra sleeps .\n"
    ids = each.ids(text)
    expected = each.read(np.array([ids]))[0][0]
    examples = pieces(text)
    results = each.task.evaluate(each.loaded, examples)
    assert sum(result["tokens"] for result in results) == len(ids)
    assert sum(result["nats"] for result in results) == pytest.approx(expected.sum(), rel=1e-5)
    start, often = 0, Counter(each.ids(TEXT))
    for number, (result, piece) in enumerate(zip(results, examples, strict=True)):
        own = ids[start : start + len(each.ids(piece.inputs[0]))]
        losses = expected[start : start + len(own)]
        assert result["id"] == number and result["where"] == str(piece.where) and result["text"] == piece.inputs[0]
        assert result["tokens"] == len(own) and result["characters"] == len(piece.inputs[0])
        assert result["nats"] == pytest.approx(losses.sum(), rel=1e-5)
        assert result["loss"] == pytest.approx(losses.mean(), rel=1e-5)
        limits = [(0, 0), (1, 9), (10, 99), (100, 999), (1000, math.inf)]
        for (low, high), (nats, count) in zip(limits, result["by_count"], strict=True):
            inside = [loss for loss, token in zip(losses, own, strict=True) if low <= often[token] <= high]
            assert count == len(inside) and nats == pytest.approx(sum(inside), rel=1e-5, abs=1e-6)
        start += len(own)
    found = each.task.score(results)
    nats = float(expected.sum())
    assert found.scores["nats_per_token"] == pytest.approx(nats / len(ids), rel=1e-5)
    assert found.scores["perplexity"] == pytest.approx(math.exp(nats / len(ids)), rel=1e-4)
    assert found.scores["bits_per_character"] == pytest.approx(nats / math.log(2) / len(text), rel=1e-5)
    assert found.counts == {"examples": len(examples), "tokens": len(ids), "characters": len(text)}


@pytest.mark.parametrize("kind", ["feed_forward, words", "gru, bytes", "lstm, characters, depth 2", "transformer, words"])
def test_a_model_that_knows_nothing_is_as_perplexed_as_there_are_classes(tmp_path: Path, kind: str) -> None:
    unit, model = KINDS[kind]
    reader = Reader(open_task(tmp_path, unit=unit, model=model, training={"precision": "float32"}))
    for variable in reader.model.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    classes = {"words": len({*WORDS}) + 1, "bytes": 256, "characters": len({*TEXT}) + 1}[unit]
    found = reader.task.score(reader.task.evaluate(reader.loaded, pieces(TEXT)))
    assert found.scores["perplexity"] == pytest.approx(classes, rel=1e-4)


def test_an_untrained_model_begins_at_the_frequencies(tmp_path: Path) -> None:
    """The first loss of a training is about that of unigrams, not the logarithm of the vocabulary."""
    task = open_task(tmp_path, model={"units": 4, "embedding": 4})
    model = build(task, task.recipe.training)
    for variable in model.trainable_variables:
        if "bias" not in variable.path.rpartition("/")[2] or "softmax" not in variable.path:
            variable.assign(np.zeros(variable.shape))
    reader = Reader.__new__(Reader)
    reader.task, reader.model = task, model
    losses, _ = reader.read(np.array([reader.ids(TEXT)]))
    counts = Counter(WORDS)
    unknown = 0.1  # of which training has none
    expected = [-math.log(counts[word] / (len(WORDS) + unknown)) for word in WORDS]
    np.testing.assert_allclose(losses[0], expected, rtol=1e-6)


def test_windows_at_random_are_read_each_for_itself(some: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = msgspec.structs.replace(some.task.recipe.data, random_windows=6)
    monkeypatch.setattr(some.task, "recipe", msgspec.structs.replace(some.task.recipe, data=data))
    tokens = np.array(some.ids(TEXT))
    found = some.task.aside(some.loaded, pieces(TEXT))
    assert found is not None
    ((name, value),) = found.scores.items()
    assert name == "nats_per_token_in_windows_of_6"
    starts = np.random.default_rng(0).integers(0, len(tokens) - 6, 2048)
    by_start = {}
    for start in np.unique(starts):
        _, network = some.task.initial_state(1)
        state = (tf.constant(tokens[start : start + 1], tf.int32), network)
        by_start[start] = some.read(tokens[None, start + 1 : start + 7], state=state)[0].sum()
    expected = np.mean([by_start[start] for start in starts]) / 6
    assert value == pytest.approx(expected, rel=1e-5)
    low, high = found.intervals[name]
    assert low < expected < high


def test_without_windows_nothing_stands_aside(some: Reader) -> None:
    assert some.task.aside(some.loaded, pieces(TEXT)) is None


@pytest.mark.slow
def test_minimal_pairs_of_the_toy_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"{probe.prefix} {probe.right}\n" for probe in list(toy_world.probes("test"))[:60])
    reader = Reader(open_task(tmp_path, text, data={"source": "toy_world"}, model={"kind": "ngram"}))
    probes = list(toy_world.probes("test"))
    monkeypatch.setattr(toy_world, "probes", lambda split: iter(probes[:80]))
    found = reader.task.aside(reader.loaded, pieces(text))
    assert found is not None and found.counts["pairs"] == 80
    right = []
    for probe in probes[:80]:
        probabilities = reader.following(reader.ids(probe.prefix))
        fits, does_not = (probabilities[reader.ids(word)[0]] for word in (probe.right, probe.wrong))
        right.append(0.5 if math.isclose(fits, does_not, rel_tol=1e-6) else float(fits > does_not))  # half of what is not decided
    for kind in {probe.kind for probe in probes[:80]}:
        own = [answer for answer, probe in zip(right, probes, strict=False) if probe.kind == kind]
        assert found.scores[f"{kind}_accuracy"] == pytest.approx(np.mean(own))


@pytest.mark.parametrize(("source", "unit"), [("toy_world:word_vectors", "words"), ("toy_world", "characters")])
def test_minimal_pairs_are_of_the_toy_world_of_words_alone(tmp_path: Path, source: str, unit: str) -> None:
    task = open_task(tmp_path, TEXT, unit, data={"source": source}, model={"kind": "ngram"})
    assert task.aside(Reader(task).loaded, pieces(TEXT)) is None


def test_the_baseline_of_the_ngram_is_unigrams(readers: Callable[[str], Reader]) -> None:
    """Of a model that has seen the text: how often each word stands in it, beside what is left for unknown ones."""
    reader = readers("ngram, words")
    given: Any = {"train": pieces(TEXT)}
    name, found = reader.task.baseline(lambda split: iter(given[split]), pieces(TEXT, 1))
    assert name == "unigrams" and found.counts["tokens"] == len(WORDS)
    order_one = readers("ngram, bytes, order 1").task.baseline(lambda split: iter(given[split]), pieces(TEXT, 1))
    assert order_one[0] == "unigrams" and order_one[1].counts["tokens"] == len(TEXT.encode())
    entropy = -sum(count / len(WORDS) * math.log(count / len(WORDS)) for count in Counter(WORDS).values())
    assert found.scores["nats_per_token"] >= entropy - 1e-6


def test_the_baseline_of_a_network_is_the_ngram_of_the_same_text(tmp_path: Path, readers: Callable[[str], Reader]) -> None:
    """It says what a run of that n-gram says."""
    reader, test = readers("lstm, words, adaptive"), pieces("the dog sees a bird .\nthe zebra sleeps in the naïve house .\n")
    name, found = reader.task.baseline(lambda split: iter(pieces(TEXT)), test)
    assert name == "Kneser-Ney 5-gram"
    counted = Reader(open_task(tmp_path, model={"kind": "ngram", "order": 5}))
    results = counted.task.evaluate(counted.loaded, test)
    expected = counted.task.score(results)
    for metric, value in expected.scores.items():
        assert found.scores[metric] == pytest.approx(value, rel=1e-5)


# Writing


def written(reader: Reader, prompt: bytes, count: int) -> bytes:
    """The likeliest token again and again, by asking what comes next."""
    unit, text = reader.task.recipe.text.unit, prompt
    for _ in range(count):
        tokens = reader.answer("serving_default", [text])["tokens"][0].tolist()
        best = next(token for token in tokens if unit == "bytes" or token != b"<unk>")
        if unit == "words":
            best = b"\n" if best == b"<eos>" else best
            space = b"" if best == b"\n" or not text or text.endswith(b"\n") else b" "
            best = space + best
        text += best
    return text[len(prompt) :]


def test_without_temperature_the_likeliest_is_written(each: Reader) -> None:
    if each.task.recipe.text.rules:
        pytest.skip("a text of words by rules is not always read back in the same words")
    prompts = ["", "the cat", "a bird\n"]
    found = each.generate(prompts, 8, temperature=0.0)
    assert found == [written(each, prompt.encode(), 8) for prompt in prompts]
    assert found == each.generate(prompts, 8, temperature=0.0, seed=[5, 6, 7], top_p=0.3, top_k=3)


def test_a_seed_says_what_is_written_whatever_stands_beside(each: Reader) -> None:
    prompts = ["the cat", "", "a bird sings in the old house .\n", "the cat"]
    seeds, lengths = [3, 4, 5, 6], [9, 12, 5, 1]
    together = each.generate(prompts, lengths, seed=seeds)
    assert together == each.generate(prompts, lengths, seed=seeds)
    assert together[::-1] == each.generate(prompts[::-1], lengths[::-1], seed=seeds[::-1])
    for row in range(4):
        assert each.generate(prompts[row : row + 1], lengths[row], seed=seeds[row]) == together[row : row + 1]
    assert len({*each.generate(["the cat"] * 6, 12, seed=range(6))}) > 1


def test_the_probability_of_what_was_written(some: Reader) -> None:
    """It is that of reading it, but for what <unk> would have had."""
    prompts = ["the cat", "a bird\n"]
    outputs = some.answer("generate", prompts, *(np.full(2, value, dtype) for value, dtype in (
        (6, np.int32), (1.0, np.float32), (0, np.int32), (1.0, np.float32), (8, np.int32))))  # fmt: skip
    for row, prompt in enumerate(prompts):
        whole = prompt.encode() + outputs["text"][row]
        read, before = some.read(np.array([some.ids(whole)]))[0], some.read(np.array([some.ids(prompt)]))[0]
        assert outputs["log_probability"][row] == pytest.approx(-(read.sum() - before.sum()), rel=1e-4)


def test_what_a_client_asks_for_is_bounded(some: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or one small request takes all memory: it is asked for before the first token is written."""
    monkeypatch.setattr(module, "LONGEST", 5)
    generate = some.task.signatures(some.model)["generate"].function
    options = {"length": 2**31 - 1, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 8}
    written = generate(tf.constant(["the cat"]), **{name: tf.constant([value]) for name, value in options.items()})["text"]
    five = generate(tf.constant(["the cat"]), **{name: tf.constant([value]) for name, value in {**options, "length": 5}.items()})[
        "text"
    ]
    assert written.numpy()[0] == five.numpy()[0] != b""


OPTIONS: dict[str, Any] = {"max_tokens": 17, "temperature": 1.0, "top_k": None, "top_p": 1.0, "seed": 1, "stop": None}


@pytest.mark.parametrize("streamed", [1, 3, 17, 32])
def test_a_stream_is_what_is_written_at_once(some: Reader, monkeypatch: pytest.MonkeyPatch, streamed: int) -> None:
    monkeypatch.setattr(verbs, "STREAMED", streamed)
    for prompt, seed in (("the cat", 1), ("", 2), ("a bird\n", 3)):
        parts = list(verbs._stream(some.loaded, prompt, {**OPTIONS, "seed": seed}))
        (whole,) = some.generate([prompt], 17, seed=seed)
        assert "".join(parts) == whole.decode("utf-8", "replace")
        if streamed == 1 and some.task.recipe.text.unit != "bytes":
            assert len(parts) > 8


class Scripted:
    """A model of bytes that says a text, whatever the seed."""

    functions: Any = {}  # noqa: RUF012

    def __init__(self, prompt: str, text: bytes) -> None:
        self.prompt, self.text = prompt.encode(), text

    def __call__(self, signature: str, inputs: Sequence[Any]) -> dict[str, np.ndarray]:
        assert signature == "generate"
        ((text, length, *_),) = inputs
        given = text.encode("utf-8", "surrogateescape")
        assert given.startswith(self.prompt)
        said = len(given) - len(self.prompt)
        assert self.text[:said] == given[len(self.prompt) :]
        outputs = {"text": self.text[said : said + length], "unknown": b""}
        return {**{name: np.array([value], object) for name, value in outputs.items()}, "strict": np.array([False])}


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(st.sampled_from("ab\né—👍🏽"), min_size=1, max_size=25),
    streamed=st.integers(1, 7),
    stop=st.one_of(st.none(), st.text(st.sampled_from("ab\né👍"), min_size=1, max_size=4)),
    prompt=st.sampled_from(["", "a", "ab", "é"]),
)
@example(text="xxabyy", streamed=3, stop="ab", prompt="ab")
def test_a_stream_ends_before_stop_and_cuts_no_character(text: str, streamed: int, stop: str | None, prompt: str) -> None:
    encoded = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verbs, "STREAMED", streamed)
        parts = list(verbs._stream(Scripted(prompt, encoded), prompt, {**OPTIONS, "max_tokens": len(encoded), "stop": stop}))
    assert "".join(parts) == (text.partition(stop)[0] if stop else text)
    assert not any("\ufffd" in part for part in parts)


def test_what_is_no_utf_8_is_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    said = b"a\xffb\xc3c\xf0\x9f\x91d\xf0\x9f"
    for streamed in range(1, 8):
        monkeypatch.setattr(verbs, "STREAMED", streamed)
        parts = list(verbs._stream(Scripted("", said), "", {**OPTIONS, "max_tokens": len(said)}))
        assert "".join(parts) == said.decode("utf-8", "replace")


def test_a_model_of_bytes_streams_through_characters(readers: Callable[[str], Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own text so far, cut inside of a character, goes back into it byte by byte."""
    reader = readers("gru, bytes")
    (whole,) = reader.generate(["naïve "], 60, seed=4)
    assert any(byte >= 0x80 for byte in whole)
    monkeypatch.setattr(verbs, "STREAMED", 1)
    parts = list(verbs._stream(reader.loaded, "naïve ", {**OPTIONS, "max_tokens": 60, "seed": 4}))
    assert "".join(parts) == whole.decode("utf-8", "replace")


@pytest.mark.parametrize("unit", ["words", "characters"])
@pytest.mark.parametrize("kind", ["ngram", "lstm"])
def test_no_unknown_unit_is_ever_written(tmp_path: Path, unit: str, kind: str) -> None:
    """Although it is by far the likeliest one."""
    draw = random.Random(0)
    text = "".join(
        " ".join(draw.choice(["aa", "bb", f"w{number}{chr(0x4E00 + number)}"]) for _ in range(5)) + "\n" for number in range(120)
    )
    task = open_task(tmp_path, text, unit, text={"minimum_count": 60}, model={"kind": kind}, training={"precision": "float32"})
    reader = Reader(task)
    reader_prompts = ["aa bb", "", "w3 w5", "\u4e03"]
    before = reader.answer("serving_default", reader_prompts)["tokens"].tolist()
    assert any(b"<unk>" in row for row in before)
    for temperature in (0.0, 1.0, 100.0):
        for text_written in reader.generate(reader_prompts * 4, 40, temperature=temperature, seed=range(16)):
            assert b"<unk>" not in text_written and b"\0" not in text_written
            assert 1 not in reader.ids(text_written) and text_written


def test_units_that_training_never_had_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**OPTIONS, "max_tokens": 2}
    words = Reader(open_task(tmp_path / "words", model={"kind": "ngram"}))
    list(verbs._stream(words.loaded, "the zebra sees ünknown zebra <unk>", options))
    assert "read as <unk>, as the training text never had it: zebra ünknown zebra" in capsys.readouterr().err
    characters = Reader(open_task(tmp_path / "characters", unit="characters", model={"kind": "ngram"}))
    with pytest.raises(UserError, match="--prompt: the training text never had: Z ß") as refused:
        next(iter(verbs._stream(characters.loaded, "Zoß Z", options)))
    assert refused.value.hint == "write the prompt in characters that it has"
    byte = Reader(open_task(tmp_path / "bytes", unit="bytes", model={"kind": "ngram"}))
    list(verbs._stream(byte.loaded, "ZZ ß \ufffd", options))
    assert "never had" not in capsys.readouterr().err


def test_unknown_units_are_scored_as_such(readers: Callable[[str], Reader]) -> None:
    for kind in ("ngram, words", "lstm, characters, depth 2", "transformer, words"):
        reader = readers(kind)
        assert reader.ids("Q")[0] == 1
        found = reader.answer("score", ["the Q"])
        assert math.isfinite(found["log_probability"][0]) and found["tokens"][0].tolist()[-1] == b"<unk>"


# Verbs


def test_what_the_verbs_say(readers: Callable[[str], Reader]) -> None:
    reader = readers("ngram, words")
    by_name = {verb.name: verb for verb in reader.task.verbs}
    (answer,) = reader.loaded.answer(by_name["score"], [by_name["score"].inputs("the cat sleeps .", {})])
    ids = reader.ids("the cat sleeps .\n")
    nats = reader.read(np.array([ids]))[0].sum()
    assert answer["tokens"] == len(ids) == 5
    assert answer["log_probability"] == pytest.approx(-nats, rel=1e-5)
    assert answer["perplexity"] == pytest.approx(math.exp(nats / 5), rel=1e-5)
    assert by_name["score"].text("", answer, {}) == f"{-nats:.4f}\t{math.exp(nats / 5):.4f}\t5"
    (answer,) = reader.loaded.predict(["the cat"])
    probabilities = reader.following(reader.ids("the cat"))
    assert sum(answer["next"].values()) <= 1 + 1e-5 and list(answer["next"].values()) == sorted(
        answer["next"].values(), reverse=True
    )
    for word, probability in answer["next"].items():
        expected = probabilities[1 if word == "<unk>" else reader.ids("\n" if word == "<eos>" else word)[0]]
        assert probability == pytest.approx(expected, abs=1e-6)


# The state survives a checkpoint


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("lstm", "float32"),
        pytest.param("feed_forward", "mixed_bfloat16", marks=pytest.mark.slow),
        pytest.param("lstm", "mixed_bfloat16", marks=pytest.mark.slow),
        pytest.param("transformer", "float32", marks=pytest.mark.slow),
        pytest.param("transformer", "mixed_bfloat16", marks=pytest.mark.slow),
    ],
)
def test_the_state_survives_a_checkpoint(tmp_path: Path, kind: str, precision: str) -> None:
    text = TEXT * 4
    training = {"window": 5, "batch_rows": 4, "epochs": 2, "precision": precision, "checkpoint_seconds": 0, "patience": 0}
    task = open_task(tmp_path / "resources", text, model={"kind": kind}, training=training)
    encoded = task.encode(tf.constant([piece.inputs[0] for piece in pieces(text)]))["tokens"]
    flat, row_lengths = encoded.values.numpy(), encoded.row_lengths().numpy()
    store = write_store(tmp_path / "store", [(len(row_lengths), {"tokens": (flat, row_lengths)})])
    arranged = store.recut("tokens", task.windows(len(flat)))

    def trainer(name: str) -> Trainer:
        (tmp_path / name).mkdir(exist_ok=True)
        return Trainer(task, task.recipe.training, tf.distribute.get_strategy(), arranged, arranged, tmp_path / name)

    trainer("whole").run()
    save, count = Trainer._save, 0

    class Killed(Exception):
        pass

    def saved_thrice(self: Trainer, path: Path, **options: Any) -> None:
        nonlocal count
        save(self, path, **options)
        count += path.name == "last.npz"
        if count == 3:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_save", saved_thrice)
        with pytest.raises(Killed):
            trainer("killed").run()
    trainer("killed").run()
    with (
        np.load(tmp_path / "whole" / "checkpoints" / "chosen.npz") as whole,
        np.load(tmp_path / "killed" / "checkpoints" / "chosen.npz") as killed,
    ):
        for name in whole.files:
            if name != "position":
                np.testing.assert_array_equal(killed[name], whole[name], err_msg=name)
    assert (tmp_path / "whole" / "history.csv").read_bytes() == (tmp_path / "killed" / "history.csv").read_bytes()
