"""PyTorch's side of benchmarks/question_answering.py, which starts it: answers lines "size|kind" by milliseconds.

PYTHON question_answering.py DATA FOLDER
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import distributed, multiprocessing, nn
from torch.nn.utils.rnn import pad_sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import question_answering as benchmark
from contenders import work

CHARACTERS, LETTER, UNITS, DEPTH, DROPOUT, OVERLAP = 64, 32, 128, 3, 0.4, 4
LONGEST_ANSWER, LONGEST_WORD, BEGINNING = 20, 20, 5
TOKEN = re.compile(r"\w+|[^\w\s]")
HIDDEN = -1e9


class Text(NamedTuple):
    """A batch of one side: ids `<int64>[rows, time]`, spellings `<int64>[words, characters]`, which of them each token has, overlap."""

    words: torch.Tensor
    lengths: torch.Tensor
    spellings: torch.Tensor
    which: torch.Tensor
    overlap: torch.Tensor

    @property
    def inside(self) -> torch.Tensor:
        return torch.arange(self.words.shape[1]) < self.lengths[:, None]


class DeepReader(nn.Module):
    """BiLSTMs, one upon the other; the outputs of all side by side."""

    def __init__(self, features: int) -> None:
        super().__init__()
        sizes = [features, *[2 * UNITS] * (DEPTH - 1)]
        self.layers = nn.ModuleList(nn.LSTM(size, UNITS, bidirectional=True) for size in sizes)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """`[rows, time, features]` → `[rows, time, 2 · units · depth]`."""
        hidden, outputs = inputs.transpose(0, 1), []
        for layer in self.layers:
            hidden = self.dropout(layer(hidden)[0])
            outputs.append(hidden)
        return torch.cat(outputs, -1).transpose(0, 1)


class Reader(nn.Module):
    """The document reader of Chen 2017, as the recipe has it."""

    def __init__(self, words: int, characters: int, embedding: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, embedding, sparse=True)
        self.letters = nn.Embedding(characters, LETTER, padding_idx=0)
        self.convolution = nn.Conv1d(LETTER, CHARACTERS, 3, padding=1)
        self.dropout = nn.Dropout(DROPOUT)
        features = embedding + CHARACTERS + OVERLAP
        self.align = nn.Linear(features, embedding, bias=False)
        self.passage, self.question = DeepReader(2 * features), DeepReader(features)
        wide = 2 * UNITS * DEPTH
        self.summary = nn.Sequential(nn.Linear(wide, UNITS), nn.Tanh(), nn.Linear(UNITS, 1, bias=False))
        self.start, self.end = nn.Linear(wide, wide, bias=False), nn.Linear(2 * wide, wide, bias=False)

    def represented(self, text: Text) -> torch.Tensor:
        spelled = torch.relu(self.convolution(self.letters(text.spellings).transpose(1, 2)).amax(2))[text.which]
        vectors = self.dropout(torch.cat([self.words(text.words), spelled], -1))
        return torch.cat([vectors, text.overlap], -1) * text.inside[:, :, None]

    def forward(self, question: Text, passage: Text) -> tuple[torch.Tensor, torch.Tensor]:
        """Log probabilities of where the answer starts and ends, `[rows, time]` each."""
        asked, read = self.represented(question), self.represented(passage)
        like = torch.relu(self.align(read)) @ torch.relu(self.align(asked)).transpose(1, 2)
        like = like.masked_fill(~question.inside[:, None], HIDDEN).softmax(-1)
        read = self.passage(torch.cat([read, like @ asked], -1))
        asked = self.question(asked)
        weights = self.summary(asked)[:, :, 0].masked_fill(~question.inside, HIDDEN).softmax(-1)
        summary = (weights[:, None] @ asked)[:, 0]
        starts = self.points(self.start(summary), read, passage)
        expected = (starts.exp()[:, None] @ read)[:, 0]
        return starts, self.points(self.end(torch.cat([summary, expected], -1)), read, passage)

    @staticmethod
    def points(pointer: torch.Tensor, read: torch.Tensor, passage: Text) -> torch.Tensor:
        return (read @ pointer[:, :, None])[:, :, 0].masked_fill(~passage.inside, HIDDEN).log_softmax(-1)


def best_spans(starts: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The most probable start ≤ end < start + LONGEST_ANSWER of each row."""
    scores = starts[:, :, None] + ends[:, None]
    allowed = torch.ones_like(scores[0], dtype=torch.bool).triu().tril(LONGEST_ANSWER - 1)
    best = scores.masked_fill(~allowed, 2 * HIDDEN).flatten(1).argmax(1)
    return best // starts.shape[1], best % starts.shape[1]


# Training


def batches(folder: Path, part: slice) -> list[tuple[Text, Text, torch.Tensor, torch.Tensor]]:
    """Those of the benchmark, the rows of `part`: question, passage, and where the first answer starts and ends."""
    found = []
    with np.load(folder / "batches.npz") as arrays:
        for number in range(benchmark.BATCHES):

            def array(name: str, number: int = number) -> np.ndarray:
                return arrays[f"{number} {name}"][arrays[f"{number} weight"] > 0][part]

            texts = [text_of(array, side) for side in ("question", "passage")]
            answers = (torch.from_numpy(array(name)[:, 0].astype(np.int64)) for name in ("starts", "ends"))
            found.append((*texts, *answers))
    return found


def text_of(array: Callable[[str], np.ndarray], side: str) -> Text:
    lengths = array(f"{side}_lengths").astype(np.int64)
    longest = int(lengths.max())
    characters = array(f"{side}_characters")[:, :longest]
    spellings, which = np.unique(characters.reshape(-1, characters.shape[-1]), axis=0, return_inverse=True)
    spellings = spellings[:, : max(1, int((spellings > 0).sum(1).max()))]
    arrays = (array(side)[:, :longest], lengths, spellings, which.reshape(characters.shape[:2]))
    overlap = torch.from_numpy(array(f"{side}_overlap")[:, :longest].astype(np.float32))
    return Text(*(torch.from_numpy(value.astype(np.int64)) for value in arrays), overlap)


def trainer(folder: Path, part: slice, processes: int) -> Callable[[], None]:
    """Trains one step on each batch."""
    torch.manual_seed(1)
    sizes = json.loads((folder / "sizes.json").read_text())
    model = Reader(**sizes)
    dense = [weight for name, weight in model.named_parameters() if name != "words.weight"]
    sparse = model.words.weight
    steps = [torch.optim.Adam(dense, lr=2e-3, fused=True), torch.optim.SparseAdam([sparse], lr=2e-3)]
    inputs = batches(folder, part)

    def train() -> None:
        for question, passage, first, last in inputs:
            starts, ends = model(question, passage)
            loss = nn.functional.nll_loss(starts, first) + nn.functional.nll_loss(ends, last)
            for optimizer in steps:
                optimizer.zero_grad()
            loss.backward()
            if processes > 1:
                average([weight.grad for weight in dense], processes)
                sparse.grad = average_sparse(sparse.grad, processes)
            sparse.grad = sparse.grad.coalesce()
            gradients = [sparse.grad.values(), *(weight.grad for weight in dense)]
            norm = nn.utils.get_total_norm(gradients)
            torch._foreach_mul_(gradients, (5.0 / (norm + 1e-6)).clamp(max=1.0))
            for optimizer in steps:
                optimizer.step()

    return train


def average(gradients: list[torch.Tensor], processes: int) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= processes
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def average_sparse(gradient: torch.Tensor, processes: int) -> torch.Tensor:
    gradient = gradient.coalesce()
    distributed.all_reduce(gradient)
    return gradient.coalesce() / processes


def second(folder: Path, file: str, orders: Any) -> None:
    """The other process: a round for each order."""
    train = joined(folder, file, 1)
    while orders.get():
        train()


def joined(folder: Path, file: str, rank: int) -> Callable[[], None]:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    return trainer(folder, slice(rank, None, 2), 2)


def side_by_side(folder: Path) -> Callable[[], None]:
    context = multiprocessing.get_context("spawn")
    orders, file = context.Queue(), str(folder / f"rendezvous-{os.getpid()}")
    context.Process(target=second, args=(folder, file, orders), daemon=True).start()
    train = joined(folder, file, 0)

    def both() -> None:
        orders.put(True)
        train()

    return both


# Answering


class Encoder:
    """Tokens, ids and features of strings."""

    def __init__(self, data: Path, folder: Path) -> None:
        lines = (folder / "runs/benchmark/resources/vocabulary.tsv").read_text().splitlines()
        self.words = {line.split("\t")[0]: number for number, line in enumerate(lines, 2)}
        self.sizes = json.loads((folder / "sizes.json").read_text())

    def __call__(self, pairs: list[tuple[str, str]]) -> tuple[Text, Text, list[list[tuple[int, int]]]]:
        tokens = [[TOKEN.findall(text) for text in side] for side in zip(*pairs, strict=True)]
        places = [[match.span() for match in TOKEN.finditer(passage)] for _, passage in pairs]
        texts = [self.text(mine, theirs) for mine, theirs in (tokens, tokens[::-1])]
        return texts[0], texts[1], places

    def text(self, rows: list[list[str]], others: list[list[str]]) -> Text:
        different: dict[str, int] = {}
        ids, which, overlap = [], [], []
        for tokens, other in zip(rows, others, strict=True):
            lower, theirs = [token.lower() for token in tokens], [token.lower() for token in other]
            same, low, begin = set(other), set(theirs), {token[:BEGINNING] for token in theirs}
            two = {*itertools.pairwise(theirs)}
            pair = [both in two for both in itertools.pairwise(lower)]
            pairs = [a or b for a, b in zip([False, *pair], [*pair, False], strict=True)]
            overlap.append(torch.tensor([
                [token in same, small in low, small[:BEGINNING] in begin, both]
                for token, small, both in zip(tokens, lower, pairs, strict=True)
            ], dtype=torch.float32))  # fmt: skip
            ids.append(torch.tensor([min(self.words.get(token, 1), self.sizes["words"] - 1) for token in lower]))
            which.append(torch.tensor([different.setdefault(token, len(different)) for token in tokens]))
        letters = self.sizes["characters"]
        spellings = [torch.tensor([ord(c) % (letters - 1) + 1 for c in word[:LONGEST_WORD]]) for word in different]
        lengths = torch.tensor([len(row) for row in ids])
        padded = (pad_sequence(values, batch_first=True) for values in (ids, spellings, which, overlap))
        words, spelled, places, features = padded
        return Text(words, lengths, spelled, places, features)


def answering(data: Path, folder: Path) -> Callable[[list[tuple[str, str]]], list[str]]:
    encode = Encoder(data, folder)
    model = Reader(**encode.sizes).eval()

    def answer(pairs: list[tuple[str, str]]) -> list[str]:
        with torch.inference_mode():
            question, passage, places = encode(pairs)
            first, last = best_spans(*model(question, passage))
        return [
            text[spans[start][0] : spans[end][1]]
            for (_, text), spans, start, end in zip(pairs, places, first.tolist(), last.tolist(), strict=True)
        ]

    return answer


def contender(data: Path, folder: Path) -> Callable[[str, str], Callable[[], Any]]:
    def call(size: str, kind: str) -> Callable[[], Any]:
        if size != benchmark.TRAINING:
            inputs, answer = benchmark.questions(data, size), answering(data, folder)
            return lambda: [answer(pairs) for pairs in inputs]
        train = side_by_side(folder) if "two" in kind else trainer(folder, slice(None), 1)
        return lambda: benchmark.milliseconds(train)

    return call


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    work(contender(*map(Path, sys.argv[1:])))
