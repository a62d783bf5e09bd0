"""The REST interface of TensorFlow Serving: which path asks for what, requests to arrays, arrays to responses, and its errors.

After its public description (https://www.tensorflow.org/tfx/serving/api_rest).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from nlp_tasks.serving import json_reader, tensors
from nlp_tasks.serving.json_reader import shown
from nlp_tasks.serving.refused import invalid
from nlp_tasks.serving.tensors import Arrays, Specs

DEFAULT = "serving_default"

_WHICH = r"(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
_PREDICTION = re.compile(rf"/v1/models/([^/:]+){_WHICH}:(classify|regress|predict)", re.IGNORECASE)
_ABOUT = re.compile(rf"/v1/models(?:/([^/:]+))?{_WHICH}(?:/(metadata))?", re.IGNORECASE)


class Asked(NamedTuple):
    """What a path asks for."""

    method: str
    """predict, classify, regress, status or metadata."""
    model: str
    version: int | None
    label: str | None


def asked(method: str, path: str) -> Asked:
    """What is asked for by an HTTP method and a path as it was sent, in its escapes.

    Raises:
        Refused: nothing that there is.
    """
    pattern = {"POST": _PREDICTION, "GET": _ABOUT}.get(method)
    found = pattern.fullmatch(path) if pattern else None
    if not found:
        raise invalid(f"Malformed request: {method} {path}")
    model, version, label, what = found.groups()
    digits = (version or "").lstrip("0")
    if len(digits) > 19 or int(digits or 0) >= 2**63:
        raise invalid(f"Failed to convert version: {version} to numeric.")
    if not model:
        raise invalid("Missing model name in request.")
    if method == "GET":
        what = "metadata" if what else "status"
    elif what not in ("predict", "classify", "regress"):  # the case of a path is open, that of its last word is not
        raise invalid(f"Malformed request: {method} {path}")
    return Asked(what, unquote(model, errors="replace"), int(digits or 0) if version else None, unquote(label) if label else None)


class Request(NamedTuple):
    """The body of a prediction, before it is known what the signature takes."""

    signature: str
    content: dict[str, Any]

    @property
    def in_rows(self) -> bool:
        """Row format, "instances"; otherwise columns, "inputs"."""
        return "instances" in self.content

    def arrays(self, specs: Specs) -> dict[str, Any]:
        """What was sent, by the inputs of the signature.

        Raises:
            Refused: it does not fit.
        """
        content = self.content
        if not specs:
            raise invalid(f"Failed to get input map for signature: {self.signature}")
        if "instances" in content and "inputs" in content:
            raise invalid(
                f"JSON Value: {shown(content)} Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
            )
        if self.in_rows:
            rows = content["instances"]
            if type(rows) is not list:
                raise invalid(f"JSON Value: {shown(content)} Excepting 'instances' to be an list/array")
            if not rows:
                raise invalid(f"JSON Value: {shown(content)} No values in 'instances' array")
            arrays = tensors.from_instances(rows, specs)
        elif "inputs" in content:
            arrays = tensors.from_inputs(content["inputs"], specs)
        else:
            raise invalid("Missing 'inputs' or 'instances' key")
        for name, spec in specs.items():
            spec.check(name, arrays[name])
        return arrays


def request(body: bytes) -> Request:
    """A prediction's body.

    Raises:
        Refused: no JSON object, or its "signature_name" is no string.
    """
    content = json_reader.read(body)
    signature = content.get("signature_name", "")
    if type(signature) is not str:
        raise invalid(f"JSON Value: {shown(content)} not formatted correctly. 'signature_name' key must be a string value.")
    return Request(json_reader.encoded(signature).decode("utf-8", "replace") or DEFAULT, content)


def response(parts: Sequence[Arrays], *, in_rows: bool) -> bytes:
    """The body that answers a prediction, in the format of its request: the outputs of some rows after those of others."""
    if in_rows:
        return body({"predictions": tensors.to_predictions(parts)})
    return body({"outputs": tensors.to_outputs(parts)})


def error(message: str) -> bytes:
    return body({"error": message.encode("utf-8", "replace").decode()})


def body(content: Any) -> bytes:
    """As JSON; NaN and Infinity stand in it as they do in TensorFlow Serving's."""
    return json.dumps(content, ensure_ascii=False).encode()
