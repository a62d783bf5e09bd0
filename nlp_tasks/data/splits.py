"""train, validation and test: as the recipe names them, or held out of train so that equal texts stay on one side."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence

from nlp_tasks.data.formats import fingerprint
from nlp_tasks.data.rows import Counts, Row
from nlp_tasks.data.sources import Source
from nlp_tasks.errors import UserError
from nlp_tasks.recipe import FURTHER_FILES, Data

SPLITS = ("train", "validation", "test")
PHRASE, LEFT_OUT = "phrase of a held-out sentence", "beyond data.train_rows"
"""Why a row of the training file is on no side."""


class Splits:
    """The three splits of a recipe.

    Args:
        source: where rows come from.
        data: the recipe's `[data]`.
        key: the column whose text decides the side of a held-out row.
    """

    def __init__(self, source: Source, data: Data, key: str) -> None:
        self._source, self._data, self._key = source, data, key
        self.counts = {split: Counts() for split in SPLITS}
        if not data.train and not data.is_toy_world:
            raise UserError("data.train is not set", "name the training data, for example --set data.train=FILE")
        if data.validation_unit == "sentence" and not data.test and data.test_share > 0 and not data.is_toy_world:
            raise UserError('data.validation_unit = "sentence" without data.test', "name a test split: phrases of held-out test rows would "
                            "stay in training")  # fmt: skip
        self._named = {split: getattr(data, split) or (split if data.is_toy_world else "") for split in SPLITS}
        self._sentences: _Sentences | None = None
        self._threshold: float | None = None
        """With `train_rows`, what the hash of a row that stays in training is below."""

    def rows(self, split: str) -> Iterator[Row]:
        """Rows of "train", "validation" or "test", always in the same order."""
        counts = self.counts[split] = Counts()
        if self._named[split] and split != "train":
            return self._source.rows(self._named[split], counts)
        return counts.keep(self._train_rows(split))

    def fingerprint(self) -> str:
        """Hash of all the data a run reads: its splits, and files beside them. (One that is missing is refused where it is read.)"""
        parts = [self._source.fingerprint(name) for name in self._named.values() if name]
        beside = [self._data.path(name) for key in FURTHER_FILES if (name := getattr(self._data, key, ""))]
        parts += [fingerprint([path]) for path in beside if path.is_file()]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def sources(self) -> list[str]:
        """The splits that the recipe names; the others are held out of train."""
        return [split for split in SPLITS if self._named[split]]

    def source_rows(self, split: str, counts: Counts) -> Iterator[Row]:
        """All rows of a split that the recipe names; of train, those held out as well."""
        return self._source.rows(self._named[split], counts)

    def side(self, split: str, text: str) -> str:
        """The split that a row of a named one goes to, by its text; `PHRASE` or `LEFT_OUT` where it goes to none."""
        return self._side(text) if split == "train" else split

    def held_out(self, split: str) -> bool:
        """Whether a split was cut out of train, not named by the recipe."""
        return not self._named[split]

    def describe(self, split: str) -> str:
        """Where a split comes from, in words."""
        if split == "train" and self._data.train_rows:
            return f"{self._data.train_rows:,} rows of {self._named[split]}"
        if self._named[split]:
            return self._named[split]
        share = self._data.validation_share if split == "validation" else self._data.test_share
        unit = "sentences" if split == "validation" and self._data.validation_unit == "sentence" else "rows"
        return f"{share:.0%} of the {unit} of {self._named['train']}"

    def _text(self, row: Row) -> str:
        """What decides the side of a held-out row."""
        value = row.fields[self._key]
        return value if isinstance(value, str) else " ".join(value)

    def _train_rows(self, wanted: str) -> Iterator[Row]:
        """Rows of the training file that are on the side of `wanted`."""
        dropped = self.counts[wanted]
        inner = Counts()
        for row in self._source.rows(self._named["train"], inner):
            side = self._side(self._text(row))
            if side == wanted:
                yield row
            elif wanted == "train" and side not in SPLITS:
                dropped.dropped[side] += 1
        if wanted == "train":
            dropped.dropped.update(inner.dropped)
            dropped.passed.update(inner.passed)

    def _side(self, text: str) -> str:
        """Of a row of the training file: the split it goes to, or why it goes to none."""
        side = self._unlimited_side(text)
        if side != "train" or not self._data.train_rows:
            return side
        if self._threshold is None:
            texts = (self._text(row) for row in self._source.rows(self._named["train"], Counts()))
            drawn = {self._drawn(other) for other in texts if self._unlimited_side(other) == "train"}
            self._threshold = max(heapq.nsmallest(self._data.train_rows, drawn), default=0.0)
        return "train" if self._drawn(text) <= self._threshold else LEFT_OUT

    def _drawn(self, text: str) -> float:
        return _unit_hash(f"train_rows {self._data.train_rows_seed}", text)

    def _unlimited_side(self, text: str) -> str:
        """As if all rows were wanted."""
        if not self._named["test"] and _unit_hash("test", text) < self._data.test_share:
            return "test"
        if self._named["validation"] or not self._data.validation_share:
            return "train"
        if self._data.validation_unit == "sentence":
            if self._sentences is None:
                texts = (self._text(row) for row in self._source.rows(self._named["train"], Counts()))
                self._sentences = _Sentences(texts, self._data.validation_share)
            return self._sentences.side(text)
        return "validation" if _unit_hash("validation", text) < self._data.validation_share else "train"


class _Sentences:
    """Which rows are held-out sentences, and which are their phrases.

    A row is a sentence if it stands inside no other row. Of the sentences, a share is held out. A row of two or more tokens that
    stands inside a held-out sentence is a phrase of it; single words belong to every sentence and stay.

    Example: of "a fine film", "fine film" and "fine", with the first held out: validation, phrase, train.
    """

    def __init__(self, texts: Iterable[str], share: float) -> None:
        rows = {" ".join(text.split()) for text in texts}
        lengths = sorted({len(row.split()) for row in rows})
        inside: set[str] = set()
        sentences = []
        for row in sorted(rows, key=lambda row: (-len(row.split()), row)):
            if row not in inside:
                sentences.append(row)
                inside.update(part for part in _parts(row, lengths) if part in rows)
        self._held = {row for row in sentences if len(row.split()) > 1 and _unit_hash("validation", row) < share}
        self._phrases = {part for row in self._held for part in _parts(row, lengths) if part in rows and " " in part}

    def side(self, text: str) -> str:
        row = " ".join(text.split())
        return "validation" if row in self._held else PHRASE if row in self._phrases else "train"


def _parts(row: str, lengths: Sequence[int]) -> Iterator[str]:
    """All shorter runs of tokens of a row that are as long as some row."""
    tokens = row.split()
    for length in lengths:
        for start in range(len(tokens) - length + 1 if length < len(tokens) else 0):
            yield " ".join(tokens[start : start + length])


def _unit_hash(purpose: str, text: str) -> float:
    """A number in [0, 1) that depends on the text and what it is for, and on nothing else."""
    digest = hashlib.blake2b(f"{purpose}\0{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
