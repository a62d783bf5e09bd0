"""A look at the data: what it counts is what a run would read, and what it finds is there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from nlp_tasks import check, cli, recipe, report, tasks
from nlp_tasks.data import sources
from nlp_tasks.data.findings import PLACES
from nlp_tasks.data.rows import Counts, chunks
from nlp_tasks.data.splits import SPLITS
from nlp_tasks.errors import UserError
from nlp_tasks.run import Run
from nlp_tasks.tasks.task import Examiner, Example
from nlp_tasks.text.vocabulary import read_vocabulary

SENTIMENT, POS, NER = "sentiment/own_files", "pos_tagging/own_conllu", "ner/own_columns"
SUFFIX = {SENTIMENT: "tsv", POS: "conllu", NER: "conll"}

LONG = "the cat sat on the mat and looked at the big yellow moon over the old house by the sea"

Found = tuple[str, str, str, int, list[str]]
"""level, split, message, count, places of a finding."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(recipe_name: str, *settings: str, **splits: str | bytes) -> list[str]:
    """The recipe and its settings, as a person types them; writes the file of each split, such as train.tsv."""
    for split, content in splits.items():
        Path(f"{split}.{SUFFIX[recipe_name]}").write_bytes(content if isinstance(content, bytes) else content.encode())
    named = [f"data.{split}={split}.{SUFFIX[recipe_name]}" for split in splits]
    return [recipe_name, *(word for setting in [*named, *settings] for word in ("--set", setting))]


def opened(recipe_name: str, *settings: str, **splits: str | bytes) -> Run:
    words = arguments(recipe_name, *settings, **splits)
    return Run(recipe.load(recipe_name, lambda task: tasks.find(task).recipe_type, words[2::2]), "looked")


def look(recipe_name: str, *settings: str, **splits: str | bytes) -> dict[str, Any]:
    return opened(recipe_name, *settings, **splits).check()


def found(content: dict[str, Any], kind: str) -> list[Found]:
    return [(f["level"], f["split"], f["message"], f["count"], f["places"]) for f in content["findings"] if f["kind"] == kind]


def kinds(content: dict[str, Any]) -> list[tuple[str, str]]:
    return [(finding["kind"], finding["split"]) for finding in content["findings"]]


def without_time(content: dict[str, Any]) -> dict[str, Any]:
    assert isinstance(content["seconds"], float)
    return {key: value for key, value in content.items() if key != "seconds"}


def table(*rows: tuple[str, str]) -> str:
    return "".join(f"{text}\t{label}\n" for text, label in rows)


def columns(*sentences: str) -> str:
    """One word a line, of sentences as word/TAG word/TAG."""
    return "".join("".join("\t".join(item.rsplit("/", 1)) + "\n" for item in line.split()) + "\n" for line in sentences)


def conllu(*sentences: str) -> str:
    """Of sentences as word/TAG word/TAG; an item id:form is a multi-word token or an empty node."""
    text = ""
    for sentence in sentences:
        number = 0
        for item in sentence.split():
            identifier, _, form = item.rpartition(":")
            tag = "_"
            if not identifier:
                number += 1
                identifier, (form, tag) = str(number), item.rsplit("/", 1)
            text += "\t".join([identifier, form, "_", tag, *"______"]) + "\n"
        text += "\n"
    return text


GOOD = columns(*(f"w{n}/O in/O city{n}/B-LOC" for n in range(10)))
"""Names with nothing wrong, of which the others are variants."""
FINE = {"train": GOOD, "validation": columns("x/O y/B-LOC"), "test": columns("z/O y/B-LOC v/O")}


# What the splits are like


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    train = table(("A b c, d e f", "x"), ("a b c", "x"), ("a B", "y"), ("a", "x"), ("", "y"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("counted"))
        settings = ("text.maximum_tokens=4", "text.minimum_count=2", "text.vocabulary_size=2")
        return look(SENTIMENT, *settings, train=train, validation=table(("b z", "y")), test=table(("A z z", "x"), ("b", "x")))


def test_each_split_with_its_labels(counted: dict[str, Any]) -> None:
    assert [
        (name, split["from"], split["examples"], list(split["labels"].items())) for name, split in counted["splits"].items()
    ] == [
        ("train", "train.tsv", 5, [("x", 3), ("y", 2)]),
        ("validation", "validation.tsv", 1, [("y", 1)]),
        ("test", "test.tsv", 2, [("x", 2)]),
    ]


def test_lengths_are_counted_in_tokens(counted: dict[str, Any]) -> None:
    """Of 7, 3, 2, 1 and 0 tokens: the comma is one."""
    train = counted["splits"]["train"]["fields"]["tokens"]
    assert train["tokens"] == 13
    assert train["length"] == {"min": 0, "5%": 0, "median": 2, "95%": 7, "99%": 7, "max": 7, "mean": 2.6}


def test_what_the_limit_cuts_off(counted: dict[str, Any]) -> None:
    fields = [split["fields"]["tokens"] for split in counted["splits"].values()]
    assert [(field["limit"], field["cut_rows"], field["cut_tokens"]) for field in fields] == [
        (4, 1 / 5, 3 / 13),
        (4, 0.0, 0.0),
        (4, 0.0, 0.0),
    ]


def test_padding_is_that_of_the_batches(counted: dict[str, Any]) -> None:
    """Rows are cut to 4 tokens, and none is padded to fewer: of 5 · 4, 1 · 4 and 2 · 4 cells 10, 2 and 4 are tokens."""
    assert [split["fields"]["tokens"]["padding"] for split in counted["splits"].values()] == [0.5, 0.5, 0.5]


def test_unknown_tokens_are_those_that_do_not_get_into_the_vocabulary(counted: dict[str, Any]) -> None:
    """a (4) and b (3) do; c (2) is beyond its size; the comma, d, e and f (1) are too rare."""
    train, validation, test = (split["fields"]["tokens"] for split in counted["splits"].values())
    assert counted["splits"]["train"]["vocabularies"] == {"tokens": {"kept": 2, "distinct": 7}}
    assert [field["unknown"] for field in (train, validation, test)] == [6 / 13, 1 / 2, 2 / 4]
    assert [field["distinct"] for field in (validation, test)] == [2, 3]


@pytest.mark.parametrize(
    ("settings", "known", "train", "test"),
    [
        ((), 4, 0, 1 / 4),
        (("text.minimum_count=2",), 2, 2 / 7, 2 / 4),
        (("text.vocabulary_size=1",), 1, 4 / 7, 3 / 4),
        (("text.lowercase=false", "text.minimum_count=2"), 1, 5 / 7, 3 / 4),
    ],
)
def test_the_vocabulary_is_as_large_as_a_run_makes_it(
    settings: tuple[str, ...], known: int, train: float, test: float, place: Path
) -> None:
    """Words of train: A a a b B c d."""
    texts = {
        "train": columns("A/O a/B-X a/O", "b/O B/O c/O d/O"),
        "validation": columns("x/O"),
        "test": columns("a/O b/O c/O z/B-X"),
    }
    run = opened(NER, *settings, **texts)
    splits = run.check()["splits"]
    assert splits["train"]["vocabularies"]["words"]["kept"] == known
    assert [splits[name]["fields"]["words"]["unknown"] for name in ("train", "test")] == [train, test]
    task = tasks.find("tagging")(run.recipe)
    task.prepare(lambda: task.read(run.splits.rows("train"), Counts()), place)
    assert len(list(read_vocabulary(place / "vocabulary.tsv"))) == known


def test_a_task_without_a_limit_cuts_nothing_off() -> None:
    words = look(NER, **FINE)["splits"]["test"]["fields"]["words"]
    assert (words["tokens"], words["length"]["max"]) == (3, 3)
    assert not {"limit", "cut_rows", "cut_tokens"} & words.keys()


@pytest.mark.parametrize("spans", ["bio", "bioes"])
def test_spans_are_counted_in_bio_whatever_the_model_writes(spans: str) -> None:
    train = columns("Anna/B-PER Lee/I-PER in/O Rome/B-LOC", "Bob/B-PER")
    content = look(NER, f"model.spans={spans}", **{**FINE, "train": train})
    assert content["splits"]["train"]["labels"] == {"B-PER": 2, "I-PER": 1, "O": 1, "B-LOC": 1}


# Splits that are cut out of train


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("data.test_share=0.2", "data.validation_share=0.3"), {}),
        (("data.test_share=0.2",), {"validation": FINE["validation"]}),
        (("data.validation_unit=sentence", "data.validation_share=0.5"), {"test": FINE["test"]}),
    ],
    ids="rows test sentences".split(),
)
def test_the_splits_are_those_that_a_run_reads(settings: tuple[str, ...], named: dict[str, str]) -> None:
    sentences = [f"a{n}/O b{n % 7}/B-X c/O d{n}/O" for n in range(40)]
    phrases = [" ".join(sentence.split()[:2]) for sentence in sentences]
    run = opened(NER, *settings, train=columns(*sentences, *phrases), **named)
    content = run.check()
    assert run.splits.sources() == ["train", *named]
    for split in SPLITS:
        read = list(run.splits.rows(split))
        assert read
        assert content["splits"][split]["examples"] == len(read)
        words, described = [word for row in read for word in row.fields["words"]], content["splits"][split]["fields"]["words"]
        assert (described["tokens"], described["distinct"]) == (len(words), len({*words}))
        assert content["splits"][split]["from"] == run.splits.describe(split)
        sides = {run.splits.side(split if split in named else "train", " ".join(row.fields["words"])) for row in read}
        assert sides == {split}
    counts = Counts()
    assert len(list(run.splits.source_rows("train", counts))) == counts.read == 80
    assert content["copies"] == []


def test_labels_that_only_held_out_rows_have_are_noted() -> None:
    """Their rows are left out: that is no reason to refuse a run."""
    side = opened(SENTIMENT, train="").splits.side
    rows = [f"film number {number}" for number in range(80)]
    first = {split: next(row for row in rows if side("train", row) == split) for split in ("validation", "test")}
    odd = {row: f"only {split}" for split, row in first.items()}
    labels = [odd.get(row, "pos" if number % 2 else "neg") for number, row in enumerate(rows)]
    content = look(SENTIMENT, train=table(*zip(rows, labels, strict=True)))
    assert found(content, "unseen_labels") == [
        ("note", split, f"label 'only {split}' was never seen in training", 1, [f"train.tsv:{rows.index(first[split]) + 1}"])
        for split in ("validation", "test")
    ]
    assert not any(finding["level"] == "error" for finding in content["findings"])


def test_near_duplicates_of_one_file_are_told_by_the_side_they_go_to() -> None:
    """The later row goes to train, the earlier one to test: it is the test that has a copy."""
    side = opened(NER, train="").splits.side
    near = [f"{LONG} w{number}" for number in range(60)]
    trained, tested, also_trained = (
        [row for row in near if side("train", row) == split][index] for split, index in (("train", 0), ("test", 0), ("train", 1))
    )
    shown = [" ".join(f"{word}/O" for word in row.split()) for row in (tested, trained)]
    others = columns(*(f"w{n}/O city{n}/B-LOC" for n in range(60)))
    content = look(NER, train=columns(*shown) + others)
    line = len(LONG.split()) + 3
    assert found(content, "near_across") == [
        ("warning", "train, test", "1 row of test nearly in train as well", 1, [f"train.conll:1 ≈ train.conll:{line}"])
    ]
    assert content["copies"] == ["train.conll:1"]
    shown[0] = " ".join(f"{word}/O" for word in also_trained.split())
    content = look(NER, train=columns(*shown) + others)
    assert found(content, "near") == [("note", "train", "1 row nearly another row", 1, [f"train.conll:{line} ≈ train.conll:1"])]
    assert (found(content, "near_across"), content["copies"]) == ([], [])


# Rows that are suspect


TRAIN = [
    ("good film", "pos"),
    ("bad film", "neg"),
    ("good film", "pos"),
    ("bad film", "pos"),
    (LONG, "neg"),
    ("", "pos"),
    ("word", "neg"),
    (" ".join(["la"] * 300), "neg"),
    ("a fi\u200bne film", "pos"),
    ("odd film", "rare"),
    *((f"filler {number} film", "pos" if number % 2 else "neg") for number in range(24)),
]
VALIDATION = [("good film", "neg"), ("filler 100 film", "pos"), ("odd one", "rare")]
TEST = [
    ("good film", "pos"),
    ("filler 200 film", "neg"),
    (f"{LONG} again", "neg"),
    ("good film", "pos"),
    ("filler 0 film", "neg"),
]


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is found in the rows above."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("messy"))
        return look(SENTIMENT, train="\n" + table(*TRAIN), validation=table(*VALIDATION), test=table(*TEST))


def test_all_that_is_found_the_worst_first(messy: dict[str, Any]) -> None:
    levels = [finding["level"] for finding in messy["findings"]]
    assert levels == ["warning"] * levels.count("warning") + ["note"] * levels.count("note")
    assert sorted(kinds(messy)) == [
        ("contradiction", "train, validation"), ("control", "train"), ("copies_across", "train, test"),
        ("copies_across", "train, validation"), ("copies_across", "validation, test"), ("empty", "train"), ("left_out", "train"),
        ("missing_labels", "test"), ("near_across", "train, test"), ("one_token", "train"), ("rare_labels", "train"),
        ("repeated", "test"), ("repeated", "train"), ("very_long", "train"),
    ]  # fmt: skip
    assert all(finding["advice"] for finding in messy["findings"] if finding["kind"] != "left_out")


def test_rows_that_repeat_an_earlier_one(messy: dict[str, Any]) -> None:
    assert found(messy, "repeated") == [
        (
            "warning",
            "train",
            "2 rows repeat an earlier row of train",
            2,
            ["train.tsv:4 = train.tsv:2", "train.tsv:5 = train.tsv:3"],
        ),
        ("warning", "test", "1 row repeats an earlier row of test", 1, ["test.tsv:4 = test.tsv:1"]),
    ]


def test_texts_that_stand_in_two_splits(messy: dict[str, Any]) -> None:
    assert found(messy, "copies_across") == [
        ("warning", "train, validation", "1 text stands in both train and validation (1 row of validation)", 1,
         ["validation.tsv:1 = train.tsv:2"]),
        ("warning", "train, test", "2 texts stand in both train and test (3 rows of test)", 2,
         ["test.tsv:1 = train.tsv:2", "test.tsv:4 = train.tsv:2", "test.tsv:5 = train.tsv:12"]),
        ("warning", "validation, test", "1 text stands in both validation and test (2 rows of test)", 1,
         ["test.tsv:1 = validation.tsv:1", "test.tsv:4 = validation.tsv:1"]),
    ]  # fmt: skip


def test_near_duplicates_across_splits(messy: dict[str, Any]) -> None:
    assert found(messy, "near_across") == [
        ("warning", "train, test", "1 row of test nearly in train as well", 1, ["test.tsv:3 ≈ train.tsv:6"])
    ]


def test_copies_are_the_test_rows_that_train_has_exactly_or_nearly(messy: dict[str, Any]) -> None:
    assert sorted(messy["copies"]) == ["test.tsv:1", "test.tsv:3", "test.tsv:4", "test.tsv:5"]


def test_an_exact_copy_is_not_told_as_a_near_one_too() -> None:
    long = columns(" ".join(f"{word}/O" for word in LONG.split()))
    content = look(NER, **{**FINE, "train": GOOD + long + long, "test": long + long})
    assert sorted(content["copies"]) == ["test.conll:1", f"test.conll:{len(LONG.split()) + 2}"]
    assert [split for kind, split in kinds(content) if kind in ("near", "near_across")] == []


def test_equal_texts_with_different_labels(messy: dict[str, Any]) -> None:
    ((level, _, message, count, places),) = found(messy, "contradiction")
    assert (level, message, count) == ("warning", "2 texts with different labels in different rows", 2)
    rows = {"train.tsv": [("", ""), *TRAIN], "validation.tsv": VALIDATION, "test.tsv": TEST}
    texts = set()
    for one, other in (pair.split(" ≠ ") for pair in places):
        (text, label), (same, another) = (rows[file][int(line) - 1] for file, line in (p.split(":") for p in (one, other)))
        assert text == same
        assert {label, another} == {"pos", "neg"}
        texts.add(text)
    assert texts == {"good film", "bad film"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("empty", ("warning", "train", "1 empty row", 1, ["train.tsv:7"])),
        ("one_token", ("note", "train", "1 row of a single word", 1, ["train.tsv:8"])),
        ("very_long", ("note", "train", "1 row at least twenty times as long as the median", 1, ["train.tsv:9 (300 tokens)"])),
        ("control", ("warning", "train", "1 row with control or invisible characters", 1, ["train.tsv:10"])),
        ("rare_labels", ("warning", "train", "labels with fewer than 10 examples: rare (1)", 1, ["train.tsv:11"])),
        ("missing_labels", ("warning", "test", "labels of train that test lacks: rare (1)", 1, [])),
        ("left_out", ("note", "train", "1 left out: blank line", 1, [])),
    ],
)
def test_single_rows_and_labels(messy: dict[str, Any], kind: str, expected: Found) -> None:
    assert found(messy, kind) == [expected]


def test_very_long_is_measured_by_the_median() -> None:
    """And nothing below 200 tokens is."""
    short, long = " ".join(["a/O"] * 199), " ".join(["b/O"] * 200)
    assert [places for *_, places in found(look(NER, **{**FINE, "train": GOOD + columns(short, long)}), "very_long")] == [
        ["train.conll:241 (200 tokens)"]
    ]
    eleven = columns(*(" ".join(f"{letter}{n}/O" for n in range(11)) for letter in "cdefg"))
    content = look(NER, **{**FINE, "train": eleven + columns(" ".join(["a/O"] * 219), " ".join(["b/O"] * 220))})
    assert [places for *_, places in found(content, "very_long")] == [["train.conll:281 (220 tokens)"]]


def test_rows_in_other_letters_than_the_training_data() -> None:
    test = columns("кот/O спит/O", "cat/B-LOC sleeps/O", "пёс/O", "γάτα/O", "7/O")
    assert found(look(NER, **{**FINE, "test": test}), "scripts") == [
        (
            "note",
            "test",
            "3 rows mostly in other letters than Latin: CYRILLIC (2), GREEK (1)",
            3,
            ["test.conll:1", "test.conll:9"],
        )
    ]
    mixed = GOOD + columns("кот/O спит/O")
    assert found(look(NER, **{**FINE, "train": mixed, "test": test}), "scripts") == []


def test_many_rows_are_the_same_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few are looked at together."""
    long = [" ".join(f"{word}/O" for word in f"{LONG} {end}".split()) for end in "abc"]
    train = columns(*long[:2], "in/O Rome/B-LOC", "a/O", "in/O Rome/O", *["w/X"] * 8, *long[2:])
    splits = {**FINE, "train": GOOD + train, "test": columns("in/O Rome/B-LOC", long[0], f"{long[2]} {long[2]}")}
    whole = look(NER, "data.scheme=tags", **splits)
    assert {"contradiction", "copies_across", "near", "near_across", "repeated"} <= {kind for kind, _ in kinds(whole)}
    monkeypatch.setattr(check, "chunks", lambda rows: chunks(rows, 3))
    assert without_time(look(NER, "data.scheme=tags", **splits)) == without_time(whole)


@pytest.mark.parametrize("size", [5, 512])
def test_of_too_many_rows_a_sample_is_compared(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Every second row of twenty that are all alike."""
    alike = columns(*(" ".join(f"{word}/O" for word in f"{LONG} w{n}".split()) for n in range(20)))
    whole = found(look(NER, **{**FINE, "train": alike}), "near")
    assert [finding[2:4] for finding in whole] == [("19 rows nearly another row", 19)]
    monkeypatch.setattr(check, "chunks", lambda rows: chunks(rows, size))
    monkeypatch.setattr(check, "MOST_COMPARED", 14)
    sampled = found(look(NER, **{**FINE, "train": alike}), "near")
    assert [finding[2:4] for finding in sampled] == [("9 rows nearly another row (in a sample: one row in 2 of train)", 9)]


# Labels


def test_a_tag_never_seen_in_training_counts_as_wrong() -> None:
    content = look(NER, **{**FINE, "test": columns("a/O b/B-LOC", "c/B-ORG d/I-ORG e/B-ORG")})
    assert found(content, "unseen_labels") == [
        ("warning", "test", "labels never seen in training: B-ORG (2), I-ORG (1)", 2, ["test.conll:4", "test.conll:4"])
    ]


def test_one_label_alone_is_refused() -> None:
    content = look(NER, train=columns("a/O b/O", "c/O"), validation=columns("d/O"), test=columns("e/O"))
    assert [finding[:3] for finding in found(content, "labels")] == [
        ("error", "train", "the training data has only one tag, 'O'")
    ]


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        ("sentiment", {"pos": 3}, "the training data has only one class, 'pos'"),
        ("sentiment", {str(number): 1 for number in range(1001)}, "the training data has 1,001 different labels; are the columns swapped?"),
        ("tagging", {"O": 3}, "the training data has only one tag, 'O'"),
        ("tagging", {str(number): 1 for number in range(1001)}, "the training data has 1,001 different tags; is data.columns right?"),
    ],
    ids="class classes tag tags".split(),
)  # fmt: skip
def test_labels_from_which_nothing_can_be_learned(task: str, labels: dict[str, int], message: str) -> None:
    made = tasks.find(task)(opened(SENTIMENT if task == "sentiment" else NER, train="").recipe)
    with pytest.raises(UserError) as refusal:
        made.check_labels(labels)
    assert refusal.value.message == message
    made.check_labels({"a": 1, "b": 1})
    made.check_labels({str(number): 1 for number in range(1000)})


# Files that cannot be read to the end


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_that_is_no_utf_8_is_refused_and_the_others_are_described(split: str) -> None:
    content = look(NER, **{**FINE, split: b"a\tO\nb\xe4d\tO\n"})
    message = f"{split}.conll:2: invalid UTF-8 at byte 1 of the line (e4 64 09 4f)"
    assert found(content, "refused") == [("error", split, message, 1, [])]
    assert [finding["kind"] for finding in content["findings"] if finding["level"] == "error"] == ["refused"]
    assert list(content["splits"]) == [name for name in SPLITS if name != split]


def test_training_data_without_rows_is_refused() -> None:
    rows = table(("a b", "x"), ("c d", "y"))
    content = look(SENTIMENT, train="text\tlabel\n", validation=rows, test=rows)
    assert [finding[:3] for finding in found(content, "no_rows")] == [("error", "train", "the training data has no rows")]
    assert [finding["kind"] for finding in content["findings"] if finding["level"] == "error"] == ["no_rows"]
    assert list(content["splits"]) == ["validation", "test"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_nothing_held_out_is_refused(split: str) -> None:
    """The advice names what would hold rows out."""
    content = look(NER, f"data.{split}_share=0", **{name: text for name, text in FINE.items() if name != split})
    (error,) = [finding for finding in content["findings"] if finding["level"] == "error"]
    assert (error["split"], error["message"]) == (split, f"no rows for {split} (0% of the rows of train.conll)")
    assert f"data.{split}_share" in error["advice"]


def test_a_missing_file_is_found_like_any_other_mistake() -> None:
    content = look(NER, "data.test=none.conll", train=GOOD, validation=FINE["validation"])
    assert [finding[:3] for finding in found(content, "refused")] == [("error", "test", "no file none.conll")]


# Treebanks and names


def test_malformed_tags_are_told_with_their_place() -> None:
    train = GOOD + columns("a/I-LOC b/O", "c/O d/I-LOC", "e/B-LOC f/I-PER", "g/I-LOC")
    content = look(NER, **{**FINE, "train": train, "test": columns("a/O b/B-LOC", "c/I-LOC")})
    messages = [(level, split, count, places) for level, split, _, count, places in found(content, "mended")]
    assert messages == [
        ("warning", "train", 4, ["train.conll:41: I-LOC at the beginning", "train.conll:45: I-LOC after O",
                                 "train.conll:48: I-PER after B-LOC"]),
        ("warning", "test", 1, ["test.conll:4: I-LOC at the beginning"]),
    ]  # fmt: skip
    assert content["splits"]["test"]["labels"] == {"B-LOC": 2, "O": 1}


def test_lines_that_begin_a_document_are_noted() -> None:
    content = look(NER, **{**FINE, "train": "-DOCSTART- O\n\n" + GOOD + "-DOCSTART- O\n"})
    assert found(content, "left_out") == [("note", "train", "2 left out: -DOCSTART- line", 2, [])]


def test_what_is_no_word_of_a_treebank_is_noted() -> None:
    train = conllu(
        "il/PRON vient/VERB 3-4:du de/ADP le/DET nord/NOUN 5.1:vient",
        "1-2:au à/ADP le/DET 2.1:x 2.2:y 3-4:du de/ADP le/DET",
        "oui/INTJ",
    )
    content = look(POS, train=train, validation=conllu("oui/INTJ"), test=conllu("1-2:au à/ADP le/DET"))
    passed = [(level, split, count, message.partition(",")[0]) for level, split, message, count, _ in found(content, "passed")]
    assert passed == [
        ("note", "train", 3, "empty nodes: 3"),
        ("note", "train", 3, "multi-word tokens: 3"),
        ("note", "test", 1, "multi-word tokens: 1"),
    ]
    assert content["splits"]["train"]["fields"]["words"]["tokens"] == 10


def test_what_is_no_word_is_counted_once_where_splits_are_cut_out() -> None:
    """With the rows of train, like the lines that are left out."""
    splits = opened(POS, train=conllu(*(f"1-2:au{n} à{n}/ADP le/DET 2.1:x" for n in range(60)))).splits
    for split in SPLITS:
        assert list(splits.rows(split))
    assert [dict(splits.counts[split].passed) for split in SPLITS] == [{"multi-word tokens": 60, "empty nodes": 60}, {}, {}]


def test_a_prepared_treebank_counts_what_is_no_word() -> None:
    """A multi-word token has no part of speech, an empty node may have one, and neither has a head; a word has, whatever it is."""

    class Tags:
        def str2int(self, name: str) -> int:
            return {"_": 2}[name]

    counts = Counts()
    head, upos = np.array([b"0", b"None", b"2", b"None", b"None"], object), np.array([2, 2, 1, 2, 1])
    for _ in range(2):
        example = sources._words_only({"head": head, "upos": upos, "text": b"du"}, Tags(), counts)
    assert example["upos"].tolist() == [2, 1]
    assert counts.passed == {"multi-word tokens": 4, "empty nodes": 2}


def test_the_odd_tag_of_a_word_that_has_another_everywhere_else() -> None:
    usual = {"runs": ("VERB", 12), "walks": ("VERB", 10), "nine": ("NUM", 9), "twice": ("ADV", 10), "three": ("NUM", 10)}
    lines = [f"x{n}/X {word}/{tag}" for word, (tag, count) in usual.items() for n in range(count)]
    odd = ["a/DET walks/NOUN", "a/DET runs/NOUN", "nine/X", "twice/X", "twice/X", "three/X", "three/NOUN"]
    validation = conllu(*["v/X only/NOUN"] * 10, "v/X only/VERB")
    content = look(POS, train=conllu(*lines, *odd), validation=validation, test=conllu("t/X"))
    ((level, split, _, count, places),) = found(content, "contradicted_words")
    start = 3 * len(lines) + 1
    assert (level, split, count) == ("note", "train", 2)
    assert places == [
        f"train.conllu:{start + 3} 'runs' NOUN, else VERB (12 times)",
        f"train.conllu:{start} 'walks' NOUN, else VERB (10 times)",
    ]


def test_equal_sentences_with_other_tags() -> None:
    content = look(NER, **{**FINE, "train": GOOD + columns("in/O Rome/B-LOC", "in/O Rome/O")})
    ((level, _, message, _, (pair,)),) = found(content, "contradiction")
    assert (level, message) == ("warning", "1 text with different labels in different rows")
    assert {*pair.split(" ≠ ")} == {"train.conll:41", "train.conll:44"}


# What a task says of its examples


def test_a_task_says_what_an_example_is() -> None:
    sentiment = tasks.find("sentiment")(opened(SENTIMENT, train="").recipe)
    example = Example(("A fine film",), "pos", None)  # type: ignore[arg-type]
    assert (sentiment.text(example), sentiment.labels_of(example), sentiment.refuses_unseen) == ("A fine film", ("pos",), True)
    run = opened(NER, train=columns("Anna/B-PER Lee/I-PER sees/O Rome/B-LOC"))
    tagging = tasks.find("tagging")(run.recipe)
    (sentence,) = tagging.read(run.splits.source_rows("train", Counts()), Counts())
    assert tagging.text(sentence) == "Anna Lee sees Rome"
    assert list(tagging.labels_of(sentence)) == ["B-PER", "I-PER", "O", "B-LOC"]
    assert not tagging.refuses_unseen


@pytest.mark.parametrize(
    ("parts", "limits"), [("bag_of_ngrams", {}), ("recurrent", {"tokens": 7}), ("convolution", {"tokens": 7})]
)
def test_only_networks_have_a_limit(parts: str, limits: dict[str, int]) -> None:
    made = opened(SENTIMENT, f"model.parts=['{parts}']", "text.maximum_tokens=7", train="")
    assert tasks.find("sentiment")(made.recipe).limits == limits


def test_tokens_are_those_that_vocabularies_count() -> None:
    """Also where the tokenizer is first asked for in a graph."""
    task: Any = tasks.find("sentiment")(opened(SENTIMENT, 'text.blank=["<br />"]', train="").recipe)
    split = tf.function(task.tokenize, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    assert split(tf.constant(["It's<br />FINE, é", ""]))["tokens"].to_list() == [[b"it's", b"fine", b",", "é".encode()], []]
    task = tasks.find("tagging")(opened(NER, train="").recipe)
    words = task.tokenize(tf.constant([["Ärger", "It's", "B"], ["a", "", ""]]))["words"]
    assert words.to_list() == [["ärger".encode(), b"it's", b"b"], [b"a"]]


def test_a_task_need_not_look_for_anything_of_its_own() -> None:
    examiner = Examiner()
    examiner.see("train", None)
    assert list(examiner.findings()) == []


# The command line


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process."""

    def called(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["nlp-tasks", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, int)
        return Outcome(end.value.code, *capsys.readouterr())

    return called


def test_data_that_can_be_trained_on(call: Call, place: Path) -> None:
    words = arguments(NER, **FINE)
    before = sorted(place.rglob("*"))
    outcome = call("check", *words)
    assert outcome.code == 0
    assert outcome.out.startswith(f"{NER}: no errors, ")
    assert "\nvocabulary of words: 21 of the 21 different ones in train\n" in outcome.out
    assert sorted(place.rglob("*")) == before


def test_data_that_cannot_be_trained_on(call: Call, place: Path) -> None:
    words = arguments(NER, **{**FINE, "test": b"a\tO\nb\xe4d\tO\n"})
    before = sorted(place.rglob("*"))
    outcome = call("check", *words)
    assert outcome.code == 2
    assert outcome.out.startswith(f"{NER}: 1 error, ")
    assert "\n\nerror    test: test.conll:2: invalid UTF-8 at byte 1 of the line (e4 64 09 4f)\n" in outcome.out
    assert "\nvalidation " in outcome.out
    assert "Traceback" not in outcome.err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(("train", "code"), [(GOOD, 0), (columns("a/O"), 2)])
def test_the_same_for_machines(call: Call, train: str, code: int) -> None:
    words = arguments(NER, **{**FINE, "train": train})
    outcome = call("check", *words, "--json")
    assert outcome.code == code
    assert without_time(json.loads(outcome.out)) == without_time(look(NER, **{**FINE, "train": train}))


def test_a_file_that_is_not_there(call: Call) -> None:
    outcome = call("check", *arguments(NER, "data.test=none.conll", train=GOOD))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: no file none.conll\nhint: ")


# In a run


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a run comes to behind the look at its data, where it is stopped."""
    reached: list[str] = []

    def prepare(run: Run) -> None:
        reached.append(run.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "_prepare", prepare)
    return reached


def test_a_run_refuses_what_the_look_at_the_data_refuses(call: Call, place: Path, stopped: list[str]) -> None:
    words = arguments(NER, **{**FINE, "train": columns("a/O"), "test": "-DOCSTART- O\n"})
    outcome = call("run", *words)
    assert (outcome.code, outcome.out, stopped) == (2, "", [])
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert sorted(errors) == ["error: test.conll: empty file", "error: the training data has only one tag, 'O'"]
    assert not [path for path in place.rglob("*") if path.is_dir() and path.name == "ner-own_columns"]


def test_a_label_never_seen_in_training_is_refused_where_the_task_does(call: Call, stopped: list[str]) -> None:
    """With the place of the first such row."""
    rows = table(("a b", "x"), ("c d", "y"))
    outcome = call("run", *arguments(SENTIMENT, train=rows, validation=rows, test=rows + table(("e f", "z"), ("g h", "z"))))
    assert (outcome.code, stopped) == (2, [])
    assert outcome.err.splitlines() == [
        "error: test.tsv:3: label 'z' was never seen in training",
        "hint: the training data has: x, y",
    ]


def test_a_run_keeps_what_was_found(call: Call, place: Path, stopped: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not look again when it goes on."""
    words = arguments(NER, **FINE)
    outcome = call("run", *words)
    assert (outcome.code, stopped) == (130, ["ner-own_columns"])
    expected = look(NER, **FINE)
    assert without_time(json.loads((place / "runs/ner-own_columns/check.json").read_text())) == without_time(expected)
    assert f"\ndata  {report.counted(expected)} (" in f"\n{outcome.err}"

    def again(run: Run) -> None:
        raise AssertionError

    monkeypatch.setattr(Run, "check", again)
    assert call("run", *words).code == 130
    assert len(stopped) == 2


# As text


def described(examples: int, labels: dict[str, int], **field: Any) -> dict[str, Any]:
    return {"from": "x", "examples": examples, "fields": {"tokens": field}, "labels": labels}


LENGTH = {"min": 0, "5%": 1, "median": 1234, "95%": 2000, "99%": 3000, "max": 12345, "mean": 4.6}
CONTENT = {
    "splits": {
        "train": described(1234, {"pos": 3, "neg": 1}, tokens=56789, length=LENGTH, limit=9, cut_rows=0.5, cut_tokens=0.1234,
                           distinct=4000, unknown=0.0556, padding=0.254)
        | {"vocabularies": {"tokens": {"kept": 3000, "distinct": 4000}}},
        "test": described(2, {"pos": 1, "new": 1}, tokens=6, length=dict.fromkeys(LENGTH, 3), distinct=2, unknown=0.5),
    },
    "findings": [
        {"kind": "a", "level": "error", "split": "test", "message": "bad", "count": 0, "places": [], "advice": "mend it"},
        {"kind": "b", "level": "note", "split": "train, test", "message": "odd", "count": 4, "places": ["a:1", "b:2"], "advice": ""},
        {"kind": "c", "level": "note", "split": "train", "message": "so", "count": 1, "places": ["c:3"], "advice": "look"},
    ],
    "copies": [],
    "seconds": 1.6,
}  # fmt: skip


def test_a_row_a_split_and_field() -> None:
    assert report.split_rows(CONTENT["splits"]) == [  # type: ignore[arg-type]
        ["train", "1,234", "tokens", "56,789", "1,234", "2,000", "12,345", "12.3%", "5.6%", "25%"],
        ["test", "2", "tokens", "6", "3", "3", "3", "–", "50.0%", "–"],
    ]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([], "no errors, no warnings, no notes"),
        (["error", "warning", "note"], "1 error, 1 warning, 1 note"),
        (["note", "warning", "note", "warning", "warning"], "no errors, 3 warnings, 2 notes"),
    ],
)
def test_findings_are_counted_by_level(levels: list[str], expected: str) -> None:
    assert report.counted({"findings": [{"level": level} for level in levels]}) == expected


def test_what_a_person_reads() -> None:
    heading, splits, vocabulary, labels, *findings = report.check_text(CONTENT, "mine").split("\n\n")
    assert heading == "mine: 1 error, no warnings, 2 notes, in 2 s"
    header, _, *rows = (line.split() for line in splits.splitlines())
    assert header == " ".join(report.SPLIT_HEADER).split()
    assert rows == [" ".join(row).split() for row in report.split_rows(CONTENT["splits"])]  # type: ignore[arg-type]
    assert vocabulary == "vocabulary of tokens: 3,000 of the 4,000 different ones in train"
    assert [line.split() for line in labels.splitlines()[2:]] == [
        ["pos", "75.0%", "50.0%"], ["neg", "25.0%", "0.0%"], ["new", "0.0%", "50.0%"],
    ]  # fmt: skip
    assert findings == [
        "error    test: bad\n         → mend it",
        "note     train, test: odd\n         a:1, b:2, …",
        "note     train: so\n         c:3\n         → look",
    ]


def test_of_many_labels_the_first_are_shown() -> None:
    labels = {f"tag{number}": 50 - number for number in range(25)}
    text = report.check_text({**CONTENT, "splits": {"train": {**CONTENT["splits"]["train"], "labels": labels}}}, "mine")  # type: ignore[index]
    assert "\ntag19 " in text
    assert "tag20" not in text
    assert "\nand 5 more\n" in text


def test_nothing_to_describe_is_left_out() -> None:
    """Neither a table of splits nor one of labels; a task without labels has none."""
    assert report.check_text({"splits": {}, "findings": [], "seconds": 0.1}, "x") == "x: no errors, no warnings, no notes, in 0 s"
    splits = {"train": {**CONTENT["splits"]["train"], "labels": {}}}  # type: ignore[index]
    assert "label" not in report.check_text({"splits": splits, "findings": [], "seconds": 0.1}, "x")


def test_places_are_few() -> None:
    """However many there are, a finding has the first ones."""
    same = columns(*["in/O Rome/B-LOC"] * 10)
    content = look(NER, train=same, validation=same, test=same)
    assert content["findings"]
    assert {len(finding["places"]) for finding in content["findings"] if finding["count"] >= 9} == {PLACES}


# What follows from what


def test_every_copy_in_test_is_a_copy() -> None:
    """A near copy that stands twice, too."""
    train = table((LONG, "x"), ("b", "y"), ("c", "x"))
    content = look(
        SENTIMENT, train=train, validation=table(("v", "x")), test=table((f"{LONG} x", "x"), (f"{LONG} x", "x"), ("b", "y"))
    )
    assert content["copies"] == ["test.tsv:1", "test.tsv:2", "test.tsv:3"]


def test_rows_that_are_held_out_are_no_training() -> None:
    rows = table(*((f"text {number}", "xy"[number % 2]) for number in range(40)))
    content = look(SENTIMENT, "data.validation_share=0.3", train=rows, test=rows)
    assert 0 < content["splits"]["validation"]["examples"] < 40
    assert len(content["copies"]) == content["splits"]["train"]["examples"]


@pytest.mark.parametrize("bad", ["train", "test"])
def test_a_broken_file_is_one_error(bad: str) -> None:
    files: dict[str, str | bytes] = {
        "train": table(("a", "x"), ("b", "y")),
        "validation": table(("a", "x")),
        "test": table(("b", "y")),
    }
    files[bad] = table(*[("a", "x")] * 600).encode() + b"\xff\ty\n"
    content = look(SENTIMENT, **files)
    errors = [finding["message"] for finding in content["findings"] if finding["level"] == "error"]
    assert len(errors) == 1 and errors[0].startswith(f"{bad}.tsv:601: invalid UTF-8")
    assert {*content["splits"]} == {*files} - {bad}
    assert ("unknown" in content["splits"]["validation"]["fields"]["tokens"]) == (bad != "train")


def test_a_new_tag_in_a_held_out_split_counts_as_wrong() -> None:
    train = columns(*(f"w{n}/O in/O city{n}/B-{'LOC' if n else 'NEW'}" for n in range(30)))
    for share in range(1, 40):  # until the sentence with the new tag is on that side
        content = look(NER, f"data.test_share={share / 40}", train=train)
        if warned := [f for f in found(content, "unseen_labels") if f[1] == "test"]:
            assert warned[0][0] == "warning"
            return
    pytest.fail("the new tag was never held out")


def test_tags_contradict_as_they_are_written_in_the_file() -> None:
    """B-PER in all sentences, although the model writes S-PER and B-PER."""
    train = columns(*["Anna/B-PER sleeps/O"] * 12, "Anna/B-PER Lee/I-PER sleeps/O")
    assert not found(look(NER, "model.spans=bioes", **FINE | {"train": train}), "contradicted_words")


def test_words_of_a_vectors_file_are_known() -> None:
    Path("vectors.txt").write_text("z 1 2\ny 3 4\n")
    for settings, unknown in (((), 1.0), (("data.vectors=vectors.txt",), 1 / 2)):
        content = look(NER, *settings, **FINE | {"test": columns("z/O q/O")})
        assert content["splits"]["test"]["fields"]["words"]["unknown"] == unknown


def test_a_vocabulary_without_tokens_is_an_error() -> None:
    content = look(
        SENTIMENT,
        "text.minimum_count=9",
        train=table(("a", "x"), ("b", "y")),
        validation=table(("a", "x")),
        test=table(("b", "y")),
    )
    assert [f[0] for f in found(content, "no_vocabulary")] == ["error"]


def test_a_run_tells_each_broken_line_and_a_wrong_column_once(capfd: pytest.CaptureFixture[str]) -> None:
    files: dict[str, str | bytes] = {
        "train": table(("a", "x"), ("b", "y")),
        "validation": b"\xff\tx\n",
        "test": b"a\tx\n\xff\ty\n",
    }
    with pytest.raises(UserError, match=r"test\.tsv:2: invalid UTF-8"):
        opened(SENTIMENT, **files).run()
    assert "error: validation.tsv:1: invalid UTF-8" in capfd.readouterr().err
    with pytest.raises(UserError, match="CoNLL-U has no column for tags"):
        opened(POS, "data.tags=nothing", **dict.fromkeys(SPLITS, conllu("a/X"))).run()
    assert "error:" not in capfd.readouterr().err
