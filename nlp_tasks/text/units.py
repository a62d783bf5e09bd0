"""What a language model reads and writes: words, characters or bytes. Text to ids and back, in graph.

Id 0 is padding. Id 1 is the unknown unit, "<unk>" (bytes have none); the others follow by frequency (bytes by value). A line end is a
unit like any other: "<eos>" among words, "\\n" among characters and bytes. It is the `boundary`, after which a text begins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from nlp_tasks.errors import UserError
from nlp_tasks.text.tokenizer import Tokenizer
from nlp_tasks.text.vocabulary import count_tokens, line_numbers

EOS, UNK = "<eos>", "<unk>"
UNKNOWN = 1

Split = Callable[[tf.Tensor], tf.RaggedTensor]
"""Lines `<string>[n]` → words `<string>[n, (words)]`."""


class Units(ABC):
    """Units of one kind, read from the file that `write` wrote. `len` counts the padding and the unknown id too.

    Attributes:
        counts: `<int64>[size]`: how often training has each id.
        names: `<string>[size]`: each id as text.
        boundary: the id of a line's end.
        resources: tables and variables that an export must save.
    """

    def __init__(self, names: list[Any], counts: list[int], boundary: int, resources: list[Any]) -> None:
        self.names, self.counts = tf.constant(["", *names], tf.string), np.array([0, *counts], np.int64)
        self.boundary, self.resources = boundary, resources

    def __len__(self) -> int:
        return len(self.counts)

    @abstractmethod
    def split(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """`<string>[batch]` → units as they stand in the text, `<string>[batch, (units)]`."""

    @abstractmethod
    def encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """`<string>[batch]` → `<int32>[batch, (units)]`."""

    @abstractmethod
    def decode(self, ids: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
        """`<int32>[batch, time]`, padded by 0 → `<string>[batch]`, to be appended to texts whose last ids are `before <int32>[batch]`."""

    def unknown(self, texts: tf.Tensor) -> tf.Tensor:
        """`<string>[batch]` → `<string>[batch]`: the units of each text that training never had, with a space between."""
        found, ids = self.split(texts), self.encode(texts)
        strange = (ids.values == UNKNOWN) & (found.values != UNK)
        rows = tf.boolean_mask(ids.value_rowids(), strange)
        kept = tf.RaggedTensor.from_value_rowids(tf.boolean_mask(found.values, strange), rows, nrows=ids.nrows(), validate=False)
        return tf.strings.reduce_join(kept, 1, separator=" ")


class Words(Units):
    """Words. Decoded, they are separated by spaces.

    Args:
        path: of the file.
        splits: how lines come apart.
    """

    def __init__(self, path: Path, splits: Split) -> None:
        names, counts = _read(path)
        self._splits = splits
        self._table = line_numbers(path, UNKNOWN - 1)
        super().__init__(names, counts, names.index(EOS.encode()) + 1, [self._table])

    def split(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return words(texts, self._splits)

    def encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        found = self.split(texts)
        return found.with_values(self.lookup(found.values))

    def lookup(self, words: tf.Tensor) -> tf.Tensor:
        """`<string>[…]` → `<int32>[…]`."""
        return tf.cast(self._table.lookup(words) + 1, tf.int32)

    def decode(self, ids: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
        ends = ids == self.boundary
        first = tf.concat([before[:, None] == self.boundary, ends[:, :-1]], 1)  # of its line
        text = tf.where(ends, "\n", tf.gather(self.names, ids))
        return tf.strings.reduce_join(tf.where(first | ends | (ids == 0), "", " ") + text, 1)


class Characters(Units):
    """Unicode characters; bytes that are no UTF-8 are read as U+FFFD.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        names, counts = _read(path)
        codes = np.array([-1, *(int(name) for name in names[1:])], np.int32)
        order = np.argsort(codes)
        self._codes = tf.Variable(codes[order], trainable=False, name="codes")
        self._ids = tf.Variable((order + 1).astype(np.int32), trainable=False, name="ids")
        boundary = int(np.flatnonzero(codes == ord("\n"))[0]) + 1
        super().__init__([UNK, *map(chr, codes[1:])], counts, boundary, [self._codes, self._ids])

    def split(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return tf.strings.unicode_split(texts, "UTF-8")

    def encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        codes = tf.strings.unicode_decode(texts, "UTF-8")
        place = tf.minimum(tf.searchsorted(self._codes, codes.values), tf.size(self._codes) - 1)
        known = tf.gather(self._codes, place) == codes.values
        return codes.with_values(tf.where(known, tf.gather(self._ids, place), UNKNOWN))

    def decode(self, ids: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
        return tf.strings.reduce_join(tf.gather(self.names, ids), 1)


class Bytes(Units):
    """Bytes: id = byte + 1. There is no unknown one; what is written may be no UTF-8.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__([bytes([value]) for value in range(256)], _read(path)[1], ord("\n") + 1, [])

    def split(self, texts: tf.Tensor) -> tf.RaggedTensor:
        ids = self.encode(texts)
        return ids.with_values(tf.gather(self.names, ids.values))

    def encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return as_bytes(texts) + 1

    def decode(self, ids: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
        return tf.strings.reduce_join(tf.gather(self.names, ids), 1)

    def unknown(self, texts: tf.Tensor) -> tf.Tensor:
        return tf.fill(tf.shape(texts), "")


def as_bytes(texts: tf.Tensor) -> tf.RaggedTensor:
    """`<string>[batch]` → `<int32>[batch, (bytes)]`."""
    flat = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8), tf.int32)
    return tf.RaggedTensor.from_row_lengths(flat, tf.cast(tf.strings.length(texts), tf.int64), validate=False)


def words(texts: tf.Tensor, splits: Split) -> tf.RaggedTensor:
    """`<string>[batch]` → `<string>[batch, (words)]`, with "<eos>" for each line end.

    Example: "a b\\nc" → a, b, <eos>, c.
    """
    lines = tf.strings.split(texts, "\n")
    found = splits(lines.values)
    count = tf.size(lines.values)
    rows, lengths = tf.cast(found.value_rowids(), tf.int32), tf.cast(found.row_lengths(), tf.int32)
    # Each word moves on by the line ends before it; a text of n line ends has n + 1 lines, the last of which does not end.
    last = tf.cast(tf.gather(lines.row_limits(), lines.value_rowids()), tf.int32) == tf.range(1, count + 1)
    ends = tf.cast(~last, tf.int32)
    before = tf.cumsum(ends, exclusive=True)
    limits = tf.cast(found.row_limits(), tf.int32)
    words_at = tf.range(tf.size(found.values)) + tf.gather(before, rows)
    ends_at = tf.boolean_mask(limits + before, ~last)
    values = tf.dynamic_stitch([words_at, ends_at], [found.values, tf.fill([tf.size(ends_at)], EOS)])
    splits_of_texts = tf.gather(tf.concat([[0], tf.cumsum(lengths + ends)], 0), tf.cast(lines.row_splits, tf.int32))
    return tf.RaggedTensor.from_row_splits(values, tf.cast(splits_of_texts, tf.int64), validate=False)


def at_spaces(lowercase: bool) -> Split:
    """Words are what stands between ASCII white space, as in corpora that come in tokens."""
    return lambda lines: tf.strings.split(tf.strings.lower(lines, encoding="utf-8") if lowercase else lines)


def by_rules(tokenizer: Tokenizer) -> Split:
    """Words are those of the tokenizer, punctuation apart."""
    return lambda lines: tokenizer(lines).text


def write(path: Path, kind: str, texts: Iterable[tf.Tensor], splits: Split, *, minimum_count: int, size: int) -> None:
    """Counts the units of training texts, batches of `<string>[n]`, and writes `unit<TAB>count` lines, most frequent first.

    Characters are written as code points, bytes all 256 in their order. Units beyond `size`, or rarer than `minimum_count`, are unknown.
    """
    if kind == "bytes":
        counts = sum(
            (np.bincount(np.frombuffer(b"".join(batch.numpy()), np.uint8), minlength=256) for batch in texts), np.zeros(256, int)
        )
        path.write_bytes(b"".join(b"%d\t%d\n" % pair for pair in enumerate(counts)))
        return
    if kind == "characters":
        codes = np.zeros(0x110000, np.int64)
        for batch in texts:
            codes += np.bincount(tf.strings.unicode_decode(batch, "UTF-8").values.numpy(), minlength=len(codes))
        found = Counter({b"%d" % code: int(codes[code]) for code in np.flatnonzero(codes)})
        boundary = b"%d" % ord("\n")
    else:
        split = tf.function(
            lambda texts: words(texts, splits).values, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)]
        )
        found, boundary = count_tokens(split(batch) for batch in texts), EOS.encode()
    if not found:
        raise UserError("the training data has no text", "is data.train an empty file?")
    unknown = found.pop(UNK.encode(), 0)
    ends = found.pop(boundary, 0)
    common = sorted(
        ((unit, count) for unit, count in found.items() if count >= minimum_count), key=lambda item: (-item[1], item[0])
    )
    kept = sorted([*common[: size - 1], (boundary, ends)], key=lambda item: (-item[1], item[0]))
    unknown += found.total() + ends - sum(count for _, count in kept)
    path.write_bytes(b"".join(unit + b"\t%d\n" % count for unit, count in [(UNK.encode(), unknown), *kept]))


def _read(path: Path) -> tuple[list[bytes], list[int]]:
    rows = [line.split(b"\t") for line in path.read_bytes().split(b"\n")[:-1]]
    return [unit for unit, _ in rows], [int(count) for _, count in rows]
