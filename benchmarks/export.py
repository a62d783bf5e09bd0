"""Latency and throughput of an exported classifier, beside the same model called through Keras.

    python benchmarks/export.py runs/sentiment-imdb saved_models/sentiment-imdb --texts FILE

FILE has a header line, then one text a line (tabs end the text); without it the toy world's test sentences are used. Both take strings:
what Keras is given is encoded by the same graph code first, since a Keras model alone takes no text. Alternating turns, medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from nlp_tasks import inference
from nlp_tasks.data.toy_world import sentiment
from nlp_tasks.report import table

Answer = Callable[[tf.Tensor], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("export")
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--count", type=int, default=512)
    arguments = parser.parse_args()
    if arguments.texts:
        lines = arguments.texts.read_text(encoding="utf-8").split("\n")[1:]
        texts = [line.split("\t")[0] for line in lines if line][: arguments.count]
    else:
        texts = [text for text, _ in sentiment.generate("test")][: arguments.count]

    exported = inference.load(arguments.export).functions["serving_default"]
    _, task, model = inference.load_run(Path(arguments.run))
    encode = tf.function(task.padded, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    ways: dict[str, Answer] = {
        "export": lambda batch: exported(texts=batch),
        "Keras, called": lambda batch: model(encode(batch)),
        "Keras, predict_on_batch": lambda batch: model.predict_on_batch(encode(batch)),
    }
    rows = []
    for size in (1, 64):
        batches = [tf.constant(texts[start : start + size]) for start in range(0, len(texts), size)]
        batches = batches[: max(8, 128 // size)]
        medians = alternate(ways, batches)
        for name, seconds in medians.items():
            ratio = medians["Keras, predict_on_batch"] / seconds
            rows.append([str(size), name, f"{1000 * seconds:.2f}", f"{size / seconds:,.0f}", f"{ratio:.2f}"])
    words = statistics.mean(len(text.split()) for text in texts)
    print(f"{arguments.export}: {len(texts)} texts of {words:.0f} words on average")
    print(table(rows, ("batch", "called as", "ms a batch, median", "texts/s", "× predict_on_batch"), right=(0, 2, 3, 4)))


def alternate(ways: dict[str, Answer], batches: list[tf.Tensor], turns: int = 5) -> dict[str, float]:
    """Median seconds a batch, the ways in turn."""
    for answer in ways.values():
        for batch in batches[:2]:
            answer(batch)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, answer in ways.items():
            for batch in batches:
                begun = time.perf_counter()
                answer(batch)
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
