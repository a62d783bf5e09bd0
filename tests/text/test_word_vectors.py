"""Files of word vectors: both formats, and what is said of broken ones."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nlp_tasks.errors import UserError
from nlp_tasks.text.vocabulary import read_vocabulary, write_vocabulary
from nlp_tasks.text.word_vectors import add_vectors, completed, ppmi_factors, read_vectors, write_vectors

VECTORS = {"the": [0.5, -1.25, 3e-2], "naïve": [1, 2, 3], "3": [4, 5, 6]}
LINES = [f"{word} {' '.join(map(str, vector))}" for word, vector in VECTORS.items()]


def file(folder: Path, content: str | bytes, name: str = "vectors.txt") -> Path:
    content = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder / name


def assert_read(path: Path, expected: dict[str, list[float]]) -> None:
    words, vectors, _ = read_vectors(path)
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
    path = file(tmp_path, "a 1 2\nb 3 4\na 5 6\na 7 8\n")
    assert_read(path, {"a": [1, 2], "b": [3, 4]})
    assert read_vectors(path).repeated == 2


def test_a_mark_of_byte_order_is_no_part_of_the_first_word(tmp_path: Path) -> None:
    assert_read(file(tmp_path, "\ufeffa 1 2\nb 3 4\n"), {"a": [1, 2], "b": [3, 4]})
    assert_read(file(tmp_path, "\ufeff2 2\na 1 2\nb 3 4\n"), {"a": [1, 2], "b": [3, 4]})


@pytest.mark.parametrize("count", [2, 4])
def test_a_file_that_has_other_words_than_it_says_is_refused(tmp_path: Path, count: int) -> None:
    assert_read(file(tmp_path, "3 2\na 1 2\nb 3 4\na 5 6\n"), {"a": [1, 2], "b": [3, 4]})
    path = file(tmp_path, f"{count} 2\na 1 2\nb 3 4\na 5 6\n")
    assert refusal(path) == f"{path}: its first line says {count} words, and 3 follow"


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


def test_that_words_come_twice_is_told(tmp_path: Path) -> None:
    vocabulary, table = tmp_path / "vocabulary.tsv", tmp_path / "vectors.npy"
    write_vocabulary(vocabulary, Counter({b"a": 1}), minimum_count=1, size=10)
    told = add_vectors(vocabulary, file(tmp_path, "a 1 2\nb 3 4\na 5 6\n"), Counter({b"a": 1}), table)
    assert told.startswith("vectors  2 of 2 features, 1 lines left out as their word has come before; of the training data")


# Written


@pytest.mark.parametrize("name", ["own.txt", "own.txt.gz"])
@pytest.mark.parametrize("header", [True, False])
def test_what_is_written_is_read_again(tmp_path: Path, name: str, header: bool) -> None:
    words = ["the", "naïve", "3", "\u2028"]
    values = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    write_vectors(tmp_path / name, words, values, header=header)
    read = read_vectors(tmp_path / name)
    assert read.words == words and read.repeated == 0
    np.testing.assert_allclose(read.values, values, rtol=1e-5)
    raw = (tmp_path / name).read_bytes()
    text = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode()
    assert text.startswith("4 7\nthe " if header else "the ") and text.count("\n") == 4 + header
    assert [path.name for path in tmp_path.iterdir()] == [name]


# Counted


def test_factors_multiply_to_the_matrix() -> None:
    """With as many features as words, nothing is cut off: the products are PPMI itself, which is not symmetric."""
    draw = np.random.default_rng(1)
    ids, lines = draw.integers(0, 6, 400), np.arange(400) // 9
    counts = np.zeros((7, 7))
    for i in range(400):
        for j in range(max(0, i - 2), min(400, i + 3)):
            if i != j and lines[i] == lines[j]:
                counts[ids[i], ids[j]] += 1 / abs(i - j)
    contexts = counts.sum(1) ** 0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.log(counts / (counts.sum(1)[:, None] * (contexts / contexts.sum())))
    expected = np.where(np.isfinite(expected) & (expected > 0), expected, 0)
    words, others = ppmi_factors([(ids, lines)], 7, 6, window=2)
    np.testing.assert_allclose(words @ others.T, expected, atol=1e-5)
    assert not np.allclose(expected, expected.T) and not words[6].any() and not others[6].any()


# Completed


def test_words_that_the_file_lacks_start_at_random_as_large_as_the_others() -> None:
    table = np.zeros((4000, 5), np.float32)
    table[2:1000] = np.random.default_rng(0).normal(size=(998, 5)) * 3
    found = completed(table, seed=1)
    np.testing.assert_array_equal(found[2:1000], table[2:1000])
    assert not found[0].any() and found[1].any() and found[1000:].any(1).all() and not table[1000:].any()
    assert np.square(found[1000:]).mean() == pytest.approx(np.square(table[2:1000]).mean(), rel=0.05)
    np.testing.assert_array_equal(completed(table, seed=1), found)
    assert (completed(table, seed=2)[1000:] != found[1000:]).any()
    assert not np.isnan(completed(np.zeros((3, 2), np.float32), seed=1)).any()
