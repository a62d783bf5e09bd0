"""Subwords by byte-pair encoding (Sennrich 2016): learned by sentencepiece, encoded and decoded in graph, on core TensorFlow ops.

A text is its words, each with the space before it ("▁Haus"); a word is characters, of which two neighbours whose strings make a piece
are merged again and again, the earliest learned piece first and the leftmost of equals. What was never seen in training is written in
its UTF-8 bytes, so that any text comes back as it was, in any script. The library gives the same pieces; but "▁" itself, which it
takes for a space, is written in bytes here.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

from nlp_tasks.errors import UserError

PADDING, BEGIN, END, UNKNOWN = 0, 1, 2, 3
NEVER_WRITTEN = (PADDING, BEGIN, UNKNOWN)
"""No text has them: the library wants an id for the unknown, which is written in bytes here."""
_FIRST_BYTE, _FIRST_PIECE = 4, 260
SPACE = "▁"
LEARNED_FROM = 2_000_000
"""So many texts are read to learn from, the first ones."""

_NONE = np.iinfo(np.int64).max


def learn(texts: Iterable[str], size: int) -> bytes:
    """A sentencepiece model of at most `size` ids: padding, begin, end, unknown, the 256 bytes, and pieces by rank.

    Pieces never reach over a space, nor join letters and punctuation. All characters of the texts are pieces.

    Raises:
        UserError: no text; a size too small for the characters.
    """
    import sentencepiece

    model = BytesIO()
    given = (text for text in islice(texts, LEARNED_FROM) if text.strip())
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=given, model_writer=model, model_type="bpe", vocab_size=size, hard_vocab_limit=False,
            character_coverage=1.0, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
            pad_id=PADDING, bos_id=BEGIN, eos_id=END, unk_id=UNKNOWN, num_threads=1, minloglevel=2, max_sentence_length=1 << 20,
        )  # fmt: skip
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2]
        raise UserError(f"no subwords can be learned with text.subwords = {size}: {reason}",
                        f"are there texts? All their characters must fit, and {_FIRST_PIECE} ids beside them") from None  # fmt: skip
    return model.getvalue()


class Subwords:
    """Texts to ids and back. `len` is the number of ids, padding, begin and end included.

    Args:
        path: of a file with a sentencepiece model made by `learn`; an export needs neither the file nor the library.

    Attributes:
        pieces: `<string>[size]`: what each id stands for, bytes as such and a space for "▁"; empty for ids that stand for nothing.
        names: `<string>[size]`: the same for people: "▁" and "<0xE4>"; empty for padding.
        resources: variables that an export must save.
    """

    def __init__(self, path: Path) -> None:
        import sentencepiece

        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        names = [model.id_to_piece(number) for number in range(len(model))]
        self.names = tf.constant([b"", *(name.encode() for name in names[1:])], tf.string)
        found = names[_FIRST_PIECE:]
        written = [name.replace(SPACE, " ").encode() for name in found]
        self.pieces = tf.constant([*[b""] * _FIRST_BYTE, *(bytes([value]) for value in range(256)), *written], tf.string)
        ids = {piece: number for number, piece in enumerate(found, _FIRST_PIECE)}
        characters = sorted((ord(piece.replace(SPACE, " ")), number) for piece, number in ids.items() if len(piece) == 1)
        merges = sorted(
            (ids[piece[:cut]] * len(names) + ids[piece[cut:]], number)
            for piece, number in ids.items()
            for cut in range(1, len(piece))
            if piece[:cut] in ids and piece[cut:] in ids
        )
        self._codes, self._characters = _columns("codes", characters)
        self._pairs, self._merged = _columns("pairs", merges)
        self.resources = [self._codes, self._characters, self._pairs, self._merged]

    def __len__(self) -> int:
        return int(self.names.shape[0])

    def encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """`<string>[batch]` → `<int32>[batch, (pieces)]`. Bytes that are no UTF-8 are read as U+FFFD; an empty text has no pieces."""
        words = tf.strings.split(texts, " ")
        inside = tf.gather(tf.strings.length(texts) > 0, words.value_rowids())
        rows = tf.boolean_mask(words.value_rowids(), inside)
        distinct, place = tf.unique(tf.strings.join([" ", tf.boolean_mask(words.values, inside)]))
        pieces = tf.gather(self._encode_words(distinct), place)
        lengths = tf.math.unsorted_segment_sum(pieces.row_lengths(), rows, tf.size(texts, tf.int64))
        return tf.RaggedTensor.from_row_lengths(pieces.values, lengths, validate=False)

    def decode(self, ids: tf.Tensor) -> tf.Tensor:
        """`<int32>[batch, time]`, padded by 0 → `<string>[batch]`. Bytes that make no character become U+FFFD."""
        joined = tf.strings.reduce_join(tf.gather(self.pieces, ids), 1)
        return tf.strings.unicode_transcode(tf.strings.regex_replace(joined, "^ ", ""), "UTF-8", "UTF-8")

    def _encode_words(self, words: tf.Tensor) -> tf.RaggedTensor:
        """`<string>[words]`, each with the space before it → `<int32>[words, (pieces)]`."""
        characters = tf.strings.unicode_decode(words, "UTF-8")
        codes, rows, count = tf.cast(characters.values, tf.int64), characters.value_rowids(), characters.nrows()
        symbols = _found(self._codes, self._characters, codes)
        symbols = tf.where(symbols == _NONE, -1 - codes, symbols)  # a character that is no piece: below zero, merged with nothing
        return self._in_bytes(*self._merge(symbols, rows, count), count)

    def _merge(self, symbols: tf.Tensor, rows: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """In each round each word's best pair becomes one symbol, until no word has a pair that makes a piece."""

        def best(symbols: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
            """Of each word with a pair: the merged piece and the pair's place, as one number of which the smallest is the best."""
            left, right = symbols[:-1], symbols[1:]
            beside = (rows[:-1] == rows[1:]) & (left >= 0) & (right >= 0)
            merged = _found(self._pairs, self._merged, tf.where(beside, left * len(self) + right, tf.constant(-1, tf.int64)))
            places = tf.boolean_mask(tf.range(tf.size(merged, tf.int64)), merged < _NONE)
            size = tf.size(symbols, tf.int64)
            ranked = tf.gather(merged, places) * size + places
            ranked = tf.math.unsorted_segment_min(ranked, tf.gather(rows, places), count)
            return tf.boolean_mask(ranked, ranked < _NONE)

        def body(symbols: tf.Tensor, rows: tf.Tensor, ranked: tf.Tensor) -> tuple[tf.Tensor, ...]:
            size = tf.size(symbols, tf.int64)
            places = (ranked % size)[:, None]
            symbols = tf.tensor_scatter_nd_update(symbols, places, ranked // size)
            kept = tf.tensor_scatter_nd_update(tf.ones([size], tf.bool), places + 1, tf.zeros([tf.size(places)], tf.bool))
            symbols, rows = tf.boolean_mask(symbols, kept), tf.boolean_mask(rows, kept)
            return symbols, rows, best(symbols, rows)

        start = (symbols, rows, best(symbols, rows))
        shapes = (tf.TensorShape([None]),) * 3
        symbols, rows, _ = tf.while_loop(lambda symbols, rows, ranked: tf.size(ranked) > 0, body, start, shapes)
        return symbols, rows

    def _in_bytes(self, symbols: tf.Tensor, rows: tf.Tensor, count: tf.Tensor) -> tf.RaggedTensor:
        """With each character that is no piece as the ids of its bytes."""
        strange = symbols < 0
        written = tf.strings.unicode_encode(tf.cast(-1 - tf.boolean_mask(symbols, strange), tf.int32)[:, None], "UTF-8")
        sizes = tf.tensor_scatter_nd_update(
            tf.ones_like(symbols), tf.where(strange), tf.cast(tf.strings.length(written), tf.int64)
        )
        ids = tf.cast(tf.repeat(symbols, sizes), tf.int32)
        values = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(written), tf.uint8), tf.int32) + _FIRST_BYTE
        ids = tf.tensor_scatter_nd_update(ids, tf.where(ids < 0), values)
        return tf.RaggedTensor.from_value_rowids(ids, tf.repeat(rows, sizes), nrows=count, validate=False)


def _columns(name: str, pairs: list[tuple[int, int]]) -> tuple[tf.Variable, tf.Variable]:
    """Sorted keys and their values, `<int64>[n]` each."""
    keys, values = np.array(pairs or [(-1, -1)], np.int64).T
    return tf.Variable(keys, trainable=False, name=name), tf.Variable(values, trainable=False, name=f"{name}_values")


def _found(keys: tf.Variable, values: tf.Variable, wanted: tf.Tensor) -> tf.Tensor:
    """The values of keys; `_NONE` where there is no such key, as for -1."""
    place = tf.minimum(tf.searchsorted(keys, wanted), tf.size(keys) - 1)
    found = (tf.gather(keys, place) == wanted) & (wanted >= 0)
    return tf.where(found, tf.gather(values, place), tf.constant(_NONE, tf.int64))
