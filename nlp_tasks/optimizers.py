"""Optimizers whose step costs what the touched rows cost, whatever the vocabulary; learning-rate schedules.

Each optimizer is one rule: a function from a gradient and its slots to a change and the new slots. It is
applied to the whole variable for a dense gradient and to the gathered rows alone for `tf.IndexedSlices`. The
latter is the lazy variant (LazyAdam of TensorFlow Addons): rows without a gradient keep weights and slots, so
moments do not decay there, momentum does not coast, weight decay does not shrink; bias correction counts
every step. Where each step touches every row, lazy and dense are the same.

The variables are plain `tf.Variable`s. One step in replica context, the last two lines from here:

    gradients = replica.all_reduce("SUM", gradients)
    gradients, norm = clip_by_global_norm(gradients, max_norm, 1 / global weight)
    optimizer.apply(gradients, schedule(step, …))
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import tensorflow as tf

from nlp_tasks.distribution import own_copy
from nlp_tasks.errors import UserError, nearest

Given: TypeAlias = tf.Tensor | tf.IndexedSlices
Gradient: TypeAlias = Given | None
Gradients = Sequence[Gradient]
Decay = Literal["constant", "linear", "cosine", "inverse_sqrt"]
Variables = Sequence[tf.Variable]
Factors = Sequence[float] | None
Steps = Sequence[int] | None
Mask = Sequence[bool] | None
Slots = Sequence[tf.Tensor]
Change = tuple[tf.Tensor, Slots]


class UniqueSlices(tf.IndexedSlices):
    """Slices that name no row twice. What rebuilds them (all-reduce, `tf.nest`) gives plain ones again."""


def deduplicate(slices: tf.IndexedSlices) -> UniqueSlices:
    """Sum the values of equal rows, in order of occurrence: the same bits with any number of threads.

    Values <float>[n, …] and indices <int>[n] become <float>[unique, …] and <int>[unique]: rows [7, 2, 7] with
    values [3, 1, 3] become rows [7, 2] with values [6, 1]. Slices made here are returned as they are.
    """
    if isinstance(slices, UniqueSlices):
        return slices
    rows, places = tf.unique(slices.indices)
    values = tf.math.unsorted_segment_sum(slices.values, places, tf.size(rows))
    return UniqueSlices(values, rows, slices.dense_shape)


def scaled(gradient: Gradient, scale: tf.Tensor) -> Gradient:
    """A gradient times a number; sparse ones stay sparse."""
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values * tf.cast(scale, gradient.values.dtype)
        return type(gradient)(values, gradient.indices, gradient.dense_shape)
    return None if gradient is None else gradient * tf.cast(scale, gradient.dtype)


def clip_by_global_norm(
    gradients: Gradients, max_norm: float | None, scale: tf.Tensor | float = 1.0
) -> tuple[list[Gradient], tf.Tensor]:
    """Scale all gradients by s min(1, max_norm / norm), norm = s √(Σ g²) (Pascanu et al. 2013, Algorithm 1).

    The scale s, <float>[], makes means of sums, in the pass over memory that clipping takes. Sparse gradients are deduplicated
    first (the norm of 3 and 3 on one row is 6, not 4.24) and returned so, which spares `apply` the work. With `max_norm` None or 0
    nothing is clipped. Returns the gradients, None where None was given, and the norm before clipping, <float64>[]: if not
    finite, all values are NaN.
    """
    once: list[Gradient] = [deduplicate(g) if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in once if g is not None]
    halves = [tf.nn.l2_loss(tf.cast(v, _wide(v.dtype))) for v in values]  # Σ v² / 2, no temporary for v²
    scale = tf.cast(scale, tf.float64)
    norm = scale * tf.sqrt(2.0 * tf.add_n([tf.cast(half, tf.float64) for half in halves]))
    if max_norm:
        scale *= tf.where(tf.math.is_finite(norm), max_norm / tf.maximum(norm, max_norm), tf.constant(math.nan, tf.float64))
    return [scaled(g, scale) for g in once], norm


def schedule(step: tf.Tensor, *, peak: float, warmup_steps: int, decay: Decay, total_steps: int, final: float = 0.0) -> tf.Tensor:
    """The learning rate of the next update, <float32>[], after `step` updates, <int64>[].

    With s = step, w = warmup_steps, n = total_steps: peak (s + 1) / w while s < w; from there on, with
    p = min(1, (s - w) / (n - w)),

        constant      peak
        linear        final + (peak - final) (1 - p)
        cosine        final + (peak - final) (1 + cos πp) / 2    Loshchilov & Hutter 2017, Eq. 5, one cycle
        inverse_sqrt  max(final, peak √(max(w, 1) / (s + 1)))    Vaswani et al. 2017, Eq. 3
    """
    done = tf.cast(step, tf.float32)
    progress = tf.clip_by_value((done - warmup_steps) / max(total_steps - warmup_steps, 1), 0.0, 1.0)
    match decay:
        case "constant":
            rate = tf.constant(peak, tf.float32)
        case "linear":
            rate = final + (peak - final) * (1.0 - progress)
        case "cosine":
            rate = final + (peak - final) * 0.5 * (1.0 + tf.cos(math.pi * progress))
        case "inverse_sqrt":
            rate = tf.maximum(final, peak * tf.sqrt(max(warmup_steps, 1) / (done + 1.0)))
        case _:
            raise UserError(f'no learning-rate decay is called "{decay}"', nearest(decay, get_args(Decay)))
    return tf.where(step < warmup_steps, peak * (done + 1.0) / max(warmup_steps, 1), rate)


class Optimizer:
    """What the optimizers share: slots beside the variables, one rule for dense and for sparse gradients.

    Args:
        variables: <float>[…] each; under a strategy with aggregation ONLY_FIRST_REPLICA.
        slots: name and initial value of each slot, which has the variable's shape and strategy, and its dtype
            or float32 where that is wider.
        multipliers: one per variable, of the learning rate and with it of weight decay; 1 by default.
        delays: one per variable: its learning rate is 0 in so many first steps; 0 by default. Slots take the gradients in, so that
            the first step that counts is no larger than those after it.
    """

    name: ClassVar[str]

    def __init__(self, variables: Variables, slots: Mapping[str, float], multipliers: Factors, delays: Steps) -> None:
        self._trained = tuple(variables)
        self._multipliers = [1.0] * len(self._trained) if multipliers is None else multipliers
        self._delays = [0] * len(self._trained) if delays is None else delays
        self._decays = [0.0] * len(self._trained)
        self._check_one_each(multipliers=self._multipliers, delays=self._delays)
        strategy = getattr(self._trained[0], "distribute_strategy", None) or tf.distribute.get_strategy()
        with strategy.scope():  # state lives where the variables do, wherever the optimizer is made
            self._step = _state(f"{self.name}/step", 0, tf.int64, tf.TensorShape([]))
            self._slots = [
                {s: _state(f"{self.name}/{s}/{i}", x, _wide(v.dtype), v.shape) for s, x in slots.items()}
                for i, v in enumerate(self._trained)
            ]

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """The state to save: `adam/step` <int64>[] and `adam/m/0` …, numbered as the variables given."""
        slots = {f"{self.name}/{s}/{i}": v for i, row in enumerate(self._slots) for s, v in row.items()}
        return {f"{self.name}/step": self._step, **slots}

    def apply(self, gradients: Gradients, learning_rate: tf.Tensor) -> None:
        """Make one step, in replica context with the same gradients on each replica: nothing is reduced here.

        Not inside `tf.cond` or a loop under MirroredStrategy, where TensorFlow's assignments are merge calls.

        Args:
            gradients: one per variable: <float> of its shape, `tf.IndexedSlices` of its rows, or None, which
                leaves the variable and its slots alone. Summed over replicas, divided and clipped already.
            learning_rate: <float>[].
        """
        self._check_one_each(gradients=gradients)
        self._step.assign_add(1)
        step = tf.cast(self._step.read_value(), tf.float64)
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                self._update(i, gradient, learning_rate, step)

    def change(self, gradient: tf.Tensor, slots: Slots, rate: tf.Tensor, step: tf.Tensor) -> Change:
        """The rule: what is subtracted from the weights, and the new slots.

        Args:
            gradient, slots: <float>[…] of one shape, which the results have too.
            rate: <float>[], the variable's multiplier included.
            step: <float64>[], t of the equations: 1 at the first step.
        """
        raise NotImplementedError

    def _update(self, i: int, gradient: Given, rate: tf.Tensor, step: tf.Tensor) -> None:
        variable, slots, rows = self._trained[i], self._slots[i].values(), None
        if isinstance(gradient, tf.IndexedSlices):
            gradient = deduplicate(gradient)
            gradient, rows = gradient.values, gradient.indices
        dtype = _wide(variable.dtype)
        rate = self._multipliers[i] * tf.cast(rate, dtype)
        if self._delays[i]:
            rate *= tf.cast(step > self._delays[i], dtype)
        if rows is None and variable.dtype == dtype and self._kernel(i, gradient, rate, step):
            return
        change, values = self.change(tf.cast(gradient, dtype), [_read(s, rows) for s in slots], rate, step)
        weights = tf.cast(_read(variable, rows), dtype)
        if self._decays[i]:
            change += rate * self._decays[i] * weights
        for slot, value in zip(slots, values, strict=True):
            _write(slot, rows, value)
        # scatter_sub alone takes 1.4 times as long as gather, subtraction and scatter_update together
        _write(variable, rows, tf.cast(weights - change, variable.dtype))

    def _kernel(self, i: int, gradient: tf.Tensor, rate: tf.Tensor, step: tf.Tensor) -> bool:
        """Makes a dense update in one pass over memory where TensorFlow has an op for it; whether it did."""
        return False

    def _check_one_each(self, **options: Sequence[Any]) -> None:
        for name, values in options.items():
            if len(values) != len(self._trained):
                raise ValueError(f"{len(values)} {name} for {len(self._trained)} variables, want one each")


class SGD(Optimizer):
    """θ ← θ - rate g; with momentum μ (Polyak 1964) u ← μ u + g, θ ← θ - rate u."""

    name = "sgd"

    def __init__(self, variables: Variables, *, momentum: float = 0, multipliers: Factors = None, delays: Steps = None) -> None:
        super().__init__(variables, {"velocity": 0.0} if momentum else {}, multipliers, delays)
        self._momentum = momentum

    def change(self, gradient: tf.Tensor, slots: Slots, rate: tf.Tensor, step: tf.Tensor) -> Change:
        if not slots:
            return rate * gradient, []
        velocity = self._momentum * slots[0] + gradient
        return rate * velocity, [velocity]


class Adam(Optimizer):
    """θ ← θ - rate m̂ / (√v̂ + ε) (Kingma & Ba 2015, Algorithm 1).

    m ← β₁ m + (1 - β₁) g and v ← β₂ v + (1 - β₂) g²; m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ). The divisors go into rate and ε, as
    at the end of the paper's section 2.
    """

    name = "adam"

    def __init__(
        self,
        variables: Variables,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        multipliers: Factors = None,
        delays: Steps = None,
    ) -> None:
        super().__init__(variables, {"m": 0.0, "v": 0.0}, multipliers, delays)
        self._beta_1, self._beta_2, self._epsilon = beta_1, beta_2, epsilon

    def change(self, gradient: tf.Tensor, slots: Slots, rate: tf.Tensor, step: tf.Tensor) -> Change:
        beta_1, beta_2, rate, epsilon = self._constants(rate, step)
        m = beta_1 * slots[0] + (1 - beta_1) * gradient
        v = beta_2 * slots[1] + (1 - beta_2) * tf.square(gradient)
        return rate * m / (tf.sqrt(v) + epsilon), [m, v]

    def _constants(self, rate: tf.Tensor, step: tf.Tensor) -> tuple[float, float, tf.Tensor, tf.Tensor]:
        """β₁ and β₂ as they are multiplied with, rate and ε for m and v in place of m̂ and v̂."""
        beta_1, beta_2 = (float(rate.dtype.as_numpy_dtype(beta)) for beta in (self._beta_1, self._beta_2))
        root = tf.sqrt(1.0 - beta_2**step)  # of float64, as the step is: 1 - βᵗ needs more than float32
        rate *= tf.cast(root / (1.0 - beta_1**step), rate.dtype)
        return beta_1, beta_2, rate, tf.cast(self._epsilon * root, rate.dtype)

    def _kernel(self, i: int, gradient: tf.Tensor, rate: tf.Tensor, step: tf.Tensor) -> bool:
        if self._decays[i]:
            self._trained[i].assign(self._trained[i].read_value() * (1 - rate * self._decays[i]))
        var, m, v = (own_copy(one).handle for one in (self._trained[i], self._slots[i]["m"], self._slots[i]["v"]))
        *betas, rate, epsilon = self._constants(rate, step)
        beta_1, beta_2, none = (tf.constant(value, rate.dtype) for value in (*betas, 0.0))
        tf.raw_ops.ResourceApplyAdam(var=var, m=m, v=v, beta1_power=none, beta2_power=none, lr=rate, beta1=beta_1, beta2=beta_2,
                                     epsilon=epsilon, grad=gradient)  # fmt: skip
        return True


class AdamW(Adam):
    """θ ← θ - rate (m̂ / (√v̂ + ε) + λ θ), decoupled decay (Loshchilov & Hutter 2019, Algorithm 2).

    λ is `weight_decay`, and 0 for variables whose `decay_mask` is False (biases, normalisation). It is
    multiplied by the whole rate, as in PyTorch and Keras; in the paper by the schedule without its peak. With
    a sparse gradient only the touched rows decay.
    """

    name = "adamw"

    def __init__(self, variables: Variables, *, weight_decay: float = 0.01, decay_mask: Mask = None, **options: Any) -> None:
        super().__init__(variables, **options)
        mask = [True] * len(self._trained) if decay_mask is None else decay_mask
        self._check_one_each(decay_mask=mask)
        self._decays = [weight_decay if decays else 0.0 for decays in mask]


class Adagrad(Optimizer):
    """s ← s + g², θ ← θ - rate g / (√s + ε), s begins at `start` (Duchi et al. 2011, Figure 1)."""

    name = "adagrad"

    def __init__(
        self,
        variables: Variables,
        *,
        start: float = 0.1,
        epsilon: float = 1e-8,
        multipliers: Factors = None,
        delays: Steps = None,
    ) -> None:
        super().__init__(variables, {"sum": start}, multipliers, delays)
        self._epsilon = epsilon

    def change(self, gradient: tf.Tensor, slots: Slots, rate: tf.Tensor, step: tf.Tensor) -> Change:
        total = slots[0] + tf.square(gradient)
        return rate * gradient / (tf.sqrt(total) + self._epsilon), [total]


def make(name: str, variables: Variables, **options: Any) -> Optimizer:
    """The optimizer called "sgd", "adam", "adamw" or "adagrad", with its constructor's options."""
    optimizers = {optimizer.name: optimizer for optimizer in (SGD, Adam, AdamW, Adagrad)}
    if name not in optimizers:
        raise UserError(f'no optimizer is called "{name}"', nearest(name, optimizers))
    return optimizers[name](variables, **options)


def _wide(dtype: tf.DType) -> tf.DType:
    return tf.float32 if dtype.size < tf.float32.size else dtype


def _state(name: str, value: float, dtype: tf.DType, shape: tf.TensorShape) -> tf.Variable:
    aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(tf.constant(value, dtype, shape), trainable=False, name=name, aggregation=aggregation)


def _read(variable: tf.Variable, rows: tf.Tensor | None) -> tf.Tensor:
    return variable.read_value() if rows is None else tf.gather(variable, rows)


def _write(variable: tf.Variable, rows: tf.Tensor | None, values: tf.Tensor) -> None:
    if rows is None:
        variable.assign(values)
    else:
        variable.scatter_update(tf.IndexedSlices(values, rows))
