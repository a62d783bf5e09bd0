"""Translation: what is searched is what is scored, whatever stands beside it; pairs become batches, and answers become lines."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import decoding, distribution, export, inference
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.data.store import write_store
from nlp_tasks.errors import UserError
from nlp_tasks.layers import Noise
from nlp_tasks.tasks import translation_verbs
from nlp_tasks.tasks.translation import Pair, Translation
from nlp_tasks.text import ragged, subwords
from nlp_tasks.training import Trainer, build

PAIRS = [
    ("A dog runs.", "Ein Hund läuft."),
    ("Two dogs run near the house.", "Zwei Hunde laufen beim Haus."),
    ("A cat sees the dog, and the dog sees the cat.", "Eine Katze sieht den Hund, und der Hund sieht die Katze."),
    ("The house is old.", "Das Haus ist alt."),
    ("Cats sleep.", "Katzen schlafen."),
    ("An old cat sleeps in the old house.", "Eine alte Katze schläft im alten Haus."),
]
RECURRENT: dict[str, Any] = {"embedding": 6, "output_dropout": 0.2, "embedding_dropout": 0.1}
TRANSFORMER: dict[str, Any] = {"heads": 2, "hidden": 10}
KINDS: dict[str, dict[str, Any]] = {
    "vanilla": {"model": {"kind": "vanilla"}},
    "additive, gru": {"model": {"kind": "additive", "cell": "gru", "decoder_depth": 2}},
    "multiplicative, apart": {"model": {"kind": "multiplicative", "encoder_depth": 2, "tied": False}, "text": {"joint": False}},
    "feeding": {"model": {"kind": "multiplicative", "feeding": True, "decoder_depth": 2}},
    "transformer": {"model": {"kind": "transformer", "encoder_depth": 2, "decoder_depth": 2}},
}
TEXTS = ["A dog runs.", "", "The cat sees 你好!", "Two old cats, and the dogs near the house sleep.", "x"]


def open_task(folder: Path, **sections: Any) -> Translation:
    model = sections.pop("model", {})
    own = TRANSFORMER if model.get("kind", "transformer") == "transformer" else RECURRENT
    recipe = msgspec.convert(
        {
            "task": {"name": "translation"},
            "data": {"train": "a.tsv", **sections.pop("data", {})},
            "text": {"subwords": 340, **sections.pop("text", {})},
            "model": {"units": 8, "dropout": 0.2, **own, **model},
            "decoding": {"beam": 3, "more": 4, **sections.pop("decoding", {})},
            "training": {"precision": "float64", "batch_tokens": 64, "batch_rows": 4, **sections.pop("training", {})},
        },
        Translation.recipe_type,
    )
    assert not sections
    task = Translation(recipe)
    folder.mkdir(exist_ok=True)
    task.prepare(examples, folder)
    task.load(folder)
    return task


def examples() -> Iterator[Pair]:
    return (Pair(pair, pair[1], Where("a.tsv", line)) for line, pair in enumerate(PAIRS, 1))


class Translator:
    """A task, its model with weights at random, and its graphs."""

    def __init__(self, task: Translation) -> None:
        self.task = task
        self.model: Any = build(task, task.recipe.training)
        draw = np.random.default_rng(3)
        for variable in self.model.trainable_variables:
            variable.assign(draw.normal(0, 0.6, variable.shape))
        self.functions = export.functions(task, self.model)
        self.loaded = inference.Loaded(task, self.functions, export.specs(task, self.model))

    def answer(self, signature: str, *inputs: Any) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.functions[signature](*map(tf.constant, inputs)).items()}

    def n_best(self, texts: list[str], beams: Any, counts: Any) -> dict[str, np.ndarray]:
        return self.answer("n_best", texts, *(np.broadcast_to(np.int32(value), [len(texts)]) for value in (beams, counts)))


@pytest.fixture(scope="module")
def translators(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Translator]:
    @functools.cache
    def made(kind: str) -> Translator:
        return Translator(open_task(tmp_path_factory.mktemp("resources"), **KINDS[kind]))

    return made


SLOW = ("vanilla", "feeding", "multiplicative, apart")
"""Kinds that the decoders' own tests cover; here they are looked at now and then."""


@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in KINDS])
def each(request: pytest.FixtureRequest, translators: Callable[[str], Translator]) -> Translator:
    return translators(request.param)


@pytest.fixture(
    params=["transformer", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("additive, gru", "vanilla", "feeding"))]
)
def some(request: pytest.FixtureRequest, translators: Callable[[str], Translator]) -> Translator:
    return translators(request.param)


@pytest.fixture(autouse=True)
def float32_again() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


# Searching and scoring


def test_scores_are_the_losses_of_training(some: Translator) -> None:
    targets = TEXTS[::-1]
    scored = some.answer("score", TEXTS, targets)
    for row, pair in enumerate(zip(TEXTS, targets, strict=True)):
        loss = some.task.loss(some.model, ragged.batch(some.task.encode(*(tf.constant([text]) for text in pair))), (), None)
        assert -loss.total.numpy() == pytest.approx(scored["log_probability"][row], rel=1e-5)
        assert loss.weight == scored["length"][row]


def test_the_log_probability_of_ids_is_that_of_the_search(some: Translator) -> None:
    """By the loss of training."""
    task = some.task
    found = task._searched(some.model, tf.constant(TEXTS), tf.fill([len(TEXTS)], 3))
    source = task.encode(tf.constant(TEXTS))["source"]
    for row in range(len(TEXTS)):
        for lane in range(3):
            if found.scores[row, lane] < -1e8:
                continue
            ids = [int(token) for token in found.ids[row, lane] if token] + [subwords.END]
            batch = {
                "source": source[row : row + 1].to_tensor(), "source_lengths": tf.constant([len(source[row])]),
                "target": tf.constant([ids]), "target_lengths": tf.constant([len(ids)]),
            }  # fmt: skip
            loss = task.loss(some.model, batch, (), None)
            assert -loss.total.numpy() == pytest.approx(found.log_probabilities[row, lane].numpy(), rel=1e-4, abs=1e-4)
            assert loss.weight == len(ids)


def test_neighbours_change_nothing(each: Translator) -> None:
    beams, counts = np.int32([3, 1, 2, 5, 4]), np.int32([3, 1, 1, 2, 4])
    together, scored = each.n_best(TEXTS, beams, counts), each.answer("score", TEXTS, TEXTS[::-1])
    for row, text in enumerate(TEXTS):
        alone = each.n_best([text], beams[row], counts[row])
        length = alone["lengths"][0]
        assert together["lengths"][row] == length
        assert together["translations"][row].tolist() == [*alone["translations"][0], *[b""] * (4 - counts[row])]
        np.testing.assert_allclose(together["scores"][row, :length], alone["scores"][0, :length], rtol=1e-5)
        single = each.answer("score", [text], [TEXTS[::-1][row]])
        np.testing.assert_allclose(scored["log_probability"][row], single["log_probability"][0], rtol=1e-5)


def test_a_beam_of_one_is_greedy(some: Translator) -> None:
    found = some.n_best(TEXTS, 1, 1)
    source, lengths = (
        ragged.batch(some.task.encode(tf.constant(TEXTS), tf.constant(TEXTS)))[name] for name in ("source", "source_lengths")
    )
    step, state = some.task._begun(some.model, source, lengths, tf.constant(1))
    ids, totals = decoding.greedy(step, subwords.BEGIN, subwords.END, state, some.task._limits(lengths))
    assert some.task.target.decode(ids).numpy().tolist() == found["translations"][:, 0].tolist()
    np.testing.assert_allclose(totals, found["log_probabilities"][:, 0], rtol=1e-4)


def test_nothing_is_translated_to_nothing(some: Translator) -> None:
    found = some.answer("serving_default", ["", "A dog."])
    assert found["translations"][0] == b""
    assert some.answer("serving_default", np.zeros([0], object).astype(str))["translations"].shape == (0,)


def test_spaces_are_nothing(some: Translator) -> None:
    found = some.answer("serving_default", ["  \t ", "\u00a0x"])
    assert found["translations"].tolist()[0] == b"" and found["scores"].shape == (2,)


def test_what_no_text_has_is_never_written(translators: Callable[[str], Translator]) -> None:
    some = translators("additive, gru")
    bias = some.model.softmax.bias
    before = bias.numpy()
    try:
        bias.assign(np.where(np.isin(np.arange(len(before)), subwords.NEVER_WRITTEN), 50.0, before))
        found = some.task._searched(some.model, tf.constant(TEXTS), tf.fill([len(TEXTS)], 3)).ids.numpy()
    finally:
        bias.assign(before)
    assert found.any() and not np.isin(found, (subwords.BEGIN, subwords.UNKNOWN)).any()


def test_the_default_is_the_recipes_beam(some: Translator) -> None:
    found, asked = some.answer("serving_default", TEXTS), some.n_best(TEXTS, 3, 1)
    assert found["translations"].tolist() == asked["translations"][:, 0].tolist()
    np.testing.assert_allclose(found["scores"], asked["scores"][:, 0], rtol=1e-5)


def test_a_line_of_thousands_of_words(some: Translator) -> None:
    scored = some.answer("score", ["the old cat " * 700], ["Katzen schlafen."])
    assert np.isfinite(scored["log_probability"]).all()


# Alignment


def test_alignments_are_shares_of_the_source(each: Translator) -> None:
    if each.task.recipe.model.kind == "vanilla":
        assert "align" not in each.functions
        with pytest.raises(UserError, match="cannot align"):
            inference.find_verb(each.task, "align")
        return
    found = each.answer("align", ["A dog runs.", "Cats sleep."], ["", "Katzen schlafen."])
    assert found["texts"].tolist() == [each.n_best(["A dog runs."], 3, 1)["translations"][0, 0], b"Katzen schlafen."]
    for row in range(2):
        sources, targets = ([piece for piece in found[side][row] if piece] for side in ("sources", "targets"))
        assert sources[-1] == targets[-1] == b"</s>"
        inside = found["alignments"][row, : len(targets), : len(sources)]
        np.testing.assert_allclose(inside.sum(-1), 1, rtol=1e-4)
        assert found["alignments"][row].sum() == pytest.approx(len(targets), rel=1e-4)


def test_a_picture_has_words_on_both_axes(translators: Callable[[str], Translator]) -> None:
    verb = inference.find_verb(translators("transformer").task, "align")
    (answer,) = translators("transformer").loaded.answer(verb, [verb.inputs("A dog runs.\tEin Hund läuft.", {})])
    assert answer["source"] == ["A", "dog", "runs.", "⏎"] and answer["target"] == ["Ein", "Hund", "läuft.", "⏎"]
    np.testing.assert_allclose(np.sum(answer["alignment"], 1), 1, atol=1e-3)
    figure = verb.picture(answer)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == answer["source"]
    assert [label.get_text() for label in axes.get_yticklabels()] == answer["target"]


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["▁A", "▁d", "og", ".", "</s>"], ["A", "dog.", "⏎"]),
        (["▁", "我", "喜欢", "猫", "</s>"], ["␣", "我", "喜欢", "猫", "⏎"]),
        (["▁แม", "ว", "▁x", "</s>"], ["แม", "ว", "x", "⏎"]),
    ],
)
def test_pieces_are_shown_as_words(pieces: list[str], words: list[str]) -> None:
    found, sizes = translation_verbs._words(pieces)
    assert found == words and sum(sizes) == len(pieces)


# What people ask


def test_verbs(translators: Callable[[str], Translator]) -> None:
    translator = translators("transformer")
    verb = inference.find_verb(translator.task, "predict")
    options = {"beam": 4, "n_best": 2, "scores": True}
    (answer,) = translator.loaded.answer(verb, [verb.inputs("A dog runs.", options)])
    assert len(answer["n_best"]) == 2 and answer["translation"] == answer["n_best"][0]["translation"]
    first, second = verb.text("A dog runs.", answer, options).split("\n")
    assert first == f"{answer['score']:.4f}\t{answer['translation']}"
    assert float(first.split("\t")[0]) >= float(second.split("\t")[0])
    (plain,) = translator.loaded.answer(verb, [verb.inputs("A dog runs.", {})])
    assert verb.text("A dog runs.", plain, {}) == plain["translation"] and "n_best" not in plain
    assert translator.loaded.predict(["A dog runs."]) == [plain]
    with pytest.raises(UserError, match="--n-best 5 with --beam 4"):
        verb.inputs("A dog.", {"beam": 4, "n_best": 5})


# Data


def read(*fields: tuple[str, str]) -> list[Pair]:
    task = Translation(msgspec.convert({"task": {"name": "translation"}, "data": {"train": "a.tsv"}}, Translation.recipe_type))
    rows = (Row(dict(zip(("source", "target"), pair, strict=True)), Where("a.tsv", line)) for line, pair in enumerate(fields, 1))
    return list(task.read(rows, Counts()))


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (("A dog.", "Ein Hund."), ""),
        (("A dog.", " "), "an empty side"),
        (("", ""), "an empty side"),
        (("x", "Donaudampfschiff"), ""),
        (("a few", "Donaudampfschifffahrtsgesellschaft"), "a side 4 times as long as the other"),
        (("A dog runs near the old house.", "一只狗在旧房子附近跑。"), ""),
        (("a" * 30, "狗" * 7), ""),  # more than four times as many characters, but not as many bytes
        (("кошка", "cat " * 9), ""),  # more than four times as many characters
        (("hi", "你好，" * 10), "a side 4 times as long as the other"),
        (("w" * 1001, "w" * 900), "a side of more than 1,000 characters"),
    ],
)
def test_what_is_no_training_data(pair: tuple[str, str], reason: str) -> None:
    task = Translation(msgspec.convert({"task": {"name": "translation"}, "data": {"train": "a.tsv"}}, Translation.recipe_type))
    (example,) = read(pair)
    assert task.unfit(example) == reason


def test_what_a_look_at_pairs_finds() -> None:
    task = Translation(msgspec.convert({"task": {"name": "translation"}, "data": {"train": "a.tsv"}}, Translation.recipe_type))
    examiner = task.examiner()
    same, name, empty = read(("the same on both sides", "the same on both sides "), ("New York", "New York"), ("A dog.", ""))
    for split, example in (("train", same), ("train", name), ("test", empty)):
        examiner.see(split, example)
    found = {(finding.kind, finding.split): finding for finding in examiner.findings()}
    assert found.keys() == {("untranslated", "train"), ("odd_pairs", "test")}
    assert found["untranslated", "train"].places == ["a.tsv:1"] and found["untranslated", "train"].level == "warning"
    assert found["odd_pairs", "test"].message == "pairs with an empty side: 1"


def test_each_side_ends_and_languages_share_pieces_or_do_not(translators: Callable[[str], Translator]) -> None:
    joint, apart = translators("transformer").task, translators("multiplicative, apart").task
    assert joint.source is joint.target and apart.source is not apart.target
    for task in (joint, apart):
        found = task.encode(tf.constant(["A dog.", ""]), tf.constant(["", "Ein Hund."]))
        for side, known, text in (("source", task.source, "A dog."), ("target", task.target, "Ein Hund.")):
            (ids,) = known.encode(tf.constant([text])).to_list()
            rows = [[*ids, subwords.END], [subwords.END]]
            assert found[side].to_list() == (rows if side == "source" else rows[::-1])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"kind": "transformer", "units": 10, "heads": 4}, "each head needs an even number"),
        ({"kind": "additive", "feeding": True}, 'model.feeding = true with model.kind = "additive"'),
        ({"kind": "additive", "heads": 2}, 'model.heads = 2 has no effect with model.kind = "additive"'),
        ({"kind": "vanilla", "hidden": 64}, 'model.hidden = 64 has no effect with model.kind = "vanilla"'),
        ({"embedding": 64}, 'model.embedding = 64 has no effect with model.kind = "transformer"'),
        ({"cell": "gru"}, 'model.cell = "gru" has no effect with model.kind = "transformer"'),
    ],
)
def test_models_that_cannot_be(model: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe_of(model=model)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"text": {"minimum_count": 2}}, "text.minimum_count = 2 has no effect with subwords"),
        ({"training": {"buckets": 4}}, "training.buckets = 4 has no effect with pairs"),
        ({"training": {"compile": True}}, "training.compile = true: batches of pairs have many shapes"),
    ],
)
def test_settings_without_effect_are_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe_of(**sections)


def recipe_of(**sections: Any) -> Translation:
    given = {"task": {"name": "translation"}, "data": {"train": "a"}, **sections}
    return Translation(msgspec.convert(given, Translation.recipe_type))


# Training


def stored(task: Translation, folder: Path) -> Any:
    fields = task.encode(*(tf.constant(column) for column in zip(*PAIRS, strict=True)))
    arrays = {name: (value.values.numpy(), value.row_lengths().numpy()) for name, value in fields.items()}
    return write_store(folder, [(len(PAIRS), arrays)])


def test_parts_of_a_batch_are_the_batch(each: Translator, tmp_path: Path) -> None:
    """The loss and its gradient of all rows are the sums of those of parts, dropout included; padding changes nothing."""
    store = stored(each.task, tmp_path / "store")
    seed = tf.constant(5, tf.uint32)
    variables = [variable.value for variable in each.model.trainable_variables]

    def of(batch: dict[str, tf.Tensor]) -> tuple[float, list[np.ndarray]]:
        with tf.GradientTape() as tape:
            loss = each.task.loss(each.model, batch, (), Noise(seed, tf.cast(batch["row"], tf.uint32)))
        gradients = tape.gradient(loss.total, variables)
        return loss.total.numpy(), [0.0 if g is None else tf.convert_to_tensor(g).numpy() for g in gradients]

    def batch(more: int) -> dict[str, tf.Tensor]:
        made = store.batch(np.arange(len(PAIRS)), len(PAIRS), lambda name, longest: longest + more)
        return {name: tf.constant(value) for name, value in made.items()}

    total, gradients = of(batch(0))
    parts = [of(part) for part in distribution.cut(batch(3), 2)]
    assert sum(part for part, _ in parts) == pytest.approx(total, rel=1e-9)
    for index, gradient in enumerate(gradients):
        np.testing.assert_allclose(sum(part[index] for _, part in parts), gradient, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_a_model_learns_its_pairs_by_heart(tmp_path: Path) -> None:
    task = open_task(
        tmp_path / "resources", model={"kind": "transformer", "units": 32, "hidden": 32, "dropout": 0.0, "label_smoothing": 0.0},
        training={"precision": "float32", "epochs": 60, "learning_rate": 5e-3, "patience": 0, "keep": "last", "evaluations": 1},
    )  # fmt: skip
    store = stored(task, tmp_path / "store")
    strategy = tf.distribute.get_strategy()
    trainer = Trainer(task, task.recipe.training, strategy, store, store, tmp_path / "run", glanced=list(examples()))
    position = trainer.run()
    assert position.history[-1]["validation_greedy_bleu"] > 90 > position.history[0]["validation_greedy_bleu"]
    functions = export.functions(task, trainer.model)
    found = functions["serving_default"](tf.constant([source for source, _ in PAIRS]))["translations"].numpy()
    assert sum(text.decode() == target for text, (_, target) in zip(found, PAIRS, strict=True)) >= 5


def test_batches_are_planned_by_both_lengths(translators: Callable[[str], Translator], tmp_path: Path) -> None:
    task = translators("transformer").task
    store = stored(task, tmp_path / "store")
    lengths = task.lengths(store)
    assert lengths.shape == (len(PAIRS), 2) and (lengths[:, 0] == store.lengths("target")).all()
    batches = task.plan(lengths, task.recipe.training, 0)
    assert sorted(np.concatenate([batch.rows for batch in batches])) == list(range(len(PAIRS)))
    for batch in batches:
        assert batch.size * lengths[batch.rows].max() <= 64 or batch.size == 1


# Scores


def test_results_have_answers_and_losses(translators: Callable[[str], Translator]) -> None:
    translator = translators("additive, gru")
    results = translator.task.evaluate(translator.loaded, list(examples()))
    found = translator.task.score(results)
    assert {"bleu", "bleu_tok_lc", "chrf", "loss", "perplexity"} == set(found.scores)
    assert found.scores["perplexity"] == pytest.approx(np.exp(found.scores["loss"]))
    assert found.counts["reference_tokens"] == sum(result["tokens"] for result in results)


def test_the_baseline_is_the_better_of_two(translators: Callable[[str], Translator]) -> None:
    task = translators("transformer").task
    name, found = task.baseline(lambda split: examples(), list(examples()))
    assert name == "each word by IBM model 1" and found.scores["bleu"] > 5
    same = [Pair((source, source), source, Where("a", 1)) for source, _ in PAIRS]
    name, found = task.baseline(lambda split: iter(same if split == "validation" else [*examples()]), same)
    assert name == "the source itself" and found.scores["bleu"] == pytest.approx(100)
