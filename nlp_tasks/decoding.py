"""Writing text with a model, in graph: a function gives the probabilities of the next token, a loop chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from nlp_tasks.layers.dropout import random_bits_of_rows

Step = Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]]
"""`step(tokens <int32>[rows], state) → (log probabilities <float>[rows, vocabulary], state)`; the state is a nest with rows first."""


class Sampling(NamedTuple):
    """How the next token is chosen, of each row for itself.

    temperature: `<float>[rows]`: probabilities are p^(1/temperature), normalised; 0 takes the most probable token.
    top_k: `<int32>[rows]`: only so many most probable tokens; 0: all (Fan 2018).
    top_p: `<float>[rows]`: of these only the fewest whose probabilities sum to as much; 1: all (Holtzman 2020, nucleus sampling).
    seeds: `<int32>[rows]`: with the place of a token in its text all that the choice depends on, so that neighbours in a batch do not
        matter and a text goes on from where it was cut as if it had not been.
    """

    temperature: tf.Tensor
    top_k: tf.Tensor
    top_p: tf.Tensor
    seeds: tf.Tensor


def choose(log_probabilities: tf.Tensor, sampling: Sampling, places: tf.Tensor) -> tf.Tensor:
    """The next token of each row.

    Args:
        log_probabilities: `<float>[rows, vocabulary]`.
        places: `<int32>[rows]`, the place of the token in its text.

    Returns:
        `<int32>[rows]`.
    """
    size = tf.shape(log_probabilities)[1]
    scaled = tf.cast(log_probabilities, tf.float32) / tf.maximum(sampling.temperature, 1e-6)[:, None]
    ranked, order = tf.math.top_k(scaled, size)
    probabilities = tf.nn.softmax(ranked)
    limit = tf.where((sampling.top_k > 0) & (sampling.temperature > 0), sampling.top_k, size)
    limit = tf.where(sampling.temperature > 0, limit, 1)
    probabilities = tf.where(tf.range(size) < limit[:, None], probabilities, 0.0)
    probabilities /= tf.reduce_sum(probabilities, 1, keepdims=True)
    before, top_p = tf.cumsum(probabilities, 1, exclusive=True), tf.maximum(sampling.top_p, 1e-9)[:, None]
    probabilities = tf.where((before < top_p) | (top_p >= 1), probabilities, 0.0)
    total = tf.cumsum(probabilities, 1)
    uniform = tf.cast(random_bits_of_rows(sampling.seeds, places), tf.float64) / 2.0**32
    point = tf.cast(uniform * tf.cast(total[:, -1], tf.float64), tf.float32)
    chosen = tf.reduce_sum(tf.cast(total <= point[:, None], tf.int32), 1)
    last = tf.reduce_sum(tf.cast(probabilities > 0, tf.int32), 1) - 1  # the sum's last bits
    return tf.gather(order, tf.minimum(chosen, last), batch_dims=1)


def sample(
    step: Step, tokens: tf.Tensor, state: Any, lengths: tf.Tensor, sampling: Sampling, places: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Goes on with texts, token by token.

    Args:
        step: the model.
        tokens: `<int32>[rows]`: the last token of each text so far.
        state: that of the model before it has read them.
        lengths: `<int32>[rows]`: so many tokens are written.
        sampling: how they are chosen.
        places: `<int32>[rows]`: the place of the first of them in its text.

    Returns:
        `<int32>[rows, longest]`, padded by 0, and the sum of their log probabilities as the model has them, `<float32>[rows]`.
    """
    longest = tf.maximum(0, tf.reduce_max(lengths))
    # An array of no elements cannot be stacked where the number of rows is unknown: the first column is not of the text.
    written = tf.TensorArray(tf.int32, size=longest + 1, element_shape=[None]).write(0, tf.zeros_like(tokens))
    flat = tf.nest.flatten(state)

    def body(t: tf.Tensor, tokens: tf.Tensor, total: tf.Tensor, written: tf.TensorArray, *flat: tf.Tensor) -> tuple[Any, ...]:
        log_probabilities, following = step(tokens, tf.nest.pack_sequence_as(state, flat))
        chosen = choose(log_probabilities, sampling, places + t)
        running = t < lengths
        gained = tf.cast(tf.gather(log_probabilities, chosen, batch_dims=1), tf.float32)
        kept = [_where(running, new, old) for new, old in zip(tf.nest.flatten(following), flat, strict=True)]
        written = written.write(t + 1, tf.where(running, chosen, 0))
        return t + 1, tf.where(running, chosen, tokens), total + tf.where(running, gained, 0.0), written, *kept

    first = (tf.constant(0), tokens, tf.zeros(tf.shape(tokens)), written, *flat)
    _, _, total, written, *_ = tf.while_loop(lambda t, *_: t < longest, body, first)
    return _columns(written, longest, tf.shape(tokens)[0]), total


def _columns(written: tf.TensorArray, longest: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """`[1 + time, rows]` written one after another → `[rows, time]`, without the first."""
    flat = tf.reshape(written.stack()[1:], [-1])
    return tf.gather(flat, tf.range(rows)[:, None] + tf.range(longest) * rows)


def _where(running: tf.Tensor, new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
    """Rows that are finished stay as they are."""
    shape = tf.concat([tf.shape(running), tf.ones([tf.rank(new) - 1], tf.int32)], 0)
    return tf.where(tf.reshape(running, shape), new, old)
