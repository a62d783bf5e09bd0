"""Writing text with a model, in graph: a function gives the probabilities of the next token, a loop chooses.

`sample` goes on with texts by chance, `greedy` and `beam` look for the most probable one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from nlp_tasks.layers.dropout import random_bits_of_rows
from nlp_tasks.layers.softmax import NEVER

Step = Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]]
"""`step(tokens <int32>[rows], state) → (log probabilities <float>[rows, vocabulary], state)`; the state is a nest with rows first."""


class State(NamedTuple):
    """Of hypotheses that are written side by side.

    own: nest of `[rows · lanes, …]`: what each hypothesis has for itself; it goes with those that a search keeps.
    shared: nest of `[rows, …]`: what all of a row have in common; it stays.
    """

    own: Any
    shared: Any


class Hypotheses(NamedTuple):
    """What a search found, the best first.

    ids: `<int32>[rows, lanes, longest]` without the end, padded by 0.
    log_probabilities: `<float32>[rows, lanes]`, of ids and end; `NEVER` where there is no further hypothesis.
    scores: `<float32>[rows, lanes]`: log probability / length penalty.
    """

    ids: tf.Tensor
    log_probabilities: tf.Tensor
    scores: tf.Tensor


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


def greedy(
    step: Step, begin: int, end: int, state: Any, limits: tf.Tensor, never: Sequence[int] = ()
) -> tuple[tf.Tensor, tf.Tensor]:
    """Always the most probable token, up to the end.

    Args:
        step: the model.
        begin, end: ids of the token before the first, and of that after the last.
        state: that of the model at the beginning.
        limits: `<int32>[rows]`, at least 1: so many tokens at most, the end included, which is forced there.
        never: ids that are not written, whatever their probability.

    Returns:
        `<int32>[rows, longest]` without the end, padded by 0, and log probabilities `<float32>[rows]`, that of the end included.
    """
    rows, longest = tf.shape(limits)[0], tf.reduce_max(tf.concat([limits, [1]], 0))
    flat = tf.nest.flatten(state)
    places = tf.range(longest)

    def body(t: tf.Tensor, tokens: tf.Tensor, running: tf.Tensor, total: tf.Tensor, written: tf.Tensor, *flat: tf.Tensor) -> Any:
        log_probabilities, following = step(tokens, tf.nest.pack_sequence_as(state, flat))
        log_probabilities = tf.cast(log_probabilities, tf.float32)
        found, ids = tf.math.top_k(log_probabilities, 1 + len(never))
        best = tf.argmax(tf.where(_is_any(ids, never), NEVER, found), 1)
        chosen = tf.where(t + 1 < limits, tf.gather(ids, best, batch_dims=1), end)
        total += tf.where(running, tf.gather(log_probabilities, chosen, batch_dims=1), 0.0)
        running &= chosen != end
        written = tf.where((places == t) & running[:, None], chosen[:, None], written)
        return t + 1, chosen, running, total, written, *tf.nest.flatten(following)

    first = (
        tf.constant(0),
        tf.fill([rows], begin),
        tf.fill([rows], True),
        tf.zeros([rows]),
        tf.zeros([rows, longest], tf.int32),
        *flat,
    )
    shapes = (*(part.shape for part in first[:5]), *map(_growing, flat))
    _, _, _, total, written, *_ = tf.while_loop(lambda t, tokens, running, *_: tf.reduce_any(running), body, first, shapes)
    return written, total


def length_penalty(lengths: tf.Tensor, alpha: float) -> tf.Tensor:
    """((5 + length) / 6)^α (Wu 2016, eq. 14)."""
    return ((5 + tf.cast(lengths, tf.float32)) / 6) ** alpha


def beam(
    step: Step, begin: int, end: int, state: State, limits: tf.Tensor, widths: tf.Tensor, *, alpha: float,
    never: Sequence[int] = (),
) -> Hypotheses:  # fmt: skip
    """The most probable sequences by beam search, with the score log p / length penalty, in which the length counts the end.

    Of each row as many hypotheses are kept alive as its width says. One has come to its end where that is among the best continuations,
    as many as the width; a row is finished when so many have. So a width of 1 is the greedy search; and what another row in the batch
    asks for changes nothing.

    Args:
        step: the model, for `[rows · lanes]` tokens and a `State`, with as many lanes as the largest width.
        begin, end: ids of the token before the first, and of that after the last.
        state: that of the model at the beginning; lanes of a row are equal.
        limits: `<int32>[rows]`, at least 1: so many tokens at most, the end included, which is forced there.
        widths: `<int32>[rows]`, at least 1.
        alpha: of the length penalty; 0: none.
        never: ids that are not written, whatever their probability.

    Returns:
        as many lanes as the largest width.
    """
    rows, lanes = tf.shape(limits)[0], tf.reduce_max(tf.concat([widths, [1]], 0))
    longest = tf.reduce_max(tf.concat([limits, [1]], 0))
    places, flat = tf.range(longest), tf.nest.flatten(state)
    own = len(tf.nest.flatten(state.own))
    inside = tf.range(lanes) < widths[:, None]
    among = tf.range(2 * lanes) < 2 * widths[:, None]

    def body(
        t: tf.Tensor,
        tokens: tf.Tensor,
        alive: tf.Tensor,
        written: tf.Tensor,
        found: Hypotheses,
        done: tf.Tensor,
        *flat: tf.Tensor,
    ) -> Any:
        log_probabilities, following = step(tokens, tf.nest.pack_sequence_as(state, flat))
        size = log_probabilities.shape[-1] or tf.shape(log_probabilities)[-1]
        # Of each hypothesis so many are enough: the best of all are among them.
        count = tf.minimum(2 * lanes + len(never), size)
        each, ids = largest(tf.cast(log_probabilities, tf.float32), count)
        each = tf.where(_is_any(ids, never), NEVER, each)
        forced = tf.repeat(t + 1 >= limits, lanes)[:, None]
        the_end = tf.where(tf.range(count) == 0, tf.cast(log_probabilities, tf.float32)[:, end, None], NEVER)
        each, ids = tf.where(forced, the_end, each), tf.where(forced, end, ids)
        totals = tf.reshape(alive[:, :, None] + tf.reshape(each, [rows, lanes, count]), [rows, lanes * count])
        candidates, place = tf.math.top_k(totals, 2 * lanes)
        candidates = tf.where(among & (candidates > NEVER / 2) & ~done[:, None], candidates, NEVER)
        parents, chosen = place // count, tf.gather(tf.reshape(ids, [rows, lanes * count]), place, batch_dims=1)
        ends = chosen == end
        before = tf.gather(written, parents, batch_dims=1)

        penalty = length_penalty(t + 1, alpha)
        ended = tf.where(ends & (tf.range(2 * lanes) < widths[:, None]), candidates, NEVER)
        totals = tf.concat([found.log_probabilities, ended], 1)
        scores, kept = tf.math.top_k(tf.concat([found.scores, tf.where(ended > NEVER / 2, ended / penalty, NEVER)], 1), lanes)
        scores = tf.where(inside, scores, NEVER)
        found = Hypotheses(
            tf.gather(tf.concat([found.ids, before], 1), kept, batch_dims=1),
            tf.where(inside, tf.gather(totals, kept, batch_dims=1), NEVER),
            scores,
        )

        alive, kept = tf.math.top_k(tf.where(ends, NEVER, candidates), lanes)
        alive = tf.where(inside, alive, NEVER)
        chosen, parents = tf.gather(chosen, kept, batch_dims=1), tf.gather(parents, kept, batch_dims=1)
        written = tf.where(places == t, chosen[:, :, None], tf.gather(before, kept, batch_dims=1))
        worst = tf.reduce_min(tf.where(inside, scores, 0.0), 1)
        done |= (alive[:, 0] <= NEVER / 2) | (worst > NEVER / 2)
        source = tf.reshape(tf.range(rows)[:, None] * lanes + parents, [-1])
        parts = tf.nest.flatten(following)
        parts[:own] = [tf.gather(part, source) for part in parts[:own]]
        return t + 1, tf.reshape(chosen, [-1]), alive, written, found, done, *parts

    nothing = tf.fill([rows, lanes], NEVER)
    none = Hypotheses(tf.zeros([rows, lanes, longest], tf.int32), nothing, nothing)
    alive = tf.where(tf.range(lanes) == 0, tf.zeros([rows, 1]), NEVER)
    tokens = tf.fill([rows * lanes], begin)
    first = (tf.constant(0), tokens, alive, none.ids, none, tf.fill([rows], False), *flat)
    shapes = (*tf.nest.map_structure(lambda part: part.shape, first[:6]), *map(_growing, flat))
    *_, found, _ = tf.while_loop(lambda t, *rest: ~tf.reduce_all(rest[4]), body, first, shapes)[:6]
    return found


PIECE = 64
"""Of a row so many neighbours stand for themselves until it is known that one of them is among the largest."""


def largest(values: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`tf.math.top_k` of rows with many values, twice as fast: only those neighbours are sorted whose largest is among the largest.

    Args:
        values: `<float>[rows, size]`.
        count: `<int32>`, at most `size`.

    Returns:
        the largest, and their places `<int32>`, each `[rows, count]`; of equal ones the first, as `tf.math.top_k` has it.
    """
    size = values.shape[-1]
    if size is None or size < 8 * PIECE:
        return tf.math.top_k(values, count)
    if room := -size % PIECE:
        values = tf.pad(values, [[0, 0], [0, room]], constant_values=values.dtype.min)
    pieces = (size + room) // PIECE
    apart = tf.reshape(values, [-1, pieces, PIECE])
    kept = tf.minimum(count, pieces)
    _, where = tf.math.top_k(tf.reduce_max(apart, 2), kept)
    where = tf.sort(where, 1)  # so that of equal values the first is found
    found, place = tf.math.top_k(tf.reshape(tf.gather(apart, where, batch_dims=1), [-1, kept * PIECE]), count)
    return found, tf.gather(where, place // PIECE, batch_dims=1) * PIECE + place % PIECE


def _is_any(ids: tf.Tensor, of: Sequence[int]) -> tf.Tensor:
    found = tf.zeros(tf.shape(ids), tf.bool)
    for one in of:
        found |= ids == one
    return found


def _growing(part: tf.Tensor) -> tf.TensorShape:
    """A part of a state may grow from step to step."""
    return tf.TensorShape([None] * part.shape.rank)
