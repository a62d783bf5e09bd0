"""What rows are suspect of: found where it is, and nowhere else."""

from __future__ import annotations

import pytest

from nlp_tasks.data.findings import PLACES, SUSPICIONS, Finding, Tally, main_script, suspicions
from nlp_tasks.data.rows import Where


@pytest.mark.parametrize("text", ["", " ", "\t\n ", "\xa0\u2003\u3000"])
def test_an_empty_row_is_nothing_else(text: str) -> None:
    assert list(suspicions(text)) == ["empty"]


@pytest.mark.parametrize(
    ("text", "single"),
    [
        ("word", True),
        (" word\n", True),
        ("don't", True),
        ("...", True),
        ("two words", False),
        ("a\tb", False),
        ("a\xa0b", False),
        ("これはペンです。", False),
        ("นี่คือปากกา", False),
    ],
)
def test_a_row_of_one_word(text: str, single: bool) -> None:
    assert list(suspicions(text)) == ["one_token"] * single


@pytest.mark.parametrize(
    "character",
    [
        "\0",
        "\x07",
        "\x1b",
        "\x7f",
        "\x80",
        "\x9f",
        "\xad",
        "\u200b",
        "\u200e",
        "\u200f",
        "\u202a",
        "\u202e",
        "\u2060",
        "\u2069",
        "\ufeff",
    ],
    ids=ascii,
)
def test_control_and_invisible_characters(character: str) -> None:
    assert list(suspicions(f"a fi{character}ne film")) == ["control"]


@pytest.mark.parametrize(
    "text",
    [
        "two\tcolumns here",
        "two\nlines here",
        "two\r\nlines here",
        "no\xa0break",
        "می\u200cخواهم بروم",
        "a family 👨\u200d👩\u200d👧",
        "a heart ❤\ufe0f",
        "a\u2028b\u2029c",
    ],
    ids=ascii,
)
def test_white_space_and_joiners_mean_something(text: str) -> None:
    assert list(suspicions(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "a <b>fine</b> film",
        "fine<br />film here",
        "fine<br>film here",
        "the end </p>",
        "see <img src='x?y=1'> here",
        "<H1>Fine</H1> film",
        "salt &amp; pepper",
        "it&#x27;s fine",
        "a <!-- comment --> here",
        "it&#39;s fine",
        "no&nbsp;break here",
    ],
)
def test_markup_and_character_entities(text: str) -> None:
    assert list(suspicions(text)) == ["markup"]


@pytest.mark.parametrize(
    "text",
    [
        "a < b & c",
        "a < b and c > d",
        "a<b, c>d",
        "I <3 you",
        "<- there, here ->",
        "AT&T; and so on",
        "Marks & Spencer; and more",
        "R&D is <10 %",
        "a <> b",
        "5 <= 6 >= 5",
        "look &this",
    ],
)
def test_signs_that_are_no_markup(text: str) -> None:
    assert list(suspicions(text)) == []


def test_what_the_recipe_reads_as_spaces_is_no_markup() -> None:
    blank = ("<br />", "&nbsp;")
    assert list(suspicions("one<br />two&nbsp;three<br /><br />four", blank)) == []
    assert list(suspicions("one<br />two<br>three", blank)) == ["markup"]
    assert list(suspicions("one<br />two &amp; three", blank)) == ["markup"]


def test_what_a_failed_decoder_left() -> None:
    assert list(suspicions("a fi\ufffdm of old")) == ["replacement"]
    assert list(suspicions("a film of old – ä")) == []


@pytest.mark.parametrize(
    "text",
    ["a f\u0430mous film", "\u0441ool film", "мо\u0063ква спит", "p\u03bfor film", "\u0391nna Lee", "fine, \u0430nd fin\u0435"],
    ids=ascii,
)
def test_a_word_in_letters_of_two_scripts(text: str) -> None:
    assert list(suspicions(text)) == ["mixed_scripts"]


@pytest.mark.parametrize(
    "text",
    [
        "the word кот means cat",
        "日本 の カナとかな 漢字を書く ラーメン",
        "東京タワーへ 行った",
        "한국어 漢字語 문장",
        "nai\u0308ve cafe\u0301",
        "naïve café, ﬁne Œuvre",
        "5 µm and 2ª 1º",
        "xʰ mⁿ ʻokina Hawaiʻi",
        "в 2-х и B2B",
        "ΑΒΓ γράμματα",
        "кот\u0301 спит",
        "snake_слово 3D",
        "das ist Straße",
    ],
)
def test_words_of_one_script_and_letters_at_home_in_several(text: str) -> None:
    assert list(suspicions(text)) == []


def test_a_row_may_be_suspect_of_several_things() -> None:
    assert {*suspicions("<b>f\u0430m\u200bous</b>\ufffd")} == {"one_token", "control", "markup", "replacement", "mixed_scripts"}


# Scripts


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("", ""),
        ("123 … 4.5!", ""),
        ("12 %", ""),
        ("fine", "LATIN"),
        ("é", "LATIN"),
        ("µª", ""),
        ("кот cat и пёс", "CYRILLIC"),
        ("кот and dog", "LATIN"),
        ("γάτα", "GREEK"),
        ("日本語のカナ ABC", "EAST ASIAN"),
        ("한국어", "EAST ASIAN"),
        ("قطة", "ARABIC"),
        ("x" + "я" * 1999 + "x" * 5000, "CYRILLIC"),
    ],
)  # fmt: skip
def test_the_script_of_most_letters(text: str, script: str) -> None:
    assert main_script(text) == script


# Tally


def test_a_tally_counts_all_and_keeps_the_first_places() -> None:
    tally = Tally()
    for line in range(1, 1502):
        tally.add("markup", Where("train.tsv", line))
    tally.add("empty", Where("more.tsv", 7))
    places = [f"train.tsv:{line}" for line in range(1, PLACES + 1)]
    empty, markup = tally.findings("train")
    assert markup == Finding(
        "markup", "warning", "train", "1,501 rows with markup or character entities", 1501, places, SUSPICIONS["markup"][2]
    )
    assert empty == Finding("empty", "warning", "train", "1 empty row", 1, ["more.tsv:7"], SUSPICIONS["empty"][2])


def test_nothing_suspect_is_no_finding() -> None:
    assert list(Tally().findings("train")) == []


def test_one_row_is_told_as_one() -> None:
    tally = Tally()
    for kind in SUSPICIONS:
        tally.add(kind, Where("a", 1))
    assert [finding.message for finding in tally.findings("test")] == [
        "1 empty row",
        "1 row of a single word",
        "1 row with control or invisible characters",
        "1 row with U+FFFD, which stands where a decoder failed",
        "1 row with markup or character entities",
        "1 row with a word in letters of two scripts",
    ]


def test_a_finding_as_json_has_all_it_says() -> None:
    assert Finding("near", "note", "train", "2 rows", 2, ["a:1"], "look").as_dict() == {
        "kind": "near", "level": "note", "split": "train", "message": "2 rows", "count": 2, "places": ["a:1"], "advice": "look",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["新しいiPhoneを 買った", "Tシャツ を", "IT기업 소식", "5 \u03bcm thick", "the ΔT of it"], ids=ascii
)
def test_words_that_are_written_in_two_scripts(text: str) -> None:
    assert "mixed_scripts" not in list(suspicions(text))
