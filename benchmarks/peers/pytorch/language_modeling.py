"""PyTorch's side of benchmarks/language_modeling.py, which starts it: trains in its turn and prints its tokens a second."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import language_modeling as benchmark

State = tuple[torch.Tensor, torch.Tensor] | None


class LanguageModel(nn.Module):
    """kind: "full" or "adaptive" softmax; "linear": the full one and its product in one call; "sparse" gradients of the embedding."""

    def __init__(self, size: benchmark.Size, kind: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size.classes, size.embedding, sparse="sparse" in kind)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.embedding_dropout = nn.Dropout(size.embedding_dropout)
        self.network = nn.LSTM(size.embedding, size.units, size.depth, dropout=size.dropout if size.depth > 1 else 0.0)
        self.output_dropout = nn.Dropout(size.output_dropout)
        features = size.embedding if size.tied else size.units
        self.projection = nn.Linear(size.units, features, bias=False) if features != size.units else nn.Identity()
        self.adaptive, self.linear = "adaptive" in kind, "linear" in kind
        if self.adaptive:
            self.softmax = nn.AdaptiveLogSoftmaxWithLoss(
                features, size.classes, list(benchmark.CUTOFFS), div_value=4, head_bias=True
            )
        else:
            self.softmax = nn.Linear(features, size.classes)
            if size.tied:
                self.softmax.weight = self.embedding.weight

    def forward(self, read: torch.Tensor, predicted: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """`<int64>[time, rows]` each → the mean loss and the next state."""
        outputs, state = self.network(self.embedding_dropout(self.embedding(read)), state)
        hidden = self.projection(self.output_dropout(outputs)).flatten(0, 1)
        predicted = predicted.flatten()
        if self.adaptive:
            return self.softmax(hidden, predicted).loss, state
        if self.linear:
            return functional.linear_cross_entropy(hidden, self.softmax.weight, predicted, linear_bias=self.softmax.bias), state
        return functional.cross_entropy(self.softmax(hidden), predicted), state


def optimizers(model: LanguageModel, kind: str) -> list[torch.optim.Optimizer]:
    dense = [weight for weight in model.parameters() if weight is not model.embedding.weight or not model.embedding.sparse]
    found: list[torch.optim.Optimizer] = [torch.optim.Adam(dense, lr=benchmark.RATE, fused="fused" in kind)]
    if model.embedding.sparse:
        found.append(torch.optim.SparseAdam([model.embedding.weight], lr=benchmark.RATE))
    return found


def clip(model: LanguageModel) -> None:
    """`clip_grad_norm_` takes no sparse gradients."""
    if not model.embedding.sparse:
        nn.utils.clip_grad_norm_(model.parameters(), benchmark.CLIP)
        return
    model.embedding.weight.grad = model.embedding.weight.grad.coalesce()
    gradients = [weight.grad.values() if weight.grad.is_sparse else weight.grad for weight in model.parameters()]
    norm = nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, (benchmark.CLIP / (norm + 1e-6)).clamp(max=1.0))


def contender(size: benchmark.Size, kind: str) -> Callable[[], float]:
    model = LanguageModel(size, kind)
    steps, batches = optimizers(model, kind), size.batches()
    state: State = None

    def step() -> float:
        nonlocal state
        read, predicted = map(torch.from_numpy, next(batches))
        loss, state = model(read, predicted, state)
        for optimizer in steps:
            optimizer.zero_grad()
        loss.backward()
        clip(model)
        for optimizer in steps:
            optimizer.step()
        state = tuple(part.detach() for part in state)
        return loss.item()

    return step


if __name__ == "__main__":
    torch.manual_seed(1)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    benchmark.measure(contender)
