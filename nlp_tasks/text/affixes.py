"""Beginnings and endings of words, in graph: what an unknown word still tells ("un…", "…less")."""

from __future__ import annotations

import tensorflow as tf

PREFIXES, SUFFIXES = (3, 4, 5, 6), (2, 3, 4, 5)
PER_TOKEN = len(PREFIXES) + len(SUFFIXES)


def affix_ids(tokens: tf.Tensor, buckets: int) -> tf.Tensor:
    """Hashed prefixes of 3 to 6 and suffixes of 2 to 5 characters, each shorter than its token (Bojanowski 2017, section 3.2).

    Args:
        tokens: `<string>[n]`.
        buckets: number of ids.

    Returns:
        `<int32>[n, 8]`: ids from 1 to `buckets`; 0 where the token is too short.
    """
    length = tf.strings.length(tokens, unit="UTF8_CHAR")
    columns = []
    for mark, sizes in (("<", PREFIXES), (">", SUFFIXES)):
        for size in sizes:
            start = tf.maximum(length - size, 0) if mark == ">" else tf.zeros_like(length)
            part = tf.strings.substr(tokens, start, tf.fill(tf.shape(length), size), unit="UTF8_CHAR")
            hashed = tf.strings.to_hash_bucket_fast(tf.strings.join([mark, part]), buckets)
            columns.append(tf.where(length > size, tf.cast(hashed, tf.int32) + 1, 0))
    return tf.stack(columns, -1)
