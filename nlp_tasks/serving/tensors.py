"""JSON values to arrays and back, by the rules of TensorFlow Serving: dtypes, shapes, base64, and its words for what does not fit."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nlp_tasks.serving.json_reader import encoded, shown
from nlp_tasks.serving.refused import Refused, invalid

Arrays = Mapping[str, np.ndarray]

LARGEST = 1 << 24
"""Values of an answer in columns of which the rows were answered apart: a single wide one makes all of them wide."""
DEEPEST = 16
"""No signature takes lists nested deeper."""


class Spec(NamedTuple):
    """What a signature takes by a name."""

    dtype: str
    """As TensorFlow calls it: "string", "int32", "float", …; of strings, arrays are of objects of bytes."""
    shape: tuple[int | None, ...] | None
    """None where it is open: a dimension, or all of them."""

    def check(self, name: str, array: np.ndarray) -> None:
        """Raises Refused at an array of another shape."""
        if self.shape is None:
            return
        fits = len(self.shape) == array.ndim
        if not fits or any(want not in (None, size) for want, size in zip(self.shape, array.shape, strict=True)):
            want = tuple(-1 if size is None else size for size in self.shape)
            raise invalid(f"Tensor name: {name} Expecting shape {_shape(want)} but got: {_shape(array.shape)}")


Specs = Mapping[str, Spec]

_INTEGERS = {
    "int8": (-(2**7), 2**7 - 1), "uint8": (0, 2**8 - 1), "int16": (-(2**15), 2**15 - 1), "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-(2**63), 2**63 - 1), "uint64": (0, 2**64 - 1),
}  # fmt: skip
_DECIMALS = {"float": (24, float(np.finfo(np.float32).max)), "double": (53, float(np.finfo(np.float64).max))}
"""Bits of the largest whole numbers that are held without loss, and the largest number."""
_JSON_TYPES = {dict: "Object", str: "String", int: "Number", float: "Number"}


# From JSON


def from_instances(instances: Any, specs: Specs) -> dict[str, np.ndarray]:
    """Row format: a list of one object a row, or of one value a row where there is one input.

    Returns:
        of each input an array `[rows, …]`.
    """
    first, names = instances[0], sorted(specs)
    if type(first) is not dict and len(specs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"
        )
    as_objects = _is_object(first)
    if len(specs) == 1 and not as_objects:
        return {names[0]: _rows(instances, names[0], specs[names[0]])}
    columns: dict[str, _Column] = {name: _Column(specs[name].dtype) for name in names}
    for number, row in enumerate(instances):
        if not _is_object(row):
            raise invalid(f"Expecting object but got list at item {number} of input list")
        for name, value in row.items():
            try:
                if name not in specs:
                    raise invalid(f"JSON object: does not have named input: {name}")
                columns[name].add(value)
            except Refused as error:
                raise invalid(
                    f"Failed to process element: {number} key: {name} of 'instances' list. Error: INVALID_ARGUMENT: {error}"
                ) from None
        if row.keys() != specs.keys():
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: {shown(row)} keys must be equal to: "
                f"{','.join(names)}"
            )
    return {name: column.array() for name, column in columns.items()}


def _rows(instances: list[Any], name: str, spec: Spec) -> np.ndarray:
    """Row format of one input, without its name."""
    if spec.dtype == "string" and all(type(value) is str for value in instances):
        return _objects([encoded(value) for value in instances])
    column = _Column(spec.dtype)
    for number, value in enumerate(instances):
        if _is_object(value):
            raise invalid(f"Expecting value/list but got object at item {number} of input list")
        try:
            column.add(value)
        except Refused as error:
            raise invalid(f"Failed to process element: {number} of 'instances' list. Error: INVALID_ARGUMENT: {error}") from None
    return column.array()


def from_inputs(inputs: Any, specs: Specs) -> dict[str, np.ndarray]:
    """Column format: an object of one value an input, or the value alone where there is one input."""
    if _is_object(inputs):
        for name in specs:
            if name not in inputs:
                raise invalid(f"Missing named input: {name} in 'inputs' object.")
        return {name: _array(inputs[name], spec.dtype) for name, spec in specs.items()}
    if len(specs) > 1:
        raise invalid(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"
        )
    return {name: _array(inputs, spec.dtype) for name, spec in specs.items()}


class _Column:
    """Values of one input, all of one shape."""

    def __init__(self, dtype: str) -> None:
        self._dtype, self._values, self._rows = dtype, list[Any](), 0
        self._shape: tuple[int, ...] = ()

    def add(self, value: Any) -> None:
        before, shape = len(self._values), _dense_shape(value)
        _fill(value, 0, shape, self._dtype, self._values)
        if not self._rows:
            self._shape = shape
        elif math.prod(shape) != math.prod(self._shape):
            raise invalid(f"Expecting tensor size: {math.prod(self._shape)} but got: {len(self._values) - before}")
        elif shape != self._shape:
            raise invalid(f"Expecting shape {_shape(self._shape)} but got: {_shape(shape)}")
        self._rows += 1

    def array(self) -> np.ndarray:
        return _made(self._values, self._dtype).reshape(self._rows, *self._shape)


def _array(value: Any, dtype: str) -> np.ndarray:
    shape = _dense_shape(value)
    values: list[Any] = []
    _fill(value, 0, shape, dtype, values)
    return _made(values, dtype).reshape(shape)


def _made(values: list[Any], dtype: str) -> np.ndarray:
    if dtype == "string":
        return _objects(values)
    return np.array(values, {"float": "float32", "double": "float64"}.get(dtype, dtype))


def _objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _dense_shape(value: Any) -> tuple[int, ...]:
    """That of a list of lists, by the first of each."""
    shape = []
    while type(value) is list:
        shape.append(len(value))
        if not value:
            break
        value = value[0]
        if len(shape) > DEEPEST:
            raise invalid(f"Encountered list at unexpected level: {len(shape)} expected < {DEEPEST}")
    return tuple(shape)


def _fill(value: Any, level: int, shape: tuple[int, ...], dtype: str, values: list[Any]) -> None:
    if type(value) is not list:
        if level != len(shape):
            raise invalid(
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {len(shape)}"
            )
        values.append(_leaf(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}")
    for each in value:
        _fill(each, level + 1, shape, dtype, values)


def _leaf(value: Any, dtype: str) -> Any:
    """A value of the dtype, strings as bytes."""
    kind = type(value)
    if dtype == "string":
        if kind is str:
            return encoded(value)
        if kind is dict:
            return _decoded(value)
    elif dtype == "bool":
        if kind is bool:
            return value
    elif dtype in _INTEGERS:
        low, high = _INTEGERS[dtype]
        if kind is int and low <= value <= high:
            return value
    elif dtype in _DECIMALS:
        if kind in (int, float):
            return _decimal(value, dtype)
    else:
        raise Refused(501, f"Conversion of JSON Value: {shown(value)} to type: {dtype}")
    name = "Null" if value is None else str(value) if kind is bool else _JSON_TYPES[kind]
    raise invalid(f"JSON Value: {shown(value)} Type: {name} is not of expected type: {dtype}")


def _decimal(value: float, dtype: str) -> float:
    bits, largest = _DECIMALS[dtype]
    if abs(value) >= 2**bits if isinstance(value, int) else largest < abs(value) < math.inf:
        raise invalid(f"Cannot convert JSON value: {shown(value)} to {dtype} without loss of precision.")
    return float(value)


def _is_base64(value: Any) -> bool:
    return type(value) is dict and value.keys() == {"b64"} and type(value["b64"]) is str


def _is_object(value: Any) -> bool:
    """An object that names inputs, not one that stands for a string."""
    return type(value) is dict and not _is_base64(value)


def _decoded(value: dict[str, Any]) -> bytes:
    """Base64 with or without its padding."""
    if not _is_base64(value):
        raise invalid(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


# Rows of several


def stacked(parts: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """Rows of all parts; other dimensions are padded to the largest, by 0 or ""."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: _concatenated([part[name] for part in parts]) for name in parts[0]}


def _concatenated(arrays: Sequence[np.ndarray]) -> np.ndarray:
    largest = np.max([array.shape[1:] for array in arrays], axis=0, initial=0).astype(int)
    fill = b"" if arrays[0].dtype == object else 0
    padded = []
    for array in arrays:
        room = [(0, 0), *((0, int(most - size)) for most, size in zip(largest, array.shape[1:], strict=True))]
        padded.append(np.pad(array, room, constant_values=fill) if any(after for _, after in room) else array)
    return np.concatenate(padded)


# To JSON


def to_predictions(parts: Sequence[Arrays]) -> list[Any]:
    """Row format: a value a row, or an object where there are several outputs. The rows of one part after those of another, each part as
    wide as it is."""
    return [row for outputs in parts for row in _predictions(outputs)]


def _predictions(outputs: Arrays) -> list[Any]:
    rows = -1
    for name, array in outputs.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if rows >= 0 and len(array) != rows:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {rows}")
        rows = len(array)
    columns = {name: _listed(name, array) for name, array in outputs.items()}
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def to_outputs(parts: Sequence[Arrays]) -> Any:
    """Column format: an object of one value an output, or the value alone where there is one output.

    Raises:
        Refused: together, all rows being as wide as the widest, they are too large.
    """
    cells = sum(sum(len(part[name]) for part in parts) * math.prod(np.max([part[name].shape[1:] for part in parts], axis=0, initial=0))
                for name in parts[0]) if len(parts) > 1 else 0  # fmt: skip
    if cells > LARGEST:
        raise Refused(
            429, f"The answer has {cells:,.0f} values, as all rows are as wide as the widest: ask in rows, or for fewer at once"
        )
    outputs = stacked(parts)
    columns = {name: _listed(name, array) for name, array in outputs.items()}
    return next(iter(columns.values())) if len(columns) == 1 else columns


def _listed(name: str, array: np.ndarray) -> Any:
    """Numbers of 16 and 32 bits in as few digits as give them back."""
    if array.dtype == object:
        is_binary = name.endswith("_bytes")
        return _objects([_text(value, is_binary) for value in array.ravel()]).reshape(array.shape).tolist()
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        array = array.astype(str).astype(np.float64)
    if array.dtype.kind not in "fiub":
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype}")
    return array.tolist()


def _text(value: bytes, is_binary: bool) -> Any:
    """Binary data, and what is no text, in base64."""
    if not is_binary:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(value).decode()}
