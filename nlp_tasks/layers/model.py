"""A model is its named layers and one function that says how data flows through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from nlp_tasks.layers.dropout import Noise


class Model(keras.Model):
    """Named layers and a forward function.

    The layers become attributes under their names (TensorFlow does not track layers in lists or dicts), and the names of the
    variables follow from them, the same in every process.

    Args:
        forward: `forward(model, batch, noise)`; noise is None outside training.
        layers: by name.

    Example:
        model = Model(lambda model, batch, noise: model.output(model.embedding(batch["tokens"])),
                      embedding=Embedding(1000, 64), output=keras.layers.Dense(2))
    """

    def __init__(self, forward: Callable[[Model, dict[str, tf.Tensor], Noise | None], Any], **layers: keras.layers.Layer) -> None:
        super().__init__(name="model")
        self._forward = forward
        for name, layer in layers.items():
            layer.name = name
            setattr(self, name, layer)

    def call(self, batch: dict[str, tf.Tensor], noise: Noise | None = None) -> Any:
        return self._forward(self, batch, noise)


def variables_by_name(model: keras.Model) -> dict[str, tf.Variable]:
    """Every variable of a model by its path, trainable or not: what checkpoints and exports hold."""
    named = {variable.path: variable.value for variable in model.variables}
    if len(named) != len(model.variables):
        raise ValueError("two variables of the model have one path: give their layers distinct names")
    return named
