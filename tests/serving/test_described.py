"""States and signatures as TensorFlow Serving describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from nlp_tasks.serving import described
from nlp_tasks.serving.models import AVAILABLE, END, START, Models, State
from nlp_tasks.serving.refused import Refused


@pytest.fixture
def there() -> Models:
    models = Models(Path("unused"), cast(Any, None))
    models._states = {"m": {
        1: State(END), 2: State(AVAILABLE), 3: State(END, "it does not load: no variables"), 4: State(START, "waiting for a whole folder"),
    }}  # fmt: skip
    return models


def status(number: int, state: str, code: str = "OK", message: str = "") -> dict[str, Any]:
    return {"version": str(number), "state": state, "status": {"error_code": code, "error_message": message}}


def test_states_of_all_versions(there: Models) -> None:
    assert described.status(there, "m", None) == {
        "model_version_status": [
            status(4, "START", "OK", "waiting for a whole folder"),
            status(3, "END", "INVALID_ARGUMENT", "it does not load: no variables"),
            status(2, "AVAILABLE"),
            status(1, "END"),
        ]
    }


def test_the_state_of_one(there: Models) -> None:
    assert described.status(there, "m", 2) == {"model_version_status": [status(2, "AVAILABLE")]}


@pytest.mark.parametrize(
    ("name", "number", "message"),
    [("x", None, "Could not find any versions of model x"), ("m", 5, "Could not find version 5 of model m"),
     ("x", 1, "Could not find version 1 of model x")],
)  # fmt: skip
def test_what_is_not_there(there: Models, name: str, number: int | None, message: str) -> None:
    with pytest.raises(Refused) as caught:
        described.status(there, name, number)
    assert (caught.value.status, caught.value.message) == (404, message)


def test_signatures() -> None:
    definition = {"serving_default": {"method_name": "tensorflow/serving/predict"}}
    assert described.metadata("m", 3, definition) == {
        "model_spec": {"name": "m", "signature_name": "", "version": "3"},
        "metadata": {"signature_def": {"signature_def": definition}},
    }
