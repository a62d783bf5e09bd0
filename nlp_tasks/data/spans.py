"""Spans and the tags that write them: BIO (IOB2) and BIOES."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

SCHEMES = ("bio", "bioes")
"""B(egin), I(nside), O(utside); bioes also marks the E(nd) of a span, and a S(ingle) word that is one."""


class Span(NamedTuple):
    """The words from `start` to before `end`, and what they are."""

    kind: str
    start: int
    end: int


def read_tags(tags: Sequence[str], scheme: str) -> tuple[list[Span], list[tuple[int, str]]]:
    """Spans as conlleval reads them, also where tags are malformed: a tag that cannot go on begins a span.

    Returns:
        The spans, and what is wrong: the index of each tag that `write_tags` would write otherwise, and a sentence.

    Raises:
        ValueError: what is no tag of the scheme at all.
    """
    spans: list[Span] = []
    problems: list[tuple[int, str]] = []
    before = ("O", "")
    for index, tag in enumerate(tags):
        prefix, kind = parsed = _parse(tag, scheme)
        joined = _joined(before, parsed)
        if _is_cut(before, joined, scheme):
            problems.append((index - 1, f"{tags[index - 1]} is not ended ({scheme})"))
        if joined:
            spans[-1] = spans[-1]._replace(end=index + 1)
        elif prefix != "O":
            spans.append(Span(kind, index, index + 1))
            if prefix in "IE":
                problems.append((index, f"{tag} after {tags[index - 1]}" if index else f"{tag} at the beginning"))
        before = parsed
    if _is_cut(before, False, scheme):
        problems.append((len(tags) - 1, f"{tags[-1]} is not ended ({scheme})"))
    return spans, problems


def write_tags(spans: Iterable[Span], length: int, scheme: str) -> list[str]:
    """The tags of a sentence of `length` words. Raises ValueError at spans that share a word, or are empty or outside."""
    has_ends = "E" in _prefixes(scheme)
    tags = ["O"] * length
    for span in spans:
        kind, start, end = span
        if not (kind and 0 <= start < end <= length) or any(tag != "O" for tag in tags[start:end]):
            raise ValueError(f"{span} cannot be written: empty, outside of the {length} words, or over another span")
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
        if has_ends:
            tags[end - 1] = f"E-{kind}" if end - start > 1 else f"S-{kind}"
    return tags


def allowed(tags: Sequence[str], scheme: str) -> tuple[list[bool], list[list[bool]], list[bool]]:
    """Of a set of tags: which may begin a sentence, which may follow which (`[i][j]`: j after i), which may end one."""
    outside = ("O", "")
    parsed = [_parse(tag, scheme) for tag in tags]
    first = [_may_follow(outside, tag, scheme) for tag in parsed]
    after = [[_may_follow(before, tag, scheme) for tag in parsed] for before in parsed]
    last = [_may_follow(tag, outside, scheme) for tag in parsed]
    return first, after, last


def _may_follow(before: tuple[str, str], tag: tuple[str, str], scheme: str) -> bool:
    joined = _joined(before, tag)
    return not _is_cut(before, joined, scheme) and (joined or tag[0] not in "IE")


def _joined(before: tuple[str, str], tag: tuple[str, str]) -> bool:
    """Whether two neighbours are of one span."""
    return before[0] in "BI" and tag[0] in "IE" and before[1] == tag[1]


def _is_cut(before: tuple[str, str], joined: bool, scheme: str) -> bool:
    """Whether a span stops at a tag that is not an end: only bioes has ends."""
    return scheme == "bioes" and before[0] in "BI" and not joined


def _prefixes(scheme: str) -> str:
    if scheme not in SCHEMES:
        raise ValueError(f"{scheme!r} is no scheme of tags: {' or '.join(SCHEMES)}")
    return scheme.upper().replace("O", "")


def _parse(tag: str, scheme: str) -> tuple[str, str]:
    """Prefix and kind; the kind of O is empty."""
    prefixes = _prefixes(scheme)
    prefix, _, kind = tag.partition("-")
    if tag == "O" or (len(prefix) == 1 and prefix in prefixes and kind):
        return prefix, kind
    raise ValueError(f"{tag!r} is no tag of {scheme}: expected O or {', '.join(f'{prefix}-KIND' for prefix in prefixes)}")
