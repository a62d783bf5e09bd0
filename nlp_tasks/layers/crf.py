"""Linear-chain conditional random fields (Lafferty 2001): a score for each tag of a token, and for each tag after each other tag."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

FORBIDDEN = -1e4
"""Score of a transition that must not be: its exponential is zero, and sums of it stay finite."""


class Chain(NamedTuple):
    """Scores of transitions between tags."""

    first: tf.Tensor
    """`<float>[tags]`: of beginning with a tag."""
    after: tf.Tensor
    """`<float>[tags, tags]`: of tag j after tag i, at [i, j]."""
    last: tf.Tensor
    """`<float>[tags]`: of ending with a tag."""


class CRF(keras.layers.Layer):
    """Scores of whole tag sequences (Lample 2016, eq. 1): s(y) = first_y1 + Σ_t logits_t,yt + Σ_t after_yt,yt+1 + last_yn.

    Args:
        tags: number of tags.
        first, after, last: `<bool>[tags]`, `[tags, tags]`, `[tags]`: what is allowed; all where None.
        trained: False leaves every allowed transition at zero, so that the constraints alone speak.

    Call: gives the transitions as a `Chain`, for the functions below.
    """

    def __init__(
        self, tags: int, first: np.ndarray | None = None, after: np.ndarray | None = None, last: np.ndarray | None = None, *,
        trained: bool = True, **kwargs: object,
    ) -> None:  # fmt: skip
        super().__init__(autocast=False, **kwargs)
        allowed = (np.ones(tags, bool) if first is None else first, np.ones((tags, tags), bool) if after is None else after,
                   np.ones(tags, bool) if last is None else last)  # fmt: skip
        self.tags, self.trained = tags, trained
        self._barred = [np.where(np.asarray(a), 0.0, FORBIDDEN).astype(np.float32) for a in allowed]

    def build(self, *_: object) -> None:
        if self.trained:
            self.first = self.add_weight(shape=(self.tags,), initializer="zeros", name="first")
            self.after = self.add_weight(shape=(self.tags, self.tags), initializer="zeros", name="after")
            self.last = self.add_weight(shape=(self.tags,), initializer="zeros", name="last")

    def call(self, logits: tf.Tensor) -> Chain:
        """Args: logits `<float>[batch, time, tags]`, whose dtype the scores take."""
        barred = [tf.constant(values, logits.dtype) for values in self._barred]
        if not self.trained:
            return Chain(*barred)
        scores = (tf.convert_to_tensor(weight) for weight in (self.first, self.after, self.last))
        return Chain(*(tf.cast(score, logits.dtype) + bar for score, bar in zip(scores, barred, strict=True)))


def sequence_score(chain: Chain, logits: tf.Tensor, tags: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """s(y) of a tag sequence.

    Args:
        logits: `<float>[batch, time, tags]`.
        tags: `<int32>[batch, time]`.
        lengths: `<int32>[batch]`.

    Returns:
        `<float>[batch]`; 0 for an empty row.
    """
    time = tf.shape(logits)[1]
    inside, nothing = tf.sequence_mask(lengths, time), tf.zeros([], logits.dtype)
    tags = tf.where(inside, tags, 0)
    unary = tf.reduce_sum(tf.where(inside, tf.gather(logits, tags, batch_dims=2), nothing), 1)
    steps = tf.gather_nd(chain.after, tf.stack([tags[:, :-1], tags[:, 1:]], -1))
    ends = tf.gather(chain.first, tags[:, 0])
    ends += tf.gather(chain.last, tf.gather(tags, tf.maximum(lengths - 1, 0), batch_dims=1))
    return unary + tf.reduce_sum(tf.where(inside[:, 1:], steps, nothing), 1) + tf.cast(lengths > 0, logits.dtype) * ends


def log_partition(chain: Chain, logits: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """log Σ_y exp s(y) over all tag sequences, by the forward algorithm (Rabiner 1989, section III.A).

    Arguments as in `sequence_score`. Returns `<float>[batch]`; 0 for an empty row.
    """
    alpha = _forward(chain, logits, lengths, lambda scores: tf.reduce_logsumexp(scores, 1))[-1]
    return tf.where(lengths > 0, tf.reduce_logsumexp(alpha + chain.last, -1), tf.zeros([], logits.dtype))


def log_likelihood(chain: Chain, logits: tf.Tensor, tags: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """log p(y) = s(y) - log Σ_y' exp s(y'); arguments and result as in `sequence_score`."""
    return sequence_score(chain, logits, tags, lengths) - log_partition(chain, logits, lengths)


def marginals(chain: Chain, logits: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Probability of each tag at each token, by the forward-backward algorithm.

    Arguments as in `sequence_score`. Returns `<float>[batch, time, tags]`; values beyond a row's length are undefined.
    """

    def total(scores: tf.Tensor) -> tf.Tensor:
        return tf.reduce_logsumexp(scores, 1)

    forward = tf.transpose(_forward(chain, logits, lengths, total), [1, 0, 2])
    backward = tf.transpose(_forward(_turned(chain), tf.reverse_sequence(logits, lengths, 1), lengths, total), [1, 0, 2])
    backward = tf.reverse_sequence(backward, lengths, 1)
    return tf.nn.softmax(forward + backward - logits)  # both count the token's own logits


def viterbi(chain: Chain, logits: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """The tag sequence with the highest score (Viterbi 1967; Rabiner 1989, section III.B).

    Arguments as in `sequence_score`. Returns `<int32>[batch, time]`; 0 beyond a row's length.
    """
    # Read from the end: the best score of what comes after a token, for each tag of it. Then the best tags follow from the front.
    backward = _forward(_turned(chain), tf.reverse_sequence(logits, lengths, 1), lengths, lambda scores: tf.reduce_max(scores, 1))
    best = tf.transpose(tf.reverse_sequence(tf.transpose(backward, [1, 0, 2]), lengths, 1), [1, 0, 2])
    time = tf.shape(best)[0]
    after, first = chain.after, tf.argmax(best[0] + chain.first, -1, tf.int32)
    scores = tf.TensorArray(best.dtype, time).unstack(best)
    chosen = tf.TensorArray(tf.int32, time, element_shape=[None]).write(0, first)

    def follow(t: tf.Tensor, tags: tf.Tensor, chosen: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        tags = tf.argmax(tf.gather(after, tags) + scores.read(t), -1, tf.int32)
        return t + 1, tags, chosen.write(t, tags)

    _, _, chosen = tf.while_loop(lambda t, *_: t < time, follow, (tf.constant(1), first, chosen), maximum_iterations=time)
    tags = tf.cast(tf.transpose(tf.cast(chosen.stack(), tf.float32)), tf.int32)  # oneDNN complains of integers on older CPUs
    return tags * tf.cast(tf.sequence_mask(lengths, tf.shape(tags)[1]), tf.int32)


def _turned(chain: Chain) -> Chain:
    """The chain of the reversed sequences."""
    return Chain(chain.last, tf.transpose(chain.after), chain.first)


def _forward(chain: Chain, logits: tf.Tensor, lengths: tf.Tensor, total: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """`<float>[time, batch, tags]`: for each prefix and each tag of its last token, the total of the scores of its tag sequences.

    total: over tags of the token before, `<float>[batch, before, tag]` → `[batch, tag]`. Finished rows keep their last value.
    """
    time = tf.shape(logits)[1]
    steps = tf.TensorArray(logits.dtype, time).unstack(tf.transpose(logits, [1, 0, 2]))
    alpha = chain.first + steps.read(0)
    kept = tf.TensorArray(logits.dtype, time, element_shape=[None, logits.shape[-1]]).write(0, alpha)

    def body(t: tf.Tensor, alpha: tf.Tensor, kept: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        following = total(alpha[:, :, None] + chain.after) + steps.read(t)
        alpha = tf.where((t < lengths)[:, None], following, alpha)
        return t + 1, alpha, kept.write(t, alpha)

    _, _, kept = tf.while_loop(lambda t, *_: t < time, body, (tf.constant(1), alpha, kept), maximum_iterations=time)
    return kept.stack()
