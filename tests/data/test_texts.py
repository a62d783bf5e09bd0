"""Running text: parts of files, pieces of whole lines, folders dealt out by document."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlp_tasks import recipe
from nlp_tasks.data import texts
from nlp_tasks.data.rows import Counts
from nlp_tasks.data.texts import LONGEST, PIECE, Part, Texts, check_exists, cut
from nlp_tasks.errors import UserError

Documents = list[tuple[str, int]]


class Data(recipe.Data, frozen=True, kw_only=True):
    pattern: str = "**/*.txt"


def rows(folder: Path, split: str, **data: Any) -> Documents:
    return [(row.fields["text"], row.where.line) for row in Texts(Data(directory=str(folder), **data)).rows(split, Counts())]


def text(folder: Path, split: str, **data: Any) -> str:
    return "".join(piece for piece, _ in rows(folder, split, **data))


def covered(folder: Path, split: str, **data: Any) -> list[bytes]:
    """The bytes of each document of a split."""
    documents = Texts(Data(directory=str(folder), **data)).documents(split)
    return [document.path.read_bytes()[document.start : document.end] for document in documents]


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert caught.value.hint
    return caught.value


def new(folder: Path, content: str | bytes, name: str = "input.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Parts


@pytest.mark.parametrize(
    ("split", "path", "start", "end"),
    [
        ("input.txt", "input.txt", 0, 1),
        ("input.txt[:]", "input.txt", 0, 1),
        ("input.txt[:85.5%]", "input.txt", 0, Fraction(171, 200)),
        ("a[1]/b.txt[85.5%:]", "a[1]/b.txt", Fraction(171, 200), 1),
        ("tunes[0%:12.5%]", "tunes", 0, Fraction(1, 8)),
        ("[33.3%:100%]", "", Fraction(333, 1000), 1),
        ("a.txt[8.1e-05%:]", "a.txt", Fraction(81, 10**8), 1),
        ("a[1].txt", "a[1].txt", 0, 1),
    ],
)
def test_a_part_is_a_path_and_an_exact_share(split: str, path: str, start: Fraction, end: Fraction) -> None:
    assert Part.of(split) == (path, start, end)


@pytest.mark.parametrize(
    "share",
    [
        "",
        "1",
        "90",
        ":90",
        "90%",
        ":1.2.3%",
        ":.%",
        "50%:50%",
        "60%:50%",
        ":101%",
        "-5%:",
        ":0%",
        "100%:",
        "a:b",
        "10%:20%:30%",
        ":1-2%",
    ],
)
def test_what_is_no_part_is_refused(share: str) -> None:
    error = refusal(Part.of, f"input.txt[{share}]")
    assert error.message == f"'input.txt[{share}]': not a part of a text"
    assert "FILE[:90%]" in error.hint


CUTS = st.lists(st.integers(1, 999), min_size=1, max_size=4, unique=True).map(sorted)


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("ab é中👩\r\n"), max_size=40), CUTS)
@example("👩", [250, 500, 750])
@example("a\r\nb\r\n", [334, 500])
@example("", [500])
def test_the_parts_of_a_file_are_disjoint_and_together_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: str, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    encoded = content.encode()
    new(folder, encoded)
    borders = ["", *(f"{cut / 10}%" for cut in cuts), ""]
    splits = [f"input.txt[{start}:{end}]" for start, end in pairwise(borders)]
    parts = [b"".join(covered(folder, split)) for split in splits]
    assert b"".join(parts) == encoded
    assert all(part.decode() is not None for part in parts)  # cut at characters
    for part, last in zip(parts, [*cuts, 1000], strict=True):  # and never far from the share
        end = len(b"".join(parts[: parts.index(part) + 1])) if parts.count(part) == 1 else None
        assert end is None or 0 <= len(encoded) * last // 1000 - end <= 3
    whole = re.sub("\r+\n", lambda found: found[0][:-2] + "\n", content)
    lacks = bool(whole) and not whole.endswith("\n")
    # A carriage return alone is kept; one before a line feed goes, as in a file that is read whole.
    assert "".join(text(folder, split) for split in splits) == text(folder, "input.txt") == whole + "\n" * lacks


def test_a_text_in_ascii_is_cut_where_nano_gpt_cuts_it(tmp_path: Path) -> None:
    for size in (1, 9, 10, 11, 99, 12_345, 111_541, 1_115_394):
        content = ("To be, or not to be\n" * (size // 20 + 1))[:size]
        new(tmp_path, content)
        assert b"".join(covered(tmp_path, "input.txt[:90%]")).decode() == content[: int(size * 0.9)]
        assert b"".join(covered(tmp_path, "input.txt[90%:]")).decode() == content[int(size * 0.9) :]


def test_lines_are_numbered_behind_a_cut(tmp_path: Path) -> None:
    line = "x" * 99 + "\n"
    new(tmp_path, line * 100)
    places = rows(tmp_path, "input.txt[35.5%:]")
    assert [number for _, number in places] == [36, 57, 77, 97]  # 50 characters, then 20 lines to have 2,000
    assert places[0][0] == line[50:] + 20 * line
    assert rows(tmp_path, "input.txt[35%:]")[0] == (20 * line, 36)
    assert rows(tmp_path, "input.txt[:0.5%]") == [("x" * 50, 1)]


# Lines and pieces


def test_pieces_are_whole_lines_and_know_where_they_begin(tmp_path: Path) -> None:
    lines = [f"{'word ' * (number % 60)}{number}\n" for number in range(500)]
    path = new(tmp_path, "".join(lines))
    counts = Counts()
    found = list(Texts(Data()).rows(str(path), counts))
    assert counts.read == len(found) > 10
    begin = 0
    for row in found:
        count = row.fields["text"].count("\n")
        assert row.fields["text"] == "".join(lines[begin : begin + count])
        assert str(row.where) == f"{path}:{begin + 1}"
        begin += count
        assert begin == 500 or PIECE <= len(row.fields["text"]) < PIECE + 310
    assert begin == 500


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ""),
        (b"\n\n", "\n\n"),
        (b"a\r\nb\r\n\r\n", "a\nb\n\n"),
        (b"a\rb\r\r\n", "a\rb\r\n"),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", "a\n\ufeffb\n"),
        (b"last", "last\n"),
        ("\u2028é\x0b\x85".encode(), "\u2028é\x0b\x85\n"),
    ],
)
def test_line_ends_and_byte_order_marks(tmp_path: Path, content: bytes, expected: str) -> None:
    new(tmp_path, content)
    assert text(tmp_path, "input.txt") == expected


def test_a_part_that_ends_inside_of_a_line_gets_no_line_end(tmp_path: Path) -> None:
    new(tmp_path, "abcdefgh")
    assert [text(tmp_path, f"input.txt[{part}]") for part in (":25%", "25%:75%", "75%:")] == ["ab", "cdef", "gh\n"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize(
    "line",
    [
        b"x" * (LONGEST - 1),
        b"x" * LONGEST,
        b"x" * (2 * LONGEST + 7),
        "👩".encode() * LONGEST,
        b"x" + "👩é".encode() * (LONGEST // 3),
        b"word and " * (LONGEST // 3),
        b"x" * (LONGEST - 2) + b" " + "中".encode() + b" y" * LONGEST,
    ],
    ids=["shorter", "as long", "longer", "four bytes", "shifted", "spaces", "a space before the border"],
)
def test_long_lines_come_in_parts(tmp_path: Path, line: bytes, end: bytes) -> None:
    new(tmp_path, b"first\n" + line + end + b"third\n" * bool(end))
    found = rows(tmp_path, "input.txt")
    assert "".join(piece for piece, _ in found) == "first\n" + line.decode() + "\n" + "third\n" * bool(end)
    assert max(len(piece) for piece, _ in found) <= 2 * LONGEST + PIECE
    assert {number for _, number in found} <= {1, 2, 3}
    if b" " in line:
        assert all(piece[-1] in " \n" for piece, _ in found)


def test_a_part_of_one_long_line(tmp_path: Path) -> None:
    content = "中é " * LONGEST
    new(tmp_path, content)
    assert text(tmp_path, "input.txt[:40%]") + text(tmp_path, "input.txt[40%:]") == content + "\n"


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        (b"one\ntwo\nth\0ree\n", 3, "a NUL byte; is this a binary file?"),
        (b"one\ntwo \xff\xfebc", 2, "invalid UTF-8 (ff fe 62 63); is this a binary file?"),
        (b"one\n\xc3\nthree\n", 2, "invalid UTF-8 (c3 0a); is this a binary file?"),
        (b"one\ntwo\n\xe4\xb8", 3, "invalid UTF-8 (e4 b8); is this a binary file?"),
        (b"one\n" + b"x" * (LONGEST - 1) + b"\xe4\xff\xfe\n", 2, "invalid UTF-8 (e4 ff fe 0a); is this a binary file?"),
        (b"\xed\xa0\x80", 1, "invalid UTF-8 (ed a0 80); is this a binary file?"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(tmp_path: Path, content: bytes, line: int, what: str) -> None:
    path = new(tmp_path, content)
    assert refusal(rows, tmp_path, "input.txt").message == f"{path}:{line}: {what}"


def test_lines_of_a_part_that_is_no_text_are_those_of_the_file(tmp_path: Path) -> None:
    path = new(tmp_path, b"one\ntwo\n" * 4 + b"a\xffb\n")
    assert refusal(rows, tmp_path, "input.txt[50%:]").message.startswith(f"{path}:9: invalid UTF-8 (ff 62 0a)")
    assert text(tmp_path, "input.txt[:50%]") == ("one\ntwo\n" * 4)[:18]


def test_a_large_file_is_read_with_little_memory(tmp_path: Path) -> None:
    line = "To be, or not to be: that is the question. é " * 40 + "\n"
    path = tmp_path / "large.txt"
    with path.open("w") as file:
        for _ in range(50):
            file.write(line * 550 + "x" * 50_000)
    size = path.stat().st_size
    assert size > 50_000_000
    source = Texts(Data())
    tracemalloc.start()
    try:
        read = sum(len(row.fields["text"].encode()) for row in source.rows(f"{path}[40%:]", Counts()))
        source.fingerprint(f"{path}[90%:]")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read == pytest.approx(size * 0.6, abs=5)
    assert peak < 5_000_000


# Folders and tunes


def folder_of(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        new(folder, content, name.replace("__", "/") + ".txt")
    return folder


def test_a_folder_is_its_files_by_name(tmp_path: Path) -> None:
    folder_of(tmp_path / "all", b="b\n", a__z="z", a__a="a\n", _hidden="h\n")
    for name in (".git/x.txt", ".x.txt", "a/__pycache__/x.txt", "site-packages/x.txt", "a.md", "a/dist-packages/y/x.txt"):
        new(tmp_path / "all", f"{name}\n", name)
    assert rows(tmp_path, "all") == [("h\n", 1), ("a\n", 1), ("z\n", 1), ("b\n", 1)]
    assert text(tmp_path, "all", pattern="*.txt") == "h\nb\n"
    assert text(tmp_path, "all", pattern="**/*.md") == "a.md\n"
    assert text(tmp_path / "all", "") == text(tmp_path, "all")


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    folder_of(tmp_path / ".cache" / "all", a="a\n")
    assert text(tmp_path, ".cache/all") == "a\n"


@pytest.mark.parametrize("pattern", ["*.html", "", "/x/*", "**"])
def test_a_pattern_that_finds_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "empty").mkdir()
    assert f"data.pattern = {pattern!r}" in refusal(rows, tmp_path, "empty", pattern=pattern).message


def test_a_missing_file_says_where_the_data_comes_from() -> None:
    error = refusal(check_exists, Data(directory="/nowhere", origin="https://example.org"), "input.txt[:90%]")
    assert error.message == "no file /nowhere/input.txt"
    assert error.hint.startswith("the data comes from https://example.org; name files or folders by data.train")
    assert refusal(rows, Path("/nowhere"), "input.txt[:90%]").message == error.message


def test_the_tunes_of_a_file_are_documents(tmp_path: Path) -> None:
    tunes = ["% a head\n\n", "X:1\nT:One\nK:G\nABc|\n\n", "X:2\nT:Two\nK:D\n|:X:|\n", "X: 3\r\nK:C\r\nabc"]
    for name in ("a.abc", "b.ABC"):
        new(tmp_path, "".join(tunes), name)
        assert [part.decode() for part in covered(tmp_path, name)] == tunes
        assert rows(tmp_path, name) == [
            (tunes[0], 1), (tunes[1], 3), (tunes[2], 8), ("X: 3\nK:C\nabc\n", 12)
        ]  # fmt: skip
    assert covered(tmp_path, "", pattern="*.[aA][bB][cC]") == 2 * [tune.encode() for tune in tunes]
    new(tmp_path, "X:1\nabc", "first.abc")
    new(tmp_path, "", "none.abc")
    assert covered(tmp_path, "first.abc") == [b"X:1\nabc"]
    assert covered(tmp_path, "none.abc") == []


SHARES = ("[:60%]", "[60%:80%]", "[80%:]")


def test_documents_are_dealt_out(tmp_path: Path) -> None:
    contents = [f"document {number % 800}\n" for number in range(1000)]  # 200 of them twice
    for number, content in enumerate(contents):
        new(tmp_path, content, f"all/{number % 7}/{number}.txt")
        new(tmp_path, content, f"other/{999 - number}.txt")
    new(tmp_path, "".join(f"X:{content}" for content in contents), "tunes.abc")
    for name in ("all", "other", "tunes.abc"):
        parts = [covered(tmp_path, f"{name}{share}") for share in SHARES]
        assert sorted(chain(*parts)) == sorted(covered(tmp_path, name))
        assert sum(map(len, parts)) == 1000
        assert not set(parts[0]) & set(parts[1]) and not set(parts[1]) & set(parts[2]) and not set(parts[0]) & set(parts[2])
        for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
            assert abs(len(set(part)) - 800 * share) < 5 * (800 * share * (1 - share)) ** 0.5
    for share in SHARES:
        assert sorted(covered(tmp_path, f"all{share}")) == sorted(covered(tmp_path, f"other{share}"))


# Fingerprints


def test_a_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    source = Texts(Data(directory=str(tmp_path)))

    def fingerprints(content: str) -> list[str]:
        new(tmp_path, content)
        return [source.fingerprint(f"input.txt{part}") for part in ("", "[:50%]", "[50%:]")]

    first = fingerprints("abcdefgh")
    assert len(set(first)) == 3
    new(tmp_path, "abcdefgh", "copy.txt")
    assert source.fingerprint("copy.txt") == first[0] == source.fingerprint("input.txt[:]")
    changed = fingerprints("abcdefgX")
    assert [one == other for one, other in zip(first, changed, strict=True)] == [False, True, False]
    assert fingerprints("abcdefgh") == first


def test_the_fingerprint_of_a_folder_is_that_of_its_documents(tmp_path: Path) -> None:
    source = Texts(Data(directory=str(tmp_path)))
    folder_of(tmp_path / "a", one="one\n", two="two\n")
    folder_of(tmp_path / "b", one="one\ntwo\n", two="")
    folder_of(tmp_path / "c", x__1="one\n", x__2="two\n")
    a, b, c = map(source.fingerprint, "abc")
    assert a == c != b
    new(tmp_path, "ignored", "a/three.md")
    assert source.fingerprint("a") == a
    new(tmp_path, "two!\n", "a/two.txt")
    assert source.fingerprint("a") != a


# Splits that a recipe leaves open


@pytest.mark.parametrize("validation", ["", "v.txt"])
@pytest.mark.parametrize("test", ["", "t.txt"])
@pytest.mark.parametrize(
    ("train", "start", "end"),
    [
        ("a.txt", 0, 1),
        ("a.txt[:80%]", 0, Fraction(4, 5)),
        ("a.txt[20%:70%]", Fraction(1, 5), Fraction(7, 10)),
        ("a[10%:]", Fraction(1, 10), 1),
    ],
)
@pytest.mark.parametrize(("validation_share", "test_share"), [(0.1, 0.1), (0.2, 0.0), (0.0, 0.25), (0.0, 0.0), (0.5, 0.5)])
def test_open_splits_are_the_last_shares_of_train(
    validation: str, test: str, train: str, start: Fraction, end: Fraction, validation_share: float, test_share: float
) -> None:
    given = Data(train=train, validation=validation, test=test, validation_share=validation_share, test_share=test_share)
    named = cut(given)
    assert cut(named) == named or not (validation_share and test_share)
    path, whole = train.partition("[")[0], Fraction(end) - start
    taken = Fraction(str(test_share)) * whole if not test else 0
    shown = Fraction(str(validation_share)) * (whole - taken) if not validation else 0
    assert Part.of(named.train) == (path, start, end - taken - shown)
    if test or not test_share:
        assert named.test == test
    else:
        assert Part.of(named.test) == (path, end - taken, end)
    if validation or not validation_share:
        assert named.validation == validation
    else:
        assert Part.of(named.validation) == (path, end - taken - shown, end - taken)
    if named.train == train:
        assert named == given


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 0.999), st.floats(0, 0.999), st.sampled_from(["input.txt", "input.txt[:7.1%]", "input.txt[33.333333333%:]"]))
@example(1e-5, 0.99999, "input.txt")
@example(0.1, 0.1, "input.txt[:0.0001%]")
def test_open_splits_are_disjoint_whatever_their_shares(
    tmp_path_factory: pytest.TempPathFactory, validation_share: float, test_share: float, train: str
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    content = bytes(range(33, 127)) * 11
    new(folder, content)
    try:
        data = cut(Data(directory=str(folder), train=train, validation_share=validation_share, test_share=test_share))
        parts = [b"".join(covered(folder, split)) for split in (data.train, data.validation, data.test) if split]
    except UserError as error:  # so small a share that its ends are one number
        assert "not a part of a text" in error.message and min(validation_share, test_share) < 1e-11
        return
    assert abs(len(b"".join(parts)) - len(b"".join(covered(folder, train)))) <= 1
    assert b"".join(parts) in content


@pytest.mark.parametrize(
    "data",
    [
        Data(),
        Data(train="", test="t.txt"),
        Data(source="toy_world", train="train"),
        Data(source="tfds:lm1b", train="train[:1000]"),
        Data(source="tfds:lm1b", train="train[:90%]+test"),
        Data(train="a.txt", validation="b.txt", test="c.txt"),
        Data(train="a.txt", validation_share=0, test_share=0),
    ],
)
def test_other_data_stays_as_it_is(data: Data) -> None:
    assert cut(data) == data


def test_a_part_cut_by_the_recipe_is_the_part_of_a_folder_too(tmp_path: Path) -> None:
    for number in range(300):
        new(tmp_path, f"document {number}\n", f"all/{number}.txt")
    data = cut(Data(directory=str(tmp_path), train="all", validation_share=0.2, test_share=0.3))
    parts = [set(covered(tmp_path, split)) for split in (data.train, data.validation, data.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 300
    assert all(parts)


def test_the_standard_library_is_a_folder_of_source_code(monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    data = Data(source="standard_library", train="json", pattern="**/*.py")
    rows = list(Texts(data).rows("json", Counts()))
    files = sorted(Path(json.__file__).parent.glob("**/*.py"))
    assert "".join(row.fields["text"] for row in rows) == "".join(file.read_text(encoding="utf-8") for file in files)
    assert rows[0].where.file == str(files[0])
    assert cut(data).test == "json[90%:]"


def test_data_of_other_tasks_has_no_pattern(tmp_path: Path) -> None:
    folder_of(tmp_path / "all", a="a\n")
    source = Texts(recipe.Data(directory=str(tmp_path)))
    assert [row.fields["text"] for row in source.rows("all", Counts())] == ["a\n"]
    assert msgspec.structs.asdict(texts.cut(recipe.Data(train="all")))["test"] == "all[90%:]"
