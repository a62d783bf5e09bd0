"""The contract of a task. Data goes one way: read → prepare → encode → build → loss → signatures → score.

A task says what its examples, its model and its scores are. It never names the loop, a device or a place on disk other than the
resource folder it is handed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from nlp_tasks.data.batching import Batch, plan
from nlp_tasks.data.rows import Row, Where
from nlp_tasks.recipe import Data, Recipe, Training

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from nlp_tasks.data.store import Ragged
    from nlp_tasks.layers.dropout import Noise
    from nlp_tasks.scores import Scores


class Loss(NamedTuple):
    """Sums, never means: the loop divides once, by the weight of all devices."""

    total: tf.Tensor
    """`<float>[]`: weighted sum of losses."""
    weight: tf.Tensor
    """`<float>[]`: sum of weights."""
    parts: dict[str, tuple[tf.Tensor, tf.Tensor]]
    """For the log and for choosing: (sum, count) by name."""
    state: Any
    """Nest of tensors, rows first, for the next batch."""


class Signature(NamedTuple):
    """A function that an export holds: tensors of strings in, `{name: tensor [batch, …]}` out."""

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: tuple[str, ...]
    """Names of its inputs, each `<string>[batch]`."""


@dataclass(frozen=True)
class Verb:
    """A command over a trained model, such as `predict`: lines in, lines out.

    Attributes:
        name: of the command.
        help: one line.
        signature: which function of the export answers.
        answers: from its outputs (`{name: array [batch, …]}`) to one JSON-able dict a row.
        text: such a dict as a line for a terminal.
    """

    name: str
    help: str
    signature: str
    answers: Callable[[Mapping[str, np.ndarray]], list[dict[str, Any]]]
    text: Callable[[dict[str, Any]], str]


class Example(NamedTuple):
    """A typed record. Tasks with more than texts and a label declare their own, with `inputs` and `where`."""

    inputs: tuple[str, ...]
    """The strings that the model is given, in the order of `encode`'s arguments."""
    target: Any
    where: Where


class Task(ABC):
    """One task; each recipe makes one.

    Args:
        recipe: validated by `recipe_type`.
    """

    recipe_type: ClassVar[type[Recipe]] = Recipe
    verbs: ClassVar[tuple[Verb, ...]] = ()
    headline: ClassVar[str]
    """The score that tables show."""
    order: ClassVar[tuple[str, ...]]
    """Columns of a file without header line; the first decides the side of a held-out row."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe: Any = recipe

    @classmethod
    @abstractmethod
    def columns(cls, data: Data) -> Mapping[str, Sequence[str]]:
        """The columns of a row, each with the names that a header may call it by."""

    @abstractmethod
    def read(self, rows: Iterable[Row]) -> Iterator[Any]:
        """Rows to typed examples. Raises UserError, with the row's place, at what it cannot take."""

    @abstractmethod
    def prepare(self, examples: Callable[[], Iterator[Any]], folder: Path) -> None:
        """Writes vocabularies, label sets and the like, made of the training examples, to the folder."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Loads what `prepare` wrote. Everything below may rely on it."""

    @abstractmethod
    def encode(self, *strings: tf.Tensor) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """In graph: `<string>[batch]` each → fields, ragged or dense. The one encoding, also inside the export."""

    @abstractmethod
    def targets(self, examples: Sequence[Any]) -> Mapping[str, np.ndarray | Ragged]:
        """The gold fields of a batch of examples. Raises UserError at a target never seen in training."""

    @property
    @abstractmethod
    def length_field(self) -> str:
        """The ragged field whose lengths plan the batches."""

    def plan(self, lengths: np.ndarray, training: Training, epoch: int | None) -> list[Batch]:
        """The batches of an epoch; None: of an evaluation. Tasks that carry a state from batch to batch plan otherwise."""
        return plan(
            lengths,
            batch_tokens=training.batch_tokens,
            batch_rows=training.batch_rows,
            buckets=training.buckets,
            shuffle=None if epoch is None else (training.seed, epoch),
        )

    @abstractmethod
    def build(self) -> keras.Model:
        """The model, its variables not yet made."""

    def learning_rate_factor(self, variable: str) -> float:
        """Factor of the learning rate of a trainable variable, by its path."""
        return 1.0

    def initial_state(self, rows: int) -> Any:
        """State before the first batch of an epoch: a nest of arrays, rows first. Empty for most."""
        return ()

    @abstractmethod
    def loss(self, model: keras.Model, batch: dict[str, tf.Tensor], state: Any, noise: Noise | None) -> Loss:
        """Loss of a padded batch (fields as in `Store.batch`). noise is None outside training."""

    @abstractmethod
    def signatures(self, model: keras.Model) -> dict[str, Signature]:
        """What an export holds and what scoring calls; "serving_default" is the main one."""

    @abstractmethod
    def resources(self) -> list[Any]:
        """The lookup tables and constant variables that the signatures use beside the model's: an export saves them."""

    @abstractmethod
    def evaluate(
        self, answer: Callable[[str, list[tuple[str, ...]]], dict[str, np.ndarray]], examples: Sequence[Any]
    ) -> list[dict[str, Any]]:
        """One JSON-able result an example, from `answer(signature, inputs)`."""

    @abstractmethod
    def score(self, results: Sequence[dict[str, Any]]) -> Scores:
        """Scores of the results of `evaluate`."""

    def baseline(self, train: Callable[[], Iterator[Any]], test: Sequence[Any]) -> tuple[str, Scores] | None:
        """Name and scores of a simple model fitted on the same data, for the same test examples."""
        return None
