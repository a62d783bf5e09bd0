"""gensim's side of benchmarks/word_vectors.py, which starts it: trains on a text, prints its words a second, keeps its vectors.

The words are those that ours keeps: "<unk>" is none, and a line's end only ends windows.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from gensim.models import Word2Vec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("text", Path), ("options", json.loads), ("seed", int), ("workers", int), ("output", Path)):
        parser.add_argument(f"--{name}", type=kind, required=name != "output")
    arguments = parser.parse_args()
    options = arguments.options
    with arguments.text.open(encoding="utf-8") as file:
        lines = [words for line in file if (words := [word for word in line.split() if word != "<unk>"])]
    model = Word2Vec(
        vector_size=options["embedding"], window=options["window"], min_count=options["minimum_count"], negative=options["negatives"],
        sample=options["threshold"], sg=int(options["kind"] == "skip_gram"), alpha=options["learning_rate"], seed=arguments.seed,
        workers=arguments.workers,
    )  # fmt: skip
    model.build_vocab(lines)
    begun = time.perf_counter()
    model.train(lines, total_examples=model.corpus_count, epochs=options["epochs"])
    seconds = time.perf_counter() - begun
    if arguments.output:
        model.wv.save_word2vec_format(str(arguments.output))
    print(json.dumps({"words_per_second": options["epochs"] * options["words"] / seconds, "seconds": seconds}))


if __name__ == "__main__":
    main()
