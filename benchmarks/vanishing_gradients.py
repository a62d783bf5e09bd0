"""How much of a gradient is left d steps back, and can the cell then learn what it must remember so long?

    python benchmarks/vanishing_gradients.py [--output DIR] [--seeds 1 2 3] [--units 64] [--steps 300] [--one-hot] [--quick]

The lecture's picture (Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013), measured: the norm of the gradient of the loss at the
last step with respect to the state d steps before it (h; of the LSTM h and c), divided by that at d = 0. Geometric means over sequences
and seeds, fresh and trained; DIR/vanishing_gradients.png shows them with their quartiles.

The task: a sequence begins with one of 8 symbols, `length` distractors (8 others, evenly drawn) follow, then the cell is asked for the
symbol: chance is 12.5 %. A symbol is a fixed vector of 16 standard normal numbers. Every cell gets the same sequences and the same
Adam (rate 0.005, gradients cut to norm 1), once for each length anew; the gradients are those of the longest length.

    SimpleRNN, LSTM, …  as the package makes them: recurrent weights orthogonal, the LSTM's forget gate with bias 1, other gates with 0
    LSTM chrono, …      the biases of the gates that keep are log u, u evenly from 1 to length - 1, and those of the gates that write
                        -log u, so that a unit forgets within about u steps (Tallec & Ollivier 2018)

The picture is no law of the cell: where small inputs leave tanh nearly linear, orthogonal weights keep more of the gradient. With
--one-hot (a quarter of the scale) the same SimpleRNN learns length 20 as well, and 100 in part.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nlp_tasks import optimizers  # before TensorFlow, for which it decides about oneDNN

# isort: split
import keras
import numpy as np
import tensorflow as tf

from nlp_tasks.layers import GRU, LSTM, MinGRU, SimpleRNN
from nlp_tasks.layers.recurrent import RecurrentLayer, State
from nlp_tasks.machine import cores, side_by_side
from nlp_tasks.report import table

SYMBOLS = 8
FEATURES = 2 * SYMBOLS  # as many as there are vectors: one-hot ones fit
ROWS, TEST_ROWS = 64, 512
RATE, MAX_NORM = 0.005, 1.0
DISTANCES = (0, 1, 2, 5, 10, 20, 50, 100)
CELLS: dict[str, type[RecurrentLayer]] = {"SimpleRNN": SimpleRNN, "LSTM": LSTM, "GRU": GRU, "MinGRU": MinGRU}
COLOURS = {"SimpleRNN": "#222222", "LSTM": "#0072b2", "GRU": "#d55e00", "MinGRU": "#009e73"}


class Setting(NamedTuple):
    seeds: list[int]
    units: int
    steps: int
    lengths: tuple[int, ...]
    one_hot: bool = False


class Measured(NamedTuple):
    accuracies: dict[int, list[float]]
    """By length, one a seed."""
    fresh: np.ndarray
    """`<float64>[seeds · rows, distance]`: log of the gradient's norm less that at distance 0; at the longest length."""
    trained: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("build"), metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--units", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--one-hot", action="store_true", default=None, help="symbols are one-hot vectors, not random ones")
    parser.add_argument("--quick", action="store_true", help="a small setting: does it run?")
    arguments = parser.parse_args()
    default = Setting([1], 16, 30, (5, 20)) if arguments.quick else Setting([1, 2, 3], 64, 300, (10, 20, 100))
    given = {name: value for name, value in vars(arguments).items() if name in Setting._fields and value is not None}
    setting = default._replace(**given)

    begun = time.perf_counter()
    print(f"{processor()}\n{setting.units} units, {setting.steps} steps of {ROWS} sequences, seeds {setting.seeds}", end="")
    print(", one-hot inputs" if setting.one_hot else "", flush=True)
    networks = [Network(cell, setting) for cell in CELLS]
    measured = {name: values for both in side_by_side(measure, networks) for name, values in both.items()}

    longest = max(setting.lengths)
    report("Gradient's norm at distance d, ratio to distance 0: freshly initialised", {n: m.fresh for n, m in measured.items()})
    report(f"… after training on length {longest}", {name: m.trained for name, m in measured.items()})
    print(f"\nAccuracy in % by length, mean of the seeds (least to greatest); chance is {100 / SYMBOLS:.1f}")
    rows = [[name, *(spread(m.accuracies[length]) for length in setting.lengths)] for name, m in measured.items()]
    columns = tuple(range(1, 1 + len(setting.lengths)))
    print(table(rows, ("", *map(str, setting.lengths)), right=columns))
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "vanishing_gradients.png"
    draw(path, measured, setting)
    print(f"\n{path}; {time.perf_counter() - begun:.0f} s in all")


class Network:
    """A cell and the layer that answers from its last output, with what is computed of them, traced for every length."""

    def __init__(self, cell: str, setting: Setting) -> None:
        self.cell, self.setting = cell, setting
        # Drawn here, one after another: Keras' generator is one for all threads.
        self.drawn = {seed: [v.numpy() for v in self.variables(*self.layers(seed))] for seed in setting.seeds}
        layer, answer = self.layers(0)
        self.trained = self.variables(layer, answer)
        self.optimizer = optimizers.Adam(self.trained)
        self.states = layer.states

        def loss(h: tf.Tensor, symbols: tf.Tensor) -> tf.Tensor:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(symbols, answer(h))

        def read(inputs: tf.Tensor, state: State | None = None) -> State:
            lengths = tf.fill([tf.shape(inputs)[0]], tf.shape(inputs)[1])
            return layer(inputs, lengths, initial_state=state)[1]

        def step(inputs: tf.Tensor, symbols: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                mean = tf.reduce_mean(loss(read(inputs)[0], symbols))
            gradients, _ = optimizers.clip_by_global_norm(tape.gradient(mean, self.trained), MAX_NORM)
            self.optimizer.apply(gradients, tf.constant(RATE))

        def correct(inputs: tf.Tensor, symbols: tf.Tensor) -> tf.Tensor:
            return tf.equal(tf.argmax(answer(read(inputs)[0]), -1, tf.int32), symbols)

        def last_gradient(h: tf.Tensor, symbols: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch(h)
                each = loss(h, symbols)
            return tape.gradient(each, h)

        def gradient_before(inputs: tf.Tensor, state: State, gradient: State) -> State:
            with tf.GradientTape() as tape:
                tape.watch(state)
                following = read(inputs, state)
            return tape.gradient(following, state, gradient)

        batch, symbols = tf.TensorSpec([None, None, FEATURES]), tf.TensorSpec([None], tf.int32)
        h = tf.TensorSpec([None, setting.units])
        state = (h,) * layer.states
        self.step = traced(step, batch, symbols)
        self.correct = traced(correct, batch, symbols)
        self.read = traced(read, batch, state)
        self.last_gradient = traced(last_gradient, h, symbols)
        self.gradient_before = traced(gradient_before, batch, state, state)

    def layers(self, seed: int) -> tuple[RecurrentLayer, keras.layers.Dense]:
        keras.utils.set_random_seed(seed)
        layer, answer = CELLS[self.cell](self.setting.units), keras.layers.Dense(SYMBOLS)
        layer.build((None, None, FEATURES))
        answer.build((None, self.setting.units))
        return layer, answer

    def variables(self, layer: RecurrentLayer, answer: keras.layers.Dense) -> list[tf.Variable]:
        """The cell's bias last."""
        weights = [v for v in (*layer.trainable_variables, *answer.trainable_variables) if v is not layer.bias]
        return [v.value for v in (*weights, layer.bias)]

    def begin(self, seed: int, length: int, *, chrono: bool) -> None:
        """Fresh weights, and an optimizer that knows nothing."""
        *weights, bias = self.drawn[seed]
        if chrono:
            bias = chrono_bias(self.cell, bias, np.random.default_rng(seed), length)
        for variable, value in zip(self.trained, (*weights, bias), strict=True):
            variable.assign(value)
        for slot in self.optimizer.variables.values():
            slot.assign(tf.zeros_like(slot))


def traced(function: Any, *signature: Any) -> Any:
    return tf.function(function, autograph=False, input_signature=signature).get_concrete_function()


def chrono_bias(cell: str, bias: np.ndarray, random: np.random.Generator, length: int) -> np.ndarray:
    """The bias with gates that forget over times between 1 and length - 1; the layers say which part is which gate."""
    bias, units = bias.copy(), bias.shape[-1] // CELLS[cell](1).gates
    log_times = np.log(random.uniform(1, length - 1, units))
    if cell == "LSTM":  # i, f, g, o
        bias[:units], bias[units : 2 * units] = -log_times, log_times
    elif cell == "GRU":  # z keeps
        bias[0, :units] = log_times
    else:  # MinGRU: z writes
        bias[:units] = -log_times
    return bias


def sequences(random: np.random.Generator, vectors: np.ndarray, rows: int, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Inputs `<float32>[rows, 1 + length, features]` and the first symbols `<int32>[rows]`."""
    symbols = random.integers(SYMBOLS, size=rows, dtype=np.int32)
    distractors = random.integers(SYMBOLS, 2 * SYMBOLS, size=(rows, length))
    ids = np.concatenate([symbols[:, None], distractors], 1)
    return tf.constant(vectors[ids], tf.float32), tf.constant(symbols)


def measure(network: Network) -> dict[str, Measured]:
    """As the package makes the cell, and with chrono biases if it has gates."""
    plain = {network.cell: measure_one(network, chrono=False)}
    return plain if network.cell == "SimpleRNN" else plain | {f"{network.cell} chrono": measure_one(network, chrono=True)}


def measure_one(network: Network, *, chrono: bool) -> Measured:
    setting, longest = network.setting, max(network.setting.lengths)
    accuracies: dict[int, list[float]] = {length: [] for length in setting.lengths}
    fresh, trained = [], []
    for seed in setting.seeds:
        vectors = np.eye(FEATURES) if setting.one_hot else np.random.default_rng([seed, 0]).normal(size=[FEATURES, FEATURES])
        probe = sequences(np.random.default_rng([seed, 1]), vectors, ROWS, longest)
        for length in setting.lengths:
            network.begin(seed, length, chrono=chrono)
            if length == longest:
                fresh.append(log_ratios(network, *probe))
            random = np.random.default_rng([seed, 2, length])
            for _ in range(setting.steps):
                network.step(*sequences(random, vectors, ROWS, length))
            test = sequences(np.random.default_rng([seed, 3, length]), vectors, TEST_ROWS, length)
            accuracies[length].append(float(np.mean(network.correct(*test))))
            if length == longest:
                trained.append(log_ratios(network, *probe))
    return Measured(accuracies, np.concatenate(fresh), np.concatenate(trained))


def log_ratios(network: Network, inputs: tf.Tensor, symbols: tf.Tensor) -> np.ndarray:
    """log ‖∂loss/∂state d steps before the last‖ - log ‖∂loss/∂last state‖, `[rows, distance]`, the last of them after the first token.

    The chain rule, a token at a time. The gradient is brought to norm 1 after each token and only its logarithm grows: what float32
    calls zero is a long way off.
    """
    tokens = tf.split(inputs, inputs.shape[1], 1)
    states = [tuple(tf.zeros([len(inputs), network.setting.units]) for _ in range(network.states))]
    for token in tokens:
        states.append(tuple(network.read(token, states[-1])))
    h, *others = states[-1]
    gradient = (network.last_gradient(h, symbols), *map(tf.zeros_like, others))  # the answer sees nothing but h
    logs: list[np.ndarray] = []
    for token, before in zip(reversed(tokens), reversed(states[:-1]), strict=True):
        norm = np.sqrt(sum(np.sum(np.square(part, dtype=np.float64), 1) for part in map(np.asarray, gradient)))
        norm = np.maximum(norm, np.finfo(np.float32).tiny)  # where tanh is saturated, one token can make it 0
        logs.append(np.log(norm) + (logs[-1] if logs else 0))
        scaled = tuple(part / norm[:, None].astype(np.float32) for part in gradient)
        gradient = network.gradient_before(token, before, scaled)
    return np.stack(logs, 1) - logs[0][:, None]


def report(title: str, logs: dict[str, np.ndarray]) -> None:
    distances = [d for d in DISTANCES if d < next(iter(logs.values())).shape[1]]
    rows = [[str(d), *(f"{np.exp(log[:, d].mean()):.1e}" for log in logs.values())] for d in distances]
    print(f"\n{title}\n{table(rows, ('d', *logs), right=range(1 + len(logs)))}")


def spread(accuracies: Sequence[float]) -> str:
    return f"{100 * statistics.mean(accuracies):.1f} ({100 * min(accuracies):.1f} to {100 * max(accuracies):.1f})"


def draw(path: Path, measured: dict[str, Measured], setting: Setting) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    longest = max(setting.lengths)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.8), layout="constrained", sharey=True)
    for name, values in measured.items():
        cell = name.removesuffix(" chrono")
        phase = 4 * list(CELLS).index(cell)  # dashes of curves that fall on each other interleave
        line = {"color": COLOURS[cell], "linestyle": "-" if name == cell else (phase, (4, 4)), "linewidth": 1.8}
        accuracy = 100 * statistics.mean(values.accuracies[longest])
        for panel, logs in zip(axes, (values.fresh, values.trained), strict=True):
            low, high = np.exp(np.quantile(logs, (0.25, 0.75), axis=0))
            panel.fill_between(range(longest + 1), low, high, color=COLOURS[cell], alpha=0.13, linewidth=0)
            panel.plot(np.exp(logs.mean(0)), **line, label=f"{name}: {accuracy:.0f} %")
    titles = ("freshly initialised", f"after {setting.steps} steps of training on length {longest}")
    for panel, title in zip(axes, titles, strict=True):
        panel.spines[["top", "right"]].set_visible(False)
        panel.axhline(1, color="0.7", linewidth=0.8, zorder=0)
        panel.set(yscale="log", xlim=(0, longest), xlabel="distance d from the last step", title=title)
        panel.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    lowest = min(values.mean(0).min() for one in measured.values() for values in (one.fresh, one.trained))
    axes[0].set(ylim=(max(1e-20, np.exp(lowest) / 3), 10), ylabel="gradient's norm at distance d / at distance 0")
    figure.get_layout_engine().set(wspace=0.06)
    title = f"accuracy at length {longest}\n(chance: {100 / SYMBOLS:.1f} %)"
    lines, labels = axes[1].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside right upper", frameon=False, title=title, alignment="left", handlelength=3)
    note = f"lines: geometric means, bands: quartiles of {len(setting.seeds)} × {ROWS} sequences (seeds × rows)"
    figure.supxlabel(note, fontsize="small", color="0.35")
    beside = path.with_name(f".{path.name}.partial")
    figure.savefig(beside, dpi=130, format="png")
    pyplot.close(figure)
    os.replace(beside, path)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}, Python {platform.python_version()}"
    return f"{model}, {cores()} cores; {versions}"


if __name__ == "__main__":
    main()
