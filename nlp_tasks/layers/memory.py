"""The memory of a dynamic memory network: facts are looked at several times, each time with what was found before in mind."""

from __future__ import annotations

import keras
import tensorflow as tf

from nlp_tasks.layers.attention import HIDDEN
from nlp_tasks.layers.dropout import Dropout, Noise


class EpisodicMemory(keras.layers.Layer):
    """Episodes over facts (Kumar 2016, section 2.3, with the soft attention of Xiong 2016, section 3.2).

    With z(c, m, q) = [c ∘ q; c ∘ m; |c - q|; |c - m|], in each episode i

        g_t = softmax_t(w · tanh(W z(c_t, m, q) + b))      how much each fact matters now
        e   = Σ_t g_t c_t
        m   = max(0, W_i [m; e; q] + b_i)                  from m = q at first

    Args:
        units: size of facts, question and memory.
        episodes: how often.
        dropout: share of a new memory left out in training.

    Call arguments:
        facts: `<float>[rows, facts, units]`, finite everywhere.
        lengths: `<int32>[rows]`: facts of each row.
        question: `<float>[rows, units]`.
        noise: None outside training.

    Returns:
        memory `<float>[rows, units]`, zeros where there are no facts, and the logits of the gates `<float>[rows, episodes, facts]`, very
        small beyond a row's facts.
    """

    def __init__(self, units: int, episodes: int, *, dropout: float = 0.0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units, self.episodes = units, episodes
        self.hidden = keras.layers.Dense(units, activation="tanh", name="hidden")
        self.gate = keras.layers.Dense(1, use_bias=False, name="gate")
        for number in range(1, episodes + 1):
            setattr(self, f"update_{number}", keras.layers.Dense(units, activation="relu", name=f"update_{number}"))
            setattr(self, f"dropout_{number}", Dropout(dropout, name=f"dropout_{number}"))

    def call(
        self, facts: tf.Tensor, lengths: tf.Tensor, question: tf.Tensor, noise: Noise | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        noise = None if noise is None else noise.within(self.name)
        inside = tf.cast(tf.sequence_mask(lengths, tf.shape(facts)[1]), facts.dtype)
        asked, memory, gates = question[:, None], question, []
        for number in range(1, self.episodes + 1):
            known = memory[:, None]
            features = tf.concat([facts * asked, facts * known, tf.abs(facts - asked), tf.abs(facts - known)], -1)
            logits = self.gate(self.hidden(features))[:, :, 0] + (1 - inside) * tf.constant(HIDDEN, facts.dtype)
            weights = tf.nn.softmax(logits) * inside
            episode = tf.matmul(weights[:, None], facts)[:, 0]
            update = getattr(self, f"update_{number}")(tf.concat([memory, episode, question], -1))
            memory = getattr(self, f"dropout_{number}")(update, noise)
            gates.append(logits)
        return tf.where((lengths > 0)[:, None], memory, tf.zeros([], memory.dtype)), tf.stack(gates, 1)
