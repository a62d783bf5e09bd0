"""What does one Adam step on an embedding table cost, by rows touched, against Keras' Adam?

    python benchmarks/optimizers.py

Each batch names 3,200 ids, 2,000 of them distinct, as embedding lookups do; ours sums the duplicates within
the time measured. The two are not the same optimizer: Keras' decays the moments of every row, ours (as
LazyAdam) those of the rows touched. And given slices with duplicates Keras' update is wrong: its time is a
cost, not a result. "Dense" gets the summed gradient ready-made, at no cost. All take turns; medians.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nlp_tasks import optimizers  # before TensorFlow, for which it decides about oneDNN

# isort: split
import keras
import numpy as np
import tensorflow as tf

DEPTH, TOUCHED, NAMED = 300, 2_000, 3_200
REPETITIONS, STEPS = 7, 10
Step = Callable[[], object]


def main() -> None:
    print("\n".join(machine()))
    contenders: dict[str, Step] = {
        "ours, IndexedSlices": ours(50_000, sparse=True),
        "ours, dense gradient": ours(50_000, sparse=False),
        "Keras, IndexedSlices": keras_adam(50_000, sparse=True),
        "Keras, dense gradient": keras_adam(50_000, sparse=False),
        "Keras, dense, compiled (XLA)": keras_adam(50_000, sparse=False, compiled=True),
    }
    report("Adam, table 50,000 × 300, 2,000 rows touched", alternate(contenders))
    contenders.clear()  # the tables of half a million rows need the memory
    sizes = {f"ours, table of {rows:,} rows": ours(rows, sparse=True) for rows in (5_000, 50_000, 500_000)}
    report("Ours, IndexedSlices, 2,000 rows touched of …", alternate(sizes))


def ours(rows: int, *, sparse: bool) -> Step:
    table = tf.Variable(tf.zeros([rows, DEPTH]))
    optimizer = optimizers.Adam([table])
    gradient, rate = gradient_of(rows, sparse=sparse), tf.Variable(1e-3)

    @tf.function
    def step() -> None:
        optimizer.apply([gradient()], rate.read_value())

    return step


def keras_adam(rows: int, *, sparse: bool, compiled: bool = False) -> Step:
    table = keras.Variable(np.zeros([rows, DEPTH], np.float32))
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build([table])
    gradient = gradient_of(rows, sparse=sparse)

    @tf.function(jit_compile=compiled)
    def step() -> None:
        optimizer.apply([gradient()], [table])

    return step


def gradient_of(rows: int, *, sparse: bool) -> Callable[[], tf.Tensor | tf.IndexedSlices]:
    """Reads the same gradient each step, from variables, so that nothing is folded when the graph is made."""
    random = np.random.default_rng(0)
    distinct = random.permutation(rows)[:TOUCHED]
    ids = random.permutation(np.concatenate([distinct, random.choice(distinct, NAMED - TOUCHED)]))
    slices = tf.IndexedSlices(random.normal(size=[NAMED, DEPTH]).astype(np.float32), ids, [rows, DEPTH])
    if sparse:
        values, indices = tf.Variable(slices.values), tf.Variable(slices.indices)
        return lambda: tf.IndexedSlices(values.read_value(), indices.read_value(), [rows, DEPTH])
    dense = tf.Variable(tf.math.unsorted_segment_sum(slices.values, slices.indices, rows))
    return dense.read_value


def alternate(contenders: dict[str, Step]) -> dict[str, tuple[float, float]]:
    """Milliseconds of wall and of CPU time a step, medians over the turns."""
    for step in contenders.values():
        step()  # traced, and compiled
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(REPETITIONS):
        for name, step in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(STEPS):
                step()
            taken = time.perf_counter() - wall, time.process_time() - cpu
            turns[name].append((taken[0] * 1e3 / STEPS, taken[1] * 1e3 / STEPS))
    return {name: tuple(map(statistics.median, zip(*rows, strict=True))) for name, rows in turns.items()}


def report(title: str, milliseconds: dict[str, tuple[float, float]]) -> None:
    first_wall, first_cpu = next(iter(milliseconds.values()))
    print(f"\n{title}\n{'':30} {'wall ms':>9} {'CPU ms':>9} {'ratio':>7} {'(CPU)':>7}")
    for name, (wall, cpu) in milliseconds.items():
        print(f"{name:30} {wall:9.2f} {cpu:9.2f} {wall / first_wall:7.2f} {cpu / first_cpu:7.2f}")


def machine() -> list[str]:
    lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    cpu = {key.strip(): value.strip() for key, value in lines}
    units = sorted(flag for flag in cpu["flags"].split() if flag.startswith(("avx", "amx", "fma")))
    left, right = tf.random.normal([3200, 256]), tf.random.normal([256, 1024])
    (milliseconds, _), *_ = alternate({"": tf.function(lambda: tf.matmul(left, right))}).values()
    rate = 2 * 3200 * 256 * 1024 / milliseconds / 1e6
    return [
        f"{cpu['model name']}, {len(os.sched_getaffinity(0))} cores; {' '.join(units)}",
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}, Python {platform.python_version()}, "
        f"TF_ENABLE_ONEDNN_OPTS={os.environ['TF_ENABLE_ONEDNN_OPTS']}",
        f"matmul 3200×256×1024 float32: {rate:.0f} GFLOP/s; medians of {REPETITIONS} turns of {STEPS} steps",
    ]


if __name__ == "__main__":
    main()
