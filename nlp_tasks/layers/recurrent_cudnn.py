"""The path of LSTM and GRU on a GPU: one cuDNN call for all time steps. Weights are packed as cuDNN wants them, and unpacked in no place:
the gradient flows back through the packing.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

State = tuple[tf.Tensor, ...]


def lstm(
    inputs: tf.Tensor, lengths: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, state: State, *, reverse: bool
) -> tuple[tf.Tensor, State]:  # fmt: skip
    """As `recurrent_packed.lstm`. cuDNN's gates are in our order: i, f, g, o."""
    parameters = packed_weights(kernel, recurrent_kernel, tf.stack([bias, tf.zeros_like(bias)]), (0, 1, 2, 3))
    return _run("lstm", inputs, lengths, parameters, state, reverse)


def gru(
    inputs: tf.Tensor, lengths: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, state: State, *, reverse: bool
) -> tuple[tf.Tensor, State]:  # fmt: skip
    """As `recurrent_packed.gru`. cuDNN has the reset gate first: r, z, n."""
    return _run("gru", inputs, lengths, packed_weights(kernel, recurrent_kernel, bias, (1, 0, 2)), state, reverse)


def packed_weights(kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, order: Sequence[int]) -> tf.Tensor:
    """cuDNN's flat weights: each gate's W transposed, then each gate's U transposed, then the biases of both.

    Args:
        kernel, recurrent_kernel: `<float>[features, gates · units]`, `<float>[units, gates · units]`.
        bias: `<float>[2, gates · units]`, added to the input's and to the state's product.
        order: cuDNN's gates, as numbers of ours.
    """
    gates = len(order)
    flat = []
    for matrix in (kernel, recurrent_kernel):
        parts = tf.split(matrix, gates, -1)
        flat += [tf.reshape(tf.transpose(parts[gate]), [-1]) for gate in order]
    for vector in tf.unstack(bias):
        parts = tf.split(vector, gates, -1)
        flat += [parts[gate] for gate in order]
    return tf.concat(flat, 0)


def _run(
    mode: str, inputs: tf.Tensor, lengths: tf.Tensor, parameters: tf.Tensor, state: State, reverse: bool
) -> tuple[tf.Tensor, State]:
    """cuDNN reads lengths ≥ 1: rows of length 0 read one token, and what comes of it is thrown away."""
    if reverse:
        inputs = tf.reverse_sequence(inputs, lengths, seq_axis=1)
    outputs, h, c, _, _ = tf.raw_ops.CudnnRNNV3(
        input=tf.transpose(inputs, [1, 0, 2]),
        input_h=state[0][None],
        input_c=state[1][None] if mode == "lstm" else tf.zeros([], inputs.dtype),
        params=parameters,
        sequence_lengths=tf.maximum(lengths, 1),
        rnn_mode=mode,
        is_training=True,
        time_major=True,
    )
    read = tf.sequence_mask(lengths, tf.shape(inputs)[1])[:, :, None]
    outputs = tf.ensure_shape(tf.transpose(outputs, [1, 0, 2]), [None, None, state[0].shape[-1]])
    outputs = tf.where(read, outputs, tf.zeros([], inputs.dtype))
    if reverse:
        outputs = tf.reverse_sequence(outputs, lengths, seq_axis=1)
    after = (h, c)[: len(state)]
    any_read = (lengths > 0)[:, None]
    return outputs, tuple(tf.where(any_read, new[0], old) for new, old in zip(after, state, strict=True))
