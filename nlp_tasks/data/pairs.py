"""Texts in two languages, line by line in two files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlp_tasks.data.formats import fingerprint, lines
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.errors import UserError
from nlp_tasks.recipe import Data

TABLES = (".tsv", ".tab", ".txt", ".csv", ".jsonl", ".ndjson")


def is_aligned(name: str) -> bool:
    """Whether a split's name is what aligned files have in common, and not the name of a table."""
    return bool(name) and Path(name).suffix.lower() not in TABLES


class AlignedFiles:
    """Rows of "source" and "target" from `NAME.en` and `NAME.de`. A tab is a character like any other; empty lines stay.

    Args:
        data: the recipe's `[data]`.
        source, target: the endings.
    """

    def __init__(self, data: Data, source: str, target: str) -> None:
        self._data, self._languages = data, (source, target)
        for name, language in (("source", source), ("target", target)):
            if not language:
                raise UserError(f'data.train = "{data.train}" without data.{name}_language',
                                f'name it, for example {name}_language = "{"en" if name == "source" else "de"}"; a table of pairs '
                                "has an ending: train.tsv")  # fmt: skip
        if source == target:
            raise UserError(f"data.source_language and data.target_language are both {source!r}", "name two languages")

    def paths(self, split: str) -> tuple[Path, Path]:
        """Both files of a split. Raises UserError where one is missing."""
        source, target = (self._data.path(f"{split}.{language}") for language in self._languages)
        for path, language in zip((source, target), self._languages, strict=True):
            if path.is_file():
                continue
            there = sorted(other.name[len(path.stem) + 1 :] for other in path.parent.glob(f"{path.stem}.*") if other.is_file())
            if there:
                raise UserError(f"no file {path}: {split} is there in {', '.join(there)}, not in {language!r}",
                                f"pairs there are: {_pairs(there)}" if len(there) > 1 else f"put {path.name} beside it")  # fmt: skip
            origin = f"the data comes from {self._data.origin}; " if self._data.origin else ""
            raise UserError(f"no file {path}", f"{origin}name the files by data.train, data.test and data.directory in the recipe, "
                            f"without their ending .{language}")  # fmt: skip
        return source, target

    def rows(self, split: str, counts: Counts) -> Iterator[Row]:
        return counts.keep(self._rows(*self.paths(split)))

    def _rows(self, source: Path, target: Path) -> Iterator[Row]:
        number = 0
        for number, both in enumerate(itertools.zip_longest(lines(source), lines(target)), 1):
            if None in both:
                break
            texts = (line[1].removesuffix("\n").removesuffix("\r") for line in both)
            yield Row(dict(zip(("source", "target"), texts, strict=True)), Where(str(source), number))
        counts = [_count(path) for path in (source, target)]
        if counts[0] != counts[1]:
            raise UserError(f"{source} has {counts[0]:,} lines, {target} {counts[1]:,}", "each line must be the translation of the same "
                            "line of the other file; look where they part")  # fmt: skip
        if not number:
            raise UserError(f"{source}: empty file", "give files with at least one line")

    def fingerprint(self, split: str) -> str:
        return fingerprint(self.paths(split))


def check_languages(data: Any) -> None:
    """Raises UserError where a TensorFlow data set has no such pair of languages, or where they are not named."""
    if not data.source.startswith("tfds:"):
        return
    for side, example in (("source", "en"), ("target", "de")):
        if not getattr(data, f"{side}_language"):
            raise UserError(f"data.source = {data.source!r} without data.{side}_language",
                            f'name it as the data set calls it, for example {side}_language = "{example}"')  # fmt: skip
    import tensorflow_datasets as tfds

    family, _, config = data.source.removeprefix("tfds:").partition("/")
    if ":" in family:  # a namespace would ask the network; a version has no configuration behind it
        return
    try:
        known = [found.name for found in tfds.builder_cls(family).BUILDER_CONFIGS]
    except (ValueError, ImportError):  # not of the catalogue: what is wrong with it is told where it is opened
        return
    if config and known and config.partition(":")[0] not in known:
        raise UserError(f"data.source = {data.source!r}: {family} has no {config!r}", f"it has: {', '.join(known)}")


def _count(path: Path) -> int:
    return sum(1 for _ in lines(path))


def _pairs(languages: list[str]) -> str:
    return ", ".join(f"{source}→{target}" for source, target in itertools.permutations(languages, 2))
