"""Files to rows: each format, and each way a file can be wrong, with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nlp_tasks.data.formats import labelled_files, read_file
from nlp_tasks.data.rows import Counts
from nlp_tasks.errors import UserError

COLUMNS = {"text": ("text", "sentence"), "label": ("label",)}
ORDER = ("text", "label")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def rows(
    path: Path, content: str | bytes, *, counts: Counts | None = None, order: tuple[str, ...] = ORDER
) -> list[tuple[str, str, int]]:
    """(text, label, line) of each row of a file with this content."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = list(read_file(path, COLUMNS, order, Counts() if counts is None else counts))
    assert {row.where.file for row in found} <= {str(path)}
    return [(row.fields["text"], row.fields["label"], row.where.line) for row in found]


def refusal(path: Path, content: str | bytes | None = None, *, order: tuple[str, ...] = ORDER) -> str:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as caught:
        list(read_file(path, COLUMNS, order, Counts()))
    assert caught.value.hint
    return caught.value.message


# What is read


@pytest.mark.parametrize("suffix", [".tsv", ".tab", ".txt"])
def test_tab_separated(place: Path, suffix: str) -> None:
    assert rows(place / f"a{suffix}", "good\tpos\nbad, \tneg\n") == [("good", "pos", 1), ("bad, ", "neg", 2)]


def test_quotes_in_tab_separated_files_are_text(place: Path) -> None:
    content = '"I saw it\tneg\n"quoted" and ""more""\tpos\n'
    assert rows(place / "a.tsv", content) == [('"I saw it', "neg", 1), ('"quoted" and ""more""', "pos", 2)]


def test_comma_separated_with_quotes(place: Path) -> None:
    content = 'good,pos\n"bad, really ""bad""",neg\n'
    assert rows(place / "a.csv", content) == [("good", "pos", 1), ('bad, really "bad"', "neg", 2)]


def test_a_cell_of_several_lines_counts_them(place: Path) -> None:
    content = 'one,a\n"two\n\nlines",b\n\nthree,c\n"four\r\n",d\nfive,e\n'
    expected = [("one", "a", 1), ("two\n\nlines", "b", 2), ("three", "c", 6), ("four\r\n", "d", 7), ("five", "e", 9)]
    assert rows(place / "a.csv", content) == expected


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson"])
def test_json_lines(place: Path, suffix: str) -> None:
    lines = [
        {"label": "pos", "text": "a\nb\t\U0001f44d", "more": [1]},
        {"sentence": "c", "label": 1},
        {"text": "d", "label": False},
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    assert rows(place / f"a{suffix}", content) == [("a\nb\t\U0001f44d", "pos", 1), ("c", "1", 2), ("d", "false", 3)]


def test_folders(place: Path) -> None:
    files = {"pos/b.txt": "fine\r\nfilm\n", "pos/a.txt": "\ufeffgood", "neg/c.txt": "", "neg/.hidden": "x", ".git/HEAD": "x", "README": "x",
             "neg/deeper/d.txt": "x"}  # fmt: skip
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content.encode())
    found = list(read_file(place, COLUMNS, ORDER, Counts()))
    assert [(row.fields["text"], row.fields["label"], row.where.file) for row in found] == [
        ("", "neg", str(place / "neg/c.txt")),
        ("good", "pos", str(place / "pos/a.txt")),
        ("fine\r\nfilm\n", "pos", str(place / "pos/b.txt")),
    ]
    assert [file.name for file in labelled_files(place)] == ["c.txt", "a.txt", "b.txt"]


@pytest.mark.parametrize("header", ["label\ttext", "id\tLabel\tSentence", " LABEL \tx\ttext\ty"])
def test_a_header_line_is_known_by_its_names(place: Path, header: str) -> None:
    cells = {"label": "neg", "text": "bad", "sentence": "bad"}
    row = "\t".join(cells.get(name.strip().lower(), "?") for name in header.split("\t"))
    assert rows(place / "a.tsv", f"{header}\n{row}\n") == [("bad", "neg", 2)]
    assert rows(place / "a.csv", f"{header}\n{row}\n".replace("\t", ",")) == [("bad", "neg", 2)]


def test_the_first_name_of_a_column_is_preferred(place: Path) -> None:
    assert rows(place / "a.csv", "sentence,label,text\na,b,c\n") == [("c", "b", 2)]
    assert rows(place / "a.jsonl", '{"sentence": "a", "label": "b", "text": "c"}') == [("c", "b", 1)]


def test_without_a_header_line_the_order_of_columns_counts(place: Path) -> None:
    assert rows(place / "a.tsv", "1\tneg\tbad\textra\n", order=("id", "label", "text")) == [("bad", "neg", 1)]


def test_line_ends_and_byte_order_mark_are_no_text(place: Path) -> None:
    assert rows(place / "a.tsv", "\ufeffgood\tpos\r\nbad\tneg\r\n") == [("good", "pos", 1), ("bad", "neg", 2)]
    assert rows(place / "a.csv", "\ufefftext,label\r\ngood,pos\r\nbad,neg") == [("good", "pos", 2), ("bad", "neg", 3)]
    assert rows(place / "a.jsonl", '\ufeff{"text": "good", "label": "pos"}\r\n') == [("good", "pos", 1)]


@pytest.mark.parametrize("character", ["\u0085", "\u2028", "\x0b", "\x0c", "\x1c"])
def test_only_a_line_feed_ends_a_line(place: Path, character: str) -> None:
    text = f"one{character}two"
    expected = [(text, "pos", 1), ("b", "neg", 2)]
    assert rows(place / "a.tsv", f"{text}\tpos\nb\tneg\n") == expected
    assert rows(place / "a.csv", f"{text},pos\nb,neg\n") == expected
    if character >= "\x80":  # JSON has no bare control characters
        assert rows(place / "a.jsonl", f'{{"text": "{text}", "label": "pos"}}\n{{"text": "b", "label": "neg"}}\n') == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "\na\tb\n\t\n  \nc\td"),
        ("a.csv", "\na,b\n,\n  \nc,d"),
        ("a.jsonl", '\n{"text":"a","label":"b"}\n \n\t\n{"text":"c","label":"d"}'),
    ],
)
def test_blank_lines_are_left_out_and_counted(place: Path, name: str, content: str) -> None:
    counts = Counts()
    assert rows(place / name, content, counts=counts) == [("a", "b", 2), ("c", "d", 5)]
    assert counts.dropped == {"blank line": 3}
    assert str(counts) == "0 rows, 3 left out (blank line)"


def test_an_empty_label_is_for_the_task_to_refuse(place: Path) -> None:
    assert rows(place / "a.tsv", "good\t\n\tneg\n") == [("good", "", 1), ("", "neg", 2)]


# What is refused


def test_a_missing_file(place: Path) -> None:
    assert refusal(place / "none.csv") == f"no file {place}/none.csv"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff\n"])
def test_an_empty_file(place: Path, name: str, content: str) -> None:
    assert refusal(place / name, content) == f"{place / name}: empty file"


@pytest.mark.parametrize("name", ["a.xlsx", "a.json", "a"])
def test_an_unknown_kind_of_file(place: Path, name: str) -> None:
    assert refusal(place / name, "x").startswith(f"{place / name}: unknown kind of file {Path(name).suffix!r}")


def test_folders_without_files(place: Path) -> None:
    (place / "pos").mkdir()
    (place / "lost.txt").write_text("x")
    assert refusal(place) == f"{place}: no files in folders below it"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", b"a\tb\n\ncaf\xe9\tb\n"),
        ("a.csv", b'a,b\n"two\nlin\xe9s",b\n'),
        ("a.jsonl", b'{"text":"a","label":"b"}\n\n{"text":"\xe9","label":"b"}'),
    ],
)
def test_invalid_utf8(place: Path, name: str, content: bytes) -> None:
    assert refusal(place / name, content).startswith(f"{place / name}:3: invalid UTF-8 at byte ")


def test_invalid_utf8_shows_its_bytes(place: Path) -> None:
    assert "at byte 3 of the line (e9 09 62)" in refusal(place / "a.tsv", b"caf\xe9\tb")
    assert "at byte 3 of the line (e9 09 62)" in refusal(place / "a.tsv", b"\xef\xbb\xbfcaf\xe9\tb")


def test_invalid_utf8_in_a_folder(place: Path) -> None:
    (place / "pos").mkdir()
    (place / "pos" / "a.txt").write_bytes(b"fine\n\xff")
    assert refusal(place).startswith(f"{place}/pos/a.txt:2: invalid UTF-8 at byte 0")


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.tsv", "good\tpos\n\nalone\n", 3),
        ("a.csv", 'text,label\n"two\nlines",pos\nalone\n', 4),
        ("a.csv", "x,text,label\n1,alone\n", 2),
    ],
)
def test_a_row_without_a_column(place: Path, name: str, content: str, line: int) -> None:
    message = refusal(place / name, content)
    assert message.startswith(f"{place / name}:{line}: ")
    assert "no label" in message


def test_a_row_without_a_column_shows_its_beginning_only(place: Path) -> None:
    assert refusal(place / "a.tsv", "x" * 1000).endswith(f": {'x' * 59 + '…'!r}")


@pytest.mark.parametrize(("header", "missing"), [("text,stars", "label"), ("label,review", "text")])
def test_a_header_line_without_a_column(place: Path, header: str, missing: str) -> None:
    path = place / "a.csv"
    assert (
        refusal(path, f"\n{header}\na,b\n")
        == f"{path}:2: the header line has no column for {missing}: it has {header.replace(',', ', ')!r}"
    )


@pytest.mark.parametrize("order", [("text",), ("a", "b")])
def test_an_order_of_columns_without_a_column(place: Path, order: tuple[str, ...]) -> None:
    message = refusal(place / "a.tsv", "good\tpos\n", order=order)
    assert message.startswith(f"{place}/a.tsv:1: no header line, and the columns {', '.join(order)} have no label")


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '{"text": "a", "label": }',
        "\ufeff{}",
        "[" * 100_000,
        '{"text": "a", "label": ' + "1" * 5000 + "}",
        '{"text": "a\x01", "label": 1}',
    ],
    ids=["open", "no value", "byte-order mark", "deep", "long number", "control character"],
)
def test_broken_json(place: Path, line: str) -> None:
    assert refusal(place / "a.jsonl", '{"text": "a", "label": "b"}\n\n' + line).startswith(f"{place}/a.jsonl:3: broken JSON: ")


@pytest.mark.parametrize("line", ["[1]", "3", "null", '"text"'])
def test_json_that_is_no_object(place: Path, line: str) -> None:
    assert refusal(place / "a.jsonl", line).startswith(f"{place}/a.jsonl:1: a {type(json.loads(line)).__name__}, not an object")


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ('{"text": "a"}', "no label (keys: text)"),
        ('{"text": "a", "label": null}', "no label (keys: text, label)"),
        ('{"label": 1, "text": ["a"]}', "no text (keys: label, text)"),
        ("{}", "no text (keys: none)"),
    ],
)
def test_json_without_a_key(place: Path, line: str, missing: str) -> None:
    assert refusal(place / "a.jsonl", "\n" + line) == f"{place}/a.jsonl:2: {missing}"


def test_json_with_half_a_surrogate_pair(place: Path) -> None:
    assert refusal(place / "a.jsonl", r'{"text": "cut \ud83d", "label": 1}').startswith(
        f"{place}/a.jsonl:1: text is no Unicode text"
    )


@pytest.mark.parametrize("row", ['"good" film,pos', '"never closed,pos\nc,d\n', "old\rMac,pos"])
def test_broken_csv(place: Path, row: str) -> None:
    assert refusal(place / "a.csv", '"a\nb",c\n' + row).startswith(f"{place}/a.csv:3: broken CSV: ")
