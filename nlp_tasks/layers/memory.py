"""The memory of a dynamic memory network: facts are looked at several times, each time with what was found before in mind."""

from __future__ import annotations

import keras
import tensorflow as tf

from nlp_tasks.layers.attention import HIDDEN
from nlp_tasks.layers.dropout import Dropout, Noise


class EpisodicMemory(keras.layers.Layer):
    """Episodes over facts (after Kumar 2016, section 2.3). In each episode

        z_t = [c_t ∘ q; c_t ∘ m; |c_t - q|; |c_t - m|; p_t]
        s_t = σ(w · tanh(W z_t + b) + d)              whether fact t matters now
        g_t = s_t Π_{u>t} (1 - s_u) / Σ               the last one that does
        e   = Σ_t g_t c_t
        m   = max(0, W_i [m; e; q; m ∘ e; q ∘ e] + b_i)   from m = q at first

    g is what is left of each fact in the paper's own episode h_t = s_t f(c_t, h_{t-1}) + (1 - s_t) h_{t-1}, with f = c_t: a later fact
    that matters takes the place of an earlier one, as it does in a story. p_t says where the fact stands to what the episode before
    looked at: how much of that was earlier, right before, here, right behind, later.

    The paper has neither p_t nor the products in m, but a bilinear form of c_t and q in z_t, and a GRU for m; the weights W_i of each
    episode are those of Xiong 2016, section 3.3.

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
        memory `<float>[rows, units]`, zeros where there are no facts, and the logarithms of g but for a constant a row and episode,
        `<float>[rows, episodes, facts]`, very small beyond a row's facts.
    """

    def __init__(self, units: int, episodes: int, *, dropout: float = 0.0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units, self.episodes = units, episodes
        self.hidden = keras.layers.Dense(units, activation="tanh", name="hidden")
        self.gate = keras.layers.Dense(1, name="gate")
        for number in range(1, episodes + 1):
            setattr(self, f"update_{number}", keras.layers.Dense(units, activation="relu", name=f"update_{number}"))
            setattr(self, f"dropout_{number}", Dropout(dropout, name=f"dropout_{number}"))

    def call(
        self, facts: tf.Tensor, lengths: tf.Tensor, question: tf.Tensor, noise: Noise | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        noise = None if noise is None else noise.within(self.name)
        inside = tf.cast(tf.sequence_mask(lengths, tf.shape(facts)[1]), facts.dtype)
        asked, memory, weights, gates = question[:, None], question, tf.zeros_like(inside), []
        for number in range(1, self.episodes + 1):
            known = memory[:, None]
            features = [facts * asked, facts * known, tf.abs(facts - asked), tf.abs(facts - known), _places(weights)]
            opened = self.gate(self.hidden(tf.concat(features, -1)))[:, :, 0]
            shut_behind = tf.cumsum(tf.math.log_sigmoid(-opened) * inside, 1, exclusive=True, reverse=True)
            logits = tf.math.log_sigmoid(opened) + shut_behind + (1 - inside) * tf.constant(HIDDEN, facts.dtype)
            weights = tf.nn.softmax(logits) * inside
            episode = tf.matmul(weights[:, None], facts)[:, 0]
            update = getattr(self, f"update_{number}")(
                tf.concat([memory, episode, question, memory * episode, question * episode], -1)
            )
            memory = getattr(self, f"dropout_{number}")(update, noise)
            gates.append(logits)
        return tf.where((lengths > 0)[:, None], memory, tf.zeros([], memory.dtype)), tf.stack(gates, 1)


def _places(weights: tf.Tensor) -> tf.Tensor:
    """How much weight lies before each fact, right before it, on it, right behind it, behind it: `<float>[rows, facts, 5]`."""
    before = tf.cumsum(weights, 1, exclusive=True)
    behind = tf.cumsum(weights, 1, exclusive=True, reverse=True)
    right_before = tf.pad(weights[:, :-1], [[0, 0], [1, 0]])
    right_behind = tf.pad(weights[:, 1:], [[0, 0], [0, 1]])
    return tf.stack([before, right_before, weights, right_behind, behind], -1)
