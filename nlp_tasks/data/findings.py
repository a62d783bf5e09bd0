"""What a look at the data finds: kinds of findings with their level, their places, and what to do."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal

from nlp_tasks.data.rows import Where

Level = Literal["error", "warning", "note"]
PLACES = 3
"""So many places of each kind are kept."""


@dataclass
class Finding:
    """Something that a person should know of the data.

    Attributes:
        kind: its short name, which does not change.
        level: "error": a run would refuse; "warning": scores or answers may suffer; "note": good to know.
        split: where it was found, such as "train" or "train, test".
        message: what was found.
        count: how many.
        places: the first of them.
        advice: what to do.
    """

    kind: str
    level: Level
    split: str
    message: str
    count: int
    places: list[str] = field(default_factory=list)
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Tally:
    """Counts what rows are suspect of, and keeps the first places."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}

    def add(self, kind: str, where: Where) -> None:
        self.counts[kind] += 1
        if len(places := self.places.setdefault(kind, [])) < PLACES:
            places.append(str(where))

    def findings(self, split: str) -> Iterator[Finding]:
        for kind, (level, message, advice) in SUSPICIONS.items():
            if count := self.counts[kind]:
                message = message if count > 1 else message.replace("rows", "row", 1)
                yield Finding(kind, level, split, f"{count:,} {message}", count, self.places[kind], advice)


SUSPICIONS: dict[str, tuple[Level, str, str]] = {
    "empty": ("warning", "empty rows", "leave them out: there is nothing to learn from, and nothing to answer to"),
    "one_token": ("note", "rows of a single word", "fine for phrases; otherwise look at how the file was made"),
    "control": (
        "warning", "rows with control or invisible characters", "remove them where they mean nothing: a word with one is another word",
    ),
    "replacement": (
        "warning", "rows with U+FFFD, which stands where a decoder failed", "decode the original file again, with its own encoding",
    ),
    "markup": ("warning", "rows with markup or character entities", 'remove it, or have tags read as spaces: text.blank = ["<br />"]'),
    "mixed_scripts": (
        "warning", "rows with a word in letters of two scripts", "look-alike letters? a word with one is another word",
    ),
}  # fmt: skip
"""Kinds of suspect rows, each with its level, what is said of it, and what to do."""

_WITHOUT_SPACES = {"EAST ASIAN", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"}
_SIGNS = frozenset("μπΔΣΩαβγλσ")
"""Greek letters that stand for themselves in words of other letters, such as units."""
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_MARKUP = re.compile(r"</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]{0,200})?/?>|<!--|&(?:[A-Za-z]{2,8}|#[0-9]{1,6}|#[xX][0-9A-Fa-f]{1,6});")
_LETTERS = re.compile(r"[^\W\d_]+")


def suspicions(text: str, blank: Sequence[str] = ()) -> Iterator[str]:
    """What a text is suspect of by its characters alone: keys of `SUSPICIONS`.

    Args:
        text: of one row.
        blank: strings that the recipe reads as spaces.
    """
    if not text.strip():
        yield "empty"
        return
    if len(text.split(maxsplit=1)) == 1 and main_script(text) not in _WITHOUT_SPACES:
        yield "one_token"
    if _CONTROL.search(text):
        yield "control"
    if "<" in text or "&" in text:
        for string in blank:
            text = text.replace(string, " ")
        if _MARKUP.search(text):
            yield "markup"
    if text.isascii():
        return
    if "\ufffd" in text:
        yield "replacement"
    if any(_is_mixed(word) for word in _LETTERS.findall(text) if not word.isascii()):
        yield "mixed_scripts"


def _is_mixed(word: str) -> bool:
    scripts = {_script(letter) for letter in word if letter not in _SIGNS} - {"", "COMMON"}
    return len(scripts - {"LATIN"} if "EAST ASIAN" in scripts else scripts) > 1


def main_script(text: str) -> str:
    """The script of most letters, as Unicode names characters, such as "LATIN"; "" where there are none."""
    letters = [c for c in text[:2000] if c.isalpha()]
    if text.isascii():
        return "LATIN" if letters else ""
    counts = Counter(filter(None, map(_script, letters)))
    counts.pop("COMMON", None)
    return counts.most_common(1)[0][0] if counts else ""


@cache
def _script(letter: str) -> str:
    """ "LATIN", "GREEK" …; those that are written together in one word have one name; "COMMON" is at home in several."""
    name = unicodedata.name(letter, "").split(" ")[0].split("-")[0]
    if name in ("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH", "FULLWIDTH", "IDEOGRAPHIC", "BOPOMOFO", "HANGUL"):
        return "EAST ASIAN"
    if name in ("MODIFIER", "MASCULINE", "FEMININE", "SUPERSCRIPT", "SUBSCRIPT", "MICRO", "OHM", "KELVIN", "ANGSTROM", "SCRIPT"):
        return "COMMON"
    return "COMMON" if name in ("MATHEMATICAL", "DOUBLE", "BLACK", "TURNED") else name
