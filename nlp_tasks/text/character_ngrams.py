"""Character n-grams of words, in graph: what an unseen word shares with seen ones (Bojanowski 2017, section 3.2)."""

from __future__ import annotations

import tensorflow as tf

SHORTEST, LONGEST = 3, 6


def ngram_ids(words: tf.Tensor, buckets: int) -> tf.RaggedTensor:
    """Hashed n-grams of 3 to 6 characters of "<word>", the marked word itself left out but where it is the only one.

    Example: "né" has "<né", "né>"; "where" has "<wh", "whe", …, "here>"; "é" has "<é>".

    Args:
        words: `<string>[n]`.
        buckets: number of ids.

    Returns:
        `<int32>[n, (n-grams)]`: ids from 0 to `buckets` - 1, by length, then from left to right.
    """
    marked = tf.strings.join(["<", words, ">"])
    lengths = tf.strings.length(marked, unit="UTF8_CHAR")
    sizes = tf.range(SHORTEST, LONGEST + 1)
    # Of a word of m characters, marks included, there are m - size + 1 of each size below m, and the one of the shortest size.
    counts = tf.where(sizes < tf.maximum(lengths, SHORTEST + 1)[:, None], tf.maximum(0, lengths[:, None] - sizes + 1), 0)
    flat = tf.reshape(counts, [-1])
    starts = tf.ragged.range(flat).values
    each = tf.repeat(tf.tile(sizes, [tf.size(lengths)]), flat)
    of = tf.repeat(tf.range(tf.size(lengths)), tf.reduce_sum(counts, 1))
    grams = tf.strings.substr(tf.gather(marked, of), starts, each, unit="UTF8_CHAR")
    hashed = tf.cast(tf.strings.to_hash_bucket_fast(grams, buckets), tf.int32)
    return tf.RaggedTensor.from_row_lengths(hashed, tf.cast(tf.reduce_sum(counts, 1), tf.int64), validate=False)
