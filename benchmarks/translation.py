"""How fast does a translator train and translate on a CPU, against JoeyNMT?

    python benchmarks/translation.py MULTI30K [--joeynmt PYTHON] [--only recurrent|transformer] [--turns 5] [--updates 120] [--folder DIR]

MULTI30K is the folder with train.en, train.de, …; PYTHON the interpreter of an environment with
benchmarks/peers/joeynmt/requirements.txt, without which its rows are missing.

    recurrent      bidirectional LSTM and LSTM of 256, multiplicative attention without feeding (Luong 2015), embeddings of 256, tied
    transformer    3 + 3 blocks of 256, 4 heads, feed-forward 1,024, tied

Both have the same pairs in the same 6,000 pieces, batches of at most 2,048 padded tokens, label smoothing, dropout of 0.1, Adam, two
threads. Each turn of training is a process that trains so many updates; tokens are those of the target, its end counted. JoeyNMT's
rate is the median of its own log's lines, ours that of as many updates each. Then both translate test_2016_flickr, strings to strings
by a beam of 5, in batches of 64: ours by the SavedModel, in batches of like length; JoeyNMT by its own `predict`. What they translate
with is trained for so many updates first, and kept in DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contenders import processor, table
from ours import save, trainer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

RECIPE = """
[task]
name = "translation"

[data]
directory = "{data}"
source_language = "en"
target_language = "de"
train = "train"
validation = "val"
test = "test_2016_flickr"

[text]
subwords = 6000

[model]
{model}
dropout = 0.1

[training]
epochs = 1000
batch_tokens = 2048
batch_rows = 1024
learning_rate = 1e-3
beta_2 = 0.98
clip_norm = 1.0
glances = 0
"""
MODELS = {
    "recurrent": 'kind = "multiplicative"\nembedding = 256\nunits = 256\nembedding_dropout = 0.1\noutput_dropout = 0.1',
    "transformer": 'kind = "transformer"\nunits = 256\nencoder_depth = 3\ndecoder_depth = 3\nheads = 4\nhidden = 1024',
}
SPLITS = {"train": "train", "dev": "val", "test": "test_2016_flickr"}
LINE = 20
"""Updates between two readings of the clock."""


def prepare(data: Path, folder: Path) -> None:
    """Recipes, and the pairs in pieces, as JoeyNMT reads them."""
    import sentencepiece

    from nlp_tasks.text.subwords import learn

    texts = {(side, language): (data / f"{name}.{language}").read_text().splitlines()
             for side, name in SPLITS.items() for language in ("en", "de")}  # fmt: skip
    both = (text for pair in zip(texts["train", "en"], texts["train", "de"], strict=True) for text in pair)
    (folder / "subwords.model").write_bytes(learn(both, 6000))
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "subwords.model"))
    for (side, language), lines in texts.items():
        name = {"en": "source", "de": "target"}[language]
        (folder / f"{side}.{name}").write_text("".join(" ".join(pieces.encode(line, out_type=str)) + "\n" for line in lines))
        (folder / f"{side}.raw.{name}").write_text("".join(f"{line}\n" for line in lines))
    names = [pieces.id_to_piece(number) for number in range(4, len(pieces))]
    (folder / "pieces.txt").write_text("".join(f"{name}\n" for name in names))
    for kind, model in MODELS.items():
        (folder / f"{kind}.toml").write_text(RECIPE.format(data=data, model=model))


def trained(folder: Path, kind: str, updates: int, keep: bool = False) -> dict[str, float]:
    """One turn of ours."""
    from nlp_tasks import recipe, tasks

    content = recipe.load(str(folder / f"{kind}.toml"), lambda name: tasks.find(name).recipe_type)
    made = trainer(content, folder / "runs" / kind)
    lengths = made.task.lengths(made.train)
    batches = [batch for epoch in range(20) for batch in made.task.plan(lengths, content.training, epoch)][:updates]
    rates, begun, tokens = [], time.perf_counter(), 0
    for number, batch in enumerate(made._read(made.train, batches), 1):
        made._step(batch)
        if number % LINE == 0:
            now = time.perf_counter()
            rates.append((made.position.tokens - tokens) / (now - begun))
            begun, tokens = now, made.position.tokens
    if keep:
        save(made, folder / f"{kind}.saved")
    return {"tokens_per_second": statistics.median(rates[1:])}


def translated(folder: Path, kind: str) -> dict[str, float]:
    import tensorflow as tf

    from nlp_tasks import recipe, scores, tasks
    from nlp_tasks.inference import Loaded

    content = recipe.load(str(folder / f"{kind}.toml"), lambda name: tasks.find(name).recipe_type)
    saved = tf.saved_model.load(str(folder / f"{kind}.saved"))
    specs = {"serving_default": {"texts": ("string", 1)}}
    loaded = Loaded(tasks.find("translation")(content), dict(saved.signatures), specs, keep=saved)
    texts, gold = ((folder / f"test.raw.{side}").read_text().splitlines() for side in ("source", "target"))
    loaded("serving_default", [(text,) for text in texts[:64]])
    begun = time.perf_counter()
    found = loaded("serving_default", [(text,) for text in texts])["translations"]
    seconds = time.perf_counter() - begun
    return {"sentences_per_second": len(texts) / seconds, "bleu": scores.bleu(gold, [text.decode() for text in found])}


def turn(command: list[str]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--joeynmt")
    parser.add_argument("--only", choices=[*MODELS])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--updates", type=int, default=120)
    parser.add_argument("--for-translation", type=int, default=1500, help="updates before both translate")
    parser.add_argument("--only-training", action="store_true")
    parser.add_argument("--folder", type=Path, help="kept, and used again")
    parser.add_argument("--turn", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        import nlp_tasks  # noqa: F401 - decides about oneDNN and threads

        kind, what = options.turn
        given = {"train": (options.updates,), "keep": (options.for_translation, True), "translate": ()}[what]
        print(json.dumps((translated if what == "translate" else trained)(options.folder, kind, *given)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "recurrent.toml").exists():
            prepare(options.data.resolve(), folder)
        measure(folder, options)


def measure(folder: Path, options: Any) -> None:
    print(processor())
    ours = [sys.executable, __file__, str(options.data), "--folder", str(folder), "--updates", str(options.updates),
            "--for-translation", str(options.for_translation), "--turn"]  # fmt: skip
    peer = str(HERE / "peers" / "joeynmt" / "translation.py")

    def commands(kind: str, what: str, updates: int) -> dict[str, list[str]]:
        made = {"ours": [*ours, kind, what]}
        if options.joeynmt:
            rest = ["translate"] if what == "translate" else [what, str(updates)]
            made["JoeyNMT"] = [options.joeynmt, peer, str(folder), kind, *rest]
        return made

    for kind in [options.only] if options.only else MODELS:
        rates: dict[str, list[float]] = {}
        for _ in range(options.turns):
            for name, command in commands(kind, "train", options.updates).items():
                rates.setdefault(name, []).append(turn(command)["tokens_per_second"])
        medians = {name: statistics.median(values) for name, values in rates.items()}
        rows = [[name, f"{value:,.0f}", f"{medians['ours'] / value:.2f}"] for name, value in medians.items()]
        table(f"{kind}: training", ["", "target tokens/s", "ours is so many times as fast"], rows)
        if options.only_training:
            continue
        kept = {"ours": folder / f"{kind}.saved", "JoeyNMT": folder / f"joeynmt-{kind}"}
        for name, command in commands(kind, "keep", options.for_translation).items():
            if not kept[name].exists():
                turn(command)
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(options.turns):
            for name, command in commands(kind, "translate", 0).items():
                found.setdefault(name, []).append(turn(command))
        speeds = {name: statistics.median(each["sentences_per_second"] for each in values) for name, values in found.items()}
        rows = [[name, f"{speed:,.1f}", f"{speeds['ours'] / speed:.2f}", f"{found[name][0]['bleu']:.2f}"]
                for name, speed in speeds.items()]  # fmt: skip
        title = f"{kind}: translating by a beam of 5, after {options.for_translation:,} updates"
        table(title, ["", "sentences/s", "ours is so many times as fast", "BLEU"], rows)


if __name__ == "__main__":
    main()
