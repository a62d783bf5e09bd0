"""JSON as TensorFlow Serving reads it: NaN and Infinity are numbers, bytes that are no UTF-8 stay what they are, errors have an offset."""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import Any

from nlp_tasks.serving.refused import Refused, invalid

SHOWN = 200
"""So many characters of a value stand in an error at most."""

MESSAGES = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting ',' delimiter": "Missing a comma or } or ] after an element.",
    "Extra data": "The document root must not be followed by other values.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid control character at": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}
"""Python's words for what is wrong, and TensorFlow Serving's."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read(body: bytes) -> dict[str, Any]:
    """The object that a request is. Its strings may hold bytes that are no UTF-8, as `encoded` gives them back.

    Raises:
        Refused: no JSON, or no object.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise invalid("JSON Parse error: The document is empty")
    text = body.decode("utf-8", "surrogateescape")
    try:
        value = _DECODER.decode(text)
        if _SURROGATE.search(body):
            _refuse_half_pairs(body)
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode("utf-8", "surrogateescape"))
        message = MESSAGES.get(error.msg, f"{error.msg}.")
        raise _broken(f"{message} at offset: {offset} (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise _broken("Nested too deeply.") from None
    except ValueError as error:
        raise _broken(str(error)) from None
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {shown(value)} Is not object")
    return value


def encoded(text: str) -> bytes:
    """A string of a request as the bytes that were sent."""
    return text.encode("utf-8", "surrogateescape")


def shown(value: Any) -> str:
    """A value for an error message, cut where it is long."""
    text = ""
    for part in json.JSONEncoder(ensure_ascii=False).iterencode(value):  # piece by piece: a large one is never written out
        text += part[: SHOWN + 1]
        if len(text) > SHOWN:
            return encoded(text[:SHOWN]).decode("utf-8", "replace") + "…"
    return encoded(text).decode("utf-8", "replace")


def _refuse_half_pairs(body: bytes) -> None:
    """An escape of half a surrogate pair is no character."""
    value = json.loads(body.decode("utf-8", "replace"), object_pairs_hook=_first_wins)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("The surrogate pair in string is invalid.") from None


def _broken(message: str) -> Refused:
    return invalid(f"JSON Parse error: {message}")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError("Number too big to be stored in double.")
    return value


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


_DECODER = json.JSONDecoder(parse_float=_finite, object_pairs_hook=_first_wins)
