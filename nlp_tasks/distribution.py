"""Devices by name; the batch in shards; sums over all of them. The same weights on one device as on many."""

from __future__ import annotations

import faulthandler
import functools
import math
import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
import tensorflow as tf

from nlp_tasks import machine
from nlp_tasks.crew import SHORTEST_SILENCE, Crew, cluster
from nlp_tasks.errors import UserError

NAMES = ("auto", "cpu", "gpu", "mirrored", "multi_worker")
PIECE = 1 << 20
"""Gradients are sent by the megabyte, small ones together, large ones in pieces: gRPC stalls on messages of many megabytes, and where a
thread is free, the first ones are sent while the last ones are computed."""


def strategy(name: str) -> tf.distribute.Strategy:
    """The strategy that `--strategy` names.

    auto: all GPUs of this machine, else the CPU; multi_worker where TF_CONFIG is set. mirrored: all GPUs, else all (virtual) CPU
    devices. The default strategy stands for one CPU. The workers of multi_worker have met before (`crew_of`): here they only connect.

    Raises:
        UserError: gpu without a GPU.
    """
    if name == "auto" and os.environ.get("TF_CONFIG"):
        name = "multi_worker"
    if name == "multi_worker":
        return _multi_worker()  # before any device is asked for: TensorFlow then refuses
    gpus = tf.config.list_logical_devices("GPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "gpu" if gpus else "cpu"
    if name == "gpu" and not gpus:
        raise UserError(
            "--strategy gpu: TensorFlow sees no GPU here", "use --strategy cpu, or install tensorflow[and-cuda] with its driver"
        )
    if name == "cpu":
        return tf.distribute.OneDeviceStrategy("/cpu:0") if gpus else tf.distribute.get_strategy()
    if name == "gpu":
        return tf.distribute.OneDeviceStrategy(gpus[0].name)
    devices = gpus or tf.config.list_logical_devices("CPU")
    return _mirrored(*(device.name for device in devices))


# One of each a process: a second one would number its sums over the devices as the first one did.
@functools.cache
def _mirrored(*devices: str) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(devices)


@functools.cache
def _multi_worker() -> tf.distribute.Strategy:
    """TensorFlow waits an hour for a worker that is lost meanwhile, and lets no other thread run: a clock ends the process before."""
    faulthandler.dump_traceback_later(deadline() + 10, exit=True)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        faulthandler.cancel_dump_traceback_later()
        if threading.current_thread() is threading.main_thread():  # TensorFlow takes SIGTERM, and then only notes it
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def crew_of(name: str) -> Crew:
    """Who trains under the strategy that `--strategy` names; they have not met yet.

    Raises:
        UserError: multi_worker without TF_CONFIG, or with one that makes no sense.
    """
    config = os.environ.get("TF_CONFIG", "")
    if name != "multi_worker" and not (name == "auto" and config):
        return Crew()
    if not config:
        raise UserError("--strategy multi_worker: TF_CONFIG is not set",
                        "set it on each worker, or let `nlp-tasks launch --workers N` do it on this machine")  # fmt: skip
    return Crew(cluster(config), _seconds("NLP_TASKS_SILENCE", 30.0, SHORTEST_SILENCE))


def deadline() -> float:
    """Seconds that workers wait for each other as they begin."""
    return _seconds("NLP_TASKS_DEADLINE", 300.0)


def _seconds(variable: str, default: float, least: float = 0.0) -> float:
    text = os.environ.get(variable, "")
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UserError(f"{variable}={text}: not a number of seconds", f"e.g. {variable}={default:g}")
    if seconds < least:
        raise UserError(f"{variable}={text}: at least {least:g} seconds", f"e.g. {variable}={default:g}")
    return seconds


def scope(strategy: tf.distribute.Strategy) -> AbstractContextManager[Any]:
    """Where a model and its optimizer are built.

    Every replica makes the same update from the same summed gradient, so assignments need no reduction of their own: variables
    get the aggregation ONLY_FIRST_REPLICA. And `tf.gather` of rows reads these rows alone: without help it copies the whole table of
    a distributed variable that is written by rows.
    """

    with tf.init_scope():
        plain = type(tf.Variable(0))

    def creator(following: Callable[..., tf.Variable], **arguments: Any) -> tf.Variable:
        dtype = getattr(arguments["initial_value"], "dtype", None)
        if dtype is not None and tf.as_dtype(dtype) == tf.uint8:  # a table: nothing changes it, and workers cannot send its type
            return plain(arguments["initial_value"], trainable=False, name=arguments.get("name"))
        arguments["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
        made = following(**arguments)

        made.sparse_read = lambda ids, name=None: own_copy(made).sparse_read(ids, name=name)
        return made

    stack = ExitStack()
    stack.enter_context(strategy.scope())
    if strategy.num_replicas_in_sync > 1:
        stack.enter_context(tf.variable_creator_scope(creator))
    return stack


def own_copy(variable: tf.Variable) -> tf.Variable:
    """The copy that the present replica has of a variable; the first one outside of replicas."""
    copies, context = getattr(variable, "values", (variable,)), tf.distribute.get_replica_context()
    number = tf.get_static_value(context.replica_id_in_sync_group) if context else 0
    return copies[number % len(copies)]


def shard(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """Deals the rows of a nest of arrays out to the replicas in turn, and gives this machine its own.

    All parts have the same number of rows; the last ones are filled up by a row of zeros (`weight` 0), and may hold nothing else. The
    field `row` keeps numbering the rows of the whole batch. In turn, since rows are often sorted by length: all have the same work.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return tf.nest.map_structure(tf.convert_to_tensor, batch)

    def part(number: int) -> Any:
        def take(array: np.ndarray) -> tf.Tensor:
            array = np.asarray(array)
            taken = array[number::replicas]
            short = -(-len(array) // replicas) - len(taken)
            return tf.convert_to_tensor(np.pad(taken, [(0, short)] + [(0, 0)] * (taken.ndim - 1)) if short else taken)

        return tf.nest.map_structure(take, batch)

    if len(strategy.extended.worker_devices) == 1:  # its part as it is: a call of values for replicas takes milliseconds
        return part(_first_replica(strategy))
    return strategy.experimental_distribute_values_from_function(lambda context: part(context.replica_id_in_sync_group))


def gather(strategy: tf.distribute.Strategy, nest: Any, rows: int) -> Any:
    """The inverse of `shard` for what each replica returned: arrays of `rows` rows, those of other machines zero (see `collect`)."""
    replicas = strategy.num_replicas_in_sync
    first = _first_replica(strategy)

    def join(value: Any) -> np.ndarray:
        local = [part.numpy() for part in strategy.experimental_local_results(value)]
        whole = np.zeros((replicas * len(local[0]), *local[0].shape[1:]), local[0].dtype)
        for number, part in enumerate(local, first):
            whole[number::replicas] = part
        return whole[:rows]

    if replicas == 1:
        return tf.nest.map_structure(lambda value: value.numpy()[:rows], nest)
    return tf.nest.map_structure(join, nest)


def collect(strategy: tf.distribute.Strategy, nest: Any) -> Any:
    """The rows of all machines, on each of them: what `gather` left, added up. All machines call it."""
    flat = tf.nest.flatten(nest)
    if not flat or not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return nest
    first = _first_replica(strategy)

    def own(context: tf.distribute.experimental.ValueContext) -> list[tf.Tensor]:
        mine = context.replica_id_in_sync_group == first  # the replicas of one machine hold the same arrays
        return [tf.convert_to_tensor(array if mine else np.zeros_like(array)) for array in flat]

    added = _adding(strategy)(strategy.experimental_distribute_values_from_function(own))
    return tf.nest.pack_sequence_as(nest, [strategy.experimental_local_results(value)[0].numpy() for value in added])


@functools.cache
def _adding(strategy: tf.distribute.Strategy) -> Callable[..., Any]:
    def replica(values: list[tf.Tensor]) -> list[tf.Tensor]:
        return all_sum([tf.identity(value) for value in values])  # an argument is on no device, and cannot be summed

    return tf.function(lambda values: strategy.run(replica, args=(values,)), autograph=False, reduce_retracing=True)


@functools.cache
def _first_replica(strategy: tf.distribute.Strategy) -> int:
    """The number, among all replicas, of this machine's first one."""
    numbers = strategy.experimental_distribute_values_from_function(lambda context: context.replica_id_in_sync_group)
    return min(int(number) for number in strategy.experimental_local_results(numbers))


def parts(strategy: tf.distribute.Strategy) -> int:
    """Into how many parts a replica cuts its batch: all cores of a CPU work, each on rows of its own. One on a GPU."""
    if tf.config.list_logical_devices("GPU"):
        return 1
    return max(1, machine.parts() // (strategy.num_replicas_in_sync // machines(strategy)))


def machines(strategy: tf.distribute.Strategy) -> int:
    """How many workers train together."""
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return len(cluster(os.environ["TF_CONFIG"]).addresses) if several else 1


def cut(nest: Any, parts: int) -> list[Any]:
    """Every `parts`-th row of a nest of tensors for each part; parts are equally large, the last ones filled up by zero rows."""
    if parts == 1:
        return [nest]

    def dealt(tensor: tf.Tensor) -> tf.Tensor:
        rows = tf.shape(tensor)[0]
        padded = tf.pad(tensor, [[0, -rows % parts]] + [[0, 0]] * (tensor.shape.rank - 1))
        return tf.reshape(padded, tf.concat([[-1, parts], tf.shape(tensor)[1:]], 0))

    hands = tf.nest.map_structure(dealt, nest)

    def part(number: int) -> Any:
        return tf.nest.map_structure(lambda hand, whole: tf.ensure_shape(hand[:, number], [None, *whole.shape[1:]]), hands, nest)

    return [part(number) for number in range(parts)]


def join(nests: list[Any], rows: tf.Tensor) -> Any:
    """The inverse of `cut` for what was computed of each part: tensors of `rows` rows."""
    if len(nests) == 1:
        return nests[0]

    def gathered(*hands: tf.Tensor) -> tf.Tensor:
        joined = tf.reshape(tf.stack(hands, 1), tf.concat([[-1], tf.shape(hands[0])[1:]], 0))
        return tf.ensure_shape(joined[:rows], [None, *hands[0].shape[1:]])

    return tf.nest.map_structure(gathered, *nests)


def all_sum(values: Any) -> Any:
    """Sums a nest of tensors over all replicas, in replica context; sparse gradients stay sparse."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    flat = tf.nest.flatten(values)
    sparse = [index for index, value in enumerate(flat) if isinstance(value, tf.IndexedSlices)]
    if sparse:
        own = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync)[:, None]
        flat.append(own * tf.stack([tf.cast(tf.size(flat[index].indices), tf.float32) for index in sparse]))
    alike: dict[tf.DType, list[int]] = {}  # TensorFlow joins the tensors of a call to packs
    for index, value in enumerate(flat):
        if index not in sparse:
            alike.setdefault(value.dtype, []).append(index)
    for indices in alike.values():
        cut = {index: _pieces(flat[index]) for index in indices}
        options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=PIECE)
        sent = [piece for pieces in cut.values() for piece in pieces]
        summed = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, sent, options=options))
        for index, pieces in cut.items():
            flat[index] = _joined([next(summed) for _ in pieces], flat[index].shape)
    if sparse:
        sizes = tf.cast(flat.pop(), tf.int32)
        for index, value in zip(sparse, _gathered([flat[index] for index in sparse], sizes), strict=True):
            flat[index] = value
    return tf.nest.pack_sequence_as(values, flat)


def _pieces(value: tf.Tensor) -> list[tf.Tensor]:
    """A large tensor in pieces."""
    elements, most = value.shape.num_elements(), PIECE // value.dtype.size
    if not elements or elements <= most:
        return [value]
    sizes = [most] * (elements // most) + [elements % most] * bool(elements % most)
    return tf.split(tf.reshape(value, [-1]), sizes)


def _joined(pieces: list[tf.Tensor], shape: tf.TensorShape) -> tf.Tensor:
    """The inverse of `_pieces`."""
    return pieces[0] if len(pieces) == 1 else tf.reshape(tf.concat(pieces, 0), shape)


def _gathered(slices: list[tf.IndexedSlices], sizes: tf.Tensor) -> list[tf.IndexedSlices]:
    """The rows of all replicas one after another: one message, where TensorFlow sends three for each of the slices.

    Args:
        slices: indices and values of 4 or 8 bytes.
        sizes: `<int32>[replicas, slices]`: rows that each replica has of each.
    """
    tensors = [tensor for value in slices for tensor in (value.indices, value.values)]
    context, count = tf.distribute.get_replica_context(), len(tensors)
    sent = [tf.reshape(tf.bitcast(tensor, tf.float32), [-1]) for tensor in tensors]  # bits that are only moved
    widths = [math.prod(tensor.shape[1:]) * tensor.dtype.size // 4 for tensor in tensors]
    lengths = tf.reshape(tf.repeat(sizes, 2, axis=1) * tf.constant(widths), [-1])
    pieces = tf.split(context.all_gather(tf.concat(sent, 0), 0), lengths, num=context.num_replicas_in_sync * count)

    def received(number: int) -> tf.Tensor:
        tensor = tensors[number]
        pair = [2] if tensor.dtype.size == 8 else []
        return tf.bitcast(tf.reshape(tf.concat(pieces[number::count], 0), [-1, *tensor.shape[1:], *pair]), tensor.dtype)

    return [tf.IndexedSlices(received(2 * i + 1), received(2 * i), value.dense_shape) for i, value in enumerate(slices)]


def timed_sum(values: Any) -> tuple[Any, tf.Tensor]:
    """`all_sum`, and the seconds `<float64>[]` that it took after all values were there: to move what is left, and to wait for the last
    replica. What is there early is sent while the rest is computed."""
    if tf.distribute.get_replica_context().num_replicas_in_sync == 1:
        return values, tf.zeros([], tf.float64)

    def clock(nest: Any) -> tf.Tensor:
        with tf.control_dependencies(tf.nest.flatten(nest, expand_composites=True)):
            return tf.timestamp()

    # Their own identities: a control dependency on what a function gives waits for its side effects alone.
    values = tf.nest.map_structure(tf.identity, values, expand_composites=True)
    begun = clock(values)
    summed = all_sum(values)
    return summed, clock(summed) - begun


def check_precision(precision: str) -> None:
    """Refuses bfloat16 where neither a GPU nor the CPU has a unit for it: it is many times slower there."""
    if precision != "mixed_bfloat16" or tf.config.list_physical_devices("GPU"):
        return
    flags = machine.cpu_flags()
    if not {"avx512_bf16", "amx_bf16"} & flags:
        raise UserError("training.precision = 'mixed_bfloat16': this CPU has no bfloat16 unit (avx512_bf16, amx_bf16)",
                        "use training.precision = \"float32\"; bfloat16 would be many times slower here")  # fmt: skip
