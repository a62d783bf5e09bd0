"""The contract of a task. Data goes one way: read → prepare → encode → build → loss → signatures → score.

A task says what its examples, its model and its scores are. It never names the loop, a device or a place on disk other than the
resource folder it is handed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from nlp_tasks.data import formats
from nlp_tasks.data.batching import Batch, plan
from nlp_tasks.data.findings import Finding
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.data.sources import Files, open_source
from nlp_tasks.data.splits import Splits
from nlp_tasks.errors import UserError
from nlp_tasks.recipe import Data, Recipe, Training

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from nlp_tasks.data.store import Ragged, Store
    from nlp_tasks.layers.dropout import Noise
    from nlp_tasks.scores import Scores


class Loss(NamedTuple):
    """Sums, never means: the loop divides once, by the weight of all devices (for `Task.summed` what it tells, not what it descends)."""

    total: tf.Tensor
    """`<float>[]`: weighted sum of losses."""
    weight: tf.Tensor
    """`<float>[]`: sum of weights."""
    parts: dict[str, tuple[tf.Tensor, tf.Tensor]]
    """For the log and for choosing: (sum, count) by name."""
    state: Any
    """Nest of tensors, rows first, for the next batch."""


class Signature(NamedTuple):
    """A function that an export holds: tensors in, `{name: tensor [batch, …]}` out."""

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: tuple[tf.TensorSpec, ...]
    """With their names: `<string>[batch]` for texts, `<string>[batch, longest]` for texts in tokens, padded by ""; options as numbers."""
    row_wise: bool = True
    """Whether each row of the outputs answers the same row of all inputs, so that a server may answer rows of several clients at once."""
    alike: tuple[str, ...] = ()
    """Inputs that say how much is to be computed: a server answers rows together that have the same."""


Inputs = tuple[str | tuple[str, ...] | float, ...]
"""What a model is given for one example, in the order of the signature's inputs: each a text, the tokens of one, or a number."""


class Answering(Protocol):
    """A trained model, from its run or from its export."""

    functions: Mapping[str, Callable[..., dict[str, tf.Tensor]]]
    """Its graph functions by signature; they take tensors by name."""

    def __call__(self, signature: str, inputs: Sequence[Inputs]) -> dict[str, np.ndarray]:
        """Answers of many inputs, in their order."""


class Asked(NamedTuple):
    """A text of a document."""

    inputs: Inputs
    kept: Any
    """What is needed to write it back."""


@dataclass(frozen=True)
class Document:
    """A format in which a text is more than a line, such as CoNLL-U.

    Attributes:
        signature: which function of the export answers.
        read: from raw lines and the name of their file.
        write: from what was kept of a text, and its answer.
        first, between, last: what stands before, between and behind all of them.
    """

    signature: str
    read: Callable[[Iterable[bytes], str], Iterator[Asked]]
    write: Callable[[Any, dict[str, Any]], bytes]
    first: bytes = b""
    between: bytes = b""
    last: bytes = b""


@dataclass(frozen=True)
class Verb:
    """A command over a trained model, such as `predict`: lines in, lines out.

    Attributes:
        name: of the command.
        answers: from outputs (`{name: array [batch, …]}`) to one JSON-able dict a row; None where `ask` answers.
        text: a text, such a dict, and the verb's options, as lines for a terminal.
        tsv: a text and such a dict as lines of a table.
        asked: what of a text and the options stands before the answer in a line of JSON, and is told to a picture.
        signature: which function of the export answers texts.
        tokens: which one answers texts that come in tokens; empty where none does.
        documents: further formats by name.
        inputs: from a text and the verb's options to what the signature takes. Raises LineError at a text that it cannot take.
        options: names of those options of the command that this task takes.
        prepare: is given the options before the first text is read. Raises UserError at what cannot be.
        picture: of what was asked and such a dict, a matplotlib figure: the verb then writes files in place of lines.
        stream: from a model, a text and the options to parts of the answer as they come; where there is one, it answers all texts.
        ask: from a model, a text and the options to the answer, where that takes more than one question to the model; a LineError says
            what is wrong with this text alone.
    """

    name: str
    answers: Callable[[Mapping[str, np.ndarray]], list[dict[str, Any]]] | None
    text: Callable[[str, dict[str, Any], Mapping[str, Any]], str]
    tsv: Callable[[str, dict[str, Any]], str]
    signature: str = "serving_default"
    tokens: str = ""
    documents: Mapping[str, Document] = field(default_factory=dict)
    inputs: Callable[[str, Mapping[str, Any]], Inputs] = lambda text, options: (text,)
    asked: Callable[[str, Mapping[str, Any]], dict[str, Any]] = lambda text, options: {"text": text}
    options: Sequence[str] = ()
    prepare: Callable[[Mapping[str, Any]], object] = lambda options: None
    picture: Callable[[dict[str, Any]], Any] | None = None
    stream: Callable[[Answering, str, Mapping[str, Any]], Iterator[str]] | None = None
    ask: Callable[[Answering, str, Mapping[str, Any]], dict[str, Any]] | None = None


class Example(NamedTuple):
    """A typed record. Tasks with more than inputs and a target declare their own, with `inputs` and `where`."""

    inputs: Inputs
    target: Any
    where: Where


class Examiner:
    """What `check` asks a task to look for in its own data: this one for nothing."""

    def see(self, split: str, example: Any) -> None:
        """Each example of each split, once."""

    def findings(self) -> Iterator[Finding]:
        """When all were seen."""
        return iter(())


class Task(ABC):
    """One task; each recipe makes one.

    Args:
        recipe: validated by `recipe_type`.
    """

    recipe_type: ClassVar[type[Recipe]] = Recipe
    scored: ClassVar[str] = "serving_default"
    """The signature that takes an example's inputs: scoring calls it."""
    order: ClassVar[tuple[str, ...]]
    """Columns of a file without header line; the first decides the side of a held-out row."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe: Any = recipe

    @property
    @abstractmethod
    def headline(self) -> str:
        """The score that tables show."""

    @property
    def verbs(self) -> tuple[Verb, ...]:
        """The commands over a trained model; they need no resources."""
        return ()

    def view(self) -> Mapping[str, Any]:
        """How people want to see the answers on the page of `nlp-tasks serve`: "kind" is a way of drawing that its script has, the rest
        what that has to know. Where it is empty, inputs and outputs of `serving_default` are shown by their names."""
        return {}

    @classmethod
    @abstractmethod
    def columns(cls, data: Data) -> Mapping[str, Sequence[str]]:
        """The columns of a row, each with the names that a header may call it by."""

    @staticmethod
    def read_file(path: Path, columns: formats.Columns, order: Sequence[str], counts: Counts) -> Iterator[Row]:
        """How files become rows; arguments as in `nlp_tasks.data.formats.read_file`."""
        return formats.read_file(path, columns, order, counts)

    @classmethod
    def splits(cls, recipe: Recipe, data_dir: str | None) -> Splits:
        """Where the examples come from; `data_dir`: of prepared TensorFlow data sets."""
        data, order = recipe.data, getattr(recipe.data, "columns", cls.order)
        source = open_source(data, recipe.task.name, cls.columns(data), order, data_dir, cls.read_file)
        return Splits(source, data, cls.order[0])

    @classmethod
    def check_files(cls, data: Data) -> None:
        """Raises UserError where a file that `[data]` names is missing: told at once, before TensorFlow is imported."""
        splits = (data.train, data.validation, data.test) if data.source == "files" else ()
        for name in filter(None, splits):
            Files(data, {}, ()).path(name)
        if (name := getattr(data, "vectors", "")) and not data.path(name).is_file():
            raise UserError(
                f"no file {data.path(name)}", "data.vectors names a file of word vectors as text (GloVe, word2vec; .gz too)"
            )

    @abstractmethod
    def read(self, rows: Iterable[Row], counts: Counts) -> Iterator[Any]:
        """Rows to typed examples. Raises UserError, with the row's place, at what it cannot take; counts what it leaves out or mends."""

    def unfit(self, example: Any) -> str:
        """Why training leaves an example out; "" where it does not. Validation and test keep all of theirs."""
        return ""

    def fit(
        self, examples: Iterable[Any], counts: Counts, trained: Callable[[Any], bool] = lambda example: True
    ) -> Iterator[Any]:
        """Without those that training leaves out, which are counted; `trained`: whether an example goes to training at all."""
        for example in examples:
            if (reason := self.unfit(example)) and trained(example):
                counts.dropped[reason] += 1
            else:
                yield example

    # What a look at the data asks, before there are resources

    independent: ClassVar[bool] = True
    """Whether examples stand for themselves, so that equal ones are worth telling; the pieces of one text do not."""

    open_vocabulary: ClassVar[bool] = False
    """Whether the model reads what training lacks as well, from subwords: then no share of the tokens is unknown to it."""

    joint_vocabulary: ClassVar[bool] = False
    """Whether all inputs have one vocabulary, for which a text that several examples have counts once."""

    refuses_unseen: ClassVar[bool] = False
    """Whether a label that training lacks is refused in other splits; otherwise it counts as wrong."""

    def text(self, example: Any) -> str:
        """What makes two examples equal: the column that decides the side of a held-out row."""
        first = example.inputs[0]
        return first if isinstance(first, str) else " ".join(first)

    def labels_of(self, example: Any) -> Sequence[str]:
        """What an example counts for: its label, or one a word. Empty for tasks without labels."""
        return ()

    def check_labels(self, labels: Mapping[str, int]) -> None:
        """Raises UserError where nothing can be learned from a training split with so many examples of each label."""
        return

    @abstractmethod
    def tokenize(self, *strings: tf.Tensor) -> Mapping[str, tf.RaggedTensor]:
        """In graph and without resources: inputs, as `scored` takes them → tokens as vocabularies count them, by field:
        `<string>[batch, (tokens)]`, or numbers; the first field is the one that near duplicates are found by."""

    def further_tokens(self) -> Sequence[bytes]:
        """Tokens that the model will know beside those of the training data. Raises UserError where they cannot be read."""
        return ()

    @property
    def limits(self) -> Mapping[str, int]:
        """How many tokens of a field the model reads at most, where it has such a limit."""
        return {}

    def examiner(self) -> Examiner:
        """Looks for what is wrong in this task's data alone."""
        return Examiner()

    # Resources and encoding

    @property
    def counted(self) -> bool:
        """Whether the model is counted and not descended: `prepare` is then all of its training."""
        return False

    def parameters(self, model: keras.Model) -> int:
        """How many numbers were learned."""
        return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)

    @abstractmethod
    def prepare(self, examples: Callable[[], Iterator[Any]], folder: Path) -> None:
        """Writes vocabularies, label sets and the like, made of the training examples, to the folder."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Loads what `prepare` wrote. Everything below may rely on it."""

    @abstractmethod
    def encode(self, *strings: tf.Tensor) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """In graph: inputs, as `scored` takes them → fields, ragged or dense. The one encoding, also inside the export."""

    @abstractmethod
    def targets(self, examples: Sequence[Any]) -> Mapping[str, np.ndarray | Ragged]:
        """The gold fields of a batch of examples. Raises UserError at a target that cannot be scored."""

    def knows_target(self, example: Any) -> bool:
        """Whether `targets` can write what this example should give."""
        return True

    @property
    @abstractmethod
    def length_field(self) -> str:
        """The ragged field whose lengths plan the batches."""

    def lengths(self, store: Store) -> np.ndarray:
        """What batches are planned by: `<int64>[rows]`, or `[rows, fields]` with that of `length_field` first."""
        return store.lengths(self.length_field)

    def windows(self, tokens: int) -> np.ndarray | None:
        """Where a split of so many tokens, read as one text, is cut into rows: `<int64>[rows + 1]`. None: each example is a row."""
        return None

    def plan(self, lengths: np.ndarray, training: Training, epoch: int | None) -> list[Batch]:
        """The batches of an epoch, from `lengths`; None: of an evaluation. Tasks that carry a state from batch to batch plan otherwise."""
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

    def delay(self, variable: str) -> int:
        """Steps in which a trainable variable, by its path, stays as it is before it is tuned."""
        return 0

    summed: ClassVar[bool] = False
    """Whether a step descends the sum of the losses of its batch, so that each example has the step of the learning rate; otherwise
    their mean."""

    def initial_state(self, rows: int) -> Any:
        """State before the first batch of an epoch: a nest of arrays, rows first. Empty for most."""
        return ()

    @abstractmethod
    def loss(self, model: keras.Model, batch: dict[str, tf.Tensor], state: Any, noise: Noise | None) -> Loss:
        """Loss of a padded batch (fields as in `Store.batch`). noise is None outside training."""

    def glance(self, model: keras.Model, examples: Iterable[Any]) -> Callable[[], dict[str, float]]:
        """What is measured at each evaluation beside the loss and its parts, on some of the validation examples: costly, for the log."""
        return dict

    @abstractmethod
    def signatures(self, model: keras.Model) -> dict[str, Signature]:
        """What an export holds and what scoring calls; "serving_default" is the main one."""

    @abstractmethod
    def resources(self) -> list[Any]:
        """The lookup tables and constant variables that the signatures use beside the model's: an export saves them."""

    def samples(self, signature: str, examples: Sequence[Inputs]) -> Sequence[Inputs]:
        """What the self-check of an export asks a signature: the inputs of some examples, where it takes such."""
        return examples

    @abstractmethod
    def evaluate(self, answer: Answering, examples: Sequence[Any]) -> list[dict[str, Any]]:
        """One JSON-able result an example, from `answer(signature, inputs)` or `answer.functions`.

        The report shows those whose "gold" is not their "answer", the highest "loss" first, with "where" they stand and their "text", or
        their "words" where gold and answer are lists. Where nothing is right or wrong, it shows those of the highest loss.
        """

    def aside(self, answer: Answering, examples: Sequence[Any]) -> Scores | None:
        """Scores that are no sums over the examples, told beside those of `score`."""
        return None

    @abstractmethod
    def score(self, results: Sequence[dict[str, Any]]) -> Scores:
        """Scores of the results of `evaluate`."""

    def baseline(self, examples: Callable[[str], Iterator[Any]], test: Sequence[Any]) -> tuple[str, Scores] | None:
        """Name and scores of a simple model for the test examples, fitted on `examples("train")`, chosen on `examples("validation")`."""
        return None
