"""Recurrent layers: state in, state out, each row ends at its own length.

`layer(inputs [batch, time, features], lengths [batch], initial_state=None)` returns `(outputs [batch, time, units], state)`, where
the state is the one after each row's last token. Outputs beyond a row's length are zero.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

State = tuple[tf.Tensor, ...]


class _Recurrent(keras.layers.Layer):
    """What the cells share: weights with the gates side by side, the input projected for all time steps in one matmul."""

    gates: int
    states: int

    def __init__(self, units: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, inputs_shape: tuple[int | None, ...], lengths_shape: tuple[int | None, ...] | None = None) -> None:
        width = self.gates * self.units
        self.kernel = self.add_weight(shape=(inputs_shape[-1], width), initializer="glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.units, width), initializer="orthogonal", name="recurrent_kernel")
        self.bias = self.add_weight(shape=self.bias_shape(), initializer=self.initial_bias, name="bias")

    def bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    def initial_bias(self, shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
        return tf.zeros(shape, dtype)

    def zero_state(self, rows: tf.Tensor) -> State:
        """The state before the first token, `[rows, units]` each."""
        return tuple(tf.zeros([rows, self.units], self.compute_dtype) for _ in range(self.states))

    def step(self, projected: tf.Tensor, state: State) -> State:
        """One time step: `W x_t + b` `[batch, gates · units]` and the state → the next state; its first part is the output."""
        raise NotImplementedError

    def project(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.matmul(inputs, tf.convert_to_tensor(self.kernel)) + self.bias

    def call(self, inputs: tf.Tensor, lengths: tf.Tensor, initial_state: State | None = None) -> tuple[tf.Tensor, State]:
        rows, time = tf.shape(inputs)[0], tf.shape(inputs)[1]
        projected = self.project(tf.transpose(inputs, [1, 0, 2]))
        state = self.zero_state(rows) if initial_state is None else tuple(initial_state)
        outputs, state = _loop(self.step, projected, lengths, state, time)
        outputs = tf.transpose(outputs, [1, 0, 2])
        outputs = tf.ensure_shape(outputs, [None, None, self.units])
        return outputs, state


def _loop(
    step: Callable[[tf.Tensor, State], State], projected: tf.Tensor, lengths: tf.Tensor, state: State, time: tf.Tensor
) -> tuple[tf.Tensor, State]:
    """Runs `step` over time-major `projected [time, batch, …]`; finished rows keep their state and give zeros."""
    outputs = tf.TensorArray(projected.dtype, size=time, element_shape=[None, state[0].shape[-1]])
    steps = tf.TensorArray(projected.dtype, size=time).unstack(projected)

    def body(t: tf.Tensor, state: State, outputs: tf.TensorArray) -> tuple[tf.Tensor, State, tf.TensorArray]:
        running = (t < lengths)[:, None]
        following = step(steps.read(t), state)
        outputs = outputs.write(t, tf.where(running, following[0], tf.zeros([], projected.dtype)))
        return t + 1, tuple(tf.where(running, new, old) for new, old in zip(following, state, strict=True)), outputs

    _, state, outputs = tf.while_loop(lambda t, *_: t < time, body, (tf.constant(0), state, outputs), maximum_iterations=time)
    return outputs.stack(), state


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; with forget gate, Gers 2000).

        i, f, g, o = σ, σ, tanh, σ of W x_t + U h_{t-1} + b
        c_t = f ∘ c_{t-1} + i ∘ g
        h_t = o ∘ tanh(c_t)

    Args:
        units: size of h and c. The forget gate's bias starts at 1 (Jozefowicz 2015). Weights are laid out as in `keras.layers.LSTM`.

    Call arguments:
        inputs: `<float>[batch, time, features]`.
        lengths: `<int32>[batch]`.
        initial_state: (h, c), `<float>[batch, units]` each; zeros where None.

    Returns:
        outputs `<float>[batch, time, units]` and the state (h, c) at each row's length.
    """

    gates, states = 4, 2

    def initial_bias(self, shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
        return tf.concat([tf.zeros(self.units, dtype), tf.ones(self.units, dtype), tf.zeros(2 * self.units, dtype)], 0)

    def step(self, projected: tf.Tensor, state: State) -> State:
        h, c = state
        gates = projected + tf.matmul(h, tf.convert_to_tensor(self.recurrent_kernel))
        i, f, g, o = tf.split(gates, 4, axis=-1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c


class GRU(_Recurrent):
    """Gated recurrent unit (Cho 2014), in the form with the reset gate behind the matmul (as cuDNN and Keras have it).

        z, r = σ of W x_t + b + U h_{t-1} + b'
        n = tanh(W_n x_t + b_n + r ∘ (U_n h_{t-1} + b'_n))
        h_t = z ∘ h_{t-1} + (1 - z) ∘ n

    Args:
        units: size of h. Weights are laid out as in `keras.layers.GRU(reset_after=True)`.

    Call arguments and return values are those of `LSTM`; the state is (h,).
    """

    gates, states = 3, 1

    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units)

    def project(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.matmul(inputs, tf.convert_to_tensor(self.kernel)) + tf.convert_to_tensor(self.bias)[0]

    def step(self, projected: tf.Tensor, state: State) -> State:
        (h,) = state
        recurrent = tf.matmul(h, tf.convert_to_tensor(self.recurrent_kernel)) + tf.convert_to_tensor(self.bias)[1]
        z, r, n = tf.split(projected, 3, axis=-1)
        z_h, r_h, n_h = tf.split(recurrent, 3, axis=-1)
        z = tf.sigmoid(z + z_h)
        n = tf.tanh(n + tf.sigmoid(r + r_h) * n_h)
        return (z * h + (1 - z) * n,)


class Bidirectional(keras.layers.Layer):
    """Two layers, one of which reads each row from its last token to its first (Schuster & Paliwal 1997).

    Args:
        forward, backward: recurrent layers.

    Call arguments are those of a recurrent layer; initial_state is (forward's, backward's).

    Returns:
        outputs `<float>[batch, time, 2 · units]`, both at their token's place, and (forward's state, backward's state).
    """

    def __init__(self, forward: _Recurrent, backward: _Recurrent, **kwargs: object) -> None:
        super().__init__(**kwargs)
        forward.name, backward.name = "forward", "backward"
        self.forward, self.backward = forward, backward

    def call(
        self, inputs: tf.Tensor, lengths: tf.Tensor, initial_state: tuple[State, State] | None = None
    ) -> tuple[tf.Tensor, tuple[State, State]]:
        first, second = initial_state or (None, None)
        forward, forward_state = self.forward(inputs, lengths, initial_state=first)
        reversed_inputs = tf.reverse_sequence(inputs, lengths, seq_axis=1)
        backward, backward_state = self.backward(reversed_inputs, lengths, initial_state=second)
        backward = tf.reverse_sequence(backward, lengths, seq_axis=1)
        return tf.concat([forward, backward], -1), (forward_state, backward_state)


class Windows(keras.layers.Layer):
    """Cuts each row into windows and lets a layer read each from its own start: a long text costs fewer, wider steps.

    Args:
        layer: a recurrent layer, `layer(inputs, lengths) → (outputs, state)`.
        size: tokens of a window.

    Call arguments:
        inputs: `<float>[batch, time, features]`.
        lengths: `<int32>[batch]`.

    Returns:
        outputs `<float>[batch, time, units]`; there is no state.

    Example: with size 2, a row of 3 tokens is read as one of 2 and one of 1.
    """

    def __init__(self, layer: keras.layers.Layer, size: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        layer.name = "network"
        self.layer, self.size = layer, size

    def call(self, inputs: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, State]:
        rows, time, features = tf.shape(inputs)[0], tf.shape(inputs)[1], inputs.shape[-1]
        size = tf.minimum(self.size, time)  # short texts make one short window
        windows = (time + size - 1) // size
        padded = tf.pad(inputs, [[0, 0], [0, windows * size - time], [0, 0]])
        cut = tf.reshape(padded, [rows * windows, size, features])
        inside = tf.clip_by_value(lengths[:, None] - tf.range(windows) * size, 0, size)
        outputs, _ = self.layer(cut, tf.reshape(inside, [-1]))
        return tf.reshape(outputs, [rows, windows * size, outputs.shape[-1]])[:, :time], ()
