"""Which tokens a model knows: counted on training data, saved one a line, looked up in graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf

from nlp_tasks.errors import UserError

PADDING, UNKNOWN, FIRST = 0, 1, 2
"""Ids 0 and 1 are no tokens; the token on line n of the file (from 0) has the id n + 2."""


def count_tokens(batches: Iterable[tf.Tensor]) -> Counter[bytes]:
    """Counts of tokens over batches of flat `<string>[tokens]`."""
    counts: Counter[bytes] = Counter()
    for batch in batches:
        tokens, _, frequencies = tf.unique_with_counts(batch)
        for token, frequency in zip(tokens.numpy(), frequencies.numpy(), strict=True):
            counts[token] += int(frequency)
    return counts


def write_vocabulary(path: Path, counts: Counter[bytes], *, minimum_count: int, size: int) -> None:
    """Writes `token<TAB>count` lines, most frequent first, equal counts in byte order."""
    kept = [(token, count) for token, count in counts.items() if count >= minimum_count and not {*b"\t\n"} & {*token}]
    kept = sorted(kept, key=lambda item: (-item[1], item[0]))[:size]
    if not kept:
        raise UserError("no token of the training data gets into the vocabulary",
                        f"is the text empty? text.minimum_count is {minimum_count}")  # fmt: skip
    path.write_bytes(b"".join(token + b"\t%d\n" % count for token, count in kept))


def read_vocabulary(path: Path) -> Iterator[tuple[bytes, int]]:
    """Tokens and counts, in the order of their ids."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        token, count = line.split(b"\t")
        yield token, int(count)


def line_numbers(path: Path, missing: int) -> tf.lookup.StaticHashTable:
    """From tokens, which a tab ends, to the numbers of their lines, from 0."""
    return tf.lookup.StaticHashTable(
        _OfItsOwn(str(path), tf.string, 0, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER, delimiter="\t"), missing
    )


class _OfItsOwn(tf.lookup.TextFileInitializer):
    """TensorFlow shares one table between all files of one name, also with one that was written anew; a table without a name is its own."""

    _shared_name = ""


class Vocabulary:
    """A saved vocabulary. `len` counts the padding and the unknown id too.

    Args:
        path: the file that `write_vocabulary` wrote; an export copies it as an asset.
    """

    def __init__(self, path: Path) -> None:
        self.counts = [count for _, count in read_vocabulary(path)]
        self.table = line_numbers(path, UNKNOWN - FIRST)

    def __len__(self) -> int:
        return len(self.counts) + FIRST

    def lookup(self, tokens: tf.Tensor) -> tf.Tensor:
        """`<string>[…]` (ragged or not) → `<int32>[…]` of the same shape."""
        if isinstance(tokens, tf.RaggedTensor):
            return tokens.with_flat_values(self.lookup(tokens.flat_values))
        return tf.cast(self.table.lookup(tokens) + FIRST, tf.int32)
