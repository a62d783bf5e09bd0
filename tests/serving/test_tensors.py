"""JSON values to arrays and back, case by case after TensorFlow Serving's own tests of its converter (json_tensor_test.cc)."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_tasks.serving import tensors
from nlp_tasks.serving.refused import Refused
from nlp_tasks.serving.tensors import Spec

TEXT, NUMBER, DECIMAL = Spec("string", (None,)), Spec("int32", (None,)), Spec("float", (None,))
OPEN = {dtype: Spec(dtype, None) for dtype in ("string", "int32", "float", "double", "int64", "bool", "uint8", "half")}


def b64(text: str) -> dict[str, str]:
    return {"b64": base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("instances", "specs", "expected"),
    [
        ([[1, 2], [3, 4], [5, 6]], {"x": OPEN["int32"]}, {"x": [[1, 2], [3, 4], [5, 6]]}),
        ([1, 2.0, 3, 5.003, 0.0], {"x": DECIMAL}, {"x": [1, 2, 3, np.float32(5.003), 0]}),
        (["foo", "bar"], {"x": TEXT}, {"x": [b"foo", b"bar"]}),
        ([b64("hello"), b64("world")], {"x": TEXT}, {"x": [b"hello", b"world"]}),
        ([[b64("hello")], [b64("world")]], {"x": OPEN["string"]}, {"x": [[b"hello"], [b"world"]]}),
        ([{"x": [[b64("hello")], [b64("world")]]}], {"x": OPEN["string"]}, {"x": [[[b"hello"], [b"world"]]]}),
        ([{"x": "a", "n": 1}, {"n": 2, "x": b64("b")}], {"x": TEXT, "n": NUMBER}, {"x": [b"a", b"b"], "n": [1, 2]}),
        ([{"x": [[1, 2], [3, 4]], "y": [True]}, {"x": [[5, 6], [7, 8]], "y": [False]}],
         {"x": OPEN["int32"], "y": OPEN["bool"]}, {"x": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "y": [[True], [False]]}),
    ],
)  # fmt: skip
def test_rows(instances: list[Any], specs: dict[str, Spec], expected: dict[str, Any]) -> None:
    found = tensors.from_instances(instances, specs)
    assert {name: array.tolist() for name, array in found.items()} == expected


@pytest.mark.parametrize(
    ("inputs", "specs", "expected"),
    [
        ({"x": [[[1, 2], [3, 4]]]}, {"x": OPEN["int32"]}, {"x": [[[1, 2], [3, 4]]]}),
        ([[[1, 2], [3, 4]]], {"x": OPEN["int32"]}, {"x": [[[1, 2], [3, 4]]]}),
        (b64("hello"), {"x": OPEN["string"]}, {"x": b"hello"}),
        ({"x": ["foo", "bar"], "y": b64("hello"), "more": 1}, {"x": TEXT, "y": OPEN["string"]}, {"x": [b"foo", b"bar"], "y": b"hello"}),
        ({"x": ["a", "b", "c"], "n": [1]}, {"x": TEXT, "n": NUMBER}, {"x": [b"a", b"b", b"c"], "n": [1]}),
        ([], {"x": TEXT}, {"x": []}),
    ],
)  # fmt: skip
def test_columns(inputs: Any, specs: dict[str, Spec], expected: dict[str, Any]) -> None:
    found = tensors.from_inputs(inputs, specs)
    assert {name: array.tolist() for name, array in found.items()} == expected


def test_dtypes_are_those_of_the_signature() -> None:
    made = tensors.from_inputs(
        {"string": ["a"], "int32": [1], "float": [1], "double": [1], "int64": [1], "bool": [True], "uint8": [1]},
        {name: spec for name, spec in OPEN.items() if name != "half"},
    )
    assert {name: array.dtype.name for name, array in made.items()} == {
        "string": "object", "int32": "int32", "float": "float32", "double": "float64", "int64": "int64", "bool": "bool", "uint8": "uint8",
    }  # fmt: skip


PAIR = {"x": NUMBER, "s": TEXT}


@pytest.mark.parametrize(
    ("instances", "specs", "message"),
    [
        ([[1, 2], [3, 4], [5, 6, 7]], {"x": OPEN["int32"]}, "Expecting tensor size: 2 but got: 3"),
        ([[1, 2], [3, 4], [[5, 6]]], {"x": OPEN["int32"]}, "Expecting shape [2] but got: [1,2]"),
        ([1, [1]], {"x": OPEN["int32"]}, "Expecting shape [] but got: [1]"),
        ([[1, [2]]], {"x": OPEN["int32"]}, "Encountered list at unexpected level: 1 expected < 1"),
        ([[[1], 2]], {"x": OPEN["int32"]}, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ([[[1], [2, 3]]], {"x": OPEN["int32"]}, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ([[1, 2], ["a", "b"]], {"x": OPEN["int32"]},
         "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"a\" Type: String is not of expected type: int32"),
        ([1.7976931348623157e308], {"x": DECIMAL}, "to float without loss of precision."),
        ([16777217], {"x": DECIMAL}, "Cannot convert JSON value: 16777217 to float without loss of precision."),
        ([9007199254740993], {"x": OPEN["double"]}, "to double without loss of precision."),
        ([2**31], {"x": NUMBER}, "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        ([1.0], {"x": NUMBER}, "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ([True], {"x": NUMBER}, "JSON Value: true Type: True is not of expected type: int32"),
        ([True], {"x": DECIMAL}, "JSON Value: true Type: True is not of expected type: float"),
        ([1], {"x": OPEN["bool"]}, "JSON Value: 1 Type: Number is not of expected type: bool"),
        ([256], {"x": OPEN["uint8"]}, "JSON Value: 256 Type: Number is not of expected type: uint8"),
        (["a", 5], {"x": TEXT}, "JSON Value: 5 Type: Number is not of expected type: string"),
        (["a", None], {"x": TEXT}, "JSON Value: null Type: Null is not of expected type: string"),
        ([b64("a"), {"b64": 5}], {"x": TEXT}, "Expecting value/list but got object at item 1 of input list"),
        ([{"x": {"b64": 5}}], {"x": TEXT}, 'JSON Value: {"b64": 5} not formatted correctly for base64 data'),
        ([{"b64": "%%%"}], {"x": TEXT}, "Unable to base64 decode"),
        ([{"b64": "a"}], {"x": TEXT}, "Unable to base64 decode"),
        ([{"x": {"y": 1}}], {"x": NUMBER}, 'JSON Value: {"y": 1} Type: Object is not of expected type: int32'),
        (["a"], PAIR, "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"),
        ([{"x": 1, "s": "a"}, [1]], PAIR, "Expecting object but got list at item 1 of input list"),
        ([["a"], {"s": ["a"]}], {"s": OPEN["string"]}, "Expecting value/list but got object at item 1 of input list"),
        ([{"x": 1}], PAIR, "Failed to process element: 0 of 'instances' list. JSON object: {\"x\": 1} keys must be equal to: s,x"),
        ([{"x": 1, "s": "a", "y": 2}], PAIR,
         "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named input: y"),
        ([{"x": "a", "s": "a"}], PAIR, "Failed to process element: 0 key: x of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"a\" Type"),
        ([[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]], {"x": NUMBER}, "Encountered list at unexpected level: 17 expected < 16"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit(instances: list[Any], specs: dict[str, Spec], message: str) -> None:
    with pytest.raises(Refused) as caught:
        tensors.from_instances(instances, specs)
    assert caught.value.status == 400 and message in caught.value.message


@pytest.mark.parametrize(
    ("inputs", "specs", "message"),
    [
        (
            ["a"],
            PAIR,
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map",
        ),
        ({"x": [1]}, PAIR, "Missing named input: s in 'inputs' object."),
        ({"x": [1, "a"], "s": ["a"]}, PAIR, 'JSON Value: "a" Type: String is not of expected type: int32'),
        ({"y": ["a"]}, {"x": TEXT}, "Missing named input: x in 'inputs' object."),
    ],
)
def test_columns_that_do_not_fit(inputs: Any, specs: dict[str, Spec], message: str) -> None:
    with pytest.raises(Refused) as caught:
        tensors.from_inputs(inputs, specs)
    assert caught.value.status == 400 and message in caught.value.message


def test_a_dtype_that_json_cannot_write() -> None:
    with pytest.raises(Refused, match="Conversion of JSON Value: 1 to type: half") as caught:
        tensors.from_inputs([1], {"x": OPEN["half"]})
    assert caught.value.status == 501


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        (TEXT, (2, 1), "Tensor name: x Expecting shape [-1] but got: [2,1]"),
        (Spec("string", (None, 3)), (2, 2), "Tensor name: x Expecting shape [-1,3] but got: [2,2]"),
        (TEXT, (), "Tensor name: x Expecting shape [-1] but got: []"),
    ],
)
def test_shapes_are_those_of_the_signature(spec: Spec, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(Refused) as caught:
        spec.check("x", np.zeros(shape))
    assert message == caught.value.message
    Spec("string", None).check("x", np.zeros(shape))
    Spec("string", (None,) * len(shape)).check("x", np.zeros(shape))


def test_a_long_value_is_cut_in_its_error() -> None:
    with pytest.raises(Refused) as caught:
        tensors.from_inputs(["a" * 10**6], {"x": NUMBER})
    assert len(caught.value.message) < 300 and "aaa…" in caught.value.message


# To JSON


def strings(*rows: Any) -> np.ndarray:
    return np.array(rows, object)


def test_one_output_has_no_name() -> None:
    assert tensors.to_predictions([{"x": np.array([[1, 2], [3, 4]])}]) == [[1, 2], [3, 4]]
    assert tensors.to_outputs([{"x": np.array([[1, 2], [3, 4]])}]) == [[1, 2], [3, 4]]


def test_several_outputs_are_objects() -> None:
    outputs = {
        "text": strings([b"foo", b"bar"], [b"baz", b"bat"]), "decimal": np.array([[0.1], [2.0]], np.float32), "whole": np.array([8, 9]),
        "text_bytes": strings(b"hello", b"world"),
    }  # fmt: skip
    assert tensors.to_predictions([outputs]) == [
        {"text": ["foo", "bar"], "decimal": [0.1], "whole": 8, "text_bytes": b64("hello")},
        {"text": ["baz", "bat"], "decimal": [2.0], "whole": 9, "text_bytes": b64("world")},
    ]
    assert tensors.to_outputs([outputs]) == {
        "text": [["foo", "bar"], ["baz", "bat"]], "decimal": [[0.1], [2.0]], "whole": [8, 9],
        "text_bytes": [b64("hello"), b64("world")],
    }  # fmt: skip


def test_bytes_that_are_no_text_come_in_base64() -> None:
    assert tensors.to_outputs([{"x": strings(b"\xff", b"a")}]) == [{"b64": "/w=="}, "a"]


def test_rows_that_were_answered_apart() -> None:
    """In rows each part is as wide as it is; in columns all are as wide as the widest, if that is not too much."""
    parts = [{"x": np.array([[1]]), "y": strings(b"a")}, {"x": np.array([[2, 3], [4, 5]]), "y": strings(b"b", b"c")}]
    assert [row["x"] for row in tensors.to_predictions(parts)] == [[1], [2, 3], [4, 5]]
    assert tensors.to_outputs(parts) == {"x": [[1, 0], [2, 3], [4, 5]], "y": ["a", "b", "c"]}
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Refused, match="The answer has 9 values") as refused:
        patched.setattr(tensors, "LARGEST", 8)
        tensors.to_outputs(parts)
    assert refused.value.status == 429


def test_no_rows() -> None:
    assert tensors.to_predictions([{"x": np.zeros((0, 2), np.int32)}]) == []
    assert tensors.to_predictions([{"x": strings().reshape(0, 1, 2), "y": np.zeros((0, 3), np.float32)}]) == []


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"x": np.array(1)}, "Tensor name: x has no shape information "),
        ({"x": np.zeros((2, 3)), "y": np.zeros((1, 3))}, "Tensor name: y has inconsistent batch size: 1 expecting: 2"),
        ({"x": np.zeros((0, 2)), "y": np.zeros((1, 2))}, "Tensor name: y has inconsistent batch size: 1 expecting: 0"),
        ({"x": np.zeros(2, np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
    ],
)
def test_outputs_that_are_no_rows(outputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(Refused) as caught:
        tensors.to_predictions([outputs])
    assert (caught.value.status, caught.value.message) == (400, message)


@given(st.lists(st.floats(width=32), min_size=1))
def test_decimals_come_back_as_they_were(values: list[float]) -> None:
    array = np.array(values, np.float32)
    written = json.dumps(tensors.to_outputs([{"x": array}]))
    np.testing.assert_array_equal(np.array(json.loads(written), np.float32), array)


def test_decimals_are_short() -> None:
    array = np.array([0.1, 0.2, 1e-5, np.nan, np.inf, 3], np.float32)
    assert json.dumps(tensors.to_outputs([{"x": array}])) == "[0.1, 0.2, 1e-05, NaN, Infinity, 3.0]"


@given(st.lists(st.binary(max_size=8), min_size=1))
def test_any_bytes_there_and_back(values: list[bytes]) -> None:
    sent = [{"b64": base64.b64encode(value).decode()} for value in values]
    array = tensors.from_instances(sent, {"x": TEXT})["x"]
    assert array.tolist() == values
    assert tensors.from_instances(tensors.to_predictions([{"x": array}]), {"x": TEXT})["x"].tolist() == values
