"""How fast are the recurrent layers on a CPU, against Keras and PyTorch?

    python benchmarks/recurrent.py [--pytorch PYTHON] [--only WORDS] [--turns 7]

PYTHON is the interpreter of an environment with benchmarks/peers/pytorch/requirements.txt; without it that column stays empty. Each
contender is a process of its own, waiting for its turn; they take turns at each measurement (so many calls that they fill a third of a
second, their median), and the table holds the medians of the turns. Everyone has the same cores, batches and float32.

    ours            the packed path, the batch in parts side by side, as the training loop does it
    ours, plain     the plain path, not exported
    ours, export    a SavedModel of the layer, loaded with TensorFlow's defaults, as a server would
    Keras           `keras.layers` in a `tf.function`, a mask for the lengths; oneDNN on and off (the faster one counts)
    PyTorch         `torch.nn.LSTM`, packed where lengths differ; inference mode for inference

training: outputs, then the gradients of the sum of their squares with respect to inputs and weights. tagger: a whole step on 64
sentences with the lengths of UD English-EWT: embedding of 50,000 words, BiLSTM, loss, Adam (ours: `Trainer`; Keras: `fit` as it compiles
by itself; PyTorch: SparseAdam for the embedding). limit: the time that the matrix products alone would take at the measured rate.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contenders import Call, Contender, alternate, processor, table, work

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

EWT = (1, 2, 3, 4, 6, 7, 9, 10, 11, 13, 14, 15, 17, 19, 20, 23, 25, 28, 32, 39, 80)
"""Lengths of the sentences of UD English-EWT's training data, every twentieth part; the longest is cut to 80."""

SIZES = {
    "32,100,128,256": (32, 100, 128, 256, 1),
    "64,35,256,256": (64, 35, 256, 256, 1),
    "20,35,650,650": (20, 35, 650, 650, 1),
    "64,50,128,128,bi": (64, 50, 128, 128, 2),
    "64,ragged,128,128,bi": (64, 80, 128, 128, 2),
}
WORDS, TAGS, SENTENCES = 50_000, 17, 640


def lengths(size: str) -> np.ndarray:
    rows, time_steps, *_ = SIZES[size]
    if "ragged" not in size:
        return np.full(rows, time_steps, np.int32)
    return sentence_lengths(rows)


def sentence_lengths(rows: int) -> np.ndarray:
    return np.random.default_rng(1).permutation(np.interp(np.linspace(0, 20, rows), range(21), EWT)).astype(np.int32)


def arrays(size: str) -> tuple[np.ndarray, np.ndarray]:
    rows, time_steps, features, *_ = SIZES[size]
    return np.random.default_rng(0).normal(size=[rows, time_steps, features]).astype(np.float32), lengths(size)


def sentences() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(words, tags, lengths) of each batch of 64 sentences of like length; words follow Zipf's law."""
    random, batches = np.random.default_rng(2), []
    sorted_lengths = np.sort(sentence_lengths(SENTENCES))
    for chunk in sorted_lengths.reshape(-1, 64):
        inside = np.arange(-(-chunk.max() // 8) * 8) < chunk[:, None]
        words = np.minimum(random.zipf(1.2, inside.shape), WORDS - 1) * inside
        batches.append((words.astype(np.int32), (words % TAGS * inside).astype(np.int32), chunk))
    return batches


def products(size: str, kind: str) -> float:
    """Floating-point operations of the matrix products of the real tokens."""
    _, _, features, units, directions = SIZES[size]
    forward = 2.0 * lengths(size).sum() * directions * 4 * units * (features + units)
    return forward * (3 if kind == "training" else 1)


# Ours


def ours(size: str, kind: str) -> Call:
    import tensorflow as tf

    from nlp_tasks import distribution, layers

    inputs, row_lengths = map(tf.constant, arrays(size))
    if kind == "rate":
        return matmul_rate(distribution.parts(tf.distribute.get_strategy()))
    if kind.startswith("tagger"):
        return our_tagger("plain" if "plain" in kind else "auto")
    path = "plain" if "plain" in kind else "auto"
    layer = our_layer(size, layers.MinGRU if "light" in kind else layers.LSTM)
    layer(inputs[:1, :2], tf.minimum(row_lengths[:1], 2))
    parts = 1 if path == "plain" else distribution.parts(tf.distribute.get_strategy())
    specification = [tf.TensorSpec([None, None, inputs.shape[-1]]), tf.TensorSpec([None], tf.int32)]

    @tf.function(autograph=False, input_signature=specification)
    def training(inputs: tf.Tensor, row_lengths: tf.Tensor) -> Any:
        found = []
        for part, part_lengths in distribution.cut((inputs, row_lengths), parts):
            with layers.recurrent_path(path), tf.GradientTape() as tape:
                tape.watch(part)
                total = tf.reduce_sum(layer(part, part_lengths)[0] ** 2)
            found.append(tape.gradient(total, [part, *(variable.value for variable in layer.trainable_variables)]))
        inputs_gradient = distribution.join([gradients[0] for gradients in found], tf.shape(inputs)[0])
        return inputs_gradient, [tf.add_n(gradients) for gradients in zip(*(g[1:] for g in found), strict=True)]

    @tf.function(autograph=False, input_signature=specification)
    def inference(inputs: tf.Tensor, row_lengths: tf.Tensor) -> tf.Tensor:
        with layers.recurrent_path(path, gradient=False):
            cuts = distribution.cut((inputs, row_lengths), parts)
            return distribution.join([layer(*cut)[0] for cut in cuts], tf.shape(inputs)[0])

    function = training if "training" in kind else inference
    return lambda: function(inputs, row_lengths)


def our_layer(size: str, cell: Any) -> Any:
    from nlp_tasks import layers

    *_, units, directions = SIZES[size]
    return cell(units) if directions == 1 else layers.Bidirectional(cell(units), cell(units))


def export(size: str, kind: str) -> Call:
    """The plain path in a SavedModel, with the threads that TensorFlow chooses by itself."""
    import tensorflow as tf

    from nlp_tasks import layers

    inputs, row_lengths = map(tf.constant, arrays(size))
    layer = our_layer(size, layers.LSTM)
    layer(inputs[:1, :2], tf.minimum(row_lengths[:1], 2))

    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec([None, None, inputs.shape[-1]]), tf.TensorSpec([None], tf.int32)]
    )
    def outputs(inputs: tf.Tensor, row_lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        with layers.recurrent_path("plain" if "plain" in kind else "packed", gradient=False):
            return {"outputs": layer(inputs, row_lengths)[0]}

    with tempfile.TemporaryDirectory() as folder:
        module = tf.Module()
        module.model_variables = [variable.value for variable in layer.variables]
        tf.saved_model.save(module, folder, signatures=outputs.get_concrete_function())
        loaded = tf.saved_model.load(folder)
    function = loaded.signatures["serving_default"]
    return lambda loaded=loaded: function(inputs=inputs, row_lengths=row_lengths)


def our_tagger(path: str) -> Call:
    import tensorflow as tf

    from nlp_tasks import layers
    from nlp_tasks.data.batching import Batch
    from nlp_tasks.data.store import write_store
    from nlp_tasks.recipe import Training
    from nlp_tasks.tasks.task import Loss, Signature, Task
    from nlp_tasks.training import Trainer

    class Tagger(Task):
        length_field = "tokens"

        def build(self) -> Any:
            network = layers.Bidirectional(layers.LSTM(128), layers.LSTM(128))
            import keras

            def logits(model: Any, batch: Any, noise: Any) -> tf.Tensor:
                return model.tags(model.network(model.embedding(batch["tokens"]), batch["tokens_lengths"])[0])

            return layers.Model(logits, embedding=layers.Embedding(WORDS, 128), network=network, tags=keras.layers.Dense(TAGS))

        def loss(self, model: Any, batch: Any, state: Any, noise: Any) -> Loss:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["tags"], model(batch, noise))
            weights = tf.cast(tf.sequence_mask(batch["tokens_lengths"], tf.shape(losses)[1]), tf.float32)
            return Loss(tf.reduce_sum(losses * weights), tf.reduce_sum(weights), {}, state)

        def signatures(self, model: Any) -> dict[str, Signature]:
            def function(texts: tf.Tensor) -> dict[str, tf.Tensor]:
                batch = {"tokens": tf.ones([1, 1], tf.int32), "tokens_lengths": tf.ones([1], tf.int32)}
                return {"tags": model(batch)}

            return {"serving_default": Signature(function, (tf.TensorSpec([None], tf.string, "texts"),))}

    Tagger.__abstractmethods__ = frozenset()  # the loop needs no other part of the contract

    def store(folder: Path) -> Any:
        flat = []
        for words, tags, row_lengths in sentences():
            inside = np.arange(words.shape[1]) < row_lengths[:, None]
            flat.append((len(words), {"tokens": (words[inside], row_lengths), "tags": (tags[inside], row_lengths)}))
        return write_store(folder, flat)

    folder = Path(tempfile.mkdtemp())
    data = store(folder / "train")
    training = Training(epochs=1, batch_tokens=8192, batch_rows=64, buckets=20, recurrent=path)
    trainer = Trainer(Tagger(None), training, tf.distribute.get_strategy(), data, data, folder)
    widths = [words.shape[1] for words, _, _ in sentences()]
    batches = [Batch(np.arange(64 * number, 64 * (number + 1)), 64, width) for number, width in enumerate(widths)]

    def epoch() -> float:
        """The share of the time in which the loop waited for a batch."""
        begun, waited, ready = time.perf_counter(), 0.0, time.perf_counter()
        for batch in trainer._read(data, batches):
            waited += time.perf_counter() - ready
            trainer._step(batch)
            ready = time.perf_counter()
        return waited / (ready - begun)

    return epoch


# Keras


def keras(size: str, kind: str) -> Call:
    import keras
    import tensorflow as tf

    if kind == "tagger":
        return keras_tagger()
    inputs, row_lengths = map(tf.constant, arrays(size))
    *_, units, directions = SIZES[size]
    layer = keras.layers.LSTM(units, return_sequences=True)
    layer = layer if directions == 1 else keras.layers.Bidirectional(layer)
    layer.build(inputs.shape)
    ragged = "ragged" in size

    def outputs(inputs: tf.Tensor, row_lengths: tf.Tensor, training: bool) -> tf.Tensor:
        mask = tf.sequence_mask(row_lengths, tf.shape(inputs)[1]) if ragged else None
        return layer(inputs, mask=mask, training=training)

    @tf.function(autograph=False)
    def training(inputs: tf.Tensor, row_lengths: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = tf.reduce_sum(outputs(inputs, row_lengths, True) ** 2)
        return tape.gradient(total, [inputs, *(variable.value for variable in layer.trainable_variables)])

    inference = tf.function(lambda inputs, row_lengths: outputs(inputs, row_lengths, False), autograph=False)
    function = training if kind == "training" else inference
    return lambda: function(inputs, row_lengths)


def keras_tagger() -> Call:
    import keras
    import tensorflow as tf

    model = keras.Sequential(
        [
            keras.layers.Embedding(WORDS, 128, mask_zero=True),
            keras.layers.Bidirectional(keras.layers.LSTM(128, return_sequences=True)),
            keras.layers.Dense(TAGS),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = [(words, tags) for words, tags, _ in sentences()]
    specification = (tf.TensorSpec([64, None], tf.int32), tf.TensorSpec([64, None], tf.int32))
    data = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=specification).cache()
    return lambda: model.fit(data, verbose=0)


# A turn


def matmul_rate(parts: int) -> Call:
    """All cores at work as the layers use them; returns GFLOP/s."""
    import tensorflow as tf

    left = [tf.Variable(tf.random.normal([3200, 256])) for _ in range(parts)]
    right = [tf.Variable(tf.random.normal([256, 1040])) for _ in range(parts)]

    @tf.function(autograph=False)
    def multiply() -> list[tf.Tensor]:
        return [tf.matmul(one, other) for one, other in zip(left, right, strict=True)]

    return multiply


# The table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pytorch", help="interpreter that has PyTorch")
    parser.add_argument("--only", default="", help='kinds, e.g. "training,tagger"')
    parser.add_argument("--sizes", default="", help="sizes as the table names them, divided by blanks")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--work", choices=["ours", "export", "keras"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        if options.work == "ours":
            import nlp_tasks  # noqa: F401 - decides about oneDNN and threads
        return work({"ours": ours, "export": export, "keras": keras}[options.work])

    this = [sys.executable, __file__, "--work"]
    threads = str(max(1, len(os.sched_getaffinity(0))))
    us = Contender([*this, "ours"])
    exported = Contender([*this, "export"], TF_ENABLE_ONEDNN_OPTS="1", TF_NUM_INTRAOP_THREADS=threads)
    keras_on, keras_off = (Contender([*this, "keras"], TF_ENABLE_ONEDNN_OPTS=on, KERAS_BACKEND="tensorflow") for on in "10")
    keras_both = {"Keras, on": keras_on, "Keras, off": keras_off}
    peers = {"PyTorch": Contender([options.pytorch, str(HERE / "peers/pytorch/recurrent.py")])} if options.pytorch else {}

    rate = 2 * 3200 * 256 * 1040 / us.turn("32,100,128,256", "rate") / 1e6  # of one part
    rate *= max(1, len(os.sched_getaffinity(0)))
    print(
        f"{processor()}; matmul 3200×256×1040 float32: {rate:.0f} GFLOP/s; medians of {options.turns} turns; load {os.getloadavg()[0]:.2f}"
    )

    contenders: dict[str, dict[str, tuple[Contender, str]]] = {
        "training": {
            "ours": (us, "training"),
            "ours, plain": (us, "training plain"),
            "ours, light": (us, "training light"),
        },
        "inference": {
            "ours": (us, "inference"),
            "ours, export": (exported, "inference"),
            "export, plain": (exported, "inference plain"),
            "ours, light": (us, "inference light"),
        },
    }
    wanted = options.only.split(",") if options.only else ["training", "inference", "tagger"]
    for kind in [kind for kind in contenders if kind in wanted]:
        runs = contenders[kind] | {name: (peer, kind) for name, peer in (keras_both | peers).items()}
        rows = []
        for size in options.sizes.split() or SIZES:
            taken = alternate(runs, size, options.turns)
            limit = products(size, kind) / rate / 1e6
            rows.append([size, *(f"{value:.1f}" for value in taken.values()), f"{limit:.1f}", *ratios(taken, limit, kind)])
        names = [*runs, "limit", "limit/ours", "ours/Keras", *(["ours/PyTorch"] if peers else [])]
        names += ["export/Keras"] if kind == "inference" else ["light/ours"]
        table(f"{kind}, milliseconds; ratios: how many times as fast", ["batch,time,features,units", *names], rows)
    if "tagger" in wanted:
        runs = {"ours": (us, "tagger"), "ours, plain": (us, "tagger plain")} | {
            n: (c, "tagger") for n, c in (keras_both | peers).items()
        }
        taken = alternate(runs, "32,100,128,256", options.turns)
        tokens = sum(int(row_lengths.sum()) for _, _, row_lengths in sentences())
        rows = [
            [name, f"{value:.0f}", f"{1e3 * tokens / value:,.0f}", f"{value / taken['ours']:.2f}"]
            for name, value in taken.items()
        ]
        waiting = statistics.median(us.turn("32,100,128,256", "tagger waiting") for _ in range(options.turns))
        table(f"tagger, an epoch of {SENTENCES} sentences", ["", "milliseconds", "tokens/s", "times ours"], rows)
        print(f"our loop waited for its batches {waiting:.1%} of the time")


def ratios(taken: dict[str, float], limit: float, kind: str) -> list[str]:
    keras = min(taken["Keras, on"], taken["Keras, off"])
    found = [f"{limit / taken['ours']:.2f}", f"{keras / taken['ours']:.2f}"]
    if "PyTorch" in taken:
        found.append(f"{taken['PyTorch'] / taken['ours']:.2f}")
    found.append(f"{keras / taken['ours, export']:.2f}" if kind == "inference" else f"{taken['ours'] / taken['ours, light']:.2f}")
    return found


if __name__ == "__main__":
    main()
