"""A trained model back in memory, from a run folder or an export: lines in, answers out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from nlp_tasks import export, machine, recipe, tasks
from nlp_tasks.errors import UserError
from nlp_tasks.tasks.task import Inputs, Task, Verb
from nlp_tasks.text import ragged
from nlp_tasks.training import build, load_weights

Answer = Callable[..., dict[str, tf.Tensor]]

CHARACTERS, SQUARED = 1 << 16, 1 << 27
"""Texts are answered together up to so many characters, each as long as the longest, and up to so many of their squares, which the
memory of attention grows with."""


class Loaded:
    """A model that answers.

    Attributes:
        task: its task, which says which verbs it has; of an export, without resources.
        functions: its graph functions by signature.
    """

    def __init__(self, task: Task, functions: Mapping[str, Answer], specs: export.Specs, keep: object = None) -> None:
        self.task, self.functions, self._specs = task, functions, specs
        self._keep = keep  # the variables of a SavedModel die with what loaded them

    def __call__(
        self, signature: str, inputs: Sequence[Inputs], batch: int = 64, advance: Callable[[int], None] | None = None
    ) -> dict[str, np.ndarray]:
        """Answers of many inputs, in their order; each batch holds texts of like length, at most `batch` of them. `advance` is told of
        each."""
        sizes = [sum(len(given) for given in row if isinstance(given, (str, tuple))) for row in inputs]
        order = sorted(range(len(inputs)), key=sizes.__getitem__)
        parts = []
        specs = self._specs[signature]

        def answers(batch: Sequence[int]) -> tuple[int, dict[str, np.ndarray]]:
            rows = [inputs[index] for index in batch]
            columns: Any = zip(*rows, strict=True) if rows else [()] * len(specs)
            tensors = {name: ragged.tensor(column, *spec) for (name, spec), column in zip(specs.items(), columns, strict=True)}
            return len(rows), {name: value.numpy() for name, value in self.functions[signature](**tensors).items()}

        for count, part in machine.side_by_side(answers, _batches(order, sizes, batch)):
            parts.append(part)
            if advance:
                advance(count)
        place = np.argsort(order)
        return {name: _stack([part[name] for part in parts])[place] for name in parts[0]}

    def answer(self, verb: Verb, inputs: Sequence[Inputs], signature: str = "") -> list[dict[str, Any]]:
        """One dict an input, as the verb gives them; by another signature than the one for texts where it is named."""
        assert verb.answers
        answers = verb.answers(self(signature or verb.signature, inputs))
        if signature and signature == verb.tokens:
            answers = [{"tokens": list(*given), **answer} for given, answer in zip(inputs, answers, strict=True)]
        return answers

    def predict(self, texts: Sequence[str | Sequence[str]]) -> list[dict[str, Any]]:
        """One dict a text, for a sentiment model `{"label": …, "probability": …, "probabilities": …}`.

        Args:
            texts: strings; or, for a model that takes them, lists of tokens.
        """
        verb = find_verb(self.task, "predict")
        if any(not isinstance(text, str) for text in texts):
            return self.answer(
                verb, [(tuple(text.split() if isinstance(text, str) else text),) for text in texts], in_tokens(verb)
            )
        return self.answer(verb, [verb.inputs(str(text), {}) for text in texts])


def _batches(order: Sequence[int], sizes: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    """At least one batch; sizes rise along the order."""
    first = 0
    while first < len(order) or not first:
        count = most
        while order and count > 1:
            longest = sizes[order[min(first + count, len(order)) - 1]]
            if count * longest <= CHARACTERS and count * longest**2 <= SQUARED:
                break
            count //= 2
        yield order[first : first + count]
        first += count


def _stack(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenates along rows; other dimensions are padded to the largest."""
    shape = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
    fill: Any = b"" if parts[0].dtype == object else 0
    padded = [
        np.pad(p, [(0, 0), *((0, n - k) for n, k in zip(shape, p.shape[1:], strict=True))], constant_values=fill) for p in parts
    ]
    return np.concatenate(padded)


def in_tokens(verb: Verb) -> str:
    """The signature that answers texts in tokens."""
    if not verb.tokens:
        raise UserError(f"this model cannot {verb.name} texts that come in tokens", "give whole texts; it splits them itself")
    return verb.tokens


def find_verb(task: Task, name: str) -> Verb:
    """The verb of a task by name."""
    for verb in task.verbs:
        if verb.name == name:
            return verb
    raise UserError(f"this model cannot {name}", "it can: " + ", ".join(verb.name for verb in task.verbs))


def load(path: str | Path) -> Loaded:
    """A run folder, an export (`saved_models/NAME` or one version below it)."""
    path = Path(path)
    if (path / "saved_model.pb").is_file():
        return _load_export(path)
    if path.is_dir() and (found := export.versions(path)):
        return _load_export(path / str(found[-1]))
    if (path / "recipe.toml").is_file():
        return load_run(path)[0]
    what = "is empty of both" if path.is_dir() else "does not exist" if not path.exists() else "is a file"
    raise UserError(f"{path} is neither a SavedModel nor a run folder: it {what}", "give saved_models/NAME or runs/NAME")


def load_run(folder: Path) -> tuple[Loaded, Task, Any]:
    """A trained run: what answers, its task, and its model."""
    weights = folder / "checkpoints" / "chosen.npz"
    if not weights.is_file():
        raise UserError(f"{folder} is not trained to the end", "go on with `nlp-tasks train` and the same recipe")
    task = open_task(recipe.load(str(folder / "recipe.toml"), lambda name: tasks.find(name).recipe_type), folder)
    model = build(task, task.recipe.training)
    load_weights(model, weights)
    return Loaded(task, export.functions(task, model), export.specs(task, model)), task, model


def open_task(content: recipe.Recipe, folder: Path) -> Task:
    """The task of a run folder, its resources loaded."""
    task = tasks.find(content.task.name)(content)
    task.load(folder / "resources")
    return task


def _load_export(path: Path) -> Loaded:
    description = path / "assets.extra" / "recipe.toml"
    if not description.is_file():
        raise UserError(f"{path} is a SavedModel, but not of nlp-tasks: it has no {description.name} in assets.extra",
                        "use tf.saved_model.load for it, or give an export of `nlp-tasks export`")  # fmt: skip
    content = recipe.load(str(description), lambda name: tasks.find(name).recipe_type)
    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, tf.errors.OpError, ValueError) as error:
        raise UserError(f"{path}: not a whole SavedModel: {str(error).splitlines()[0]}", "export it again") from None
    specs = json.loads((path / "assets.extra" / "signatures.json").read_text())
    return Loaded(tasks.find(content.task.name)(content), dict(loaded.signatures), specs, keep=loaded)
