"""From the characters of a word to one vector (Ling 2015; Ma & Hovy 2016). Each distinct word of a batch is read once."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from nlp_tasks.layers.convolution import Convolution
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
        characters: `<int32>[batch, time, characters]`, padded by 0; or without padding `<int32>[tokens, characters]`.

    Returns:
        `<float>[batch, time, filters or 2 · units]`, or `[tokens, …]`.
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
        words = tf.reshape(characters, [-1, characters.shape[-1]])
        if self.distinct and not tf.config.list_logical_devices("GPU"):  # a GPU has no such op for rows
            words, place = tf.raw_ops.UniqueV2(x=words, axis=[0])
            vectors = tf.gather(self._read(words, self._pooled), place)
        else:
            vectors = self._read(words, self._pooled_of_padded)
        return tf.reshape(vectors, [*tf.unstack(shape[:-1]), vectors.shape[-1]])

    def _read(self, words: tf.Tensor, pooled: Callable[..., tf.Tensor]) -> tf.Tensor:
        """`<int32>[words, characters]` → `<float>[words, …]`."""
        lengths = tf.reduce_sum(tf.cast(words > 0, tf.int32), 1)
        words = words[:, : tf.maximum(1, tf.reduce_max(lengths))]
        networks = [getattr(self, f"network_{number}") for number in range(1, self.count + 1)]
        if self.count == 1 and hasattr(networks[0], "units"):
            _, (forward, backward) = networks[0](self.embedding(words), lengths)
            return tf.concat([forward[0], backward[0]], -1)
        return tf.concat([pooled(network, words, lengths) for network in networks], -1)

    def _pooled_of_padded(self, network: Convolution, words: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        return max_pooling(network(self.embedding(words), lengths), lengths)

    def _pooled(self, network: Convolution, words: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """The same at real characters only, which are a third of the padded ones."""
        if not network.built:
            network.build((None, None, self.embedding.features))
        width, place = network.width, tf.where(words > 0)
        padded = tf.pad(words, [[0, 0], [(width - 1) // 2, width // 2]])
        first = place[:, 0] * tf.shape(padded, tf.int64)[1] + place[:, 1]
        ids = tf.gather(tf.reshape(padded, [-1]), first[:, None] + tf.range(width, dtype=tf.int64))
        vectors = self.embedding(ids)
        vectors *= tf.cast(ids > 0, vectors.dtype)[..., None]
        values = network.filtered(tf.reshape(vectors, [-1, width * self.embedding.features]))
        largest = tf.math.unsorted_segment_max(values, place[:, 0], tf.shape(words)[0])
        return tf.where((lengths > 0)[:, None], largest, tf.zeros([], largest.dtype))
