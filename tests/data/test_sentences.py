"""Files to sentences: CoNLL-U and column files, each way they can be wrong, and bytes that stay as they were."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_tasks.data import formats
from nlp_tasks.data.rows import Counts, Row
from nlp_tasks.data.sentences import COLUMNS, Block, blocks, column_of, fill, read_file
from nlp_tasks.errors import UserError

WANTED = {"words": ("words", "form"), "tags": ("upos",)}
ORDER = ("words", "tags")
Sentence = list[tuple[str, str, int]]


def sentences(
    path: Path, content: str | bytes, *, counts: Counts | None = None, order: tuple[str, ...] = ORDER
) -> list[Sentence]:
    """(word, tag, line) of each word of each sentence of a file with this content."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    rows = list(read_file(path, WANTED, order, Counts() if counts is None else counts))
    for row in rows:
        assert row.fields.keys() == WANTED.keys()
        assert row.where == (str(path), row.lines[0])
    return [list(zip(row.fields["words"], row.fields["tags"], row.lines, strict=True)) for row in rows]


def refused(path: Path, content: str | bytes | None = None, *, order: tuple[str, ...] = ORDER) -> UserError:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as caught:
        list(read_file(path, WANTED, order, Counts()))
    assert caught.value.hint
    return caught.value


def refusal(path: Path, content: str | bytes | None = None, *, order: tuple[str, ...] = ORDER) -> str:
    return refused(path, content, order=order).message


def line(identifier: str, form: str = "x", upos: str = "X") -> str:
    return f"{identifier}\t{form}\t_\t{upos}" + "\t_" * 6 + "\n"


def cut(content: bytes) -> list[Block]:
    return list(blocks(io.BytesIO(content), "f"))


SAMPLE = (
    "# newdoc\n# text = Don't go\n" + line("1-2", "Don't", "_") + line("1", "Do", "AUX") + line("2", "n't", "PART")
    + line("3", "go", "VERB") + line("3.1", "away", "ADV") + line("3.2", "now", "ADV") + "\n"
    + "# text = 10 000 €\n" + line("1", "10 000", "NUM") + line("2", "€", "SYM") + "\n"
)  # fmt: skip
FOUND = [[("Do", "AUX", 4), ("n't", "PART", 5), ("go", "VERB", 6)], [("10 000", "NUM", 11), ("€", "SYM", 12)]]


# Any file


@pytest.mark.parametrize("name", ["a.conllu", "a.conll"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path / name) == f"no file {tmp_path / name}"


def test_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: a folder, not a file"


@pytest.mark.parametrize("name", ["a.conllu", "a.conll"])
@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff\r\n", " \n\t\n"])
def test_an_empty_file(tmp_path: Path, name: str, content: str) -> None:
    assert refusal(tmp_path / name, content) == f"{tmp_path / name}: empty file"


@pytest.mark.parametrize(("name", "content"), [("a.conllu", "# only\n\n# comments"), ("a.conll", "-DOCSTART- O\n\n")])
def test_a_file_without_sentences_is_empty(tmp_path: Path, name: str, content: str) -> None:
    assert refusal(tmp_path / name, content) == f"{tmp_path / name}: empty file"


@pytest.mark.parametrize(
    "content",
    [b"1\tcaf\xe9\n", b"\n\n1\tcaf\xe9", b"\xef\xbb\xbf1\t\xff", b"# fine\n# \xf0\x9f\n", b"1\t\xed\xa0\x80\n"],
)
def test_invalid_utf8_is_refused_alike(tmp_path: Path, content: bytes) -> None:
    messages = {refusal(tmp_path / name, content).replace(name, "") for name in ("a.conll", "a.conllu")}
    with pytest.raises(UserError) as caught:
        list(formats.lines(tmp_path / "a.conllu"))
    assert messages == {caught.value.message.replace("a.conllu", "")}
    assert "invalid UTF-8 at byte" in messages.pop()


# Column files


def test_tabs_or_white_space_separate_columns(tmp_path: Path) -> None:
    expected = [[("I", "O", 1), ("like", "O", 2)], [("New York", "B-LOC", 4), ("#", "O", 5)]]
    assert sentences(tmp_path / "a.conll", "I\tO\nlike\tO\n\nNew York\tB-LOC\n#\tO\n\n") == expected
    assert sentences(tmp_path / "a.txt", "I O\n  like \t O \n\nNew York\t B-LOC\n#   O") == expected


def test_columns_are_named_by_their_order(tmp_path: Path) -> None:
    order = ("id", "tags", "pos", "words")
    assert sentences(tmp_path / "a.txt", "1 B-X NN one\n2 O VB two\n", order=order) == [[("one", "B-X", 1), ("two", "O", 2)]]


@pytest.mark.parametrize("blank", ["\n", "\t\n", "  \n", "\t\t \n", "\r\n", "\t\r\n", "\n\n\t\n", "\x0c\n"])
def test_a_blank_line_ends_a_sentence(tmp_path: Path, blank: str) -> None:
    second = 2 + blank.count("\n")
    assert sentences(tmp_path / "a.conll", f"a\tO\n{blank}b\tO\n{blank}") == [[("a", "O", 1)], [("b", "O", second)]]


@pytest.mark.parametrize("content", ["a\tO\n\nb\tO", "a\tO\n\nb\tO\n", "\ufeffa\tO\r\n\r\nb\tO\r\n\r\n", "a O\r\n\r\nb O"])
def test_line_ends_and_byte_order_mark_are_no_text(tmp_path: Path, content: str) -> None:
    assert sentences(tmp_path / "a.conll", content) == [[("a", "O", 1)], [("b", "O", 3)]]


@pytest.mark.parametrize("character", ["\u00a0", "\u2028", "\u0085", "\u3000", "\x1c", "\ufeff"])
def test_other_white_space_is_part_of_a_word(tmp_path: Path, character: str) -> None:
    word = f"{character}a{character}"
    for separator in " \t":
        content = f"b{separator}O\n{word}{separator}O\n{character}{separator}O\n"
        assert sentences(tmp_path / "a.conll", content) == [[("b", "O", 1), (word, "O", 2), (character, "O", 3)]]


def test_documents_are_divided_by_lines_that_are_counted(tmp_path: Path) -> None:
    counts = Counts()
    content = "-DOCSTART- -X- O O\n\na O\n-DOCSTART-\nb O\n\n-DOCSTART-\tO\n\n"
    assert sentences(tmp_path / "a.conll", content, counts=counts) == [[("a", "O", 3)], [("b", "O", 5)]]
    assert counts.dropped == {"-DOCSTART- line": 3}


@pytest.mark.parametrize(("bad", "count"), [("alone", 1), ("a b c", 3), ("a\tb\t", 3), ("a\t\tb", 3), ("no\u00a0break", 1)])
def test_a_line_with_another_number_of_columns(tmp_path: Path, bad: str, count: int) -> None:
    error = refused(tmp_path / "a.conll", f"a O\n\na O\n{bad}\n")
    assert error.message == f"{tmp_path}/a.conll:4: {count} column(s), expected 2 (words, tags): {bad.strip()!r}"
    assert """--set 'data.columns=["words","pos","tags"]'""" in error.hint


def test_a_line_with_another_number_of_columns_shows_its_beginning_only(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.conll", "x" * 1000).endswith(f": {'x' * 59 + '…'!r}")


@pytest.mark.parametrize(("bad", "name"), [("\tO", "words"), ("a\t", "tags"), (" \tO", "words")])
def test_a_column_with_nothing_in_it(tmp_path: Path, bad: str, name: str) -> None:
    assert refusal(tmp_path / "a.conll", f"a\tO\n{bad}\n").startswith(f"{tmp_path}/a.conll:2: nothing in the column {name}: ")


def test_nothing_in_a_column_that_is_not_wanted(tmp_path: Path) -> None:
    assert sentences(tmp_path / "a.conll", "a\t\tO\n", order=("words", "lemma", "tags")) == [[("a", "O", 1)]]


@pytest.mark.parametrize(
    ("order", "message"),
    [(("words",), "the columns words have no tags"), ((), "the columns (none) have no words, tags"), (("a", "b"), "the columns a, b have no words, tags")],
)  # fmt: skip
def test_an_order_of_columns_without_a_column(tmp_path: Path, order: tuple[str, ...], message: str) -> None:
    assert refusal(tmp_path / "a.conll", "a O\n", order=order) == f"{tmp_path}/a.conll: {message}"


# CoNLL-U


@pytest.mark.parametrize("name", ["a.conllu", "A.CoNLLU"])
def test_words_are_read_without_ranges_and_empty_nodes(tmp_path: Path, name: str) -> None:
    assert sentences(tmp_path / name, SAMPLE) == FOUND


@pytest.mark.parametrize(
    "content",
    [SAMPLE.removesuffix("\n"), SAMPLE.removesuffix("\n\n"), SAMPLE + "\n\n", "\ufeff" + SAMPLE, SAMPLE.replace("\n", "\r\n")],
    ids=["no blank line", "no last newline", "more blank lines", "byte-order mark", "CRLF"],
)
def test_ends_and_byte_order_mark_do_not_matter(tmp_path: Path, content: str) -> None:
    assert sentences(tmp_path / "a.conllu", content) == FOUND


def test_a_byte_order_mark_before_a_word(tmp_path: Path) -> None:
    content = "\ufeff" + line("1", "a") + "\n\ufeff" + line("1", "b")
    assert sentences(tmp_path / "a.conllu", content) == [[("a", "X", 1)], [("b", "X", 3)]]
    first, second = cut(content.encode())
    assert (column_of(first, "id"), column_of(second, "id")) == (("1",), ("1",))
    assert fill(first, "id", ["7"]).startswith(b"\xef\xbb\xbf7\ta\t")


def test_comments_may_stand_between_words(tmp_path: Path) -> None:
    content = line("1", "#") + "# odd\n#\n" + line("2", "b") + "# last\n\n"
    assert sentences(tmp_path / "a.conllu", content) == [[("#", "X", 1), ("b", "X", 4)]]


def test_sentences_without_words_are_left_out_and_counted(tmp_path: Path) -> None:
    counts = Counts()
    content = "\n\n# lost\n\n" + line("1") + "\n" + line("0.1") + "\n# end"
    assert sentences(tmp_path / "a.conllu", content, counts=counts) == [[("x", "X", 5)]]
    assert counts.dropped == {"sentence without words": 3}


def test_blank_lines_are_no_sentences(tmp_path: Path) -> None:
    counts = Counts()
    assert sentences(tmp_path / "a.conllu", "\ufeff\n\n" + line("1") + "\n\t\n", counts=counts) == [[("x", "X", 3)]]
    assert not counts.dropped


@pytest.mark.parametrize("character", ["\u3000", "\u00a0", "\x1c"])
def test_other_white_space_is_no_blank_line(tmp_path: Path, character: str) -> None:
    message = refusal(tmp_path / "a.conllu", line("1") + character + "\n")
    assert message == f"{tmp_path}/a.conllu:2: 1 column(s), expected 10: {character!r}"


def test_the_first_candidate_that_is_a_column_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text("1\tForm\tlemma\tU\tXP\tF\t0\troot\t_\t_\n")
    wanted = {"a": ("words", "lemma", "form"), "b": ("XPOS", "upos"), "c": ("misc",)}
    (row,) = read_file(tmp_path / "a.conllu", wanted, (), Counts())
    assert row == Row({"a": ("lemma",), "b": ("XP",), "c": ("_",)}, (str(tmp_path / "a.conllu"), 1), (1,))


def test_no_candidate_is_a_column(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(SAMPLE)
    with pytest.raises(UserError) as caught:
        list(read_file(tmp_path / "a.conllu", {"words": ("form",), "tags": ("pos", "tag")}, ORDER, Counts()))
    assert caught.value.message == f"{tmp_path}/a.conllu: CoNLL-U has no column for tags (pos or tag)"
    assert caught.value.hint == f"its columns are {', '.join(COLUMNS)}"


@pytest.mark.parametrize(
    ("bad", "count"), [("1", 1), (line("3").replace("\t", " ")[:-1], 1), (line("3")[:-3], 9), (line("3")[:-1] + "\t_", 11)]
)
def test_other_than_ten_columns(tmp_path: Path, bad: str, count: int) -> None:
    error = refused(tmp_path / "a.conllu", line("1") + "\n" + line("1") + line("2") + bad)
    assert error.message == f"{tmp_path}/a.conllu:5: {count} column(s), expected 10: {bad.split(chr(9))[0]!r}"
    assert "single tabs" in error.hint


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("1 2 3 5", "4: id 5 after id 3; expected 4"),
        ("1 2 3 1", "4: id 1 after id 3; expected 4"),
        ("2", "1: id 2 at the beginning; expected 1"),
        ("0", "1: id 0 at the beginning; expected 1"),
        ("1 02", "2: id 02 after id 1; expected 2"),
        ("1 _", "2: id '_' after id 1; expected 2"),
        ("1 ٢", "2: id '٢' after id 1; expected 2"),
        ("1 1-2", "2: id 1-2 after id 1; expected 2-2, 2-3 or further"),
        ("3-4 1", "1: id 3-4 at the beginning; expected 1-1, 1-2 or further"),
        ("1 2-1 2", "2: id 2-1 after id 1; expected 2-2, 2-3 or further"),
        ("1 2- 2", "2: id 2- after id 1; expected 2-2, 2-3 or further"),
        ("1 2-" + "9" * 5000, f"2: id {'2-' + '9' * 57 + '…'!r} after id 1; expected 2-2, 2-3 or further"),
        ("1 2.1", "2: id 2.1 after id 1; expected 1.1"),
        ("1 1.2", "2: id 1.2 after id 1; expected 1.1"),
        ("1 1.1 1.1", "3: id 1.1 after id 1; expected 1.2"),
        ("1.1", "1: id 1.1 at the beginning; expected 0.1"),
        ("1 1.1 2 1.2", "4: id 1.2 after id 2; expected 2.1"),
    ],
)
def test_ids_out_of_order(tmp_path: Path, ids: str, message: str) -> None:
    assert refusal(tmp_path / "a.conllu", "".join(map(line, ids.split()))) == f"{tmp_path}/a.conllu:{message}"


@pytest.mark.parametrize("ids", ["1 1.1 1.2 2 2.1 3", "0.1 0.2 1", "1-2 1 2 3-3 3", "1 1.1 2-3 2 3"])
def test_ids_in_order(tmp_path: Path, ids: str) -> None:
    words = [(x, line) for line, x in enumerate(ids.split(), 1) if x.isdigit()]
    content = "".join(line(identifier, identifier) for identifier in ids.split())
    assert sentences(tmp_path / "a.conllu", content) == [[(word, "X", number) for word, number in words]]


def test_a_word_without_form(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.conllu", "#\n" + line("1") + line("2", "")) == f"{tmp_path}/a.conllu:3: word 2 has no form"


# Bytes that stay as they were


def test_blocks_of_a_file() -> None:
    first, second = cut(SAMPLE.encode())
    assert first.words == ("Do", "n't", "go")
    assert first.places == (3, 4, 5)
    assert first.raw == tuple(SAMPLE.encode().splitlines(keepends=True)[:9])
    assert (first.where, second.where) == (("f", 4), ("f", 11))


def test_what_is_no_sentence_belongs_to_a_block_without_words() -> None:
    found = cut(b"\n\r\n# a\n\n" + line("1").encode() + b"\t\n\n# end")
    assert [(block.words, len(block.raw), block.where.line) for block in found] == [
        ((), 2, 1),
        ((), 2, 3),
        (("x",), 3, 5),
        ((), 1, 8),
    ]
    assert cut(b"") == []


def test_a_column_is_filled_and_nothing_else() -> None:
    first, second = cut(SAMPLE.encode())
    expected = SAMPLE.replace("\tAUX\t", "\tX Y\t").replace("\tPART\t", "\t\t").replace("\tVERB\t", "\té\t").encode()
    assert fill(first, "upos", ["X Y", "", "é"]) + fill(second, "upos", ["NUM", "SYM"]) == expected
    filled = fill(second, "misc", ["a", "b"]).decode()
    assert filled == "# text = 10 000 €\n" + line("1", "10 000", "NUM")[:-2] + "a\n" + line("2", "€", "SYM")[:-2] + "b\n\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_the_last_column_is_filled_before_the_end_of_the_line(end: str) -> None:
    (block,) = cut((line("1")[:-1] + end).encode())
    assert fill(block, "misc", ["SpaceAfter=No"]) == (line("1")[:-2] + "SpaceAfter=No" + end).encode()


@pytest.mark.parametrize("values", [[], ["a"], ["a", "b", "c"], ["a\tb", "c"], ["a", "b\n"]])
def test_values_that_do_not_fit(values: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^f:11: "):
        fill(cut(SAMPLE.encode())[1], "upos", values)


def test_a_column_that_is_none() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        fill(cut(SAMPLE.encode())[0], "tags", ["a", "b", "c"])


CELL = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), max_size=3) | st.sampled_from(
    ["_", " ", "\u2028"]
)
BLANK = st.sampled_from(["", " ", "\t", "\t\t", "\r"])
COMMENT = CELL.map(lambda text: "#" + text)


@st.composite
def treebanks(draw: st.DrawFn) -> bytes:
    """A file of sentences with all that may stand between their words, and with blank lines in any place."""
    content = draw(st.lists(BLANK | COMMENT, max_size=3))
    for _ in range(draw(st.integers(0, 3))):
        content += draw(st.lists(COMMENT, max_size=2))
        for word in range(1, 1 + draw(st.integers(0, 3))):
            ids = (
                [f"{word}-{word + 1}"] * draw(st.booleans()) + [str(word)] + [f"{word}.1", f"{word}.2"][: draw(st.integers(0, 2))]
            )
            for identifier in ids:
                form = draw(CELL.filter(bool))
                content.append("\t".join([identifier, form, *draw(st.lists(CELL, min_size=8, max_size=8))]))
                content += draw(st.lists(COMMENT, max_size=1))
        content += draw(st.lists(BLANK, min_size=1, max_size=3))
    lines = [text + draw(st.sampled_from(["\n", "\r\n"])) for text in content]
    text = draw(st.sampled_from(["", "\ufeff"])) + "".join(lines)
    return (text.rstrip("\r\n") if draw(st.booleans()) else text).encode()


@settings(deadline=None)
@given(treebanks(), st.sampled_from(COLUMNS))
def test_every_byte_is_in_a_block_and_stays_as_it_was(content: bytes, column: str) -> None:
    found = cut(content)
    assert b"".join(part for block in found for part in block.raw) == content
    assert b"".join(fill(block, column, column_of(block, column)) for block in found) == content
    for block in found:
        assert column_of(block, "form") == block.words
        filled = fill(block, column, [str(n + 1) for n in range(len(block.words))])
        assert len(filled.split(b"\n")) == len(b"".join(block.raw).split(b"\n"))
        (again,) = cut(filled) or [block]
        assert column_of(again, column) == tuple(str(n + 1) for n in range(len(block.words)))
        assert fill(again, column, column_of(block, column)) == b"".join(block.raw)


# Size


@pytest.mark.parametrize("name", ["a.conllu", "a.conll"])
def test_a_long_sentence_is_quick(tmp_path: Path, name: str) -> None:
    count = 5000
    content = "".join(line(str(n), f"w{n}") if name == "a.conllu" else f"w{n}\tX\n" for n in range(1, count + 1))
    start = time.process_time()
    (found,) = sentences(tmp_path / name, content)
    assert found == [(f"w{n}", "X", n) for n in range(1, count + 1)]
    if name == "a.conllu":
        (block,) = cut(content.encode())
        assert fill(block, "upos", ["X"] * count) == content.encode()
    assert time.process_time() - start < 2
