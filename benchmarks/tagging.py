"""How fast does the exported part-of-speech tagger answer, against spaCy and PyTorch taggers of the same training data?

    python benchmarks/tagging.py DATA_DIR EXPORT [--pytorch PYTHON --pytorch-model FOLDER] [--spacy PYTHON --spacy-model FOLDER]

DATA_DIR holds train.conllu, dev.conllu and test.conllu (UD English-EWT), EXPORT the SavedModel. PYTHON is the interpreter of an
environment with benchmarks/peers/…/requirements.txt, FOLDER what `PYTHON benchmarks/peers/…/tagging.py train DATA_DIR FOLDER` has
trained; a peer not named is left out. Each contender is a process of its own, waiting for its turn; they take turns, and the table
holds the medians. The machine should be quiet: threads that wait for each other lose most where others take their cores.

    ours, strings     raw text in, tags out: the SavedModel loaded in a bare process, as a server does, with one thread an op (TensorFlow
                      Serving's `--tensorflow_intra_op_parallelism=1`; "defaults": as many as cores); "two calls" from two Python
                      threads, a batch each, as a server answers requests side by side
    ours, words       the same with the words given, the signature `tokens`
    PyTorch, ids      words and characters already encoded and packed; inference mode; "one call" computes with all cores, of
                      "two calls" side by side each has one
    spaCy, strings    `nlp.pipe` on raw text, its tokenizer included; "two processes" have the model each and share the batches
    spaCy, words      the same with the words given, which become `Doc`s first

Everyone answers the same batches of 64 test sentences, in the order of the file and sorted by length, and is credited with the
tokens that the file counts. p50: the median of one call with one sentence of 20 tokens.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contenders import Call, Contender, alternate, processor, table, work

HERE = Path(__file__).resolve().parent
BATCH, ONE = 64, 20
ORDERS = ("file", "sorted")


# Data, for everyone


class Sentence(NamedTuple):
    text: str
    words: list[str]
    tags: list[str]


def read(path: str | Path) -> Iterator[Sentence]:
    """The sentences of a CoNLL-U file: syntactic words, universal parts of speech."""
    for block in Path(path).read_text(encoding="utf-8").strip().split("\n\n"):
        lines = block.split("\n")
        text = next(line for line in lines if line.startswith("# text = ")).removeprefix("# text = ")
        rows = [line.split("\t") for line in lines if not line.startswith("#")]
        rows = [row for row in rows if row[0].isdecimal()]  # neither "3-4" nor "8.1"
        yield Sentence(text, [row[1] for row in rows], [row[3] for row in rows])


def batches(folder: str | Path, size: str) -> list[list[Sentence]]:
    """The test sentences in batches: "file", "sorted" (by length), or "one" (a single sentence)."""
    sentences = list(read(Path(folder) / "test.conllu"))
    if size == "one":
        return [[next(sentence for sentence in sentences if len(sentence.words) == ONE)]]
    if size == "sorted":
        sentences.sort(key=lambda sentence: len(sentence.words))
    return [sentences[start : start + BATCH] for start in range(0, len(sentences), BATCH)]


def accuracy(sentences: Iterable[Sentence], found: Iterable[list[str]], known: set[str]) -> str:
    """Of all tokens, and of those whose form is not in `known`."""
    right, right_unknown = [], []
    for sentence, tags in zip(sentences, found, strict=True):
        for word, tag, other in zip(sentence.words, sentence.tags, tags, strict=True):
            right.append(tag == other)
            if word not in known:
                right_unknown.append(tag == other)
    unknown = f"{sum(right_unknown) / len(right_unknown):.2%} of the {len(right_unknown):,} unknown"
    return f"{sum(right) / len(right):.2%} of {len(right):,} tokens, {unknown}"


# Ours


def ours(folder: str, export: str) -> Callable[[str, str], Call]:
    import tensorflow as tf

    signatures = tf.saved_model.load(export).signatures
    pool = ThreadPoolExecutor(2)

    def strings(batch: list[str]) -> Any:
        return signatures["serving_default"](texts=tf.constant(batch))["tags"].numpy()

    def words(batch: list[list[str]]) -> Any:
        longest = max(map(len, batch))
        padded = [sentence + [""] * (longest - len(sentence)) for sentence in batch]
        return signatures["tokens"](tokens=tf.constant(padded))["tags"].numpy()

    def contender(size: str, kind: str) -> Call:
        answer = strings if "strings" in kind else words
        inputs = [[s.text if answer is strings else s.words for s in batch] for batch in batches(folder, size)]
        side_by_side = pool.map if "two" in kind else map
        return lambda: list(side_by_side(answer, inputs))

    return contender


# The table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir")
    parser.add_argument("export")
    for name in ("pytorch", "spacy"):
        parser.add_argument(f"--{name}", help="interpreter of the peer's environment")
        parser.add_argument(f"--{name}-model", help="what the peer has trained")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    data = options.data_dir
    if options.work:
        return work(ours(data, options.export))

    command = [sys.executable, __file__, data, options.export, "--work"]
    us, by_default = Contender(command, TF_NUM_INTRAOP_THREADS="1"), Contender(command)
    runs = {}
    for input_ in ("strings", "words"):
        runs |= {f"ours, {input_}, {calls}": (us, f"{input_}, {calls}") for calls in ("two calls", "one call")}
        runs[f"ours, {input_}, two calls, defaults"] = (by_default, f"{input_}, two calls")
    if options.pytorch and options.pytorch_model:
        command = [options.pytorch, str(HERE / "peers/pytorch/tagging.py"), "answer", data, options.pytorch_model]
        for kind, threads in {"ids, one call": len(os.sched_getaffinity(0)), "ids, two calls": 1}.items():
            runs[f"PyTorch, {kind}"] = (Contender([*command, str(threads)]), kind)
    if options.spacy and options.spacy_model:
        command = [options.spacy, str(HERE / "peers/spacy/tagging.py"), "answer", data, options.spacy_model]
        for count, threads in {"one process": {}, "two processes": {"OPENBLAS_NUM_THREADS": "1"}}.items():
            spacy = Contender(command, **threads)
            runs |= {f"spaCy, {kind}, {count}": (spacy, f"{kind}, {count}") for kind in ("strings", "words")}

    tokens = sum(len(sentence.words) for batch in batches(data, "file") for sentence in batch)
    print(f"{processor()}; medians of {options.turns} turns; load {os.getloadavg()[0]:.2f}; {tokens:,} tokens")
    rates = {}
    for size in ORDERS:
        taken = alternate(runs, size, options.turns)
        rates[size] = {name: 1e3 * tokens / value for name, value in taken.items()}
    single = {name: run for name, run in runs.items() if "two" not in name or not name.startswith("ours")}
    p50 = alternate(single, "one", options.turns)
    rows = [
        [name, *(f"{rates[size][name]:,.0f}" for size in ORDERS), f"{p50[name]:.2f}" if name in p50 else "–"] for name in runs
    ]
    table(f"batches of {BATCH}", ["", "tokens/s, file order", "sorted by length", f"p50 of {ONE} tokens, ms"], rows)
    if len(runs) > 4:
        table("how many times as fast, file order", ["", "ratio"], ratios(rates["file"], p50))


def ratios(rates: dict[str, float], p50: dict[str, float]) -> list[list[str]]:
    rows = []
    for input_, peers in itertools.product(("strings", "words"), ("spaCy", "PyTorch")):
        us = max(rates[f"ours, {input_}, {calls}"] for calls in ("one call", "two calls"))
        kinds = [name for name in rates if name.startswith(peers) and (peers == "PyTorch" or input_ in name)]
        rows += [[f"ours, {input_} / {name}", f"{us / rates[name]:.2f}"] for name in kinds]
    for input_ in ("strings", "words"):
        us = p50[f"ours, {input_}, one call"]
        rows += [[f"p50: ours, {input_} / {name}", f"{ms / us:.2f}"] for name, ms in p50.items() if name.startswith("PyTorch")]
    return rows


if __name__ == "__main__":
    main()
