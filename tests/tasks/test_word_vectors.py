"""Word vectors: what is read, what a step descends, what the signatures answer, and what the verbs make of it."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.text import Text

from nlp_tasks import distribution, export, inference, machine, report
from nlp_tasks.data.questions import Pair, Question
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.data.store import Store, write_store
from nlp_tasks.errors import LineError, UserError
from nlp_tasks.layers import Noise
from nlp_tasks.layers.model import variables_by_name
from nlp_tasks.tasks import word_vectors_scores as scoring
from nlp_tasks.tasks import word_vectors_verbs as verbs
from nlp_tasks.tasks.word_vectors import WordVectors
from nlp_tasks.text.word_vectors import read_vectors
from nlp_tasks.training import Trainer, build

TEXT = "".join(
    f"the {('cat', 'dog', 'naïve')[n % 3]} sees a {('house', 'river')[n % 2]} in the {('morning', 'evening', 'House')[n % 3]}\n"
    f"{('once', 'rare')[n % 2]}{n} <unk>\n"
    for n in range(40)
)
WORDS = "the cat dog naïve sees a house river in morning evening House".split()
"""What comes five times or more."""

KINDS: dict[str, dict[str, Any]] = {
    "skip_gram": {},
    "skip_gram, subwords": {"buckets": 50},
    "cbow": {"kind": "cbow"},
    "cbow, subwords": {"kind": "cbow", "buckets": 50},
}
MODEL = {"embedding": 6, "window": 2, "negatives": 3, "shared": 8, "block": 8, "threshold": 0.05}


def rows(text: str = TEXT, lines: int = 9) -> Iterator[Row]:
    whole = text.splitlines(keepends=True)
    for start in range(0, len(whole), lines):
        yield Row({"text": "".join(whole[start : start + lines])}, Where("a.txt", start + 1))


def recipe(**sections: Any) -> Any:
    content = {
        "task": {"name": "word_vectors"},
        "data": {"train": "a.txt", **sections.pop("data", {})},
        "text": sections.pop("text", {}),
        "model": MODEL | sections.pop("model", {}),
        "training": {"precision": "float64", "band": 16, "batch_rows": 3, **sections.pop("training", {})},
    }
    assert not sections
    return msgspec.convert(content, WordVectors.recipe_type)


def open_task(folder: Path, written: str = TEXT, **sections: Any) -> WordVectors:
    task = WordVectors(recipe(**sections))
    folder.mkdir(exist_ok=True)
    task.prepare(lambda: task.read(rows(written), Counts()), folder)
    task.load(folder)
    return task


class Made:
    """A task, a model with vectors at random, and its answers."""

    def __init__(self, task: WordVectors) -> None:
        self.task = task
        self.model: Any = build(task, task.recipe.training)
        for number, table in enumerate((self.model.sampling.inputs, self.model.sampling.outputs)):
            table.assign(np.random.default_rng(number).normal(size=table.shape))
        functions = export.functions(task, self.model)
        self.answer = inference.Loaded(task, functions, export.specs(task, self.model))

    def vectors(self, *words: str) -> np.ndarray:
        return self.answer("serving_default", [(word,) for word in words])["vectors"]


@pytest.fixture(autouse=True)
def float32_again() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    held: dict[str, Made] = {}

    def one(kind: str) -> Made:
        if kind not in held:
            held[kind] = Made(open_task(tmp_path_factory.mktemp("resources"), model=KINDS[kind]))
        return held[kind]

    return one


@pytest.fixture(params=KINDS)
def each(request: pytest.FixtureRequest, made: Callable[[str], Made]) -> Made:
    return made(request.param)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# Words


def test_frequent_words_have_a_vector(each: Made) -> None:
    outputs = each.answer("serving_default", [(word,) for word in [*WORDS, "once0", "<unk>", "<eos>", "zebra", ""]])
    assert outputs["known"].tolist() == [True] * len(WORDS) + [False] * 5
    has = outputs["vectors"].any(1).tolist()
    unseen = bool(each.task.recipe.model.buckets)
    assert has == [True] * len(WORDS) + [unseen] * 4 + [False]


def test_a_plain_word_has_its_row_of_the_table(made: Callable[[str], Made]) -> None:
    model = made("skip_gram")
    ids = model.task.units.lookup(tf.constant(WORDS)).numpy()
    np.testing.assert_allclose(model.vectors(*WORDS), model.model.sampling.inputs.numpy()[ids], rtol=1e-6)


def test_an_unseen_word_is_made_of_its_ngrams(made: Callable[[str], Made]) -> None:
    """A known one of its own vector, too; training and answers compose it alike."""
    model = made("skip_gram, subwords")
    table, size = model.model.sampling.inputs.numpy(), len(model.task.units)
    for word in ("dogs", "né", "dog"):
        marked = f"<{word}>"
        grams = [marked[i : i + n] for n in range(3, 7) if n < len(marked) for i in range(len(marked) - n + 1)]
        ids = [size + int(tf.strings.to_hash_bucket_fast(gram, 50)) for gram in grams]
        own = int(model.task.units.lookup(tf.constant(word)))
        ids += [own] if own > 1 else []
        np.testing.assert_allclose(model.vectors(word)[0], table[ids].mean(0), rtol=1e-6)
    ids = model.task.units.lookup(tf.constant(WORDS))
    np.testing.assert_allclose(model.model.sampling.vectors(ids), model.vectors(*WORDS), rtol=1e-6)


def test_words_in_lower_case_where_the_text_was(tmp_path: Path) -> None:
    model = Made(open_task(tmp_path / "resources", text={"lowercase": True}, model={"buckets": 20}))
    np.testing.assert_array_equal(model.vectors("HOUSE", "ÉTÉ"), model.vectors("house", "été"))
    assert model.answer("serving_default", [("House",)])["known"].tolist() == [True]
    with pytest.raises(LineError, match="fewer than three different vectors"):
        verbs._points(model.answer, "House house dog", {})


def test_a_text_of_rare_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no word of the training text is frequent enough") as caught:
        open_task(tmp_path / "resources", "one two three\n" * 4)
    assert "text.minimum_count is 5" in caught.value.hint


# Neighbours and analogies


def test_neighbours_are_those_of_the_largest_cosines(each: Made) -> None:
    vectors = unit(each.vectors(*WORDS))
    outputs = each.answer("neighbours", [(word, 4) for word in WORDS])
    for row, word in enumerate(WORDS):
        cosines = vectors @ vectors[row]
        order = [place for place in np.argsort(-cosines) if WORDS[place] != word][:4]
        assert [found.decode() for found in outputs["neighbours"][row]] == [WORDS[place] for place in order]
        np.testing.assert_allclose(outputs["cosines"][row], cosines[order], atol=1e-5)


def test_each_row_gets_as_many_as_it_asks_for_whatever_its_neighbours_ask(each: Made) -> None:
    asked = [("cat", 2), ("zebra", 3), ("the", 100), ("", 5), ("dog", 1)]
    together = each.answer("neighbours", asked)
    unseen = 3 if each.task.recipe.model.buckets else 0
    assert (together["neighbours"] != b"").sum(1).tolist() == [2, unseen, len(WORDS) - 1, 0, 1]
    assert ((together["cosines"] != 0) == (together["neighbours"] != b"")).all()
    for row, one in enumerate(asked):
        alone = each.answer("neighbours", [one])
        width = alone["neighbours"].shape[1]
        assert (together["neighbours"][row, :width] == alone["neighbours"][0]).all() and not together["cosines"][
            row, width:
        ].any()
        np.testing.assert_allclose(together["cosines"][row, :width], alone["cosines"][0], atol=1e-6)


def test_analogies_are_those_of_three_cosines_added(each: Made) -> None:
    vectors = unit(each.vectors(*WORDS))
    questions = [(0, 1, 2), (5, 3, 4), (7, 7, 8)]
    outputs = each.answer("analogy", [(*(WORDS[place] for place in question), 3) for question in questions])
    for row, (a, b, c) in enumerate(questions):
        cosines = vectors @ unit(vectors[b] - vectors[a] + vectors[c])
        order = [place for place in np.argsort(-cosines) if place not in (a, b, c)][:3]
        assert [word.decode() for word in outputs["words"][row]] == [WORDS[place] for place in order]
        np.testing.assert_allclose(outputs["cosines"][row], cosines[order], atol=1e-5)


def test_an_analogy_with_an_unknown_word_has_no_answer(made: Callable[[str], Made]) -> None:
    outputs = made("cbow").answer("analogy", [("cat", "zebra", "dog", 2), ("cat", "dog", "house", 2)])
    assert outputs["known"].tolist() == [[True, False, True], [True] * 3]
    assert not outputs["words"][0].any() and outputs["words"][1].all()


def test_the_vocabulary_by_rank(each: Made) -> None:
    outputs = each.answer("vocabulary", [(rank,) for rank in (0, 1, len(WORDS) - 1, len(WORDS), -1, 10**6)])
    assert [word.decode() for word in outputs["words"][[0, 3, 4, 5]]] == ["the", "", "", ""]
    assert outputs["counts"].tolist()[0] == 80 and outputs["counts"].tolist()[3:] == [0, 0, 0]
    every = list(scoring.vocabulary(each.answer, size=5))
    assert {*every} == {*WORDS} and len(every) == len(WORDS) and list(scoring.vocabulary(each.answer, 3)) == every[:3]


# What a step descends


def stored(folder: Path, task: WordVectors) -> Store:
    found = task.encoded(list(task.read(rows(), Counts())))
    known = folder if folder.exists() else None
    store = (
        Store(folder)
        if known
        else write_store(folder, [(int(found.nrows()), {"tokens": (found.values.numpy(), found.row_lengths().numpy())})])
    )
    return store.recut("tokens", task.windows(len(found.values)))


def trainer(folder: Path, strategy: Any = None, **sections: Any) -> Trainer:
    folder.mkdir(exist_ok=True)
    task = open_task(folder / "resources", **sections)
    stores = [stored(folder / "cache" / split, task) for split in ("train", "validation")]
    return Trainer(task, task.recipe.training, strategy or tf.distribute.get_strategy(), *stores, folder)


def weights(made: Trainer) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in variables_by_name(made.model).items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_sgd_is_the_sum_over_all_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Not their mean: each pair has the step of the learning rate, however many there are."""
    monkeypatch.setattr(machine, "parts", lambda: 2)
    made = trainer(tmp_path, model=KINDS[kind], training={"decay": "constant", "learning_rate": 0.02})
    for number, table in enumerate(made._trained):
        table.assign(np.random.default_rng(number).normal(size=table.shape) / 3)
    batch = made.task.plan(np.full(30, 16), made.training, 0)[0]
    given = made.train.batch(batch.rows, batch.size, lambda name, longest: 16)
    from nlp_tasks.training import step_seed

    noise = Noise(tf.constant(step_seed(1, 0), tf.uint32), tf.cast(given["row"], tf.uint32))
    with tf.GradientTape() as tape:
        total = made.task.loss(made.model, {name: tf.constant(value) for name, value in given.items()}, (), noise).total
    expected = [table.numpy() - float(np.float32(0.02)) * tf.convert_to_tensor(gradient).numpy()
                for table, gradient in zip(made._trained, tape.gradient(total, made._trained), strict=True)]  # fmt: skip
    made._step(given)
    for table, value in zip(made._trained, expected, strict=True):
        np.testing.assert_allclose(table.numpy(), value, atol=1e-12)


def test_bands_are_read_in_the_order_of_the_text_or_drawn() -> None:
    for shuffle in (False, True):
        task = WordVectors(recipe(training={"shuffle": shuffle}))
        lengths = np.diff(task.windows(16 * 10 + 5))
        assert lengths.tolist() == [16] * 10 + [5]
        plans = [np.concatenate([batch.rows for batch in task.plan(lengths, task.recipe.training, epoch)]) for epoch in (0, 1, 0)]
        assert all(sorted(order) == list(range(11)) for order in plans) and (plans[0] == plans[2]).all()
        assert (plans[0] != plans[1]).any() == shuffle == (plans[0] != np.arange(11)).any()
        still = np.concatenate([batch.rows for batch in task.plan(lengths, task.recipe.training, None)])
        assert (still == np.arange(11)).all()


def test_a_text_no_longer_than_the_window_is_refused() -> None:
    task = WordVectors(recipe(model={"window": 9}))
    with pytest.raises(UserError, match=r"the training text has 9 words, line ends counted, no more than a window of 9"):
        task.plan(np.array([9]), task.recipe.training, 0)
    assert task.plan(np.array([10]), task.recipe.training, 0) and task.plan(np.array([9]), task.recipe.training, None)


def test_training_makes_contexts_likelier(tmp_path: Path) -> None:
    made = trainer(tmp_path, model={"embedding": 12}, training={"optimizer": "adagrad", "learning_rate": 0.3, "epochs": 6})
    made.run()
    first, last = made.position.history[0], made.position.history[-1]
    assert last["validation_loss"] < first["validation_loss"]
    assert last["validation_context_accuracy"] > 0.6 > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 3])
def test_the_parts_of_a_batch_are_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    found = []
    for number in (1, parts):
        monkeypatch.setattr(machine, "parts", lambda number=number: number)
        made = trainer(tmp_path / str(number), model=KINDS["skip_gram, subwords"], training={"epochs": 2})
        made.run()
        found.append(weights(made))
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, atol=1e-10, err_msg=name)


def test_averages_of_the_last_evaluations_can_be_taken(tmp_path: Path) -> None:
    """The whole numbers among the weights, the n-grams of words, stay whole."""
    made = trainer(tmp_path, model=KINDS["cbow, subwords"], training={"epochs": 2, "average_last": 2})
    before = weights(made)
    made.run()
    after = weights(made)
    (whole,) = (name for name in after if name.endswith("/ngram_ids"))
    assert after[whole].dtype == np.int32 and (after[whole] == before[whole]).all()


# Scores


def test_a_text_is_scored_alone_as_together(each: Made) -> None:
    texts = [row.fields["text"] for row in rows()] + ["", "\n", "zebra\n", "the\n", "the cat\n"]
    together = each.answer("score", [(text,) for text in texts])
    for row, text in enumerate(texts):
        alone = each.answer("score", [(text,)])
        for name, values in together.items():
            assert values[row] == pytest.approx(alone[name][0], rel=1e-5), name
    assert together["contexts"][-5:-1].tolist() == [0, 0, 0, 0] and (together["right"] <= together["contexts"]).all()


def test_the_loss_of_validation_is_that_of_the_layer(each: Made) -> None:
    task = each.task
    ids = task.encoded(list(task.read(rows(), Counts()))).values.numpy()[: 16 * 4].reshape(4, 16)
    batch = {"tokens": tf.constant(ids), "row": tf.range(4)}
    loss = task.loss(each.model, batch, (), None)
    noise = Noise(tf.constant(1, tf.uint32), tf.cast(tf.range(4), tf.uint32))
    measured = each.model.sampling(each.model.stream(batch["tokens"], noise), noise, compare=True)
    assert float(loss.total) == pytest.approx(float(tf.reduce_sum(measured.losses)))
    right, contexts = loss.parts["context_accuracy"]
    assert float(right) == pytest.approx(float(tf.reduce_sum(measured.right))) and float(contexts) == float(loss.weight) > 0


def test_contexts_are_scored_over_all_pieces() -> None:
    found = scoring.contexts([{"nats": 6.0, "contexts": 2.0, "right": 1.5}, {"nats": 3.0, "contexts": 1.0, "right": 1.0},
                              {"nats": 0.0, "contexts": 0.0, "right": 0.0}], "window:2")  # fmt: skip
    assert found.scores == {"context_accuracy": pytest.approx(2.5 / 3), "context_loss": pytest.approx(3.0)}
    assert found.counts == {"examples": 3, "contexts": 3}


class Known:
    """Answers from a dict of vectors, by loops."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.vectors = {word: np.array(vector, float) for word, vector in vectors.items()}
        self.functions: Any = {"vocabulary": self._vocabulary}

    def _vocabulary(self, ranks: tf.Tensor) -> dict[str, tf.Tensor]:
        words = [*self.vectors]
        return {"words": tf.constant([words[rank] if rank < len(words) else "" for rank in ranks.numpy()])}

    def __call__(self, signature: str, inputs: Any) -> dict[str, np.ndarray]:
        size = len(next(iter(self.vectors.values())))
        if signature == "serving_default":
            found = [self.vectors.get(word, np.zeros(size)) for (word,) in inputs]
            return {"vectors": np.array(found), "known": np.array([word in self.vectors for (word,) in inputs])}
        assert signature == "analogy"
        best = []
        for a, b, c, _ in inputs:
            query = unit(self.vectors[b]) - unit(self.vectors[a]) + unit(self.vectors[c])
            others = [word for word in self.vectors if word not in (a, b, c)]
            best.append([max(others, key=lambda word: unit(self.vectors[word]) @ query).encode()])
        return {"words": np.array(best, object)}


PLANE = {"king": [1, 1], "queen": [1, -1], "man": [3, 3.1], "woman": [3, -3], "boat": [-1, 0.2], "ship": [-1, 0.3]}


def test_analogies_are_counted_by_section_and_covered_ones_alone() -> None:
    questions = [
        Question("royal", ("man", "king", "woman", "queen")),
        Question("royal", ("king", "man", "queen", "woman")),
        Question("royal", ("king", "man", "queen", "princess")),
        Question("boats", ("king", "man", "queen", "boat")),
        Question("none", ("a", "b", "c", "d")),
    ]
    found = scoring.analogies(Known(PLANE), questions, lowercase=False)
    assert found.counts == {"questions": 5, "covered_questions": 3}
    assert found.scores["analogy_accuracy"] == pytest.approx(2 / 3)
    assert found.figures["by_section"]["names"] == ["royal", "boats"] and found.figures["by_section"]["scores"] == [1.0, 0.0]
    assert found.figures["by_section"]["counts"] == [2, 1]
    lines = [re.split(r"  +", line) for line in found.text.splitlines()]
    assert lines == [
        ["analogies", "right", "covered"],
        ["royal", "100.0 %", "2 of 3"],
        ["boats", "0.0 %", "1 of 1"],
        ["none", "–", "0 of 1"],
    ]
    low, high = found.intervals["analogy_accuracy"]
    assert 0 <= low < 2 / 3 < high <= 1


def test_no_covered_question_is_no_right_one() -> None:
    found = scoring.analogies(Known(PLANE), [Question("none", ("a", "b", "c", "d"))], lowercase=False)
    assert found.scores == {"analogy_accuracy": 0.0} and found.counts["covered_questions"] == 0


def test_similarity_is_spearmans_of_the_covered_pairs() -> None:
    from scipy.stats import spearmanr

    pairs = [Pair(("king", "queen"), 5), Pair(("man", "king"), 9), Pair(("boat", "ship"), 9.5), Pair(("boat", "queen"), 1),
             Pair(("boat", "zebra"), 7), Pair(("woman", "man"), 4)]  # fmt: skip
    found = scoring.similarity(Known(PLANE), pairs)
    cosines = [float(unit(np.array(PLANE[a], float)) @ unit(np.array(PLANE[b], float))) for (a, b), _ in pairs if b != "zebra"]
    expected = spearmanr(cosines, [5, 9, 9.5, 1, 4]).statistic
    assert found.scores["similarity_spearman"] == pytest.approx(expected)
    assert found.counts == {"similarity_pairs": 6, "covered_similarity_pairs": 5}
    low, high = found.intervals["similarity_spearman"]
    assert -1 <= low <= expected <= high <= 1
    assert scoring.similarity(Known(PLANE), pairs[4:5]).scores == {"similarity_spearman": 0.0}


def test_neighbours_of_named_words_stand_in_the_report(made: Callable[[str], Made]) -> None:
    answer = made("skip_gram").answer
    lines = scoring.neighbours(answer, ["cat", "zebra"]).text.splitlines()
    first = answer("neighbours", [("cat", 10)])
    assert lines[1].startswith("cat         " + f"{first['neighbours'][0, 0].decode()} {first['cosines'][0, 0]:.2f}, ")
    assert lines[2] == "zebra       not in the vocabulary"
    assert scoring.neighbours(answer, []).text == "", "the vocabulary is too small for the usual ranks"


def test_the_baseline_is_counted_and_scored_alike(tmp_path: Path) -> None:
    (tmp_path / "questions.txt").write_text(": one\ncat dog house river\ncat dog house zebra\n")
    data = {"directory": str(tmp_path), "questions": "questions.txt"}
    task = open_task(tmp_path / "resources", data=data, model={"buckets": 20}, training={"precision": "float32"})
    pieces = list(task.read(rows(), Counts()))
    name, found = task.baseline(lambda split: iter(pieces), pieces)
    assert name == "PPMI and SVD, 6 features"
    assert found.scores.keys() == {"context_accuracy", "analogy_accuracy"} == found.samples.keys()
    assert 0.55 < found.scores["context_accuracy"] <= 1
    assert found.counts["questions"] == 2 and found.counts["covered_questions"] == 1 and found.counts["contexts"] > 50


def test_the_headline_is_that_of_the_questions_where_there_are_some(tmp_path: Path) -> None:
    assert WordVectors(recipe()).headline == "context_accuracy"
    assert WordVectors(recipe(data={"questions": "q.txt"})).headline == "analogy_accuracy"
    assert WordVectors(recipe(data={"source": "toy_world"})).headline == "analogy_accuracy"
    assert WordVectors(recipe(data={"source": "toy_world:language_modeling"})).headline == "context_accuracy"


# Verbs


def test_a_word_that_is_not_known_is_told_with_its_like(made: Callable[[str], Made]) -> None:
    answer = made("skip_gram").answer
    with pytest.raises(LineError) as caught:
        verbs._neighbours(answer, "hause", {"count": 3})
    assert caught.value.message == f"'hause': not in the vocabulary of {len(WORDS)} words"
    assert caught.value.hint == "hause: did you mean house or House?"
    with pytest.raises(LineError) as caught:
        verbs._analogy(answer, "cat qqq eveninng", {"count": 3})
    assert caught.value.message == f"'qqq', 'eveninng': not in the vocabulary of {len(WORDS)} words"
    assert caught.value.hint == "qqq: nothing is spelled alike; eveninng: did you mean evening?"
    with pytest.raises(LineError, match="not in the vocabulary") as caught:
        verbs._neighbours(answer, "EVENINNG", {"count": 3})
    assert caught.value.hint == "EVENINNG: did you mean evening?"


def test_with_subwords_every_word_has_neighbours(made: Callable[[str], Made]) -> None:
    found = verbs._neighbours(made("cbow, subwords").answer, "hause", {"count": 3})
    assert found["known"] is False and len(found["neighbours"]) == 3


@pytest.mark.parametrize("text", ["man king", "man king woman queen", ""])
def test_an_analogy_has_three_words(made: Callable[[str], Made], text: str) -> None:
    with pytest.raises(LineError, match=f"{len(text.split())} words, not three"):
        verbs._analogy(made("cbow").answer, text, {"count": 3})


def test_what_verbs_write(made: Callable[[str], Made]) -> None:
    answer = made("skip_gram").answer
    by_name = {verb.name: verb for verb in verbs.VERBS}
    for name, asked, key in (("neighbours", "cat", "neighbours"), ("analogy", "cat dog house", "words")):
        verb = by_name[name]
        assert verb.ask
        found = verb.ask(answer, asked, {"count": 2})
        (first, cosine), (second, other) = found[key].items()
        assert verb.text(asked, found, {}) == f"{asked}: {first} {cosine:.3f}, {second} {other:.3f}"
        assert verb.tsv(asked, found) == f"{asked}\t{first}\t{cosine:.6f}\n{asked}\t{second}\t{other:.6f}"
    (found,) = answer.answer(by_name["predict"], [("cat",)])
    assert found["known"] and found["vector"] == pytest.approx(made("skip_gram").vectors("cat")[0].tolist(), abs=1e-6)
    assert by_name["predict"].text("cat", found, {}).split(" ")[:2] == ["cat", f"{found['vector'][0]:.6g}"]


def test_the_plane_is_that_of_the_principal_components(made: Callable[[str], Made]) -> None:
    model = made("skip_gram")
    found = verbs._points(model.answer, ",".join(WORDS[:6]) + " cat", {})
    assert found["words"] == WORDS[:6]
    vectors = unit(model.vectors(*WORDS[:6]).astype(float))
    centred = vectors - vectors.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(found["points"]), np.abs(left[:, :2] * values[:2]), atol=1e-5)
    assert found["explained"] == pytest.approx((values**2 / (values**2).sum())[:2], abs=1e-4)
    for text, message in (
        ("cat dog", "2 words"),
        ("cat,cat dog", "2 words"),
        ("cat dog zebra", "'zebra': not in the vocabulary"),
    ):
        with pytest.raises(LineError, match=message):
            verbs._points(model.answer, text, {})


def test_labels_cover_neither_each_other_nor_a_dot(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    points = np.concatenate([draw.normal(size=(30, 2)) * 0.01, draw.normal(size=(20, 2))])
    words = [f"a${number}_long$word" if number % 3 else "i" for number in range(50)]
    for place in (points.argmax(0), points.argmin(0)):
        words[place[0]] = words[place[1]] = "cinematographically"
    figure = verbs._picture({"words": words, "points": points.tolist(), "explained": [0.5, 0.25]})
    renderer = figure.canvas.get_renderer()
    (axes,) = figure.axes
    for label in axes.texts:
        label.update_positions(renderer)
    texts = np.array([Text.get_window_extent(label, renderer).extents for label in axes.texts])  # without the lines to the dots
    assert len(texts) == 50
    lower, upper = texts[:, None, :2], texts[:, None, 2:]
    over = ((lower < texts[None, :, 2:]) & (texts[None, :, :2] < upper)).all(-1)
    assert not over[~np.eye(50, dtype=bool)].any()
    assert (texts[:, :2] >= 0).all() and (texts[:, 2:] <= figure.bbox.size).all()
    dots = axes.transData.transform(points)
    assert not ((texts[:, None, :2] < dots) & (dots < texts[:, None, 2:])).all(-1).any()
    report.save_figure(figure, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


@pytest.mark.parametrize("glove", [False, True])
@pytest.mark.parametrize("name", ["own.txt", "own.txt.gz"])
def test_all_vectors_go_to_a_file(made: Callable[[str], Made], tmp_path: Path, name: str, glove: bool) -> None:
    model, path = made("skip_gram, subwords"), tmp_path / name
    found = verbs._write(model.answer, str(path), {"glove": glove})
    assert found == {"words": len(WORDS), "features": 6}
    read = read_vectors(path)
    assert {*read.words} == {*WORDS} and read.words[0] == "the" and read.repeated == 0
    np.testing.assert_allclose(read.values, model.vectors(*read.words), rtol=1e-5)
    raw = path.read_bytes()
    first = (gzip.decompress(raw) if name.endswith(".gz") else raw).split(b"\n")[0]
    assert first.startswith(b"the ") if glove else first == b"12 6"


def test_a_file_that_cannot_be_written_is_told(made: Callable[[str], Made], tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "it is a folder"), (tmp_path / "none" / "own.txt", "no folder")):
        with pytest.raises(UserError, match=reason):
            verbs._write(made("skip_gram").answer, str(path), {"glove": False})


# Parts and replicas


def test_rows_dealt_to_parts_have_the_loss_of_the_whole(each: Made) -> None:
    task = each.task
    ids = task.encoded(list(task.read(rows(), Counts()))).values.numpy()[: 16 * 5].reshape(5, 16)
    batch = {"tokens": tf.constant(ids), "row": tf.range(5)}
    for noisy in (True, False):

        def total(part: dict[str, tf.Tensor], noisy: bool = noisy) -> Any:
            noise = Noise(tf.constant(7, tf.uint32), tf.cast(part["row"], tf.uint32)) if noisy else None
            return task.loss(each.model, part, (), noise)

        whole, parts = total(batch), [total(part) for part in distribution.cut(batch, 3)]
        assert float(whole.total) == pytest.approx(sum(float(part.total) for part in parts), rel=1e-10)
        assert float(whole.weight) == sum(float(part.weight) for part in parts) > 0
