"""Characters: collected, saved, looked up in graph; of long words both ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tensorflow as tf

from nlp_tasks.text.characters import FIRST, PADDING, UNKNOWN, Characters, write_characters

WORDS = ["banana", "née", "Zoë", "日本", "🙂"]
KNOWN = sorted(set("".join(WORDS)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_characters(tmp_path / "characters.json", iter(WORDS))
    return tmp_path / "characters.json"


def ids(path: Path, *words: str | bytes, longest: int = 6) -> list[list[int]]:
    """Without the padding."""
    found = Characters(path, longest).lookup(tf.constant(list(words), tf.string))
    assert found.dtype == tf.int32
    assert found.shape == (len(words), longest)
    rows = found.numpy().tolist()
    for row in rows:
        while row and row[-1] == PADDING:
            row.pop()
    assert not any(PADDING in row for row in rows)
    return rows


def numbers(text: str) -> list[int]:
    return [KNOWN.index(character) + FIRST if character in KNOWN else UNKNOWN for character in text]


def test_characters_are_saved_in_the_order_of_their_code_points(path: Path) -> None:
    assert json.loads(path.read_text(encoding="utf-8")) == KNOWN == [*"Zabenoéë日本🙂"]
    assert (PADDING, UNKNOWN, len(Characters(path, 6))) == (0, 1, len(KNOWN) + 2)


def test_ids_follow_padding_and_unknown(path: Path) -> None:
    assert ids(path, "Zab", "🙂日né") == [[2, 3, 4], [12, 10, 6, 8]]
    assert ids(path, *WORDS) == [numbers(word) for word in WORDS]


def test_other_characters_are_unknown(path: Path) -> None:
    """Before, between and behind all that are known."""
    assert ids(path, "!axz\U0010ffff", "Ö本") == [[1, 3, 1, 1, 1], [1, 11]]


@pytest.mark.parametrize(
    ("longest", "expected"),
    [(1, "f"), (2, "af"), (3, "abf"), (4, "abef"), (5, "abdef"), (6, "abcdef"), (7, "abcdef")],
)
def test_of_long_words_both_ends_are_read(tmp_path: Path, longest: int, expected: str) -> None:
    write_characters(tmp_path / "c", ["abcdef"])
    assert ids(tmp_path / "c", "abcdef", "fa", longest=longest) == [
        ["abcdef".index(character) + FIRST for character in text] for text in (expected, "fa" if longest > 1 else "a")
    ]


def test_no_characters_and_no_words(path: Path) -> None:
    assert ids(path, "", "a", "") == [[], numbers("a"), []]
    assert ids(path, "") == [[]]
    assert ids(path) == []


def test_what_is_no_utf8_is_unknown(path: Path) -> None:
    assert ids(path, b"a\xffa") == [[*numbers("a"), UNKNOWN, *numbers("a")]]


def test_a_graph_says_the_same(path: Path) -> None:
    characters = Characters(path, 3)
    lookup = tf.function(characters.lookup, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    for words in (WORDS, ["longer", ""], []):
        found, expected = (look(tf.constant(words, tf.string)) for look in (lookup, characters.lookup))
        assert found.numpy().tolist() == expected.numpy().tolist()
    assert lookup.get_concrete_function().structured_outputs.shape.as_list() == [None, 3]
    assert not characters.codes.trainable
