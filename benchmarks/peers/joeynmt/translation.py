"""JoeyNMT's side of benchmarks/translation.py: its own loop and its own search, on pieces that are cut already.

    python translation.py FOLDER KIND train UPDATES     prints {"tokens_per_second": …}: the median of its own log's lines
    python translation.py FOLDER KIND keep UPDATES      the same, and keeps what it trained
    python translation.py FOLDER KIND translate         prints {"sentences_per_second": …, "bleu": …}, strings in, strings out

FOLDER has train.*, dev.* and test.* in the pieces of its subwords.model, one space between them, and all pieces in pieces.txt.
KIND is "recurrent" or "transformer". Kept models lie in FOLDER/joeynmt-KIND.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

SIZES = {"embedding_dim": 256, "scale": False, "dropout": 0.1}


def model(kind: str) -> dict[str, Any]:
    if kind == "recurrent":
        shared: dict[str, Any] = {"type": "recurrent", "rnn_type": "lstm", "hidden_size": 256, "num_layers": 1, "dropout": 0.1,
                                  "embeddings": SIZES}  # fmt: skip
        decoder = {**shared, "attention": "luong", "input_feeding": False, "init_hidden": "bridge", "hidden_dropout": 0.1}
        return {"initializer": "xavier_uniform", "tied_embeddings": True, "tied_softmax": True,
                "encoder": {**shared, "bidirectional": True}, "decoder": decoder}  # fmt: skip
    shared = {"type": "transformer", "num_layers": 3, "num_heads": 4, "hidden_size": 256, "ff_size": 1024, "dropout": 0.1,
              "layer_norm": "pre", "embeddings": {**SIZES, "scale": True}}  # fmt: skip
    return {"initializer": "xavier_uniform", "tied_embeddings": True, "tied_softmax": True, "encoder": shared, "decoder": shared}


def config(folder: Path, kind: str, updates: int) -> dict[str, Any]:
    language = {"level": "word", "lowercase": False, "voc_file": str(folder / "pieces.txt"), "max_length": 500}
    return {
        "name": kind, "joeynmt_version": "2.3.0", "model_dir": str(folder / f"joeynmt-{kind}"), "use_cuda": False, "random_seed": 1,
        "data": {
            "train": str(folder / "train"), "dev": str(folder / "dev"), "test": str(folder / "test"), "dataset_type": "plain",
            "src": {"lang": "source", **language}, "trg": {"lang": "target", **language},
            "special_symbols": {"unk_token": "<unk>", "unk_id": 0, "pad_token": "<pad>", "pad_id": 1, "bos_token": "<s>", "bos_id": 2,
                                "eos_token": "</s>", "eos_id": 3},
        },
        "testing": {"n_best": 1, "beam_size": 5, "beam_alpha": 1.0, "batch_size": 64, "batch_type": "sentence",
                    "max_output_length": 100, "eval_metrics": ["bleu"], "return_prob": "none", "generate_unk": True},
        "training": {
            "optimizer": "adam", "adam_betas": [0.9, 0.98], "learning_rate": 0.001, "learning_rate_min": 1e-8, "label_smoothing": 0.1,
            "loss": "crossentropy", "normalization": "tokens", "clip_grad_norm": 1.0, "batch_size": 2048, "batch_type": "token",
            "epochs": 1000, "updates": updates, "validation_freq": 10**9, "logging_freq": 20, "early_stopping_metric": "ppl",
            "scheduling": "exponential", "decrease_factor": 1.0,  # none at all is refused, "plateau" wants an older PyTorch
            "overwrite": True, "shuffle": True, "print_valid_sents": [], "keep_best_ckpts": 1,
        },
        "model": model(kind),
    }  # fmt: skip


def train(folder: Path, kind: str, updates: int, keep: bool) -> dict[str, float]:
    from joeynmt.training import train as trained

    rates: list[float] = []

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = re.search(r"Tokens per Sec: +(\d+)", record.getMessage())
            if found:
                rates.append(float(found[1]))

    logging.getLogger("joeynmt.training").addHandler(Watch())
    given = config(folder, kind, updates)
    kept = Path(given["model_dir"])
    given["model_dir"] += ".partial"
    Path(given["model_dir"]).mkdir(exist_ok=True)
    trained(rank=0, world_size=1, cfg=given, skip_test=True)
    if keep:
        Path(given["model_dir"]).rename(kept)
    else:
        shutil.rmtree(given["model_dir"])
    return {"tokens_per_second": statistics.median(rates[1:])}


def translate(folder: Path, kind: str) -> dict[str, float]:
    import sacrebleu
    import sentencepiece
    from joeynmt.config import parse_global_args
    from joeynmt.prediction import predict, prepare

    given = config(folder, kind, 1)
    given["testing"]["load_model"] = str(next(Path(given["model_dir"]).glob("*.ckpt")))
    args = parse_global_args(given, rank=0, mode="test")
    network, _, _, data = prepare(args, rank=0, mode="test")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "subwords.model"))
    texts = (folder / "test.raw.source").read_text().splitlines()
    begun = time.perf_counter()
    for text in texts:  # what strings to strings takes beside the search
        pieces.encode(text, out_type=str)
    *_, found, _, _ = predict(
        network, data, device=args.device, n_gpu=0, num_workers=0, normalization="none", args=args.test, autocast=args.autocast
    )
    written = [pieces.decode_pieces(list(row)) for row in found]
    seconds = time.perf_counter() - begun
    gold = (folder / "test.raw.target").read_text().splitlines()
    return {"sentences_per_second": len(texts) / seconds, "bleu": sacrebleu.corpus_bleu(written, [gold]).score}


if __name__ == "__main__":
    place, kind, what, *rest = sys.argv[1:]
    torch.set_num_threads(2)
    translating = what == "translate"
    print(json.dumps(translate(Path(place), kind) if translating else train(Path(place), kind, int(rest[0]), what == "keep")))
