"""Transformers (Vaswani 2017), pre-norm (Xiong 2020): an encoder, a decoder that looks at what it made, and a language model's, which
attends to the last tokens only, so that a text of any length is read piece by piece."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from nlp_tasks.layers.attention import Attention, Pair, rotation, sinusoids
from nlp_tasks.layers.dropout import Dropout, Noise

State = tuple[tuple[Pair, ...], tf.Tensor]

EPSILON = 1e-5


class PositionWise(keras.layers.Layer):
    """Each token by itself: max(0, x W_1 + b_1) W_2 + b_2 (Vaswani 2017, section 3.3, eq. 2).

    The maximum, and not GELU, since GELU and its gradient are several more passes over what is the widest tensor of a transformer.

    Args:
        units: size of the outputs.
        hidden: size of the layer between.
        output_initializer: of W_2.

    Call arguments:
        inputs: `<float>[rows, time, features]`.

    Returns:
        `<float>[rows, time, units]`.
    """

    def __init__(
        self, units: int, hidden: int, *, output_initializer: str | keras.Initializer = "glorot_uniform", **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.hidden, self.output_initializer = units, hidden, output_initializer

    def build(self, inputs_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(shape=(inputs_shape[-1], self.hidden), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(self.hidden,), initializer="zeros", name="bias")
        shape = (self.hidden, self.units)
        self.output_kernel = self.add_weight(shape=shape, initializer=self.output_initializer, name="output_kernel")
        self.output_bias = self.add_weight(shape=(self.units,), initializer="zeros", name="output_bias")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel, bias, output_kernel = map(tf.convert_to_tensor, (self.kernel, self.bias, self.output_kernel))
        if not self.hidden % 256:  # rows a whole number of KiB apart fall into few sets of the cache: slow products
            more = [0, 16]
            kernel, bias = tf.pad(kernel, [[0, 0], more]), tf.pad(bias, [more])
            output_kernel = tf.pad(output_kernel, [more, [0, 0]])
        between = tf.nn.relu(tf.matmul(tf.reshape(inputs, [-1, inputs.shape[-1]]), kernel) + bias)
        flat = tf.matmul(between, output_kernel) + self.output_bias
        return tf.reshape(flat, [tf.shape(inputs)[0], tf.shape(inputs)[1], self.units])


class Block(keras.layers.Layer):
    """x + attention(norm(x)), then with `cross` x + attention(norm(x), memory), then x + feed-forward(norm(x)): pre-norm (Xiong 2020,
    table 1, right), dropout on each before it is added (Vaswani 2017, section 5.4).

    Args:
        units, heads, hidden, dropout: as in `CausalTransformer`.
        output_scale: factor of the variance of the first values of the projections that are added to x.
        cross: whether there is a memory to look at, of as many units.

    Call arguments:
        inputs: `<float>[rows, time, units]`.
        visible, past, turn: as in `Attention`.
        memory, memory_visible: as `memory` and `visible` in `Attention`, with `cross`.
        noise: None outside training.

    Returns:
        outputs `<float>[rows, time, units]`, and (keys, values) as `Attention` returns them.
    """

    def __init__(
        self, units: int, heads: int, hidden: int, *, dropout: float = 0.0, output_scale: float = 1.0, cross: bool = False,
        **kwargs: object,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.cross = cross
        self._add("attention", Attention(units, heads, output_initializer=_scaled(output_scale)), dropout)
        if cross:
            self._add("memory", Attention(units, heads, cross=True, output_initializer=_scaled(output_scale)), dropout)
        self._add("feed_forward", PositionWise(units, hidden, output_initializer=_scaled(output_scale)), dropout)

    def _add(self, name: str, layer: keras.layers.Layer, dropout: float) -> None:
        layer.name = name
        setattr(self, f"{name}_norm", keras.layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm"))
        setattr(self, name, layer)
        setattr(self, f"{name}_dropout", Dropout(dropout, name=f"{name}_dropout"))

    def build(self, inputs_shape: tuple[int | None, ...]) -> None:
        # Otherwise Keras would call each block twice more to find out what to build.
        for layer in (self.attention_norm, self.attention, self.feed_forward_norm, self.feed_forward):
            layer.build(inputs_shape)
        if self.cross:
            self.memory_norm.build(inputs_shape)
            self.memory.build(inputs_shape, inputs_shape)

    def call(
        self, inputs: tf.Tensor, visible: tf.Tensor, past: Pair | None = None, turn: Pair | None = None,
        memory: tf.Tensor | Pair | None = None, memory_visible: tf.Tensor | None = None, noise: Noise | None = None,
    ) -> tuple[tf.Tensor, Pair]:  # fmt: skip
        noise = None if noise is None else noise.within(self.name)
        attended, known = self.attention(self.attention_norm(inputs), visible, past=past, turn=turn)
        inputs += self.attention_dropout(attended, noise)
        if self.cross:
            attended, _ = self.memory(self.memory_norm(inputs), memory_visible, memory=memory)
            inputs += self.memory_dropout(attended, noise)
        return inputs + self.feed_forward_dropout(self.feed_forward(self.feed_forward_norm(inputs)), noise), known


def _scaled(scale: float) -> keras.Initializer:
    return keras.initializers.VarianceScaling(scale, "fan_avg", "uniform")


class Blocks(keras.layers.Layer):
    """What the transformers below share: blocks one upon the other, and a norm at the end.

    Projections start with glorot values, those added to the stream of the blocks times 1/√n, n being their number (Radford 2019,
    GPT-2, section 2.3).

    Args:
        units: size of inputs and outputs.
        depth: number of blocks.
        heads: of each attention; units / heads is an even number.
        hidden: size of the feed-forward layers between.
        dropout: share of the values left out in training of what a block adds (Vaswani 2017, section 5.4).
        cross: as in `Block`.
    """

    def __init__(
        self, units: int, depth: int, heads: int, *, hidden: int, dropout: float = 0.0, cross: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if depth < 1:
            raise ValueError(f"a transformer of depth {depth}: expected at least 1")
        if units % (2 * heads):
            raise ValueError(f"a transformer of {units} units with {heads} heads: expected heads of an even number of units")
        self.units, self.depth, self.heads = units, depth, heads
        added = (3 if cross else 2) * depth
        for number in range(1, depth + 1):
            name = f"block_{number}"
            setattr(self, name, Block(units, heads, hidden, dropout=dropout, output_scale=1 / added, cross=cross, name=name))
        self.norm = keras.layers.LayerNormalization(epsilon=EPSILON, name="norm")

    @property
    def blocks(self) -> list[Block]:
        return [getattr(self, f"block_{number}") for number in range(1, self.depth + 1)]

    def build(self, inputs_shape: tuple[int | None, ...], *_: object) -> None:
        for layer in (*self.blocks, self.norm):
            layer.build(inputs_shape)


class CausalTransformer(Blocks):
    """A stack of pre-norm blocks (Xiong 2020) with a norm at the end, in which each token sees itself and the `context` - 1 before it.

    Positions are relative, by rotary embedding (Su 2021), and keys are kept as they were before they were turned: a text read in
    pieces, each with the state after the one before, gives what it gives read at once, however long it is. Through all layers an
    output depends on depth · (context - 1) tokens before its own. The work of attention grows with time · (context + time).

    Args:
        units: size of inputs and outputs.
        depth: number of blocks.
        heads: of each attention; units / heads is an even number.
        context: how many tokens each token sees in each layer, itself included.
        hidden: size of the feed-forward layers between; 4 · units where None.
        dropout: share of the values left out in training of what a block adds (Vaswani 2017, section 5.4).

    Call arguments:
        inputs: `<float>[rows, time, units]`.
        lengths: `<int32>[rows]`.
        initial_state: the state after the tokens before; `zero_state` where None.
        noise: None outside training.

    Returns:
        outputs `<float>[rows, time, units]`, zero beyond a row's length, and the state after each row's last token:
        ((keys, values) of each block, filled). Keys and values are `<float>[rows, heads, context - 1, units / heads]`, the newest last;
        filled `<int32>[rows]` says how many are real; the others, in front of them, have no effect. A row of length 0 keeps its state.
    """

    def __init__(
        self, units: int, depth: int, heads: int, *, context: int, hidden: int | None = None, dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(units, depth, heads, hidden=hidden or 4 * units, dropout=dropout, **kwargs)
        if context < 1:
            raise ValueError(f"a transformer of context {context}: expected at least 1")
        self.context = context

    def zero_state(self, rows: int | tf.Tensor, dtype: str | None = None) -> State:
        """The state before the first token, in the precision of the computation unless another is named."""
        none = tf.zeros([rows, self.heads, self.context - 1, self.units // self.heads], dtype or self.compute_dtype)
        return ((none, none),) * self.depth, tf.zeros([rows], tf.int32)

    def call(
        self, inputs: tf.Tensor, lengths: tf.Tensor, initial_state: State | None = None, noise: Noise | None = None
    ) -> tuple[tf.Tensor, State]:
        noise = None if noise is None else noise.within(self.name)
        time, kept = tf.shape(inputs)[1], self.context - 1
        inside = tf.sequence_mask(lengths, time)[:, :, None]
        inputs = tf.where(inside, inputs, tf.zeros([], inputs.dtype))
        pasts: list[Pair | None] = [None] * self.depth
        filled, before = tf.zeros_like(lengths), 0
        if initial_state is not None:  # without one there is nothing to look back at: fewer keys
            before, filled = kept, initial_state[1]
            pasts = [self._cleaned(pair, filled) for pair in initial_state[0]]
        places = tf.range(before + time)
        back = places[before:, None] - places  # from query to key
        visible = ((back >= 0) & (back <= kept))[None]
        if initial_state is not None:
            visible &= (places >= before - filled[:, None])[:, None]
        turn = rotation(places, self.units // self.heads, inputs.dtype)
        caches: list[Pair] = []
        for block, past in zip(self.blocks, pasts, strict=True):
            inputs, known = block(inputs, visible, past=past, turn=turn, noise=noise)
            keys, values = (self._last(part, lengths, kept - before) for part in known)
            caches.append((keys, values))
        outputs = tf.where(inside, self.norm(inputs), tf.zeros([], inputs.dtype))
        return outputs, (tuple(caches), tf.minimum(filled + lengths, kept))

    def _cleaned(self, pair: Pair, filled: tf.Tensor) -> Pair:
        """With zeros where nothing was ever written."""
        real = tf.range(self.context - 1) >= self.context - 1 - filled[:, None]
        keys, values = (tf.where(real[:, None, :, None], part, tf.zeros([], part.dtype)) for part in pair)
        return keys, values

    def _last(self, known: tf.Tensor, lengths: tf.Tensor, missing: int) -> tf.Tensor:
        """The newest `context` - 1 of each row: `<float>[rows, heads, context - 1 - missing + time, size]` → `[…, context - 1, size]`."""
        padded = tf.pad(known, [[0, 0], [0, 0], [missing, 0], [0, 0]]) if missing else known
        last = tf.gather(padded, lengths[:, None] + tf.range(self.context - 1), axis=2, batch_dims=1)
        return tf.ensure_shape(last, [None, self.heads, self.context - 1, self.units // self.heads])


class TransformerEncoder(Blocks):
    """Blocks in which every token sees the whole row, and a norm at the end; positions are sinusoids, added to the inputs
    (Vaswani 2017, section 3.5).

    Args:
        units, depth, heads, hidden, dropout: as in `Blocks`; the inputs, with their positions, have the same dropout.

    Call arguments:
        inputs: `<float>[rows, time, units]`.
        lengths: `<int32>[rows]`.
        noise: None outside training.

    Returns:
        `<float>[rows, time, units]`, zero beyond a row's length.
    """

    def __init__(self, units: int, depth: int, heads: int, *, hidden: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(units, depth, heads, hidden=hidden, dropout=dropout, **kwargs)
        self.inputs_dropout = Dropout(dropout, name="inputs_dropout")

    def call(self, inputs: tf.Tensor, lengths: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        noise = None if noise is None else noise.within(self.name)
        time = tf.shape(inputs)[1]
        inside = tf.sequence_mask(lengths, time)
        inputs = self.inputs_dropout(inputs + sinusoids(tf.range(time), self.units, inputs.dtype), noise)
        inputs = tf.where(inside[:, :, None], inputs, tf.zeros([], inputs.dtype))
        for block in self.blocks:
            inputs, _ = block(inputs, inside[:, None], noise=noise)
        return tf.where(inside[:, :, None], self.norm(inputs), tf.zeros([], inputs.dtype))


class TransformerDecoder(Blocks):
    """Blocks in which a token sees itself, those before it, and a memory; positions as in `TransformerEncoder`.

    Args:
        units, depth, heads, hidden, dropout: as in `TransformerEncoder`.

    Call arguments:
        inputs: `<float>[rows, time, units]`.
        memory: `<float>[rows, places, units]`, zero beyond `memory_lengths <int32>[rows]`; the size of the blocks.
        noise: None outside training.

    Returns:
        `<float>[rows, time, units]`; beyond a row's own length they are of no meaning.
    """

    def __init__(self, units: int, depth: int, heads: int, *, hidden: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(units, depth, heads, hidden=hidden, dropout=dropout, cross=True, **kwargs)
        self.inputs_dropout = Dropout(dropout, name="inputs_dropout")

    def call(self, inputs: tf.Tensor, memory: tf.Tensor, memory_lengths: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        noise = None if noise is None else noise.within(self.name)
        places = tf.range(tf.shape(inputs)[1])
        inputs = self.inputs_dropout(inputs + sinusoids(places, self.units, inputs.dtype), noise)
        visible, seen = (places[:, None] >= places)[None], _seen(memory, memory_lengths)
        for block in self.blocks:
            inputs, _ = block(inputs, visible, memory=memory, memory_visible=seen, noise=noise)
        return self.norm(inputs)

    def alignment(self, inputs: tf.Tensor, memory: tf.Tensor, memory_lengths: tf.Tensor) -> tf.Tensor:
        """How much each token, as `call` takes them, looks at each place of the memory, the mean of all heads of all blocks:
        `<float>[rows, time, places]`."""
        places = tf.range(tf.shape(inputs)[1])
        inputs += sinusoids(places, self.units, inputs.dtype)
        visible, seen, found = (places[:, None] >= places)[None], _seen(memory, memory_lengths), []
        for block in self.blocks:
            attended, _ = block.attention(block.attention_norm(inputs), visible)
            found.append(block.memory.alignment(block.memory_norm(inputs + attended), seen, memory))
            inputs, _ = block(inputs, visible, memory=memory, memory_visible=seen)
        return tf.add_n(found) / self.depth

    def remember(self, memory: tf.Tensor, memory_lengths: tf.Tensor) -> tuple[tuple[Pair, ...], tf.Tensor]:
        """What `step` needs of a memory, computed once a text: keys and values of each block, and which of them are seen."""
        return tuple(block.memory.remember(memory) for block in self.blocks), _seen(memory, memory_lengths)

    def first_caches(self, rows: tf.Tensor) -> tuple[Pair, ...]:
        """Keys and values before the first token: none."""
        none = tf.zeros([rows, self.heads, 0, self.units // self.heads], self.compute_dtype)
        return ((none, none),) * self.depth

    def step(
        self, inputs: tf.Tensor, place: tf.Tensor, caches: tuple[Pair, ...], visible: tf.Tensor,
        remembered: tuple[tuple[Pair, ...], tf.Tensor],
    ) -> tuple[tf.Tensor, tuple[Pair, ...]]:  # fmt: skip
        """One token of each of several hypotheses a row, which stand side by side along the time axis.

        Args:
            inputs: `<float>[rows, lanes, units]`.
            place: `<int32>[]`, of these tokens.
            caches: keys and values of all tokens before, of all lanes: `<float>[rows, heads, place · lanes, size]` of each block.
            visible: `<bool>[rows, lanes, (place + 1) · lanes]`: the tokens of its own hypothesis that each lane sees, itself included.
            remembered: as `remember` gives it.

        Returns:
            `<float>[rows, lanes, units]`, and the caches with these tokens' keys and values at the end.
        """
        memories, seen = remembered
        inputs += sinusoids(place[None], self.units, inputs.dtype)
        known = []
        for block, past, memory in zip(self.blocks, caches, memories, strict=True):
            inputs, pair = block(inputs, visible, past=past, memory=memory, memory_visible=seen)
            known.append(pair)
        return self.norm(inputs), tuple(known)


def _seen(memory: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    return tf.sequence_mask(lengths, tf.shape(memory)[1])[:, None]
