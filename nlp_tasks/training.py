"""The one loop: step, schedule, clipping, stopping, averaging, checkpoints. It names no task and runs inside a strategy.

Several workers run it side by side. What decides where it goes is the same on all of them: sums over all replicas, or what the chief says
(`Crew.share`). Only the chief writes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import tensorflow as tf

from nlp_tasks import distribution, optimizers
from nlp_tasks.crew import Crew
from nlp_tasks.data.batching import Batch, padding_share
from nlp_tasks.data.store import Store
from nlp_tasks.errors import UserError
from nlp_tasks.files import whole
from nlp_tasks.layers.dropout import Noise
from nlp_tasks.layers.model import variables_by_name
from nlp_tasks.layers.recurrent import recurrent_path
from nlp_tasks.progress import Progress, tell
from nlp_tasks.recipe import Training
from nlp_tasks.tasks.task import Loss, Task

ROUND_UP = 64
"""Where the step is compiled, ragged fields other than the one that plans the batches are padded to multiples of this."""


class Sums(msgspec.Struct):
    """Running sums since the last evaluation."""

    total: float = 0.0
    weight: float = 0.0
    parts: dict[str, list[float]] = msgspec.field(default_factory=dict)

    def add(self, total: float, weight: float, parts: dict[str, Sequence[float]]) -> None:
        self.total += total
        self.weight += weight
        for name, (value, count) in parts.items():
            held = self.parts.setdefault(name, [0.0, 0.0])
            held[0] += value
            held[1] += count

    def means(self, prefix: str = "") -> dict[str, float]:
        means = {f"{prefix}loss": self.total / max(self.weight, 1e-30)}
        for name, (value, count) in self.parts.items():
            means[prefix + name] = value / max(count, 1e-30)
        return means


class Position(msgspec.Struct):
    """Where a training is. With the variables, all there is to know: nothing else has a memory."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    evaluation: int = 0
    record: float | None = None
    """The best score of an evaluation, lower is better; `best_evaluation` is when it was reached."""
    best_evaluation: int = 0
    best: float | None = None
    """That of the weights which are kept."""
    stopped: bool = False
    sums: Sums = msgspec.field(default_factory=Sums)
    history: list[dict[str, int | float]] = msgspec.field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    reducing: float = 0.0
    """Of the seconds, those in which gradients were added up over replicas, waiting for the last one included."""


class Trainer:
    """Trains one model.

    Args:
        task: its contract; resources loaded.
        training: the recipe's section.
        strategy: where to.
        train, validation: encoded stores.
        folder: for checkpoints, `history.csv` and TensorBoard's files.
        callbacks: Keras callbacks, driven as `fit` does, on every worker.
        glanced: validation examples for the task's `glance`.
        crew: the workers that train together, who have met.
    """

    def __init__(
        self, task: Task, training: Training, strategy: tf.distribute.Strategy, train: Store, validation: Store, folder: Path,
        callbacks: Sequence[keras.callbacks.Callback] = (), glanced: Iterable[Any] = (), crew: Crew | None = None,
    ) -> None:  # fmt: skip
        self.task, self.training, self.strategy, self.crew = task, training, strategy, crew or Crew()
        self.train, self.validation, self.folder = train, validation, folder
        self.checkpoints = folder / "checkpoints"
        self._lengths = {id(store): task.lengths(store) for store in (train, validation)}
        self.model = build(task, training, strategy)
        self._trained = [variable.value for variable in self.model.trainable_variables]
        paths = [variable.path for variable in self.model.trainable_variables]
        per_variable = {
            "multipliers": [task.learning_rate_factor(path) for path in paths],
            "delays": [task.delay(path) for path in paths],
        }
        with distribution.scope(strategy):
            self.optimizer = optimizers.make(training.optimizer, self._trained, **per_variable, **self._options())
        first = task.plan(self._lengths[id(train)], training, 0)
        self.steps_per_epoch = len(first)
        self.padding_share = padding_share(self._lengths[id(train)], first)
        self.position = Position()
        self._before = Position()
        """Where this process began, maybe on more or fewer devices than those before it."""
        self._state: Any = ()
        self._functions = self._compiled()
        self._glance = task.glance(self.model, glanced) if self.crew.chief else dict
        self._callbacks = self._callback_list(callbacks)

    def _check_watch(self) -> None:
        """Before an epoch is spent: is there anything of that name to watch?"""
        batches = self.task.plan(self._lengths[id(self.validation)], self.training, None)[:1]
        names = [name.removeprefix("validation_") for name in self._means(self.validation, batches)]
        if self.training.watch not in names:
            raise UserError(f"training.watch = {self.training.watch!r}: nothing of this name is measured",
                            "choose one of: " + ", ".join(names))  # fmt: skip

    @property
    def _lower_is_better(self) -> bool:
        return self.training.watch.endswith(("loss", "perplexity"))

    def _options(self) -> dict[str, Any]:
        training = self.training
        if training.weight_decay and training.optimizer != "adamw":
            raise UserError(f"training.weight_decay = {training.weight_decay:g} with training.optimizer = {training.optimizer!r}",
                            'only "adamw" decays weights: set training.optimizer = "adamw"')  # fmt: skip
        adaptive = {"beta_2": training.beta_2} if training.optimizer in ("adam", "adamw") else {}
        return adaptive | ({"weight_decay": training.weight_decay} if training.optimizer == "adamw" else {})

    def run(self) -> Position:
        """Trains to the end, or on from the last checkpoint, and leaves `checkpoints/chosen.npz`: the weights to ship."""
        self._check_watch()
        if self.crew.chief:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        chosen, last = self.checkpoints / "chosen.npz", self.checkpoints / "last.npz"
        trained, begun = self.crew.share_values(lambda: (chosen.exists(), last.exists()))
        if trained:
            self.position = self._restore(chosen)
            return self.position
        if begun:
            self.position = self._restore(last)
            self._before = msgspec.structs.replace(self.position)
            tell(f"resuming at epoch {self.position.epoch + 1}, step {self.position.step:,}")
        self._write_history()
        self._callbacks.on_train_begin()
        with _StopSignal() as stop:
            while not self._finished():
                self._epoch(stop)
            if stop:
                raise KeyboardInterrupt
        self._callbacks.on_train_end()
        self._choose(chosen)
        return self.position

    def _finished(self) -> bool:
        return self.position.stopped or self.position.epoch >= self.training.epochs

    def _epoch(self, stop: _StopSignal) -> None:
        position, training = self.position, self.training
        batches = self.task.plan(self._lengths[id(self.train)], training, position.epoch)
        marks = {math.ceil(len(batches) * (n + 1) / training.evaluations) for n in range(training.evaluations)}
        if position.batch == 0:
            self._state = self.task.initial_state(batches[0].size)
        self._callbacks.on_epoch_begin(position.epoch)
        saved = time.monotonic()
        title = f"epoch {position.epoch + 1}/{training.epochs}"
        with Progress(title, len(batches), position.batch) as progress:
            for batch in self._read(self.train, batches[position.batch :]):
                due = time.monotonic() - saved >= training.checkpoint_seconds
                stopping, saving = self._step(batch, [bool(stop), due and self.crew.chief])
                progress.advance(note=self._note())
                if position.batch in marks or self.model.stop_training:
                    self._evaluation(position.epoch + position.batch / len(batches))
                    position.stopped |= self.model.stop_training
                if position.batch == len(batches) or position.stopped:
                    position.epoch, position.batch = position.epoch + 1, 0
                if position.batch in marks or position.batch == 0 or stopping or saving:
                    self._save(self.checkpoints / "last.npz")
                    saved = time.monotonic()
                if stopping:
                    self.crew.share()  # saved: who leaves before that looks like one that is lost
                    raise KeyboardInterrupt
                if position.batch == 0:
                    break
        logs = {name.replace("validation_", "val_"): value for name, value in position.history[-1].items()}  # Keras' names
        self._callbacks.on_epoch_end(position.epoch - 1, logs)
        if self.model.stop_training and not position.stopped:
            position.stopped = True
            self._save(self.checkpoints / "last.npz")

    def _step(self, batch: dict[str, np.ndarray], wishes: Sequence[bool] = (False, False)) -> list[bool]:
        """One update. What any worker wishes (to stop, to save) is summed with the loss: all hear of it at the same step."""
        begun, position = time.monotonic(), self.position
        self._callbacks.on_train_batch_begin(position.batch)
        seed = step_seed(self.training.seed, position.step)
        rows = len(batch["weight"])
        shards = distribution.shard(self.strategy, (batch, self._state))
        wished = tf.constant(wishes, tf.float32)
        *sums, state, reducing = self._functions["step"](*shards, tf.constant(seed, tf.uint32), wished)
        if tf.nest.flatten(self._state):
            self._state = distribution.gather(self.strategy, state, rows)
        (total, weight, parts, norm, wished), reducing = self._local(sums), self._local(reducing)
        position.batch += 1
        position.step += 1
        lengths = batch[f"{self.task.length_field}_lengths"]
        self._check_finite(lengths, {"loss": total, "norm of the gradient": norm})
        position.sums.add(total, weight, parts)
        position.tokens += int(lengths.sum())
        position.seconds += time.monotonic() - begun
        position.reducing += reducing
        self._callbacks.on_train_batch_end(position.batch - 1, {"loss": total / max(weight, 1e-30)})
        return [bool(wish) for wish in wished]

    def _compiled(self) -> dict[str, Callable[..., Any]]:
        task, training, strategy = self.task, self.training, self.strategy
        cuts = distribution.parts(strategy)
        path = "plain" if training.compile else training.recurrent  # the packed path's shapes are not known before they are there

        @tf.function(autograph=False, jit_compile=training.compile or None, reduce_retracing=True)
        def gradients(batch: dict[str, tf.Tensor], state: Any, seed: tf.Tensor) -> Any:
            with tf.GradientTape() as tape, recurrent_path(path):
                noise = Noise(seed, tf.cast(batch["row"], tf.uint32))
                loss = task.loss(self.model, batch, state, noise)
            return loss, tape.gradient(loss.total, self._trained)

        @tf.function(autograph=False, reduce_retracing=True)
        def losses(batch: dict[str, tf.Tensor], state: Any) -> Any:
            with recurrent_path(training.recurrent, gradient=False):
                return task.loss(self.model, batch, state, None)

        def whole(losses: list[Loss], rows: tf.Tensor) -> Loss:
            """The loss of a batch from that of its parts."""
            summed = tf.nest.map_structure(lambda *values: tf.add_n(values), *((x.total, x.weight, x.parts) for x in losses))
            total, weight, parts = summed
            return Loss(total, weight, parts, distribution.join([loss.state for loss in losses], rows))

        def train_replica(batch: dict[str, tf.Tensor], state: Any, seed: tf.Tensor, wished: tf.Tensor) -> Any:
            computed = [gradients(*part, seed) for part in distribution.cut((batch, state), cuts)]
            loss = whole([loss for loss, _ in computed], tf.shape(batch["row"])[0])
            local = [_sum(*parts) for parts in zip(self._trained, *(gradients for _, gradients in computed), strict=True)]
            found = [index for index, gradient in enumerate(local) if gradient is not None]
            sums = (loss.total, loss.weight, loss.parts, tf.unstack(tf.cast(wished, loss.total.dtype)))
            (summed, sums), seconds = distribution.timed_sum(([local[index] for index in found], sums))
            total, weight, parts, wishes = sums
            scale = tf.ones_like(weight) if task.summed else 1 / tf.maximum(weight, tf.constant(1e-30, weight.dtype))
            for index, gradient in zip(found, summed, strict=True):
                local[index] = gradient
            clipped, norm = optimizers.clip_by_global_norm(local, training.clip_norm, scale)
            self.optimizer.apply(
                clipped, self._learning_rate(self.optimizer.variables[f"{self.optimizer.name}/step"].read_value())
            )
            return total, weight, parts, norm, wishes, loss.state, seconds

        def evaluate_replica(batch: dict[str, tf.Tensor], state: Any) -> Any:
            computed = [losses(*part) for part in distribution.cut((batch, state), cuts)]
            loss = whole(computed, tf.shape(batch["row"])[0])
            return (*distribution.all_sum((loss.total, loss.weight, loss.parts)), loss.state)

        def step(batch: Any, state: Any, seed: tf.Tensor, wished: tf.Tensor) -> Any:
            return strategy.run(train_replica, args=(batch, state, seed, wished))

        def evaluate(batch: Any, state: Any) -> Any:
            return strategy.run(evaluate_replica, args=(batch, state))

        if training.compile:
            return {"step": tf.function(step, autograph=False, reduce_retracing=True), "evaluate": _of_any_size(evaluate)}
        return {"step": _of_any_size(step), "evaluate": _of_any_size(evaluate)}

    def _learning_rate(self, step: tf.Tensor) -> tf.Tensor:
        """Of the update after `step` `<int64>[]` others."""
        training, total_steps = self.training, self.steps_per_epoch * self.training.epochs
        return optimizers.schedule(
            step, peak=training.learning_rate, warmup_steps=training.warmup_steps, decay=training.decay, total_steps=total_steps
        )

    def _evaluation(self, epoch: float) -> None:
        """Looks at the validation data after so many epochs, notes it in the history, keeps what is needed for choosing."""
        position = self.position
        if not position.sums.weight:
            raise UserError(f"nothing to learn from in {position.step:,} steps: no training example has anything that counts",
                            "labels that the model knows, or words near each other in a line: look at the data")  # fmt: skip
        measured = self.evaluate(self.validation)
        glanced = self.crew.share_values(self._glance)
        values = measured | {f"validation_{name}": value for name, value in glanced.items()}
        watched = f"validation_{self.training.watch}"
        self._check_finite(self._lengths[id(self.validation)], {"validation loss": values["validation_loss"]})
        rate = float(self._learning_rate(tf.constant(position.step, tf.int64)))
        row = {"epoch": round(epoch, 4), "step": position.step, "learning_rate": rate, **position.sums.means(), **values}
        position.history.append(row)
        position.sums = Sums()
        position.evaluation += 1
        score = values[watched] if self._lower_is_better else -values[watched]
        better = position.record is None or score < position.record
        if better:
            position.record, position.best_evaluation = score, position.evaluation
        if better or self.training.keep == "last":
            position.best = score
            self._save(self.checkpoints / "best.npz", model_only=True)
        if self.training.average_last > 1:
            self._save(self._recent(position.evaluation), model_only=True)
            self._remove(self._recent(position.evaluation - self.training.average_last))
        waited = position.evaluation - position.best_evaluation
        position.stopped = bool(self.training.patience) and waited >= self.training.patience
        self._write_history()
        shown = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name not in ("epoch", "step", "learning_rate"))
        tell(f"epoch {epoch:.4g}  {shown}  {self._note()}" + ("  best" if better else ""))

    def evaluate(self, store: Store) -> dict[str, float]:
        """Means over a store: `validation_loss` and the parts that the task names."""
        return self._means(store, self.task.plan(self.task.lengths(store), self.training, None))

    def _means(self, store: Store, batches: Sequence[Batch]) -> dict[str, float]:
        sums = Sums()
        state = self.task.initial_state(batches[0].size)
        for batch in self._read(store, batches):
            shards = distribution.shard(self.strategy, (batch, state))
            total, weight, parts, following = self._functions["evaluate"](*shards)
            if tf.nest.flatten(state):
                state = distribution.gather(self.strategy, following, len(batch["weight"]))
            sums.add(*self._local((total, weight, parts)))
        return sums.means("validation_")

    def _choose(self, chosen: Path) -> None:
        """The best evaluation's weights, or the average of the last ones where that is better on validation data."""
        position = self.position
        self._restore(self.checkpoints / "best.npz")
        last = min(self.training.average_last, position.evaluation)
        if last > 1:
            numbers = range(position.evaluation - last + 1, position.evaluation + 1)
            self._assign(self.crew.share_arrays(lambda: _average([self._recent(number) for number in numbers])))
            value = self.evaluate(self.validation)[f"validation_{self.training.watch}"]
            score = value if self._lower_is_better else -value
            tell(f"average of the last {last} evaluations: validation_{self.training.watch} {value:.4f}")
            if position.best is not None and score > position.best:
                self._restore(self.checkpoints / "best.npz")
        self._save(chosen, model_only=True)
        self._remove(*self.checkpoints.glob("recent-*.npz"), self.checkpoints / "last.npz", self.checkpoints / "best.npz")

    def _remove(self, *paths: Path) -> None:
        for path in paths if self.crew.chief else ():
            path.unlink(missing_ok=True)

    def _read(self, store: Store, batches: Sequence[Batch]) -> Iterator[dict[str, np.ndarray]]:
        """Padded batches, the next one made while the present one is computed."""

        def make(batch: Batch) -> dict[str, np.ndarray]:
            def width(field: str, longest: int) -> int:
                return batch.width if field in aligned else -(-longest // multiple) * multiple

            return store.batch(batch.rows, batch.size, width)

        aligned, multiple = store.aligned(self.task.length_field), ROUND_UP if self.training.compile else 1

        with ThreadPoolExecutor(1) as thread:
            following = thread.submit(make, batches[0]) if batches else None
            for index in range(len(batches)):
                assert following is not None
                present = following.result()
                following = thread.submit(make, batches[index + 1]) if index + 1 < len(batches) else None
                yield present

    def _local(self, values: Any) -> Any:
        """Sums that are the same on every replica, as Python numbers."""
        first = tf.nest.map_structure(lambda value: float(self.strategy.experimental_local_results(value)[0]), values)
        return first

    def _check_finite(self, lengths: np.ndarray, values: dict[str, float]) -> None:
        """Refuses what is not a number, before a checkpoint could keep it."""
        position = self.position
        for name, value in values.items():
            if not math.isfinite(value):
                rate = float(self._learning_rate(tf.constant(position.step - 1, tf.int64)))
                raise UserError(
                    f"the {name} is not a number ({value}) at step {position.step} (epoch {position.epoch + 1}); learning rate {rate:g}, "
                    f"longest text {lengths.max()} {self.task.length_field}",
                    "lower training.learning_rate, raise training.warmup_steps or lower training.clip_norm; "
                    "the last checkpoint is whole",
                )

    def _note(self) -> str:
        position, before = self.position, self._before
        seconds = position.seconds - before.seconds
        rate = (position.tokens - before.tokens) / seconds if seconds else 0.0
        means = position.sums.means()
        loss = f"loss {means['loss']:.4f}  " if position.sums.weight else ""
        crew = ""
        if self.crew.size > 1:
            share = (position.reducing - before.reducing) / seconds if seconds else 0.0
            crew = f" by {self.crew.size} workers, {rate / self.crew.size:,.0f} each, {share:.0%} of the time to add up gradients"
        return f"{loss}{rate:,.0f} tokens/s{crew}  padding {self.padding_share:.0%}"

    def _recent(self, number: int) -> Path:
        return self.checkpoints / f"recent-{number}.npz"

    def _save(self, path: Path, *, model_only: bool = False) -> None:
        """One file that is whole or not there: variables, carried state, position."""
        state = () if model_only else distribution.collect(self.strategy, self._state)
        if not self.crew.chief:
            return
        arrays = {f"model/{name}": variable.numpy() for name, variable in variables_by_name(self.model).items()}
        if not model_only:
            arrays |= {f"optimizer/{name}": variable.numpy() for name, variable in self.optimizer.variables.items()}
            arrays |= {f"state/{index}": _storable(part) for index, part in enumerate(tf.nest.flatten(state))}
        position = np.frombuffer(msgspec.json.encode(self.position), np.uint8)
        with whole(path) as file:
            np.savez(file, position=position, **arrays)

    def _restore(self, path: Path) -> Position:
        """Loads what `_save` wrote; any number of devices can read it."""
        arrays = self.crew.share_arrays(lambda: _arrays(path))
        self._assign(arrays)
        state = [arrays[name] for name in sorted((n for n in arrays if n.startswith("state/")), key=lambda n: int(n[6:]))]
        if state:
            begun = self.task.initial_state(len(state[0]))
            dtypes = [tf.as_dtype(part.dtype).as_numpy_dtype for part in tf.nest.flatten(begun)]
            typed = [part.astype(dtype, copy=False) for part, dtype in zip(state, dtypes, strict=True)]
            self._state = tf.nest.pack_sequence_as(begun, typed)
        return msgspec.json.decode(arrays["position"].tobytes(), type=Position)

    def _assign(self, arrays: dict[str, Any]) -> None:
        for name, variable in variables_by_name(self.model).items():
            variable.assign(arrays[f"model/{name}"].astype(variable.dtype.as_numpy_dtype))  # an average is of float64
        if any(name.startswith("optimizer/") for name in arrays):
            for name, variable in self.optimizer.variables.items():
                variable.assign(arrays[f"optimizer/{name}"])

    def _write_history(self) -> None:
        """`history.csv`, cut back to what the restored position knows."""
        if not self.crew.chief:
            return
        text = io.StringIO()
        if self.position.history:
            writer = csv.DictWriter(text, list(self.position.history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.position.history)
        with whole(self.folder / "history.csv") as file:
            file.write(text.getvalue().encode())

    def _callback_list(self, callbacks: Sequence[keras.callbacks.Callback]) -> keras.callbacks.CallbackList:
        callbacks = list(callbacks)
        if self.training.tensorboard and self.crew.chief:
            try:
                import tensorboard  # noqa: F401
            except ImportError:
                raise UserError("training.tensorboard = true: the package tensorboard is not installed",
                                "pip install tensorboard") from None  # fmt: skip
            callbacks.append(keras.callbacks.TensorBoard(str(self.folder / "tensorboard")))
        self.model.stop_training = False
        self.model.optimizer = None  # ours is none of Keras'; its callbacks look for one
        return keras.callbacks.CallbackList(callbacks, model=self.model, epochs=self.training.epochs)


def _of_any_size(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of (batch, state, …) as one graph for rows and lengths of any number.

    TensorFlow makes another graph for a size that it knows, which rounds otherwise, and which sizes it knows depends on the batches that
    a process begins with: one that goes on with a training would not give the bits of one that was never killed.
    """

    def spec(known: int) -> Callable[[Any], Any]:
        def relaxed(value: Any) -> Any:
            if isinstance(value, tf.TensorSpec):
                kept = value.shape[known:]
                return tf.TensorSpec([None] * (value.shape.rank - len(kept)) + list(kept), value.dtype)
            return type(value)(*map(relaxed, tf.nest.flatten(value, expand_composites=True)))  # a value for each replica

        return lambda value: relaxed(tf.type_spec_from_value(value))

    compiled: dict[tuple[tf.DType, ...], Any] = {}  # by dtypes: a carried state begins in float32 whatever it goes on in

    def call(batch: Any, state: Any, *others: Any) -> Any:
        key = tuple(tensor.dtype for tensor in tf.nest.flatten((batch, state, others), expand_composites=True))
        if key not in compiled:
            signature = [tf.nest.map_structure(spec(known), value) for known, value in ((2, batch), (1, state), (0, others))]
            compiled[key] = tf.function(function, autograph=False, input_signature=(*signature[:2], *signature[2]))
        return compiled[key](batch, state, *others)

    return call


def build(task: Task, training: Training, strategy: tf.distribute.Strategy | None = None) -> keras.Model:
    """The task's model with its variables, initialised from the recipe's seed."""
    policy = keras.config.dtype_policy()
    keras.backend.clear_session(free_memory=False)  # first: it forgets the precision, and any strategy's scope
    keras.config.set_dtype_policy(training.precision)
    keras.utils.set_random_seed(training.seed)
    try:
        with distribution.scope(strategy or tf.distribute.get_strategy()):
            model = task.build()
            main = task.signatures(model)[task.scored]
            main.function(*(tf.constant("", shape=[1] * spec.shape.rank) for spec in main.inputs))
    finally:
        keras.config.set_dtype_policy(policy)
    return model


def mark_counted(folder: Path, seconds: float) -> None:
    """For a model that is counted and not descended: leaves what says that the run in this folder is trained."""
    chosen = folder / "checkpoints" / "chosen.npz"
    chosen.parent.mkdir(exist_ok=True)
    with whole(chosen) as file:
        np.savez(file, position=np.frombuffer(msgspec.json.encode(Position(seconds=seconds)), np.uint8))


def load_weights(model: keras.Model, path: Path) -> None:
    """The model's variables from a checkpoint."""
    with np.load(path) as content:
        for name, variable in variables_by_name(model).items():
            variable.assign(content[f"model/{name}"])


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as content:
        return dict(content)


def _average(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """The mean of several checkpoints' models, in float64."""
    averaged: dict[str, np.ndarray] = {}
    for path in paths:
        for name, array in _arrays(path).items():
            if name.startswith("model/"):
                averaged[name] = averaged.get(name, 0) + array.astype(np.float64) / len(paths)
    return averaged


def _storable(part: Any) -> np.ndarray:
    """As float32 what NumPy's files have no type for: bfloat16."""
    array = np.asarray(part)
    return array if array.dtype.kind in "biuf" else array.astype(np.float32)


def step_seed(seed: int, step: int) -> int:
    """32 bits for a step, from the recipe's seed."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {step}".encode(), digest_size=4).digest(), "big")


def _sum(variable: tf.Variable, *gradients: Any) -> Any:
    """Of one variable over the parts of a batch; sparse ones stay sparse, with no row twice."""
    if gradients[0] is None:
        return None
    if isinstance(gradients[0], tf.IndexedSlices):
        values, indices = (tf.concat(parts, 0) for parts in zip(*((g.values, g.indices) for g in gradients), strict=True))
        return optimizers.deduplicate(tf.IndexedSlices(values, indices, gradients[0].dense_shape))
    return tf.ensure_shape(tf.add_n(gradients), variable.shape)  # else nothing is sent to other workers before all is there


class _StopSignal:
    """Ctrl-C and SIGTERM ask the loop to stop between two steps; true once they came. A second Ctrl-C does not wait."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self._asked

    def __enter__(self) -> _StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:  # not in the main thread: whoever runs us decides
                return self
        return self

    def _ask(self, number: int, frame: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
