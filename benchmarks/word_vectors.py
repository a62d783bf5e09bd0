"""How fast are word vectors trained on a CPU, and are they as good as gensim's?

    python benchmarks/word_vectors.py --text train.txt --questions questions-words.txt [--gensim PYTHON] [--turns 5]
        [--only speed|quality|time]

train.txt is tokenised text such as WikiText-2's. PYTHON is the interpreter of an environment with benchmarks/peers/gensim/requirements.txt;
without it its rows are missing. Everyone has the same text, vocabulary, dimensions, window, negative samples, thinning and learning rate:
those of the recipe word_vectors/wikitext2.

    speed     Each turn is a process of its own that trains one epoch, the contenders take turns, and the table holds the medians, in
              words of the text a second. gensim: its C code with two workers. Keras: TensorFlow's tutorial, `fit` with dense Adam on
              pairs that were written down before the clock starts.
    quality   Ours and gensim with two seeds, whole trainings. Analogies by 3CosAdd (questions whose words are all known, with the 95 %
              interval of a bootstrap), and how many of the ten nearest neighbours of the 2,000 most frequent words two models share.
    time      Where a step of ours spends its time, and what memory the training takes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contenders import processor, table
from ours import trainer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

RECIPE = "word_vectors/wikitext2"
FREQUENT, NEAREST = 2000, 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--gensim", help="interpreter that has gensim")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5, help="of the trainings whose quality is compared")
    parser.add_argument("--kind", choices=["skip_gram", "cbow"], default="skip_gram")
    parser.add_argument("--lines", type=int, default=10**9, help="so many lines of the text; for a quick look")
    parser.add_argument("--only", choices=["speed", "quality", "time"])
    parser.add_argument("--work", choices=["speed", "time"], help=argparse.SUPPRESS)
    return parser.parse_args()


def loaded(options: argparse.Namespace, text: Path, *settings: str) -> Any:
    from nlp_tasks import recipe, tasks

    places = [f"data.{split}={text}" for split in ("train", "validation", "test")] + [f"model.kind={options.kind}"]
    return recipe.load(RECIPE, lambda name: tasks.find(name).recipe_type, [*places, *settings])


def shared(options: argparse.Namespace, text: Path) -> dict[str, Any]:
    """What the peers are told, from the recipe."""
    content = loaded(options, text)
    model, words = content.model, sum(len(line.split()) + 1 for line in text.open(encoding="utf-8"))
    names = ("kind", "embedding", "window", "negatives", "threshold")
    told = {name: getattr(model, name) for name in names} | {"minimum_count": content.text.minimum_count}
    return told | {"learning_rate": content.training.learning_rate, "lines": options.lines, "words": words}


# Speed


def ours(options: argparse.Namespace, text: Path, folder: Path) -> Any:
    made = trainer(loaded(options, text, "training.epochs=1"), folder)
    for batch in made._read(made.train, made.task.plan(made.task.lengths(made.train), made.training, 0)[:5]):
        made._step(batch)  # traced
    return made


def our_turn(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = ours(options, options.text, Path(folder))
        plan = made.task.plan(made.task.lengths(made.train), made.training, 0)
        before, begun = made.position.tokens, time.perf_counter()
        for batch in made._read(made.train, plan):
            made._step(batch)
        seconds = time.perf_counter() - begun
    print(json.dumps({"words_per_second": (made.position.tokens - before) / seconds, "seconds": seconds}))


def said(command: list[Any]) -> dict[str, float]:
    """The last line that a process prints."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def speed(options: argparse.Namespace, text: Path) -> None:
    told = json.dumps(shared(options, text) | {"epochs": 1})
    contenders: dict[str, list[Any]] = {
        "ours": [sys.executable, __file__, "--work", "speed", "--text", text, "--kind", options.kind],
        "Keras fit, dense Adam": [sys.executable, HERE / "peers/keras/word_vectors.py", "--text", text, "--options", told],
    }
    if options.gensim:
        script = HERE / "peers/gensim/word_vectors.py"
        contenders["gensim, two workers"] = [
            options.gensim, script, "--text", text, "--options", told, "--seed", 1, "--workers", 2,
        ]  # fmt: skip
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.turns):
        for name, command in contenders.items():
            taken[name].append(said(command)["words_per_second"])
    medians = {name: statistics.median(values) for name, values in taken.items()}
    rows = [
        [name, f"{median:,.0f}", f"{min(taken[name]):,.0f} to {max(taken[name]):,.0f}", f"{medians['ours'] / median:.2f}"]
        for name, median in medians.items()
    ]  # fmt: skip
    table(f"training, {options.kind}, medians of {options.turns}", ["", "words/s", "from, to", "ours is … times as fast"], rows)


# Quality


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def nearest(vectors: np.ndarray, words: list[str], frequent: list[str]) -> dict[str, set[str]]:
    """The ten nearest words of each of the frequent ones."""
    place = {word: index for index, word in enumerate(words)}
    rows = [place[word] for word in frequent]
    cosines = vectors[rows] @ vectors.T
    cosines[np.arange(len(rows)), rows] = -2
    best = np.argpartition(-cosines, NEAREST, 1)[:, :NEAREST]
    return {word: {words[other] for other in found} for word, found in zip(frequent, best, strict=True)}


def right_answers(vectors: np.ndarray, words: list[str], questions: list[tuple[str, ...]]) -> np.ndarray:
    """`<bool>[covered questions]`, by 3CosAdd."""
    place = {word: index for index, word in enumerate(words)}
    asked = np.array([[place[word] for word in question] for question in questions if all(word in place for word in question)])
    found = []
    for part in np.array_split(asked, len(asked) // 500 + 1):
        cosines = (vectors[part[:, 1]] - vectors[part[:, 0]] + vectors[part[:, 2]]) @ vectors.T
        np.put_along_axis(cosines, part[:, :3], -9, 1)
        found.append(cosines.argmax(1) == part[:, 3])
    return np.concatenate(found)


def quality(options: argparse.Namespace, text: Path, folder: Path) -> None:
    from nlp_tasks.data.questions import read_questions
    from nlp_tasks.scores import interval, ratios
    from nlp_tasks.text.word_vectors import read_vectors

    models = {"ours": folder / "ours.txt"}
    command = [sys.executable, "-m", "nlp_tasks", "train", RECIPE, "--run-dir", folder, "--name", "ours", "--strategy", "cpu"]
    settings = [f"data.{split}={text}" for split in ("train", "validation", "test")]
    settings += [f"training.epochs={options.epochs}", f"model.kind={options.kind}"]
    for each in ([*command, *(part for setting in settings for part in ("--set", setting))],
                 [sys.executable, "-m", "nlp_tasks", "write-vectors", folder / "ours", models["ours"]]):  # fmt: skip
        subprocess.run([str(part) for part in each], check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    told = json.dumps(shared(options, text) | {"epochs": options.epochs})
    for seed in (1, 2) if options.gensim else ():
        models[f"gensim, seed {seed}"] = folder / f"gensim{seed}.txt"
        script = HERE / "peers/gensim/word_vectors.py"
        said([options.gensim, script, "--text", text, "--options", told, "--seed", seed, "--workers", 2,
              "--output", models[f"gensim, seed {seed}"]])  # fmt: skip
    questions = [question.words for question in read_questions(options.questions)] if options.questions else []
    near, rows, frequent = {}, [], None
    for name, path in models.items():
        read = read_vectors(path)
        vectors = unit(read.values.astype(np.float64))
        frequent = frequent or read.words[:FREQUENT]
        near[name] = nearest(vectors, read.words, frequent)
        shown = "–"
        if questions:
            right = right_answers(vectors, read.words, questions).astype(float)
            low, high = interval(ratios({"analogies": np.stack([right, np.ones_like(right)])})["analogies"])
            shown = f"{100 * right.mean():.2f} % [{100 * low:.2f}, {100 * high:.2f}] of {len(right):,}"
        rows.append([name, f"{len(read.words):,}", shown])
    for row in rows:
        for other in near:
            common = statistics.mean(len(near[row[0]][word] & near[other][word]) for word in near[other]) / NEAREST
            row.append("" if other == row[0] else f"{100 * common:.1f} %")
    table(
        f"{options.kind}, {options.epochs} epochs", ["", "words", "analogies", *(f"neighbours of {name}" for name in near)], rows
    )


# Where the time goes


def our_time(options: argparse.Namespace) -> None:
    import tensorflow as tf

    from nlp_tasks import distribution
    from nlp_tasks.layers import Noise

    def milliseconds(call: Callable[[], Any]) -> float:
        taken = []
        for _ in range(30):
            begun = time.perf_counter()
            call()
            taken.append(1e3 * (time.perf_counter() - begun))
        return statistics.median(taken)

    with tempfile.TemporaryDirectory() as folder:
        made = ours(options, options.text, Path(folder))
        plan = made.task.plan(made.task.lengths(made.train), made.training, 0)[0]
        batch = made.train.batch(plan.rows, plan.size, lambda name, longest: plan.width)
        tensors = {name: tf.constant(value) for name, value in batch.items()}
        model, tables = made.model, made._trained

        def forward(part: dict[str, Any], seed: Any) -> Any:
            return made.task.loss(model, part, (), Noise(seed, tf.cast(part["row"], tf.uint32))).total

        def in_parts(function: Callable[[Any, Any], Any]) -> Callable[[], Any]:
            graph = tf.function(
                lambda given, seed: [function(part, seed) for part in distribution.cut(given, distribution.parts(made.strategy))],
                autograph=False,
            )
            return lambda: tf.nest.map_structure(lambda value: value.numpy(), graph(tensors, tf.constant(1, tf.uint32)))

        def gradients(part: dict[str, Any], seed: Any) -> Any:
            with tf.GradientTape() as tape:
                total = forward(part, seed)
            return [tf.reduce_sum(gradient.values) for gradient in tape.gradient(total, tables)]

        def blocks(part: dict[str, Any], seed: Any) -> Any:
            return tf.reduce_sum(model.stream(part["tokens"], Noise(seed, tf.cast(part["row"], tf.uint32))).ids)

        spent = {
            "a batch is read": milliseconds(lambda: made.train.batch(plan.rows, plan.size, lambda name, longest: plan.width)),
            "thinned out, cut to blocks": milliseconds(in_parts(blocks)),
            "+ vectors and scores": milliseconds(in_parts(forward)),
            "+ gradients": milliseconds(in_parts(gradients)),
            "+ update: the whole step": milliseconds(lambda: made._step(batch)),
        }
        words = int(batch["tokens_lengths"].sum())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({**spent, "words": words, "memory": memory}))


def time_spent(options: argparse.Namespace, text: Path) -> None:
    spent = said([sys.executable, __file__, "--work", "time", "--text", text, "--kind", options.kind])
    words, memory = int(spent.pop("words")), spent.pop("memory")
    rows = [[name, f"{milliseconds:.2f}"] for name, milliseconds in spent.items()]
    table(f"a step of {words:,} words, {options.kind} (largest memory of the process {memory:.2f} GB)", ["", "ms"], rows)


def main() -> None:
    options = arguments()
    if options.work:
        {"speed": our_turn, "time": our_time}[options.work](options)
        return
    print(processor())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        text = folder / "text.txt"
        with options.text.open(encoding="utf-8") as file, text.open("w", encoding="utf-8") as cut:
            cut.writelines(line for number, line in enumerate(file) if number < options.lines)
        for name, part in (("speed", speed), ("time", time_spent)):
            if options.only in (None, name):
                part(options, text)
        if options.only in (None, "quality"):
            quality(options, text, folder)


if __name__ == "__main__":
    main()
