"""The tokenizer: every token stands where its offsets say, and nothing but white space is lost."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlp_tasks.text.tokenizer import Tokenizer, Tokens

Spans = list[tuple[str, int, int]]

INTERESTING = "ab Z9'’ \t\n-.,é\u0301\u200d\ufe0f🏽👍👩中のก\u0085\u00a0\ufeff\u200b"
TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from(INTERESTING), max_size=20)


@pytest.fixture(scope="module")
def split() -> Tokenizer:
    return Tokenizer(lowercase=False)


def spans(tokenizer: Callable[[tf.Tensor], Tokens], *texts: str | bytes) -> tuple[list[Spans], list[Spans]]:
    """(token, first, end) of each text, in bytes and in characters."""
    tokens = tokenizer(tf.constant([text.encode() if isinstance(text, str) else text for text in texts], tf.string))
    text, byte_starts, byte_ends, starts, ends = (field.to_list() for field in tokens)
    words = [[token.decode() for token in row] for row in text]
    return tuple(
        [list(zip(*row, strict=True)) for row in zip(words, first, end, strict=True)]
        for first, end in ((byte_starts, byte_ends), (starts, ends))
    )


def words(tokenizer: Tokenizer, text: str | bytes) -> list[str]:
    return [token for token, _, _ in spans(tokenizer, text)[0][0]]


def is_white_space(character: str) -> bool:
    """Separators and control characters, and what Unicode calls otherwise but shows as nothing."""
    return unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cc") or character in "\ufeff\u200b\U0001ffff"


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, max_size=4))
@example(["", " ", "a\u0301b", "\u0301", "👩🏽\u200d🚀", "'a'b'", "中文a"])
def test_tokens_are_the_text_at_their_offsets_and_only_white_space_is_lost(split: Tokenizer, texts: list[str]) -> None:
    in_bytes, in_characters = spans(split, *texts)
    assert len(in_bytes) == len(in_characters) == len(texts)
    for text, byte_spans, character_spans in zip(texts, in_bytes, in_characters, strict=True):
        assert [text.encode()[first:end].decode() for _, first, end in byte_spans] == [token for token, _, _ in byte_spans]
        assert [text[first:end] for _, first, end in character_spans] == [token for token, _, _ in character_spans]
        edges = [0, *(edge for _, *span in character_spans for edge in span), len(text)]
        assert edges == sorted(edges)
        assert all(token and not any(map(is_white_space, token)) for token, _, _ in character_spans)
        between = "".join(text[end:first] for end, first in zip(edges[::2], edges[1::2], strict=True))
        assert all(map(is_white_space, between))


@settings(max_examples=30, deadline=None)
@given(TEXTS, TEXTS)
def test_a_text_does_not_depend_on_its_neighbours(split: Tokenizer, text: str, other: str) -> None:
    assert spans(split, other, text)[1][1] == spans(split, text)[1][0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=3))
def test_any_bytes_have_tokens_in_order(split: Tokenizer, texts: list[bytes]) -> None:
    for text, row in zip(texts, spans(split, *texts)[0], strict=True):
        edges = [0, *(edge for _, *span in row for edge in span), len(text)]
        assert edges == sorted(edges)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I don't like it.", ["I", "don't", "like", "it", "."]),
        ("rock’n’roll", ["rock’n’roll"]),
        ("'quoted' dogs' ''", ["'", "quoted", "'", "dogs", "'", "'", "'"]),
        ("well-made, 3.5/5!!", ["well", "-", "made", ",", "3", ".", "5", "/", "5", "!", "!"]),
        ("中文字 kanaカナ ไท", ["中", "文", "字", "kana", "カ", "ナ", "ไ", "ท"]),
        ("한국어 Ελλάδα हिन्दी עברית", ["한국어", "Ελλάδα", "हिन्दी", "עברית"]),
        ("cafe\u0301s", ["cafe\u0301s"]),
        ("\u0301 a", ["\u0301", "a"]),
        ("👍🏽👍", ["👍🏽", "👍"]),
        ("👩‍👩‍👧‍👦x❤️y", ["👩‍👩‍👧‍👦", "x", "❤️", "y"]),
        ("so\u00adft", ["so\u00adft"]),
        ("a\tb\u00a0c\u0085d\u2003e\u200bf\r\n", ["a", "b", "c", "d", "e", "f"]),
    ],
)
def test_examples(split: Tokenizer, text: str, expected: list[str]) -> None:
    assert words(split, text) == expected


def test_lower_case_changes_the_token_and_not_its_place(split: Tokenizer) -> None:
    text = "İstanbul ÄRGER ΟΔΟΣ"
    assert words(Tokenizer(), text) == ["i̇stanbul", "ärger", "οδος"]
    lowered, kept = spans(Tokenizer(), text), spans(split, text)
    assert [span[1:] for rows in lowered for row in rows for span in row] == [
        span[1:] for rows in kept for row in rows for span in row
    ]


def test_each_invalid_byte_is_one_character(split: Tokenizer) -> None:
    in_bytes, in_characters = spans(split, b"a\xffb \xc3 z")
    assert in_bytes == [[("a", 0, 1), ("\ufffd", 1, 2), ("b", 2, 3), ("\ufffd", 4, 5), ("z", 6, 7)]]
    assert in_characters == in_bytes


@pytest.mark.parametrize("blank", ["<br />", ".*", "…", "é", "👍", "a👍…é|"])
def test_blank_strings_are_white_space_of_the_same_length(blank: str) -> None:
    in_bytes, in_characters = spans(Tokenizer(lowercase=False, blank=(blank,)), f"one{blank}two{blank}{blank}", f"{blank} 3")
    size, length = len(blank.encode()), len(blank)
    assert in_bytes == [[("one", 0, 3), ("two", 3 + size, 6 + size)], [("3", size + 1, size + 2)]]
    assert in_characters == [[("one", 0, 3), ("two", 3 + length, 6 + length)], [("3", length + 1, length + 2)]]


def test_a_blank_string_splits_a_text_with_invalid_bytes() -> None:
    assert words(Tokenizer(blank=("<br>",)), b"\xffA<br>b") == ["\ufffd", "a", "b"]


def test_empty_batch_and_empty_texts(split: Tokenizer) -> None:
    assert spans(split) == ([], [])
    assert spans(split, "", " ", "a", "") == ([[], [], [("a", 0, 1)], []],) * 2


def test_a_graph_gives_the_same(split: Tokenizer) -> None:
    graph = tf.function(split.__call__, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    texts = ("", "don't 👍🏽 中", " a")
    assert spans(graph, *texts) == spans(split, *texts)


def test_a_long_text_keeps_every_word(split: Tokenizer) -> None:
    assert words(split, "word " * 10_000) == ["word"] * 10_000
