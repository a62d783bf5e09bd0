"""What people ask of a translator: translations, the best of several, and which word looked at which."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from nlp_tasks.errors import UserError
from nlp_tasks.tasks.task import Inputs, Verb
from nlp_tasks.text.scripts import UNSPACED_CHARACTER

SPACE = "▁"
"""Begins the first piece of a word."""


def verbs(beam: int, *, attends: bool) -> tuple[Verb, ...]:
    """Of a model whose recipe has this beam; `attends`: whether there are alignments to show."""

    def inputs(text: str, options: Mapping[str, Any]) -> Inputs:
        asked, count = options.get("beam") or beam, options.get("n_best") or 1
        if options.get("beam") and count > asked:
            raise UserError(f"--n-best {count} with --beam {asked}: a search finds no more than it keeps", f"add --beam {count}")
        return text, max(asked, count), count

    predict = Verb(
        name="predict", answers=_answers, text=_text, tsv=lambda text, answer: f"{text}\t{answer['translation']}",
        signature="n_best", inputs=inputs, options=("beam", "n_best", "scores"),
    )  # fmt: skip
    align = Verb(
        name="align", answers=_alignments, text=lambda text, answer, options: "", tsv=_looked_at,
        signature="align", inputs=_pair, options=("output",), picture=_picture,
    )  # fmt: skip
    return predict, *([align] if attends else [])


def _answers(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Of each text the best translation, and all that were asked for."""
    rows = zip(*(outputs[name] for name in ("translations", "scores", "log_probabilities", "lengths")), strict=True)
    answers = []
    for texts, scores, log_probabilities, length in rows:
        found = [
            {"translation": _line(text), "score": round(float(score), 6), "log_probability": round(float(total), 6)}
            for text, score, total in zip(texts[:length], scores, log_probabilities, strict=False)
        ]
        answers.append(found[0] if len(texts) == 1 else {**found[0], "n_best": found})
    return answers


def _line(text: bytes) -> str:
    """A line stays a line, whatever a model of bytes writes."""
    return re.sub(r"[\t\r\n]", " ", text.decode())


def _text(text: str, answer: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """A line a translation, the score before it where it is asked for; as many lines as were asked for, whatever was found."""
    found = answer.get("n_best", [answer])
    lines = [(f"{each['score']:.4f}\t" if options.get("scores") else "") + each["translation"] for each in found]
    return "\n".join(lines + [""] * ((options.get("n_best") or 1) - len(lines)))


def _pair(text: str, options: Mapping[str, Any]) -> Inputs:
    """A text, or behind a tab its translation."""
    source, _, target = text.partition("\t")
    return source, target


def _alignments(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Words of both sides, and how much each word of the translation looked at each of the source."""
    answers = []
    for alignment, sources, targets, text in zip(
        *(outputs[name] for name in ("alignments", "sources", "targets", "texts")), strict=True
    ):
        (source, columns), (target, rows) = (_words([piece.decode() for piece in side if piece]) for side in (sources, targets))
        matrix = alignment[: sum(rows), : sum(columns)].astype(np.float64)
        matrix = np.add.reduceat(matrix, np.cumsum([0, *columns[:-1]]), 1)
        matrix = np.add.reduceat(matrix, np.cumsum([0, *rows[:-1]]), 0) / np.array(rows)[:, None]
        answers.append({"source": source, "target": target, "alignment": matrix.round(4).tolist(), "translation": _line(text)})
    return answers


def _looked_at(text: str, answer: Mapping[str, Any]) -> str:
    """A word of the translation a line, with the word of the source that it looked at most, and how much; and an empty line."""
    rows = zip(answer["target"], answer["alignment"], strict=True)
    return "".join(f"{word}\t{answer['source'][int(np.argmax(row))]}\t{max(row):.4f}\n" for word, row in rows)


def _words(pieces: list[str]) -> tuple[list[str], list[int]]:
    """Words of pieces, the end among them, and of how many pieces each is. Where no space says where words begin, a piece is one."""
    words: list[str] = []
    sizes: list[int] = []
    for piece in pieces:
        if not words or piece.startswith(SPACE) or UNSPACED_CHARACTER.match(piece) or piece == "</s>":
            words.append("")
            sizes.append(0)
        words[-1] += piece.removeprefix(SPACE)
        sizes[-1] += 1
    return ["⏎" if word == "</s>" else word or "␣" for word in words], sizes


def _picture(answer: Mapping[str, Any]) -> Any:
    """The alignment as a picture: words of the source from left to right, those of the translation from top to bottom."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    source, target = ([word.replace("$", r"\$") for word in answer[side]] for side in ("source", "target"))
    size = (1.6 + 0.34 * len(source), 1.4 + 0.3 * len(target))
    figure, axes = pyplot.subplots(figsize=tuple(min(40.0, max(3.0, side)) for side in size), layout="constrained")
    axes.imshow(answer["alignment"], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source)), source, rotation=60, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(target)), target)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure
