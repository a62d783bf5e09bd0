"""PyTorch's side of benchmarks/recurrent.py, which starts it: answers lines "size|kind" by milliseconds."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

spec = importlib.util.spec_from_file_location("benchmark", Path(__file__).resolve().parents[2] / "recurrent.py")
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


def contender(size: str, kind: str) -> Any:
    if kind == "tagger":
        return tagger()
    inputs, lengths = map(torch.from_numpy, benchmark.arrays(size))
    *_, features, units, directions = benchmark.SIZES[size]
    layer = torch.nn.LSTM(features, units, batch_first=True, bidirectional=directions == 2)
    ragged = "ragged" in size

    def outputs(x: torch.Tensor) -> torch.Tensor:
        if not ragged:
            return layer(x)[0]
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])[0]

    def training() -> None:
        x = inputs.clone().requires_grad_(True)
        layer.zero_grad()
        (outputs(x) ** 2).sum().backward()

    def inference() -> None:
        with torch.inference_mode():
            outputs(inputs)

    return training if kind == "training" else inference


def tagger() -> Any:
    embedding = torch.nn.Embedding(benchmark.WORDS, 128, sparse=True)
    network = torch.nn.LSTM(128, 128, batch_first=True, bidirectional=True)
    output = torch.nn.Linear(256, benchmark.TAGS)
    dense = torch.optim.Adam([*network.parameters(), *output.parameters()])
    sparse = torch.optim.SparseAdam(list(embedding.parameters()))
    batches = [tuple(map(torch.from_numpy, batch)) for batch in benchmark.sentences()]

    def epoch() -> None:
        for words, tags, lengths in batches:
            packed = pack_padded_sequence(embedding(words), lengths, batch_first=True, enforce_sorted=False)
            flat = pack_padded_sequence(tags, lengths, batch_first=True, enforce_sorted=False).data
            loss = torch.nn.functional.cross_entropy(output(network(packed)[0].data), flat.long())
            dense.zero_grad()
            sparse.zero_grad()
            loss.backward()
            parameters = [*network.parameters(), *output.parameters()]
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            dense.step()
            sparse.step()

    return epoch


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    benchmark.work(contender)
