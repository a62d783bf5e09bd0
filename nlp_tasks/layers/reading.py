"""A question and a passage: how they are combined, and where in the passage the answer starts and ends."""

from __future__ import annotations

from typing import NamedTuple

import keras
import tensorflow as tf

from nlp_tasks.layers.attention import HIDDEN
from nlp_tasks.layers.softmax import NEVER


class QuestionAlignment(keras.layers.Layer):
    """For each token of a passage the words of the question that are like it:

        Σ_j a_ij q_j,   a_i = softmax_j(α(p_i) · α(q_j)),   α(x) = max(0, W x)        (Chen 2017, section 3.2)

    Args:
        units: size of α.

    Call arguments:
        passage: `<float>[rows, time, features]`.
        question: `<float>[rows, words, features]`, finite everywhere.
        question_lengths: `<int32>[rows]`.

    Returns:
        `<float>[rows, time, features]`; zeros where a question has no words.
    """

    def __init__(self, units: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.projection = keras.layers.Dense(units, use_bias=False, activation="relu", name="projection")

    def call(self, passage: tf.Tensor, question: tf.Tensor, question_lengths: tf.Tensor) -> tf.Tensor:
        similarity = tf.matmul(self.projection(passage), self.projection(question), transpose_b=True)
        return tf.matmul(_weights(similarity, question_lengths[:, None]), question)


class ContextQueryAttention(keras.layers.Layer):
    """Attention in both directions (Seo 2017, section 2, part 4). With S_tj = w · [h_t; u_j; h_t ∘ u_j]

        ũ_t = Σ_j softmax_j(S_t)_j u_j           the question, as each token of the passage sees it
        h̃  = Σ_t softmax_t(max_j S_tj) h_t       the passage, as the question sees it
        g_t = [h_t; ũ_t; h_t ∘ ũ_t; h_t ∘ h̃]

    Call arguments:
        passage, question: `<float>[rows, time, features]`, `<float>[rows, words, features]`, finite everywhere.
        passage_lengths, question_lengths: `<int32>[rows]`.

    Returns:
        `<float>[rows, time, 4 · features]`.
    """

    def build(self, passage_shape: tuple[int | None, ...], *_: object) -> None:
        initial = keras.initializers.RandomUniform(-0.1, 0.1)
        for name in ("of_passage", "of_question", "of_both"):
            setattr(self, name, self.add_weight(shape=(passage_shape[-1],), initializer=initial, name=name))

    def call(self, passage: tf.Tensor, question: tf.Tensor, passage_lengths: tf.Tensor, question_lengths: tf.Tensor) -> tf.Tensor:
        of_passage, of_question, of_both = map(tf.convert_to_tensor, (self.of_passage, self.of_question, self.of_both))
        similarity = (
            tf.matmul(passage * of_both, question, transpose_b=True)
            + tf.linalg.matvec(passage, of_passage)[:, :, None]
            + tf.linalg.matvec(question, of_question)[:, None]
        )
        seen = tf.matmul(_weights(similarity, question_lengths[:, None]), question)
        inside = tf.sequence_mask(question_lengths, tf.shape(question)[1])[:, None]
        best = tf.reduce_max(tf.where(inside, similarity, tf.cast(HIDDEN, similarity.dtype)), 2)
        seeing = tf.matmul(_weights(best, passage_lengths)[:, None], passage)
        return tf.concat([passage, seen, passage * seen, passage * seeing], -1)


class BilinearPointer(keras.layers.Layer):
    """The logit of each place, p_i W q (Chen 2016, section 3.2; Chen 2017, section 3.2).

    Call arguments:
        passage: `<float>[rows, time, features]`.
        question: `<float>[rows, features of the question]`.

    Returns:
        `<float>[rows, time]`.
    """

    def build(self, passage_shape: tuple[int | None, ...], question_shape: tuple[int | None, ...] | None = None) -> None:
        assert question_shape is not None
        shape = (question_shape[-1], passage_shape[-1])
        self.kernel = self.add_weight(shape=shape, initializer="glorot_uniform", name="kernel")

    def call(self, passage: tf.Tensor, question: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(passage, tf.matmul(question, tf.convert_to_tensor(self.kernel)))


def _weights(similarity: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Softmax over the last axis within lengths, in float32 at least; zeros where a length is 0."""
    dtype = similarity.dtype
    exact = similarity if dtype == tf.float64 else tf.cast(similarity, tf.float32)
    inside = tf.cast(tf.sequence_mask(lengths, tf.shape(similarity)[-1]), exact.dtype)
    weights = tf.nn.softmax(exact + (1 - inside) * HIDDEN) * inside
    return tf.cast(weights, dtype)


class Spans(NamedTuple):
    """The best spans of each row, best first; `[rows, count]` each.

    starts, ends: `<int32>`: the first and the last token.
    scores: `<float32>`: log probability of start and end; `NEVER` where there is no further span.
    """

    starts: tf.Tensor
    ends: tf.Tensor
    scores: tf.Tensor


def pointed(logits: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Log probabilities of the places inside, `NEVER` beyond: `<float>[rows, time]`, `<int32>[rows]` → `<float32 or 64>[rows, time]`."""
    logits = logits if logits.dtype == tf.float64 else tf.cast(logits, tf.float32)
    inside = tf.sequence_mask(lengths, tf.shape(logits)[1])
    never = tf.constant(NEVER, logits.dtype)
    return tf.where(inside, tf.nn.log_softmax(tf.where(inside, logits, never)), never)


def best_spans(starts: tf.Tensor, ends: tf.Tensor, longest: int, count: tf.Tensor) -> Spans:
    """The `count` most probable spans with start ≤ end < start + longest, exactly.

    Args:
        starts, ends: `<float>[rows, time]`, as `pointed` gives them.
        longest: tokens of a span.
        count: `<int32>[]`.
    """
    rows, time = tf.unstack(tf.shape(starts))
    padded = tf.pad(ends, [[0, 0], [0, longest - 1]], constant_values=NEVER)
    following = tf.gather(
        padded, tf.range(time)[:, None] + tf.range(longest), axis=1
    )  # [rows, time, longest]: the ends of each start
    totals = tf.reshape(starts[:, :, None] + following, [rows, time * longest])
    room = tf.maximum(0, count - time * longest)
    scores, places = tf.math.top_k(tf.pad(totals, [[0, 0], [0, room]], constant_values=2 * NEVER), count)
    scores = tf.where(scores > NEVER / 2, tf.cast(scores, tf.float32), NEVER)
    places = tf.where(scores > NEVER / 2, places, 0)
    first = places // longest
    return Spans(first, first + places % longest, scores)
