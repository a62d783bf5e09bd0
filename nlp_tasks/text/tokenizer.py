"""The one tokenizer, in graph, on core TensorFlow ops: strings to tokens that know their byte and character offsets.

A token is a run of letters, marks and digits with apostrophes inside ("don't"), or any other single character that is not
white space, with the marks, joiners and variation selectors that follow it (an emoji stays whole). A character of a script
written without spaces (Han, Hiragana, Katakana, Thai, …) is a token of its own.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from nlp_tasks.text.scripts import UNSPACED

SPACE, SYMBOL, EXTEND, JOINER, WORD, APOSTROPHE, SINGLE = range(7)

_SPACES = {1: " ", 2: "\u00a0", 3: "\u2003", 4: "\U0001ffff"}
"""White space by its bytes in UTF-8; there is none of four, so a code point that never is a character stands in."""


class Tokens(NamedTuple):
    """Tokens of a batch of texts; each field is a `tf.RaggedTensor [batch, (tokens)]`."""

    text: tf.RaggedTensor
    """`<string>`: the token, lower-cased if so asked."""
    byte_starts: tf.RaggedTensor
    """`<int64>`: first byte of the token in its text."""
    byte_ends: tf.RaggedTensor
    """`<int64>`: first byte behind the token."""
    character_starts: tf.RaggedTensor
    """`<int64>`: the same in characters (an invalid byte counts as one)."""
    character_ends: tf.RaggedTensor


class Decoded(NamedTuple):
    """Texts as characters, flat over the batch, with runs marked: a run is a token, or one white space."""

    texts: tf.Tensor
    """`<string>[batch]`: with blank strings replaced."""
    codes: tf.RaggedTensor
    """`<int32>[batch, (characters)]`."""
    rows: tf.Tensor
    """`<int64>[characters]`: the text of each character."""
    byte_offsets: tf.Tensor
    """`<int64>[characters]`: where it starts in its text."""
    visible: tf.Tensor
    """`<bool>[characters]`: whether it is no white space."""
    starts: tf.Tensor
    """`<bool>[characters]`: whether a run starts here."""

    def spans(self) -> tuple[tf.Tensor, tf.Tensor]:
        """First character of each token and the one behind it, `<int64>[tokens]` each, flat over the batch."""
        first = tf.cast(tf.where(self.starts)[:, 0], tf.int64)
        # A token ends where the next token or white space starts; white space was marked as a start of its own.
        count = tf.reshape(tf.size(self.starts, tf.int64), [1])
        end = tf.concat([first[1:], count[: tf.size(first)]], 0)
        is_token = tf.gather(self.visible, first)
        return tf.boolean_mask(first, is_token), tf.boolean_mask(end, is_token)


@functools.cache
def character_classes() -> np.ndarray:
    """`<uint8>[0x110000]`: the class of each code point."""
    classes = np.full(0x110000, SYMBOL, np.uint8)
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        if category[0] == "Z" or category in ("Cc", "Cn", "Cs"):
            classes[code] = SPACE if category != "Cn" else SYMBOL
        elif category[0] in "LN":
            classes[code] = WORD
        elif category[0] == "M" or category == "Cf":
            classes[code] = EXTEND
    for first, last in UNSPACED:
        block = classes[first : last + 1]
        block[block == WORD] = SINGLE
    classes[[0x27, 0x2019]] = APOSTROPHE
    classes[0x200D] = JOINER
    classes[0x1F3FB:0x1F400] = EXTEND  # skin tones
    classes[[0xFEFF, 0x200B, ord(_SPACES[4])]] = SPACE  # byte-order mark, zero-width space
    return classes


class Tokenizer:
    """Splits texts into tokens.

    Args:
        lowercase: whether tokens come in lower case (offsets are those of the text either way).
        blank: strings that count as white space, such as "<br />".
    """

    def __init__(self, lowercase: bool = True, blank: tuple[str, ...] = ()) -> None:
        self._lowercase = lowercase
        self._blank = tuple(blank)
        with tf.init_scope():  # the table is no part of a graph that asks for it first
            self.table = tf.Variable(character_classes(), trainable=False, name="character_classes")

    def __call__(self, texts: tf.Tensor) -> Tokens:
        """Args: texts `<string>[batch]`, any bytes: what is no UTF-8 becomes U+FFFD."""
        return self.tokens(self.decode(texts))

    def decode(self, texts: tf.Tensor) -> Decoded:
        """Characters and where runs start, from which `tokens` makes the tokens."""
        for string in self._blank:
            escaped = "".join(c if c.isalnum() or ord(c) > 127 else f"\\x{{{ord(c):x}}}" for c in string)
            spaces = "".join(_SPACES[len(c.encode())] for c in string)
            texts = tf.strings.regex_replace(texts, escaped, spaces)
        codes, byte_offsets = tf.strings.unicode_decode_with_offsets(texts, "UTF-8")
        rows, flat = codes.value_rowids(), codes.values
        classes = tf.cast(tf.gather(self.table, flat), tf.int32)
        starts_row = tf.concat([tf.ones([tf.minimum(tf.size(flat), 1)], tf.bool), rows[1:] != rows[:-1]], 0)
        classes, starts = _boundaries(classes, starts_row)
        return Decoded(texts, codes, rows, byte_offsets.values, classes != SPACE, starts)

    def tokens(self, decoded: Decoded) -> Tokens:
        """Tokens where the runs start that `decoded.starts` names."""
        _, codes, rows, byte_offsets, visible, _ = decoded
        count = tf.size(codes.values)
        first, end = decoded.spans()
        token_rows = tf.gather(rows, first)
        # Tokens lie side by side, with white space alone between them: their characters are all that is no white space.
        splits = tf.concat([tf.zeros([1], tf.int64), tf.cumsum(end - first)], 0)
        characters = tf.RaggedTensor.from_row_splits(tf.boolean_mask(codes.values, visible), splits, validate=False)
        text = tf.strings.unicode_encode(characters, "UTF-8")
        if self._lowercase:
            text = tf.strings.lower(text, encoding="utf-8")
        sizes = tf.cast(tf.strings.length(decoded.texts), tf.int64)
        ends_of_characters = tf.concat([byte_offsets[1:], tf.zeros([tf.minimum(count, 1)], tf.int64)], 0)
        ends_row = tf.concat([rows[1:] != rows[:-1], tf.ones([tf.minimum(count, 1)], tf.bool)], 0)
        ends_of_characters = tf.where(ends_row, tf.gather(sizes, rows), ends_of_characters)
        row_start = tf.gather(codes.row_starts(), token_rows)

        def ragged(values: tf.Tensor) -> tf.RaggedTensor:
            return tf.RaggedTensor.from_value_rowids(values, token_rows, nrows=codes.nrows(), validate=False)

        return Tokens(
            ragged(text),
            ragged(tf.gather(byte_offsets, first)),
            ragged(tf.gather(ends_of_characters, end - 1)),
            ragged(first - row_start),
            ragged(end - row_start),
        )


def _boundaries(classes: tf.Tensor, starts_row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Classes with apostrophes decided, and where a run (a token, or one white space) starts.

    Example:
        characters  i t ' s   o k !
        starts      1 0 0 0 1 1 0 1
    """
    one = tf.zeros([tf.minimum(tf.size(classes), 1)], tf.int32)
    ends_row = tf.concat([starts_row[1:], tf.ones_like(one, tf.bool)], 0)
    before = tf.where(starts_row, SPACE, tf.concat([one, classes[:-1]], 0))
    after = tf.where(ends_row, SPACE, tf.concat([classes[1:], one], 0))
    inside = (classes == APOSTROPHE) & (before == WORD) & (after == WORD)
    classes = tf.where(classes == APOSTROPHE, tf.where(inside, WORD, SYMBOL), classes)
    # An extending character continues whatever token stands before it; alone it is a symbol.
    before = tf.where(starts_row, SPACE, tf.concat([one, classes[:-1]], 0))
    extends = ((classes == EXTEND) | (classes == JOINER)) & (before != SPACE)
    # What an extending run continues: the class of the last character that does not extend.
    position = tf.range(tf.size(classes))
    anchor = _running_maximum(tf.where(extends, 0, position))
    base = tf.gather(classes, anchor)
    base_before = tf.where(starts_row, SPACE, tf.concat([one, base[:-1]], 0))
    joined = (classes == SYMBOL) & (before == JOINER)
    continues = extends | joined | ((classes == WORD) & (base_before == WORD))
    return tf.where(extends, base, classes), ~continues


def _running_maximum(values: tf.Tensor) -> tf.Tensor:
    """`<int32>[n]` → the largest value so far; values are positions, zero where there is none."""
    marks = tf.where(values > 0)[:, 0]
    counts = tf.cumsum(tf.cast(values > 0, tf.int32))
    return tf.gather(tf.concat([[0], tf.cast(tf.gather(values, marks), tf.int32)], 0), counts)
