"""The loop, driven by a tiny task that this file alone defines: that a new task is one file is tested by the way."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import distribution, layers, load, machine, recipe, scores, tasks
from nlp_tasks.data.batching import Batch
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.data.store import Store, write_store
from nlp_tasks.errors import UserError
from nlp_tasks.layers import Noise
from nlp_tasks.layers.model import variables_by_name
from nlp_tasks.recipe import Positive, Section, Share
from nlp_tasks.run import Run
from nlp_tasks.tasks.task import Example, Loss, Signature, Task, Verb
from nlp_tasks.training import Trainer, _of_any_size, _sum, load_weights, step_seed


class Model(Section, frozen=True, kw_only=True):
    units: Positive = 4
    dropout: Share = 0.3
    carry: bool = True


class Recipe(recipe.Recipe, frozen=True, kw_only=True):
    model: Model = Model()


class Tiny(Task):
    """Is the mood good? Texts are read as so many streams: each row goes on where that row of the batch before ended."""

    recipe_type = Recipe
    headline = "accuracy"
    order: ClassVar[tuple[str, ...]] = ("text", "mood")
    length_field = "tokens"
    verbs = (
        Verb(
            name="predict", answers=lambda outputs: [{"mood": mood.decode()} for mood in outputs["mood"]],
            text=lambda answer: answer["mood"], tsv=lambda text, answer: f"{text}\t{answer['mood']}",
        ),
    )  # fmt: skip

    @classmethod
    def columns(cls, data: recipe.Data) -> Mapping[str, Sequence[str]]:
        return {"text": ("text",), "mood": ("mood",)}

    def read(self, rows: Iterable[Row], counts: Counts) -> Iterator[Example]:
        for row in rows:
            yield Example((row.fields["text"],), row.fields["mood"], row.where)

    def prepare(self, examples: Callable[[], Iterator[Example]], folder: Path) -> None:
        (folder / "moods.json").write_text(json.dumps(sorted({example.target for example in examples()})))

    def load(self, folder: Path) -> None:
        self.moods = json.loads((folder / "moods.json").read_text())

    def tokenize(self, *strings: tf.Tensor) -> dict[str, tf.RaggedTensor]:
        return {"tokens": tf.strings.split(strings[0])}

    def encode(self, *strings: tf.Tensor) -> dict[str, tf.RaggedTensor]:
        words = self.tokenize(*strings)["tokens"]
        return {"tokens": words.with_values(1 + tf.cast(tf.strings.to_hash_bucket_fast(words.values, 30), tf.int32))}

    def targets(self, examples: Sequence[Example]) -> Mapping[str, np.ndarray]:
        return {"mood": np.array([self.moods.index(example.target) for example in examples], np.int32)}

    def plan(self, lengths: np.ndarray, training: recipe.Training, epoch: int | None) -> list[Batch]:
        size, rows = training.batch_rows, np.arange(len(lengths))
        return [Batch(rows[start : start + size], size, int(lengths.max())) for start in range(0, len(rows), size)]

    def build(self) -> keras.Model:
        options = self.recipe.model
        return layers.Model(
            self._forward, embedding=layers.Embedding(31, 4), dropout=layers.Dropout(options.dropout),
            network=layers.LSTM(options.units), answer=keras.layers.Dense(len(self.moods)),
        )  # fmt: skip

    def _forward(self, model: Any, batch: dict[str, Any], noise: Noise | None) -> tuple[tf.Tensor, Any]:
        vectors = model.dropout(model.embedding(batch["tokens"]), noise)
        outputs, state = model.network(vectors, batch["tokens_lengths"], initial_state=batch["state"] or None)
        return model.answer(layers.mean_pooling(outputs, batch["tokens_lengths"])), state

    def initial_state(self, rows: int) -> Any:
        options = self.recipe.model
        dtype = "float64" if self.recipe.training.precision == "float64" else "float32"
        return tuple(np.zeros([rows, options.units], dtype) for _ in range(2 * options.carry))

    def loss(self, model: Any, batch: dict[str, tf.Tensor], state: Any, noise: Noise | None) -> Loss:
        logits, after = model({**batch, "state": state}, noise)
        weight = tf.cast(batch["weight"], logits.dtype)
        right = tf.cast(tf.argmax(logits, -1, tf.int32) == batch["mood"], logits.dtype)
        total = tf.reduce_sum(weight * tf.nn.sparse_softmax_cross_entropy_with_logits(batch["mood"], logits))
        parts = {"accuracy": (tf.reduce_sum(weight * right), tf.reduce_sum(weight))}
        return Loss(total, tf.reduce_sum(weight), parts, after if self.recipe.model.carry else ())

    def signatures(self, model: Any) -> dict[str, Signature]:
        def serving_default(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            tokens = self.encode(texts)["tokens"]
            dense = tf.pad(tokens.to_tensor(), [[0, 0], [0, 1]])
            lengths = tf.cast(tokens.row_lengths(), tf.int32)
            logits, _ = model({"tokens": dense, "tokens_lengths": lengths, "state": ()}, None)
            return {"mood": tf.gather(tf.constant(self.moods), tf.argmax(logits, -1)), "probabilities": tf.nn.softmax(logits)}

        return {"serving_default": Signature(serving_default, (tf.TensorSpec([None], tf.string, "texts"),))}

    def resources(self) -> list[Any]:
        return []

    def evaluate(self, answer: Callable[..., dict[str, np.ndarray]], examples: Sequence[Example]) -> list[dict[str, Any]]:
        outputs = answer("serving_default", [example.inputs for example in examples])
        return [
            {"id": index, "gold": example.target, "probabilities": row.tolist()}
            for index, (example, row) in enumerate(zip(examples, outputs["probabilities"], strict=True))
        ]

    def score(self, results: Sequence[dict[str, Any]]) -> scores.Scores:
        gold = [self.moods.index(result["gold"]) for result in results]
        return scores.classification(gold, np.array([result["probabilities"] for result in results]), self.moods)


RECIPE = """
[task]
name = "tiny"
[data]
train = "train.tsv"
validation = "train.tsv"
test = "train.tsv"
[model]
dropout = 0.1
[training]
epochs = 80
learning_rate = 0.1
patience = 0
"""


def test_a_new_task_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tasks.REGISTRY, "tiny", f"{__name__}:Tiny")
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "train.tsv").write_text("text\tmood\n" + "".join(f"{text}\t{mood}\n" for text, mood in EXAMPLES))
    content = recipe.load(
        str(tmp_path / "tiny.toml"), lambda name: tasks.find(name).recipe_type, [f'data.directory="{tmp_path}"']
    )
    run = Run(content, "tiny", run_dir=tmp_path / "runs", export_dir=tmp_path / "saved_models", strategy="cpu")
    found = run.run()
    assert found["scores"]["accuracy"] == 1 and found["counts"]["examples"] == len(EXAMPLES)
    assert len((run.folder / "predictions.jsonl").read_text().splitlines()) == len(EXAMPLES)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != ".lock"}
    assert run.run() == found
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != ".lock"}
    for folder in (run.folder, tmp_path / "saved_models" / "tiny"):
        assert load(folder).predict(["a good day", "bad bad bad"]) == [{"mood": "high"}, {"mood": "low"}]


# One trainer


WORDS = "a day of rain and wind in the old town by a cold sea".split()
EXAMPLES = [
    (" ".join([*WORDS[row % 7 : row % 7 + row % 5], "good" if row % 3 else "bad"]), "high" if row % 3 else "low")
    for row in range(33)
]


@pytest.fixture(autouse=True)
def float32_again() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def make(folder: Path, *, strategy: Any = None, model: Any = None, callbacks: Any = (), **training: Any) -> Trainer:
    """A trainer of the tiny task in a folder, new or begun before: 7 batches an epoch, of 5 rows, the last one of 3."""
    training = {"batch_rows": 5, "epochs": 3, "learning_rate": 0.01, **training}
    content = Recipe(
        task=recipe.TaskSection(name="tiny"),
        data=recipe.Data(),
        training=recipe.Training(**training),
        model=Model(**(model or {})),
    )
    folder.mkdir(exist_ok=True)
    task = Tiny(content)
    examples = [Example((text,), mood, Where("here", 1)) for text, mood in EXAMPLES]
    task.prepare(lambda: iter(examples), folder)
    task.load(folder)
    stores = []
    for split, some in (("train", examples), ("validation", examples[:12])):
        ragged = task.encode(tf.constant([example.inputs[0] for example in some]))["tokens"]
        fields = {"tokens": (ragged.values.numpy(), ragged.row_lengths().numpy()), **task.targets(some)}
        known = folder / "cache" / split
        stores.append(Store(known) if known.exists() else write_store(known, [(len(some), fields)]))
    return Trainer(task, content.training, strategy or tf.distribute.get_strategy(), *stores, folder, callbacks)


def weights(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in variables_by_name(trainer.model).items()}


def chosen(trainer: Trainer) -> dict[str, np.ndarray]:
    """What a run leaves: the weights to ship."""
    with np.load(trainer.folder / "checkpoints" / "chosen.npz") as content:
        return {name.removeprefix("model/"): content[name] for name in content.files if name.startswith("model/")}


def assert_equal(given: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert set(given) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(given[name], value, err_msg=name)


def scripted(trainer: Trainer, losses: Sequence[float]) -> list[dict[str, np.ndarray]]:
    """Lets the evaluations give these losses; collects the weights that each of them saw."""
    seen: list[dict[str, np.ndarray]] = []

    def evaluate(store: Store) -> dict[str, float]:
        seen.append(weights(trainer))
        return {"validation_loss": losses[len(seen) - 1]}

    trainer.evaluate = evaluate  # type: ignore[method-assign]
    return seen


def test_patience_ends_a_training_and_the_best_weights_are_chosen(tmp_path: Path) -> None:
    trainer = make(tmp_path, epochs=9, patience=2)
    seen = scripted(trainer, [3.0, 2.0, 2.5, 2.0])
    position = trainer.run()
    assert (position.stopped, position.evaluation, position.best_evaluation, position.step) == (True, 4, 2, 28)
    assert_equal(chosen(trainer), seen[1])
    assert_equal(weights(trainer), seen[1])
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["chosen.npz"]


def test_patience_counts_from_the_best_evaluation_where_the_last_weights_are_kept(tmp_path: Path) -> None:
    trainer = make(tmp_path, epochs=9, patience=2, keep="last")
    seen = scripted(trainer, [3.0, 2.0, 2.5, 2.0])
    position = trainer.run()
    assert (position.stopped, position.evaluation, position.best_evaluation) == (True, 4, 2)
    assert_equal(chosen(trainer), seen[3])


@pytest.mark.parametrize(("average", "keep"), [(1.9, "best"), (2.1, "best"), (2.4, "last"), (2.6, "last")])
def test_an_average_is_chosen_where_it_is_better(tmp_path: Path, average: float, keep: str) -> None:
    trainer = make(tmp_path, epochs=2, evaluations=2, patience=0, average_last=3, keep=keep)
    seen = scripted(trainer, [3.0, 2.0, 2.2, 2.5, average])
    trainer.run()
    if average in (1.9, 2.4):
        expected = {name: np.float32(np.mean([w[name] for w in seen[1:4]], 0, np.float64)) for name in seen[0]}
    else:
        expected = seen[1] if keep == "best" else seen[3]
    for name, value in chosen(trainer).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-9)
    assert np.abs(seen[1]["model/answer/kernel"] - seen[3]["model/answer/kernel"]).max() > 1e-3


def test_the_history_says_what_happened(tmp_path: Path) -> None:
    trainer = make(tmp_path, epochs=2, evaluations=2, decay="linear", warmup_steps=2, keep="last")
    position = trainer.run()
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == position.history
    assert [row["step"] for row in rows] == [4, 7, 11, 14]
    assert [row["epoch"] for row in rows] == [0.5714, 1, 1.5714, 2]
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.01 * (14 - step) / 12 for step in (4, 7, 11, 14)], abs=1e-9)
    values = trainer.evaluate(trainer.validation)
    assert {name: rows[-1][name] for name in values} == values
    assert set(rows[0]) == {"epoch", "step", "learning_rate", "loss", "accuracy", *values}


def test_losses_are_means_over_texts(tmp_path: Path) -> None:
    """Not means of the batches' means: the last batch is smaller, and its texts are not worth more."""
    trainer = make(tmp_path, epochs=1, learning_rate=1e-12, model={"carry": False, "dropout": 0.0})
    trainer.validation = trainer.train
    (row,) = trainer.run().history
    texts, moods = zip(*EXAMPLES, strict=True)
    answer = trainer.task.signatures(trainer.model)["serving_default"].function
    probabilities = np.concatenate([answer(tf.constant([text]))["probabilities"] for text in texts])
    gold = np.array([trainer.task.moods.index(mood) for mood in moods])
    loss, accuracy = -np.log(probabilities[np.arange(33), gold]).mean(), (probabilities.argmax(1) == gold).mean()
    for prefix in ("", "validation_"):
        assert row[f"{prefix}loss"] == pytest.approx(loss, rel=1e-5)
        assert row[f"{prefix}accuracy"] == pytest.approx(accuracy)


def test_a_state_is_carried_from_batch_to_batch_and_starts_afresh_each_epoch(tmp_path: Path) -> None:
    trainer = make(tmp_path, learning_rate=1e-12, epochs=2, model={"dropout": 0.0})
    first, second = (row["loss"] for row in trainer.run().history)
    assert first == pytest.approx(second, rel=1e-6)
    alone = make(tmp_path / "alone", learning_rate=1e-12, epochs=1, model={"dropout": 0.0, "carry": False})
    assert abs(alone.run().history[0]["loss"] - first) > 1e-6


def test_each_step_draws_its_own_noise(tmp_path: Path) -> None:
    """The same rows and, but for their last digits, the same weights: only the noise differs between the epochs."""
    first, second = (row["loss"] for row in make(tmp_path, learning_rate=1e-12, epochs=2).run().history)
    assert abs(first - second) > 1e-5


def test_the_factor_of_a_variable_multiplies_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    for factor in (1.0, 3.0):
        monkeypatch.setattr(
            Tiny, "learning_rate_factor", lambda self, name, factor=factor: factor if "embedding" in name else 1.0
        )
        trainer = make(tmp_path / str(factor), optimizer="sgd", epochs=1, batch_rows=33, clip_norm=0)
        before = weights(trainer)
        trainer.run()
        moved.append({name: value - before[name] for name, value in weights(trainer).items()})
    for name, value in moved[0].items():
        assert np.abs(value).max() > 0
        np.testing.assert_allclose(moved[1][name], value * (3 if "embedding" in name else 1), rtol=1e-2, atol=1e-7)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    trainer = make(tmp_path, optimizer="sgd", learning_rate=1.0, epochs=1, batch_rows=33, clip_norm=0.01)
    before = weights(trainer)
    trainer.run()
    step = math.sqrt(sum(np.square(value - before[name], dtype=np.float64).sum() for name, value in weights(trainer).items()))
    assert step == pytest.approx(0.01, rel=1e-3)


def test_a_loss_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    trainer = make(tmp_path, optimizer="sgd", learning_rate=1e38, decay="linear")
    expected = r"the loss is not a number \(.*\) at step \d \(epoch 1\); learning rate \d\.\d+e\+37, longest text 5 tokens"
    with pytest.raises(UserError, match=expected) as refused:
        trainer.run()
    assert "lower training.learning_rate" in refused.value.hint
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_gradient_that_is_not_a_number_is_refused_before_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = Tiny.loss

    def steep(self: Tiny, model: Any, *rest: Any) -> Loss:
        given = loss(self, model, *rest)
        return given._replace(total=given.total + tf.sqrt(0 * tf.reduce_sum(model.answer.bias)))

    monkeypatch.setattr(Tiny, "loss", steep)
    with pytest.raises(UserError, match=r"the norm of the gradient is not a number \(nan\) at step 1"):
        make(tmp_path, checkpoint_seconds=0).run()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_validation_loss_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    scripted(trainer, [math.nan])
    with pytest.raises(UserError, match=r"the validation loss is not a number \(nan\) at step 7"):
        trainer.run()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_watched_value_must_be_measured(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="watch = 'f1'") as refused:
        make(tmp_path, watch="f1").run()
    assert refused.value.hint == "choose one of: loss, accuracy"


# Resume


class Interrupt(keras.callbacks.Callback):
    """Something happens when a step has been made."""

    def __init__(self, step: int, happens: Callable[[], None]) -> None:
        super().__init__()
        self.left, self.happens = step, happens

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if not self.left:
            self.happens()


def fail() -> None:
    raise MemoryError


RESUMED = {"epochs": 4, "evaluations": 2, "average_last": 3, "patience": 0, "keep": "last"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    trainer = make(tmp_path_factory.mktemp("undisturbed"), **RESUMED)
    trainer.run()
    return trainer


@pytest.mark.parametrize(
    ("happens", "error", "step", "saved"),
    [
        (fail, MemoryError, 11, 10),
        pytest.param(fail, MemoryError, 15, 14, marks=pytest.mark.slow),
        # Workers hear of it with the sums of the next step.
        pytest.param(lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt, 9, 10, marks=pytest.mark.slow),
        (lambda: signal.raise_signal(signal.SIGTERM), KeyboardInterrupt, 28, 28),
    ],
    ids=["mid-epoch", "new epoch", "Ctrl-C", "SIGTERM"],
)
def test_a_resume_is_exact(
    undisturbed: Trainer, tmp_path: Path, happens: Callable[[], None], error: type[BaseException], step: int, saved: int
) -> None:
    seconds = 0 if error is MemoryError else 1e9
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(error):
        make(tmp_path, callbacks=[Interrupt(step, happens)], checkpoint_seconds=seconds, **RESUMED).run()
    assert signal.getsignal(signal.SIGINT) is before
    (tmp_path / "history.csv").write_text("rows of evaluations\nthat were lost\n")
    begun: list[int] = []
    trainer = make(tmp_path, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: begun.append(batch))],
                   **RESUMED)  # fmt: skip
    trainer.run()
    assert len(begun) == 28 - saved
    assert_equal(chosen(trainer), chosen(undisturbed))
    assert (tmp_path / "history.csv").read_bytes() == (undisturbed.folder / "history.csv").read_bytes()


def test_a_finished_training_is_not_trained_again(undisturbed: Trainer) -> None:
    again = make(undisturbed.folder, callbacks=[Interrupt(1, fail)], **RESUMED)
    assert again.run() == undisturbed.position
    assert_equal(weights(again), chosen(undisturbed))


def test_weights_are_loaded_by_name(undisturbed: Trainer, tmp_path: Path) -> None:
    trainer = make(tmp_path)
    load_weights(trainer.model, undisturbed.checkpoints / "chosen.npz")
    assert_equal(weights(trainer), chosen(undisturbed))


def test_the_seed_of_a_step_never_changes() -> None:
    assert [step_seed(1, 0), step_seed(1, 1), step_seed(2, 0)] == [3896924394, 3858196364, 200378433]


# Callbacks


class Recorder(keras.callbacks.Callback):
    """Notes which of its methods were called, with their first argument."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        for name in ("train_begin", "train_end", "epoch_begin", "epoch_end", "train_batch_begin", "train_batch_end"):
            setattr(self, f"on_{name}", lambda *given, name=name, **named: self.calls.append((name, *given[:1])))


def epoch_calls(epoch: int, batches: int = 7) -> list[Any]:
    steps = [(f"train_batch_{when}", batch) for batch in range(batches) for when in ("begin", "end")]
    return [("epoch_begin", epoch), *steps, ("epoch_end", epoch)]


def without_logs(calls: Sequence[Any]) -> list[Any]:
    return [call if isinstance(call[-1], int) else call[:1] for call in calls]


def test_callbacks_are_called_as_fit_does(tmp_path: Path) -> None:
    ours, theirs = Recorder(), Recorder()
    make(tmp_path, epochs=2, callbacks=[ours]).run()
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    model.fit(np.ones([7, 1]), np.ones([7, 1]), batch_size=1, epochs=2, verbose=0, callbacks=[theirs])
    assert without_logs(ours.calls) == without_logs(theirs.calls)
    assert without_logs(ours.calls) == [("train_begin",), *epoch_calls(0), *epoch_calls(1), ("train_end",)]


def test_keras_early_stopping_stops(tmp_path: Path) -> None:
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=1, mode="min")
    trainer = make(tmp_path, epochs=9, patience=0, callbacks=[stopping])
    seen = scripted(trainer, [2.0, 1.0, 1.5])
    assert trainer.run().epoch == 3
    assert_equal(chosen(trainer), seen[1])


def test_a_callback_may_stop_within_an_epoch(tmp_path: Path) -> None:
    def stop() -> None:
        trainer.model.stop_training = True

    recorder = Recorder()
    trainer = make(tmp_path, callbacks=[Interrupt(3, stop), recorder])
    position = trainer.run()
    assert (position.step, position.evaluation, position.stopped) == (3, 1, True)
    assert without_logs(recorder.calls) == [("train_begin",), *epoch_calls(0, batches=3), ("train_end",)]
    assert (tmp_path / "checkpoints" / "chosen.npz").exists()


# Devices and precision


def compare_devices(folder: Path, precision: str) -> dict[str, float]:
    """The largest difference of any number after 21 steps on one and on two devices; called in a process that has two."""
    trainers = [
        make(folder / f"{precision} {name}", strategy=strategy, precision=precision, clip_norm=0.1, average_last=2)
        for name, strategy in (("one", tf.distribute.get_strategy()), ("two", distribution.strategy("mirrored")))
    ]
    found = []
    for trainer in trainers:
        history = trainer.run().history
        assert trainer.position.step == 21
        numbers = {f"{row['step']} {name}": value for row in history for name, value in row.items()}
        state = {name: variable.numpy() for name, variable in trainer.optimizer.variables.items()}
        found.append(numbers | state | weights(trainer))
    assert trainers[1].strategy.num_replicas_in_sync == 2
    assert found[0].keys() == found[1].keys()
    return {name: float(np.abs(found[1][name] - value).max()) for name, value in found[0].items()}


def shard_and_gather() -> list[Any]:
    """Rows come back from two devices as they went there: 5, which is uneven, and 1, which leaves the second without."""
    strategy, parts = distribution.strategy("mirrored"), []
    for rows in (5, 1):
        nest = {"row": np.arange(rows, dtype=np.int32), "weight": np.ones(rows, np.float32)}
        sharded = distribution.shard(strategy, nest)
        parts.append([part.numpy().tolist() for part in strategy.experimental_local_results(sharded["weight"])])
        parts.append(distribution.gather(strategy, sharded, rows)["row"].tolist())
    return parts


def kinds_of_reading() -> list[str]:
    """The operations that read two rows of a table, and one of its gradient, on two devices."""
    strategy = distribution.strategy("mirrored")
    with distribution.scope(strategy):
        table = tf.Variable(tf.zeros([5, 2]))

    def replica(ids: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            rows = tf.gather(table, ids)
        table.scatter_update(tf.IndexedSlices(rows + 1.0, ids))
        return tape.gradient(rows, table).values

    step = tf.function(lambda ids: strategy.run(replica, args=(ids,)), autograph=False)
    assert [part.numpy().tolist() for part in strategy.experimental_local_results(step(tf.constant([3, 1])))] == [
        [[1.0] * 2] * 2
    ] * 2
    assert [part.numpy()[:, 0].tolist() for part in strategy.experimental_local_results(table)] == [[0, 1, 0, 1, 0]] * 2
    operations = step.get_concrete_function(tf.constant([3, 1])).graph.get_operations()
    return sorted({operation.type for operation in operations if "Gather" in operation.type})


def time_of_adding_up() -> tuple[float, float]:
    """Seconds of a step whose gradient takes long, and those of them that adding up took, by its own account."""
    strategy = distribution.strategy("mirrored")

    @tf.function(autograph=False)
    def gradient(matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def body(step: tf.Tensor, product: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return step + 1, tf.tanh(tf.matmul(product, matrix))

        return matrix[0], tf.while_loop(lambda step, _: step < 200, body, (0, matrix))[1]

    def replica(matrix: tf.Tensor) -> tf.Tensor:
        return distribution.timed_sum(gradient(matrix))[1]

    step = tf.function(lambda matrix: strategy.run(replica, args=(matrix,)), autograph=False)
    matrix = tf.random.normal([300, 300])
    step(matrix)
    begun = time.monotonic()
    seconds = strategy.experimental_local_results(step(matrix))
    return time.monotonic() - begun, float(seconds[0])


def adding_in_pieces() -> list[Any]:
    """How many elements each message of a sum has, and what is summed: 16 bytes a piece, the second device's numbers are twice the first's."""
    strategy, messages = distribution.strategy("mirrored"), []
    distribution.PIECE, kept = 16, distribution.PIECE

    def replica(values: list[tf.Tensor]) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        own = [value * tf.cast(context.replica_id_in_sync_group + 1, value.dtype) for value in values]
        messages.append([int(piece.shape.num_elements()) for value in own for piece in distribution._pieces(value)])
        return distribution.all_sum(own)

    step = tf.function(lambda values: strategy.run(replica, args=(values,)), autograph=False)
    values = [tf.reshape(tf.range(15.0), [3, 5]), tf.constant(7.0), tf.range(4.0), tf.zeros([0, 2])]
    try:
        summed = [strategy.experimental_local_results(value)[1].numpy().tolist() for value in step(values)]
    finally:
        distribution.PIECE = kept
    assert summed == [(3 * value).numpy().tolist() for value in values]
    return messages[0]


DEVICES = """
import json, sys
from pathlib import Path
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, sys.argv[1])
import test_training
found = {precision: test_training.compare_devices(Path(sys.argv[2]), precision) for precision in ("float64", "float32")}
print(json.dumps({**found, "shards": test_training.shard_and_gather(),
                  "reading": test_training.kinds_of_reading(), "pieces": test_training.adding_in_pieces(),
                  "adding": test_training.time_of_adding_up()}))
"""


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = [str(Path(__file__).parent), str(tmp_path_factory.mktemp("devices"))]
    done = subprocess.run([sys.executable, "-c", DEVICES, *place], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_large_gradients_are_sent_in_pieces(devices: dict[str, Any]) -> None:
    assert devices["pieces"] == [4, 4, 4, 3, 1, 4, 0]


def test_gradients_have_the_shape_of_their_variable_before_they_are_there() -> None:
    """TensorFlow sends all gradients as one message, at the end, where it does not know how large one will be."""
    variable = tf.Variable(tf.zeros([3, 4]))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([None, None])])
    def summed(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        both = _sum(variable, first, second)
        assert both.shape == [3, 4] and _sum(variable, first).shape == [3, 4]
        return both

    assert summed(tf.ones([3, 4]), tf.ones([3, 4])).numpy().tolist() == [[2.0] * 4] * 3


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-9), ("float32", 1e-6)])
def test_two_devices_are_one(devices: dict[str, Any], precision: str, tolerance: float) -> None:
    """Dropout, carried state, sparse gradients, clipping, an uneven last shard and an empty one."""
    worst = max(devices[precision], key=devices[precision].get)
    assert devices[precision][worst] <= tolerance, worst


def test_rows_of_a_table_are_read_alone(devices: dict[str, Any]) -> None:
    """A distributed variable's own gather copies the whole table, once it was written by rows."""
    assert devices["reading"] == ["ResourceGather"]


def test_adding_up_begins_when_the_gradient_is_there(devices: dict[str, Any]) -> None:
    whole, adding = devices["adding"]
    assert 0 < adding < 0.8 * whole  # two replicas on one busy core: the first waits for the second


@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), 7])
def test_the_parts_of_a_batch_are_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """Batches of 5 rows: 3 parts are uneven, of 7 two are empty."""
    trained = {}
    for number in (2, parts):
        monkeypatch.setattr(machine, "parts", lambda number=number: number)
        trainer = make(tmp_path / str(number), precision="float64", epochs=1)
        trainer.run()
        trained[number] = weights(trainer) | {"loss": trainer.position.history[0]["validation_loss"]}
    for name, value in trained[2].items():
        np.testing.assert_allclose(trained[parts][name], value, rtol=0, atol=1e-12, err_msg=name)


def test_rows_are_dealt_and_gathered() -> None:
    nest = {"row": tf.range(5), "vectors": tf.reshape(tf.range(10.0), [5, 2])}
    hands = distribution.cut(nest, 2)
    assert [hand["row"].numpy().tolist() for hand in hands] == [[0, 2, 4], [1, 3, 0]]
    joined = distribution.join(hands, tf.constant(5))
    for name, value in nest.items():
        np.testing.assert_array_equal(joined[name], value)


def test_shards_are_filled_up_and_gathered(devices: dict[str, Any]) -> None:
    assert devices["shards"] == [[[1, 1, 1], [1, 1, 0]], [0, 1, 2, 3, 4], [[1], [0]], [0]]


def test_bfloat16_needs_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx2", "avx512f"})
    distribution.check_precision("float32")
    with pytest.raises(UserError, match="no bfloat16 unit"):
        distribution.check_precision("mixed_bfloat16")
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx512_bf16"})
    distribution.check_precision("mixed_bfloat16")


def test_strategies_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="TensorFlow sees no GPU"):
        distribution.strategy("gpu")
    with pytest.raises(UserError, match="TF_CONFIG is not set"):
        distribution.crew_of("multi_worker")
    assert distribution.strategy("auto") is tf.distribute.get_strategy()


@pytest.mark.parametrize("precision", ["float64", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_other_precisions_train(tmp_path: Path, precision: str) -> None:
    trainer = make(tmp_path, precision=precision, epochs=10, learning_rate=0.05)
    kinds = {str(value.dtype) for value in weights(trainer).values()}
    assert kinds == {"float64" if precision == "float64" else "float32"}
    history = trainer.run().history
    assert history[-1]["loss"] < history[0]["loss"] / 2


@pytest.mark.slow
def test_a_compiled_step_gives_the_same_losses(tmp_path: Path) -> None:
    plain, compiled = (make(tmp_path / str(compile_), compile=compile_).run().history for compile_ in (False, True))
    for one, other in zip(plain, compiled, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_a_step_is_one_graph_whatever_batch_a_process_begins_with() -> None:
    seen: list[Any] = []

    def step(batch: Any, state: Any, seed: tf.Tensor) -> tf.Tensor:
        seen.append((batch["tokens"].shape.as_list(), batch["overlap"].shape.as_list(), state.shape.as_list()))
        return tf.reduce_sum(batch["tokens"])

    compiled = _of_any_size(step)
    for rows, width in ((3, 5), (3, 7), (1, 2)):
        batch = {"tokens": tf.ones([rows, width], tf.int32), "overlap": tf.ones([rows, width, 4])}
        assert compiled(batch, tf.zeros([rows, 6]), tf.constant(1, tf.uint32)).numpy() == rows * width
    assert seen == [([None, None], [None, None, 4], [None, 6])]
    compiled(batch, tf.zeros([1, 6], tf.bfloat16), tf.constant(1, tf.uint32))
    assert len(seen) == 2, "of other dtypes another one"
