"""The REST interface of TensorFlow Serving, from its public description and its handler's own tests."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nlp_tasks.serving import json_reader, rest
from nlp_tasks.serving.refused import Refused
from nlp_tasks.serving.rest import Asked
from nlp_tasks.serving.tensors import Spec

# Paths


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/models/m", Asked("status", "m", None, None)),
        ("GET", "/v1/models/m/versions/12", Asked("status", "m", 12, None)),
        ("GET", "/v1/models/m/labels/stable", Asked("status", "m", None, "stable")),
        ("GET", "/v1/models/m/metadata", Asked("metadata", "m", None, None)),
        ("GET", "/v1/models/m/versions/12/metadata", Asked("metadata", "m", 12, None)),
        ("GET", "/v1/models/m/labels/stable/metadata", Asked("metadata", "m", None, "stable")),
        ("POST", "/v1/models/m:predict", Asked("predict", "m", None, None)),
        ("POST", "/v1/models/m/versions/12:predict", Asked("predict", "m", 12, None)),
        ("POST", "/v1/models/m/labels/a-b:predict", Asked("predict", "m", None, "a-b")),
        ("POST", "/v1/models/m:classify", Asked("classify", "m", None, None)),
        ("POST", "/v1/models/m:regress", Asked("regress", "m", None, None)),
        ("POST", "/V1/Models/m:predict", Asked("predict", "m", None, None)),
        ("POST", "/v1/models/a%2Fb%20c:predict", Asked("predict", "a/b c", None, None)),
    ],
)
def test_what_a_path_asks_for(method: str, path: str, expected: Asked) -> None:
    assert rest.asked(method, path) == expected


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/v1/foo", "Malformed request: GET /v1/foo"),
        ("POST", "/v1/foo", "Malformed request: POST /v1/foo"),
        ("GET", "/v1/models", "Missing model name in request."),
        ("POST", "/v1/models", "Malformed request: POST /v1/models"),
        ("GET", "/v1/models/debug/model_name", "Malformed request: GET /v1/models/debug/model_name"),
        ("GET", "/v1/models/m:predict", "Malformed request: GET /v1/models/m:predict"),
        ("GET", "/v1/models/foo/version/50:predict", "Malformed request: GET /v1/models/foo/version/50:predict"),
        ("POST", "/v1/models/foo/version/50:regress", "Malformed request"),
        ("POST", "/v1/models/foo/versions/HELLO:regress", "Malformed request"),
        ("POST", f"/v1/models/foo/versions/{2**64 - 1}:regress", "Failed to convert version: 18446744073709551615 to numeric."),
        ("POST", "/v1/models/foo/versions/" + "9" * 10_000 + ":regress", "Failed to convert version"),
        ("POST", "/v1/models/foo/metadata", "Malformed request"),
        ("POST", "/v1/models/foo/versions/50/labels/some_label:regress", "Malformed request"),
        ("POST", "/v1/models/m:PREDICT", "Malformed request: POST /v1/models/m:PREDICT"),
        ("POST", "/v1/models/m:generate", "Malformed request"),
        ("PUT", "/v1/models/m:predict", "Malformed request: PUT /v1/models/m:predict"),
        ("OPTIONS", "/v1/models/m", "Malformed request"),
        ("GET", "/v1/models/../../etc/passwd", "Malformed request"),
        ("GET", "/v1/models/m/", "Malformed request"),
    ],
)
def test_paths_that_ask_for_nothing(method: str, path: str, message: str) -> None:
    with pytest.raises(Refused) as caught:
        rest.asked(method, path)
    assert caught.value.status == 400 and message in caught.value.message


# Bodies

TEXTS = {"texts": Spec("string", (None,))}


def arrays(body: bytes, specs: dict[str, Spec] | None = None) -> dict[str, Any]:
    return {name: array.tolist() for name, array in rest.request(body).arrays(specs or TEXTS).items()}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"instances": ["a", "b"]}', [b"a", b"b"]),
        (b'{"instances": [{"texts": "a"}]}', [b"a"]),
        (b'{"inputs": ["a", "b"]}', [b"a", b"b"]),
        (b'{"inputs": {"texts": ["a"]}}', [b"a"]),
        (b'{"inputs": {"texts": [{"b64": "/w=="}]}}', [b"\xff"]),
        ("{\"instances\": [\"é 你好 👍🏽\"]}".encode(), ["é 你好 👍🏽".encode()]),
        (b'{"instances": ["\\u00e9 \\ud83d\\udc4d"]}', ["é 👍".encode()]),
        (b'\xef\xbb\xbf{"instances": ["a"]}', [b"a"]),
        (b'{"instances": ["caf\xe9 \x80"]}', [b"caf\xe9 \x80"]),  # no UTF-8: as it was sent
        (b'{"signature_name": "", "instances": ["a"]}', [b"a"]),
        (b'{"instances": ["a"], "instances": ["b"]}', [b"a"]),  # the first of two
        (b' \n{"instances": [""], "more": {"x": [1, null]}}\n', [b""]),
    ],
)  # fmt: skip
def test_bodies(body: bytes, expected: list[bytes]) -> None:
    assert arrays(body) == {"texts": expected}


def test_names_of_signatures() -> None:
    assert rest.request(b'{"instances": ["a"]}').signature == "serving_default"
    assert rest.request(b'{"signature_name": "n_best"}').signature == "n_best"


def test_not_a_number_and_infinity_are_numbers() -> None:
    found = arrays(b'{"inputs": [NaN, Infinity, -Infinity, 1e3]}', {"x": Spec("float", (None,))})["x"]
    np.testing.assert_array_equal(found, [np.nan, np.inf, -np.inf, 1000])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b" \n", "JSON Parse error: The document is empty"),
        (b"instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0 (line 1, column 1)"),
        (b'{\n "instances": ["a" "b"]}', "JSON Parse error: Missing a comma or } or ] after an element. at offset: 21 (line 2, column 20)"),
        ("{\"é\": [\"a\" \"b\"]}".encode(), "at offset: 12 (line 1, column 12)"),
        (b'{"instances": ["a"]', "JSON Parse error: Missing a comma or } or ] after an element. at offset: 19"),
        (b'{"instances": ["a]}', "JSON Parse error: Missing a closing quotation mark in string. at offset: 15"),
        (b'{"instances": ["a\n"]}', "JSON Parse error: Invalid encoding in string."),
        (b'{"instances": ["\\x"]}', "JSON Parse error: Invalid escape character in string."),
        (b'{"instances": ["\\u00g0"]}', "JSON Parse error: Incorrect hex digit after \\u escape in string."),
        (b'{"instances": ["\\ud800"]}', "JSON Parse error: The surrogate pair in string is invalid."),
        (b'{"instances": ["\\udc80"]}', "JSON Parse error: The surrogate pair in string is invalid."),
        (b'{"instances": ["\xff\\udc80"]}', "JSON Parse error: The surrogate pair in string is invalid."),
        (b'{"instances" ["a"]}', "JSON Parse error: Missing a colon after a name of object member."),
        (b"{1: 2}", "JSON Parse error: Missing a name for object member."),
        (b'{"instances": ["a"]} x', "JSON Parse error: The document root must not be followed by other values."),
        (b'{"inputs": [1e999]}', "JSON Parse error: Number too big to be stored in double."),
        (b'{"inputs": [' + b"9" * 10_000 + b"]}", "JSON Parse error: "),
        (b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "JSON Parse error: Nested too deeply."),
        (b'["a"]', 'JSON Value: ["a"] Is not object'),
        (b'"a"', 'JSON Value: "a" Is not object'),
        (b'{"signature_name": 100}', "JSON Value: {\"signature_name\": 100} not formatted correctly. 'signature_name' key must be a string value."),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b'{"texts": ["a"]}', "Missing 'inputs' or 'instances' key"),
        (b'{"instances": ["a"], "inputs": ["a"]}', "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"),
        (b'{"instances": "a"}', "Excepting 'instances' to be an list/array"),
        (b'{"instances": {"texts": "a"}}', "Excepting 'instances' to be an list/array"),
        (b'{"instances": []}', "JSON Value: {\"instances\": []} No values in 'instances' array"),
        (b'{"instances": [["a", "b"]]}', "Tensor name: texts Expecting shape [-1] but got: [1,2]"),
        (b'{"inputs": "a"}', "Tensor name: texts Expecting shape [-1] but got: []"),
        (b'{"instances": [5]}', "JSON Value: 5 Type: Number is not of expected type: string"),
        (b'{"instances": [{"text": "a"}]}', "JSON object: does not have named input: text"),
    ],
)  # fmt: skip
def test_bodies_that_are_refused(body: bytes, message: str) -> None:
    with pytest.raises(Refused) as caught:
        arrays(body)
    assert caught.value.status == 400 and message in caught.value.message


def test_a_signature_without_inputs() -> None:
    with pytest.raises(Refused, match="Failed to get input map for signature: serving_default"):
        rest.request(b'{"instances": ["a"]}').arrays({})


def test_errors_never_hold_a_whole_request() -> None:
    with pytest.raises(Refused) as caught:
        arrays(json.dumps({"instances": [], "more": ["x" * 50] * 10_000}).encode())
    assert len(caught.value.message) < 300
    assert json_reader.shown({"a": "\udcff"}) == '{"a": "\ufffd"}'


def test_responses() -> None:
    outputs = {"label": np.array([b"a\xc3\xa9"], object), "p": np.array([[0.25, np.nan]], np.float32)}
    assert rest.response([outputs], in_rows=True) == '{"predictions": [{"label": "aé", "p": [0.25, NaN]}]}'.encode()
    assert rest.response([outputs], in_rows=False) == '{"outputs": {"label": ["aé"], "p": [[0.25, NaN]]}}'.encode()
    assert json.loads(rest.error('a "b"\n')) == {"error": 'a "b"\n'}


def test_a_message_may_say_anything() -> None:
    assert json.loads(rest.error("caf\udce9")) == {"error": "caf?"}


@pytest.mark.parametrize("digits", ["9" * 5000, "0" * 5000 + "9" * 20, str(2**63)])
def test_numbers_of_versions_that_are_too_large(digits: str) -> None:
    with pytest.raises(Refused, match="to numeric"):
        rest.asked("GET", f"/v1/models/m/versions/{digits}")
    assert rest.asked("GET", f"/v1/models/m/versions/{'0' * 5000}7").version == 7


def test_of_keys_that_repeat_the_first_counts_in_checks_too() -> None:
    with pytest.raises(Refused, match="surrogate pair"):
        rest.request(b'{"instances": ["\\ud800"], "instances": ["a"]}')
