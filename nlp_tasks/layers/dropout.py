"""Randomness with an address: a function of (seed and step, place in the model, global row, position), never of a state.

So a resumed run draws what the undisturbed one drew, and two devices draw what one does.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import keras
import tensorflow as tf


class Noise(NamedTuple):
    """Where in a training the numbers are drawn. None in its place means: no noise, this is not training."""

    seed: tf.Tensor
    """`<uint32>[]`: mixed from the recipe's seed and the step."""
    rows: tf.Tensor
    """`<uint32>[rows]`: number of each row in the global batch."""

    def within(self, place: str) -> Noise:
        """For the layers inside of a layer of this name, whose own names say no more than their place in it."""
        return Noise(_mix(self.seed ^ tf.constant(zlib.crc32(place.encode()), tf.uint32)), self.rows)


def random_words(noise: Noise, place: str, size: int | tf.Tensor) -> tf.Tensor:
    """Uniform 32-bit numbers, `<uint32>[rows, size]`. The first n of a row are the same whatever `size` is.

    Each is a hash (the finaliser of MurmurHash3, Appleby 2011) of a counter that the row's key starts.
    """
    place_key = tf.constant(zlib.crc32(place.encode()), tf.uint32)
    key = _mix(_mix(noise.seed ^ place_key) + noise.rows * tf.constant(0x9E3779B9, tf.uint32))
    counter = tf.cast(tf.range(size), tf.uint32) * tf.constant(0x85EBCA77, tf.uint32)
    return _mix(key[:, None] + counter)


def random_bytes(noise: Noise, place: str, size: int | tf.Tensor) -> tf.Tensor:
    """Uniform bytes, `<uint8>[rows, size]`, four of each `random_words`. The first n of a row are the same whatever `size` is."""
    words = (size + 3) // 4
    bits = tf.bitcast(random_words(noise, place, words), tf.uint8)
    return tf.reshape(bits, [tf.shape(noise.rows)[0], words * 4])[:, :size]


def random_bits(seed: tf.Tensor, place: str, size: int) -> tf.Tensor:
    """Uniform 32-bit numbers that depend on the step and the place in the model alone, the same for all rows: `<uint32>[size]`."""
    key = _mix(seed ^ tf.constant(zlib.crc32(place.encode()), tf.uint32))
    return _mix(key + tf.cast(tf.range(size), tf.uint32) * tf.constant(0x9E3779B9, tf.uint32))


def dropped_weights(weights: tf.Tensor, rate: float, noise: Noise | None, place: str) -> tf.Tensor:
    """Weights of which a share is left out, the same for all rows of a batch (DropConnect, Wan 2013); without noise, all of them."""
    dropped = _threshold(rate)
    if noise is None or not dropped:
        return weights
    count = int(weights.shape.num_elements() or 0)
    drawn = tf.bitcast(random_bits(noise.seed, place, (count + 3) // 4), tf.uint8)
    drawn = tf.reshape(tf.reshape(drawn, [-1])[:count], weights.shape)
    scale = tf.constant(256 / (256 - dropped), weights.dtype)
    return weights * tf.where(drawn >= tf.constant(dropped, tf.uint8), scale, tf.zeros([], weights.dtype))


def random_bits_of_rows(seeds: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """A uniform 32-bit number for each (seed, place): `<int32>[rows]` each → `<uint32>[rows]`."""
    seeds, places = tf.bitcast(seeds, tf.uint32), tf.bitcast(places, tf.uint32)
    return _mix(_mix(seeds + tf.constant(0x9E3779B9, tf.uint32)) ^ _mix(places * tf.constant(0x85EBCA77, tf.uint32) + 1))


def _mix(x: tf.Tensor) -> tf.Tensor:
    def shifted(x: tf.Tensor, bits: int) -> tf.Tensor:
        return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(bits, tf.uint32)))

    x = shifted(x, 16) * tf.constant(0x85EBCA6B, tf.uint32)
    x = shifted(x, 13) * tf.constant(0xC2B2AE35, tf.uint32)
    return shifted(x, 16)


def _threshold(rate: float) -> int:
    if not 0 <= rate < 1:
        raise ValueError(f"dropout rate {rate}: expected 0 ≤ rate < 1")
    return min(255, round(rate * 256))


class Dropout(keras.layers.Layer):
    """Inverted dropout (Srivastava 2014), with the mask drawn by address.

    Args:
        rate: share of values set to zero, rounded to a multiple of 1/256.
        shared_time: one mask for all time steps (variational dropout, Gal & Ghahramani 2016).

    Call arguments:
        inputs: `<float>[rows, features]` or `<float>[rows, time, features]`.
        noise: None leaves the inputs as they are.
    """

    def __init__(self, rate: float, *, shared_time: bool = False, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.rate, self.shared_time = rate, shared_time
        self._dropped = _threshold(rate)

    def call(self, inputs: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        if noise is None or not self._dropped:
            return inputs
        shape = tf.shape(inputs)
        time = 1 if inputs.shape.rank == 2 or self.shared_time else shape[1]
        features = inputs.shape[-1]
        stride = -(-features // 4) * 4
        drawn = random_bytes(noise, self.name, time * stride)
        drawn = tf.reshape(drawn, [shape[0], time, stride])[:, :, :features]
        if inputs.shape.rank == 2:
            drawn = drawn[:, 0]
        scale = tf.constant(256 / (256 - self._dropped), inputs.dtype)
        return inputs * tf.where(drawn >= tf.constant(self._dropped, tf.uint8), scale, tf.zeros([], inputs.dtype))


class TokenDropout(keras.layers.Layer):
    """Replaces tokens by another id at random, in training (word dropout, Iyyer 2015).

    Args:
        rate: share of tokens, rounded to a multiple of 1/256.
        replacement: the id that comes in their place; the padding id 0 is never replaced.
        first, last: only ids from `first` to `last` are replaced, such as those of rare words.

    Call arguments:
        ids: `<int32>[rows, tokens]`.
        noise: None leaves the ids as they are.
    """

    def __init__(self, rate: float, replacement: int, *, first: int = 1, last: int = 2**31 - 1, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.rate, self.replacement, self.first, self.last = rate, replacement, first, last
        self._dropped = _threshold(rate)

    def call(self, ids: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        if noise is None or not self._dropped:
            return ids
        drawn = random_bytes(noise, self.name, tf.shape(ids)[1])
        among = (ids >= max(1, self.first)) & (ids <= self.last)
        return tf.where((drawn < tf.constant(self._dropped, tf.uint8)) & among, self.replacement, ids)
