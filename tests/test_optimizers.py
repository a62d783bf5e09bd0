from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks.errors import UserError
from nlp_tasks.optimizers import (
    AdamW,
    Optimizer,
    UniqueSlices,
    clip_by_global_norm,
    deduplicate,
    make,
    schedule,
)

Array = np.ndarray
RATES = [0.3, 0.1, 0.2, 0.05]
ROWS, DEPTH = 7, 3


# The papers' equations in numpy: rule(weights, gradient, state, rate, t) → weights; the state changes too.
def sgd(w: Array, g: Array, s: dict[str, Array], rate: float, t: int) -> Array:
    return w - rate * g


def momentum(w: Array, g: Array, s: dict[str, Array], rate: float, t: int) -> Array:
    s["u"] = 0.9 * s.get("u", 0.0) + g
    return w - rate * s["u"]


def adam(w: Array, g: Array, s: dict[str, Array], rate: float, t: int) -> Array:
    s["m"] = 0.8 * s.get("m", 0.0) + 0.2 * g
    s["v"] = 0.97 * s.get("v", 0.0) + 0.03 * g**2
    return w - rate * (s["m"] / (1 - 0.8**t)) / (np.sqrt(s["v"] / (1 - 0.97**t)) + 1e-2)


def adamw(w: Array, g: Array, s: dict[str, Array], rate: float, t: int) -> Array:
    return adam(w, g, s, rate, t) - rate * 0.1 * w


def adagrad(w: Array, g: Array, s: dict[str, Array], rate: float, t: int) -> Array:
    s["sum"] = s.get("sum", 0.5) + g**2
    return w - rate * g / (np.sqrt(s["sum"]) + 1e-2)


ADAM = {"beta_1": 0.8, "beta_2": 0.97, "epsilon": 1e-2}
RULES = pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("sgd", {}, sgd),
        ("sgd", {"momentum": 0.9}, momentum),
        ("adam", ADAM, adam),
        ("adamw", ADAM | {"weight_decay": 0.1}, adamw),
        ("adagrad", {"start": 0.5, "epsilon": 1e-2}, adagrad),
    ],
    ids=["sgd", "momentum", "adam", "adamw", "adagrad"],
)


def table(dtype: tf.DType = tf.float64) -> tf.Variable:
    return tf.Variable(np.linspace(-1.0, 2.0, ROWS * DEPTH).reshape(ROWS, DEPTH), dtype=dtype)


def sliced(values: Array, rows: Sequence[int]) -> tf.IndexedSlices:
    return tf.IndexedSlices(tf.constant(values), tf.constant(rows, tf.int64), tf.constant([ROWS, DEPTH]))


def gradients_of(seed: int, rows: int = ROWS) -> list[Array]:
    return list(np.random.default_rng(seed).normal(size=[len(RATES), rows, DEPTH]))


def train(optimizer: Optimizer, gradients: Sequence[tf.Tensor | tf.IndexedSlices]) -> None:
    """One step for each gradient of the one variable, in a graph."""
    step = tf.function(lambda gradient, rate: optimizer.apply([gradient], rate), reduce_retracing=True)
    for gradient, rate in zip(gradients, RATES, strict=True):
        step(gradient, tf.constant(rate, tf.float64))


@RULES
def test_dense_steps_follow_the_paper(name: str, options: dict[str, float], rule: Callable) -> None:
    variable, state = table(), {}
    expected, gradients = variable.numpy(), gradients_of(seed=1)
    train(make(name, [variable], **options), [tf.constant(g) for g in gradients])
    for t, (gradient, rate) in enumerate(zip(gradients, RATES, strict=True), start=1):
        expected = rule(expected, gradient, state, rate, t)
    np.testing.assert_allclose(variable, expected, rtol=1e-12)


@RULES
def test_sparse_steps_are_lazy_and_sum_duplicates(name: str, options: dict[str, float], rule: Callable) -> None:
    ids = [[5, 2, 5], [2, 0, 0], [5, 5, 5], [0, 5, 2]]  # rows 1, 3, 4 and 6 never
    variable, gradients = table(), gradients_of(seed=2, rows=3)
    expected, states = variable.numpy(), [{} for _ in range(ROWS)]
    optimizer = make(name, [variable], **options)
    before = {key: value.numpy() for key, value in optimizer.variables.items() if value.shape.rank}
    train(optimizer, [sliced(g, rows) for g, rows in zip(gradients, ids, strict=True)])
    for t, (gradient, rows, rate) in enumerate(zip(gradients, ids, RATES, strict=True), start=1):
        for row in set(rows):
            summed = sum(value for value, of in zip(gradient, rows, strict=True) if of == row)
            expected[row] = rule(expected[row], summed, states[row], rate, t)
    np.testing.assert_allclose(variable, expected, rtol=1e-12)
    for key, value in before.items():
        np.testing.assert_array_equal(optimizer.variables[key].numpy()[[1, 3, 4, 6]], value[[1, 3, 4, 6]])


@RULES
def test_sparse_is_dense_when_all_rows_are_touched(name: str, options: dict[str, float], rule: Callable) -> None:
    dense, sparse, gradients = table(tf.float32), table(tf.float32), gradients_of(seed=3)
    order = np.random.default_rng(4).permutation(ROWS)
    train(make(name, [dense], **options), [tf.constant(g, tf.float32) for g in gradients])
    train(make(name, [sparse], **options), [sliced(np.float32(g[order]), order) for g in gradients])
    np.testing.assert_allclose(sparse, dense, rtol=1e-6)


def test_a_sparse_step_makes_no_tensor_of_the_size_of_the_vocabulary() -> None:
    variable = tf.Variable(tf.zeros([ROWS, DEPTH]))
    optimizer = AdamW([variable])

    @tf.function
    def step(values: tf.Tensor, rows: tf.Tensor) -> None:
        gradients, _ = clip_by_global_norm([tf.IndexedSlices(values, rows, [ROWS, DEPTH])], 1.0)
        optimizer.apply(gradients, tf.constant(0.1))

    values, rows = tf.TensorSpec([None, DEPTH], tf.float32), tf.TensorSpec([None], tf.int64)
    graph = step.get_concrete_function(values, rows).graph
    made = [output for operation in graph.get_operations() for output in operation.outputs]
    assert "ReadVariableOp" in {t.op.type for t in made}  # the step counter; a table would show below
    assert [t for t in made if t.shape.rank and t.shape[0] == ROWS] == []


def test_no_gradient_leaves_the_variable_and_an_empty_one_changes_nothing() -> None:
    first, second = table(), table()
    optimizer = AdamW([first, second])
    optimizer.apply([None, sliced(np.zeros([0, DEPTH]), [])], 0.1)
    np.testing.assert_array_equal(first, table())
    np.testing.assert_array_equal(second, table())
    assert optimizer.variables["adamw/step"].numpy() == 1


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad"])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_delayed_variable_stays_as_it_is_so_long(name: str, sparse: bool) -> None:
    """Then it steps as one whose slots have taken in what came before; the other one never waits."""
    early, late = table(), table()
    optimizer = make(name, [early, late], delays=[0, 2])
    before, steps = late.numpy(), []
    for gradient in gradients_of(3):
        given = sliced(gradient, range(ROWS)) if sparse else tf.constant(gradient)
        last = [early.numpy(), late.numpy()]
        optimizer.apply([given, given], tf.constant(0.1))
        steps.append([early.numpy() - last[0], late.numpy() - last[1]])
    for number, (one, other) in enumerate(steps, 1):
        assert one.any()
        assert number > 2 or not other.any()
    assert (late.numpy() != before).any()
    if name != "adamw":  # whose decay depends on the weights
        for one, other in steps[2:]:
            np.testing.assert_allclose(one, other, rtol=1e-12)


def test_multipliers_and_decay_mask_are_per_variable() -> None:
    weights, bias = tf.Variable([2.0, -4.0]), tf.Variable([2.0, -4.0])
    optimizer = AdamW([weights, bias], weight_decay=0.5, multipliers=[2.0, 1.0], decay_mask=[True, False])
    optimizer.apply([tf.zeros([2]), tf.zeros([2])], tf.constant(0.1))
    np.testing.assert_allclose(weights, [1.8, -3.6], rtol=1e-6)  # θ - 2 · 0.1 · 0.5 θ
    np.testing.assert_array_equal(bias, [2.0, -4.0])


def test_slots_of_narrow_variables_are_float32() -> None:
    variable = tf.Variable(tf.ones([2], tf.bfloat16))
    optimizer = make("adam", [variable])
    optimizer.apply([tf.ones([2], tf.bfloat16)], tf.constant(0.5))
    assert optimizer.variables["adam/m/0"].dtype == tf.float32
    np.testing.assert_array_equal(tf.cast(variable, tf.float32), [0.5, 0.5])


def test_state_by_name_is_all_that_a_resume_needs() -> None:
    gradients = [tf.constant(g) for g in gradients_of(seed=5)]
    straight, resumed = table(), table()
    first, second = make("adam", [straight]), make("adam", [resumed])
    train(first, gradients)
    saved = {name: value.numpy() for name, value in first.variables.items()}
    assert list(saved) == ["adam/step", "adam/m/0", "adam/v/0"]
    assert saved["adam/step"].dtype == np.int64 and saved["adam/step"] == len(RATES)
    resumed.assign(straight)
    for name, value in second.variables.items():
        value.assign(saved[name])
    train(first, gradients)
    train(second, gradients)
    np.testing.assert_array_equal(resumed, straight)


def test_one_value_per_variable_is_asked_for() -> None:
    with pytest.raises(ValueError, match="2 delays for 1 variables"):
        make("sgd", [table()], delays=[0, 0])
    with pytest.raises(ValueError, match="2 multipliers for 1 variables"):
        make("sgd", [table()], multipliers=[1.0, 1.0])
    with pytest.raises(ValueError, match="0 decay_mask for 1 variables"):
        make("adamw", [table()], decay_mask=[])
    with pytest.raises(ValueError, match="0 gradients for 1 variables"):
        make("sgd", [table()]).apply([], 0.1)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match='no optimizer is called "adma"') as refused:
        make("adma", [table()])
    assert "adam" in refused.value.hint
    with pytest.raises(UserError, match='no learning-rate decay is called "cosin"') as refused:
        schedule(tf.constant(0, tf.int64), peak=1.0, warmup_steps=0, decay="cosin", total_steps=1)
    assert "cosine" in refused.value.hint


def test_deduplicate_sums_equal_rows_once() -> None:
    once = deduplicate(tf.IndexedSlices(tf.constant([[3.0], [1.0], [3.0]]), tf.constant([7, 2, 7])))
    np.testing.assert_array_equal(once.indices, [7, 2])
    np.testing.assert_array_equal(once.values, [[6.0], [1.0]])
    assert deduplicate(once) is once
    doubled = tf.nest.map_structure(lambda part: 2 * part, once, expand_composites=True)
    assert not isinstance(doubled, UniqueSlices)


def test_clipping_is_by_the_norm_of_the_summed_rows() -> None:
    slices = tf.IndexedSlices(tf.constant([[3.0], [3.0]]), tf.constant([1, 1]), tf.constant([4, 1]))
    (unscaled,), norm = clip_by_global_norm([slices], None)
    assert norm.numpy() == 6.0
    np.testing.assert_array_equal(tf.convert_to_tensor(unscaled), [[0.0], [6.0], [0.0], [0.0]])
    (sparse, nothing, dense), norm = clip_by_global_norm([slices, None, tf.constant([0.0, 8.0])], 5.0)
    assert norm.numpy() == 10.0 and nothing is None
    np.testing.assert_allclose(tf.convert_to_tensor(sparse), [[0.0], [3.0], [0.0], [0.0]], rtol=1e-6)
    np.testing.assert_allclose(dense, [0.0, 4.0], rtol=1e-6)


def test_clipping_is_numpys() -> None:
    random = np.random.default_rng(6)
    values, rows, dense = random.normal(size=[50, 3]), random.integers(0, 9, 50), random.normal(size=[4, 5])
    summed = np.zeros([9, 3])
    np.add.at(summed, rows, values)
    expected = math.sqrt((summed**2).sum() + (dense**2).sum())
    for given, max_norm, scale in [
        (1.0, 2.0, 2.0 / expected), (1.0, 1e3, 1.0), (1.0, 0, 1.0), (1.0, None, 1.0), (0.5, None, 0.5), (0.5, 2.0, 2.0 / expected), (1e-2, 2.0, 1e-2)
    ]:  # fmt: skip
        sparse = tf.IndexedSlices(values, rows, [9, 3])
        clipped, norm = clip_by_global_norm([sparse, tf.constant(dense)], max_norm, given)
        np.testing.assert_allclose(norm, given * expected, rtol=1e-6)
        np.testing.assert_allclose(tf.convert_to_tensor(clipped[0]), scale * summed, rtol=1e-6)
        np.testing.assert_allclose(clipped[1], scale * dense, rtol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_shows(bad: float) -> None:
    clipped, norm = clip_by_global_norm([tf.constant([1.0, bad]), tf.constant([1.0])], 1.0)
    assert not np.isfinite(norm)
    assert all(np.isnan(gradient).all() for gradient in clipped)


@pytest.mark.parametrize(
    ("decay", "warmup_steps", "expected"),
    [
        ("constant", 0, {0: 2.0, 99: 2.0}),
        ("constant", 4, {0: 0.5, 1: 1.0, 3: 2.0, 4: 2.0, 200: 2.0}),
        ("linear", 0, {0: 2.0, 26: 1.5, 52: 1.0, 104: 0.0, 500: 0.0}),
        ("linear", 4, {0: 0.5, 3: 2.0, 4: 2.0, 29: 1.5, 54: 1.0, 104: 0.0, 500: 0.0}),
        (
            "cosine",
            4,
            {3: 2.0, 4: 2.0, 29: 1.0 + math.sqrt(0.5), 54: 1.0, 79: 1.0 - math.sqrt(0.5), 500: 0.0},
        ),
        ("inverse_sqrt", 4, {0: 0.5, 3: 2.0, 15: 1.0, 63: 0.5, 399: 0.2}),
        ("inverse_sqrt", 0, {0: 2.0, 3: 1.0}),
    ],
)
def test_schedules(decay: str, warmup_steps: int, expected: dict[int, float]) -> None:
    def rate(step: tf.Tensor) -> tf.Tensor:
        return schedule(step, peak=2.0, warmup_steps=warmup_steps, decay=decay, total_steps=104)

    rates = tf.map_fn(rate, tf.constant(list(expected), tf.int64), fn_output_signature=tf.float32)
    np.testing.assert_allclose(rates, list(expected.values()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("decay", "halfway"), [("linear", 1.25), ("cosine", 1.25), ("inverse_sqrt", 0.5)])
def test_schedules_end_at_the_final_rate(decay: str, halfway: float) -> None:
    options = {"peak": 2.0, "warmup_steps": 0, "decay": decay, "total_steps": 100, "final": 0.5}
    assert schedule(tf.constant(50, tf.int64), **options).numpy() == pytest.approx(halfway, rel=1e-6)
    assert schedule(tf.constant(1000, tf.int64), **options).numpy() == pytest.approx(0.5, rel=1e-6)


# In a process of its own, since devices and threads are chosen before TensorFlow starts.
DEVICES = """
import json
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.threading.set_intra_op_parallelism_threads(2)
from nlp_tasks.optimizers import clip_by_global_norm, deduplicate, make

random = np.random.default_rng(0)
batches = [random.integers(0, 8, size) for size in (6, 3, 5, 4, 1, 7)]  # with duplicates; row 8 never

def train(strategy, name):
    with strategy.scope():
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        table = tf.Variable(np.linspace(-1, 1, 36).reshape(9, 4), dtype=tf.float32, aggregation=first)
        bias = tf.Variable([0.5, -0.5, 1.0, 2.0], aggregation=first)
    optimizer = make(name, [table, bias])  # outside the scope: the state must find it

    def step(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.gather(table, ids) * bias - 1.0))
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce("SUM", tape.gradient(loss, [table, bias]))
        gradients, norm = clip_by_global_norm(gradients, 2.0)
        optimizer.apply(gradients, tf.constant(0.1))

    shards = strategy.num_replicas_in_sync
    run = tf.function(lambda ids: strategy.run(step, args=(ids,)), reduce_retracing=True)
    for ids in batches:
        parts = [ids] if shards == 1 else [ids[: len(ids) // 2], ids[len(ids) // 2 :]]  # uneven, once empty
        run(strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group], tf.int64)))
    state = [*optimizer.variables.values(), table, bias]
    return [[part.numpy() for part in strategy.experimental_local_results(value)] for value in state]

one, two = tf.distribute.OneDeviceStrategy("CPU:0"), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
differences = {}
for name in ("adamw", "adagrad"):
    pairs = zip(train(one, name), train(two, name), strict=True)
    differences[name] = max(float(np.abs(a - part).max()) for (a,), parts in pairs for part in parts)

values, ids = random.normal(size=[6400, 64]).astype(np.float32), random.integers(0, 1500, 6400)
sums = {deduplicate(tf.IndexedSlices(values, ids)).values.numpy().tobytes() for _ in range(200)}
print(json.dumps({"differences": differences, "distinct_sums": len(sums)}))
"""


@pytest.fixture(scope="module")
def devices() -> dict:
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", DEVICES], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "adagrad"])
def test_two_devices_are_one(devices: dict, name: str) -> None:
    assert devices["differences"][name] < 1e-6


def test_deduplicate_gives_the_same_bits_with_two_threads(devices: dict) -> None:
    assert devices["distinct_sums"] == 1
