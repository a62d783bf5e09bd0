"""Recurrent layers: state in, state out, each row ends at its own length.

`layer(inputs [batch, time, features], lengths [batch], initial_state=None)` returns `(outputs [batch, time, units], state)`, where
the state is the one after each row's last token. Outputs beyond a row's length are zero; a row of length 0 keeps its initial state.
Inputs may come without padding, `[tokens, features]` row after row, and outputs then do, too.

Three paths compute the same from the same weights, within float error (`recurrent_path` forces one):
    plain   a graph loop over the equations as they stand below; any cell, any compiler.
    packed  LSTM, GRU and MinGRU on a CPU (`recurrent_packed`): no padding, gradients by hand, core ops. The choice on a CPU, and what
            exports hold, without a gradient.
    cudnn   LSTM and GRU on a GPU (`recurrent_cudnn`). The choice on a GPU.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from nlp_tasks.errors import UserError
from nlp_tasks.layers import recurrent_cudnn, recurrent_packed
from nlp_tasks.layers.dropout import Dropout, Noise, dropped_weights

State = tuple[tf.Tensor, ...]
Weights = tuple[tf.Tensor, Any, tf.Tensor]
"""kernel, recurrent kernel, bias."""

PATHS = ("auto", "plain", "packed", "cudnn")
_forced = contextvars.ContextVar("recurrent_path", default=("auto", True))


def check_path(name: str) -> None:
    """Refuses a path that cannot be had here; raises as `recurrent_path` does."""
    if name not in PATHS:
        raise ValueError(f"recurrent path {name!r}: expected one of {', '.join(PATHS)}")
    if name == "cudnn" and not tf.config.list_logical_devices("GPU"):
        raise UserError('recurrent path "cudnn": TensorFlow sees no GPU here', 'use "auto", or "packed" on a CPU')


@contextlib.contextmanager
def recurrent_path(name: str, *, gradient: bool = True) -> Iterator[None]:
    """Which path the layers take while a graph is traced (or eager code runs) inside. Cells that do not have it take the plain one.

    Args:
        name: one of `PATHS`.
        gradient: False for graphs that only answer: the packed path then keeps nothing for a gradient of its own.

    Raises:
        ValueError: another name.
        UserError: cudnn where TensorFlow sees no GPU.
    """
    check_path(name)
    token = _forced.set((name, gradient))
    try:
        yield
    finally:
        _forced.reset(token)


def _path() -> str:
    forced, _ = _forced.get()
    if forced != "auto":
        return forced
    return "cudnn" if tf.config.list_logical_devices("GPU") else "packed"


class RecurrentLayer(keras.layers.Layer):
    """What the cells share: the order of reading, the initial state, the choice of the path, the plain loop.

    A cell has `gates` (blocks of its kernel), `states` (tensors of its state, the output first) and `step`.

    Args:
        units: size of the output.
        recurrent_dropout: share of the recurrent weights left out in training, the same ones in all time steps and rows of a batch
            (weight-dropped LSTM, Merity 2018, section 2); only where `noise` is given.
    """

    gates: int
    states: int = 1
    paths: frozenset[str] = frozenset()
    function: str = ""
    """Its name in `recurrent_packed` and `recurrent_cudnn`, where it has those paths."""

    def __init__(self, units: int, *, recurrent_dropout: float = 0.0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units, self.recurrent_dropout = units, recurrent_dropout

    def build(self, inputs_shape: tuple[int | None, ...], *_: object, **__: object) -> None:
        width = self.gates * self.units
        self.kernel = self.add_weight(shape=(inputs_shape[-1], width), initializer="glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.units, width), initializer="orthogonal", name="recurrent_kernel")
        self.bias = self.add_weight(shape=self.bias_shape(), initializer=self.initial_bias, name="bias")

    def bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    def initial_bias(self, shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
        return tf.zeros(shape, dtype)

    def weights_in_order(self, noise: Noise | None = None) -> Weights:
        """kernel, recurrent kernel and bias, in the precision of the computation; with noise, some recurrent weights left out."""
        kernel, recurrent_kernel, bias = map(self._computed, (self.kernel, self.recurrent_kernel, self.bias))
        return kernel, dropped_weights(recurrent_kernel, self.recurrent_dropout, noise, self.name), bias

    def _computed(self, weight: Any) -> tf.Tensor:
        """Keras casts weights inside of `call` alone; a decoder asks for them outside."""
        return tf.cast(tf.convert_to_tensor(weight), self.compute_dtype)

    def zero_state(self, rows: tf.Tensor) -> State:
        """The state before the first token, `[rows, units]` each."""
        return tuple(tf.zeros([rows, self.units], self.compute_dtype) for _ in range(self.states))

    def project(self, inputs: tf.Tensor, weights: Weights) -> tf.Tensor:
        """What a step needs of its input, for all steps in one matrix product."""
        kernel, _, bias = weights
        return tf.matmul(inputs, kernel) + bias

    def step(self, projected: tf.Tensor, state: State, weights: Weights) -> State:
        """One time step: `[batch, gates · units]` and the state → the next state; its first part is the output."""
        raise NotImplementedError

    def run_packed(
        self, inputs: tf.Tensor, lengths: tf.Tensor, state: State, weights: Weights, reverse: bool
    ) -> tuple[tf.Tensor, State]:
        run = getattr(recurrent_packed, self.function)
        return run(inputs, lengths, *weights, state, reverse=reverse, gradient=_forced.get()[1])

    def run_cudnn(
        self, inputs: tf.Tensor, lengths: tf.Tensor, state: State, weights: Weights, reverse: bool
    ) -> tuple[tf.Tensor, State]:
        return getattr(recurrent_cudnn, self.function)(inputs, lengths, *weights, state, reverse=reverse)

    def call(
        self, inputs: tf.Tensor, lengths: tf.Tensor, initial_state: State | None = None, reverse: bool = False,
        noise: Noise | None = None,
    ) -> tuple[tf.Tensor, State]:  # fmt: skip
        state = self.zero_state(tf.size(lengths)) if initial_state is None else tuple(initial_state)
        path = _path()
        if inputs.shape.rank == 2 and (path != "packed" or path not in self.paths):
            padded = tf.pad(
                tf.RaggedTensor.from_row_lengths(inputs, lengths).to_tensor(), [[0, 0], [0, 1], [0, 0]]
            )  # one step at least
            outputs, state = self.call(padded, lengths, state, reverse, noise)
            return tf.boolean_mask(outputs, tf.sequence_mask(lengths, tf.shape(outputs)[1])), state
        weights = self.weights_in_order(noise)
        if path in self.paths:
            return getattr(self, f"run_{path}")(inputs, lengths, state, weights, reverse)
        if reverse:
            inputs = tf.reverse_sequence(inputs, lengths, seq_axis=1)
        projected = self.project(tf.transpose(inputs, [1, 0, 2]), weights)
        outputs, state = _loop(lambda step, state: self.step(step, state, weights), projected, lengths, state)
        outputs = tf.ensure_shape(tf.transpose(outputs, [1, 0, 2]), [None, None, self.units])
        return (tf.reverse_sequence(outputs, lengths, seq_axis=1) if reverse else outputs), state


def _loop(
    step: Callable[[tf.Tensor, State], State], projected: tf.Tensor, lengths: tf.Tensor, state: State
) -> tuple[tf.Tensor, State]:
    """Runs `step` over time-major `projected [time, batch, …]`; finished rows keep their state and give zeros."""
    time = tf.shape(projected)[0]
    outputs = tf.TensorArray(projected.dtype, size=time, element_shape=[None, state[0].shape[-1]])
    steps = tf.TensorArray(projected.dtype, size=time).unstack(projected)

    def body(t: tf.Tensor, state: State, outputs: tf.TensorArray) -> tuple[tf.Tensor, State, tf.TensorArray]:
        running = (t < lengths)[:, None]
        following = step(steps.read(t), state)
        outputs = outputs.write(t, tf.where(running, following[0], tf.zeros([], projected.dtype)))
        return t + 1, tuple(tf.where(running, new, old) for new, old in zip(following, state, strict=True)), outputs

    _, state, outputs = tf.while_loop(lambda t, *_: t < time, body, (tf.constant(0), state, outputs), maximum_iterations=time)
    return outputs.stack(), state


class SimpleRNN(RecurrentLayer):
    """The simple recurrent network (Elman 1990): h_t = tanh(W x_t + U h_{t-1} + b).

    Args:
        units: size of h. Weights are laid out as in `keras.layers.SimpleRNN`.

    Call arguments and return values are those of `LSTM`; the state is (h,).
    """

    gates = 1

    def step(self, projected: tf.Tensor, state: State, weights: Weights) -> State:
        (h,) = state
        _, recurrent_kernel, _ = weights
        return (tf.tanh(projected + tf.matmul(h, recurrent_kernel)),)


class LSTM(RecurrentLayer):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; with forget gate, Gers 2000).

        i, f, g, o = σ, σ, tanh, σ of W x_t + U h_{t-1} + b
        c_t = f ∘ c_{t-1} + i ∘ g
        h_t = o ∘ tanh(c_t)

    With peephole connections (Gers & Schmidhuber 2000) the gates see the cell too: p_i ∘ c_{t-1}, p_f ∘ c_{t-1} and p_o ∘ c_t are added
    inside their σ.

    Args:
        units: size of h and c. The forget gate's bias starts at 1 (Jozefowicz 2015). Weights are laid out as in `keras.layers.LSTM`.
        peephole: a further weight `[3, units]` (p_i, p_f, p_o), zero at first; such a layer always takes the plain path.

    Call arguments:
        inputs: `<float>[batch, time, features]`.
        lengths: `<int32>[batch]`.
        initial_state: (h, c), `<float>[batch, units]` each; zeros where None.
        reverse: read each row from its last token to its first; outputs stay at their token's place.

    Returns:
        outputs `<float>[batch, time, units]` and the state (h, c) after each row's last token read.
    """

    gates, states, function = 4, 2, "lstm"

    def __init__(self, units: int, *, peephole: bool = False, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.peephole = peephole
        self.paths = frozenset() if peephole else frozenset({"packed", "cudnn"})

    def build(self, inputs_shape: tuple[int | None, ...], *_: object, **__: object) -> None:
        super().build(inputs_shape)
        if self.peephole:
            self.peephole_kernel = self.add_weight(shape=(3, self.units), initializer="zeros", name="peephole_kernel")

    def initial_bias(self, shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
        return tf.concat([tf.zeros(self.units, dtype), tf.ones(self.units, dtype), tf.zeros(2 * self.units, dtype)], 0)

    def step(self, projected: tf.Tensor, state: State, weights: Weights) -> State:
        h, before = state
        _, recurrent_kernel, _ = weights
        i, f, g, o = tf.split(projected + tf.matmul(h, recurrent_kernel), 4, axis=-1)
        if self.peephole:
            p_i, p_f, p_o = tf.unstack(tf.convert_to_tensor(self.peephole_kernel))
            i, f = i + p_i * before, f + p_f * before
        c = tf.sigmoid(f) * before + tf.sigmoid(i) * tf.tanh(g)
        if self.peephole:
            o = o + p_o * c
        return tf.sigmoid(o) * tf.tanh(c), c


class GRU(RecurrentLayer):
    """Gated recurrent unit (Cho 2014), in the form with the reset gate behind the matmul (as cuDNN and Keras have it).

        z, r = σ of W x_t + b + U h_{t-1} + b'
        n = tanh(W_n x_t + b_n + r ∘ (U_n h_{t-1} + b'_n))
        h_t = z ∘ h_{t-1} + (1 - z) ∘ n

    The simplified one has no r: n = tanh(W_n x_t + U_n h_{t-1} + b_n), and one bias.

    Args:
        units: size of h. Weights are laid out as in `keras.layers.GRU(reset_after=True)`.
        reset_gate: False for the simplified cell, which always takes the plain path; its weights hold z, n side by side.

    Call arguments and return values are those of `LSTM`; the state is (h,).
    """

    function = "gru"

    def __init__(self, units: int, *, reset_gate: bool = True, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.reset_gate = reset_gate
        self.gates = 3 if reset_gate else 2
        self.paths = frozenset({"packed", "cudnn"}) if reset_gate else frozenset()

    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_gate else (2 * self.units,)

    def project(self, inputs: tf.Tensor, weights: Weights) -> tf.Tensor:
        kernel, _, bias = weights
        return tf.matmul(inputs, kernel) + (bias[0] if self.reset_gate else bias)

    def step(self, projected: tf.Tensor, state: State, weights: Weights) -> State:
        (h,) = state
        _, recurrent_kernel, bias = weights
        recurrent = tf.matmul(h, recurrent_kernel)
        if self.reset_gate:
            z, r, n = tf.split(projected, 3, axis=-1)
            z_h, r_h, n_h = tf.split(recurrent + bias[1], 3, axis=-1)
            n = tf.tanh(n + tf.sigmoid(r + r_h) * n_h)
            z = tf.sigmoid(z + z_h)
        else:
            z, n = tf.split(projected + recurrent, 2, axis=-1)
            z, n = tf.sigmoid(z), tf.tanh(n)
        return (z * h + (1 - z) * n,)


class MinGRU(RecurrentLayer):
    """The light cell, whose recurrence is element-wise only (Feng et al. 2024, "Were RNNs All We Needed?", equations of section 3.1).

        z, n = σ(W_z x_t + b_z), W_n x_t + b_n
        h_t = (1 - z) ∘ h_{t-1} + z ∘ n

    Its gates do not look at h, so that a stack needs depth where a GRU needs none; all its matrix products are made at once.
    QRNN (Bradbury 2017) and SRU (Lei 2018) are its elder relatives.

    Args:
        units: size of h.

    Call arguments and return values are those of `LSTM`; the state is (h,).
    """

    gates = 2
    paths = frozenset({"packed"})

    def build(self, inputs_shape: tuple[int | None, ...], *_: object, **__: object) -> None:
        width = self.gates * self.units
        self.kernel = self.add_weight(shape=(inputs_shape[-1], width), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

    def weights_in_order(self, noise: Noise | None = None) -> Weights:
        """kernel and bias; there is no recurrent kernel to leave anything out of."""
        return self._computed(self.kernel), None, self._computed(self.bias)

    def project(self, inputs: tf.Tensor, weights: Weights) -> tf.Tensor:
        """(1 - z) and z ∘ n side by side."""
        kernel, _, bias = weights
        projected = tf.matmul(inputs, kernel) + bias
        z, n = tf.split(projected, 2, axis=-1)
        z = tf.sigmoid(z)
        return tf.concat([1 - z, z * n], -1)

    def step(self, projected: tf.Tensor, state: State, weights: Weights) -> State:
        (h,) = state
        keep, new = tf.split(projected, 2, axis=-1)
        return (keep * h + new,)

    def run_packed(
        self, inputs: tf.Tensor, lengths: tf.Tensor, state: State, weights: Weights, reverse: bool
    ) -> tuple[tf.Tensor, State]:
        kernel, _, bias = weights
        return recurrent_packed.min_gru(inputs, lengths, kernel, bias, state, reverse=reverse)


class Bidirectional(keras.layers.Layer):
    """Two layers, one of which reads each row from its last token to its first (Schuster & Paliwal 1997).

    Args:
        forward, backward: recurrent layers.

    Call arguments are those of a recurrent layer; initial_state is (forward's, backward's).

    Returns:
        outputs `<float>[batch, time, 2 · units]`, both at their token's place, and (forward's state, backward's state).
    """

    def __init__(self, forward: RecurrentLayer, backward: RecurrentLayer, **kwargs: object) -> None:
        super().__init__(**kwargs)
        forward.name, backward.name = "forward", "backward"
        self.forward, self.backward = forward, backward
        self.units = forward.units + backward.units

    def call(
        self, inputs: tf.Tensor, lengths: tf.Tensor, initial_state: tuple[State, State] | None = None, noise: Noise | None = None
    ) -> tuple[tf.Tensor, tuple[State, State]]:
        first, second = initial_state or (None, None)
        noise = None if noise is None else noise.within(self.name)
        forward, forward_state = self.forward(inputs, lengths, initial_state=first, noise=noise)
        backward, backward_state = self.backward(inputs, lengths, initial_state=second, reverse=True, noise=noise)
        return tf.concat([forward, backward], -1), (forward_state, backward_state)


class Stack(keras.layers.Layer):
    """Layers on top of each other (Graves 2013).

    Args:
        layers: recurrent layers, the lowest first; cells or `Bidirectional`.
        residual: a layer's input is added to its output wherever both are equally wide (He 2016; in recurrent stacks, Wu 2016).
        dropout: share of the values between two layers left out in training (Zaremba 2014); none below the first, none above the last.
        variational: one mask for all time steps of a row (Gal & Ghahramani 2016).

    Call arguments: those of a recurrent layer; initial_state is one state a layer. noise: None outside training.

    Returns:
        the last layer's outputs and a tuple of the layers' states.
    """

    def __init__(
        self, *layers: Any, residual: bool = False, dropout: float = 0.0, variational: bool = False, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        if not layers:
            raise ValueError("a stack needs at least one layer")
        self.depth, self.residual, self.units = len(layers), residual, layers[-1].units
        for number, layer in enumerate(layers, 1):
            layer.name = f"layer_{number}"
            setattr(self, layer.name, layer)
            if number > 1:
                setattr(self, f"dropout_{number}", Dropout(dropout, shared_time=variational, name=f"dropout_{number}"))

    def call(
        self, inputs: tf.Tensor, lengths: tf.Tensor, initial_state: tuple[Any, ...] | None = None, noise: Noise | None = None
    ) -> tuple[tf.Tensor, tuple[Any, ...]]:
        states = []
        noise = None if noise is None else noise.within(self.name)
        for number in range(1, self.depth + 1):
            if number > 1:
                inputs = getattr(self, f"dropout_{number}")(inputs, noise)
            first = initial_state[number - 1] if initial_state is not None else None
            outputs, state = getattr(self, f"layer_{number}")(inputs, lengths, initial_state=first, noise=noise)
            if self.residual and inputs.shape[-1] == outputs.shape[-1]:
                if inputs.shape.rank == 3:
                    read = tf.sequence_mask(lengths, tf.shape(inputs)[1])[:, :, None]
                    inputs = tf.where(read, inputs, tf.zeros([], inputs.dtype))
                outputs += inputs
            inputs = outputs
            states.append(state)
        return inputs, tuple(states)


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
        units = outputs.shape[-1]
        # The gradient of a slice is padding; that of [:, :time] takes several times as long.
        cut_back = tf.slice(tf.reshape(outputs, [rows, windows * size, units]), [0, 0, 0], [rows, time, units])
        return tf.ensure_shape(cut_back, [None, None, units]), ()
