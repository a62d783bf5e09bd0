"""Recipes: TOML files, read into frozen structs. An error names file, line, key path, what was received, the nearest key."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from nlp_tasks.errors import UserError, nearest

Positive = Annotated[int, Meta(gt=0)]
NonNegative = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, lt=1)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `[section]` of a recipe. Unknown keys are refused."""


class TaskSection(Section, frozen=True, kw_only=True):
    """`[task]`: which module of `nlp_tasks.tasks` this recipe is for."""

    name: str


class Data(Section, frozen=True, kw_only=True):
    """`[data]`: where the examples come from. Tasks add their own keys (columns, languages, …).

    source: "files", "tfds:NAME" (any prepared TensorFlow Datasets name), "toy_world" (the task's own) or "toy_world:NAME".
    directory: folder that relative paths of train, validation and test start from (files only).
    train, validation, test: a path, or a TFDS split expression such as "train[:90%]". An empty validation is held out of
        train (validation_share), an empty test as well (test_share); equal texts always stay on one side.
    validation_unit: "row", or "sentence": rows that stand inside another row are its phrases, and follow it.
    train_rows: of what is left for training so many rows, drawn by train_rows_seed and the texts alone; 0: all. Of one seed, fewer rows
        are among more; equal texts count once.
    origin, licence: shown when the data is missing, and kept in the report.
    """

    source: str = "files"
    origin: str = ""
    licence: str = ""
    directory: str = ""
    train: str = ""
    validation: str = ""
    test: str = ""
    validation_share: Share = 0.1
    validation_unit: Literal["row", "sentence"] = "row"
    test_share: Share = 0.1
    train_rows: NonNegative = 0
    train_rows_seed: NonNegative = 1

    def path(self, name: str) -> Path:
        """Of a file that a key of `[data]` names."""
        return Path(self.directory).expanduser() / Path(name).expanduser()

    @property
    def is_toy_world(self) -> bool:
        return self.source.partition(":")[0] == "toy_world"

    def is_toy_world_of(self, task: str) -> bool:
        """Whether it is the toy world of `task`, in a recipe of that task."""
        return self.source in ("toy_world", f"toy_world:{task}")


FURTHER_FILES = ("vectors", "questions", "similarity")
"""Keys of `[data]` that name files beside the splits, in the tasks that have them."""


class Text(Section, frozen=True, kw_only=True):
    """`[text]`: from characters to tokens.

    blank: strings that are read as spaces of the same length (offsets stay true), such as "<br />".
    minimum_count, vocabulary_size: which tokens get into the vocabulary. (An id must fit the 21 bits it has in an n-gram's key.)
    """

    lowercase: bool = True
    blank: tuple[str, ...] = ()
    minimum_count: Positive = 1
    vocabulary_size: Annotated[int, Meta(gt=0, le=2_000_000)] = 200_000


class Training(Section, frozen=True, kw_only=True):
    """`[training]`: what changes the weights. Where things lie and which devices is in the command.

    batch_tokens: tokens of a step over all devices, padding included. batch_rows: at most so many rows.
    buckets: number of distinct batch widths (each is one shape).
    warmup_steps, decay: the learning rate rises linearly to `learning_rate`, then follows `decay` to zero.
    clip_norm: largest global norm of the gradient, after the sum over devices; 0 switches it off.
    evaluations: how often an epoch the validation data is looked at.
    beta_2: decay of the second moment of adam and adamw; smaller follows rare features faster.
    keep: ship the weights of the evaluation with the best `watch`, or of the last one.
    watch, patience: stop after `patience` evaluations without a better `watch`; 0 never stops early.
    average_last: average the weights of so many last evaluations if that is better on validation data; 0 or 1: do not.
    precision: "mixed_bfloat16" is refused where the CPU has no bfloat16 unit; "float64" is for checking.
    compile: compile the step by XLA (once a shape).
    recurrent: path of the recurrent layers, which give the same within float error: "packed" (the choice on a CPU), "cudnn" (on a GPU)
        or "plain"; a compiled step takes the plain one.
    """

    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 1
    epochs: Positive = 10
    batch_tokens: Positive = 8192
    batch_rows: Positive = 64
    buckets: Positive = 8
    optimizer: Literal["sgd", "adam", "adamw", "adagrad"] = "adam"
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    warmup_steps: NonNegative = 0
    decay: Literal["constant", "linear", "cosine", "inverse_sqrt"] = "constant"
    beta_2: Share = 0.999
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    clip_norm: Annotated[float, Meta(ge=0)] = 5.0
    evaluations: Positive = 1
    keep: Literal["best", "last"] = "best"
    watch: str = "loss"
    patience: NonNegative = 3
    average_last: NonNegative = 0
    precision: Literal["float32", "float64", "mixed_bfloat16"] = "float32"
    compile: bool = False
    recurrent: Literal["auto", "plain", "packed", "cudnn"] = "auto"
    checkpoint_seconds: Annotated[float, Meta(ge=0)] = 60.0
    tensorboard: bool = False


class Export(Section, frozen=True, kw_only=True):
    """`[export]`: compare: how many answers of the reloaded folder are compared with the live model's."""

    compare: Annotated[int, Meta(ge=1)] = 200


class Anchor(Section, frozen=True, kw_only=True):
    """`[[anchor]]`: a published score to stand beside ours.

    value: as published, in percent where the field gives percent. comparable = false marks other data, split or metric (≠), and so
        does a setting that overrides the recipe's data.
    """

    metric: str
    value: float
    source: str
    comparable: bool = True


class Recipe(Section, frozen=True, kw_only=True):
    """A whole recipe. A task declares a subclass that types its own `[data]`, `[text]` and `[model]`."""

    task: TaskSection
    data: Data
    text: Text = Text()
    model: Any = None
    training: Training = Training()
    export: Export = Export()
    anchor: tuple[Anchor, ...] = ()
    description: str = ""
    minutes: Annotated[float, Meta(ge=0)] = 0.0

    def resolved(self) -> str:
        """The recipe as TOML, every default written out."""
        return to_toml(msgspec.to_builtins(self))

    def needs(self) -> str:
        """What must be there before this recipe runs."""
        if self.data.is_toy_world or self.data.source == "standard_library":
            return "nothing"
        if self.data.source.startswith("tfds:"):
            return f"TFDS {self.data.source.removeprefix('tfds:')}"
        return "your files"

    def identity(self) -> str:
        """SHA-256 of everything that changes the result: the recipe without folders, notes and anchors."""
        return hashlib.sha256(json.dumps(self._counts(), sort_keys=True).encode()).hexdigest()

    def settings(self) -> dict[str, str]:
        """What changes the result, setting by setting: `{"training.epochs": "3", …}`."""

        def flat(content: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
            for key, value in content.items():
                if isinstance(value, dict):
                    yield from flat(value, f"{prefix}{key}.")
                else:
                    yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)

        return dict(flat(self._counts(), ""))

    def _counts(self) -> dict[str, Any]:
        content = msgspec.to_builtins(self)
        for key in ("description", "minutes", "anchor", "export"):
            content.pop(key)
        for key in ("directory", "origin", "licence"):
            content["data"].pop(key)
        files = ["train", "validation", "test"] if self.data.source == "files" else []
        for key in [*files, *(key for key in FURTHER_FILES if key in content["data"])]:
            content["data"][key] = Path(content["data"][key]).name
        for key in ("checkpoint_seconds", "tensorboard"):
            content["training"].pop(key)
        return content


def check_heads(model: Any) -> None:
    """Raises UserError where the `heads` of a `[model]` cannot have an even number of its `units` each, as positions want."""
    if model.units % (2 * model.heads):
        raise UserError(f"model.units = {model.units} with model.heads = {model.heads}: each head needs an even number of units",
                        f"make model.units a multiple of {2 * model.heads}, or change model.heads")  # fmt: skip


def check_unused(name: str, section: Section, unused: Iterable[str], where: str) -> None:
    """Raises UserError where a section sets what has no effect; a setting that is as by default may be there."""
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if field.name in unused and value != field.default:
            raise UserError(f"{name}.{field.name} = {json.dumps(value)} has no effect with {where}", "leave it out")


def folder() -> Path:
    """The folder of the recipes that come with the package: inside it in a wheel, `tasks/` beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "tasks"


def measured() -> dict[str, Any]:
    """Scores by recipe, from the file that `benchmarks/recipes.py` writes."""
    path = folder() / "measured.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def names() -> list[str]:
    """Names of all recipes that come with the package, such as `sentiment/imdb`."""
    root = folder()
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.glob("*/*.toml"))


def find(name: str) -> Path:
    """The file of a recipe given by name or by path."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"no recipe file {name}", "give the path of a TOML file, or a name that `nlp-tasks list` shows")
        return path
    path = folder() / f"{name}.toml"
    if name not in names():
        raise UserError(f"unknown recipe {name!r}", nearest(name, names()) + " (`nlp-tasks list` shows all)")
    return path


def load(name: str, recipe_type: Callable[[str], type[Recipe]], settings: Iterable[str] = ()) -> Recipe:
    """Reads, extends, overrides and validates a recipe.

    Args:
        name: a recipe's name or the path of a TOML file.
        recipe_type: gives the Recipe subclass of a task by the task's name.
        settings: overrides such as `training.epochs=3`; the value is TOML, or a plain string where it is not.
    """
    content, places = _read(find(name), ())
    anchored = _anchored(content)
    for setting in settings:
        _override(content, places, setting)
    if _anchored(content) != anchored:
        _mark_anchors(content)
    task = content.get("task", {})
    if not isinstance(task, dict) or not isinstance(task.get("name"), str):
        raise UserError(f"{find(name)}: no [task] name", 'start the recipe with [task] and name = "sentiment" or the like')
    with _at(_place(places, "task.name")):
        expected = recipe_type(task["name"])
    try:
        return msgspec.convert(content, expected, strict=True)
    except msgspec.ValidationError as error:
        raise _explain(error, content, expected, places) from None


def _anchored(content: dict[str, Any]) -> Any:
    """What of `[data]` the anchors belong to: overridden, it is other data than theirs."""
    data = content.get("data")
    return {key: data[key] for key in data if key not in ("directory", "vectors")} if isinstance(data, dict) else data


def _mark_anchors(content: dict[str, Any]) -> None:
    """The data is no longer that of the published scores."""
    anchors = content.get("anchor", ())
    for anchor in anchors if isinstance(anchors, list) else ():
        if isinstance(anchor, dict):
            anchor["comparable"] = False


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Errors inside are told with their place."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}: {error.message}", error.hint) from None


def _place(places: dict[str, str], key: str) -> str:
    """`file:line` of a key path, or of the nearest section above it; of the file where there is none."""
    while key not in places:
        key = key.rpartition(".")[0]
    return places[key]


def _read(path: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """Content of a TOML file with what it extends, and `file:line` of each key path; the file itself is the place of ""."""
    if path.resolve() in above:
        raise UserError(f"{path}: extends itself", "break the circle of `extends`")
    try:
        source = path.read_bytes().decode("utf-8")
        content = tomllib.loads(source)
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 (byte {error.start})", "save the recipe as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found.group(1)) if found else source.rstrip().count("\n") + 1
        raise UserError(f"{path}:{line}: broken TOML: {error}", "see https://toml.io for the form of a TOML file") from None
    places = {"": str(path)} | {key: f"{path}:{line}" for key, line in key_lines(source).items()}
    base = content.pop("extends", None)
    if base is None:
        return content, places
    if not isinstance(base, str):
        raise UserError(
            f"{_place(places, 'extends')}: extends = {base!r}: expected a recipe's name", 'write extends = "sentiment/imdb"'
        )
    beside = path.parent / base
    with _at(_place(places, "extends")):
        base_path = beside if base.endswith(".toml") and beside.is_file() else find(base)
    lower, lower_places = _read(base_path, (*above, path.resolve()))
    merged = _merge(lower, content)
    if "anchor" not in content and _anchored(merged) != _anchored(lower):
        _mark_anchors(merged)
    return merged, {**lower_places, **places}


def _merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(lower)
    for key, value in upper.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            other_kind = "kind" in value and value["kind"] != below.get("kind")
            merged[key] = value if other_kind else _merge(below, value)
        else:
            merged[key] = value
    return merged


def _override(content: dict[str, Any], places: dict[str, str], setting: str) -> None:
    key, separator, raw = setting.partition("=")
    path = key.strip().split(".")
    if not separator or len(path) < 2 or not all(path):
        raise UserError(f"--set {setting}: expected section.key=value", "write for example --set training.epochs=3")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    section = content
    for depth, part in enumerate(path[:-1], 1):
        if part not in section:
            section[part] = {}
            places[".".join(path[:depth])] = f"--set {setting}"
        section = section[part]
        if not isinstance(section, dict):
            raise UserError(f"--set {setting}: {part} is not a section", "write for example --set training.epochs=3")
    section[path[-1]] = value
    places[".".join(path)] = f"--set {setting}"


def key_lines(source: str) -> dict[str, int]:
    """Line number of each key path of a TOML text (first line of the value; sections by their header).

    Example:
        >>> key_lines("[training]\\nepochs = 3")
        {'training': 1, 'training.epochs': 2}
    """
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(source.split("\n"), 1):
        if header := re.match(r"\s*\[{1,2}\s*([A-Za-z0-9_.\-\" ]+?)\s*\]{1,2}", line):
            path = section = header.group(1).replace('"', "")
        elif key := re.match(r"\s*([A-Za-z0-9_\-.]+)\s*=", line):
            path = f"{section}.{key.group(1)}" if section else key.group(1)
        else:
            continue
        while path:
            lines.setdefault(path, number)
            path = path.rpartition(".")[0]
    return lines


def _explain(error: msgspec.ValidationError, content: dict[str, Any], expected: type, places: dict[str, str]) -> UserError:
    """From msgspec's message and `$.path` to file:line, what was received and the nearest key."""
    message, _, tail = str(error).partition(" - at `$")
    steps = re.findall(r"[^.`\[\]]+", tail)
    path = ".".join(step for step in steps if not step.isdigit())
    place = _place(places, path)
    if unknown := re.search(r"unknown field `(.+?)`", message):
        key = f"{path}.{unknown.group(1)}".lstrip(".")
        known = [field.name for field in msgspec.structs.fields(_type_at(expected, steps, content))]
        return UserError(f"{_place(places, key)}: unknown key {key}", nearest(unknown.group(1), known))
    if missing := re.search(r"missing required field `(.+?)`", message):
        name = missing.group(1)
        if not path:
            return UserError(f"{place}: no section [{name}]", f"add [{name}] to the recipe")
        return UserError(f"{place}: [{path}] has no {name}", f"add {name} = … to the recipe")
    received: Any = content
    for step in steps:
        received = received[int(step) if step.isdigit() else step]
    wanted = message[0].lower() + message[1:]
    kind = _type_at(expected, steps, content)
    if get_origin(kind) is Literal and isinstance(received, str):
        hint = nearest(received, get_args(kind))
    else:
        hint = "see the comments of the recipe, or docs/recipes.md, for what it takes"
    return UserError(f"{place}: {tail.strip('.`')} = {received!r}: {wanted}", hint)


def _type_at(current: Any, steps: Iterable[str], content: Any) -> Any:
    """The struct or literal type that stands at a key path of a recipe type."""
    for step in steps:
        if step.isdigit():
            current, content = get_args(current)[0], content[int(step)]
            continue
        current = next((field.type for field in msgspec.structs.fields(current) if field.name == step), None)
        content = content[step]
        if get_origin(current) is Annotated:
            current = get_args(current)[0]
        if isinstance(content, dict) and (choices := get_args(current)):
            kind = content.get("kind")
            current = next((t for t in choices if t.__struct_config__.tag == kind), choices[0])
    return current


def to_toml(content: dict[str, Any], prefix: str = "") -> str:
    """A nest of dicts, lists and scalars as TOML."""
    scalars, tables = [], []
    for key, value in content.items():
        if value is None:
            continue
        if isinstance(value, dict):
            tables.append(f"\n[{prefix}{key}]\n" + to_toml(value, f"{prefix}{key}."))
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
            tables.extend(f"\n[[{prefix}{key}]]\n" + to_toml(row, f"{prefix}{key}.") for row in value)
        else:
            scalars.append(f"{key} = {_toml_value(value)}\n")
    return "".join(scalars + tables)


def _toml_value(value: Any) -> str:
    """JSON, but for what TOML writes otherwise: U+007F and numbers that are not finite."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
