"""What people ask of a model of stories: the answer to a question, and which facts it looked at on the way."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from nlp_tasks.data.stories import END
from nlp_tasks.errors import LineError
from nlp_tasks.tasks.task import Inputs, Verb

HINT = 'write {"story": "Mary went home. …", "question": "…"}; the story may be a list of facts'


def verbs() -> tuple[Verb, ...]:
    predict = Verb(
        name="predict", answers=_answers, text=_text, tsv=lambda line, answer: f"{line}\t{answer['answer']}\t{answer['score']:.4f}",
        inputs=_pair, asked=lambda line, options: {"question": _pair(line, options)[1]}, options=("scores",),
    )  # fmt: skip
    align = Verb(
        name="align", answers=_looked, text=lambda line, answer, options: "", tsv=_looked_at, inputs=_pair,
        asked=lambda line, options: {"question": _pair(line, options)[1]}, options=("output",), picture=_picture,
    )  # fmt: skip
    return predict, align


def _pair(line: str, options: Mapping[str, Any]) -> Inputs:
    """Story and question of a line of JSON."""
    if not line.strip():
        return "", ""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LineError(f"broken JSON: {error}", HINT) from None
    story, question = (content.get(name) for name in ("story", "question")) if isinstance(content, dict) else (None, None)
    if isinstance(story, list) and all(isinstance(fact, str) for fact in story):
        story = "".join(fact + END for fact in story)
    if not isinstance(story, str) or not isinstance(question, str):
        raise LineError(f"no story and question: {line[:60]!r}", HINT)
    return tuple(text.encode("utf-8", "replace").decode() for text in (story, question))


def _answers(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    rows = zip(*(outputs[name] for name in ("answers", "scores", "gates", "lengths")), strict=True)
    return [
        {"answer": answer.decode(), "score": round(float(score), 6), "gates": gates[:, :length].round(4).astype(float).tolist()}
        for answer, score, gates, length in rows
    ]


def _text(line: str, answer: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    return (f"{answer['score']:.4f}\t" if options.get("scores") else "") + answer["answer"]


def _looked(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The answers with the facts that the gates are of."""
    facts = outputs["facts"]
    return [
        {**answer, "facts": [fact.decode("utf-8", "replace") for fact in row[:length]]}
        for answer, row, length in zip(_answers(outputs), facts, outputs["lengths"], strict=True)
    ]


def _looked_at(line: str, answer: Mapping[str, Any]) -> str:
    """A line an episode: its number, the fact that it looked at most, and how much; and an empty line."""
    rows = enumerate(answer["gates"] if answer["facts"] else (), 1)
    return "".join(f"{number}\t{answer['facts'][int(np.argmax(row))]}\t{max(row):.4f}\n" for number, row in rows)


def _picture(answer: Mapping[str, Any]) -> Any:
    """Facts from top to bottom, episodes from left to right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    facts = [fact.replace("$", r"\$") for fact in answer["facts"]] or ["(no facts)"]
    gates = np.array(answer["gates"]).reshape(len(answer["gates"]), -1).T if answer["facts"] else np.zeros((1, 1))
    figure, axes = pyplot.subplots(figsize=(4.2 + 0.5 * gates.shape[1], min(40.0, 1.4 + 0.3 * len(facts))), layout="constrained")
    axes.imshow(gates, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(gates.shape[1]), [str(number) for number in range(1, gates.shape[1] + 1)])
    axes.set_yticks(range(len(facts)), facts)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("episode", fontsize="medium")
    asked = textwrap.fill(f"{answer['question']} → {answer['answer']}", 60)
    figure.supxlabel(asked.replace("$", r"\$"), fontsize="medium")
    return figure
