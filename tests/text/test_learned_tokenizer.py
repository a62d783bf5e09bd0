"""The learned tokenizer: each rule on examples made by hand, and what must hold on any text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlp_tasks.text.learned_tokenizer import LearnedTokenizer, align, learn
from nlp_tasks.text.tokenizer import Tokenizer, Tokens

EXCEPTIONS = """\
l'	beginning
qu'	beginning
n't	ending
's	ending
i̇x	2 1
..	2
...	3
000	1 2
0:00	4
a-b	2 1
b-c-a	5
aujourd'hui	11
c-a	3
cannot	3 3
l'a's	5
"""
TEXTS = st.lists(
    st.sampled_from([*"aAbBcC-.'’ İxé9:0", "n't", "'s", "l'", "cannot", " ", "\u0301", "中", "👍"]), max_size=14
).map("".join)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("learned") / "tokens.txt"
    file.write_bytes(EXCEPTIONS.encode())
    return file


Split = Callable[[tf.Tensor], Tokens]


def graph(tokenizer: Split) -> Split:
    return tf.function(lambda texts: tokenizer(texts), autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])


@pytest.fixture(scope="module")
def split(path: Path) -> Split:
    return graph(LearnedTokenizer(path, lowercase=False))


def words(tokenizer: Split, *texts: str | bytes) -> list[list[str]]:
    tokens = tokenizer(tf.constant(texts, tf.string, [len(texts)]))
    return [[token.decode() for token in row] for row in tokens.text.to_list()]


def learned(path: Path, *sentences: str) -> list[str]:
    """Lines learned from sentences whose words are set apart by "|" or white space."""
    learn([(sentence.replace("|", ""), sentence.replace("|", " ").split()) for sentence in sentences], path)
    return path.read_bytes().decode().split("\n")[:-1]


def fields(tokens: Tokens) -> list[list[list[object]]]:
    return [field.to_list() for field in tokens]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I CANNOT, cannot", "I CAN NOT , can not"),
        ("... .. .", "... .. ."),
        ("....... x", "... ... . x"),
        ("1:23 11:30 200", "1:23 11 : 30 2 00"),
        ("A-b", "A- b"),
        ("a-b-c-a", "a - b-c-a"),
        ("c-a-b", "c-a - b"),
        ("b-c a", "b - c a"),
        ("didn't DIDN'T x's n't 's", "did n't DID N'T x 's n't ' s"),
        ("l'ami Qu'il's l's qu's", "l' ami Qu' il 's l' s qu' s"),
        ("aujourd'hui l'a's", "aujourd'hui l'a's"),
        ("İx i̇X", "İx i̇ X"),
    ],
)
def test_a_file_says_how_texts_are_cut(split: Split, text: str, expected: str) -> None:
    assert words(split, text) == [expected.split()]


def test_tokens_know_their_places(split: Split) -> None:
    tokens = split(tf.constant(["é cannot... don't"]))
    assert tokens.character_starts.to_list() == [[0, 2, 5, 8, 12, 14]]
    assert tokens.character_ends.to_list() == [[1, 5, 8, 11, 14, 17]]
    assert tokens.byte_starts.to_list() == [[0, 3, 6, 9, 13, 15]]
    assert tokens.byte_ends.to_list() == [[2, 6, 9, 12, 15, 18]]


def test_lower_case_changes_the_token_alone(path: Path, split: Split) -> None:
    texts = tf.constant(["CANNOT Didn't A-B"])
    lowered, kept = LearnedTokenizer(path)(texts), split(texts)
    assert lowered.text.to_list() == [[token.lower() for token in kept.text.to_list()[0]]]
    assert fields(lowered)[1:] == fields(kept)[1:]


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, max_size=3))
@example(["", " ", "b-c-a-b-c-a", "İx", "can\u0301not"])
def test_tokens_cover_all_but_white_space(split: Split, texts: list[str]) -> None:
    tokens = split(tf.constant(texts, tf.string, [len(texts)]))
    rows = zip(texts, tokens.text.to_list(), tokens.character_starts.to_list(), tokens.character_ends.to_list(), strict=True)
    for text, row, starts, ends in rows:
        assert [text[start:end] for start, end in zip(starts, ends, strict=True)] == [token.decode() for token in row]
        assert all(starts[i] < ends[i] for i in range(len(row)))
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
        assert "".join(token.decode() for token in row) == text.replace(" ", "")


@settings(max_examples=50, deadline=None)
@given(TEXTS, TEXTS, TEXTS)
def test_a_text_does_not_depend_on_its_neighbours(split: Split, text: str, before: str, after: str) -> None:
    assert words(split, before, text, after)[1:2] == words(split, text)


@pytest.fixture(scope="module")
def empty_and_rules(tmp_path_factory: pytest.TempPathFactory) -> tuple[Split, Split]:
    file = tmp_path_factory.mktemp("learned") / "empty.txt"
    file.touch()
    return graph(LearnedTokenizer(file)), graph(Tokenizer())


@settings(max_examples=50, deadline=None)
@given(st.lists(TEXTS.map(str.encode) | st.binary(max_size=8), max_size=3))
def test_an_empty_file_gives_the_tokens_of_the_rules(empty_and_rules: tuple[Split, Split], texts: list[bytes]) -> None:
    empty, rules = (fields(tokenizer(tf.constant(texts, tf.string, [len(texts)]))) for tokenizer in empty_and_rules)
    assert empty == rules


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=3))
def test_any_bytes_have_tokens_in_order(split: Split, texts: list[bytes]) -> None:
    tokens = split(tf.constant(texts, tf.string, [len(texts)]))
    for text, starts, ends in zip(texts, tokens.byte_starts.to_list(), tokens.byte_ends.to_list(), strict=True):
        edges = [0, *(edge for span in zip(starts, ends, strict=True) for edge in span), len(text)]
        assert edges == sorted(edges)


def test_empty_batch_empty_texts_and_long_ones(split: Split) -> None:
    assert words(split) == []
    assert words(split, "", " ", b"\xffcannot \xff...", "") == [[], [], ["\ufffd", "can", "not", "\ufffd", "..."], []]
    assert words(split, "cannot " * 2500) == [["can", "not"] * 2500]
    assert words(split, "." * 5000) == [["..."] * 1666 + [".."]]


def test_a_blank_string_is_white_space(path: Path) -> None:
    assert words(LearnedTokenizer(path, blank=("<br>",)), "can<br>not<br>cannot.<br>.") == [
        ["can", "not", "can", "not", ".", "."]
    ]


def test_an_export_gives_the_same(path: Path, split: Split, tmp_path: Path) -> None:
    module = tf.Module()
    tokenizer = LearnedTokenizer(path, lowercase=False)
    module.resources, module.call = tokenizer.resources, graph(tokenizer)
    tf.saved_model.save(module, str(tmp_path / "export"))
    texts = tf.constant(["I cannot... didn't", "", "l'ami a-b-c-a 1:23"])
    assert fields(tf.saved_model.load(str(tmp_path / "export")).call(texts)) == fields(split(texts))


def test_exceptions_are_the_most_frequent_way(tmp_path: Path) -> None:
    lines = learned(
        tmp_path / "f",
        "e-mail me .",
        "E-Mail me",
        "e|-|mail",
        "1.5 22:30|.",
        "can|not",
        "cannot",
        "can|not",
        "x|.|.",
        "a|.|.",
        "b ..",
    )
    assert lines == ["0.0\t3", "00:00\t5", "cannot\t3 3", "e-mail\t6"]


def test_what_the_rules_get_right_is_not_learned(tmp_path: Path) -> None:
    assert learned(tmp_path / "f", "A b|, c|.", "it's") == []
    assert learned(tmp_path / "f") == []


def test_only_the_stretch_that_differs_is_learned(tmp_path: Path) -> None:
    assert learned(tmp_path / "f", "(|U.S.|)") == ["u.s.\t4"]


def test_endings_of_three_words_are_learned_and_what_only_looks_so(tmp_path: Path) -> None:
    lines = learned(tmp_path / "f", "do|n't", "did|n't", "has|n't ain't")
    assert lines == ["n't\tending", "ain't\t5", "didn't\t3 3", "don't\t2 3", "hasn't\t3 3"]
    tokenizer = LearnedTokenizer(tmp_path / "f")
    assert words(tokenizer, "wouldn't ain't") == [["would", "n't", "ain't"]]


def test_beginnings_are_learned(tmp_path: Path) -> None:
    assert learned(tmp_path / "f", "l'|ami", "l'|eau", "L'|or de")[0] == "l'\tbeginning"
    assert words(LearnedTokenizer(tmp_path / "f", lowercase=False), "L'île") == [["L'", "île"]]


def test_an_ending_that_most_words_keep_is_not_learned(tmp_path: Path) -> None:
    assert "s\tending" not in learned(tmp_path / "f", "it|s", "that|s", "here|s", "his yes was cars")


def test_what_is_learned_is_applied_with_blank_strings(tmp_path: Path) -> None:
    learn([("a-b<br>c", ["a-b", "c"])], tmp_path / "f", blank=("<br>",))
    assert (tmp_path / "f").read_text() == "a-b\t3\n"


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("can not", "can not", "can not"),
        ("la fin du jeu.", "la fin de le jeu .", "la fin jeu ."),
        ("aux amis", "à les amis", "amis"),
        ("Er ist zum Haus", "Er ist zu dem Haus", "Er ist Haus"),
        ("des", "de les", ""),
        ("wholly other", "not these", ""),
        ("a b", "", ""),
    ],
)
def test_words_that_the_text_does_not_have_are_left_out(text: str, tokens: str, expected: str) -> None:
    assert [text[start:end] for start, end in align(text, tokens.split()).items()] == expected.split()


def test_words_may_hold_white_space() -> None:
    assert align("de 10 000 euros", ["de", "10 000", "euros"]) == {0: 2, 3: 9, 10: 15}
