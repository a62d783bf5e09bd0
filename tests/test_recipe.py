"""Recipes: what is read, what is refused and with which words, what makes two of them the same."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlp_tasks import recipe, tasks
from nlp_tasks.errors import UserError, nearest
from nlp_tasks.recipe import Recipe, Section, key_lines, to_toml

Write = Callable[..., Path]
MINIMAL = '[task]\nname = "sentiment"\n\n[data]\ntrain = "train.csv"\n'


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str, name: str = "own.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return written


def load(name: str | Path, *settings: str) -> Any:
    return recipe.load(str(name), lambda task: tasks.find(task).recipe_type, settings)


def refusal(name: str | Path, *settings: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load(name, *settings)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", recipe.names())
def test_a_shipped_recipe_loads_and_its_resolved_text_is_the_same_recipe(name: str, write: Write) -> None:
    content = load(name)
    again = load(write(content.resolved()))
    assert again == content
    assert again.resolved() == content.resolved()
    assert again.identity() == content.identity()


def test_there_are_recipes_and_those_that_need_nothing_say_so() -> None:
    assert "sentiment/sample" in recipe.names()
    assert load("sentiment/sample").needs() == load("language_modeling/python_code").needs() == "nothing"
    assert load("sentiment/sample", "data.source=tfds:glue/sst2").needs() == "TFDS glue/sst2"
    assert load("sentiment/sample", "data.source=files").needs() == "your files"


# extends


def test_a_chain_of_extends_is_read_from_the_bottom(write: Write) -> None:
    write(MINIMAL + 'test = "a"\n[training]\nepochs = 7\nseed = 7\n[text]\nblank = ["<br>", "<hr>"]\n', "lowest.toml")
    write('extends = "lowest.toml"\n[data]\ntest = "b"\n[training]\nseed = 8\n[text]\nblank = ["<p>"]\n', "middle.toml")
    content = load(write('extends = "middle.toml"\ndescription = "top"\n[data]\nvalidation = "v"\n'))
    assert (content.data.train, content.data.validation, content.data.test) == ("train.csv", "v", "b")
    assert (content.training.epochs, content.training.seed, content.text.blank) == (7, 8, ("<p>",))
    assert content.description == "top"


def test_a_shipped_recipe_is_extended_by_its_name(write: Write) -> None:
    base = load("sentiment/sample")
    content = load(write('extends = "sentiment/sample"\n[training]\nepochs = 1\n'))
    assert content == msgspec.structs.replace(base, training=msgspec.structs.replace(base.training, epochs=1))


def test_the_parts_of_a_model_are_replaced_and_their_sections_kept(write: Write) -> None:
    write(MINIMAL + '[model]\nparts = ["recurrent", "convolution"]\n[model.recurrent]\nunits = 3\n', "lower.toml")
    model = load(write('extends = "lower.toml"\n[model]\nparts = ["recurrent"]\n[model.recurrent]\npooling = "mean"\n')).model
    assert model.parts == ("recurrent",)
    assert (model.recurrent.units, model.recurrent.pooling) == (3, "mean")


@pytest.mark.parametrize(("first", "second"), [("a.toml", "b.toml"), ("a.toml", "a.toml"), ("../{0}/a.toml", "../{0}/b.toml")])
def test_a_circle_of_extends_is_refused(write: Write, tmp_path: Path, first: str, second: str) -> None:
    write(f'extends = "{second.format(tmp_path.name)}"\n', "a.toml")
    write(f'extends = "{first.format(tmp_path.name)}"\n', "b.toml")
    error = refusal(tmp_path / "a.toml")
    assert "a.toml: extends itself" in error.message
    assert "circle" in error.hint


@pytest.mark.parametrize(
    ("base", "message"), [('"sentiment/smaple"', "unknown recipe"), ('"no.toml"', "no recipe file"), ("3", "extends = 3")]
)
def test_what_is_extended_must_be_there(write: Write, base: str, message: str) -> None:
    path = write(f"# a comment\nextends = {base}\n")
    assert refusal(path).message.startswith(f"{path}:2: {message}")


class Bag(Section, frozen=True, kw_only=True, tag="bag", tag_field="kind"):
    order: int = 1


class Network(Section, frozen=True, kw_only=True, tag="network", tag_field="kind"):
    units: int = 2


class Choice(Recipe, frozen=True, kw_only=True):
    model: Bag | Network


def test_another_kind_of_model_forgets_the_keys_of_the_one_below(write: Write) -> None:
    write(MINIMAL + '[model]\nkind = "bag"\norder = 5\n', "lower.toml")

    def model(text: str) -> Bag | Network:
        content = recipe.load(str(write(text)), lambda task: Choice)
        assert isinstance(content, Choice)
        return content.model

    assert model('extends = "lower.toml"\n[model]\nkind = "network"\n') == Network()
    assert model('extends = "lower.toml"\n[model]\nkind = "bag"\n') == Bag(order=5)
    with pytest.raises(UserError, match=r"own.toml:4: unknown key model.oder\nhint: did you mean order\?"):
        model('extends = "lower.toml"\n[model]\nkind = "bag"\noder = 5\n')
    with pytest.raises(UserError, match=r"own.toml:3: model.kind = 'bog'"):
        model('extends = "lower.toml"\n[model]\nkind = "bog"\n')


# --set


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training.epochs=3", 3),
        ("training.learning_rate=1e-4", 1e-4),
        ("training.learning_rate=1", 1.0),
        ("training.compile=true", True),
        ("data.directory=/some/where", "/some/where"),
        ("data.train=", ""),
        ("data.train=a=b.csv", "a=b.csv"),
        ('data.train="3"', "3"),
        ("data.train=naïve file.csv", "naïve file.csv"),
        (' text.blank =["<br />", "x"]', ("<br />", "x")),
        ("model.parts=['convolution']", ("convolution",)),
        ("model.recurrent.units=5", 5),
    ],
)
def test_set_takes_toml_or_a_plain_string(setting: str, value: object) -> None:
    content = load("sentiment/sample", setting)
    for part in setting.partition("=")[0].strip().split("."):
        content = getattr(content, part)
    assert content == value
    assert type(content) is type(value)


def test_the_last_setting_of_a_key_counts() -> None:
    assert load("sentiment/sample", "training.epochs=3", "training.epochs=4").training.epochs == 4


@pytest.mark.parametrize("setting", ["training.epochs", "epochs=3", "=3", "training.=3", ".epochs=3", "training..epochs=3", ""])
def test_a_setting_needs_section_key_and_value(setting: str) -> None:
    error = refusal("sentiment/sample", setting)
    assert error.message == f"--set {setting}: expected section.key=value"
    assert "--set training.epochs=3" in error.hint


def test_a_setting_below_a_value_is_refused() -> None:
    assert refusal("sentiment/sample", "training.epochs.x=3").message == "--set training.epochs.x=3: epochs is not a section"


# Refusals


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ("[training]\nepoch = 3", ":7", "unknown key training.epoch", "did you mean epochs"),
        ("[trainig]\nepochs = 3", ":6", "unknown key trainig", "did you mean training"),
        ("[training]\nxyzzy = 3", ":7", "unknown key training.xyzzy", "choose one of: average_last, "),
        ("[model.recurrent]\n# why\nunit = 3", ":8", "unknown key model.recurrent.unit", "did you mean units"),
        ("[model]\nrecurrent = { unit = 3 }", ":7", "unknown key model.recurrent.unit", "did you mean units"),
        ("[training]\nepochs = 'three'", ":7", "training.epochs = 'three': expected `int`, got `str`", "comments"),
        ("[training]\nepochs = 3.0", ":7", "training.epochs = 3.0: expected `int`, got `float`", ""),
        ("[training]\nepochs = true", ":7", "training.epochs = True: expected `int`, got `bool`", ""),
        ("[training]\n\nepochs = 0", ":8", "training.epochs = 0: expected `int` >= 1", ""),
        ("[training]\nbatch_rows = -4", ":7", "training.batch_rows = -4: expected `int` >= 1", ""),
        ("[training]\nlearning_rate = 0.0", ":7", "training.learning_rate = 0.0: expected `float` > 0.0", ""),
        ("[training]\nlearning_rate = nan", ":7", "training.learning_rate = nan: expected `float` > 0.0", ""),
        ("[training]\noptimizer = 'adma'", ":7", "training.optimizer = 'adma': invalid enum value", "did you mean adam"),
        ("[model]\nparts = []", ":7", "model.parts = []: expected `array` of length >= 1", ""),
        ("[model]\nparts = ['recurent']", ":7", "model.parts[0] = 'recurent': invalid", "did you mean recurrent"),
        ("[text]\nblank = '<br />'", ":7", "text.blank = '<br />': expected `array`, got `str`", ""),
        ("[model.convolution]\nwidths = [1, 0]", ":7", "model.convolution.widths[1] = 0: expected `int` >= 1", ""),
        ("[[anchor]]\nmetric = 'a'\nvalue = 'b'\nsource = 'c'", ":8", "anchor[0].value = 'b': expected `float`", ""),
        ("[[anchor]]\nmetric = 'a'\nvalue = 1", ":6", "[anchor] has no source", "add source"),
        ("[[anchor]]\nmetrik = 'a'", ":7", "unknown key anchor.metrik", "did you mean metric"),
        ("training.epochs = -3", ":6", "unknown key data.training", "did you mean train"),
        ("[modell.recurrent]\nunits = 3", ":6", "unknown key modell", "did you mean model"),
    ],
)
def test_a_refusal_names_line_key_what_was_received_and_expected(
    write: Write, text: str, place: str, message: str, hint: str
) -> None:
    path = write(MINIMAL + text + "\n")
    error = refusal(path)
    assert error.message.startswith(f"{path}{place}: ")
    assert message in error.message
    assert hint in error.hint


def test_a_refusal_names_the_file_that_holds_the_key(write: Write) -> None:
    lower = write(MINIMAL + "[training]\nepochs = -1\n", "lower.toml")
    assert refusal(write('extends = "lower.toml"\n')).message.startswith(f"{lower}:7: training.epochs = -1")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs=0", "training.epochs = 0: expected `int` >= 1"),
        ("data.nonsense=1", "unknown key data.nonsense"),
        ("modell.recurrent.units=1", "unknown key modell"),
        ("data.validation_share=1", "data.validation_share = 1: expected `float` < 1.0"),
    ],
)
def test_a_refusal_names_the_setting(setting: str, message: str) -> None:
    assert refusal("sentiment/sample", setting).message == f"--set {setting}: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[task]\nname = "sentiment"\n', "no section [data]"),
        ('[data]\ntrain = "a"\n', "no [task] name"),
        ('task = "sentiment"\n', "no [task] name"),
        ("", "no [task] name"),
        ('[task]\nname = "sentimant"\n', "[task] name = 'sentimant': no such task"),
    ],
)
def test_what_a_recipe_must_have(write: Write, text: str, message: str) -> None:
    path = write(text)
    error = refusal(path)
    assert error.message.startswith(str(path))
    assert message in error.message


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"[task]\nname = sentiment\n", 2, "broken TOML"),
        (b"[task]\n\n[task\n", 3, "broken TOML"),
        (b"[task]\nname = 'a'\nname = 'b'\n", 3, "broken TOML"),
        (b"[task]\nname = '''a\n", 2, "broken TOML"),
        (b"[task]\n# caf\xe9\n", 2, "not UTF-8 (byte 12)"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path: Path, content: bytes, line: int, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(content)
    assert refusal(path).message.startswith(f"{path}:{line}: {message}")


def test_an_unknown_name_offers_the_nearest() -> None:
    error = refusal("sentiment/smaple")
    assert error.message == "unknown recipe 'sentiment/smaple'"
    assert "did you mean sentiment/sample" in error.hint
    assert refusal("nowhere/own.toml").message == "no recipe file nowhere/own.toml"


def test_nearest_offers_all_where_none_is_near() -> None:
    assert nearest("epoch", ["seed", "epochs"]) == "did you mean epochs?"
    assert nearest("xyzzy", ["seed", "epochs"]) == "choose one of: epochs, seed"


# Lines, identity, TOML


def test_key_lines() -> None:
    source = "minutes = 1\n# c\n[training]  # d\nepochs = 3\n\n[model.recurrent]\nunits= 2\n[[anchor]]\nvalue = 1\n[[anchor]]\nvalue = 2\na.b = 1\n"
    assert key_lines(source) == {
        "minutes": 1, "training": 3, "training.epochs": 4, "model": 6, "model.recurrent": 6, "model.recurrent.units": 7,
        "anchor": 8, "anchor.value": 9, "anchor.a": 12, "anchor.a.b": 12,
    }  # fmt: skip


SAME = [
    "data.directory=/x",
    "data.origin=x",
    "data.licence=x",
    "training.checkpoint_seconds=1",
    "training.tensorboard=true",
    "export.compare=9",
]
OTHER = [
    "training.seed=2",
    "training.epochs=1",
    "text.lowercase=false",
    "model.recurrent.units=3",
    "data.test_share=0.2",
    "data.test=t2.csv",
]


def test_the_identity_is_what_changes_the_result(write: Write) -> None:
    path = write(MINIMAL)
    identity = load(path).identity()
    assert (
        load(
            write("description = 'x'\nminutes = 3\n" + MINIMAL + "[[anchor]]\nmetric = 'a'\nvalue = 1\nsource = 's'\n")
        ).identity()
        == identity
    )
    write(MINIMAL)
    assert {load(path, setting).identity() for setting in SAME} == {identity}
    assert len({identity, *(load(path, setting).identity() for setting in OTHER)}) == 1 + len(OTHER)


def test_the_identity_knows_files_by_name_and_data_sets_by_expression(write: Write) -> None:
    path = write(MINIMAL)
    assert load(path, "data.train=/elsewhere/train.csv").identity() == load(path).identity()
    tfds = "data.source=tfds:glue/sst2"
    assert load(path, tfds, "data.train=train[:5%]").identity() != load(path, tfds, "data.train=train[:6%]").identity()


KEYS = st.from_regex(r"[A-Za-z0-9_-]{1,5}", fullmatch=True)
SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"]))
TABLES = st.recursive(
    st.dictionaries(KEYS, SCALARS | st.lists(SCALARS, max_size=3), max_size=3),
    lambda tables: st.dictionaries(KEYS, SCALARS | tables | st.lists(tables, min_size=1, max_size=2), max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(TABLES)
@example(
    {
        "a": '\x7f\x00\r\n"\\ é\u2028\U0001f44d',
        "b": [math.inf, -math.inf, 1e300, 5e-324, -0.0],
        "c": {"d": {}, "e": [{}, {"f": []}]},
    }
)
def test_toml_written_is_read_as_the_same(content: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(content)) == content


def test_toml_leaves_out_what_is_none_and_keeps_nan() -> None:
    content = tomllib.loads(to_toml({"a": None, "b": {"c": None, "d": (math.nan,)}}))
    assert list(content) == ["b"]
    assert math.isnan(content["b"]["d"][0])


def test_anchors_of_other_data_are_marked(write: Write) -> None:
    path = write(MINIMAL + "[[anchor]]\nmetric = 'a'\nvalue = 1\nsource = 's'\n")
    for setting in ("data.directory=elsewhere", "training.epochs=3", "data.train=train.csv"):
        assert load(path, setting).anchor[0].comparable, setting
    for setting in ("data.train=other.csv", "data.source=tfds:glue/sst2", "data.test=t.csv"):
        assert not load(path, setting).anchor[0].comparable, setting


def test_anchors_that_are_inherited_are_marked_where_the_data_is_not(write: Write) -> None:
    anchor = "[[anchor]]\nmetric = 'a'\nvalue = 1\nsource = 's'\n"
    write(MINIMAL + anchor, "base.toml")
    for own, comparable in (("[training]\nepochs = 3\n", True), ("[data]\ntrain = 'other.csv'\n", False), (anchor, True)):
        path = write('extends = "base.toml"\n' + own, "mine.toml")
        assert load(path).anchor[0].comparable is comparable, own
