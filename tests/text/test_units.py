"""Units of a language model: text to ids and back, counted, cut, saved, and exported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlp_tasks.errors import UserError
from nlp_tasks.text.ragged import padded
from nlp_tasks.text.tokenizer import Tokenizer
from nlp_tasks.text.units import Bytes, Characters, Split, Units, Words, at_spaces, by_rules, words, write

Text = str | bytes
KINDS = {"characters": Characters, "bytes": Bytes}
PLAIN = at_spaces(lowercase=False)
TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("ab \n\r\t\0é中👩\u0301\u200d\ufeff\ufffd"), max_size=12)


def strings(texts: Sequence[Text]) -> tf.Tensor:
    return tf.constant([text.encode() if isinstance(text, str) else text for text in texts], tf.string)


def file(
    folder: Path, kind: str, *batches: Sequence[Text], splits: Split = PLAIN, minimum_count: int = 1, size: int = 10**6
) -> Path:
    path = folder / f"{kind}.tsv"
    write(path, kind, map(strings, batches), splits, minimum_count=minimum_count, size=size)
    return path


def word_units(folder: Path, *texts: Text, splits: Split = PLAIN, minimum_count: int = 1, size: int = 10**6) -> Words:
    return Words(file(folder, "words", texts, splits=splits, minimum_count=minimum_count, size=size), splits)


def split(texts: Sequence[Text], splits: Split = PLAIN) -> list[list[str]]:
    return [[word.decode() for word in row] for row in words(strings(texts), splits).to_list()]


def decoded(units: Units, ids: Sequence[Sequence[int]], before: Sequence[int] | None = None) -> list[bytes]:
    rows = tf.ragged.constant(ids, tf.int32, ragged_rank=1).to_tensor()
    last = tf.fill([len(ids)], units.boundary) if before is None else tf.constant(before)
    return list(units.decode(rows, last).numpy())


def there_and_back(units: Units, texts: Sequence[Text]) -> list[bytes]:
    ids = units.encode(strings(texts))
    assert ids.dtype == tf.int32
    return list(units.decode(padded(ids), tf.fill([len(texts)], units.boundary)).numpy())


# Text to ids and back


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(st.lists(TEXTS, max_size=4))
@example([])
@example(["", "\n", "a\nb\n", "", "\0\ufffd"])
def test_known_characters_and_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, kind: str, texts: list[str]) -> None:
    units = KINDS[kind](file(tmp_path_factory.mktemp("units"), kind, ["some text", *texts]))
    encoded = strings(texts)
    assert there_and_back(units, texts) == [text.encode() for text in texts]
    assert units.encode(encoded).row_lengths().numpy().tolist() == [
        len(text) if kind == "characters" else len(text.encode()) for text in texts
    ]
    assert list(units.unknown(encoded).numpy()) == [b""] * len(texts)
    joined = tf.strings.reduce_join(units.split(encoded), 1)
    assert list(joined.numpy()) == [text.encode() for text in texts]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=4))
def test_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, texts: list[bytes]) -> None:
    units = Bytes(file(tmp_path_factory.mktemp("units"), "bytes", [b"a"]))
    assert there_and_back(units, texts) == texts
    assert units.encode(strings(texts)).to_list() == [[byte + 1 for byte in text] for text in texts]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab \n"), max_size=10), max_size=5))
@example(["", "\n", "\n\n a", "a\n\nb", "a b\n"])
def test_words_are_those_of_python(texts: list[str]) -> None:
    expected = [[word for part in text.split("\n") for word in (*part.split(), "<eos>")][:-1] for text in texts]
    assert split(texts) == expected


@settings(max_examples=6, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "bé", "<", "\u00a0"]), max_size=3).map(" ".join), min_size=1, max_size=4))
def test_known_words_come_back_with_a_space_between(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    units = word_units(tmp_path_factory.mktemp("units"), "a bé < \u00a0\n")
    texts = ["\n".join(lines), "".join(f"{line}\n" for line in lines)]
    assert there_and_back(units, texts) == [text.encode() for text in texts]


def test_no_texts_have_no_units(tmp_path: Path) -> None:
    for units in (
        word_units(tmp_path, "a"),
        Characters(file(tmp_path, "characters", ["a"])),
        Bytes(file(tmp_path, "bytes", ["a"])),
    ):
        assert units.encode(strings([])).shape.as_list()[0] == 0
        assert units.encode(strings(["", ""])).to_list() == [[], []]
        assert units.unknown(strings(["", ""])).numpy().tolist() == [b"", b""]
        for rows, time in ((0, 3), (2, 0), (0, 0)):
            assert units.decode(tf.zeros([rows, time], tf.int32), tf.zeros([rows], tf.int32)).numpy().tolist() == [b""] * rows


def test_the_end_of_a_line_is_the_boundary(tmp_path: Path) -> None:
    made = (
        word_units(tmp_path, "a b\n"),
        Characters(file(tmp_path, "characters", ["ab\n"])),
        Bytes(file(tmp_path, "bytes", ["a"])),
    )
    for units in made:
        assert units.encode(strings(["\n"])).to_list() == [[units.boundary]]
        assert decoded(units, [[units.boundary]]) == [b"\n"]
        assert units.names[0] == b""
        assert len(units) == len(units.counts) == len(units.names)
    assert [bytes(units.names[units.boundary].numpy()) for units in made] == [b"<eos>", b"\n", b"\n"]


def test_the_boundary_is_known_although_training_has_none(tmp_path: Path) -> None:
    for units in (word_units(tmp_path, "a a", size=1), Characters(file(tmp_path, "characters", ["aa"], size=1))):
        assert (len(units), units.boundary, units.counts.tolist()) == (3, 2, [0, 2, 0])
        assert units.encode(strings(["a\n"])).to_list() == [[1, 2]]


# Words


def test_ids_of_words_follow_frequency_and_then_bytes(tmp_path: Path) -> None:
    path = file(tmp_path, "words", ["b a b\nc é", "b a\n"], [], ["é <unk>\n", ""])
    assert path.read_bytes() == "<unk>\t1\n<eos>\t3\nb\t3\na\t2\né\t2\nc\t1\n".encode()
    units = Words(path, PLAIN)
    assert [name.decode() for name in units.names.numpy()] == ["", "<unk>", "<eos>", "b", "a", "é", "c"]
    assert (units.counts.tolist(), units.counts.dtype, units.boundary) == ([0, 1, 3, 3, 2, 2, 1], np.int64, 2)
    assert units.encode(strings(["c b\n", "nowhere  <unk> a", "<eos>"])).to_list() == [[6, 3, 2], [1, 1, 4], [2]]


def test_rare_words_and_those_beyond_the_size_are_counted_as_unknown(tmp_path: Path) -> None:
    texts = ["c c c b b a a once <unk>\n"]
    units = word_units(tmp_path, *texts, minimum_count=2)
    assert units.names.numpy().tolist() == [b"", b"<unk>", b"c", b"a", b"b", b"<eos>"]
    assert units.counts.tolist() == [0, 2, 3, 2, 2, 1]
    units = word_units(tmp_path, *texts, size=3)
    assert units.names.numpy().tolist() == [b"", b"<unk>", b"c", b"a", b"<eos>"]
    assert units.counts.tolist() == [0, 4, 3, 2, 1]


@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "<unk>", "\n"]), max_size=9), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_counts_are_how_often_training_has_each_id(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]], minimum_count: int, size: int
) -> None:
    joined = [" ".join(text) for text in texts]
    if not any(map(str.split, joined)) and "\n" not in "".join(joined):
        return
    units = word_units(tmp_path_factory.mktemp("units"), *joined, minimum_count=minimum_count, size=size)
    ids = Counter(units.encode(strings(joined)).values.numpy().tolist())
    assert units.counts.tolist() == [ids[number] for number in range(len(units))]
    assert len(units) <= size + 2  # padding and the unknown one beside them


def test_unknown_words_are_named_but_not_the_unknown_unit(tmp_path: Path) -> None:
    units = word_units(tmp_path, "a b\n")
    texts = strings(["a x b\ny\n", "<unk> a", "", "z <unk> é z"])
    assert [text.decode() for text in units.unknown(texts).numpy()] == ["x y", "", "", "z é z"]


def test_written_words_are_separated_from_what_stands_before(tmp_path: Path) -> None:
    units = word_units(tmp_path, "a a b\n")
    a, b, end = (units.encode(strings([text])).to_list()[0][0] for text in ("a", "b", "\n"))
    ids, before = [[a, b], [a, end, b], [end, end], [end, a, 1], []], [end, a, a, b, a]
    assert decoded(units, ids, before) == [b"a b", b" a\nb", b"\n\n", b"\na <unk>", b""]


def test_invalid_utf8_goes_through_words(tmp_path: Path) -> None:
    units = word_units(tmp_path, b"a\xff \xc3\n")
    assert there_and_back(units, [b"\xc3 a\xff\n", b"\xfe"]) == [b"\xc3 a\xff\n", b"<unk>"]
    assert split([b"\xc3 A\n"], at_spaces(lowercase=True)) == [["\ufffd", "a", "<eos>"]]


def test_white_space_of_ascii_separates_words_and_that_of_unicode_does_not() -> None:
    assert split([" a\tb\r\n\x0bc\x0cd  "]) == [["a", "b", "<eos>", "c", "d"]]
    assert split(["a\u00a0b\u2003c\u0085d\u3000e"]) == [["a\u00a0b\u2003c\u0085d\u3000e"]]


def test_lower_case() -> None:
    assert split(["ÉA İ\nSS"], at_spaces(lowercase=True)) == [["éa", "i̇", "<eos>", "ss"]]
    assert split(["ÉA"], PLAIN) == [["ÉA"]]


def test_rules_split_punctuation(tmp_path: Path) -> None:
    rules = by_rules(Tokenizer(lowercase=True))
    text = "Don't go,\u00a0Ann!\r\n\n(中)"
    expected = ["don't", "go", ",", "ann", "!", "<eos>", "<eos>", "(", "中", ")"]
    assert split([text, "", "a\n"], rules) == [expected, [], ["a", "<eos>"]]
    units = word_units(tmp_path, text, splits=rules)
    assert there_and_back(units, [text]) == ["don't go , ann !\n\n( 中 )".encode()]
    assert units.unknown(strings(["Ann, Ben"])).numpy().tolist() == [b"ben"]


# Characters and bytes


def test_ids_of_characters_follow_frequency(tmp_path: Path) -> None:
    path = file(tmp_path, "characters", ["bab\n", "é👩"], [""], ["b\n"])
    assert path.read_text() == "<unk>\t0\n98\t3\n10\t2\n128105\t1\n233\t1\n97\t1\n"  # codes as text, in its order
    units = Characters(path)
    names = [name.decode() for name in units.names.numpy()]
    assert names == ["", "<unk>", "b", "\n", "👩", "é", "a"]
    assert units.counts.tolist() == [0, 0, 3, 2, 1, 1, 1]
    assert units.encode(strings(["b\nb", "xaz", "\U0010ffff\0"])).to_list() == [[2, 3, 2], [1, names.index("a"), 1], [1, 1]]
    assert units.unknown(strings(["xaz", "ab", "é中"])).numpy().tolist() == [b"x z", b"", "中".encode()]


def test_rare_characters_and_those_beyond_the_size_are_counted_as_unknown(tmp_path: Path) -> None:
    units = Characters(file(tmp_path, "characters", ["aaabbc\n"], minimum_count=2))
    assert units.names.numpy().tolist() == [b"", b"<unk>", b"a", b"b", b"\n"]
    assert units.counts.tolist() == [0, 1, 3, 2, 1]
    units = Characters(file(tmp_path, "characters", ["aaabbc\n"], size=2))
    assert units.names.numpy().tolist() == [b"", b"<unk>", b"a", b"\n"]
    assert units.counts.tolist() == [0, 3, 3, 1]
    assert decoded(units, [[2, 1, 3]]) == [b"a<unk>\n"]


def test_invalid_utf8_is_read_as_replacement_characters(tmp_path: Path) -> None:
    units = Characters(file(tmp_path, "characters", ["a\ufffd\n"]))
    assert there_and_back(units, [b"a\xff\n", b"\xe4\xb8"]) == ["a\ufffd\n".encode(), "\ufffd".encode()]
    strict = Characters(file(tmp_path, "characters", ["a\n"]))
    assert strict.encode(strings([b"a\xff"])).values.numpy().tolist()[1:] == [1]


def test_bytes_are_counted_in_their_order(tmp_path: Path) -> None:
    units = Bytes(file(tmp_path, "bytes", ["é\n"], [], [b"\xff\n", ""], minimum_count=5, size=3))
    expected = np.zeros(257, np.int64)
    expected[[0xC3 + 1, 0xA9 + 1, 0xFF + 1]], expected[ord("\n") + 1] = 1, 2
    np.testing.assert_array_equal(units.counts, expected)
    assert units.names.numpy().tolist() == [b"", *(bytes([byte]) for byte in range(256))]
    assert units.boundary == 11


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_no_text_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match=r"the training data has no text(.|\n)*data\.train"):
        file(tmp_path, kind, [], ["", ""])
    assert not (tmp_path / f"{kind}.tsv").exists()


# In an export


@pytest.mark.parametrize("kind", ["words", "rules", "characters", "bytes"])
def test_an_exported_function_needs_no_file(tmp_path: Path, kind: str) -> None:
    tokenizer = Tokenizer(lowercase=True)
    splits = by_rules(tokenizer) if kind == "rules" else PLAIN
    texts = ["one two, two\nthree é\n", "", "two x"]
    path = file(tmp_path, "words" if kind == "rules" else kind, ["One two\n two, three é"], splits=splits)
    units = KINDS[kind](path) if kind in KINDS else Words(path, splits)
    module = tf.Module()
    module.resources = [*units.resources, tokenizer.table]

    def answer(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        ids = padded(units.encode(texts))
        return {
            "ids": ids, "text": units.decode(ids, tf.fill([tf.shape(texts)[0]], units.boundary)), "unknown": units.unknown(texts)
        }  # fmt: skip

    module.answer = tf.function(answer, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    path.unlink()
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for asked in (texts, [], [""]):
        expected, found = answer(strings(asked)), loaded.answer(strings(asked))
        for name in expected:
            assert found[name].numpy().tolist() == expected[name].numpy().tolist(), name
