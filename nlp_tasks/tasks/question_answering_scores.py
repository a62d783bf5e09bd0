"""How answers are scored: exact match and F1 as SQuAD's official script counts them (Rajpurkar 2016, section 6.1), in groups."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np

from nlp_tasks import scores
from nlp_tasks.scores import Scores

QUESTION_WORDS = {
    "how many / much": r"\bhow (many|much)\b|いくつ|いくら|(どの|どれ)[くぐ]らい|何(人|個|回|歳|位|件|本|枚|台|校|[年日時週]間|[かヶカ]月)",
    "who": r"\bwho(m|se)?\b|誰|だれ",
    "when": r"\bwhen\b|いつ|何(世紀|年|月|日|時)",
    "where": r"\bwhere\b|どこ",
    "why": r"\bwhy\b|なぜ|どうして",
    "which": r"\bwhich\b|どの(?!よう|[くぐ]らい)|どれ(?![くぐ]らい)|どちら",
    "how": r"\bhow\b|どのよう|どうやって",
    "what": r"\bwhat\b|何|なに",
}
"""What a question asks for, by the first of these that stands in it."""
DOMAIN = 0.05
"""Titles with a smaller share of the questions are told together."""


def normalized(text: str) -> str:
    """Lower case, without punctuation and the articles a, an, the, one space between words."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(answer: str, gold: Sequence[str]) -> float:
    """1 where the answer is one of the gold ones, normalised."""
    return float(any(normalized(answer) == normalized(one) for one in gold))


def f1(answer: str, gold: Sequence[str], *, characters: bool = False) -> float:
    """Of words that answer and gold answer share, the largest over gold answers; of characters, for text without spaces."""
    return max((_f1(*(_parts(text, characters) for text in (answer, one))) for one in gold), default=0.0)


def _parts(text: str, characters: bool) -> list[str]:
    words = normalized(text).split()
    return [*"".join(words)] if characters else words


def _f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    same = (Counter(answer) & Counter(gold)).total()
    return 2 * same / (len(answer) + len(gold)) if same else 0.0


def reading(results: Sequence[Mapping[str, Any]], *, characters: bool = False) -> Scores:
    """Exact match and F1, by what the question asks for, by the length of the answer, and by domain.

    Args:
        results: of each question its "question", "golds" (all right answers), "answer" and "title".
        characters: whether F1 counts characters.
    """
    parts = {
        "f1": _ratio([f1(result["answer"], result["golds"], characters=characters) for result in results]),
        "exact_match": _ratio([exact_match(result["answer"], result["golds"]) for result in results]),
    }
    values = {name: float(part[0].sum() / max(1, part[1].sum())) for name, part in parts.items()}
    unit = "characters" if characters else "words"
    counted = "SQuAD 1.1, largest of the gold answers|interval:bootstrap1000"
    signatures = {"f1": f"{counted}|unit:{unit}", "exact_match": counted}
    figures = _figures(results, parts["f1"], characters)
    return Scores(values, scores.ratios(parts), parts, {"examples": len(results)}, signatures, _text(figures), figures)


def _ratio(values: Sequence[float]) -> np.ndarray:
    return np.array([values, np.ones(len(values))], float)


def _figures(results: Sequence[Mapping[str, Any]], part: np.ndarray, characters: bool) -> dict[str, Any]:
    asked = np.array([_asked(result["question"]) for result in results], object)
    unit = "characters" if characters else "words"
    lengths = np.array([min(max(1, len(_parts(gold, characters))) for gold in result["golds"]) for result in results], int)
    figures = {
        "by_question_word": scores.grouped("f1", "question word", _groups(part, asked, [*QUESTION_WORDS, "other"])),
        "by_answer_length": scores.by_size("f1", f"{unit} of the shortest gold answer", lengths, part),
    }
    if len(names := _domains(results)) > 1:
        domains = np.array([_domain(result["title"], names) for result in results], object)
        figures["by_domain"] = scores.grouped("f1", "title", _groups(part, domains, [*names]))
    return figures


def _groups(part: np.ndarray, of: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: part * (of == name) for name in names}


def _asked(question: str) -> str:
    found = {name: match.start() for name, pattern in QUESTION_WORDS.items() if (match := re.search(pattern, question.lower()))}
    return min(found, key=lambda name: (found[name], [*QUESTION_WORDS].index(name)), default="other")


def _base(title: str) -> str:
    """As people read it, without the number of a part: "Amazon_Reviews_12", "Marxism%E2%80%93Leninism"."""
    return re.sub(r" \d+$", "", unquote(title).replace("_", " "))


def _domains(results: Sequence[Mapping[str, Any]]) -> list[str]:
    counts = Counter(_base(result["title"]) for result in results)
    large = [name for name, count in counts.most_common() if name and count >= DOMAIN * len(results)]
    return large + (["other titles"] if len(large) < len(counts) else [])


def _domain(title: str, names: Sequence[str]) -> str:
    return base if (base := _base(title)) in names else "other titles"


def _text(figures: Mapping[str, Any]) -> str:
    tables = []
    for figure in figures.values():
        rows = [
            f"  {name:<28}{100 * score:6.2f} %  [{100 * low:.2f}, {100 * high:.2f}]  {count:,}"
            for name, score, (low, high), count in zip(
                *(figure[key] for key in ("names", "scores", "intervals", "counts")), strict=True
            )
        ]
        tables.append(f"F1 by {figure['title']}\n" + "\n".join(rows) + "\n")
    return "\n".join(tables)
