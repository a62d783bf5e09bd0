"""Files of word vectors: both formats, and what is said of broken ones."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nlp_tasks.errors import UserError
from nlp_tasks.text.vocabulary import read_vocabulary, write_vocabulary
from nlp_tasks.text.word_vectors import add_vectors, read_vectors

VECTORS = {"the": [0.5, -1.25, 3e-2], "naïve": [1, 2, 3], "3": [4, 5, 6]}
LINES = [f"{word} {' '.join(map(str, vector))}" for word, vector in VECTORS.items()]


def file(folder: Path, content: str | bytes, name: str = "vectors.txt") -> Path:
    content = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder / name


def assert_read(path: Path, expected: dict[str, list[float]]) -> None:
    words, vectors = read_vectors(path)
    assert words == list(expected)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.array(list(expected.values()), np.float32))


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_vectors(path)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"], ids=["LF", "CRLF", "space"])
@pytest.mark.parametrize("header", [[], ["3 3"]], ids=["GloVe", "word2vec"])
def test_both_formats_are_read(tmp_path: Path, name: str, end: str, header: list[str]) -> None:
    assert_read(file(tmp_path, end.join([*header, *LINES, ""]), name), VECTORS)


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    assert_read(file(tmp_path, "\n".join(LINES)), VECTORS)


def test_words_may_have_spaces(tmp_path: Path) -> None:
    assert_read(
        file(tmp_path, "a 1 2\n. . . 3 4\nat name@domain.com 5 6\n"), {"a": [1, 2], ". . .": [3, 4], "at name@domain.com": [5, 6]}
    )
    assert_read(file(tmp_path, "2 2\nNew York 1 2\n\u00a0 3 4\n"), {"New York": [1, 2], "\u00a0": [3, 4]})


def test_other_separators_are_parts_of_a_word(tmp_path: Path) -> None:
    assert_read(file(tmp_path, "a\u2028b 1 2\na\x0bb 3 4\n"), {"a\u2028b": [1, 2], "a\x0bb": [3, 4]})


def test_words_that_are_numbers_are_words(tmp_path: Path) -> None:
    assert_read(file(tmp_path, "3 4 5\n1999 1 2\nnan 3 4\n"), {"3": [4, 5], "1999": [1, 2], "nan": [3, 4]})


def test_of_a_word_that_comes_twice_the_first_counts(tmp_path: Path) -> None:
    assert_read(file(tmp_path, "a 1 2\nb 3 4\na 5 6\n"), {"a": [1, 2], "b": [3, 4]})


def test_vectors_of_one_number(tmp_path: Path) -> None:
    assert_read(file(tmp_path, "a 1\nb 2\n"), {"a": [1], "b": [2]})


def test_what_is_no_utf8_is_replaced(tmp_path: Path) -> None:
    assert_read(file(tmp_path, b"a\xff 1 2\n"), {"a\ufffd": [1, 2]})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("c 1 2", "'c' is followed by 2 columns"),
        ("c 1 2 3 4", "'c' is followed by 4 columns"),
        ("c d 1 2", "'c' is followed by 3 columns"),
        ("c 1 x 3", "'c' is followed by 3 columns"),
        ("c 1 2 nan", "'c' is followed by 3 columns"),
        ("c -inf 2 3", "'c' is followed by 3 columns"),
        ("c 1  3", "'c' is followed by 3 columns"),
        ("c\t1\t2\t3", "'c\\t1\\t2\\t3' is followed by 0 columns"),
        ("c" * 99, f"'{'c' * 40}' is followed by 0 columns"),
        ("", "'' is followed by 0 columns"),
        ("c 1e50 2 3", "'c' is followed by 3 columns"),
    ],
    ids="cut long cut-spaces no-number nan infinite no-cell tabs no-vector blank too-large".split(),
)
def test_a_wrong_line_is_refused_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    for header in ("", "3 3\n"):
        path = file(tmp_path, f"{header}a 1 2 3\nb 1 2 3\n{line}\nd 1 2 3\n")
        number = 4 if header else 3
        assert refusal(path) == f"{path}:{number}: expected a word and 3 numbers; {said}"


def test_another_number_than_the_header_says_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, "2 3\na 1 2\n")
    assert refusal(path) == f"{path}:2: expected a word and 3 numbers; 'a' is followed by 2 columns"


@pytest.mark.parametrize("line", ["word", "{", "3 ²"])
def test_what_is_no_file_of_vectors_is_refused(tmp_path: Path, line: str) -> None:
    path = file(tmp_path, f"{line}\n")
    assert refusal(path).startswith(f"{path}:1: ")


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.gz"])
@pytest.mark.parametrize("content", ["", "0 3\n"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    path = file(tmp_path, content, name)
    assert refusal(path) == f"{path}: no word vectors in it"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        assert refusal(path) == f"no file {path}"


def test_a_broken_gz_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, "\n".join(f"word{n} {n} {n * n}" for n in range(500)), "vectors.gz")
    whole = path.read_bytes()
    for content in (whole[:-20], whole[: len(whole) // 2], whole[:5], b"the 1 2\n", whole[:-6] + bytes(6)):
        path.write_bytes(content)
        assert refusal(path).startswith(f"{path}: cannot be read: ")


def test_a_gz_of_damaged_content_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, "\n".join(f"word{n} {n} {n * n}" for n in range(500)), "vectors.gz")
    whole = path.read_bytes()
    for place in range(20, len(whole) - 8, 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        assert refusal(path).startswith(str(path))


def test_a_packed_file_of_another_name_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, gzip.compress("\n".join(LINES).encode()))
    assert refusal(path).startswith(f"{path}:1: expected a word and ")


def test_words_that_only_the_file_has_follow_those_of_training(tmp_path: Path) -> None:
    counts = Counter({b"the": 5, b"rare": 1, b"often": 3})
    vocabulary, table = tmp_path / "vocabulary.tsv", tmp_path / "vectors.npy"
    write_vocabulary(vocabulary, counts, minimum_count=2, size=10)
    told = add_vectors(vocabulary, file(tmp_path, "\n".join([*LINES, "rare 7 8 9"])), counts, table)
    words = list(read_vocabulary(vocabulary))
    assert words[:2] == [(b"the", 5), (b"often", 3)] and {*words[2:]} == {("naïve".encode(), 0), (b"3", 0), (b"rare", 0)}
    rows = np.load(table)
    place = {word: 2 + index for index, (word, _) in enumerate(words)}
    np.testing.assert_array_equal(rows[place[b"the"]], np.float32([0.5, -1.25, 0.03]))
    np.testing.assert_array_equal(rows[place[b"rare"]], [7, 8, 9])
    assert not rows[:2].any() and not rows[place[b"often"]].any()
    assert told == "vectors  4 of 3 features; of the training data they know 66.7% of the words, 66.7% of the text"
