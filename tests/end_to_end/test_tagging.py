"""Tagging by the command line: one small treebank from files to an export, what it answers, and every file that it must refuse."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from nlp_tasks import inference

if TYPE_CHECKING:
    from tests.conftest import Place
    from tests.end_to_end.conftest import Call, TwoDevices

SMALL = """
[model]
embedding = 8
units = 8
dropout = 0.1
embedding_dropout = 0.1

[model.characters]
embedding = 4
filters = 8

[training]
epochs = 4
batch_rows = 8
learning_rate = 0.03
patience = 0
"""
TREEBANK = (
    """
[task]
name = "tagging"

[data]
directory = "{folder}"
train = "train.conllu"
validation = "dev.conllu"
test = "test.conllu"
also = ["xpos"]
"""
    + SMALL
)
NAMES = (
    """
[task]
name = "tagging"

[data]
directory = "{folder}"
train = "train.conll"
validation = "dev.conll"
test = "test.conll"
columns = ["words", "pos", "tags"]
scheme = "bio"
"""
    + SMALL
)
TAGS = {"DET", "NOUN", "VERB", "AUX", "PART", "PROPN", "PUNCT"}


def line(identifier: str, form: str, upos: str = "_", xpos: str = "_") -> str:
    return f"{identifier}\t{form}\t{form.lower()}\t{upos}\t{xpos}" + "\t_" * 5


def block(number: int, draw: random.Random, names: Sequence[str]) -> list[str]:
    """The lines of a sentence: comments, a token of two words, a node that is no word."""
    pick, made = draw.choice, [f"# sent_id = {number}", "# text = made up"]
    nouns = "dog cat bird house tree cook".split()
    if number % 3:
        made += [line("1", pick(["The", "A"]), "DET", "DT"), line("2", pick(nouns), "NOUN", "NN"),
                 line("3-4", "don't"), line("3", "do", "AUX", "VBP"), line("4", "n't", "PART", "RB")]  # fmt: skip
    else:
        made += [line("1", pick(names), "PROPN", "NNP"), line("2", pick("does has may".split()), "AUX", "MD")]
    last = 4 if number % 3 else 2
    made += [line(str(last + 1), pick("see hear cook house".split()), "VERB", "VB"), line(f"{last + 1}.1", "gap", "VERB", "VB"),
             line(str(last + 2), "the", "DET", "DT"), line(str(last + 3), pick(nouns), "NOUN", "NN"),
             line(str(last + 4), ".", "PUNCT", ".")]  # fmt: skip
    return made


class Made(NamedTuple):
    """A folder with data and a recipe, and what a run left in it."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "small"

    @property
    def export(self) -> Path:
        return self.folder / "saved_models" / "small"

    def scores(self) -> dict[str, Any]:
        return json.loads((self.run / "scores.json").read_text())

    def predictions(self) -> list[dict[str, Any]]:
        return [json.loads(row) for row in (self.run / "predictions.jsonl").read_text().splitlines()]

    def words(self) -> list[list[str]]:
        return [row["words"] for row in self.predictions()]


def command(folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "nlp_tasks", *arguments], cwd=folder, input=given, capture_output=True, timeout=400
    )


def finish(folder: Path, recipe: str) -> Made:
    (folder / "small.toml").write_text(recipe.format(folder=folder))
    done = command(folder, "run", "small.toml", "--strategy", "cpu")
    assert done.returncode == 0, done.stderr.decode()
    return Made(folder)


def write_treebank(folder: Path) -> None:
    for seed, (split, count) in enumerate({"train": 60, "dev": 15, "test": 20}.items()):
        names = ["Anna", "Bob", "Paris"] if split == "train" else ["Anna", "Paris", "Zoe", "Yorick"]
        draw = random.Random(seed)
        blocks = ["\n".join(block(number, draw, names)) for number in range(count)]
        (folder / f"{split}.conllu").write_text("\n\n".join(blocks) + "\n\n")


@pytest.fixture(scope="module")
def treebank(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small treebank, trained, scored and exported by one real process. Treat what it left as read-only."""
    folder = tmp_path_factory.mktemp("treebank")
    write_treebank(folder)
    return finish(folder, TREEBANK)


def write_columns(folder: Path) -> None:
    draw = random.Random(0)
    people, places = [["Anna", "Lee"], ["Bob"], ["Zoe"]], [["New", "York"], ["Paris"], ["Rome"]]
    for split, count in {"train": 60, "dev": 15, "test": 20}.items():
        text = "-DOCSTART- -X- O\n\n"
        for _ in range(count):
            person, place = draw.choice(people), draw.choice(places)
            words = [*person, draw.choice(["sees", "likes"]), *place, "."]
            tags = [*["B-PER", "I-PER"][: len(person)], "O", *["B-LOC", "I-LOC"][: len(place)], "O"]
            text += "".join(f"{word} X {tag}\n" for word, tag in zip(words, tags, strict=True)) + "\n"
        (folder / f"{split}.conll").write_text(text)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same for names in a column file."""
    folder = tmp_path_factory.mktemp("names")
    write_columns(folder)
    return finish(folder, NAMES)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "output"), [("treebank", "softmax"), ("names", "crf")])
def test_two_devices_give_the_weights_of_one(tmp_path: Path, two_devices: TwoDevices, kind: str, output: str) -> None:
    """With batches of 59 sentences and of one, so that a device gets no sentence at all."""
    if kind == "treebank":
        write_treebank(tmp_path)
    else:
        write_columns(tmp_path)
    (tmp_path / "small.toml").write_text((TREEBANK if kind == "treebank" else NAMES).format(folder=tmp_path))
    settings = ("training.batch_rows=59", "training.buckets=1", "training.clip_norm=0.1", f'model.output="{output}"')
    differences = two_devices(tmp_path / "small.toml", *settings)
    worst = max(differences, key=lambda name: differences[name])
    assert len(differences) > 8 and differences[worst] <= 1e-9, (worst, differences[worst])


# A run


def test_the_scores_are_those_of_the_predictions(treebank: Made) -> None:
    content, rows = treebank.scores(), treebank.predictions()
    assert content["headline"] == "accuracy" and content["counts"]["examples"] == len(rows) == 20
    known = {cells[1] for cells in cells_of(treebank.folder / "train.conllu")}
    pairs = [
        (word in known, gold == answer)
        for row in rows
        for word, gold, answer in zip(row["words"], row["gold"], row["answer"], strict=True)
    ]
    expected = {
        "accuracy": np.mean([right for _, right in pairs]),
        "known_accuracy": np.mean([right for seen, right in pairs if seen]),
        "unknown_accuracy": np.mean([right for seen, right in pairs if not seen]),
        "sentence_accuracy": np.mean([row["gold"] == row["answer"] for row in rows]),
    }
    assert content["scores"] == pytest.approx(expected)
    assert (
        content["counts"]["words"] == len(pairs) and content["counts"]["unknown_words"] == sum(not seen for seen, _ in pairs) > 0
    )
    for name, value in expected.items():
        low, high = content["intervals"][name]
        assert 0 <= low <= value <= high <= 1
        baseline = content["baseline"]
        more, below, above = baseline["difference"][name]
        assert more == pytest.approx(value - baseline["scores"][name]) and below <= more <= above
    assert baseline["name"] == "most frequent tag of each word"
    assert expected["accuracy"] > 0.7


def cells_of(path: Path) -> list[list[str]]:
    """Of the words alone."""
    return [row.split("\t") for row in path.read_text().splitlines() if re.match(r"[0-9]+\t", row)]


def test_predictions_are_one_row_a_sentence(treebank: Made) -> None:
    rows, words = treebank.predictions(), cells_of(treebank.folder / "test.conllu")
    assert [row["id"] for row in rows] == list(range(20))
    assert [word for row in rows for word in row["words"]] == [cells[1] for cells in words]
    assert [tag for row in rows for tag in row["gold"]] == [cells[3] for cells in words]
    lines = (treebank.folder / "test.conllu").read_text().splitlines()
    for row in rows:
        assert len(row["words"]) == len(row["gold"]) == len(row["answer"]) == len(row["scores"]) == row["length"]
        assert set(row["answer"]) <= TAGS and all(0 < score <= 1 for score in row["scores"])
        path, _, number = row["where"].rpartition(":")
        assert Path(path).name == "test.conllu" and lines[int(number) - 1].startswith(f"1\t{row['words'][0]}\t")


FRESH = """
import importlib.machinery, json, sys
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("keras", "nlp_tasks", "tensorflow_text"):
            return None
        return super().find_spec(name, path, target)
sys.meta_path = [Finder if f is importlib.machinery.PathFinder else f for f in sys.meta_path if "editable" not in repr(f)]
import tensorflow as tf
folder, given = sys.argv[1], json.loads(sys.argv[2])
loaded = tf.saved_model.load(folder)
answers = {}
for signature, columns in given.items():
    dtypes = {"lengths": tf.int32}
    outputs = loaded.signatures[signature](**{n: tf.constant(c, dtypes.get(n, tf.string)) for n, c in columns.items()})
    answers[signature] = {name: value.numpy().astype("U" if value.dtype == tf.string else None).tolist() for name, value in outputs.items()}
assert not {"keras", "nlp_tasks"} & set(sys.modules)
print(json.dumps([sorted(loaded.signatures), answers]))
"""


def test_the_export_answers_with_nothing_but_tensorflow(treebank: Made, loaded: Callable[[Any], inference.Loaded]) -> None:
    texts = ["The dog do n't see Zoe .", "Anna"]
    words = [text.split() for text in texts]
    padded = [row + [""] * (len(words[0]) - len(row)) for row in words]
    flat = {"tokens": [word for row in words for word in row], "lengths": list(map(len, words))}
    given = {"serving_default": {"texts": texts}, "tokens": {"tokens": padded}, "flat": flat}
    folder = treebank.export / "1"
    done = subprocess.run(
        [sys.executable, "-P", "-c", FRESH, str(folder), json.dumps(given)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    signatures, answers = json.loads(done.stdout.splitlines()[-1])
    assert signatures == ["flat", "serving_default", "tokens"]
    assert {name: set(outputs) for name, outputs in answers.items()} == {
        "serving_default": {"tokens", "tags", "scores", "lengths", "starts", "ends"},
        "tokens": {"tags", "scores", "lengths"},
        "flat": {"tags", "scores"},
    }
    assert answers["flat"]["tags"] == [tag for row in answers["tokens"]["tags"] for tag in row if tag]
    assert {tag for row in answers["tokens"]["tags"] for tag in row} <= {*TAGS, ""}
    by_text = answers["serving_default"]["tags"]
    assert [tag for tag in by_text[1] if tag] == [tag for tag in answers["tokens"]["tags"][1] if tag]
    assert [[tag for tag in row if tag] for row in by_text] == [row["tags"] for row in loaded(treebank.run).predict(texts)]
    assert answers["flat"]["scores"] == pytest.approx(
        [s for row in loaded(treebank.run).predict(words) for s in row["scores"]], abs=1e-5
    )
    ops = (folder / "assets.extra" / "ops.txt").read_text().split()
    assert ops and not [op for op in ops if "PyFunc" in op or op.startswith("Xla")]


# Predict


@pytest.mark.parametrize("place", ["run", "export"])
def test_predict_lines(treebank: Made, call: Call, tmp_path: Path, loaded: Callable[[Any], inference.Loaded], place: str) -> None:
    model = str(getattr(treebank, place))
    lines = ["The dog sees Anna.", "", "Zoe,\t👍🏽 e\u0301", "a \u00a0 b"]
    path = tmp_path / "lines.txt"
    path.write_bytes("\r\n".join(lines).encode() + b"\n\xff the")
    answers = loaded(model).predict([*lines, "\ufffd the"])
    tokens = [["The", "dog", "sees", "Anna", "."], [], ["Zoe", ",", "👍🏽", "e\u0301"], ["a", "b"], ["\ufffd", "the"]]
    assert [answer["tokens"] for answer in answers] == tokens
    text = [" ".join(f"{token}/{tag}" for token, tag in zip(a["tokens"], a["tags"], strict=True)) for a in answers]
    assert call("predict", model, str(path)) == (0, "".join(f"{row}\n" for row in text).encode(), "")
    tables = ["".join(f"{token}\t{tag}\n" for token, tag in zip(a["tokens"], a["tags"], strict=True)) for a in answers]
    assert call("predict", model, str(path), "--format", "tsv").out == "".join(f"{table}\n" for table in tables)
    rows = [json.loads(row) for row in call("predict", model, str(path), "--format", "jsonl").out.splitlines()]
    assert [row.pop("text") for row in rows] == [*lines, "\ufffd the"]
    scores = [[score for row in given for score in row.pop("scores")] for given in (rows, answers)]
    assert rows == answers and scores[0] == pytest.approx(scores[1], abs=1e-5)  # batches differ, sums of floats with them
    for row, characters in zip(rows, [*lines, "\ufffd the"], strict=True):
        assert [characters[start:end] for start, end in row["offsets"]] == row["tokens"]


@pytest.mark.parametrize("place", ["run", "export"])
def test_predict_lines_in_tokens(treebank: Made, call: Call, loaded: Callable[[Any], inference.Loaded], place: str) -> None:
    model, given = str(getattr(treebank, place)), "The dog's  don't .\n\n\tAnna,Zoe \n"
    words = [["The", "dog's", "don't", "."], [], ["Anna,Zoe"]]
    answers = loaded(model).predict(words)
    assert [answer["tokens"] for answer in answers] == words
    outcome = call("predict", model, "--tokenized", given=given.encode())
    assert outcome.code == 0
    text = [" ".join(f"{token}/{tag}" for token, tag in zip(a["tokens"], a["tags"], strict=True)) for a in answers]
    assert outcome.out.splitlines() == text
    rows = call("predict", model, "--tokenized", "--format", "jsonl", given=given.encode()).out.splitlines()
    assert [json.loads(row) for row in rows] == [{"text": t, **a} for t, a in zip(given.split("\n"), answers, strict=False)]
    table = call("predict", model, "--tokenized", "--format", "tsv", given=given.encode()).out
    assert [row.split("\t")[0] for row in table.split("\n")] == [*words[0], "", "", *words[2], "", ""]


def documents() -> dict[str, bytes]:
    """CoNLL-U in every shape that files have."""
    plain = (
        "# newdoc\n# text = The dog doesn't\n" + line("1", "The", "X", "Y") + "\n" + line("2", "dog") + "\n" + line("3-4", "doesn't", "_")
        + "\n" + line("3", "does") + "\n" + line("4", "n't", "", "") + "\n" + line("4.1", "gap", "GAP") + "\n" + line("4.2", "gap", "GAP")
        + "\n\n" + line("1", "10 000") + "\n" + line("2", "a\u00a0b") + "\n" + line("3", "👍🏽") + "\n\n# only a comment\n\n\n"
        + line("0.1", "gap", "GAP") + "\n" + line("1-1", "x", "_") + "\n" + line("1", "Zoe") + "\n\n"
    ).encode()  # fmt: skip
    return {
        "as written": plain,
        "CRLF": plain.replace(b"\n", b"\r\n"),
        "byte-order mark": b"\xef\xbb\xbf" + plain,
        "byte-order mark before a word": b"\xef\xbb\xbf" + plain.split(b"\n", 2)[2],
        "no last newline": plain.rstrip(b"\n"),
        "no last newline, CRLF": plain.rstrip(b"\n").replace(b"\n", b"\r\n"),
        "blank lines that hold tabs and spaces": plain.replace(b"\n\n", b"\n\t\n").replace(b"\n\t\n#", b"\n \t \n#"),
        "blank lines before": b"\n\n" + plain,
        "two files in one": plain + b"\xef\xbb\xbf" + plain,
        "nothing": b"",
        "comments alone": b"# nothing\n",
    }


def check_filled(given: bytes, out: bytes, loaded: inference.Loaded) -> None:
    """Every byte as it was, but for the tags of words: those are the model's."""
    before, after = given.split(b"\n"), out.split(b"\n")
    assert len(before) == len(after)
    sentences: list[list[tuple[str, str]]] = [[]]
    for old, new in zip(before, after, strict=True):
        if not old.strip():
            sentences.append([])
        if re.match(rb"(\xef\xbb\xbf)?[0-9]+\t", old):
            cells, filled = old.split(b"\t"), new.split(b"\t")
            assert filled[:3] + filled[4:] == cells[:3] + cells[4:]
            sentences[-1].append((cells[1].decode(), filled[3].decode()))
        else:
            assert new == old
    sentences = [sentence for sentence in sentences if sentence]
    answers = loaded.predict([[word for word, _ in sentence] for sentence in sentences])
    assert [[tag for _, tag in sentence] for sentence in sentences] == [answer["tags"] for answer in answers]


@pytest.mark.parametrize("name", documents())
def test_conllu_comes_back_but_for_its_tags(
    treebank: Made, call: Call, loaded: Callable[[Any], inference.Loaded], tmp_path: Path, name: str
) -> None:
    given, path = documents()[name], tmp_path / "given.conllu"
    path.write_bytes(given)
    outcomes = [
        call("predict", str(model), *([str(path)] if given_by == "file" else []), "--format", "conllu",
             given=given if given_by != "file" else None)
        for model in (treebank.run, treebank.export) for given_by in ("file", "standard input")
    ]  # fmt: skip
    assert {outcome.code for outcome in outcomes} == {0} and {outcome.err for outcome in outcomes} == {""}
    assert len({outcome.out for outcome in outcomes}) == 1
    check_filled(given, outcomes[0].raw, loaded(treebank.export))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["run", "export"])
def test_conllu_by_a_real_process(treebank: Made, loaded: Callable[[Any], inference.Loaded], place: str) -> None:
    given = b"\n\n".join(documents().values())
    done = command(treebank.folder, "predict", str(getattr(treebank, place)), "--format", "conllu", given=given)
    assert (done.returncode, done.stderr) == (0, b"")
    check_filled(given, done.stdout, loaded(treebank.export))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (line("1", "The") + "\n2\tdog\tdog\n", "{place}:2: 3 column(s), expected 10: '2'"),
        (line("1", "The") + "\n" + line("3", "dog") + "\n", "{place}:2: id 3 after id 1; expected 2"),
        (line("1", "The") + "\n1\t\t_" + "\t_" * 7 + "\n", "{place}:2: id 1 after id 1; expected 2"),
        ("\n" + line("1", "The").replace("The", ""), "{place}:2: word 1 has no form"),
    ],
)
def test_broken_conllu_is_refused_with_its_place(treebank: Made, call: Call, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.conllu"
    path.write_text(text)
    for arguments, given, place in (([str(path)], None, str(path)), ([], text.encode(), "standard input")):
        outcome = call("predict", str(treebank.export), *arguments, "--format", "conllu", given=given)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.splitlines()[0] == f"error: {message.format(place=place)}"
        assert "\nhint: " in outcome.err


# What must be refused in training


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a treebank and a recipe."""
    monkeypatch.chdir(tmp_path)
    write_treebank(tmp_path)
    Path("small.toml").write_text(TREEBANK.format(folder=tmp_path))
    return tmp_path


Refusal = Callable[..., str]


@pytest.fixture
def refused(call: Call, data: Path) -> Refusal:
    """The message of a run that must be refused, and leaves nothing."""

    def called(*settings: str) -> str:
        before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
        outcome = call("run", "small.toml", "--strategy", "cpu", *(word for setting in settings for word in ("--set", setting)))
        assert (outcome.code, outcome.out) == (2, ""), outcome
        *_, message, hint = outcome.err.splitlines()
        assert message.startswith("error: ") and hint.startswith("hint: ") and "Traceback" not in outcome.err
        assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
        assert not [*data.glob("runs/*"), *data.glob("saved_models/*")]
        return message.removeprefix("error: ").replace(f"{data}/", "")

    return called


GOOD = line("1", "The", "DET") + "\n" + line("2", "dog", "NOUN") + "\n\n"


BROKEN = {
    "spaces for tabs": (GOOD + line("1", "The", "DET").replace("\t", " ") + "\n", "bad.conllu:4: 1 column(s), expected 10: "),
    "a column too many": (GOOD + line("1", "The", "DET") + "\t_\n", "bad.conllu:4: 11 column(s), expected 10: '1'"),
    "a wrong first id": (GOOD + line("2", "The", "DET") + "\n", "bad.conllu:4: id 2 at the beginning; expected 1"),
    "an id twice": (GOOD + f"{line('1', 'The')}\n{line('1', 'dog')}\n", "bad.conllu:5: id 1 after id 1; expected 2"),
    "no words": ("# nothing\n", "bad.conllu: empty file"),
}


@pytest.mark.parametrize(
    ("name", "split"),
    [*((name, "train") for name in BROKEN), ("a column too many", "validation"), ("an id twice", "test"), ("no words", "test")],
)
def test_a_broken_treebank(refused: Refusal, name: str, split: str) -> None:
    text, message = BROKEN[name]
    Path("bad.conllu").write_text(text)
    assert refused(f'data.{split}="bad.conllu"').startswith(message)


def test_a_missing_file(refused: Refusal) -> None:
    for split in ("train", "validation", "test"):
        assert refused(f'data.{split}="none.conllu"') == "no file none.conllu"


def test_only_one_tag_in_training(refused: Refusal) -> None:
    Path("one.conllu").write_text(line("1", "The", "DET") + "\n" + line("2", "a", "DET") + "\n\n")
    assert refused('data.train="one.conllu"') == "the training data has only one tag, 'DET'"


def test_a_column_that_conllu_lacks(refused: Refusal) -> None:
    assert refused('data.tags="ner"').startswith("train.conllu: CoNLL-U has no column for tags (ner or tags)")


def test_tags_that_write_no_spans(refused: Refusal) -> None:
    number = (Path("train.conllu").read_text().splitlines().index("# sent_id = 0")) + 3
    assert refused('data.scheme="bio"').startswith(f"train.conllu:{number}: 'PROPN' is no tag of bio: expected O or ")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_tag_that_is_none_of_the_scheme(refused: Refusal, split: str) -> None:
    columns = ("data.scheme='bio'", "data.also=[]", *(f"data.{name}='good.conll'" for name in ("train", "validation", "test")))
    Path("good.conll").write_text("Anna B-PER\nsees O\n\n")
    Path("bad.conll").write_text("Anna B-PER\nsees O\n\nin O\nRome E-LOC\n")
    assert refused(*columns, f"data.{split}='bad.conll'") == "bad.conll:5: 'E-LOC' is no tag of bio: expected O or B-KIND, I-KIND"
    Path("bad.conll").write_text("Anna B-PER\nsees O\n\nin O\nRome NNP B-LOC\n")
    assert (
        refused(*columns, f"data.{split}='bad.conll'") == "bad.conll:5: 3 column(s), expected 2 (words, tags): 'Rome NNP B-LOC'"
    )


VECTORS = "the 1 2 3\ndog 4 5 6\ncat 7 8\n"


def test_vectors_of_another_dimension(refused: Refusal) -> None:
    Path("vectors.txt").write_text(VECTORS)
    message = refused('data.vectors="vectors.txt"')
    assert message.startswith("vectors.txt:3: expected a word and 3 numbers") and "'cat'" in message
    Path("vectors.txt").write_text("3 4\n" + VECTORS)
    message = refused('data.vectors="vectors.txt"')
    assert message.startswith("vectors.txt:2: expected a word and 4 numbers") and "'the'" in message


def test_missing_vectors_are_told_before_tensorflow_is_imported(data: Path) -> None:
    script = """if True:
        import sys
        from nlp_tasks.cli import main
        try:
            main()
        except SystemExit as end:
            print(end.code, sorted({"tensorflow", "keras"} & set(sys.modules)))
    """
    arguments = ["run", "small.toml", "--set", 'data.vectors="none.txt"']
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "2 []"
    assert done.stderr.splitlines()[0] == f"error: no file {data}/none.txt"
    assert not Path("runs").exists()


CHANGES: dict[str, Callable[[str], str]] = {
    "no last blank line": lambda text: text.rstrip("\n"),
    "blank lines that hold a tab": lambda text: text.replace("\n\n", "\n\t\n"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "byte-order mark": lambda text: "\ufeff" + text,
}


@pytest.mark.parametrize(("train", "validation"), [tuple(CHANGES)[:2], tuple(CHANGES)[2:]])
@pytest.mark.parametrize("kind", ["conllu", "conll"])
def test_files_that_are_fine(call: Call, data: Path, kind: str, train: str, validation: str) -> None:
    """Read as the plain file is."""
    text = (GOOD if kind == "conllu" else "The DET\ndog NOUN\n\n") * 3
    settings = ["data.also=[]"]
    for split, change in (("train", train), ("validation", validation), ("test", train)):
        Path(f"{split}.{kind}").write_bytes(CHANGES[change](text).encode())
        settings.append(f"data.{split}='{split}.{kind}'")
    outcome = call("check", "small.toml", "--json", *(word for setting in settings for word in ("--set", setting)))
    assert outcome.code == 0
    found = {
        name: (split["examples"], split["fields"]["words"]["tokens"]) for name, split in json.loads(outcome.out)["splits"].items()
    }
    assert found == {"train": (3, 6), "validation": (3, 6), "test": (3, 6)}


# What a model does not have


@pytest.mark.slow
def test_a_sentiment_model_takes_no_tokens_and_no_treebank(finished: Place, call: Call) -> None:
    tokens = call("predict", str(finished.export), "--tokenized", given=b"good film\n")
    assert (tokens.code, tokens.out) == (2, "")
    assert tokens.err.splitlines()[0] == "error: this model cannot predict texts that come in tokens"
    conllu = call("predict", str(finished.export), "--format", "conllu", given=b"")
    assert (conllu.code, conllu.out) == (2, "")
    assert conllu.err.splitlines() == ["error: this model has no --format conllu", "hint: it has: text, jsonl, tsv"]


# Names in a column file


@pytest.mark.slow
def test_a_run_of_names(names: Made, call: Call, loaded: Callable[[Any], inference.Loaded]) -> None:
    content, rows = names.scores(), names.predictions()
    assert content["headline"] == "span_f1" and content["counts"]["examples"] == len(rows) == 20
    assert {"span_f1", "precision", "recall", "accuracy", "known_accuracy", "unknown_accuracy", "sentence_accuracy"} == set(
        content["scores"]
    )
    for metric in ("span_f1", "accuracy"):
        low, high = content["intervals"][metric]
        assert low <= content["scores"][metric] <= high
        more, below, above = content["baseline"]["difference"][metric]
        assert more == pytest.approx(content["scores"][metric] - content["baseline"]["scores"][metric]) and below <= more <= above
    assert content["scores"]["span_f1"] > 0.5
    for model in (names.run, names.export):
        (answer,) = loaded(model).predict([["Anna", "Lee", "sees", "Rome", "."]])
        for span in answer["spans"]:
            assert answer["tags"][span["start"]] == f"B-{span['kind']}"
        row = json.loads(call("predict", str(model), "--tokenized", "--format", "jsonl", given=b"Anna Lee sees Rome .\n").out)
        assert row == {"text": "Anna Lee sees Rome .", **answer}
        outcome = call("predict", str(model), "--format", "conllu", given=GOOD.encode())
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.splitlines() == ["error: this model has no --format conllu", "hint: it has: text, jsonl, tsv"]
