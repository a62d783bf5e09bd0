"""The path of LSTM, GRU and MinGRU on a CPU: rows packed without padding, gradients by hand.

Rows are sorted by length and laid out step by step, so that a step costs what its running rows cost; a direction is an order of
reading, not a reversal. What does not depend on the recurrence is one matrix product for all tokens: the input projection, and in the
gradient those of all weights. Only core ops with dynamic shapes: no compilation, any batch.

One matrix product of a step is too small for several threads; parts of a batch, and the two directions, run side by side instead
(see `distribution.parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

State = tuple[tf.Tensor, ...]


class Packing(NamedTuple):
    """Where the tokens of a padded batch lie once they are packed: step after step, the longest row first."""

    order: tf.Tensor
    """`<int32>[batch]`: rows, the longest first."""
    places: tf.Tensor
    """`<int32>[batch]`: place of each row in that order."""
    begins: tf.Tensor
    """`<int32>[time, 2]`: (first packed token, 0) of each step."""
    extents: tf.Tensor
    """`<int32>[time, 2]`: (running rows, -1) of each step."""
    tokens: tf.Tensor
    """`<int32>[tokens]`: where each packed token stands in the flat batch, of `[batch · time]` tokens or without padding."""
    padded: tf.Tensor
    """`<int32>[batch · time]`: the inverse, where each place of the padded batch lies among the packed tokens; behind the last one where
    no token is."""
    before: tf.Tensor
    """`<int32>[tokens]`: in the initial states of all rows followed by the states of all tokens, the state that a token starts from."""
    last: tf.Tensor
    """`<int32>[batch]`: in the same list, the last state of each row, in the order of the batch."""
    steps: tf.Tensor
    """`<int32>[]`: length of the longest row, at least 1."""


def pack(lengths: tf.Tensor, inputs: tf.Tensor, *, reverse: bool) -> Packing:
    """Plans how rows of `lengths <int32>[batch]` are packed, padded as `[batch, time, features]` or one after another as
    `[tokens, features]`; with reverse from last to first token."""
    rows = tf.size(lengths)
    if inputs.shape.rank == 3:
        time = tf.shape(inputs)[1]
        firsts = tf.range(rows) * time
    else:
        time = tf.maximum(tf.reduce_max(lengths), 1)
        firsts = tf.cumsum(lengths, exclusive=True)
    order = tf.argsort(lengths, direction="DESCENDING", stable=True)
    places = tf.math.invert_permutation(order)
    longest_first = tf.gather(lengths, order)
    running = tf.range(time)[:, None] < longest_first
    sizes = tf.reduce_sum(tf.cast(running, tf.int32), 1)
    starts = tf.cumsum(sizes, exclusive=True)
    step, place = tf.unstack(tf.cast(tf.where(running), tf.int32), axis=1)
    position = tf.gather(longest_first, place) - 1 - step if reverse else step
    column = tf.range(time)
    read_at = lengths[:, None] - 1 - column if reverse else column[None, :]
    lies = tf.gather(starts, tf.maximum(read_at, 0)) + places[:, None]
    padded = tf.where(column < lengths[:, None], lies, tf.size(step))
    before = tf.where(step == 0, place, rows + tf.gather(starts, tf.maximum(step - 1, 0)) + place)
    last = tf.where(lengths == 0, places, rows + tf.gather(starts, tf.maximum(lengths - 1, 0)) + places)
    return Packing(
        order=order,
        places=places,
        begins=tf.stack([starts, tf.zeros_like(starts)], 1),
        extents=tf.stack([sizes, -tf.ones_like(sizes)], 1),
        tokens=tf.gather(tf.gather(firsts, order), place) + position,
        padded=tf.reshape(padded, [-1]),
        before=before,
        last=last,
        steps=tf.maximum(tf.reduce_max(lengths), 1),  # where there is no token at all, one step of no rows
    )


def lstm(
    inputs: tf.Tensor, lengths: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, state: State, *,
    reverse: bool, gradient: bool,
) -> tuple[tf.Tensor, State]:  # fmt: skip
    """The equations of `recurrent.LSTM`; weights as it holds them.

    Args:
        inputs: `<float>[batch, time, features]`, or without padding `<float>[tokens, features]`, row after row.
        lengths: `<int32>[batch]`.
        state: (h, c), `<float>[batch, units]` each.
        reverse: read each row from its last token to its first.
        gradient: False keeps nothing for the gradient by hand; TensorFlow's own remains.

    Returns:
        outputs laid out as the inputs, zero beyond each row's length, and the last (h, c).
    """
    units = recurrent_kernel.shape[0]

    def run(
        inputs: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor, c: tf.Tensor
    ) -> Any:
        plan = pack(lengths, inputs, reverse=reverse)
        tokens = _packed(inputs, plan)
        wide_kernel, wide_recurrent, wide_bias = map(_wide, (kernel, recurrent_kernel, bias))
        projected = tf.nn.bias_add(tf.matmul(tokens, wide_kernel), wide_bias)
        first_h, first_c = tf.gather(h, plan.order), tf.gather(c, plan.order)
        kept = [_steps(plan, inputs.dtype, units) for _ in range(8 if gradient else 2)]

        def step(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor, *kept: tf.TensorArray) -> tuple[Any, ...]:
            begin, extent = tf.gather(plan.begins, t), tf.gather(plan.extents, t)
            h, before = _rows(h, [0, 0], extent), _rows(c, [0, 0], extent)
            gates = _rows(projected, begin, extent) + tf.matmul(h, wide_recurrent)
            i, f, g, o, *_ = _split(gates, units)
            i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
            c = f * before + i * g
            tanh_c = tf.tanh(c)
            h = o * tanh_c
            return (t + 1, h, c, *_written(kept, t, (h, c, before, tanh_c, i, f, g, o)))

        _, _, _, h_s, c_s, *rest = _while(lambda t, *_: t < plan.steps, step, (0, first_h, first_c, *kept))
        packed_h = h_s.concat()
        states_h = tf.concat([first_h, packed_h], 0)
        states_c = tf.concat([first_c, c_s.concat()], 0)

        def gradients(d_outputs: tf.Tensor, d_last_h: tf.Tensor, d_last_c: tf.Tensor) -> tuple[tf.Tensor, ...]:
            d_packed_h = _packed(d_outputs, plan)
            d_last_h, d_last_c = tf.gather(d_last_h, plan.order), tf.gather(d_last_c, plan.order)
            transposed = _wide(tf.transpose(wide_recurrent))
            padding = tf.zeros([tf.shape(h)[0], wide_bias.shape[0] - 4 * units], inputs.dtype)

            def back(t: tf.Tensor, d_h: tf.Tensor, d_c: tf.Tensor, d_gates: tf.TensorArray) -> tuple[Any, ...]:
                begin, extent = tf.gather(plan.begins, t), tf.gather(plan.extents, t)
                before, tanh_c, i, f, g, o = (steps.read(t) for steps in rest)
                d_h = _grown(d_h, d_last_h, extent) + _rows(d_packed_h, begin, extent)
                d_c = _grown(d_c, d_last_c, extent) + _tanh_gradient(tanh_c, d_h * o)
                parts = [
                    _sigmoid_gradient(i, d_c * g),
                    _sigmoid_gradient(f, d_c * before),
                    _tanh_gradient(g, d_c * i),
                    _sigmoid_gradient(o, d_h * tanh_c),
                ]
                d = tf.concat([*parts, _rows(padding, [0, 0], extent)], 1)
                return t - 1, tf.matmul(d, transposed)[:, :units], d_c * f, d_gates.write(t, d)

            none = d_last_h[: 0 * plan.steps]
            _, d_h, d_c, d_gates = _while(
                lambda t, *_: t >= 0, back, (plan.steps - 1, none, none, _steps(plan, inputs.dtype, wide_bias.shape[0]))
            )
            d = d_gates.concat()
            before_h = tf.gather(states_h, plan.before)
            return (
                _unpacked(tf.matmul(d, wide_kernel, transpose_b=True), plan, inputs),
                tf.matmul(tokens, d, transpose_a=True)[:, : 4 * units],
                tf.matmul(before_h, d, transpose_a=True)[:, : 4 * units],
                tf.reduce_sum(d, 0)[: 4 * units],
                tf.gather(_grown(d_h, d_last_h, tf.shape(h)), plan.places),
                tf.gather(_grown(d_c, d_last_c, tf.shape(h)), plan.places),
            )

        outputs = _unpacked(packed_h, plan, inputs)
        return (outputs, tf.gather(states_h, plan.last), tf.gather(states_c, plan.last)), gradients

    outputs, h, c = _run(run, gradient)(inputs, kernel, recurrent_kernel, bias, *state)
    return outputs, (h, c)


def gru(
    inputs: tf.Tensor, lengths: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, state: State, *,
    reverse: bool, gradient: bool,
) -> tuple[tf.Tensor, State]:  # fmt: skip
    """The equations of `recurrent.GRU` with its reset gate; `bias [2, 3 · units]`. Otherwise as `lstm`; the state is (h,)."""
    units = recurrent_kernel.shape[0]

    def run(inputs: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor) -> Any:
        plan = pack(lengths, inputs, reverse=reverse)
        tokens = _packed(inputs, plan)
        wide_kernel, wide_recurrent, wide_bias = map(_wide, (kernel, recurrent_kernel, bias))
        projected = tf.nn.bias_add(tf.matmul(tokens, wide_kernel), wide_bias[0])
        first = tf.gather(h, plan.order)
        kept = [_steps(plan, inputs.dtype, units) for _ in range(5 if gradient else 1)]

        def step(t: tf.Tensor, h: tf.Tensor, *kept: tf.TensorArray) -> tuple[Any, ...]:
            begin, extent = tf.gather(plan.begins, t), tf.gather(plan.extents, t)
            before = _rows(h, [0, 0], extent)
            x = _rows(projected, begin, extent)
            recurrent = tf.nn.bias_add(tf.matmul(before, wide_recurrent), wide_bias[1])
            z, r, n, *_ = _split(x, units)
            recurrent_z, recurrent_r, recurrent_n, *_ = _split(recurrent, units)
            z, r = tf.sigmoid(z + recurrent_z), tf.sigmoid(r + recurrent_r)
            n = tf.tanh(n + r * recurrent_n)
            h = n + z * (before - n)
            return (t + 1, h, *_written(kept, t, (h, z, r, n, recurrent_n)))

        _, _, h_s, *rest = _while(lambda t, *_: t < plan.steps, step, (0, first, *kept))
        packed_h = h_s.concat()
        states = tf.concat([first, packed_h], 0)

        def gradients(d_outputs: tf.Tensor, d_last: tf.Tensor) -> tuple[tf.Tensor, ...]:
            d_packed = _packed(d_outputs, plan)
            d_last = tf.gather(d_last, plan.order)
            transposed = _wide(tf.transpose(wide_recurrent))
            padding = tf.zeros([tf.shape(h)[0], wide_kernel.shape[1] - 3 * units], inputs.dtype)
            before = tf.gather(states, plan.before)
            before_s = _steps(plan, inputs.dtype, units).split(before, plan.extents[: plan.steps, 0])

            def back(t: tf.Tensor, d_h: tf.Tensor, d_x: tf.TensorArray, d_recurrent: tf.TensorArray) -> tuple[Any, ...]:
                begin, extent = tf.gather(plan.begins, t), tf.gather(plan.extents, t)
                z, r, n, recurrent_n, before = (steps.read(t) for steps in (*rest, before_s))
                d_h = _grown(d_h, d_last, extent) + _rows(d_packed, begin, extent)
                d_n = _tanh_gradient(n, d_h - d_h * z)
                d_zr = tf.concat([_sigmoid_gradient(z, d_h * (before - n)), _sigmoid_gradient(r, d_n * recurrent_n)], 1)
                none = _rows(padding, [0, 0], extent)
                d = tf.concat([d_zr, d_n * r, none], 1)
                d_x = d_x.write(t, tf.concat([d_zr, d_n, none], 1))
                return t - 1, tf.matmul(d, transposed)[:, :units] + d_h * z, d_x, d_recurrent.write(t, d)

            none = d_last[: 0 * plan.steps]
            d_x_s, d_recurrent_s = (_steps(plan, inputs.dtype, wide_kernel.shape[1]) for _ in range(2))
            _, d_h, d_x_s, d_recurrent_s = _while(lambda t, *_: t >= 0, back, (plan.steps - 1, none, d_x_s, d_recurrent_s))
            d_x, d_recurrent = d_x_s.concat(), d_recurrent_s.concat()
            d_bias = tf.stack([tf.reduce_sum(d_x, 0), tf.reduce_sum(d_recurrent, 0)])
            return (
                _unpacked(tf.matmul(d_x, wide_kernel, transpose_b=True), plan, inputs),
                tf.matmul(tokens, d_x, transpose_a=True)[:, : 3 * units],
                tf.matmul(before, d_recurrent, transpose_a=True)[:, : 3 * units],
                d_bias[:, : 3 * units],
                tf.gather(_grown(d_h, d_last, tf.shape(h)), plan.places),
            )

        return (_unpacked(packed_h, plan, inputs), tf.gather(states, plan.last)), gradients

    outputs, h = _run(run, gradient)(inputs, kernel, recurrent_kernel, bias, *state)
    return outputs, (h,)


def min_gru(
    inputs: tf.Tensor, lengths: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, state: State, *, reverse: bool
) -> tuple[tf.Tensor, State]:  # fmt: skip
    """The equations of `recurrent.MinGRU`; of the matrix products, none is left to the steps. Otherwise as `lstm`; the state is (h,)."""
    units = kernel.shape[-1] // 2

    @tf.custom_gradient
    def run(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor) -> Any:
        plan = pack(lengths, inputs, reverse=reverse)
        tokens = _packed(inputs, plan)
        wide_kernel, wide_bias = _wide(kernel), _wide(bias)
        z, n, *_ = _split(tf.nn.bias_add(tf.matmul(tokens, wide_kernel), wide_bias), units)
        z = tf.sigmoid(z)
        keep, new = 1 - z, z * n
        first = tf.gather(h, plan.order)

        def step(t: tf.Tensor, h: tf.Tensor, h_s: tf.TensorArray) -> tuple[Any, ...]:
            begin, extent = tf.gather(plan.begins, t), tf.gather(plan.extents, t)
            h = _rows(keep, begin, extent) * _rows(h, [0, 0], extent) + _rows(new, begin, extent)
            return t + 1, h, h_s.write(t, h)

        _, _, h_s = _while(lambda t, *_: t < plan.steps, step, (0, first, _steps(plan, inputs.dtype, units)))
        packed_h = h_s.concat()
        states = tf.concat([first, packed_h], 0)

        def gradients(d_outputs: tf.Tensor, d_last: tf.Tensor) -> tuple[tf.Tensor, ...]:
            d_packed = _packed(d_outputs, plan)
            d_last = tf.gather(d_last, plan.order)

            def back(t: tf.Tensor, d_h: tf.Tensor, d_s: tf.TensorArray) -> tuple[Any, ...]:
                begin, extent = tf.gather(plan.begins, t), tf.gather(plan.extents, t)
                d_h = _grown(d_h, d_last, extent) + _rows(d_packed, begin, extent)
                return t - 1, d_h * _rows(keep, begin, extent), d_s.write(t, d_h)

            none = d_last[: 0 * plan.steps]
            _, d_h, d_s = _while(lambda t, *_: t >= 0, back, (plan.steps - 1, none, _steps(plan, inputs.dtype, units)))
            d_h_s = d_s.concat()
            d_z = _sigmoid_gradient(z, d_h_s * (n - tf.gather(states, plan.before)))
            padding = tf.zeros([tf.shape(tokens)[0], wide_bias.shape[0] - 2 * units], inputs.dtype)
            d = tf.concat([d_z, d_h_s * z, padding], 1)
            return (
                _unpacked(tf.matmul(d, wide_kernel, transpose_b=True), plan, inputs),
                tf.matmul(tokens, d, transpose_a=True)[:, : 2 * units],
                tf.reduce_sum(d, 0)[: 2 * units],
                tf.gather(_grown(d_h, d_last, tf.shape(h)), plan.places),
            )

        return (_unpacked(packed_h, plan, inputs), tf.gather(states, plan.last)), gradients

    outputs, h = run(inputs, kernel, bias, *state)
    return outputs, (h,)


def _packed(padded: tf.Tensor, plan: Packing) -> tf.Tensor:
    """`[batch, time, features]` or `[tokens, features]` → `[tokens, features]`, packed."""
    return tf.gather(tf.reshape(padded, [-1, padded.shape[-1]]), plan.tokens)


def _unpacked(packed: tf.Tensor, plan: Packing, like: tf.Tensor) -> tf.Tensor:
    """Packed `[tokens, features]` → laid out as `like`; where that is `[batch, time, …]`, zero where no token is."""
    if like.shape.rank == 2:
        return tf.gather(packed, tf.math.invert_permutation(plan.tokens))
    rows, time, features = tf.shape(like)[0], tf.shape(like)[1], packed.shape[-1]
    flat = tf.gather(tf.pad(packed, [[0, 1], [0, 0]]), plan.padded)  # in a third of the time that a scatter takes
    return tf.ensure_shape(tf.reshape(flat, [rows, time, features]), [like.shape[0], like.shape[1], features])


def _while(condition: Callable[..., tf.Tensor], body: Callable[..., tuple[Any, ...]], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A loop over (step, states of a number of rows that changes with the steps, values kept for each step)."""
    ranks = [getattr(getattr(value, "shape", None), "rank", None) for value in values]
    shapes = [tf.TensorShape([None, values[k].shape[-1]]) if rank == 2 else None for k, rank in enumerate(ranks)]
    return tf.while_loop(condition, body, values, shape_invariants=tuple(shapes))


def _run(function: Callable[..., Any], gradient: bool) -> Callable[..., Any]:
    """A function that returns (values, their gradients' function), ready to be called for the values."""
    return tf.custom_gradient(function) if gradient else lambda *inputs: function(*inputs)[0]


def _written(kept: Sequence[tf.TensorArray], t: tf.Tensor, values: Sequence[tf.Tensor]) -> list[tf.TensorArray]:
    """The first of the values of a step, each in its array."""
    return [steps.write(t, value) for steps, value in zip(kept, values, strict=False)]


def _steps(plan: Packing, dtype: tf.DType, features: int) -> tf.TensorArray:
    """One value a step, `[running rows, features]`."""
    return tf.TensorArray(dtype, plan.steps, element_shape=[None, features], infer_shape=False, clear_after_read=False)


def _rows(values: tf.Tensor, begin: Any, extent: tf.Tensor) -> tf.Tensor:
    """Rows of one step; no copy where rows begin at a multiple of 64 bytes."""
    part = tf.slice(values, begin, extent)
    part.set_shape([None, values.shape[-1]])
    return part


def _grown(running: tf.Tensor, last: tf.Tensor, extent: tf.Tensor) -> tf.Tensor:
    """Gradients of the rows that run on after a step, followed by those of the rows that end with it."""
    rows = tf.shape(running)[0]
    ending = tf.slice(last, [rows, 0], [extent[0] - rows, -1])
    grown = tf.concat([running, ending], 0)
    grown.set_shape([None, last.shape[-1]])
    return grown


def _tanh_gradient(y: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.TanhGrad(y=y, dy=dy)


def _sigmoid_gradient(y: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.SigmoidGrad(y=y, dy=dy)


def _wide(weights: tf.Tensor) -> tf.Tensor:
    """Adds 16 zero columns where the rows of a matrix lie a whole number of KiB apart: such rows fall into few sets of the cache, and a
    matrix product takes up to twice as long."""
    if weights.shape[-1] % 256:
        return weights
    return tf.pad(weights, [*([0, 0] for _ in weights.shape[:-1]), [0, 16]])


def _split(gates: tf.Tensor, units: int) -> list[tf.Tensor]:
    """The gates, and what `_wide` added."""
    count, rest = divmod(gates.shape[-1], units)
    return tf.split(gates, [units] * count + [rest] * bool(rest), 1)
