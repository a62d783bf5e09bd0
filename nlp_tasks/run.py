"""A run is one folder: read → prepare → encode → train → score → export, each stage resumable. The only file that knows all stages."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from nlp_tasks import __version__, distribution, export, inference, machine, page, report, tasks
from nlp_tasks.check import Check
from nlp_tasks.crew import Crew
from nlp_tasks.data.batching import padding_share
from nlp_tasks.data.rows import chunks
from nlp_tasks.data.store import Store, write_store
from nlp_tasks.errors import UserError
from nlp_tasks.layers.recurrent import check_path
from nlp_tasks.progress import Progress, tell
from nlp_tasks.recipe import Recipe
from nlp_tasks.scores import Scores, difference, joined
from nlp_tasks.tasks.task import Inputs, Task
from nlp_tasks.text import ragged
from nlp_tasks.training import Trainer, mark_counted

BEGUN = {".lock", "recipe.toml", ".recipe.toml.partial", ".identity.json.partial"}
"""What a run folder may hold before it has its identity.json."""
_COLLECTIVES_FAIL = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError, tf.errors.InternalError,
    tf.errors.UnknownError,
)  # fmt: skip
"""What a sum over workers raises where one of them is gone."""
_AT_A_LINE = re.compile(r"[^:\n]+:\d+: ")
"""How a message begins that says where: `FILE:LINE: `."""
LONGEST = 2000
"""So many characters, or tokens, of a text are compared at most when an export is checked: all are answered in one batch."""


class Run:
    """One recipe, trained once.

    Args:
        recipe: validated.
        name: of the run folder and of the export.
        data_dir: where prepared TensorFlow data sets lie.
        run_dir, export_dir: parents of the run folder and of the export.
        strategy: name of a distribution strategy.
        restart: forget an earlier run of this name.
        command: what a person typed, for the report.
    """

    def __init__(
        self, recipe: Recipe, name: str, *, data_dir: str | None = None, run_dir: str | Path = "runs",
        export_dir: str | Path = "saved_models", strategy: str = "auto", restart: bool = False, command: str = "",
    ) -> None:  # fmt: skip
        self.recipe, self.name = recipe, name
        self.folder, self.export_folder = Path(run_dir) / name, Path(export_dir) / name
        self._strategy, self._restart, self._command = strategy, restart, command
        self._type = tasks.find(recipe.task.name)
        self._encoder: Any = None
        """The task's `encode` as a graph, made for the first split."""
        self.splits = self._type.splits(recipe, data_dir)

    def train(self) -> None:
        """Everything up to the chosen weights."""
        with self._met("train") as crew:
            strategy = self._devices()
            if not crew.chief:
                self._assist(crew, strategy)
                return
            with self._hold():
                self._train(crew, strategy)

    def check(self) -> dict[str, Any]:
        """A look at the data, as check.json has it; needs and makes no run folder."""
        return Check(self._type(self.recipe), self.splits).run()

    def evaluate(self, split: str) -> dict[str, Any]:
        """Scores of a split by the functions that an export holds."""
        folder = self._trained()
        self._check_identity(self._identity())
        loaded, task, _ = inference.load_run(folder)
        examples = list(self._examples(task, split))
        scores = _with_aside(task, task.score(self._results(task, loaded, examples)), loaded, examples)
        return {"split": split, "scores": scores.scores, "intervals": scores.intervals, "counts": scores.counts,
                "signatures": scores.signatures}  # fmt: skip

    def export(self) -> Path:
        """A new version of the export."""
        _check_writable(self.export_folder)
        with self._hold():
            return self._export(self._trained())

    def run(self) -> dict[str, Any] | None:
        """All stages that are not done; returns the content of scores.json. A worker that is not the chief only trains: None."""
        finished = self.folder / "scores.json"
        with self._met("run") as crew:
            if crew.share_values(self._finished):
                if not crew.chief:
                    return None
                with self._hold():
                    tell(f"{self.folder}: nothing to do, the run is finished (--restart starts over)")
                    return json.loads(finished.read_text())
            strategy = self._devices()
            if not crew.chief:
                self._assist(crew, strategy)
                return None
            _check_writable(self.export_folder)
            with self._hold():
                self._train(crew, strategy)
                if not finished.exists():
                    self._score(finished)
                if not self._exported():
                    self._export(self.folder)
                path = self.folder / "report.html"
                report.write_text(path, page.report(self.folder))
                tell(f"report  {path}")
                self._tidy()
        return json.loads(finished.read_text())

    def _finished(self) -> bool:
        names = ("scores.json", "report.html")
        return not self._restart and all((self.folder / name).exists() for name in names) and self._exported()

    @contextmanager
    def _met(self, verb: str) -> Iterator[Crew]:
        """The workers of this run, who have found out that they run the same thing; alone on one machine."""
        with distribution.crew_of(self._strategy) as crew:
            if crew.size > 1:
                tell(f"waiting for {crew.size} workers")
                crew.meet({"the command": verb, **self._facts()}, distribution.deadline())
            try:
                yield crew
                crew.share()  # TensorFlow complains where a worker leaves while another goes on: they leave when the chief is done
            except _COLLECTIVES_FAIL:
                crew.wait_for_loss()
                raise

    def _facts(self) -> dict[str, str]:
        """What has to be the same on all workers."""
        ours = {
            "nlp-tasks": " ".join(filter(None, (__version__, commit()))),
            "the data": self.splits.fingerprint(),
            "oneDNN": os.environ["TF_ENABLE_ONEDNN_OPTS"],
        }
        return {**self.recipe.settings(), **versions(), **ours}

    def _devices(self) -> tf.distribute.Strategy:
        """What to train on; refuses what these devices cannot do."""
        distribution.check_precision(self.recipe.training.precision)
        strategy = distribution.strategy(self._strategy)
        check_path(self.recipe.training.recurrent)
        return strategy

    def _tidy(self) -> None:
        """A finished run keeps what answers questions; the encoded store and older weights can be made again."""
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        for path in (self.folder / "checkpoints").iterdir():
            if path.name != "chosen.npz":
                path.unlink()

    # The folder

    @contextmanager
    def _hold(self) -> Iterator[None]:
        """The run folder is ours, and is that of this recipe and this data; a new one is removed again where a stage refuses."""
        identity = self._identity()
        _check_writable(self.folder)
        self._check_ours()
        made = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make {self.folder}: {error.strerror}", "choose another place with --run-dir") from None
        with (self.folder / ".lock").open("a+") as lock:
            self._lock(lock)
            if self._restart:
                self._clear()
                self._restart = False
            new = not (self.folder / "identity.json").exists()
            try:
                self._sign(lock)
                self._check_identity(identity)
                if new:
                    report.write_text(self.folder / "recipe.toml", self.recipe.resolved())
                    report.write_json(self.folder / "identity.json", identity)
                self.data_hash = identity["data"]
                yield
            except (UserError, OSError):
                if new and not (self.folder / "checkpoints").exists():
                    shutil.rmtree(self.folder, ignore_errors=True)
                    with suppress(OSError):  # another run has begun beside ours
                        for folder in made[1:]:
                            folder.rmdir()
                raise

    def _check_ours(self) -> None:
        """Refuses a folder with other things in it: a run may clear and remove its folder."""
        if self.folder.exists() and not (self.folder / "identity.json").exists():
            others = sorted({path.name for path in self.folder.iterdir()} - BEGUN)
            if others:
                raise UserError(f"{self.folder} is no run folder, and it holds other things: {', '.join(others[:5])}",
                                "choose another --name or --run-dir")  # fmt: skip

    def _lock(self, lock: Any) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise UserError(f"{self.folder} is in use by {lock.read().strip() or 'another process'}",
                            "wait for it, stop it, or give this run another name with --name") from None  # fmt: skip

    def _sign(self, lock: Any) -> None:
        lock.seek(0)
        lock.truncate()
        lock.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        lock.flush()
        os.fsync(lock.fileno())  # workers on other machines know by this whether they see the same folder

    def _clear(self) -> None:
        # What makes it a run folder goes last: killed in between, it still is one.
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name == "identity.json"):
            if path.name == ".lock":
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _identity(self) -> dict[str, str]:
        return {"recipe": self.recipe.identity(), "data": self.splits.fingerprint()}

    def _check_identity(self, identity: dict[str, str]) -> None:
        path = self.folder / "identity.json"
        if not path.exists():
            return
        held = json.loads(path.read_text())
        if held["recipe"] != identity["recipe"]:
            before = (self.folder / "recipe.toml").read_text().split("\n")
            now = self.recipe.resolved().split("\n")
            changed = [line for line in now if line and line not in before][:5]
            raise UserError(f"{self.folder} is the run of another recipe; here is different: {'; '.join(changed) or 'the recipe'}",
                            "give this variant a name of its own with --name, or --restart to forget the old run")  # fmt: skip
        if held["data"] != identity["data"]:
            raise UserError(f"{self.folder} was begun with other data (its hash was {held['data'][:12]}, now {identity['data'][:12]})",
                            "bring the data back, or use --name or --restart")  # fmt: skip

    def _trained(self) -> Path:
        if not (self.folder / "checkpoints" / "chosen.npz").is_file():
            raise UserError(
                f"{self.folder} is not trained to the end", "first run `nlp-tasks train` with the same recipe and options"
            )
        return self.folder

    # Stages

    def _train(self, crew: Crew, strategy: tf.distribute.Strategy) -> None:
        if (self.folder / "checkpoints" / "chosen.npz").exists():
            crew.share()
            return
        report.write_json(self.folder / "environment.json", surroundings(strategy) | {"command": self._command})
        self._look()
        begun = time.monotonic()
        task = self._prepare()
        if task.counted:
            crew.share()
            seconds = time.monotonic() - begun
            self._encode_both(task)
            self._check_test(task)
            mark_counted(self.folder, seconds)
            return
        crew.share(lambda: (self.folder / ".lock").read_bytes())
        train, validation = self._encode_both(task)
        self._check_test(task)
        crew.share()  # encoded
        self._descend(crew, strategy, task, train, validation)

    def _assist(self, crew: Crew, strategy: tf.distribute.Strategy) -> None:
        """What a worker does that is not the chief. It reads what the chief has encoded where it sees the chief's run folder, else it
        encodes the same data in a run folder of its own."""
        theirs = crew.share()
        if not theirs:
            return  # there is nothing to train
        own = self.folder / ".lock"
        if own.exists() and own.read_bytes() == theirs:
            crew.share()  # encoded
            task = self._type(self.recipe)
            task.load(self.folder / "resources")
            self._descend(crew, strategy, task, *self._encode_both(task))
            return
        with self._hold():
            task = self._prepare()
            train, validation = self._encode_both(task)
            crew.share()
            self._descend(crew, strategy, task, train, validation)

    def _encode_both(self, task: Task) -> tuple[Store, Store]:
        return self._encode(task, "train"), self._encode(task, "validation")

    def _descend(self, crew: Crew, strategy: tf.distribute.Strategy, task: Task, train: Store, validation: Store) -> None:
        if crew.size > 1:
            crew.agree({"the encoded data": _digest_of(self.folder / "resources", self.folder / "cache")})
        glanced = self._examples(task, "validation")
        trainer = Trainer(task, self.recipe.training, strategy, train, validation, self.folder, glanced=glanced, crew=crew)
        tell(f"training  {task.parameters(trainer.model):,} parameters, {trainer.steps_per_epoch:,} steps an epoch, "
             f"{strategy.num_replicas_in_sync} device(s), padding {trainer.padding_share:.0%}")  # fmt: skip
        trainer.run()

    def _look(self) -> None:
        """Refuses data that cannot be trained on, before hours are spent; keeps what was found beside in check.json."""
        path = self.folder / "check.json"
        if path.exists():
            return
        content = self.check()
        refused = [finding for finding in content["findings"] if finding["level"] == "error"]
        errors, told = list[UserError](), set[Any]()
        for finding in refused:
            message = "".join(f"{place}: " for place in finding["places"][:1]) + finding["message"]
            file = message.partition(":")[0] if _AT_A_LINE.match(message) else ""
            same = {message.partition(": ")[2] or message, (file or message, finding["advice"])}
            if not same & told:  # the same in each file, and the same in many places of one, are told once
                errors.append(UserError(message, finding["advice"]))
            told |= same
        *others, last = errors or (None,)
        for other in others:
            tell(str(other))
        if last:
            raise last
        report.write_json(path, content)
        tell(f"data  {report.counted(content)} (nlp-tasks check says which)")

    def _prepare(self) -> Task:
        task = self._type(self.recipe)
        resources = self.folder / "resources"
        if not resources.exists():
            beside = self.folder / ".resources.partial"
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir()
            tell("counting the training data" if task.counted else "preparing vocabularies from the training data")
            task.prepare(lambda: self._watched(task, "reading train"), beside)
            os.replace(beside, resources)
        task.load(resources)
        return task

    def _read(self, task: Task, split: str) -> Iterator[Any]:
        rows = self.splits.rows(split)
        return task.read(rows, self.splits.counts[split])

    def _examples(self, task: Task, split: str) -> Iterator[Any]:
        """Examples of a split; of training, those that are fit for it. Of a split that we held out ourselves, those with a target that
        training lacks are left out. What is left out is counted."""
        examples = self._read(task, split)
        if split == "train":
            return task.fit(examples, self.splits.counts[split])
        if not self.splits.held_out(split):
            return examples
        return self._known(task, split, examples)

    def _known(self, task: Task, split: str, examples: Iterable[Any]) -> Iterator[Any]:
        for example in examples:
            if task.knows_target(example):
                yield example
            else:
                self.splits.counts[split].dropped["target never seen in training"] += 1

    def _watched(self, task: Task, title: str) -> Iterator[Any]:
        """Training examples, with progress."""
        with Progress(title, None) as progress:
            for example in self._examples(task, "train"):
                yield example
                progress.advance()

    def _encode(self, task: Task, split: str) -> Store:
        folder = self.folder / "cache" / split
        if folder.exists():
            return _arranged(task, Store(folder))
        inputs = task.signatures(None)[task.scored].inputs
        encode = self._encoder = self._encoder or tf.function(task.encode, autograph=False, input_signature=inputs)

        def fields_of(chunk: list[Any]) -> tuple[int, dict[str, Any]]:
            columns = zip(*(example.inputs for example in chunk), strict=True)
            fields = encode(*(ragged.strings(column, spec.shape.rank) for column, spec in zip(columns, inputs, strict=True)))
            return len(chunk), {**{name: _arrays(value) for name, value in fields.items()}, **task.targets(chunk)}

        def encoded() -> Iterator[tuple[int, dict[str, Any]]]:
            empty, examples = True, self._examples(task, split)
            with Progress(f"encoding {split}", None) as progress:
                for count, fields in machine.side_by_side(fields_of, chunks(examples)):
                    yield count, fields
                    progress.advance(count)
                    empty = False
            if empty:
                raise UserError(
                    f"no rows for {split} ({self.splits.describe(split)})", f"set data.{split}, or a larger data.validation_share"
                )

        store = _arranged(task, write_store(folder, encoded()))
        lengths = task.lengths(store)
        note = f"{store.lengths(task.length_field).sum():,} {task.length_field}"
        if split == "train":
            note += f", padding {padding_share(lengths, task.plan(lengths, self.recipe.training, 0)):.0%}"
        tell(f"{split}  {self.splits.describe(split)}: {self.splits.counts[split]}, {note}")
        return store

    def _check_test(self, task: Task) -> None:
        """Reads the test split for what a person would have to mend, before hours are spent on training."""
        for chunk in chunks(self._examples(task, "test")):
            task.targets(chunk)
        if not self.splits.counts["test"].read:
            raise UserError(f"no rows for test ({self.splits.describe('test')})", "set data.test, or a larger data.test_share")
        tell(f"test  {self.splits.describe('test')}: {self.splits.counts['test']}")

    def _results(self, task: Task, loaded: inference.Loaded, examples: list[Any]) -> list[dict[str, Any]]:
        with Progress("scoring", len(examples)) as progress:
            return task.evaluate(_Answering(loaded, progress), examples)

    def _score(self, path: Path) -> None:
        loaded, task, model = inference.load_run(self.folder)
        test = list(self._examples(task, "test"))
        results = self._results(task, loaded, test)
        report.write_text(self.folder / "predictions.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in results))
        scores = _with_aside(task, task.score(results), loaded, test)
        validation = task.score(self._results(task, loaded, list(self._examples(task, "validation"))))
        with np.load(self.folder / "checkpoints" / "chosen.npz") as chosen:
            position = json.loads(chosen["position"].tobytes())
        encoded, environment = self._encoded(task), json.loads((self.folder / "environment.json").read_text())
        content = {
            "recipe": self.name,
            "task": self.recipe.task.name,
            "headline": task.headline,
            "scores": scores.scores,
            "intervals": scores.intervals,
            "counts": {**scores.counts, **encoded["rows"], "test_rows": self.splits.counts["test"].read},
            "signatures": scores.signatures,
            "validation": {"scores": validation.scores, "intervals": validation.intervals},
            "data_hash": self.data_hash,
            "test_hash": _test_hash(task, test),
            "without_copies": self._without_copies(task, test, results),
            "baseline": self._baseline(task, test, scores),
            "anchor": [{"metric": a.metric, "value": a.value, "source": a.source, "comparable": a.comparable} for a in self.recipe.anchor],
            "parameters": task.parameters(model),
            "training_seconds": round(position["seconds"], 1),
            "tokens_per_second": round(position["tokens"] / max(position["seconds"], 1e-9)),
            "padding_share": encoded["padding_share"],
            "replicas": environment["replicas"],
            "reducing_share": round(position["reducing"] / max(position["seconds"], 1e-9), 4),
            "seed": self.recipe.training.seed,
            "commit": environment.get("commit", ""),
            "versions": versions(),
            "figures": scores.figures,
        }  # fmt: skip
        scores.save(self.folder / "statistics.npz")
        report.plots(self.folder / "plots", self.folder / "history.csv", scores)
        report.write_text(self.folder / "report.txt", report.text_report(content, scores, self.name, task.headline))
        report.write_json(path, content)

    def _without_copies(self, task: Task, test: list[Any], results: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Scores without the test rows that stand in train as well, where there are some."""
        path = self.folder / "check.json"
        copies = {*json.loads(path.read_text())["copies"]} if path.exists() else set()
        kept = [result for example, result in zip(test, results, strict=True) if str(example.where) not in copies]
        if not kept or len(kept) == len(results):
            return None
        scores = task.score(kept)
        return {"left_out": len(results) - len(kept), "scores": scores.scores, "intervals": scores.intervals}

    def _encoded(self, task: Task) -> dict[str, Any]:
        """What the score's file says of the encoded data, kept when the data itself is tidied away."""
        path = self.folder / "encoded.json"
        if not path.exists():
            train, validation = self._encode_both(task)
            lengths = task.lengths(train)
            share = padding_share(lengths, task.plan(lengths, self.recipe.training, 0))
            report.write_json(
                path,
                {
                    "rows": {"train_rows": train.examples, "validation_rows": validation.examples},
                    "padding_share": round(share, 4),
                },
            )
        return json.loads(path.read_text())

    def _baseline(self, task: Task, test: list[Any], ours: Scores) -> dict[str, Any] | None:
        """Scores of the task's baseline, and what our model has more: on the same examples, so that the interval is that of pairs."""
        path = self.folder / "baseline.json"
        if not path.exists():
            tell("fitting the baseline")
            begun = time.monotonic()
            fitted = task.baseline(lambda split: self._examples(task, split), test)
            content = None
            if fitted:
                name, theirs = fitted
                content = {"name": name, "scores": theirs.scores, "intervals": theirs.intervals, "difference": difference(ours, theirs),
                           "seconds": round(time.monotonic() - begun, 1)}  # fmt: skip
            report.write_json(path, content)
        return json.loads(path.read_text())

    def _export(self, folder: Path) -> Path:
        _, task, model = inference.load_run(folder)
        examples = chain(self._examples(task, "test"), self._examples(task, "train"))  # a small test split is filled up
        samples = [tuple(given[:LONGEST] for given in example.inputs) for example in islice(examples, self.recipe.export.compare)]
        width = len(samples[0])
        samples += [("",) * width, ("é 👍🏽 你好",) * width]
        asked = {signature: task.samples(signature, samples) for signature in dict.fromkeys(("serving_default", task.scored))}
        shown = [
            sample[: len(export.specs(task, model)["serving_default"])] for sample in asked["serving_default"][: export.SHOWN]
        ]
        extra: dict[str, str | bytes] = {"recipe.toml": self.recipe.resolved(), "weights.sha256": _digest(folder) + "\n",
                 "example_inputs.json": json.dumps(shown, ensure_ascii=False, indent=1) + "\n",
                 "view.json": json.dumps(task.view(), ensure_ascii=False, indent=1) + "\n"}  # fmt: skip
        scores = folder / "scores.json"
        if scores.exists():
            extra["scores.json"] = scores.read_text(encoding="utf-8")
        if (folder / "statistics.npz").exists():
            extra["statistics.npz"] = (folder / "statistics.npz").read_bytes()
        path = export.write(task, model, export.functions(task, model), self.export_folder, extra=extra, samples=asked)
        shutil.copyfile(path / "assets.extra" / "export.json", folder / "export.json")
        tell(f"exported to {path}")
        return path

    def _exported(self) -> bool:
        """Whether some version of the export holds the weights and the scores of this run."""
        if not (self.folder / "checkpoints" / "chosen.npz").is_file():
            return False
        digest = _digest(self.folder)
        marks = [
            mark for mark in self.export_folder.glob("[0-9]*/assets.extra/weights.sha256") if mark.read_text().strip() == digest
        ]
        scores, held = self.folder / "scores.json", [mark.with_name("scores.json") for mark in marks]
        return any(not scores.exists() or (path.exists() and path.read_bytes() == scores.read_bytes()) for path in held)


class _Answering:
    """A loaded model that tells how far it is."""

    def __init__(self, loaded: inference.Loaded, progress: Progress) -> None:
        self.functions, self._loaded, self._progress = loaded.functions, loaded, progress

    def __call__(self, signature: str, inputs: Sequence[Inputs]) -> dict[str, np.ndarray]:
        return self._loaded(signature, inputs, advance=self._progress.advance)


def _check_writable(folder: Path) -> None:
    """Refuses, before hours are spent on training, a place where nothing can be written."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {folder}: {there} is {'read-only' if there.is_dir() else 'a file'}",
                        "choose another place with --run-dir or --export-dir")  # fmt: skip


def surroundings(strategy: tf.distribute.Strategy) -> dict[str, Any]:
    """What the numbers of a run depend on beside the recipe."""
    return {
        "commit": commit(),
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_flags": sorted(flag for flag in machine.cpu_flags() if flag.startswith(("avx", "amx", "fma"))),
        "cores": machine.cores(),
        "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads() or int(os.environ["TF_NUM_INTRAOP_THREADS"]),
        "inter_op_threads": tf.config.threading.get_inter_op_parallelism_threads() or machine.cores(),
        "parts": distribution.parts(strategy),
        "onednn": os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1",
        "strategy": type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
    }


def _test_hash(task: Task, examples: Iterable[Any]) -> str:
    """Of what is scored: the same in two runs if and only if they answer the same examples."""
    digest = hashlib.sha256()
    for example in examples:
        target = list(task.labels_of(example)) or example.target
        digest.update(json.dumps([example.inputs, target], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("tensorflow", "keras", "numpy", "scikit-learn")}


def commit() -> str:
    """The commit of the checkout this package runs from, empty where it is installed."""
    folder = Path(__file__).resolve().parent
    if not (folder.parent / ".git").exists() or not shutil.which("git"):
        return ""
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def _digest(folder: Path) -> str:
    with (folder / "checkpoints" / "chosen.npz").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(*folders: Path) -> str:
    """Of all files in some folders, their names included."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                digest.update(f"{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _with_aside(task: Task, scores: Scores, loaded: inference.Loaded, examples: list[Any]) -> Scores:
    """With what the task scores beside."""
    beside = task.aside(loaded, examples)
    return scores if beside is None else joined(scores, beside)


def _arranged(task: Task, store: Store) -> Store:
    """Its rows as the task trains on them."""
    splits = task.windows(int(store.lengths(task.length_field).sum()))
    return store if splits is None else store.recut(task.length_field, splits)


def _arrays(value: Any) -> Any:
    if isinstance(value, tf.RaggedTensor):
        return value.values.numpy(), value.row_lengths().numpy()
    return value.numpy()
