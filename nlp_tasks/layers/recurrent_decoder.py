"""The recurrent half of an encoder-decoder that writes: cells that look at a memory, or that have nothing but their first state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from nlp_tasks.layers.attention import HIDDEN
from nlp_tasks.layers.dropout import Dropout, Noise
from nlp_tasks.layers.recurrent import RecurrentLayer, Stack, State


class Memory(NamedTuple):
    """What an encoder left to look at, prepared once a text.

    values: `<float>[rows, places, features]`, finite everywhere.
    keys: `<float>[rows, places, units]`, the values as they are compared with a query.
    bias: `<float>[rows, 1, places]`: 0 at a row's own places, and `HIDDEN` beyond them.
    """

    values: tf.Tensor
    keys: tf.Tensor
    bias: tf.Tensor


class AdditiveScore(keras.layers.Layer):
    """e(s, h) = v · tanh(W s + U h) (Bahdanau 2015, appendix A.1.2).

    Args:
        units: size of v.

    Call arguments:
        queries: `<float>[rows, time, features]`.
        keys: `<float>[rows, places, units]`, U h.

    Returns:
        `<float>[rows, time, places]`.
    """

    def __init__(self, units: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, queries_shape: tuple[int | None, ...], keys_shape: tuple[int | None, ...] | None = None) -> None:
        self.kernel = self.add_weight(shape=(queries_shape[-1], self.units), initializer="glorot_uniform", name="kernel")
        self.vector = self.add_weight(shape=(self.units,), initializer=keras.initializers.RandomUniform(-0.1, 0.1), name="vector")

    def call(self, queries: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        kernel, vector = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.vector)
        projected = tf.reshape(tf.matmul(_flat(queries), kernel), [tf.shape(queries)[0], -1, 1, self.units])
        compared = tf.tanh(projected + keys[:, None])
        return tf.reshape(tf.matmul(_flat(compared), vector[:, None]), tf.shape(compared)[:-1])  # no array of products in between


class MultiplicativeScore(keras.layers.Layer):
    """e(s, h) = sᵀ W h, the form "general" (Luong 2015, section 3.1).

    Call arguments and return value are those of `AdditiveScore`, with keys W h of as many features as the queries.
    """

    def call(self, queries: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        return tf.matmul(queries, keys, transpose_b=True)


class RecurrentDecoder(keras.layers.Layer):
    """A stack of cells that writes, one token after the other. Three kinds:

        none             s_t = f(s_{t-1}, y_{t-1}); the output is s_t. All that it knows of the source is its first state
                         (Sutskever 2014).
        additive         c_t = Σ_j α_tj h_j, α_t = softmax_j e(s_{t-1}, h_j); s_t = f(s_{t-1}, [y_{t-1}; c_t]);
                         the output is tanh(W [s_t; c_t; y_{t-1}]) (Bahdanau 2015, eq. 4-6).
        multiplicative   s_t = f(s_{t-1}, y_{t-1}); c_t as above with s_t in place of s_{t-1};
                         the output is s̃_t = tanh(W [c_t; s_t]) (Luong 2015, eq. 5). With `feeding`, f sees [y_{t-1}; s̃_{t-1}]
                         (section 3.3), and time steps must wait for each other; without, all of them are computed at once.

    Args:
        cells: recurrent layers, the lowest first, all of the same size.
        attention: "none", "additive" or "multiplicative".
        feeding: as above.
        dropout: share of the values between two cells left out in training; with attention in the loop the same ones in all steps of a
            row (Gal & Ghahramani 2016).

    A state is (one state a cell, what is fed): the latter `<float>[rows, units]`, or () where nothing is.
    """

    def __init__(
        self, *cells: RecurrentLayer, attention: str = "multiplicative", feeding: bool = False, dropout: float = 0.0,
        **kwargs: object,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if attention not in ("none", "additive", "multiplicative"):
            raise ValueError(f"attention {attention!r}: expected none, additive or multiplicative")
        if feeding and attention != "multiplicative":
            raise ValueError(f"feeding with {attention} attention: expected multiplicative")
        self.units, self.depth, self.attention, self.feeding = cells[0].units, len(cells), attention, feeding
        self.stack = Stack(*cells, dropout=dropout, variational=self._waits, name="stack")
        if attention != "none":
            self.keys = keras.layers.Dense(self.units, use_bias=False, name="keys")
            self.score = AdditiveScore(self.units, name="score") if attention == "additive" else MultiplicativeScore(name="score")
            self.combination = keras.layers.Dense(self.units, activation="tanh", name="combination")
        for cell in range(1, self.depth + 1):
            for part in range(1, cells[0].states + 1):
                setattr(
                    self, f"bridge_{cell}_{part}", keras.layers.Dense(self.units, activation="tanh", name=f"bridge_{cell}_{part}")
                )

    @property
    def _waits(self) -> bool:
        """Whether a step needs what attention gave the one before."""
        return self.attention == "additive" or self.feeding

    @property
    def _cells(self) -> list[RecurrentLayer]:
        return [getattr(self.stack, f"layer_{number}") for number in range(1, self.depth + 1)]

    def build(self, inputs_shape: tuple[int | None, ...], memory_features: int) -> None:
        """Args: of inputs the shape; of the memory, and of what the bridge is given, the number of features."""
        embedding = int(inputs_shape[-1] or 0)
        fed = {"additive": memory_features, "multiplicative": self.units if self.feeding else 0, "none": 0}[self.attention]
        for number, cell in enumerate(self._cells):
            cell.build((None, None, self.units if number else embedding + fed))
        for number in range(1, self.depth + 1):
            for part in range(1, self._cells[0].states + 1):
                getattr(self, f"bridge_{number}_{part}").build((None, memory_features))
        if self.attention != "none":
            self.keys.build((None, None, memory_features))
            self.score.build((None, None, self.units))
            extra = embedding if self.attention == "additive" else 0
            self.combination.build((None, memory_features + self.units + extra))
        self.built = True

    def remember(self, values: tf.Tensor, lengths: tf.Tensor) -> Memory:
        """An encoder's outputs `<float>[rows, places, features]`, zero beyond their `lengths <int32>[rows]`."""
        keys = self.keys(values) if self.attention != "none" else values
        inside = tf.cast(tf.sequence_mask(lengths, tf.shape(values)[1]), values.dtype)
        return Memory(values, keys, ((1 - inside) * HIDDEN)[:, None])

    def first_state(self, summary: tf.Tensor) -> tuple[tuple[State, ...], Any]:
        """tanh(W x) for each state of each cell (Bahdanau 2015, appendix A.2.2), from `<float>[rows, features]`."""
        states = tuple(
            tuple(getattr(self, f"bridge_{number}_{part}")(summary) for part in range(1, cell.states + 1))
            for number, cell in enumerate(self._cells, 1)
        )
        return states, tf.zeros([tf.shape(summary)[0], self.units], summary.dtype) if self.feeding else ()

    def call(
        self,
        inputs: tf.Tensor,
        lengths: tf.Tensor,
        state: tuple[tuple[State, ...], Any],
        memory: Memory,
        noise: Noise | None = None,
    ) -> tf.Tensor:
        """Teacher forcing: all the tokens before are given.

        Args:
            inputs: `<float>[rows, time, features]`.
            lengths: `<int32>[rows]`; outputs beyond are of no meaning.
            state: as `first_state` gives it.
            memory: as `remember` gives it.
            noise: None outside training.

        Returns:
            `<float>[rows, time, units]`.
        """
        noise = None if noise is None else noise.within(self.name)
        states, fed = state
        if not self._waits:
            hidden, _ = self.stack(inputs, lengths, states, noise)
            return self._outputs(inputs, hidden, self._look(hidden, memory)[0]) if self.attention != "none" else hidden
        masks = self._masks(tf.shape(inputs)[0], inputs.dtype, noise)
        time = tf.shape(inputs)[1]
        weights = [cell.weights_in_order(noise) for cell in self._cells]
        kernel, recurrent, bias = weights[0]
        projected = self._cells[0].project(tf.transpose(inputs, [1, 0, 2]), (kernel[: inputs.shape[-1]], recurrent, bias))
        steps = tf.TensorArray(inputs.dtype, size=time).unstack(projected)
        # With feeding each step makes its own output; otherwise they are made of all steps at once.
        widths = (self.units,) if self.feeding else (self.units, memory.values.shape[-1])
        written = [tf.TensorArray(inputs.dtype, size=time, element_shape=[None, width]) for width in widths]

        def body(t: tf.Tensor, states: Any, fed: Any, *written: tf.TensorArray) -> tuple[Any, ...]:
            states, looked, fed = self._advance(steps.read(t), kernel[inputs.shape[-1] :], weights, states, fed, memory, masks)
            found = (fed,) if self.feeding else (states[-1][0], looked[0])
            return t + 1, states, fed, *(part.write(t, value) for part, value in zip(written, found, strict=True))

        first = (tf.constant(0), states, fed, *written)
        _, _, _, *written = tf.while_loop(lambda t, *_: t < time, body, first, maximum_iterations=time)
        found = [tf.transpose(part.stack(), [1, 0, 2]) for part in written]
        return found[0] if self.feeding else self._outputs(inputs, *found)

    def alignment(self, inputs: tf.Tensor, state: tuple[tuple[State, ...], Any], memory: Memory) -> tf.Tensor:
        """α of each token, as `call` takes them: `<float>[rows, time, places]`."""
        time = tf.shape(inputs)[1]
        steps = tf.TensorArray(inputs.dtype, size=time).unstack(tf.transpose(inputs, [1, 0, 2]))
        found = tf.TensorArray(inputs.dtype, size=time)
        flat = tf.nest.flatten(state)

        def body(t: tf.Tensor, found: tf.TensorArray, *flat: tf.Tensor) -> tuple[Any, ...]:
            _, alignment, following = self.step(steps.read(t), tf.nest.pack_sequence_as(state, flat), memory)
            return t + 1, found.write(t, alignment), *tf.nest.flatten(following)

        _, found, *_ = tf.while_loop(lambda t, *_: t < time, body, (tf.constant(0), found, *flat))
        return tf.transpose(found.stack(), [1, 0, 2])

    def step(self, inputs: tf.Tensor, state: tuple[tuple[State, ...], Any], memory: Memory) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """One token of each of several hypotheses a row.

        Args:
            inputs: `<float>[rows · lanes, features]`, a row's lanes side by side.
            state: of as many.
            memory: of the rows.

        Returns:
            outputs `<float>[rows · lanes, units]`, alignment `<float>[rows · lanes, places]` (zeros without attention), and the next
            state.
        """
        states, fed = state
        weights = [cell.weights_in_order() for cell in self._cells]
        kernel, recurrent, bias = weights[0]
        features = inputs.shape[-1]
        projected = self._cells[0].project(inputs, (kernel[:features], recurrent, bias))
        masks = [None] * self.depth
        states, looked, fed = self._advance(projected, kernel[features:], weights, states, fed, memory, masks)
        if not looked:
            places = tf.shape(memory.values)[1]
            return states[-1][0], tf.zeros([tf.shape(inputs)[0], places], inputs.dtype), (states, fed)
        context, alignment = looked
        return fed if self.feeding else self._outputs(inputs, states[-1][0], context), alignment, (states, fed)

    def _advance(
        self, projected: tf.Tensor, fed_kernel: tf.Tensor, weights: Sequence[Any], states: Any, fed: Any, memory: Memory,
        masks: Sequence[tf.Tensor | None],
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        """One step of all cells: the next states, (context, alignment) or (), and what is fed next."""
        looked: Any = ()
        if self.attention == "additive":
            looked = self._look_flat(states[-1][0], memory)
            projected += tf.matmul(looked[0], fed_kernel)
        elif self.feeding:
            projected += tf.matmul(fed, fed_kernel)
        following: list[State] = []
        for number, (cell, before) in enumerate(zip(self._cells, states, strict=True)):
            if number:
                inputs = following[-1][0] if masks[number] is None else following[-1][0] * masks[number]
                projected = cell.project(inputs, weights[number])
            following.append(cell.step(projected, before, weights[number]))
        if self.attention == "multiplicative":
            looked = self._look_flat(following[-1][0], memory)
            if self.feeding:
                fed = self._outputs(None, following[-1][0], looked[0])
        return tuple(following), looked, fed

    def _masks(self, rows: tf.Tensor, dtype: tf.DType, noise: Noise | None) -> list[tf.Tensor | None]:
        """Below each cell, what is left out."""
        masks: list[tf.Tensor | None] = [None]
        inner = None if noise is None else noise.within("stack")
        for number in range(2, self.depth + 1):
            dropout: Dropout = getattr(self.stack, f"dropout_{number}")
            masks.append(None if inner is None else dropout(tf.ones([rows, 1, self.units], dtype), inner)[:, 0])
        return masks

    def _look(self, queries: tf.Tensor, memory: Memory) -> tuple[tf.Tensor, tf.Tensor]:
        """`<float>[rows, time, units]` → contexts `[rows, time, features]` and alignments `[rows, time, places]`."""
        scores = self.score(queries, memory.keys) + memory.bias
        wide = scores if scores.dtype == tf.float64 else tf.cast(scores, tf.float32)
        alignment = tf.cast(tf.nn.softmax(wide), scores.dtype)
        return tf.matmul(alignment, memory.values), alignment

    def _look_flat(self, queries: tf.Tensor, memory: Memory) -> tuple[tf.Tensor, tf.Tensor]:
        """The same with the queries of a row side by side: `<float>[rows · lanes, units]`."""
        rows = tf.shape(memory.values)[0]
        context, alignment = self._look(tf.reshape(queries, [rows, -1, self.units]), memory)
        return tf.reshape(context, [-1, context.shape[-1]]), _flat(alignment, tf.shape(alignment)[-1])

    def _outputs(self, inputs: tf.Tensor | None, hidden: tf.Tensor, context: tf.Tensor) -> tf.Tensor:
        parts = [context, hidden] if self.attention == "multiplicative" else [hidden, context, inputs]
        return self.combination(tf.concat(parts, -1))


def _flat(tensor: tf.Tensor, features: Any = None) -> tf.Tensor:
    return tf.reshape(tensor, [-1, tensor.shape[-1] if features is None else features])
