"""One version of a model in memory: its signatures, what is known about it, and whether it answers as it did when it was exported.

It is loaded into a session, as TensorFlow Serving does it: that takes a tenth of the time of `tf.saved_model.load`, during which requests
would wait, and a call can be given a time in which it has to end.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format

from nlp_tasks.serving.refused import Refused
from nlp_tasks.serving.tensors import Arrays, Spec

v1 = tf.compat.v1

TOLERANCE = 1e-3
"""Largest difference of a number, or of a large one its share, between an export's answers here and where it was written: another
processor adds up otherwise."""

WARM = 10.0
"""Seconds of a first call."""

_STATUS = {
    tf.errors.InvalidArgumentError: 400, tf.errors.FailedPreconditionError: 400, tf.errors.OutOfRangeError: 400,
    tf.errors.NotFoundError: 404, tf.errors.ResourceExhaustedError: 429, tf.errors.UnimplementedError: 501,
    tf.errors.CancelledError: 504, tf.errors.DeadlineExceededError: 504,
}  # fmt: skip
"""As TensorFlow Serving answers them."""


class Broken(Exception):
    """A version that cannot be served, and why."""


class Signature:
    """A signature of a loaded SavedModel.

    Attributes:
        model, name: whose it is, and its own name.
        inputs: what it takes, by name.
        row_wise: whether rows of several requests may be answered together.
        alike: inputs that have to be the same for that.
    """

    def __init__(self, model: str, name: str, session: Any, definition: Any, row_wise: Mapping[str, Sequence[str]]) -> None:
        self.model, self.name, self.row_wise, self.alike = model, name, name in row_wise, tuple(row_wise.get(name, ()))
        self.inputs = {key: _spec(definition.inputs[key]) for key in sorted(definition.inputs)}
        self._outputs = sorted(definition.outputs)
        fetches, feeds = (
            [definition.outputs[key].name for key in self._outputs],
            [definition.inputs[key].name for key in self.inputs],
        )
        self._run = session.make_callable(fetches, feed_list=feeds, accept_options=True)

    def __call__(self, inputs: Arrays, seconds: float = 60.0) -> dict[str, np.ndarray]:
        """Outputs by name. Raises Refused at inputs that the graph does not take, or after so many seconds."""
        options = v1.RunOptions(timeout_in_ms=max(1, round(1000 * seconds)))
        try:
            outputs = self._run(*(inputs[name] for name in self.inputs), options=options)
        except tf.errors.OpError as error:
            raise Refused(_STATUS.get(type(error), 500), _first_line(error)) from None
        # A scalar comes as a number of NumPy, a string as bytes.
        arrays = (
            value if isinstance(value, np.ndarray) else np.array(value, object if isinstance(value, bytes) else None)
            for value in outputs
        )
        return dict(zip(self._outputs, arrays, strict=True))


class Version:
    """A loaded version.

    Attributes:
        name, number: of the model, and its version.
        signatures: by name.
        signature_def: the same as TensorFlow Serving describes them.
        extra: JSON files of `assets.extra/`, by name without ending, as far as they are there.
    """

    def __init__(self, name: str, number: int, session: Any, definitions: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
        self.name, self.number, self.extra = name, number, extra
        self._session = session
        self.signature_def = {key: _as_dict(definitions[key]) for key in sorted(definitions)}
        row_wise = extra.get("row_wise", {})
        row_wise = row_wise if isinstance(row_wise, dict) else dict.fromkeys(row_wise, ())  # once a list of names
        self.signatures = {
            key: Signature(name, key, session, definition, row_wise)
            for key, definition in definitions.items()
            if definition.inputs
        }

    def close(self) -> None:
        """Ends what it is computing, with an error."""
        self._session.close()


def load(folder: Path, name: str, number: int) -> Version:
    """Loads a version and checks it.

    Raises:
        Broken: it does not load, or does not answer as it did.
    """
    session = v1.Session(graph=tf.Graph())
    try:
        with session.graph.as_default():
            definitions = v1.saved_model.load(session, [tf.saved_model.SERVING], str(folder)).signature_def
        version = Version(name, number, session, definitions, _extra(folder / "assets.extra"))
    except (OSError, RuntimeError, ValueError, KeyError, tf.errors.OpError) as error:
        raise Broken(f"it does not load: {_first_line(error)}") from None
    check(version)
    _warm(version)
    return version


def check(version: Version) -> None:
    """The self-check: what was answered when the export was written is answered again; of exports that do not say what, the examples are.

    Raises:
        Broken: other answers, or none.
    """
    expected = version.extra.get("example_outputs", {})
    for name, case in expected.items():
        _compare(name, _tried(version, name, case["inputs"]), case["outputs"])
    examples = version.extra.get("example_inputs")
    signature = version.signatures.get("serving_default")
    if not expected and examples and signature:
        columns = zip(*examples, strict=True)
        inputs = {name: [_joined(value) for value in column] for name, column in zip(signature.inputs, columns, strict=False)}
        for output, values in _tried(version, "serving_default", inputs).items():
            if len(values) != len(examples):
                raise Broken(f"self-check: {output} has {len(values)} rows for {len(examples)} inputs")


def _warm(version: Version) -> None:
    """Calls what the check did not: the first call of a signature prepares its graph, and nobody should wait for that."""
    for name in version.signatures.keys() - version.extra.get("example_outputs", {}).keys():
        inputs = version.signatures[name].inputs
        ones = {
            key: np.full([size or 1 for size in spec.shape or ()], b"a" if spec.dtype == "string" else 1)
            for key, spec in inputs.items()
        }
        with contextlib.suppress(Refused):  # other makers' models may take no such inputs
            version.signatures[name]({key: array.astype(_numpy(inputs[key].dtype)) for key, array in ones.items()}, WARM)


def _compare(name: str, outputs: Arrays, expected: Mapping[str, Any]) -> None:
    """Numbers have to agree, and texts but for one row: of two equally probable ones, another processor may take the other."""
    same = None
    floats = {}
    for output, values in expected.items():
        if output not in outputs:
            raise Broken(f"self-check: {name} has no output {output}")
        found, wanted = outputs[output], np.array(values, object if outputs[output].dtype == object else outputs[output].dtype)
        if found.ndim != wanted.ndim or len(found) != len(wanted):
            raise Broken(f"self-check: {name}/{output} has the shape {list(found.shape)}, not {list(wanted.shape)}")
        found, wanted = (_padded(array, np.maximum(found.shape, wanted.shape)) for array in (found, wanted))
        if found.dtype.kind == "f":
            floats[output] = found, wanted
            continue
        texts = np.vectorize(
            lambda value: value if isinstance(value, str) else value.decode("utf-8", "surrogateescape"), otypes=[object]
        )
        if found.dtype == object:
            found, wanted = texts(found), texts(wanted)
        rows = (found == wanted).reshape(len(found), -1).all(1)
        same = rows if same is None else same & rows
    if same is not None and (~same).sum() > (1 if len(same) > 1 else 0):
        raise Broken(f"self-check: {name} answers {(~same).sum()} of {len(same)} examples otherwise than when it was exported")
    for output, (found, wanted) in floats.items():
        kept = slice(None) if same is None else same
        if not np.allclose(found[kept], wanted[kept], rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            raise Broken(f"self-check: {name}/{output} is not what it was when the export was written")


def _padded(array: np.ndarray, shape: np.ndarray) -> np.ndarray:
    room = [(0, int(most - size)) for most, size in zip(shape, array.shape, strict=True)]
    return np.pad(array, room, constant_values=b"" if array.dtype == object else 0)


def _tried(version: Version, name: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    signature = version.signatures.get(name)
    if signature is None:
        raise Broken(f"self-check: there is no signature {name}")
    try:
        return signature({key: _array(values, signature.inputs[key].dtype) for key, values in inputs.items()})
    except (Refused, KeyError, ValueError, TypeError) as error:
        raise Broken(f"self-check: {name} does not answer: {_first_line(error)}") from None


def _numpy(dtype: str) -> Any:
    return tf.as_dtype({"float": "float32", "double": "float64"}.get(dtype, dtype)).as_numpy_dtype


def _array(values: Any, dtype: str) -> np.ndarray:
    if dtype != "string":
        return np.array(values, _numpy(dtype))
    array = np.array(values, object)
    return np.vectorize(lambda text: text.encode("utf-8", "surrogateescape"), otypes=[object])(array) if array.size else array


def _joined(value: str | Sequence[str]) -> str:
    """A text, or one in tokens as a text."""
    return value if isinstance(value, str) else " ".join(value)


def _extra(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def _spec(info: Any) -> Spec:
    name, shape = tf.as_dtype(info.dtype).name, info.tensor_shape
    dtype = {"float32": "float", "float64": "double", "float16": "half"}.get(name, name)
    return Spec(dtype, None if shape.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in shape.dim))


def _as_dict(definition: Any) -> dict[str, Any]:
    """As protobuf's JSON has it, with what is empty too."""
    return json_format.MessageToDict(definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _first_line(error: Exception) -> str:
    """What is wrong, without where in the graph."""
    text = error.message if isinstance(error, (Refused, tf.errors.OpError)) else str(error)
    lines = [line for line in str(text).splitlines() if line.strip() and line != "Graph execution error:"]
    return lines[0][:500] if lines else type(error).__name__
