"""Keras' side of benchmarks/word_vectors.py, which starts it: skip-gram as TensorFlow's word2vec tutorial has it.

Pairs and their negative samples are written down first (here by NumPy, and not counted in the time: the tutorial's own loop takes
minutes), then `fit` with Adam learns from batches of them: two `Embedding` layers, a product, the cross-entropy over one true context and
k drawn ones. Adam updates both tables whole in each step.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import keras
import numpy as np
import tensorflow as tf

BATCH, STEPS = 1024, 200


class Word2Vec(keras.Model):
    """Two tables of vectors; logits of one true context and k drawn ones."""

    def __init__(self, size: int, features: int) -> None:
        super().__init__()
        self.targets = keras.layers.Embedding(size, features)
        self.contexts = keras.layers.Embedding(size, features)

    def call(self, pair: tuple[Any, Any]) -> Any:
        target, contexts = pair
        return tf.einsum("be,bce->bc", self.targets(target), self.contexts(contexts))


def pairs(text: Path, options: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Words `<int32>[n]`, their contexts and negatives `<int32>[n, 1 + k]`, pairs for each word of the text, size of the vocabulary."""
    lines = [line.split() for line in text.read_text(encoding="utf-8").splitlines()][: options["lines"]]
    counts = Counter(word for line in lines for word in line if word != "<unk>")
    names = {word: index for index, (word, count) in enumerate(counts.most_common(), 1) if count >= options["minimum_count"]}
    random = np.random.default_rng(1)
    shares = np.array([0, *(counts[word] for word in names)]) / sum(counts[word] for word in names)
    with np.errstate(divide="ignore"):
        kept = np.sqrt(options["threshold"] / shares) + options["threshold"] / shares
    targets, contexts, words = [], [], 0
    for line in lines:
        words += len(line) + 1
        ids = np.array([names[word] for word in line if word in names], np.int32)
        ids = ids[random.random(len(ids)) < kept[ids]] if len(ids) else ids
        for distance in range(1, options["window"] + 1):
            near = random.random(len(ids)) < 1 - (distance - 1) / options["window"]  # the window of each word is drawn
            targets += [ids[distance:][near[distance:]], ids[:-distance][near[:-distance]]]
            contexts += [ids[:-distance][near[distance:]], ids[distance:][near[:-distance]]]
    target, context = np.concatenate(targets), np.concatenate(contexts)
    noise = shares**0.75 / (shares**0.75).sum()
    order = random.permutation(len(target))[: BATCH * STEPS]
    negatives = random.choice(len(noise), (len(order), options["negatives"]), p=noise)
    return target[order], np.concatenate([context[order, None], negatives], 1), len(target) / words, len(names) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--options", type=json.loads, required=True)
    arguments = parser.parse_args()
    targets, contexts, per_word, size = pairs(arguments.text, arguments.options)
    labels = np.zeros(contexts.shape, np.float32)
    labels[:, 0] = 1
    dataset = tf.data.Dataset.from_tensor_slices(((targets, contexts), labels)).batch(BATCH, drop_remainder=True)
    dataset = dataset.cache().prefetch(tf.data.AUTOTUNE)
    model = Word2Vec(size, arguments.options["embedding"])
    model.compile(optimizer="adam", loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    model.fit(dataset.take(5), verbose=0)  # traced
    begun = time.perf_counter()
    model.fit(dataset, verbose=0)
    seconds = time.perf_counter() - begun
    learned = len(targets) // BATCH * BATCH
    print(json.dumps({"words_per_second": learned / per_word / seconds, "seconds": seconds, "pairs_a_word": per_word}))


if __name__ == "__main__":
    main()
