"""The tasks. The registry below is the one line that a new task adds; nothing is imported before it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from nlp_tasks.errors import UserError, nearest

if TYPE_CHECKING:
    from nlp_tasks.tasks.task import Task

REGISTRY = {
    "language_modeling": "nlp_tasks.tasks.language_modeling:LanguageModeling",
    "question_answering": "nlp_tasks.tasks.question_answering:QuestionAnswering",
    "question_answering_stories": "nlp_tasks.tasks.question_answering_stories:QuestionAnsweringStories",
    "sentiment": "nlp_tasks.tasks.sentiment:Sentiment",
    "tagging": "nlp_tasks.tasks.tagging:Tagging",
    "translation": "nlp_tasks.tasks.translation:Translation",
    "word_vectors": "nlp_tasks.tasks.word_vectors:WordVectors",
}


class Option(NamedTuple):
    """An option of a command: its value is at least `minimum` (above it, where `is_open`) and at most `maximum`.

    excludes: what has no effect beside it: other options, and formats.
    """

    name: str
    type: type
    default: str | float | None
    help: str
    minimum: float | None = None
    maximum: float | None = None
    is_open: bool = False
    excludes: tuple[str, ...] = ()


class Command(NamedTuple):
    """A command that tasks declare as a verb.

    Attributes:
        texts: what stands behind MODEL in place of a file with one text a line, such as "WORD"; without any, lines of standard input.
        joined: whether all of them are one text, with spaces between, rather than one each.
        required: whether there must be one, rather than standard input.
    """

    help: str
    options: tuple[Option, ...] = ()
    texts: str = ""
    joined: bool = False
    required: bool = False


_NEAREST = Option("count", int, 10, "So many words, nearest first.", 1, 1000)

VERBS = {
    "predict": Command(
        "The model's answer for each line of text.",
        (
            Option("beam", int, None, "Translations: hypotheses kept side by side; the recipe's number where not given.", 1, 100),
            Option("n_best", int, None, "Translations and answers to questions: so many, best first.", 1, 100),
            Option("scores", bool, False, "Translations and answers to questions: each with its score."),
            Option("passage", str, None, "Questions: the file with the passage; lines are then questions about it."),
            Option(
                "highlight",
                bool,
                False,
                "Questions: show the answer inside its passage.",
                excludes=("n_best", "scores", "tsv", "jsonl"),
            ),
        ),
    ),
    "align": Command(
        "Pictures of what a model looked at: each word of a translation at words of its source (TEXT<tab>TRANSLATION shows a given one), "
        "each episode of a memory at facts of its story.",
        (Option("output", str, "alignment.png", "The picture's file; of several texts, numbered ones."),),
    ),
    "score": Command("The log-probability (natural), perplexity and number of tokens of each line of text, its end counted too."),
    "generate": Command(
        "Goes on with a prompt, or with each line of text.",
        (
            Option("prompt", str, None, "Text to go on with, in place of FILE."),
            Option("max_tokens", int, 200, "So many tokens are written.", 1, 1_000_000),
            Option("temperature", float, 1.0, "Below 1 likely tokens get likelier; 0 always takes the likeliest.", 0, 100),
            Option("top_k", int, None, "Only so many likeliest tokens; all where not given.", 1),
            Option("top_p", float, 1.0, "Only the likeliest tokens that have so much of the probability together.", 0, 1, True),
            Option("seed", int, 1, "Another one writes another text.", 0, 2**31 - 1),
            Option("stop", str, None, "Writing ends before this text."),
        ),
    ),
    "neighbours": Command("The nearest words of each WORD, with cosines.", (_NEAREST,), texts="WORD"),
    "analogy": Command("A is to B as C is to …: the nearest words to B - A + C.", (_NEAREST,), texts="A B C", joined=True),
    "plot-vectors": Command(
        "A picture of words in the plane in which their vectors differ most.",
        (
            Option("words", str, "", "Words, with commas or spaces between; more may follow."),
            Option("output", str, "vectors.png", "The picture's file."),
        ),
        texts="WORD",
        joined=True,
    ),
    "write-vectors": Command(
        "The vectors as a text file, for gensim and for data.vectors of other recipes; a name that ends in .gz packs it.",
        (Option("glove", bool, False, "Without the first line, which says how many words and features there are."),),
        texts="FILE",
        joined=True,
        required=True,
    ),
}
"""The commands that tasks declare, known here so that `--help` need not import them."""

ALIASES = {"translate": "predict", "ask": "predict"}
"""Further names of commands."""

DOCUMENTS = ("conllu", "squad")
"""Their formats, beside lines of text."""


def find(name: str) -> type[Task]:
    """The class of a task by its name in a recipe."""
    if name not in REGISTRY:
        raise UserError(f"[task] name = {name!r}: no such task", nearest(name, REGISTRY))
    module, _, attribute = REGISTRY[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
