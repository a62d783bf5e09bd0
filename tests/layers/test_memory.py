"""The memory of stories: the last fact that matters, and the equations."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from nlp_tasks import layers

UNITS = 3


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_the_memory_follows_its_equations() -> None:
    draw = np.random.default_rng(1)
    facts, question = draw.normal(size=(1, 4, UNITS)).astype("f"), draw.normal(size=(1, UNITS)).astype("f")
    layer = layers.EpisodicMemory(UNITS, 2, name="memory")
    lengths = tf.constant([3])
    layer(facts, lengths, question)
    for variable in layer.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    memory, gates = layer(facts, lengths, question)

    weights = {variable.path: variable.numpy() for variable in layer.trainable_variables}

    def dense(name: str, values: np.ndarray) -> np.ndarray:
        return values @ weights[f"memory/{name}/kernel"] + weights[f"memory/{name}/bias"]

    inside, asked = facts[0, :3], question[0]
    known, looked = asked, np.zeros(3)
    for number in (1, 2):
        places = [
            [looked[:t].sum(), looked[t - 1] if t else 0, looked[t], looked[t + 1] if t < 2 else 0, looked[t + 1 :].sum()]
            for t in range(3)
        ]
        features = np.concatenate([inside * asked, inside * known, abs(inside - asked), abs(inside - known), places], 1)
        matters = sigmoid(dense("gate", np.tanh(dense("hidden", features)))[:, 0])
        left = np.array([matters[t] * np.prod(1 - matters[t + 1 :]) for t in range(3)])
        looked = left / left.sum()
        np.testing.assert_allclose(tf.nn.softmax(gates)[0, number - 1, :3], looked, rtol=1e-4)
        found = looked @ inside
        known = np.maximum(0, dense(f"update_{number}", np.concatenate([known, found, asked, known * found, asked * found])))
    np.testing.assert_allclose(memory[0], known, rtol=1e-4)
    assert tf.nn.softmax(gates)[0, :, 3].numpy().max() == 0


def test_of_facts_that_are_alike_the_last_one_matters() -> None:
    facts = tf.ones([1, 5, UNITS]) * tf.constant([1.0, 1.0, 1.0, -1.0, -1.0])[None, :, None]
    layer = layers.EpisodicMemory(UNITS, 1)
    question, lengths = tf.ones([1, UNITS]), tf.constant([5])
    layer(facts, lengths, question)
    layer.hidden.kernel.assign(tf.eye(layer.hidden.kernel.shape[0], UNITS))  # c ∘ q
    layer.gate.kernel.assign(10 * tf.ones([UNITS, 1]))
    gates = tf.nn.softmax(layer(facts, lengths, question)[1])
    assert gates[0, 0, 2] > 0.999
