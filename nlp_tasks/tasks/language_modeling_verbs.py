"""What people ask of a language model: what comes next, how probable a text is, and to write on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nlp_tasks.errors import UserError
from nlp_tasks.progress import tell
from nlp_tasks.tasks.task import Answering, Inputs, Verb

STREAMED = 32
"""Tokens that are written before they are shown."""


def _candidates(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The most probable next units of each text."""
    rows = zip(outputs["tokens"], outputs["probabilities"], strict=True)
    return [
        {"next": {token.decode("utf-8", "backslashreplace"): round(float(p), 6) for token, p in zip(*row, strict=True) if token}}
        for row in rows
    ]


def _candidates_text(text: str, answer: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    return "  ".join(f"{_visible(token)} {100 * probability:.1f} %" for token, probability in answer["next"].items())


def _visible(token: str) -> str:
    return {"\n": "⏎", " ": "␣", "\t": "⇥"}.get(token, token)


def _in_a_cell(text: str) -> str:
    """A row of a table stays a row."""
    return text.replace("\t", " ").replace("\n", "⏎")


def _scored(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    rows = zip(outputs["log_probability"], outputs["length"], strict=True)
    return [
        {
            "log_probability": round(float(total), 6),
            "tokens": int(length),
            "perplexity": round(math.exp(min(700.0, -float(total) / max(1, length))), 6),
        }
        for total, length in rows
    ]


def _scored_text(text: str, answer: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    return f"{answer['log_probability']:.4f}\t{answer['perplexity']:.4f}\t{answer['tokens']}"


def _prompted(prompt: str, options: Mapping[str, Any], length: int | None = None) -> Inputs:
    """What the signature `generate` takes."""
    return (prompt, options["max_tokens"] if length is None else length, options["temperature"], options["top_k"] or 0, options["top_p"],
            options["seed"])  # fmt: skip


def _written(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    return [{"text": text.decode("utf-8", "replace")} for text in outputs["text"]]


def _stream(answer: Answering, prompt: str, options: Mapping[str, Any]) -> Iterator[str]:
    """What follows the prompt, in parts, to the end that was asked for or to `stop`.

    Each part is written from the text so far: the choice of a token depends on the seed and its place in the text alone.
    """
    text, given = prompt.encode(), prompt.encode()
    left, stop, shown = options["max_tokens"], (options["stop"] or "").encode(), len(given)
    while left:
        outputs = answer("generate", [_prompted(text.decode("utf-8", "surrogateescape"), options, min(left, STREAMED))])
        if text == given:
            _refuse_unknown(outputs["unknown"][0].decode(), bool(outputs["strict"][0]))
        text += outputs["text"][0]
        left -= min(left, STREAMED)
        end = text.find(stop, len(given)) if stop else -1
        ready = end if end >= 0 else len(text) - (len(stop) - 1 if stop and left else 0)
        if ready > shown:
            part = text[shown:ready]
            if left and end < 0:
                part = part[: len(part) - _unfinished(part)]
            yield part.decode("utf-8", "replace")
            shown += len(part)
        if end >= 0:
            return


def _unfinished(part: bytes) -> int:
    """How many bytes at the end are the beginning of a character."""
    for back in range(1, min(4, len(part)) + 1):
        byte = part[-back]
        if byte >= 0xC0:
            return back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            return 0
    return 0


def _refuse_unknown(unknown: str, strict: bool) -> None:
    if not unknown:
        return
    if strict:
        listed = " ".join(dict.fromkeys(unknown.split(" ")))
        raise UserError(f"--prompt: the training text never had: {listed}", "write the prompt in characters that it has")
    tell(f"read as <unk>, as the training text never had it: {unknown}")


VERBS = (
    Verb(
        name="predict",
        answers=_candidates,
        text=_candidates_text,
        tsv=lambda text, answer: f"{text}\t{_candidates_text(text, answer, {})}",
    ),
    Verb(
        name="score",
        answers=_scored,
        text=_scored_text,
        tsv=lambda text, answer: f"{text}\t{_scored_text(text, answer, {})}",
        signature="score",
        inputs=lambda text, options: (f"{text}\n",),
    ),
    Verb(
        name="generate",
        answers=_written,
        text=lambda text, answer, options: answer["text"],
        asked=lambda text, options: {"prompt": text},
        tsv=lambda text, answer: f"{_in_a_cell(text)}\t{_in_a_cell(answer['text'])}",
        signature="generate",
        inputs=_prompted,
        options=("prompt", "max_tokens", "temperature", "top_k", "top_p", "seed", "stop"),
        stream=_stream,
    ),
)
