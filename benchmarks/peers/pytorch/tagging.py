"""PyTorch's side of benchmarks/tagging.py: word embedding and a convolution over characters, BiLSTM, linear layer.

PYTHON tagging.py train DATA_DIR FOLDER             trains, writes FOLDER/tagger.pt, prints the test accuracy
PYTHON tagging.py answer DATA_DIR FOLDER THREADS    started by the benchmark: answers lines "size|kind" by milliseconds
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import tagging as benchmark

PADDING, UNKNOWN, START, END = range(4)
EPOCHS, PATIENCE, LONGEST = 12, 3, 24  # characters after the 24th are not read


class Tagger(torch.nn.Module):
    def __init__(self, words: int, characters: int, tags: int) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(words, 100, sparse=True)
        torch.nn.init.normal_(self.words.weight, std=0.1)  # from 1, the default, an epoch learns five points less
        self.characters = torch.nn.Embedding(characters, 32, padding_idx=PADDING)
        # Without bias padding comes to 0, the least that the ReLU gives: a word is the same beside longer ones.
        self.convolution = torch.nn.Conv1d(32, 64, 3, padding=2, bias=False)
        self.network = torch.nn.LSTM(164, 200, bidirectional=True)
        self.output = torch.nn.Linear(400, tags)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, words: PackedSequence, spellings: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Logits of the packed words; `spellings` are of the batch's different words, `which` says which one each word has."""
        windows = self.convolution(self.characters(spellings).transpose(1, 2))
        spelled = torch.relu(windows.amax(2))[which]
        features = self.dropout(torch.cat([self.words(words.data), spelled], 1))
        states, _ = self.network(PackedSequence(features, *words[1:]))
        return self.output(self.dropout(states.data))


class Encoder:
    """Ids of words, characters and tags, in the order of their frequency in the training data."""

    def __init__(self, folder: str) -> None:
        self.train = list(benchmark.read(Path(folder) / "train.conllu"))
        self.counts = Counter(word.lower() for sentence in self.train for word in sentence.words)  # the spelling tells the case
        characters = Counter(character for sentence in self.train for word in sentence.words for character in word)
        self.words = {word: number for number, (word, _) in enumerate(self.counts.most_common(), UNKNOWN + 1)}
        self.characters = {character: number for number, (character, _) in enumerate(characters.most_common(), END + 1)}
        self.tags = sorted({tag for sentence in self.train for tag in sentence.tags})
        self.singletons = torch.tensor([self.counts[word] == 1 for word in ["", "", *self.words]])

    def tagger(self) -> Tagger:
        return Tagger(UNKNOWN + 1 + len(self.words), END + 1 + len(self.characters), len(self.tags))

    def __call__(self, batch: Sequence[benchmark.Sentence]) -> tuple[PackedSequence, torch.Tensor, torch.Tensor]:
        different: dict[str, int] = {}
        which = [torch.tensor([different.setdefault(word, len(different)) for word in sentence.words]) for sentence in batch]
        ids = [[START, *(self.characters.get(c, UNKNOWN) for c in word[:LONGEST]), END] for word in different]
        spellings = torch.nn.utils.rnn.pad_sequence([torch.tensor(word) for word in ids], batch_first=True)
        words = [torch.tensor([self.words.get(word.lower(), UNKNOWN) for word in sentence.words]) for sentence in batch]
        return pack_sequence(words, enforce_sorted=False), spellings, pack_sequence(which, enforce_sorted=False).data

    def gold(self, batch: Sequence[benchmark.Sentence]) -> torch.Tensor:
        tags = [torch.tensor([self.tags.index(tag) for tag in sentence.tags]) for sentence in batch]
        return pack_sequence(tags, enforce_sorted=False).data


def answer(tagger: Tagger, words: PackedSequence, *spelled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of tags, [batch, longest], and lengths."""
    with torch.inference_mode():
        return pad_packed_sequence(PackedSequence(tagger(words, *spelled).argmax(1), *words[1:]), batch_first=True)


def tags(tagger: Tagger, encode: Encoder, sentences: Sequence[benchmark.Sentence]) -> list[list[str]]:
    found = []
    for start in range(0, len(sentences), benchmark.BATCH):
        ids, lengths = answer(tagger.eval(), *encode(sentences[start : start + benchmark.BATCH]))
        found += [[encode.tags[tag] for tag in row[:length]] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)]
    return found


def train(folder: str, out: Path) -> None:
    torch.manual_seed(1)
    random.seed(1)
    begun, encode = time.perf_counter(), Encoder(folder)
    dev = list(benchmark.read(Path(folder) / "dev.conllu"))
    known = {word for sentence in encode.train for word in sentence.words}
    tagger = encode.tagger()
    dense = torch.optim.Adam([weight for name, weight in tagger.named_parameters() if name != "words.weight"], lr=2e-3)
    sparse = torch.optim.SparseAdam([tagger.words.weight], lr=2e-3)
    ordered = sorted(encode.train, key=lambda sentence: len(sentence.words))
    batches = [ordered[start : start + 32] for start in range(0, len(ordered), 32)]
    encoded = [(*encode(batch), encode.gold(batch)) for batch in batches]
    best, chosen = 0.0, 0
    out.mkdir(parents=True, exist_ok=True)
    for epoch in range(EPOCHS):
        tagger.train()
        for group in dense.param_groups + sparse.param_groups:
            group["lr"] = 2e-3 * (1 - epoch / EPOCHS)
        random.shuffle(encoded)
        for words, spellings, which, gold in encoded:
            hidden = encode.singletons[words.data] & (torch.rand(len(words.data)) < 0.5)
            logits = tagger(PackedSequence(words.data.masked_fill(hidden, UNKNOWN), *words[1:]), spellings, which)
            dense.zero_grad()
            sparse.zero_grad()
            torch.nn.functional.cross_entropy(logits, gold).backward()
            torch.nn.utils.clip_grad_norm_(dense.param_groups[0]["params"], 5.0)
            dense.step()
            sparse.step()
        found = tags(tagger, encode, dev)
        score = sum(a == b for s, row in zip(dev, found, strict=True) for a, b in zip(s.tags, row, strict=True))
        print(f"epoch {epoch + 1}: dev {benchmark.accuracy(dev, found, known)}; {time.perf_counter() - begun:.0f} s")
        if score > best:
            best, chosen = score, epoch
            torch.save(tagger.state_dict(), out / "tagger.pt")
        elif epoch - chosen >= PATIENCE:
            break
    seconds = time.perf_counter() - begun
    tagger.load_state_dict(torch.load(out / "tagger.pt"))
    test = list(benchmark.read(Path(folder) / "test.conllu"))
    print(f"test: {benchmark.accuracy(test, tags(tagger, encode, test), known)}; trained in {seconds:.0f} s")


def contender(folder: str, out: str) -> Any:
    encode, pool = Encoder(folder), ThreadPoolExecutor(2)
    tagger = encode.tagger().eval()
    tagger.load_state_dict(torch.load(Path(out) / "tagger.pt"))

    def call(size: str, kind: str) -> Any:
        inputs = [encode(batch) for batch in benchmark.batches(folder, size)]
        side_by_side = pool.map if "two" in kind and len(inputs) > 1 else map
        return lambda: list(side_by_side(lambda batch: answer(tagger, *batch), inputs))

    return call


if __name__ == "__main__":
    command, data, model, *threads = sys.argv[1:]
    torch.set_num_threads(int(threads[0]) if threads else 2)
    if command == "train":
        train(data, Path(model))
    else:
        benchmark.work(contender(data, model))
