"""What people ask of a reader: answers to questions about passages, line by line, file by file, or about one passage."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nlp_tasks.data import passages
from nlp_tasks.errors import LineError, UserError
from nlp_tasks.progress import tell
from nlp_tasks.tasks.task import Asked, Document, Inputs, Verb

NUMBERS = ("starts", "ends", "byte_starts", "byte_ends")


def verbs() -> tuple[Verb, ...]:
    # The form of SQuAD's official predictions: one object, {id: answer}.
    squad = Document("n_best", _questions, _entry, first=b"{", between=b",\n ", last=b"}\n")
    return (Verb(
        name="predict", answers=_answers, text=_text, tsv=_tsv, signature="n_best", inputs=_inputs, asked=_asked,
        options=("n_best", "scores", "passage", "highlight"), documents={"squad": squad},
        prepare=lambda options: options.get("passage") and _passage(options["passage"]),
    ),)  # fmt: skip


def _pair(line: str, options: Mapping[str, Any]) -> tuple[str, str]:
    """Question and passage: of a line of JSON, or the line itself and the passage that was named."""
    if options.get("passage"):
        return line, _passage(options["passage"])
    if not line.strip():
        return "", ""
    hint = 'write {"question": "…", "passage": "…"}, or name the file of a passage with --passage and write questions'
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LineError(f"broken JSON: {error}", hint) from None
    pair = [content.get(side) for side in ("question", "passage")] if isinstance(content, dict) else []
    texts = [side.encode("utf-8", "replace").decode() for side in pair if isinstance(side, str)]
    if len(texts) < 2:
        squad_form = isinstance(content, dict) and "data" in content
        raise LineError(
            f"no question and passage: {line[:60]!r}", "a file in SQuAD's form: add --format squad" if squad_form else hint
        )
    return texts[0], texts[1]


@functools.cache
def _passage(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"cannot read the passage {path}: {error.strerror}", "give a file of text with --passage") from None
    except UnicodeDecodeError as error:
        raise UserError(f"the passage {path}: invalid UTF-8 at byte {error.start}", "save the file as UTF-8") from None


def _inputs(line: str, options: Mapping[str, Any]) -> Inputs:
    return *_pair(line, options), options.get("n_best") or 1


def _asked(line: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"question": _pair(line, options)[0]}


def _answers(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Of each question the best answer: text, score, offsets in characters and bytes; and where more were asked for, all of them."""
    rows = []
    for row, length in enumerate(outputs["lengths"]):
        found = [
            {"answer": outputs["answers"][row, index].decode("utf-8", "replace"), "score": round(float(outputs["scores"][row, index]), 6),
             **{name[:-1]: int(outputs[name][row, index]) for name in NUMBERS}}
            for index in range(max(1, length))
        ]  # fmt: skip
        rows.append(found[0] if outputs["answers"].shape[1] == 1 else {**found[0], "n_best": found})
    return rows


def _text(line: str, answer: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """An answer a line, the score before it where it is asked for; or the passage, with the answer in it."""
    if options.get("highlight"):
        return _highlighted(_pair(line, options)[1], answer)
    found = answer.get("n_best", [answer])
    lines = [(f"{each['score']:.4f}\t" if options.get("scores") else "") + _line(each["answer"]) for each in found]
    return "\n".join(lines + [""] * ((options.get("n_best") or 1) - len(lines)))


def _line(text: str) -> str:
    return " ".join(text.split())


def _highlighted(passage: str, answer: Mapping[str, Any]) -> str:
    begin, end = ("\x1b[1;7m", "\x1b[0m") if sys.stdout.isatty() else ("⟦", "⟧")
    if not answer["answer"]:
        return passage
    return passage[: answer["start"]] + begin + passage[answer["start"] : answer["end"]] + end + passage[answer["end"] :]


def _tsv(line: str, answer: Mapping[str, Any]) -> str:
    """The line as it came, an answer, its score, where it starts and ends; a row an answer."""
    found = answer.get("n_best", [answer])
    return "\n".join(f"{line}\t{_line(each['answer'])}\t{each['score']:.4f}\t{each['start']}\t{each['end']}" for each in found)


def _questions(lines: Iterable[bytes], name: str) -> Iterator[Asked]:
    """Of one id the first. All are looked at before the first is answered: nothing is written of a file that is broken."""
    content = passages.read(b"".join(lines), name)
    asked: dict[str, Asked] = {}
    again = 0
    for _, passage, question in passages.questions(content, name, answered=False):
        again += question["id"] in asked
        asked.setdefault(question["id"], Asked((question["question"], passage, 1), question["id"]))
    if again:
        tell(f"{name}: {again:,} left out (duplicate id)")
    return iter(asked.values())


def _entry(name: str, answer: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(answer['answer'], ensure_ascii=False)}".encode()
