"""What a client is told when its request is not answered."""

from __future__ import annotations

from collections.abc import Mapping


class Refused(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        message: for the body, `{"error": message}`.
        headers: further ones of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def invalid(message: str) -> Refused:
    """The client's mistake."""
    return Refused(400, message)


def full(message: str) -> Refused:
    """Too much is under way; the client may come back."""
    return Refused(503, message, {"retry-after": "1"})


def late(seconds: float) -> Refused:
    return Refused(504, f"Deadline exceeded: no answer within {seconds:g} s")
