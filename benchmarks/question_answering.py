"""How fast does a reader train and answer on a CPU, against PyTorch?

    python benchmarks/question_answering.py SQUADSHIFTS [--pytorch PYTHON] [--only training|answering] [--turns 5]

SQUADSHIFTS is the folder with train.json, dev.json and test.json; PYTHON the interpreter of an environment with
benchmarks/peers/pytorch/requirements.txt, without which its rows are missing. The reader is that of squadshifts_drqa (Chen 2017): words
and a convolution over characters, aligned and exact-match features, three BiLSTMs of 128 for the question and three for the passage,
bilinear pointers, dropout of 0.4, Adam, float32. Nobody's speed depends on the weights, so nobody is trained before.

Training: everyone takes the same batches in turns, from ids: half a dozen of an epoch, evenly from the short passages to the long ones.

    ours            the recipe's own step in one process
    PyTorch         `nn.LSTM` on padded batches (on packed ones it is four times slower), sparse gradients of the words' table, fused Adam
      one process   of as many threads as cores
      two processes of one thread, half of the rows in each, their gradients averaged by gloo

Answering: strings to strings, questions of test.json beside their passages.

    ours            the SavedModel, loaded without keras; tokens and features are found in its graph
    PyTorch         a tokenizer by a regular expression, features in Python, inference mode, the best span by a product of both

p50: the median of one question beside a passage of 150 words.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contenders import Call, Contender, alternate, processor, table, work
from ours import save, trainer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

RECIPE = "question_answering/squadshifts_drqa"
BATCHES = 6
ROWS = 32
WORDS = 150
TRAINING = "training, waiting"  # a call says itself what it took: once a turn
PEERS = {"PyTorch, one process": "one process", "PyTorch, two processes": "two processes"}


# Data, for everyone


def questions(folder: str | Path, size: str) -> list[list[tuple[str, str]]]:
    """Pairs of question and passage in batches: "one" (beside a passage of some 150 words), or "many" (batches of 32)."""
    content = json.loads((Path(folder) / "test.json").read_text())
    paragraphs = [paragraph for article in content["data"] for paragraph in article["paragraphs"]]
    if size == "one":
        nearest = min(paragraphs, key=lambda paragraph: abs(len(re.findall(r"\w+", paragraph["context"])) - WORDS))
        return [[(nearest["qas"][0]["question"], nearest["context"])]]
    pairs = [(asked["question"], paragraph["context"]) for paragraph in paragraphs for asked in paragraph["qas"]]
    pairs = pairs[:: max(1, len(pairs) // (8 * ROWS))][: 8 * ROWS]
    return [pairs[start : start + ROWS] for start in range(0, len(pairs), ROWS)]


def milliseconds(call: Callable[[], None]) -> float:
    begun = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - begun)


# Ours


def prepare(data: Path, folder: Path) -> None:
    """A run that stands before its training, its SavedModel, and the batches as arrays for the peer."""
    made, batches = trainer_and_batches(data, folder)
    task = made.task
    taken = [{name: np.asarray(value) for name, value in batch.items()} for batch in made._read(made.train, batches)]
    np.savez(
        folder / "batches.npz",
        **{f"{number} {name}": value for number, batch in enumerate(taken) for name, value in batch.items()},
    )
    sizes = {"words": task.trained_words, "characters": len(task.characters), "embedding": task.recipe.model.embedding}
    (folder / "sizes.json").write_text(json.dumps(sizes))
    save(made, folder / "saved")


def trainer_and_batches(data: Path, folder: Path) -> tuple[Any, list[Any]]:
    """The recipe's trainer, and half a dozen of the batches of its first epoch."""
    from nlp_tasks import recipe, tasks

    content = recipe.load(RECIPE, lambda name: tasks.find(name).recipe_type, [f"data.directory={data}"])
    made = trainer(content, folder / "runs")
    lengths = made.task.lengths(made.train)
    plan = sorted(made.task.plan(lengths, content.training, 0), key=lambda batch: int(lengths[batch.rows].max()))
    return made, [plan[place] for place in np.linspace(0, len(plan) - 1, BATCHES).round().astype(int)]


def ours(data: Path, folder: Path) -> Callable[[str, str], Call]:
    import tensorflow as tf

    def contender(size: str, kind: str) -> Call:
        if size == TRAINING:
            made, batches = trainer_and_batches(data, folder)

            def train() -> None:
                for batch in made._read(made.train, batches):
                    made._step(batch)

            return lambda: milliseconds(train)
        loaded = tf.saved_model.load(str(folder / "saved"))
        answer, inputs = loaded.signatures["serving_default"], questions(data, size)

        def ask() -> list[Any]:
            assert loaded  # keeps the tables
            return [answer(questions=tf.constant([q for q, _ in batch]), passages=tf.constant([p for _, p in batch]))["answers"].numpy()
                    for batch in inputs]  # fmt: skip

        return ask

    return contender


# The table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pytorch", help="interpreter that has PyTorch")
    parser.add_argument("--only", choices=["training", "answering"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="kept, and used again")
    parser.add_argument("--work", choices=["prepare", "answer"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        import nlp_tasks  # noqa: F401 - decides about oneDNN and threads

        return prepare(options.data, options.folder) if options.work == "prepare" else work(ours(options.data, options.folder))
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, str(options.data.resolve()), "--folder", str(folder), "--work"]
        if not (folder / "batches.npz").exists():
            subprocess.run([*command, "prepare"], check=True)
        compare(command, folder, options)


def compare(command: list[str], folder: Path, options: argparse.Namespace) -> None:
    print(f"{processor()}; medians of {options.turns} turns; load {os.getloadavg()[0]:.2f}")
    peer = [options.pytorch, str(HERE / "peers/pytorch/question_answering.py"), str(options.data.resolve()), str(folder)]
    if options.only != "answering":
        runs = {"ours": (Contender([*command, "answer"]), "")}
        runs |= {name: (Contender(peer), kind) for name, kind in PEERS.items() if options.pytorch}
        with np.load(folder / "batches.npz") as arrays:
            examples = sum(np.count_nonzero(arrays[f"{number} weight"]) for number in range(BATCHES))
        rates = {name: 1e3 * examples / taken for name, taken in alternate(runs, TRAINING, options.turns).items()}
        rows = [[name, f"{rate:,.1f}", f"{rates['ours'] / rate:.2f}"] for name, rate in rates.items()]
        table("training", ["", "examples/s", "ours is so many times as fast"], rows)
        for contender, _ in runs.values():
            contender.process.terminate()
    if options.only != "training":
        runs = {"ours": (Contender([*command, "answer"]), "")}
        runs |= {"PyTorch": (Contender(peer), "strings")} if options.pytorch else {}
        taken = {size: alternate(runs, size, options.turns) for size in ("one", "many")}
        asked = sum(map(len, questions(options.data, "many")))
        rows = [
            [name, f"{taken['one'][name]:.1f}", f"{taken['one'][name] / taken['one']['ours']:.2f}",
             f"{1e3 * asked / taken['many'][name]:,.1f}", f"{taken['many'][name] / taken['many']['ours']:.2f}"]
            for name in runs
        ]  # fmt: skip
        header = [
            "",
            f"p50 beside {WORDS} words, ms",
            "ours is so many times as fast",
            f"questions/s by {ROWS}",
            "ours is so many times as fast",
        ]
        table("answering", header, rows)


if __name__ == "__main__":
    main()
