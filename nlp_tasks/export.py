"""Writes a SavedModel that takes strings and gives answers, and checks it in a process that has neither keras nor this package."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from nlp_tasks import machine
from nlp_tasks.errors import UserError
from nlp_tasks.layers.model import variables_by_name
from nlp_tasks.layers.recurrent import recurrent_path
from nlp_tasks.tasks.task import Inputs, Signature, Task
from nlp_tasks.text import ragged

SHOWN = 3
"""So many samples are written into an export together with their answers."""
TIES = 0.02
"""In this share of the rows, and in one, the reloaded model may answer other texts: of two equally probable but for the last bits."""
TOLERANCE, RELATIVE = 1e-4, 1e-6
"""Largest difference of a number between the live model and the reloaded one, and what it may be more of a large number: padding and
batch differ, float sums with them."""


class GraphFunction(Protocol):
    """What `tf.function` makes of a signature whose inputs are known: one graph."""

    def __call__(self, *inputs: tf.Tensor, **named: tf.Tensor) -> dict[str, tf.Tensor]: ...

    def get_concrete_function(self) -> Any:
        """The graph, for `tf.saved_model.save`."""


Functions = Mapping[str, GraphFunction]


def functions(task: Task, model: keras.Model) -> Functions:
    """The graph functions of a task: those that scoring calls are those that the export holds."""
    made = {}
    for name, signature in task.signatures(model).items():
        made[name] = tf.function(_answering(name, signature), autograph=False, input_signature=signature.inputs)
    return made


Specs = Mapping[str, Mapping[str, tuple[str, int]]]
"""Of each signature and input, dtype and rank: ("string", 1) for texts, ("string", 2) for texts in tokens."""


def specs(task: Task, model: keras.Model) -> Specs:
    """What the signatures of a task take."""
    return {
        name: {spec.name: (spec.dtype.name, spec.shape.rank) for spec in signature.inputs}
        for name, signature in task.signatures(model).items()
    }


def _answering(name: str, signature: Signature) -> Callable[..., dict[str, tf.Tensor]]:
    """Traced with recurrent loops of core ops, which any server runs, whatever device this process has; nothing is kept for a gradient."""

    def answering(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        with recurrent_path("packed", gradient=False):
            return signature.function(*inputs)

    # TensorFlow counts traces by code, and would take the graphs of five signatures for one that is traced again and again.
    answering.__code__ = answering.__code__.replace(co_name=name)
    names = [inspect.Parameter(spec.name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for spec in signature.inputs]
    answering.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
    return answering


def write(
    task: Task, model: keras.Model, signatures: Functions, folder: Path, *,
    extra: Mapping[str, str | bytes], samples: Mapping[str, Sequence[Inputs]],
) -> Path:  # fmt: skip
    """Writes the next version below `folder`; until it is whole and checked, its name begins with a dot.

    Args:
        folder: `saved_models/NAME`; a version is a folder below it, as TensorFlow Serving mounts them.
        extra: files for `assets.extra/`, by name.
        samples: inputs for the self-check, of each signature that it asks; the answers to the first of them are written beside them, for
            servers to check theirs.

    Returns:
        The folder of the new version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.partial"):
        shutil.rmtree(left)
    version = max(versions(folder), default=0) + 1
    beside = folder / f".{version}.partial"
    module = tf.Module()
    module.model_variables = list(variables_by_name(model).values())
    module.resources = task.resources()
    concrete = {name: function.get_concrete_function() for name, function in signatures.items()}
    inputs = specs(task, model)
    row_wise = {name: signature.alike for name, signature in task.signatures(model).items() if signature.row_wise}
    written = {
        "signatures": inputs, "row_wise": row_wise,
        "example_outputs": {name: _answers(signatures[name], inputs[name], asked[:SHOWN]) for name, asked in sorted(samples.items())},
    }  # fmt: skip
    extra = {**extra, **{f"{name}.json": json.dumps(content, indent=1) + "\n" for name, content in written.items()}}
    try:
        tf.saved_model.save(module, str(beside), signatures=concrete)
        found = check(beside, {name: signatures[name] for name in samples}, inputs, samples)
        (beside / "assets.extra").mkdir()
        size = sum(path.stat().st_size for path in beside.rglob("*") if path.is_file())
        facts = {"bytes": size, "latency_ms": found.latency_ms, "cores": machine.cores()}
        extra = {**extra, "ops.txt": "\n".join(found.ops) + "\n", "export.json": json.dumps(facts, indent=1) + "\n"}
        for name, content in extra.items():
            (beside / "assets.extra" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    except tf.errors.OpError as error:
        _remove(beside)
        raise UserError(
            f"{folder}: cannot write the export: {error.message.splitlines()[0]}", "is the disk full or read-only?"
        ) from None
    except BaseException:
        _remove(beside)
        raise
    os.replace(beside, folder / str(version))
    return folder / str(version)


def _remove(beside: Path) -> None:
    """Leaves nothing of a refused export, not even an empty folder."""
    shutil.rmtree(beside, ignore_errors=True)
    if not any(beside.parent.iterdir()):
        beside.parent.rmdir()


def versions(folder: Path) -> list[int]:
    """Numbers of the versions below a folder, ascending."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit() and (path / "saved_model.pb").is_file())


class Checked(NamedTuple):
    """What the self-check found out."""

    ops: list[str]
    """The names of all ops."""
    latency_ms: float
    """Median time of one text through serving_default, alone in its batch."""


def check(
    folder: Path, live: Mapping[str, Callable[..., dict[str, tf.Tensor]]], specs: Specs,
    samples: Mapping[str, Sequence[Inputs]],
) -> Checked:  # fmt: skip
    """Reloads an export in a fresh process and compares its answers with the live model's.

    Args:
        folder: the SavedModel.
        live: functions of the model in memory, by signature.
        specs: of their inputs.
        samples: what to answer, by signature.

    Raises:
        UserError: an op that TensorFlow Serving does not have.
        RuntimeError: other answers, or it does not load: a defect of ours.
    """
    tensors = {signature: _inputs(specs[signature], samples[signature]) for signature in live}
    with tempfile.TemporaryDirectory() as place:
        inputs, outputs = Path(place, "inputs.json"), Path(place, "outputs.npz")
        texts = {key: _plain(named) for key, named in tensors.items()}
        inputs.write_text(json.dumps(texts))
        command = [sys.executable, "-P", "-c", _FRESH_PROCESS, str(folder), str(inputs), str(outputs)]
        on_cpu = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}  # this process may hold all of a GPU's memory
        done = subprocess.run(command, capture_output=True, text=True, env=on_cpu)
        if done.returncode == 3:
            raise UserError(f"the export would need ops that no server has: {done.stdout.strip()}",
                            "write the signature with core TensorFlow ops only")  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the export does not run in a fresh process:\n{done.stderr[-3000:]}")
        ops, latency = json.loads(done.stdout.strip().splitlines()[-1])
        with np.load(outputs) as reloaded:
            # One answer a row, whatever stands beside it: the live model gets the samples in other batches.
            for signature, function in live.items():
                other, count = 0, len(samples[signature])
                for start in range(0, count, 7):
                    part = slice(start, start + 7)
                    answers = function(**{name: tensor[part] for name, tensor in tensors[signature].items()})
                    pairs = {name: (value.numpy(), reloaded[f"{signature}/{name}"][part]) for name, value in answers.items()}
                    other += _compare(signature, pairs)
                if other > max(1, TIES * count) or other == count:
                    raise RuntimeError(
                        f"self-check: {signature} of the reloaded export differs from the live model's for {other} of "
                        f"{count} inputs"
                    )
    return Checked(ops, latency)


def _inputs(specs: Mapping[str, tuple[str, int]], samples: Sequence[Inputs]) -> dict[str, tf.Tensor]:
    """What a signature takes of the samples: their first columns, a text, or the text and its translation."""
    columns = zip(*samples, strict=True)
    return {name: ragged.tensor(column, *spec) for (name, spec), column in zip(specs.items(), columns, strict=False)}


def _plain(tensors: Mapping[str, tf.Tensor]) -> dict[str, Any]:
    """As JSON takes them; bytes that are no UTF-8 by "surrogateescape"."""
    decoded = np.vectorize(lambda text: text.decode("utf-8", "surrogateescape"), otypes=[object])
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    return {name: (decoded(array) if array.dtype == object and array.size else array).tolist() for name, array in arrays.items()}


def _answers(function: GraphFunction, specs: Mapping[str, tuple[str, int]], samples: Sequence[Inputs]) -> dict[str, Any]:
    """Of some samples, inputs and outputs."""
    inputs = _inputs(specs, samples)
    return {"inputs": _plain(inputs), "outputs": _plain(function(**inputs))}


def _compare(signature: str, answers: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> int:
    """How many rows have other texts, or other whole numbers; of the other rows, other numbers are refused.

    Args:
        answers: of each output what the live model has, and what the reloaded one has.
    """
    padded = {}
    for name, (live, reloaded) in answers.items():
        room = [
            (0, there - here) for there, here in zip(reloaded.shape, live.shape, strict=True)
        ]  # longer rows stood beside these
        padded[name] = np.pad(live, room, constant_values=b"" if live.dtype == object else 0), reloaded
    rows = len(next(iter(padded.values()))[0])
    same = np.ones(rows, bool)
    for both in padded.values():
        if both[0].dtype.kind != "f":
            live, reloaded = (np.vectorize(str, otypes=[object])(array).reshape(rows, -1) for array in both)
            same &= (live == reloaded).all(1)
    for name, (live, reloaded) in padded.items():
        if live.dtype.kind != "f":
            continue
        differences = np.abs(live - reloaded)[same]
        if not (differences <= TOLERANCE + RELATIVE * np.abs(live[same])).all():
            worst = float(differences.max())
            raise RuntimeError(
                f"self-check: {signature}/{name} of the reloaded export differs by {worst:g} from the live model's"
            )
    return int((~same).sum())


_FRESH_PROCESS = '''
import importlib.machinery, json, os, statistics, sys, time
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

class Finder(importlib.machinery.PathFinder):
    """As on a server: no keras, no nlp_tasks."""
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("keras", "nlp_tasks", "tensorflow_text"):
            return None
        return super().find_spec(name, path, target)

sys.meta_path = [Finder if f is importlib.machinery.PathFinder else f for f in sys.meta_path if "editable" not in repr(f)]
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

folder, inputs, outputs = sys.argv[1:]
for name in ("keras", "nlp_tasks"):
    assert name not in sys.modules, name
saved = saved_model_pb2.SavedModel()
saved.ParseFromString(open(os.path.join(folder, "saved_model.pb"), "rb").read())
graph = saved.meta_graphs[0].graph_def
ops = {node.op for node in graph.node} | {node.op for f in graph.library.function for node in f.node_def}
functions = {f.signature.name for f in graph.library.function}
ops = sorted(ops - functions)
refused = [op for op in ops if op_def_registry.get(op) is None or "PyFunc" in op or op.startswith("Xla")]
if refused:
    print(", ".join(refused))
    sys.exit(3)
loaded = tf.saved_model.load(folder)
arrays = {}
for signature, columns in json.load(open(inputs)).items():
    answers = loaded.signatures[signature](**{name: tf.constant(column) for name, column in columns.items()})
    arrays |= {f"{signature}/{name}": value.numpy() for name, value in answers.items()}
np.savez(outputs, **{name: array.astype("S") if array.dtype == object else array for name, array in arrays.items()})
serving, seconds = loaded.signatures["serving_default"], []
columns = json.load(open(inputs))["serving_default"]
for row in range(40):
    one = {name: tf.constant([column[row % len(column)]]) for name, column in columns.items()}
    begun = time.perf_counter()
    for value in serving(**one).values():
        value.numpy()
    seconds.append(time.perf_counter() - begun)
print(json.dumps([ops, round(1000 * statistics.median(seconds[10:]), 3)]))
'''
