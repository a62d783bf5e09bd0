"""A look at the data of a recipe before anything is trained: what it is like, and what is wrong with it."""

from __future__ import annotations

import time
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import tensorflow as tf

from nlp_tasks import machine
from nlp_tasks.data import duplicates
from nlp_tasks.data.batching import padding_share
from nlp_tasks.data.findings import PLACES, Finding, Tally, main_script, suspicions
from nlp_tasks.data.rows import Counts, Where, chunks
from nlp_tasks.data.splits import LEFT_OUT, PHRASE, SPLITS, Splits
from nlp_tasks.errors import UserError
from nlp_tasks.progress import Progress
from nlp_tasks.tasks.task import Task
from nlp_tasks.text import ragged
from nlp_tasks.text.ngrams import NgramCounter

MOST_COMPARED = 1_000_000
"""Rows of a split among which near duplicates are looked for; of more, a sample."""
SEEN = {
    "train": "leave them out of train: what was seen in training is not tested",
    "validation": "leave them out of validation: what was chosen on is not tested",
}
RARE = 10
"""A label with fewer training examples is rare."""


@dataclass
class _Looked:
    """What was seen of a chunk of examples."""

    examples: list[Any]
    hashes: list[int]
    lengths: dict[str, np.ndarray]
    tokens: dict[str, np.ndarray]
    """By field, a hash of each token."""
    suspicions: list[list[str]]
    scripts: list[str]
    compared: np.ndarray
    digests: np.ndarray


@dataclass
class _Source:
    """All rows of a split that the recipe names; of train, those held out as well. One number a row."""

    hashes: array[int] = field(default_factory=lambda: array("Q"))
    labels: array[int] = field(default_factory=lambda: array("I"))
    files: array[int] = field(default_factory=lambda: array("I"))
    lines: array[int] = field(default_factory=lambda: array("I"))
    lengths: array[int] = field(default_factory=lambda: array("I"))
    """Tokens, of the first field."""
    sides: array[int] = field(default_factory=lambda: array("B"))
    names: dict[str, int] = field(default_factory=dict)
    compared: list[np.ndarray] = field(default_factory=list)
    digests: list[np.ndarray] = field(default_factory=list)
    every: int = 1
    """Of so many rows, one is compared with others for near duplicates."""
    tally: Tally = field(default_factory=Tally)
    _listed: list[str] = field(default_factory=list)

    def add(self, example: Any, text_hash: int, labels: Sequence[str], side: int) -> None:
        where = example.where
        self.hashes.append(text_hash)
        self.labels.append(zlib.crc32("\0".join(labels).encode()))
        self.files.append(self.names.setdefault(where.file, len(self.names)))
        self.lines.append(where.line)
        self.sides.append(side)

    def add_digests(self, rows: np.ndarray, digests: np.ndarray) -> None:
        kept = rows % self.every == 0
        self.compared.append(rows[kept])
        self.digests.append(digests[kept])
        if sum(map(len, self.compared)) > MOST_COMPARED:
            self.every *= 2
            self.digests = [d[r % self.every == 0] for r, d in zip(self.compared, self.digests, strict=True)]
            self.compared = [r[r % self.every == 0] for r in self.compared]

    def where(self, row: int) -> str:
        if len(self._listed) < len(self.names):
            self._listed = list(self.names)
        return str(Where(self._listed[self.files[row]], self.lines[row]))


@dataclass
class _Rows:
    """The rows of all sources one after another."""

    files: list[_Source]
    hashes: np.ndarray
    labels: np.ndarray
    sides: np.ndarray
    sources: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, files: list[_Source]) -> _Rows:
        def joined(name: str, dtype: Any) -> np.ndarray:
            return np.concatenate([np.zeros(0, dtype), *(np.frombuffer(getattr(source, name), dtype) for source in files)])

        counts = [len(source.hashes) for source in files]
        return cls(files, joined("hashes", np.uint64), joined("labels", np.uint32), joined("sides", np.uint8),
                   np.repeat(np.arange(len(files), dtype=np.uint8), counts), np.cumsum([0, *counts]))  # fmt: skip

    def where(self, row: Any) -> str:
        source = self.sources[row]
        return self.files[source].where(int(row - self.starts[source]))

    def compared(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows that have a digest, and the digests, which are not kept."""
        rows = [compared + start for source, start in zip(self.files, self.starts, strict=False) for compared in source.compared]
        digests = [digest for source in self.files for digest in source.digests]
        for source in self.files:
            source.digests.clear()
        none = np.zeros((0, duplicates.PERMUTATIONS), np.uint32)
        return np.concatenate([np.zeros(0, np.int64), *rows]), np.concatenate([none, *digests])


@dataclass
class _Side:
    """What is known of a split as a run reads it."""

    lengths: dict[str, array[int]] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)
    places: dict[tuple[str, str], str] = field(default_factory=dict)
    """The first of each ("label", …) and ("script", …)."""
    tokens: dict[str, NgramCounter] = field(default_factory=dict)
    texts: set[int] = field(default_factory=set)
    """Hashes of the inputs that were counted, where each counts once."""
    examples: int = 0

    def add(self, example: Any, labels: Sequence[str], script: str) -> None:
        self.examples += 1
        self.labels.update(labels)
        self.scripts.update([script] if script else [])
        for key in {("script", script), *(("label", label) for label in labels)} - self.places.keys():
            self.places[key] = str(example.where)

    def first_time(self, column: int, texts: Iterable[str]) -> np.ndarray:
        """`<bool>[texts]`: whether this column had none of the same."""
        fresh = []
        for text in texts:
            fresh.append((key := hash((column, text))) not in self.texts)
            self.texts.add(key)
        return np.array(fresh, bool)


class Check:
    """Reads what a run would read, once.

    Args:
        task: without resources.
        splits: of its recipe.
    """

    def __init__(self, task: Task, splits: Splits) -> None:
        self._task, self._splits = task, splits
        self._sides = {split: _Side() for split in SPLITS}
        self._sources: dict[str, _Source] = {}
        self._counts: dict[str, Counts] = {}
        self._known: dict[str, np.ndarray] = {}
        """By field, hashes of the tokens that the model will know, ascending."""
        self._vocabularies: dict[str, dict[str, int]] = {}
        self._findings: list[Finding] = []
        self._broken: set[str] = set()
        self._examiner = task.examiner()
        specs = task.signatures(None)[task.scored].inputs
        self._specs = specs

        def fingerprints(*strings: tf.Tensor) -> dict[str, tf.RaggedTensor]:
            fields = task.tokenize(*strings)
            return {name: tokens.with_values(_token_hashes(tokens.values)) for name, tokens in fields.items()}

        self._fingerprints = tf.function(fingerprints, autograph=False, input_signature=specs)

    def run(self) -> dict[str, Any]:
        """The content of check.json: what the splits are like, what was found, and which test rows have a copy in train."""
        begun = time.monotonic()
        for split in self._splits.sources():
            self._read(split)
        copies = self._copies() if self._task.independent else []
        self._judge()
        order = {"error": 0, "warning": 1, "note": 2}
        findings = sorted(self._findings, key=lambda finding: order[finding.level])
        return {
            "splits": {name: self._describe(name) for name in SPLITS if self._sides[name].examples and not self._is_broken(name)},
            "findings": [finding.as_dict() for finding in findings],
            "copies": copies,
            "seconds": round(time.monotonic() - begun, 1),
        }

    def _is_broken(self, name: str) -> bool:
        """Whether a split, or the file it is held out of, could not be read to its end."""
        return ("train" if self._splits.held_out(name) else name) in self._broken

    # Reading

    def _read(self, split: str) -> None:
        source = self._sources[split] = _Source()
        counts = self._counts[split] = Counts()
        try:
            examples = self._task.fit(
                self._task.read(self._splits.source_rows(split, counts), counts), counts,
                lambda example: self._splits.side(split, self._task.text(example)) == "train",
            )  # fmt: skip
            with Progress(f"checking {split}", None) as progress:
                for looked in machine.side_by_side(self._look, chunks(examples)):
                    self._take(split, source, looked)
                    progress.advance(len(looked.examples))
        except UserError as error:
            self._broken.add(split)
            self._findings.append(Finding("refused", "error", split, error.message, 1, [], error.hint))
        for side, reason in enumerate((PHRASE, LEFT_OUT), len(SPLITS)):
            if number := source.sides.count(side):
                self._note("left_out", split, f"{number:,} left out: {reason}", number)
        for reason, number in sorted(counts.dropped.items()):
            self._note("left_out", split, f"{number:,} left out: {reason}", number)
        for what, number in sorted(counts.passed.items()):
            if number:
                self._note("passed", split, f"{what}: {number:,}, read over, as they are no words of the model", number)
        for what, places in sorted(counts.mended.items()):
            self._findings.append(Finding("mended", "warning", split, f"{what}: {len(places):,}", len(places), places[:PLACES],
                                          "better mend the file"))  # fmt: skip

    def _look(self, examples: list[Any]) -> _Looked:
        texts = [self._task.text(example) for example in examples]
        columns = zip(*(example.inputs for example in examples), strict=True)
        fields = self._fingerprints(
            *(ragged.strings(column, spec.shape.rank) for column, spec in zip(columns, self._specs, strict=True))
        )
        lengths = {name: value.row_lengths().numpy() for name, value in fields.items()}
        tokens = {name: value.values.numpy() for name, value in fields.items()}
        first = next(iter(fields))
        kept = slice(None) if self._task.independent else slice(0)
        compared, digests = duplicates.digests(tokens[first][kept].astype(np.uint64), lengths[first][kept])
        blank = self._task.recipe.text.blank
        suspect = [list(suspicions(text, blank)) for text in texts]
        hashes = [duplicates.text_hash(text) for text in texts]
        return _Looked(examples, hashes, lengths, tokens, suspect, [main_script(text) for text in texts], compared, digests)

    def _take(self, split: str, source: _Source, looked: _Looked) -> None:
        start = len(source.hashes)
        sides = [self._splits.side(split, self._task.text(example)) for example in looked.examples]
        for example, side, text_hash, kinds, script in zip(
            looked.examples, sides, looked.hashes, looked.suspicions, looked.scripts, strict=True
        ):
            labels = self._task.labels_of(example)
            source.add(example, text_hash, labels, (*SPLITS, PHRASE, LEFT_OUT).index(side))
            for kind in kinds:
                source.tally.add(kind, example.where)
            if side in SPLITS:
                self._sides[side].add(example, labels, script)
                self._examiner.see(side, example)
        source.lengths.extend(next(iter(looked.lengths.values())).tolist())
        source.add_digests(looked.compared + start, looked.digests)
        names = np.array(sides)
        for side_name in {*sides} & {*SPLITS}:
            rows, known = names == side_name, self._sides[side_name]
            for column, (name, lengths) in enumerate(looked.lengths.items()):
                known.lengths.setdefault(name, array("I")).extend(lengths[rows].tolist())
                counted = rows.copy()
                if self._task.joint_vocabulary:
                    texts = [example.inputs[column] for example, there in zip(looked.examples, rows, strict=True) if there]
                    counted[rows] = known.first_time(column, texts)
                tokens = looked.tokens[name][np.repeat(counted, lengths)]
                counter = known.tokens.setdefault(name, NgramCounter(1, merge_at=2_000_000))
                counter.add(tokens, np.zeros(len(tokens), np.int64))

    def _note(self, kind: str, split: str, message: str, count: int, places: Iterable[str] = (), advice: str = "") -> None:
        self._findings.append(Finding(kind, "note", split, message, count, [*places][:PLACES], advice))

    def _warn(self, kind: str, split: str, message: str, count: int, places: Iterable[str], advice: str) -> None:
        self._findings.append(Finding(kind, "warning", split, message, count, [*places][:PLACES], advice))

    # Copies

    def _copies(self) -> list[str]:
        """Finds rows that occur twice. Returns the places of test rows of which train has the text, or nearly."""
        rows = _Rows.of([source for source in self._sources.values() if source.hashes])
        for index, name in enumerate(self._names()):
            self._repeated(name, np.flatnonzero(rows.sources == index), rows)
        self._contradictions(rows)
        for one, other in combinations(self._names(), 2):
            self._across(rows, one, other)
        near = self._near(rows)
        train, test = (np.flatnonzero(rows.sides == SPLITS.index(name)) for name in ("train", "test"))
        copies = [rows.where(row) for row in test[np.isin(rows.hashes[test], np.concatenate([rows.hashes[train], near]))]]
        for source in self._sources.values():  # of ten million rows a tenth of a gigabyte
            source.hashes, source.labels = array("Q"), array("I")
        return copies

    def _names(self) -> list[str]:
        """Of the files, in their order."""
        return [name for name, source in self._sources.items() if source.hashes]

    def _repeated(self, name: str, these: np.ndarray, rows: _Rows) -> None:
        """Rows of a file that repeat an earlier one."""
        hashes = rows.hashes[these]
        order = np.argsort(hashes, kind="stable")
        again = np.sort(order[1:][hashes[order[1:]] == hashes[order[:-1]]])
        if len(again):
            message = f"{_count(len(again), 'row')} {'repeats' if len(again) == 1 else 'repeat'} an earlier row of {name}"
            shown = [(row, np.argmax(hashes == hashes[row])) for row in again[:PLACES]]
            places = [f"{rows.where(these[row])} = {rows.where(these[first])}" for row, first in shown]
            advice = "leave the repetitions out, unless they are meant to count more"
            self._warn("repeated", name, message, len(again), places, advice)

    def _across(self, rows: _Rows, one: str, other: str) -> None:
        """Texts that stand in two files. (Of those held out of one file, all equal texts are on one side.)"""
        names = self._names()
        earlier, later = (np.flatnonzero(rows.sources == names.index(name)) for name in (one, other))
        shared = later[np.isin(rows.hashes[later], rows.hashes[earlier])]
        texts = np.unique(rows.hashes[shared])
        if not len(texts):
            return
        message = f"{_count(len(texts), 'text')} {'stands' if len(texts) == 1 else 'stand'} in both {one} and {other} "
        message += f"({_count(len(shared), 'row')} of {other})"
        first = [earlier[np.argmax(rows.hashes[earlier] == rows.hashes[row])] for row in shared[:PLACES]]
        places = [f"{rows.where(row)} = {rows.where(copied)}" for row, copied in zip(shared, first, strict=False)]
        self._warn("copies_across", f"{one}, {other}", message, len(texts), places, SEEN[one])

    def _contradictions(self, rows: _Rows) -> None:
        """Equal texts with different labels."""
        order = np.lexsort((rows.labels, rows.hashes))
        hashes, labels = rows.hashes[order], rows.labels[order]
        differ = np.flatnonzero((hashes[1:] == hashes[:-1]) & (labels[1:] != labels[:-1])) + 1
        if not len(differ):
            return
        texts = len(np.unique(hashes[differ]))
        sides = {*rows.sides[order[differ]]} | {*rows.sides[order[differ - 1]]}
        split = ", ".join(name for index, name in enumerate(SPLITS) if index in sides) or "train"
        places = [f"{rows.where(order[row])} ≠ {rows.where(order[row - 1])}" for row in differ[:PLACES]]
        message = f"{_count(texts, 'text')} with different labels in different rows"
        self._warn("contradiction", split, message, texts, places, "look at them and decide: no model can have both right")

    def _near(self, rows: _Rows) -> np.ndarray:
        """Near duplicates, equal texts left out. Returns the hashes of test rows that resemble a row of train."""
        compared, matrix = rows.compared()
        _, first = np.unique(rows.hashes[compared], return_index=True)
        first.sort()
        compared, matrix = compared[first], matrix[first]
        pairs = compared[duplicates.near_pairs(matrix)]
        sides = np.sort(rows.sides[pairs], 1)
        sampled = [f"one row in {source.every} of {name}" for name, source in self._sources.items() if source.every > 1]
        found = np.zeros(0, np.uint64)
        for one, other in [(split, split) for split in SPLITS] + list(combinations(SPLITS, 2)):
            these = pairs[(sides == (SPLITS.index(one), SPLITS.index(other))).all(1)]
            if not len(these):
                continue
            later = np.where(rows.sides[these[:, 0]] > rows.sides[these[:, 1]], these[:, 0], these[:, 1])
            texts, first_pair = np.unique(later, return_index=True)
            partner = these.sum(1)[first_pair] - texts
            places = [f"{rows.where(a)} ≈ {rows.where(b)}" for a, b in zip(texts[:PLACES], partner[:PLACES], strict=True)]
            message = _count(len(texts), "row") + (
                " nearly another row" if one == other else f" of {other} nearly in {one} as well"
            )
            message += f" (in a sample: {', '.join(sampled)})" if sampled else ""
            if one == other:
                self._note("near", one, message, len(texts), places, "copies with small changes? then leave them out")
            else:
                self._warn("near_across", f"{one}, {other}", message, len(texts), places, SEEN[one])
            if (one, other) == ("train", "test"):
                found = rows.hashes[texts]
        return found

    # Judging

    def _judge(self) -> None:
        for name, source in self._sources.items():
            self._findings += source.tally.findings(name)
            lengths = np.frombuffer(source.lengths, np.uint32)
            long = np.flatnonzero(lengths >= max(200, 20 * np.median(lengths))) if len(lengths) else ()
            if len(long):
                places = [f"{source.where(row)} ({lengths[row]:,} tokens)" for row in long[:PLACES]]
                self._note("very_long", name, f"{_count(len(long), 'row')} at least twenty times as long as the median", len(long), places,
                           "does a row hold several texts?")  # fmt: skip
        train = self._sides["train"]
        if not self._is_broken("train"):
            if not train.examples:
                self._refuse("no_rows", "train", "the training data has no rows", 0, [], "is data.train the right file?")
            else:
                self._judge_others()
                if not self._task.open_vocabulary:
                    self._judge_vocabulary(train)
                self._judge_labels(train)
                self._judge_scripts(train)
        self._findings += self._examiner.findings()

    def _refuse(self, kind: str, split: str, message: str, count: int, places: Sequence[str], advice: str) -> None:
        self._findings.append(Finding(kind, "error", split, message, count, [*places][:PLACES], advice))

    def _judge_others(self) -> None:
        for name in ("validation", "test"):
            if not self._sides[name].examples and not self._is_broken(name):
                message = f"no rows for {name} ({self._splits.describe(name)})"
                self._refuse("no_rows", name, message, 0, [], f"set data.{name}, or a larger data.{name}_share")

    def _judge_vocabulary(self, train: _Side) -> None:
        """Makes what `unknown` is measured by."""
        text = self._task.recipe.text
        try:
            further = self._task.further_tokens()
        except UserError as error:
            self._refuse("refused", "train", error.message, 1, [], error.hint)
            further = []
        counted = {name: counter.result() for name, counter in train.tokens.items()}
        if self._task.joint_vocabulary:
            counted = {" and ".join(counted): _summed(counted.values())}
        for name, (keys, counts) in counted.items():
            kept = np.flatnonzero(counts[:, 0] >= text.minimum_count)
            if len(kept) > text.vocabulary_size:  # equal counts: any of them
                kept = kept[np.argsort(-counts[kept, 0], kind="stable")[: text.vocabulary_size]]
            if not len(kept):
                self._refuse("no_vocabulary", "train", "no token of the training data gets into the vocabulary", 0, [],
                             f"is the text empty? text.minimum_count is {text.minimum_count}")  # fmt: skip
            self._vocabularies[name] = {"kept": len(kept), "distinct": len(keys)}
            known = np.union1d(keys[kept], _token_hashes(tf.constant(further, tf.string)).numpy())
            self._known |= dict.fromkeys(train.tokens if self._task.joint_vocabulary else (name,), known)

    def _judge_labels(self, train: _Side) -> None:
        try:
            self._task.check_labels(train.labels)
        except UserError as error:
            self._refuse("labels", "train", error.message, 0, [], error.hint)
            return
        rare = {label: count for label, count in train.labels.items() if count < RARE}
        if rare:
            message = f"labels with fewer than {RARE} examples: {_some(rare)}"
            advice = "find more examples, or join them with others: so few teach nothing"
            self._warn("rare_labels", "train", message, len(rare), [train.places["label", label] for label in rare], advice)
        for name in ("validation", "test"):
            side = self._sides[name]
            if not side.examples or self._is_broken(name):
                continue
            if missing := {label: count for label, count in train.labels.items() if label not in side.labels}:
                message = f"labels of train that {name} lacks: {_some(missing)}"
                self._warn("missing_labels", name, message, len(missing), [], f"scores on {name} say nothing about them")
            if not (unseen := {label: count for label, count in side.labels.items() if label not in train.labels}):
                continue
            one = f"label {next(iter(unseen))!r} was never seen in training"
            message = one if len(unseen) == 1 else f"labels never seen in training: {_some(unseen)}"
            places = [side.places["label", label] for label in unseen][:PLACES]
            if not self._task.refuses_unseen:
                self._warn("unseen_labels", name, message, len(unseen), places, "no model can answer them: they count as wrong")
            elif self._splits.held_out(name):
                self._note("unseen_labels", name, message, len(unseen), places, "their rows are left out")
            else:
                advice = f"the training data has: {', '.join(sorted(train.labels)[:20])}"
                self._refuse("unseen_labels", name, message, len(unseen), places, advice)

    def _judge_scripts(self, train: _Side) -> None:
        """Rows in another script than almost all of the training data."""
        if not train.scripts:
            return
        usual, count = train.scripts.most_common(1)[0]
        if count < 0.95 * train.scripts.total():
            return
        for name in SPLITS:
            side = self._sides[name]
            other = {script: number for script, number in side.scripts.items() if script != usual}
            if other:
                number = sum(other.values())
                message = f"{_count(number, 'row')} mostly in other letters than {usual.title()}: {_some(other)}"
                places = [side.places["script", script] for script in other]
                self._note("scripts", name, message, number, places, "is the language right?")

    # Description

    def _describe(self, name: str) -> dict[str, Any]:
        side = self._sides[name]
        fields = {}
        for field_name, values in side.lengths.items():
            lengths = np.frombuffer(values, np.uint32).astype(np.int64)
            described: dict[str, Any] = {"tokens": int(lengths.sum()), "length": _quantiles(lengths)}
            if limit := self._task.limits.get(field_name):
                over = np.maximum(lengths - limit, 0)
                described |= {
                    "limit": limit,
                    "cut_rows": float((over > 0).mean()),
                    "cut_tokens": float(over.sum() / max(1, lengths.sum())),
                }
            keys, counts = side.tokens[field_name].result()
            described["distinct"] = len(keys)
            if name == "train" and not self._task.joint_vocabulary:
                self._vocabularies.setdefault(field_name, {"distinct": len(keys)})
            if field_name in self._known:
                described["unknown"] = float(counts[~np.isin(keys, self._known[field_name])].sum() / max(1, counts.sum()))
            if field_name == self._task.length_field:
                splits = self._task.windows(int(lengths.sum()))
                kept = np.minimum(lengths, limit or lengths.max(initial=0)) if splits is None else np.diff(splits)
                described["padding"] = padding_share(
                    kept, self._task.plan(kept, self._task.recipe.training, None if name != "train" else 0)
                )
            fields[field_name] = described
        return {
            "from": self._splits.describe(name),
            "examples": side.examples,
            "fields": fields,
            "vocabularies": self._vocabularies if name == "train" else {},
            "labels": dict(side.labels.most_common()),
        }


def _summed(counted: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Keys, ascending, and the counts of equal ones added up."""
    every = [*counted]
    keys, place = np.unique(np.concatenate([keys for keys, _ in every]), return_inverse=True)
    counts = np.zeros((len(keys), 1), np.int64)
    np.add.at(counts, place, np.concatenate([counts for _, counts in every]))
    return keys, counts


def _token_hashes(tokens: tf.Tensor) -> tf.Tensor:
    """`<string>[…]` → `<int64>[…]`, 63 bits each; numbers stand for themselves."""
    if tokens.dtype != tf.string:
        return tf.cast(tokens, tf.int64)
    return tf.strings.to_hash_bucket_fast(tokens, 2**63 - 1)


def _quantiles(lengths: np.ndarray) -> dict[str, float]:
    names = {"min": 0, "5%": 0.05, "median": 0.5, "95%": 0.95, "99%": 0.99, "max": 1}
    return {name: int(np.quantile(lengths, share, method="nearest")) for name, share in names.items()} | {
        "mean": round(float(lengths.mean()), 1)
    }


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _some(counts: Mapping[str, int], most: int = 8) -> str:
    shown = ", ".join(f"{name} ({count:,})" for name, count in sorted(counts.items(), key=lambda item: -item[1])[:most])
    return shown + (f" and {len(counts) - most:,} more" if len(counts) > most else "")
