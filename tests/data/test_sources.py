"""Sources: files, prepared TFDS data sets (one is made here), the toy world; their rows, fingerprints and refusals."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_builders.conll.conllu_dataset_builder_utils import UNIVERSAL_DEPENDENCIES_FEATURES

from nlp_tasks import recipe
from nlp_tasks.data.rows import Counts
from nlp_tasks.data.sentences import EMPTY_NODE, MULTI_WORD
from nlp_tasks.data.sources import Files, Source, TensorFlowDatasets, ToyWorld, open_source
from nlp_tasks.errors import UserError
from nlp_tasks.recipe import Data
from nlp_tasks.tasks.question_answering import QuestionAnswering

COLUMNS = {"text": ("text", "sentence"), "label": ("label",)}
ORDER = ("text", "label")


def found(source: Source, split: str) -> list[tuple[str, str, str]]:
    return [(row.fields["text"], row.fields["label"], str(row.where)) for row in source.rows(split, Counts())]


def refusal(call: Callable[..., Any], *arguments: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert caught.value.hint
    return caught.value


# Files


def files(**data: str) -> Files:
    return Files(Data(**data), COLUMNS, ORDER)


def test_a_file_is_named_by_a_path_or_by_one_below_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("good\tpos\n")
    expected = [("good", "pos", f"{path}:1")]
    assert found(files(directory=str(tmp_path)), "train.tsv") == expected
    assert found(files(directory="/elsewhere"), str(path)) == expected


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "train.tsv").write_text("good\tpos\n")
    assert len(found(files(directory="~"), "train.tsv")) == len(found(files(), "~/train.tsv")) == 1


def test_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("good\tpos\n\nbad\tneg\n")
    counts = Counts()
    list(files(directory=str(tmp_path)).rows("a.tsv", counts))
    assert str(counts) == "2 rows, 1 left out (blank line)"


def test_a_missing_file_says_where_the_data_comes_from() -> None:
    error = refusal(files(directory="/nowhere", origin="https://example.org").path, "train.csv")
    assert error.message == "no file /nowhere/train.csv"
    assert error.hint.startswith("the data comes from https://example.org; name the files by data.train")


def test_the_fingerprint_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    source = files(directory=str(tmp_path))
    for name, content in {"a.tsv": "good\tpos\n", "b.tsv": "good\tpos\n", "c.tsv": "good\tneg\n"}.items():
        (tmp_path / name).write_text(content)
    a, b, c = (source.fingerprint(f"{name}.tsv") for name in "abc")
    assert a == b != c


def test_the_fingerprint_of_folders_is_that_of_labels_names_and_content(tmp_path: Path) -> None:
    source = files(directory=str(tmp_path))

    def fingerprint(folder: str, **content: str) -> str:
        for name, text in content.items():
            path = tmp_path / folder / name.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return source.fingerprint(folder)

    first = fingerprint("a", pos_1="x", neg_2="y")
    assert fingerprint("b", pos_1="x", neg_2="y") == first
    assert fingerprint("b", neg_2="z") != first
    assert fingerprint("b", neg_2="y") == first
    assert fingerprint("b", neg_3="") != first
    assert fingerprint("c", neg_2="y", other_1="x") != first
    ignored = {"pos_.DS": "x", ".git_HEAD": "x", "pos_deeper_1": "x", "README": "x"}
    assert fingerprint("a", **ignored) == first


# TensorFlow Datasets


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A prepared data set: `made_up/plain:1.0.0`, with texts, labels by number, and a split without labels."""
    folder = tmp_path_factory.mktemp("tfds")
    splits = {"train": [("é1", 1), ("two", 0), ("three", 1), ("four", 0)], "test": [("five", 1)], "blind": [("six", -1)]}
    features = tfds.features.FeaturesDict({
        "sentence": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["bad", "good"]), "idx": np.int32,
    })  # fmt: skip

    prepare(folder, "made_up/plain/1.0.0", features, {
        split: [{"sentence": text, "label": label, "idx": index} for index, (text, label) in enumerate(rows)]
        for split, rows in splits.items()
    })  # fmt: skip
    return str(folder)


def prepare(folder: Path, name: str, features: tfds.features.FeaturesDict, splits: dict[str, list[dict[str, Any]]]) -> None:
    place = folder / name
    place.mkdir(parents=True)
    short = place.parts[-3]
    for split, rows in splits.items():
        with tf.io.TFRecordWriter(str(place / f"{short}-{split}.tfrecord-00000-of-00001")) as writer:
            for row in rows:
                writer.write(features.serialize_example(features.encode_example(row)))
    tfds.folder_dataset.write_metadata(
        data_dir=str(place), features=features, filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        split_infos=[tfds.core.SplitInfo(name=split, shard_lengths=[len(rows)], num_bytes=0) for split, rows in splits.items()],
    )  # fmt: skip


def catalogue(
    name: str, data_dir: str | None, columns: Mapping[str, tuple[str, ...]] = COLUMNS, **data: str
) -> TensorFlowDatasets:
    return TensorFlowDatasets(Data(source=f"tfds:{name}", **data), columns, data_dir)


def test_rows_of_a_prepared_data_set(data_dir: str) -> None:
    place = "tfds:made_up/plain/train"
    expected = [
        ("é1", "good", f"{place}:1"),
        ("two", "bad", f"{place}:2"),
        ("three", "good", f"{place}:3"),
        ("four", "bad", f"{place}:4"),
    ]
    assert found(catalogue("made_up/plain", data_dir), "train") == expected
    assert found(catalogue("made_up/plain:1.0.0", data_dir), "train[:50%]")[1] == (
        "two",
        "bad",
        "tfds:made_up/plain:1.0.0/train[:50%]:2",
    )
    assert found(catalogue("made_up/plain", data_dir), "train[:1]+test")[1][:2] == ("five", "good")


def test_the_fingerprint_of_a_data_set_is_that_of_its_content_and_split(data_dir: str, tmp_path: Path) -> None:
    source = catalogue("made_up/plain", data_dir)
    assert source.fingerprint("train") == catalogue("made_up/plain", data_dir).fingerprint("train")
    assert source.fingerprint("train") != source.fingerprint("test")
    for file in Path(data_dir).rglob("*"):
        if file.is_file():
            copy = tmp_path / file.relative_to(data_dir)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    assert catalogue("made_up/plain", str(tmp_path)).fingerprint("train") == source.fingerprint("train")
    (shard,) = tmp_path.rglob("*train*-of-*")
    shard.write_bytes(shard.read_bytes()[::-1])
    assert catalogue("made_up/plain", str(tmp_path)).fingerprint("train") != source.fingerprint("train")


def test_an_unknown_split_is_refused(data_dir: str) -> None:
    error = refusal(found, catalogue("made_up/plain", data_dir), "validation")
    assert error.message.startswith("data set 'made_up/plain' has no split 'validation': ")
    assert set(error.hint.removeprefix("it has: ").split(", ")) == {"train", "test", "blind"}


def test_an_unknown_column_is_refused(data_dir: str) -> None:
    error = refusal(found, catalogue("made_up/plain", data_dir, {"text": ("review",), "label": ("label",)}), "train")
    assert error.message == "data set 'made_up/plain' has no column for text: it has idx, label, sentence"
    assert error.hint == "call the column for text 'review', or say in [data] what it is called"


def test_withheld_labels_are_refused(data_dir: str) -> None:
    assert (
        "tfds:made_up/plain/blind:1: the label is withheld"
        in refusal(found, catalogue("made_up/plain", data_dir), "blind").message
    )


@pytest.mark.parametrize(
    "name",
    ["imdb_reviews", "glue/sst2", "imdb_reviews:0.0.1", "glue/no_config", "no_such_set", "huggingface:glue/sst2", "No set", ""],
)
def test_what_is_not_prepared_is_refused_at_once_with_what_to_run(name: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    error = refusal(lambda: catalogue(name, str(tmp_path / "data"), origin="https://example.org", licence="CC BY"))
    assert time.monotonic() - begun < 3
    assert error.message.startswith(f"data set {name!r} is not ")
    command = f"tfds.builder({name!r}, data_dir={f'{tmp_path}/data'!r}).download_and_prepare()"
    assert f'python -c "import tensorflow_datasets as tfds; {command}"' in error.hint
    assert "It comes from https://example.org (CC BY)" in error.hint
    assert not (tmp_path / "data").exists()


WORDS = {"words": ("tokens",), "tags": ("tags", "upos")}


def tagged(source: Source, split: str) -> list[tuple[Any, Any, str]]:
    return [(row.fields["words"], row.fields["tags"], str(row.where)) for row in source.rows(split, Counts())]


def test_sequences_become_tuples(tmp_path: Path) -> None:
    text, tag = tfds.features.Text(), tfds.features.ClassLabel(names=["NOUN", "VERB"])
    features = tfds.features.FeaturesDict({"tokens": tfds.features.Sequence(text), "tags": tfds.features.Sequence(tag)})
    rows = [{"tokens": ["é", "b"], "tags": ["VERB", 0]}, {"tokens": [], "tags": []}, {"tokens": [""], "tags": [1]}]
    prepare(tmp_path, "made_up/tagged/1.0.0", features, {"train": rows, "blind": [{"tokens": ["a"], "tags": [-1]}]})
    source, place = catalogue("made_up/tagged", str(tmp_path), WORDS), "tfds:made_up/tagged/train"
    assert tagged(source, "train") == [
        (("é", "b"), ("VERB", "NOUN"), f"{place}:1"), ((), (), f"{place}:2"), (("",), ("VERB",), f"{place}:3"),
    ]  # fmt: skip
    assert "tfds:made_up/tagged/blind:1: the label is withheld" in refusal(tagged, source, "blind").message


def test_columns_inside_others_have_a_path(tmp_path: Path) -> None:
    """As SQuAD's answers."""
    text = tfds.features.Text()
    answers = tfds.features.Sequence({"text": text, "answer_start": np.int32})
    features = tfds.features.FeaturesDict({"context": text, "answers": answers})
    rows = [{"context": "ab é", "answers": [{"text": "é", "answer_start": 3}, {"text": "ab", "answer_start": 0}]},
            {"context": "", "answers": []}]  # fmt: skip
    prepare(tmp_path, "made_up/asked/1.0.0", features, {"train": rows})
    columns = {"passage": ("passage", "context"), "answers": ("answers/text",), "starts": ("answers/answer_start",)}
    found = list(catalogue("made_up/asked", str(tmp_path), columns).rows("train", Counts()))
    assert [row.fields for row in found] == [
        {"passage": "ab é", "answers": ("é", "ab"), "starts": ("3", "0")}, {"passage": "", "answers": (), "starts": ()},
    ]  # fmt: skip
    lacking = catalogue("made_up/asked", str(tmp_path), {"answers": ("answers/words",)})
    assert (
        "has no column for answers" in refusal(lambda source, split: list(source.rows(split, Counts())), lacking, "train").message
    )


def test_questions_of_squad_are_read_by_their_task(tmp_path: Path) -> None:
    text = tfds.features.Text()
    answers = tfds.features.Sequence({"text": text, "answer_start": np.int32})
    features = tfds.features.FeaturesDict({"id": text, "title": text, "context": text, "question": text, "answers": answers})
    row = {"id": "q1", "title": "Rome", "context": "Zoë was born in Rome.", "question": "Where?",
           "answers": [{"text": "Rome", "answer_start": 16}, {"text": "in Rome", "answer_start": 13}]}  # fmt: skip
    prepare(tmp_path, "squad/v1.1/3.0.0", features, {"train": [row], "validation": [row]})
    content = recipe.load("question_answering/squad_drqa", lambda name: QuestionAnswering.recipe_type)
    task = QuestionAnswering(content)
    splits = task.splits(content, str(tmp_path))
    (found,) = task.read(splits.rows("test"), splits.counts["test"])
    assert found.inputs == ("Where?", "Zoë was born in Rome.") and found.target == ("Rome", "in Rome")
    assert found.starts == (16, 13) and (found.id, found.title) == ("q1", "Rome") and not splits.counts["test"].mended


def test_what_is_no_word_of_a_treebank_is_left_out(tmp_path: Path) -> None:
    """The multi-word token "du" of "de" and "le", and an empty node: only they have no head."""
    features = tfds.features.FeaturesDict(UNIVERSAL_DEPENDENCIES_FEATURES)
    other = {"lemmas": [], "xpos": [], "feats": [], "deprel": [], "deps": [], "misc": []}
    rows = [
        {"tokens": ["vient", "du", "de", "le", "nord", "vient"], "upos": ["VERB", "_", "NOUN", "NOUN", "NOUN", "VERB"],
         "head": ["0", "None", "4", "4", "1", "None"], "idx": "s1", "text": "vient du nord", **other},
        {"tokens": ["None"], "upos": ["NOUN"], "head": ["0"], "idx": "s2", "text": "None", **other},
        {"tokens": ["du"], "upos": ["_"], "head": ["None"], "idx": "s3", "text": "du", **other},
    ]  # fmt: skip
    prepare(tmp_path, "universal_dependencies/fr_gsd/1.0.1", features, {"train": rows})
    source, place = catalogue("universal_dependencies/fr_gsd", str(tmp_path), WORDS), "tfds:universal_dependencies/fr_gsd/train"
    assert tagged(source, "train") == [
        (("vient", "de", "le", "nord"), ("VERB", "NOUN", "NOUN", "NOUN"), f"{place}:1"),
        (("None",), ("NOUN",), f"{place}:2"), ((), (), f"{place}:3"),
    ]  # fmt: skip
    counts = Counts()
    list(source.rows("train", counts))
    assert json.loads(json.dumps(counts.passed)) == {MULTI_WORD: 2, EMPTY_NODE: 1}, "numbers that a file can hold"
    prepare(tmp_path, "made_up/treebank/1.0.0", features, {"train": rows})
    assert len(tagged(catalogue("made_up/treebank", str(tmp_path), WORDS), "train")[0][0]) == 6


# The toy world, and which source is which


def test_the_toy_world() -> None:
    source = ToyWorld("sentiment", ORDER)
    text, label, where = found(source, "test")[0]
    assert text.endswith(".")
    assert label in ("negative", "positive")
    assert where == "toy_world/test:1"
    assert source.fingerprint("test") == ToyWorld("sentiment", ORDER).fingerprint("test") != source.fingerprint("validation")


def test_the_source_is_the_one_that_the_recipe_names(data_dir: str) -> None:
    kinds = {"files": Files, "toy_world": ToyWorld, "tfds:made_up/plain": TensorFlowDatasets}
    for name, kind in kinds.items():
        assert type(open_source(Data(source=name), "sentiment", COLUMNS, ORDER, data_dir)) is kind
    error = refusal(open_source, Data(source="file"), "sentiment", COLUMNS, ORDER, None)
    assert error.message == "data.source = 'file': not a known source"


def test_a_toy_world_of_another_task_is_named() -> None:
    source = open_source(Data(source="toy_world:ner"), "tagging", WORDS, ("words", "tags"), None)
    row = next(iter(source.rows("test", Counts())))
    assert set(row.fields) == {"words", "tags"}
    assert len(row.fields["words"]) == len(row.fields["tags"])
    assert str(row.where) == "toy_world/test:1"
    other = open_source(Data(source="toy_world:pos_tagging"), "tagging", WORDS, ("words", "tags"), None)
    assert source.fingerprint("test") != other.fingerprint("test")


def test_a_toy_world_that_lacks_a_column_is_refused() -> None:
    error = refusal(open_source, Data(source="toy_world:ner"), "sentiment", COLUMNS, ORDER, None)
    assert error.message == 'data.source = "toy_world:ner": it has no text, but words and tags'
    assert found(open_source(Data(source="toy_world:sentiment"), "word_vectors", {"text": ("text",)}, ("text",), None), "test")


def test_a_toy_world_has_no_further_splits() -> None:
    source = ToyWorld("question_answering", ("question",))
    for ask in (lambda: list(source.rows("dev", Counts())), lambda: source.fingerprint("dev")):
        error = refusal(ask)
        assert error.message == "the toy world has no split 'dev'"
        assert error.hint == "choose one of: test, train, validation"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pos_taging", "did you mean pos_tagging?"),
        ("Zürich", "choose one of: language_modeling, ner, "),
        ("__init__", ""),
        ("../ner", ""),
    ],
)
def test_a_misspelt_toy_world_is_refused(name: str, hint: str) -> None:
    error = refusal(open_source, Data(source=f"toy_world:{name}"), "tagging", WORDS, ("words", "tags"), None)
    assert error.message == f'data.source = "toy_world:{name}": no such world'
    assert error.hint.startswith(hint)
