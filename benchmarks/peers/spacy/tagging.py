"""spaCy's side of benchmarks/tagging.py: the CPU tagger of `spacy init config --pipeline tagger --optimize efficiency`.

PYTHON tagging.py train DATA_DIR FOLDER     trains on gold tokens, writes FOLDER/model-best; prints the test accuracy
PYTHON tagging.py answer DATA_DIR FOLDER    started by the benchmark: answers lines "size|kind" by milliseconds
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import spacy
from spacy.cli.init_config import init_config
from spacy.tokens import Doc, DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as train_nlp
from thinc.api import NumpyOps, set_current_ops

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import tagging as benchmark


def fastest() -> NumpyOps:
    """BLIS, spaCy's default, or NumPy's BLAS: BLIS takes its slow generic kernels for processors that it does not know."""
    left, right = np.ones([1000, 288], np.float32), np.ones([288, 288], np.float32)

    def seconds(ops: NumpyOps) -> float:
        begun = time.perf_counter()
        ops.gemm(left, right)
        return time.perf_counter() - begun

    return min([NumpyOps(), NumpyOps(use_blis=False)], key=lambda ops: min(seconds(ops) for _ in range(100)))


def train(folder: Path, out: Path) -> None:
    vocab = spacy.blank("en").vocab
    out.mkdir(parents=True, exist_ok=True)
    config = init_config(lang="en", pipeline=["tagger"], optimize="efficiency")
    parts = {part: list(benchmark.read(folder / f"{part}.conllu")) for part in ("train", "dev", "test")}
    for part in ("train", "dev"):
        docs = [Doc(vocab, words=sentence.words, tags=sentence.tags) for sentence in parts[part]]
        DocBin(docs=docs).to_disk(out / f"{part}.spacy")
        config["paths"][part] = str(out / f"{part}.spacy")
        config["corpora"][part]["gold_preproc"] = True  # gold tokens, not those of its tokenizer
    begun = time.perf_counter()
    train_nlp(init_nlp(config), out)
    seconds = time.perf_counter() - begun

    nlp = spacy.load(out / "model-best")
    docs = nlp.pipe((Doc(nlp.vocab, words=sentence.words) for sentence in parts["test"]), batch_size=benchmark.BATCH)
    found = [[token.tag_ for token in doc] for doc in docs]
    known = {word for sentence in parts["train"] for word in sentence.words}
    print(f"test: {benchmark.accuracy(parts['test'], found, known)}; trained in {seconds:.0f} s")


nlp: Any = None  # of the processes of a pool, which are forked


def tags(inputs: list[Any]) -> list[list[str]]:
    """Of raw texts or of lists of words, in batches of 64."""
    docs = (one if isinstance(one, str) else Doc(nlp.vocab, words=one) for one in inputs)
    return [[token.tag_ for token in doc] for doc in nlp.pipe(docs, batch_size=benchmark.BATCH)]


def contender(folder: Path, out: Path) -> Callable[[str, str], Callable[[], Any]]:
    global nlp
    nlp = spacy.load(out / "model-best")
    pool = multiprocessing.get_context("fork").Pool(2)

    def call(size: str, kind: str) -> Callable[[], Any]:
        batches = [[s.text if "strings" in kind else s.words for s in batch] for batch in benchmark.batches(folder, size)]
        if size == "one":
            one = batches[0][0]
            return lambda: [token.tag_ for token in nlp(one if isinstance(one, str) else Doc(nlp.vocab, words=one))]
        if "two" in kind:
            return lambda: pool.map(tags, batches, chunksize=1)
        flat = [one for batch in batches for one in batch]
        return lambda: tags(flat)

    return call


if __name__ == "__main__":
    command, data, model = sys.argv[1:]
    set_current_ops(fastest())
    if command == "train":
        train(Path(data), Path(model))
    else:
        benchmark.work(contender(Path(data), Path(model)))
