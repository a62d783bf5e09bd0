"""What tasks over running text share: a text is read as one stream, from files, folders, or the texts of any other data set."""

from __future__ import annotations

import functools
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from nlp_tasks import recipe
from nlp_tasks.data import texts
from nlp_tasks.data.findings import PLACES, Finding
from nlp_tasks.data.rows import Counts, Row, Where, chunks
from nlp_tasks.data.sources import Files, Source, open_source
from nlp_tasks.data.splits import Splits
from nlp_tasks.lazy import lazy
from nlp_tasks.tasks.task import Examiner, Task

if TYPE_CHECKING:
    import tensorflow as tf

    from nlp_tasks.text import tokenizer, units
else:
    tf = lazy("tensorflow")
    tokenizer, units = lazy("nlp_tasks.text.tokenizer"), lazy("nlp_tasks.text.units")

TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson")
"""Files of which one column is text."""
COPIED = 0.1
"""A share of lines from which on it is a warning that they stand in train as well."""
LINE = 40
"""Lines of at least so many characters that stand in train and test are told."""


class Data(recipe.Data, frozen=True, kw_only=True):
    """`[data]`: train, validation and test name files, folders or parts of them ("input.txt[:90%]"), read as one text each.

    An empty validation or test is the last share of train: of one text its end, of a folder so many of its documents.
    source: beside those of all tasks "standard_library": the source code of the running Python, a folder.
    pattern: which files of a folder are read.
    text_column: of a table (.csv, .tsv, .jsonl) or a TFDS set, each row of which is a line of the text, labels left aside; empty: "text",
        "sentence" or "document".
    """

    pattern: str = "**/*.txt"
    text_column: str = ""


class Text(recipe.Text, frozen=True, kw_only=True):
    """`[text]`: rules: words are split by the tokenizer's rules, punctuation apart; otherwise at white space."""

    rules: bool = False
    lowercase: bool = False


class Piece(NamedTuple):
    """Some lines of the text; the next piece goes on where this one ends."""

    inputs: tuple[str]
    target: str
    where: Where


def is_table(split: str) -> bool:
    """Whether a split names a table rather than a text."""
    return Path(texts.Part.of(split).path).suffix.lower() in TABLES


class _TextsAndTables:
    """Running text, and the text column of tables, by what a split names."""

    def __init__(self, data: recipe.Data, columns: Mapping[str, Sequence[str]], order: Sequence[str]) -> None:
        self._texts, self._tables = texts.Texts(data), Files(data, columns, order)

    def rows(self, split: str, counts: Counts) -> Iterator[Row]:
        return self._of(split).rows(split, counts)

    def fingerprint(self, split: str) -> str:
        return self._of(split).fingerprint(split)

    def _of(self, split: str) -> Source:
        return self._tables if is_table(split) else self._texts


class RunningText(Task):
    """A task whose examples are the pieces of one text."""

    order: ClassVar[tuple[str, ...]] = ("text",)
    independent = False

    @classmethod
    def columns(cls, data: recipe.Data) -> Mapping[str, Sequence[str]]:
        assert isinstance(data, Data)
        return {"text": (data.text_column,) if data.text_column else ("text", "sentence", "document")}

    @classmethod
    def splits(cls, recipe: recipe.Recipe, data_dir: str | None) -> Splits:
        data, columns = recipe.data, cls.columns(recipe.data)
        if data.source not in ("files", "standard_library"):
            return Splits(open_source(data, recipe.task.name, columns, cls.order, data_dir), data, "text")
        if not (data.train and is_table(data.train)):  # rows of a table are dealt out as those of any other task
            data = texts.cut(data)
        return Splits(_TextsAndTables(data, columns, cls.order), data, "text")

    @classmethod
    def check_files(cls, data: recipe.Data) -> None:
        if data.source == "files":
            for split in filter(None, (data.train, data.validation, data.test)):
                texts.check_exists(data, split)

    def read(self, rows: Iterable[Row], counts: Counts) -> Iterator[Piece]:
        running = self.recipe.data.source in ("files", "standard_library")
        for row in rows:
            text = row.fields["text"]
            # A text without line end goes on in the next row; a row of a table, whatever it holds, is a line.
            goes_on = running and Path(row.where.file).suffix.lower() not in TABLES
            yield Piece((text if goes_on or text.endswith("\n") else f"{text}\n",), "", row.where)

    def examiner(self) -> Examiner:
        return RepeatedLines()

    @property
    def _split(self) -> Any:
        """How a line comes apart into words."""
        text = self.recipe.text
        return units.by_rules(self._tokenizer) if text.rules else units.at_spaces(text.lowercase)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        return tokenizer.Tokenizer(self.recipe.text.lowercase, self.recipe.text.blank)

    def tokenize(self, *strings: tf.Tensor) -> dict[str, tf.RaggedTensor]:
        return {"tokens": units.words(strings[0], self._split)}

    def write_units(self, path: Path, examples: Callable[[], Iterator[Piece]], kind: str = "words") -> None:
        """Counts the units of the training text."""
        text = self.recipe.text
        batches = (tf.constant([piece.inputs[0] for piece in chunk]) for chunk in chunks(examples()))
        units.write(path, kind, batches, self._split, minimum_count=text.minimum_count, size=text.vocabulary_size)

    def encode(self, *strings: tf.Tensor) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        return {"tokens": self.units.encode(strings[0])}

    def load_units(self, loaded: Any) -> None:
        """The `Units` that texts are encoded by from now on."""
        self.units = loaded
        spec = tf.TensorSpec([None], tf.string)
        self._encoding = tf.function(lambda texts: self.encode(texts)["tokens"], autograph=False, input_signature=[spec])

    def encoded(self, pieces: Sequence[Piece]) -> tf.RaggedTensor:
        """By a graph that is traced once: `<int32>[pieces, (tokens)]`."""
        return self._encoding(tf.constant([piece.inputs[0] for piece in pieces]))

    @contextmanager
    def ids(self, pieces: Iterable[Piece], *, most: int | None = None, first: int = 0) -> Iterator[np.ndarray]:
        """The ids of all pieces, counted from `first`: `<int32>[tokens]`, at most so many, in a file rather than in memory."""
        count = 0
        with tempfile.TemporaryFile() as file:
            for chunk in chunks(pieces):
                found = self.encoded(chunk).values.numpy()
                found = found[: None if most is None else most - count]
                file.write((found - first).astype(np.int32).tobytes())
                count += len(found)
                if count == most:
                    break
            file.flush()
            yield np.memmap(file, np.int32, "r", shape=(count,)) if count else np.zeros(0, np.int32)

    def targets(self, examples: Sequence[Piece]) -> Mapping[str, np.ndarray]:
        return {}

    @property
    def length_field(self) -> str:
        return "tokens"


class RepeatedLines(Examiner):
    """Finds lines of the other splits that stand in train as well; short ones repeat by nature."""

    def __init__(self) -> None:
        self._hashes = {split: array("Q") for split in ("train", "validation", "test")}
        self._places: dict[tuple[str, int], str] = {}

    def see(self, split: str, example: Any) -> None:
        for number, line in enumerate(example.inputs[0].split("\n"), example.where.line):
            if len(line) >= LINE:
                key = zlib.crc32(line.encode()) << 32 | zlib.adler32(line.encode())
                self._hashes[split].append(key)
                if split != "train":
                    self._places.setdefault((split, key), f"{example.where.file}:{number}")

    def findings(self) -> Iterator[Finding]:
        train = np.unique(np.frombuffer(self._hashes["train"], np.uint64))
        for split in ("validation", "test"):
            lines = np.frombuffer(self._hashes[split], np.uint64)
            both = lines[np.isin(lines, train)]
            if len(both):
                message = f"{len(both):,} of {len(lines):,} lines of at least {LINE} characters stand in train as well"
                places = [*dict.fromkeys(self._places[split, int(key)] for key in both[: 10 * PLACES])][:PLACES]
                advice = "texts repeat themselves; whole documents that were copied are better left out of train"
                few = len(both) < COPIED * len(lines)
                yield Finding("copies_across", "note" if few else "warning", split, message, len(both), places, advice)
