"""Spans and tags: what is read, what is wrong with it, what may follow what."""

from __future__ import annotations

import re
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_tasks.data.spans import SCHEMES, Span, allowed, read_tags, write_tags

BIO = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
BIOES = [*BIO, "E-PER", "S-PER", "E-LOC", "S-LOC"]
TAGS = {"bio": BIO, "bioes": BIOES}


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Spans that do not overlap, and the length of their sentence."""
    spans, position = [], 0
    for gap, length, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(["PER", "LOC", "creative-work"])))
    ):
        spans.append(Span(kind, position + gap, position + gap + length))
        position += gap + length
    return spans, position + draw(st.integers(0, 2))


def tagged(scheme: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(TAGS[scheme]), max_size=9)


# Well-formed tags


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("bio", "O B-PER I-PER B-PER B-LOC I-LOC O B-LOC"),
        ("bioes", "O B-PER E-PER S-PER B-LOC E-LOC O S-LOC"),
    ],
)
def test_spans_of_well_formed_tags(scheme: str, tags: str) -> None:
    spans = [Span("PER", 1, 3), Span("PER", 3, 4), Span("LOC", 4, 6), Span("LOC", 7, 8)]
    assert read_tags(tags.split(), scheme) == (spans, [])
    assert write_tags(spans, 8, scheme) == tags.split()
    assert write_tags(reversed(spans), 8, scheme) == tags.split()


def test_a_long_span_in_both_schemes() -> None:
    assert write_tags([Span("X", 0, 4)], 4, "bio") == ["B-X", "I-X", "I-X", "I-X"]
    assert write_tags([Span("X", 0, 4)], 4, "bioes") == ["B-X", "I-X", "I-X", "E-X"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_kind_may_hold_hyphens(scheme: str) -> None:
    assert read_tags(["B-creative-work", "I-creative-work"], scheme)[0] == [Span("creative-work", 0, 2)]


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None)
@given(sentences())
def test_spans_that_were_written_are_read(scheme: str, sentence: tuple[list[Span], int]) -> None:
    spans, length = sentence
    tags = write_tags(spans, length, scheme)
    assert len(tags) == length
    assert read_tags(tags, scheme) == (spans, [])


@settings(deadline=None)
@given(sentences())
def test_each_scheme_says_what_the_other_says(sentence: tuple[list[Span], int]) -> None:
    bio = write_tags(*sentence, "bio")
    bioes = write_tags(read_tags(bio, "bio")[0], len(bio), "bioes")
    assert write_tags(read_tags(bioes, "bioes")[0], len(bioes), "bio") == bio
    assert [tag.replace("S-", "B-").replace("E-", "I-") for tag in bioes] == bio


# Malformed tags


@pytest.mark.parametrize(
    ("scheme", "tags", "spans", "problems"),
    [
        ("bio", "O I-LOC I-LOC", [("LOC", 1, 3)], [(1, "I-LOC after O")]),
        ("bio", "I-LOC", [("LOC", 0, 1)], [(0, "I-LOC at the beginning")]),
        ("bio", "B-PER I-LOC I-PER", [("PER", 0, 1), ("LOC", 1, 2), ("PER", 2, 3)], [(1, "I-LOC after B-PER"), (2, "I-PER after I-LOC")]),
        ("bioes", "B-PER O", [("PER", 0, 1)], [(0, "B-PER is not ended (bioes)")]),
        ("bioes", "O B-PER", [("PER", 1, 2)], [(1, "B-PER is not ended (bioes)")]),
        ("bioes", "B-PER I-PER", [("PER", 0, 2)], [(1, "I-PER is not ended (bioes)")]),
        ("bioes", "B-PER B-PER E-PER", [("PER", 0, 1), ("PER", 1, 3)], [(0, "B-PER is not ended (bioes)")]),
        ("bioes", "B-PER S-PER", [("PER", 0, 1), ("PER", 1, 2)], [(0, "B-PER is not ended (bioes)")]),
        ("bioes", "E-PER", [("PER", 0, 1)], [(0, "E-PER at the beginning")]),
        ("bioes", "O I-PER E-PER", [("PER", 1, 3)], [(1, "I-PER after O")]),
        ("bioes", "O I-PER O", [("PER", 1, 2)], [(1, "I-PER after O"), (1, "I-PER is not ended (bioes)")]),
        ("bioes", "S-PER E-PER E-PER", [("PER", 0, 1), ("PER", 1, 2), ("PER", 2, 3)], [(1, "E-PER after S-PER"), (2, "E-PER after E-PER")]),
        ("bioes", "B-PER E-LOC", [("PER", 0, 1), ("LOC", 1, 2)], [(0, "B-PER is not ended (bioes)"), (1, "E-LOC after B-PER")]),
    ],
)  # fmt: skip
def test_malformed_tags(scheme: str, tags: str, spans: list[tuple[str, int, int]], problems: list[tuple[int, str]]) -> None:
    assert read_tags(tags.split(), scheme) == (spans, problems)


def conlleval(tags: list[str]) -> list[Span]:
    """The rules of conlleval's startOfChunk and endOfChunk, one by one."""
    spans, start = [], 0
    for index, tag in enumerate([*tags, "O"]):
        last, last_kind = (tags[index - 1][0], tags[index - 1][2:]) if index else ("O", "")
        this, kind = tag[0], tag[2:]
        ends = {"BB", "BO", "BS", "IB", "IO", "IS", "EE", "EI", "EO", "EB", "ES", "SS", "SI", "SO", "SB", "SE"}
        if last + this in ends or (last != "O" and last_kind != kind):
            spans.append(Span(last_kind, start, index))
        begins = this in "BS" or last + this in {"EE", "EI", "SE", "SI", "OE", "OI"}
        if this != "O" and (begins or last_kind != kind):
            start = index
    return spans


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None)
@given(st.data())
def test_spans_are_those_of_conlleval(scheme: str, data: st.DataObject) -> None:
    tags = data.draw(tagged(scheme))
    assert read_tags(tags, scheme)[0] == conlleval(tags)


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None)
@given(st.data())
def test_a_problem_is_named_where_the_tag_would_be_written_otherwise(scheme: str, data: st.DataObject) -> None:
    tags = data.draw(tagged(scheme))
    spans, problems = read_tags(tags, scheme)
    mended = write_tags(spans, len(tags), scheme)
    assert [index for index, _ in problems] == sorted(index for index, _ in problems)
    assert {index for index, _ in problems} == {i for i, (tag, new) in enumerate(zip(tags, mended, strict=True)) if tag != new}
    assert read_tags(mended, scheme) == (spans, [])


@pytest.mark.parametrize("tag", ["", "o", "B", "B-", "-PER", "PER", "b-PER", "BI-PER", "E-PER", "S-PER", "O-PER", "0", "B_PER"])
def test_what_is_no_tag_of_bio(tag: str) -> None:
    message = f"{tag!r} is no tag of bio: expected O or B-KIND, I-KIND"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_tags(["O", tag], "bio")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        allowed(["O", tag], "bio")


@pytest.mark.parametrize("tag", ["", "U-PER", "E-", "L-PER", "O-PER", "ES-PER"])
def test_what_is_no_tag_of_bioes(tag: str) -> None:
    message = f"{tag!r} is no tag of bioes: expected O or B-KIND, I-KIND, E-KIND, S-KIND"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_tags([tag], "bioes")


@pytest.mark.parametrize("scheme", ["", "iob", "BIO"])
def test_an_unknown_scheme(scheme: str) -> None:
    message = f"{scheme!r} is no scheme of tags: bio or bioes"
    with pytest.raises(ValueError, match=message):
        read_tags(["O"], scheme)
    with pytest.raises(ValueError, match=message):
        write_tags([], 1, scheme)
    with pytest.raises(ValueError, match=message):
        allowed(["O"], scheme)


@pytest.mark.parametrize(
    "spans",
    [[("X", 0, 2), ("Y", 1, 3)], [("X", 1, 1)], [("X", 2, 1)], [("X", -1, 1)], [("X", 2, 4)], [("", 0, 1)], [("X", 0, 1)] * 2],
)
def test_spans_that_cannot_be_written(spans: list[tuple[str, int, int]]) -> None:
    with pytest.raises(ValueError, match="cannot be written: empty, outside of the 3 words, or over another span"):
        write_tags([Span(*span) for span in spans], 3, "bio")


# What may follow what


def test_what_bio_allows() -> None:
    first, after, last = allowed(BIO, "bio")
    assert first == [True, True, False, True, False]
    assert last == [True] * 5
    inside = {(before, tag) for before, tag in product(BIO, ["I-PER", "I-LOC"]) if before[2:] == tag[2:]}
    for (i, before), (j, tag) in product(enumerate(BIO), repeat=2):
        assert after[i][j] == (tag[0] != "I" or (before, tag) in inside)


def test_what_bioes_allows() -> None:
    tags = ["O", "B-X", "I-X", "E-X", "S-X", "B-Y", "I-Y", "E-Y", "S-Y"]
    first, after, last = allowed(tags, "bioes")
    begin = {"O", "B-X", "S-X", "B-Y", "S-Y"}
    assert {tag for tag, may in zip(tags, first, strict=True) if may} == begin
    assert {tag for tag, may in zip(tags, last, strict=True) if may} == {"O", "E-X", "S-X", "E-Y", "S-Y"}
    expected = {"O": begin, "B-X": {"I-X", "E-X"}, "I-X": {"I-X", "E-X"}, "E-X": begin, "S-X": begin,
                "B-Y": {"I-Y", "E-Y"}, "I-Y": {"I-Y", "E-Y"}, "E-Y": begin, "S-Y": begin}  # fmt: skip
    assert {
        before: {tag for tag, may in zip(tags, row, strict=True) if may} for before, row in zip(tags, after, strict=True)
    } == expected


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_allowed_is_what_has_no_problem(scheme: str) -> None:
    tags = TAGS[scheme]
    first, after, last = allowed(tags, scheme)
    for length in (1, 2, 3):
        for path in product(range(len(tags)), repeat=length):
            legal = first[path[0]] and all(after[i][j] for i, j in pairwise(path)) and last[path[-1]]
            assert legal == (not read_tags([tags[i] for i in path], scheme)[1])


def test_a_set_of_tags_may_lack_some() -> None:
    assert allowed(["I-X", "O"], "bio") == ([False, True], [[True, True], [False, True]], [True, True])
    assert allowed([], "bio") == ([], [], [])
