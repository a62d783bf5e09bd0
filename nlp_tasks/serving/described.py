"""What TensorFlow Serving says about models: the state of their versions, and their signatures."""

from __future__ import annotations

from typing import Any

from nlp_tasks.serving import models
from nlp_tasks.serving.models import Models
from nlp_tasks.serving.refused import Refused


def status(there: Models, name: str, number: int | None) -> dict[str, Any]:
    """States of one version, or of all, newest first, as `GetModelStatusResponse`.

    Raises:
        Refused: there is none.
    """
    states = there.states(name)
    if number is not None:
        if number not in states:
            raise Refused(404, f"Could not find version {number} of model {name}")
        states = {number: states[number]}
    if not states:
        raise Refused(404, f"Could not find any versions of model {name}")
    return {"model_version_status": [_status(number, state) for number, state in reversed(states.items())]}


def _status(number: int, state: models.State) -> dict[str, Any]:
    refused = state.state == models.END and bool(state.message)
    return {
        "version": str(number),
        "state": state.state,
        "status": {"error_code": "INVALID_ARGUMENT" if refused else "OK", "error_message": state.message},
    }


def metadata(name: str, number: int, signature_def: dict[str, Any]) -> dict[str, Any]:
    """The signatures of a version, as `GetModelMetadataResponse`; sizes and the version are strings, as 64 bits are in protobuf's JSON."""
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(number)},
        "metadata": {"signature_def": {"signature_def": signature_def}},
    }
