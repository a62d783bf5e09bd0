"""From the characters of a word to one vector (Ling 2015; Ma & Hovy 2016). Each distinct word of a batch is read once."""

from __future__ import annotations

import keras
import tensorflow as tf

from nlp_tasks.layers.embedding import Embedding
from nlp_tasks.layers.pooling import max_pooling


class CharacterEncoder(keras.layers.Layer):
    """Reads words by their characters, each distinct one once.

    Args:
        size: number of character ids; 0 is padding.
        features: length of a character's vector.
        networks: convolutions, whose filters' largest values over the word are taken (Ma & Hovy 2016, section 2.1); or one
            `Bidirectional` layer, whose two last outputs are taken (Lample 2016, section 4.1).
        distinct: False reads each token by itself, which gives the same and can be compiled.

    Call arguments:
        characters: `<int32>[batch, time, characters]`, padded by 0.

    Returns:
        `<float>[batch, time, filters or 2 · units]`.
    """

    def __init__(self, size: int, features: int, *networks: keras.layers.Layer, distinct: bool = True, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.embedding = Embedding(size, features, scale=0.5, name="embedding")
        self.count, self.distinct = len(networks), distinct
        for number, network in enumerate(networks, 1):
            network.name = f"network_{number}"
            setattr(self, network.name, network)

    def call(self, characters: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(characters)
        words = tf.reshape(characters, [shape[0] * shape[1], characters.shape[2]])
        if self.distinct and not tf.config.list_logical_devices("GPU"):  # a GPU has no such op for rows
            words, place = tf.raw_ops.UniqueV2(x=words, axis=[0])
            vectors = tf.gather(self._read(words), place)
        else:
            vectors = self._read(words)
        return tf.reshape(vectors, [shape[0], shape[1], vectors.shape[-1]])

    def _read(self, words: tf.Tensor) -> tf.Tensor:
        """`<int32>[words, characters]` → `<float>[words, …]`."""
        lengths = tf.reduce_sum(tf.cast(words > 0, tf.int32), 1)
        vectors = self.embedding(words[:, : tf.maximum(1, tf.reduce_max(lengths))])
        networks = [getattr(self, f"network_{number}") for number in range(1, self.count + 1)]
        if self.count == 1 and hasattr(networks[0], "units"):
            _, (forward, backward) = networks[0](vectors, lengths)
            return tf.concat([forward[0], backward[0]], -1)
        return tf.concat([max_pooling(network(vectors, lengths), lengths) for network in networks], -1)
