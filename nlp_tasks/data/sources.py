"""Where rows come from: files, TensorFlow Datasets, the toy world. Nothing here imports TensorFlow before it must."""

from __future__ import annotations

import functools
import hashlib
import importlib
import itertools
import logging
import pkgutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from nlp_tasks.data import toy_world
from nlp_tasks.data.formats import Columns, Reader, absent, fingerprint, labelled_files, read_file
from nlp_tasks.data.rows import CHUNK, Counts, Row, Where
from nlp_tasks.data.sentences import EMPTY_NODE, MULTI_WORD
from nlp_tasks.errors import UserError, nearest
from nlp_tasks.recipe import Data


class Source(Protocol):
    """Rows by what a recipe calls a split: a path, or a split expression."""

    def rows(self, split: str, counts: Counts) -> Iterator[Row]:
        """Rows in an order that never changes."""

    def fingerprint(self, split: str) -> str:
        """A hash of the content: equal if and only if the rows are."""


class Files:
    """Files and folders, each named by a path or by a path below `directory`."""

    def __init__(self, data: Data, columns: Columns, order: Sequence[str], reader: Reader = read_file) -> None:
        self._data, self._columns, self._reader = data, columns, reader
        named = any(value for key, value in msgspec.structs.asdict(data).items() if key.endswith("_column"))
        self._order = () if named else order  # who names a column has a header line

    def rows(self, split: str, counts: Counts) -> Iterator[Row]:
        return counts.keep(self._reader(self.path(split), self._columns, self._order, counts))

    def fingerprint(self, split: str) -> str:
        path = self.path(split)
        digest = hashlib.sha256()
        for file in labelled_files(path) if path.is_dir() else [path]:
            if path.is_dir():
                digest.update(file.relative_to(path).as_posix().encode() + b"\0")
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()

    def path(self, split: str) -> Path:
        """The file or folder of a split. Raises UserError where there is none."""
        path = self._data.path(split)
        if not path.exists():
            origin = f"the data comes from {self._data.origin}; " if self._data.origin else ""
            raise UserError(f"no file {path}", f"{origin}name the files by data.train, data.test and data.directory in the recipe, "
                            "or by --set data.train=FILE")  # fmt: skip
        return path


class TensorFlowDatasets:
    """A prepared data set of the TFDS catalogue; never downloads by itself."""

    def __init__(self, data: Data, columns: Columns, data_dir: str | None) -> None:
        import tensorflow_datasets as tfds

        logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of a folder that we are about to report
        self._name, self._columns = data.source.removeprefix("tfds:"), columns
        # The command `tfds build` wants Apache Beam installed, whatever it builds.
        arguments = repr(self._name) + (f", data_dir={data_dir!r}" if data_dir else "")
        prepare = f'python -c "import tensorflow_datasets as tfds; tfds.builder({arguments}).download_and_prepare()"'
        hint = f"prepare it once, with network: {prepare}; or point --data-dir (TFDS_DATA_DIR) to where it is"
        if data.origin:
            hint += f". It comes from {data.origin}" + (f" ({data.licence})" if data.licence else "")
        try:
            reference, _ = tfds.core.naming.parse_builder_name_kwargs(self._name)
            if reference.namespace:  # TFDS would ask the network
                raise ValueError(f"{reference.namespace}: is no part of the TFDS catalogue")
            self._builder = tfds.builder(self._name, data_dir=data_dir)
            prepared = self._builder.is_prepared()
        except (ValueError, AssertionError) as error:  # AssertionError: a version that there is not
            first = str(error).strip().split("\n")[0]
            raise UserError(f"data set {self._name!r} is not known or not prepared: {first}", hint) from None
        if not prepared:
            raise UserError(f"data set {self._name!r} is not prepared in {self._builder.data_dir}", hint)

    def rows(self, split: str, counts: Counts) -> Iterator[Row]:
        return counts.keep(self._rows(split, counts))

    def fingerprint(self, split: str) -> str:
        """Version and content of the shards: they change whenever a data set is prepared anew from other data."""
        return hashlib.sha256(f"{self._content} {split}".encode()).hexdigest()

    @functools.cached_property
    def _content(self) -> str:
        return fingerprint(sorted(Path(self._builder.data_dir).glob("*-of-*")), self._builder.info.full_name)

    def _rows(self, split: str, counts: Counts) -> Iterator[Row]:
        features: Any = self._builder.info.features
        found = {}
        for name, candidates in self._columns.items():
            present = [candidate for candidate in candidates if _inside(features, candidate) is not None]
            if not present:
                raise UserError(f"data set {self._name!r} has no column for {name}: it has {', '.join(sorted(features))}",
                                absent(name, self._columns))  # fmt: skip
            found[name] = present[0]
        try:
            dataset = self._builder.as_dataset(split=split, shuffle_files=False)
        except (ValueError, AssertionError, KeyError) as error:
            raise UserError(f"data set {self._name!r} has no split {split!r}: {str(error).strip().splitlines()[0]}",
                            f"it has: {', '.join(self._builder.info.splits)}") from None  # fmt: skip
        place = f"tfds:{self._name}/{split}"
        treebank = self._builder.name == "universal_dependencies"
        read = {*found.values(), *(("head", "upos", "text") if treebank else ())}
        for number, example in enumerate(_one_by_one(dataset, read), 1):
            where = Where(place, number)
            if treebank:
                example = _words_only(example, features["upos"].feature, counts)
            fields = {name: _content(example[key], _inside(features, key), where) for name, key in found.items()}
            yield Row(fields, where, text=_text(example["text"], features["text"], where) if treebank else "")


def _inside(content: Any, path: str) -> Any:
    """What a path such as "answers/text" names; None where there is no such thing."""
    for name in path.split("/"):
        try:
            content = content[name]
        except (KeyError, TypeError):
            return None
    return content


def _one_by_one(dataset: Any, columns: Collection[str]) -> Iterator[dict[str, Any]]:
    """Examples as numpy, of these columns alone. They are fetched many at once: TFDS takes half a millisecond for each alone."""
    for batch in dataset.map(lambda example: {name: _inside(example, name) for name in columns}).ragged_batch(CHUNK):
        arrays = {name: _rows_of(value) for name, value in batch.items()}
        for row in zip(*arrays.values(), strict=True):
            yield dict(zip(arrays, row, strict=True))


def _rows_of(column: Any) -> Iterable[Any]:
    """The rows of a batch: of a sequence each row's part."""
    if not hasattr(column, "row_splits"):
        return column.numpy()
    values, splits = column.values.numpy(), column.row_splits.numpy()
    return (values[start:end] for start, end in itertools.pairwise(splits))


def _words_only(example: dict[str, Any], upos: Any, counts: Counts) -> dict[str, Any]:
    """Without the rows of multi-word tokens (they have no part of speech) and empty nodes: no words, they alone have no head."""
    words = example["head"] != b"None"
    ranges = int(np.count_nonzero(~words & (example["upos"] == upos.str2int("_"))))
    counts.passed.update({MULTI_WORD: ranges, EMPTY_NODE: int(np.count_nonzero(~words)) - ranges})
    sequence = {key for key, values in example.items() if getattr(values, "shape", None) == words.shape}
    return {key: values[words] if key in sequence else values for key, values in example.items()}


def _content(value: Any, feature: Any, where: Where) -> str | tuple[str, ...]:
    """A text, or the texts of a sequence."""
    if isinstance(value, np.ndarray) and value.ndim:
        return tuple(_text(item, getattr(feature, "feature", feature), where) for item in value)
    return _text(value, feature, where)


def _text(value: object, feature: object, where: Where) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: invalid UTF-8 at byte {error.start}", "prepare the data set from UTF-8 text") from None
    if hasattr(feature, "int2str"):
        if int(value) < 0:  # type: ignore[call-overload]
            raise UserError(f"{where}: the label is withheld (-1)", "name a split that has labels")
        return feature.int2str(int(value))  # type: ignore[call-overload]
    return str(value)


class ToyWorld:
    """A small world, made in memory: a module with `SIZES` by split, and `generate(split) -> tuples`, an item for each of `COLUMNS`.

    Raises:
        UserError: there is no such world; it has not all of `wanted`; from `rows` and `fingerprint`: it has no such split.
    """

    def __init__(self, name: str, wanted: Collection[str]) -> None:
        worlds = [module.name for module in pkgutil.iter_modules(toy_world.__path__)]
        if name not in worlds:
            raise UserError(f'data.source = "toy_world:{name}": no such world', nearest(name, worlds))
        self._module = importlib.import_module(f"{toy_world.__name__}.{name}")
        self._columns = self._module.COLUMNS
        missing = [column for column in wanted if column not in self._columns]
        if missing:
            raise UserError(f'data.source = "toy_world:{name}": it has no {missing[0]}, but {" and ".join(self._columns)}',
                            "name the world of a task that reads the same")  # fmt: skip

    def rows(self, split: str, counts: Counts) -> Iterator[Row]:
        rows = enumerate(self._generated(split), 1)
        return counts.keep(
            Row(dict(zip(self._columns, row, strict=True)), Where(f"toy_world/{split}", number)) for number, row in rows
        )

    def fingerprint(self, split: str) -> str:
        return hashlib.sha256(repr(list(self._generated(split))).encode()).hexdigest()

    def _generated(self, split: str) -> Iterator[tuple[Any, ...]]:
        if split not in self._module.SIZES:
            raise UserError(f"the toy world has no split {split!r}", nearest(split, list(self._module.SIZES)))
        return self._module.generate(split)


def open_source(
    data: Data, task: str, columns: Columns, order: Sequence[str], data_dir: str | None, reader: Reader = read_file
) -> Source:
    """The source that `[data] source` names."""
    if data.source == "files":
        return Files(data, columns, order, reader)
    if data.is_toy_world:
        return ToyWorld(data.source.partition(":")[2] or task, columns)
    if data.source.startswith("tfds:"):
        return TensorFlowDatasets(data, columns, data_dir)
    raise UserError(
        f"data.source = {data.source!r}: not a known source", 'expected "files", "tfds:NAME", "toy_world" or "toy_world:NAME"'
    )
