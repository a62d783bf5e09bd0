"""Words as characters, in graph: what an unknown word is made of is known."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

from nlp_tasks.text import ragged

PADDING, UNKNOWN, FIRST = 0, 1, 2
"""Ids 0 and 1 are no characters; the n-th character (from 0) has the id n + 2."""


def write_characters(path: Path, words: Iterable[str]) -> None:
    """Writes the characters of words, in the order of their code points."""
    path.write_text(json.dumps(sorted(set().union(*words)), ensure_ascii=False))


class Characters:
    """Saved characters. `len` counts the padding and the unknown id too.

    Args:
        path: the file that `write_characters` wrote.
        longest: characters of a word that are read; of a longer one the first half and the last half.
    """

    def __init__(self, path: Path, longest: int) -> None:
        self.longest = longest
        codes = sorted(map(ord, json.loads(path.read_text())))
        self._count = len(codes)
        self.codes = tf.Variable(codes, trainable=False, dtype=tf.int32, name="character_codes")

    def __len__(self) -> int:
        return self._count + FIRST

    def lookup(self, words: tf.Tensor) -> tf.Tensor:
        """`<string>[n]` → `<int32>[n, longest]`, padded by 0."""
        codes = tf.strings.unicode_decode(words, "UTF-8")
        codes = ragged.keep(codes, ragged.both_ends(codes, self.longest, 0.5))
        place = tf.minimum(tf.searchsorted(self.codes, codes.values), self._count - 1)
        ids = tf.where(tf.gather(self.codes, place) == codes.values, place + FIRST, UNKNOWN)
        return codes.with_values(ids).to_tensor(shape=[None, self.longest])
