"""The command line. TensorFlow is imported only by what needs it."""

from __future__ import annotations

import errno
import functools
import importlib.util
import json
import math
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlp_tasks import __version__, recipe, tasks
from nlp_tasks.crew import SHORTEST_SILENCE
from nlp_tasks.data.rows import chunks
from nlp_tasks.errors import LineError, UserError

if TYPE_CHECKING:
    from nlp_tasks.inference import Loaded
    from nlp_tasks.run import Run
    from nlp_tasks.tasks.task import Verb

_LINES = ("text", "jsonl", "tsv")
_PICTURES = (".png", ".svg", ".pdf")

_INACCESSIBLE = (
    errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EFBIG, errno.EEXIST, errno.ENOTDIR,
    errno.ENAMETOOLONG,
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="nlp-tasks")
def cli() -> None:
    """Small language models of your own: trained here, scored honestly, shipped as one folder that takes strings.

    Start with: nlp-tasks run sentiment/sample
    """


def main() -> None:
    """Entry point: user errors are one message and exit code 2, Ctrl-C is 130, anything else is a defect with its trace."""
    try:
        sys.exit(cli(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except UserError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in _INACCESSIBLE:
            raise
        place = error.filename or "the output"
        denied = error.errno in (errno.EACCES, errno.EPERM)
        hint = "check its permissions" if denied else "free some space, or choose other places with --run-dir and --export-dir"
        click.echo(str(UserError(f"cannot read or write {place}: {error.strerror}", hint)), err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo(
            "\nstopped; the same command goes on from here" if {"run", "train"} & set(sys.argv[1:2]) else "\nstopped", err=True
        )
        sys.exit(130)


def _import_tensorflow() -> None:
    """Imports TensorFlow and looks for devices while its chatter goes to a file, which is shown if the import fails."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # TensorFlow wants to know the folder, too
        raise UserError(
            "no temporary file can be written", "free some space, or set TMPDIR to a folder that can be written"
        ) from None
    sys.stderr.flush()
    with tempfile.TemporaryFile() as chatter:
        kept = os.dup(2)
        os.dup2(chatter.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            os.dup2(kept, 2)
            chatter.seek(0)
            sys.stderr.buffer.write(chatter.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `run`, `train`, `evaluate` and `export` share."""
    options = [
        click.option("--data-dir", envvar="TFDS_DATA_DIR", help="Where prepared TensorFlow data sets lie."),
        click.option("--run-dir", default="runs", show_default=True, help="Parent of the run folder."),
        click.option("--export-dir", default="saved_models", show_default=True, help="Parent of the export."),
        click.option("--strategy", default="auto", show_default=True,
                     type=click.Choice(["auto", "cpu", "gpu", "mirrored", "multi_worker"]), help="Devices to train on."),
        click.option("--seed", type=click.IntRange(min=0), help="Writes training.seed."),
        click.option("--name", help="Name of the run, for variants; the recipe's name where not given."),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Overrides a value, e.g. training.epochs=3."),
    ]  # fmt: skip
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def _named_recipe(
    name_of_recipe: str, settings: tuple[str, ...], seed: int | None, name: str | None
) -> tuple[recipe.Recipe, str]:  # fmt: skip
    """The recipe with all settings, and the name of its run."""
    if seed is not None:
        settings = (*settings, f"training.seed={seed}")
    content = recipe.load(name_of_recipe, lambda task: tasks.find(task).recipe_type, settings)
    run_name = name or Path(name_of_recipe.removesuffix(".toml")).name
    if not name and not name_of_recipe.endswith(".toml"):
        run_name = name_of_recipe.replace("/", "-")
    if not run_name or "/" in run_name or run_name.startswith("."):
        raise UserError(f"--name {run_name!r}: not a name for a folder", "use letters, digits, - and _")
    return content, run_name


def _open(name_of_recipe: str, *, settings: tuple[str, ...], seed: int | None, name: str | None, **places: Any) -> Run:
    content, run_name = _named_recipe(name_of_recipe, settings, seed, name)
    tasks.find(content.task.name).check_files(content.data)
    _import_tensorflow()
    from nlp_tasks.run import Run

    return Run(content, run_name, command=shlex.join(["nlp-tasks", *sys.argv[1:]]), **places)


@cli.command()
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@_run_options
@click.option("--restart", is_flag=True, help="Forget an earlier run of this name.")
def run(recipes: tuple[str, ...], **options: Any) -> None:
    """Train, score on the test split, export. The same command again resumes an interrupted run.

    RECIPE is a name that `nlp-tasks list` shows, or the path of a TOML file.
    """
    if len(recipes) > 1 and options["name"]:
        raise UserError("--name with several recipes", "run them one by one to name them")
    runs = [_open(name, **options) for name in recipes]
    from nlp_tasks.report import summary

    if len(runs) > 1 and options["strategy"] in ("auto", "multi_worker") and os.environ.get("TF_CONFIG"):
        raise UserError("several recipes, and TF_CONFIG is set: workers train one recipe a time", "run them one by one")
    contents = [(opened.name, opened.run()) for opened in runs]
    scores = {name: content for name, content in contents if content}  # of a worker that only trained there are none
    if scores:
        click.echo(summary(scores, {name: content["headline"] for name, content in scores.items()}))


@cli.command()
@click.argument("recipe_name", metavar="RECIPE")
@click.option("--data-dir", envvar="TFDS_DATA_DIR", help="Where prepared TensorFlow data sets lie.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Overrides a value, e.g. data.train=FILE.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def check(recipe_name: str, as_json: bool, **options: Any) -> None:
    """Look at the data of a recipe before training: what it is like, and what is wrong with it.

    Findings are errors (a run would refuse: exit code 2), warnings and notes.
    """
    content = _open(recipe_name, seed=None, name=None, **options).check()
    from nlp_tasks.report import check_text

    click.echo(json.dumps(content, ensure_ascii=False, indent=1) if as_json else check_text(content, recipe_name))
    if any(finding["level"] == "error" for finding in content["findings"]):
        raise click.exceptions.Exit(2)


@cli.command()
@click.argument("recipe_name", metavar="RECIPE")
@_run_options
@click.option("--restart", is_flag=True, help="Forget an earlier run of this name.")
def train(recipe_name: str, **options: Any) -> None:
    """Train only; the test split stays unscored."""
    opened = _open(recipe_name, **options)
    opened.train()
    click.echo(f"trained: {opened.folder}")


_seconds = functools.partial(click.FloatRange, min_open=True)


@cli.command()
@click.argument("recipe_name", metavar="RECIPE")
@_run_options
@click.option("--restart", is_flag=True, help="Forget an earlier run of this name.")
@click.option(
    "--workers", type=click.IntRange(1), required=True, metavar="N", help="How many workers; the cores are dealt out to them."
)
@click.option("--only-train", is_flag=True, help="As `train` does: the test split stays unscored.")
@click.option("--restarts", type=click.IntRange(0), default=0, show_default=True, metavar="K",
              help="How often all start again from the last checkpoint when a worker died or froze.")  # fmt: skip
@click.option(
    "--deadline", type=_seconds(0), default=120.0, show_default=True, help="Seconds that workers wait for each other at first."
)
@click.option("--silence", type=click.FloatRange(SHORTEST_SILENCE), default=30.0, show_default=True,
              help="Seconds without a sign of life after which a worker counts as frozen.")  # fmt: skip
def launch(recipe_name: str, strategy: str, **options: Any) -> None:
    """Run a recipe as several workers on this machine, as one would on several machines.

    What each says stands in RUN-DIR/NAME.workers/INDEX.log; what the first one says is shown here, too.
    """
    from nlp_tasks.launch import Launcher, check

    if strategy not in ("auto", "multi_worker"):
        raise UserError(f"launch --strategy {strategy}: workers train with multi_worker", "leave --strategy out")
    workers, deadline, silence = options.pop("workers"), options.pop("deadline"), options.pop("silence")
    restarts, verb = options.pop("restarts"), "train" if options.pop("only_train") else "run"
    check(workers)
    content, name = _named_recipe(recipe_name, options["settings"], options["seed"], options["name"])
    tasks.find(content.task.name).check_files(content.data)
    arguments = [verb, recipe_name]
    for key, value in options.items():
        option = "--set" if key == "settings" else f"--{key.replace('_', '-')}"
        if key == "restart":
            arguments += [option] if value else []
        else:
            arguments += [
                word for each in (value if key == "settings" else [value]) if each is not None for word in (option, str(each))
            ]
    folder = Path(options["run_dir"]) / name
    logs = folder.with_name(f"{name}.workers")
    made = [path for path in (logs, *logs.parents) if not path.exists()]
    begun = folder / "identity.json"
    code = Launcher(arguments, workers, logs, restarts=restarts, deadline=deadline, silence=silence, begun=begun).run()
    if code == 2 and not folder.exists():  # refused before anything was begun
        for index in range(workers):
            (logs / f"{index}.log").unlink(missing_ok=True)
        for path in made:
            with suppress(OSError):
                path.rmdir()
    raise click.exceptions.Exit(code)


@cli.command()
@click.argument("recipe_name", metavar="RECIPE")
@_run_options
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="validation", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def evaluate(recipe_name: str, split: str, as_json: bool, **options: Any) -> None:
    """Scores of a trained run on a split."""
    content = _open(recipe_name, **options).evaluate(split)
    from nlp_tasks.report import table, with_interval

    if as_json:
        click.echo(json.dumps(content))
        return
    rows = [[name, with_interval(name, content)] for name in content["scores"]]
    click.echo(table(rows, ("metric", f"{split}, 95 % interval")))


@cli.command()
@click.argument("recipe_name", metavar="RECIPE")
@_run_options
def export(recipe_name: str, **options: Any) -> None:
    """Write a new version of a trained run's SavedModel."""
    click.echo(str(_open(recipe_name, **options).export()))


@cli.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...", type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(path_type=Path), help="Write a page, too.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def compare(runs: tuple[Path, ...], html: Path | None, as_json: bool) -> None:
    """Runs (runs/NAME) or exports (saved_models/NAME) side by side, with paired tests on the same test examples."""
    from nlp_tasks import comparison
    from nlp_tasks.report import write_text

    content = comparison.compare(runs)
    if html:
        if html.is_dir() or not html.parent.is_dir():
            reason = "it is a folder" if html.is_dir() else f"no folder {html.parent}"
            raise UserError(f"cannot write {html}: {reason}", "name another place with --html")
        try:
            write_text(html, comparison.as_page(content))
        except OSError as error:
            raise UserError(f"cannot write {html}: {error.strerror}", "name another place with --html") from None
    click.echo(json.dumps(content, ensure_ascii=False, indent=1) if as_json else comparison.as_text(content))


@cli.command("list")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def list_recipes(as_json: bool) -> None:
    """The recipes that come with the package, with their measured scores."""
    from nlp_tasks.report import signature_lines, table, with_interval

    measured = recipe.measured()
    entries: list[dict[str, Any]] = []
    for name in recipe.names():
        content = recipe.load(name, lambda task: tasks.find(task).recipe_type)
        scores = measured.get(name)
        entries.append({
            "recipe": name, "task": content.task.name, "data": content.data.source, "needs": content.needs(),
            "minutes": content.minutes, "description": content.description, "measured": scores,
        })  # fmt: skip
    if as_json:
        click.echo(json.dumps(entries, indent=1, ensure_ascii=False))
        return
    counted = [
        (f"{e['measured']['headline']} of {e['task']}", e["measured"].get("signature", "")) for e in entries if e["measured"]
    ]
    rows = [
        [e["recipe"], e["task"], e["data"], e["needs"], f"{e['minutes']:g}" if e["minutes"] else "–",
         f"{e['measured']['headline']} {with_interval(e['measured']['headline'], e['measured'])}" if e["measured"] else "–"]
        for e in entries
    ]  # fmt: skip
    click.echo(table(rows, ("recipe", "task", "data", "needs", "minutes", "test score, 95 % interval"), right=(4,)))
    click.echo("\n" + signature_lines(counted))


def _serve_options(command: Callable[..., Any]) -> Callable[..., Any]:
    def of(name: str, kind: Any, default: Any, text: str) -> Callable[..., Any]:
        return click.option(name, type=kind, default=default, show_default=True, help=text)

    options = [
        of("--host", str, "127.0.0.1", "Address to bind to; 0.0.0.0 is open to the network."),
        of("--port", click.IntRange(0, 65535), 8501, "0 takes a free one."),
        of("--batch-size", click.IntRange(1), 64, "So many rows are answered together; 1 answers each alone."),
        of("--batch-milliseconds", click.FloatRange(0, 1000), 2.0, "So long a request waits for others."),
        of("--queue", click.IntRange(1), 256, "Requests under way; a further one gets 503."),
        of("--deadline", click.FloatRange(0, 3600, min_open=True), 30.0, "Seconds until a request gets 504."),
        of("--max-bytes", click.IntRange(1), 1 << 22, "Of a request's body; a longer one gets 413."),
        of("--poll-seconds", click.FloatRange(0.1, 3600), 2.0, "Between two looks for new versions."),
        of("--versions", click.IntRange(1), 1, "So many newest versions of a model are served."),
        of("--grace", click.IntRange(0, 3600), 10, "Seconds that requests under way have at the end."),
        click.option("--allow-host", "allow_hosts", multiple=True, metavar="NAME", help="A name it answers to beside localhost."),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), default="saved_models")
@_serve_options
def serve(folder: Path, **options: Any) -> None:
    """Serve the exported models in FOLDER by the REST interface of TensorFlow Serving, with a page to try them.

    Needs: pip install 'nlp-tasks[serve]'
    """
    missing = [name for name in ("httptools", "prometheus_client", "starlette", "uvicorn") if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"serving needs {', '.join(missing)}", "pip install 'nlp-tasks[serve]'")
    from nlp_tasks.serving import server
    from nlp_tasks.serving.models import check_folder

    check_folder(folder)
    opened = server.bind(options["host"], options["port"])
    _import_tensorflow()
    server.serve(server.options(folder, **options), opened)


def _option(option: tasks.Option) -> Callable[..., Any]:
    ranges: dict[type, Any] = {int: click.IntRange, float: click.FloatRange}
    kind: Any = option.type
    if option.type in ranges:
        kind = ranges[option.type](option.minimum, option.maximum, min_open=option.is_open)
    name = f"--{option.name.replace('_', '-')}"
    if option.type is bool:
        return click.option(name, option.name, is_flag=True, default=option.default, help=option.help)
    return click.option(
        name, option.name, type=kind, default=option.default, show_default=True, help=option.help, callback=_value
    )


def _value(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """NaN lies outside of every range, and no comparison says so; bytes that are no UTF-8 become U+FFFD, as in lines."""
    if isinstance(value, float) and math.isnan(value):
        raise click.BadParameter("nan is not a number.", context, parameter)
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(value, str) else value


def _check_options(verb: Verb, declared: tasks.Command, given: dict[str, Any], style: str) -> None:
    """Refuses options that are for models of other tasks, or have no effect beside others."""
    for option in declared.options:
        if given[option.name] == option.default:
            continue
        if option.name not in verb.options:
            raise UserError(f"this model's {verb.name} takes no --{option.name.replace('_', '-')}", "leave it out")
        without_effect = [f"--{name.replace('_', '-')}" for name in option.excludes if given.get(name)]
        without_effect += [f"--format {style}"] if style in option.excludes else []
        if without_effect:
            raise UserError(f"--{option.name.replace('_', '-')} and {' and '.join(without_effect)}", "give one of them")


def _declared_options(declared: tasks.Command) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def options(command: Callable[..., Any]) -> Callable[..., Any]:
        return functools.reduce(lambda wrapped, option: _option(option)(wrapped), reversed(declared.options), command)

    return options


def _asking_verb(name: str) -> click.Command:
    """A command whose texts stand behind MODEL, and whose answer may take several questions to the model."""
    declared = tasks.VERBS[name]
    usual = "MODEL is an export (saved_models/NAME) or a run folder"
    usual += "." if declared.required else f"; without {declared.texts}, lines of standard input are taken."
    named = declared.texts if declared.required else f"[{declared.texts}{'' if ' ' in declared.texts else '...'}]"

    @click.command(name, help=f"{declared.help}\n\n{usual}")
    @click.argument("model")
    @click.argument("texts", nargs=-1, required=declared.required, metavar=named, callback=_values)
    @click.option("--format", "style", type=click.Choice(_LINES), default="text", show_default=True)
    @_declared_options(declared)
    def command(model: str, texts: tuple[str, ...], style: str, **given: Any) -> None:
        _import_tensorflow()
        from nlp_tasks.inference import find_verb, load

        loaded = load(model)
        verb = find_verb(loaded.task, name)
        assert verb.ask
        texts = (*filter(None, [given.get("words")]), *texts)
        lines = [" ".join(texts)] if texts and declared.joined else texts or (line for lines in _lines("-") for line in lines)
        failed, pictures = False, 0
        for line in lines:
            try:
                answer = verb.ask(loaded, line, given)
            except LineError as error:  # the others are answered all the same
                click.echo(str(error), err=True)
                failed = True
                continue
            if verb.picture and style == "text":
                pictures += _draw(verb, [line], [answer], given, pictures)
            else:
                click.echo(_shown(verb, line, answer, style, given))
        if failed:
            raise click.exceptions.Exit(2)

    return command


def _values(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_value(context, parameter, value) for value in values)


def _verb(name: str, declared_as: str) -> click.Command:
    declared = tasks.VERBS[declared_as]

    @click.command(
        name, help=f"{declared.help}\n\nMODEL is an export (saved_models/NAME) or a run folder; one text a line, order kept."
    )
    @click.argument("model")
    @click.argument("file", type=click.Path(allow_dash=True), default="-")
    @click.option("--format", "style", type=click.Choice([*_LINES, *tasks.DOCUMENTS]), default="text", show_default=True)
    @click.option("--tokenized", is_flag=True, help="The texts are in tokens already, separated by white space.")
    @_declared_options(declared)
    def command(model: str, file: str, style: str, tokenized: bool, **given: Any) -> None:
        if file != "-" and (not Path(file).exists() or Path(file).is_dir()):
            raise UserError(f"no file {file}", "give a file with one text a line, or - for standard input")
        _import_tensorflow()
        from nlp_tasks.inference import find_verb, in_tokens, load

        loaded = load(model)
        verb = find_verb(loaded.task, declared_as)
        _check_options(verb, declared, given, style)
        if style not in _LINES:
            _answer_documents(loaded, verb, file, style, [o.name for o in declared.options if given[o.name] != o.default])
            return
        verb.prepare(given)
        signature = in_tokens(verb) if tokenized else verb.signature
        prompt, pictures, number = given.get("prompt"), 0, 0
        if prompt is not None and file != "-":
            raise UserError(f"--prompt and the file {file}", "give one of them")
        typed = prompt is None and file == "-" and sys.stdin.isatty()
        for lines in [[prompt]] if prompt is not None else _prompt() if typed else _lines(file):
            if verb.stream:
                for line in lines:
                    _stream(verb, loaded, line, given, style)
                continue
            inputs = []
            for line in lines:
                number += 1
                try:
                    inputs.append((tuple(line.split()),) if tokenized else verb.inputs(line, given))
                except LineError as error:
                    if typed:  # whoever typed it can mend it
                        click.echo(str(error), err=True)
                        continue
                    raise UserError(f"{_named(file)}:{number}: {error.message}", error.hint) from None
            if typed and not inputs:
                continue
            if verb.picture and style == "text":
                pictures += _draw(verb, lines, loaded.answer(verb, inputs), given, pictures)
                continue
            for text, answer in zip(lines, loaded.answer(verb, inputs, signature), strict=True):
                click.echo(_shown(verb, text, answer, style, given))
            sys.stdout.flush()

    return command


def _stream(verb: Verb, loaded: Loaded, text: str, options: dict[str, Any], style: str) -> None:
    """The answer to a text: for people as it comes, after the text itself."""
    assert verb.stream
    parts = verb.stream(loaded, text, options)
    if style != "text":
        click.echo(_shown(verb, text, {"text": "".join(parts)}, style, options))
        return
    first = next(parts, "")  # whatever is wrong with the text is told before any of it is shown
    click.echo(text + first, nl=False)
    for part in parts:
        click.echo(part, nl=False)
        sys.stdout.flush()
    click.echo()


def _draw(verb: Verb, lines: Sequence[str], answers: list[dict[str, Any]], options: dict[str, Any], before: int) -> int:
    """A picture an answer; the second and further ones have their number in the name."""
    from nlp_tasks.report import save_figure

    assert verb.picture
    output = Path(options["output"])
    if not output.parent.is_dir() or output.is_dir():
        reason = "it is a folder" if output.is_dir() else f"no folder {output.parent}"
        raise UserError(f"cannot write {output}: {reason}", "name another place with --output")
    if output.suffix.lower() not in _PICTURES:
        raise UserError(f"cannot write {output}: no picture is called so", f"name it with one of {', '.join(_PICTURES)}")
    for number, (line, answer) in enumerate(zip(lines, answers, strict=True), before + 1):
        path = output if number == 1 else output.with_stem(f"{output.stem}-{number}")
        try:
            save_figure(verb.picture({**verb.asked(line, options), **answer}), path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}", "name another place with --output") from None
        click.echo(path)
    return len(answers)


def _answer_documents(loaded: Loaded, verb: Verb, file: str, style: str, options: list[str]) -> None:
    """Formats in which a text is more than a line: as they came, with the answers filled in."""
    if style not in verb.documents:
        raise UserError(f"this model has no --format {style}", f"it has: {', '.join([*_LINES, *verb.documents])}")
    if options:
        raise UserError(f"--format {style} takes no --{options[0].replace('_', '-')}", "leave one of them out")
    document, written = verb.documents[style], 0
    with click.open_file(file, "rb") as stream:
        for chunk in chunks(document.read(stream, _named(file))):
            answers = loaded.answer(verb, [text.inputs for text in chunk], document.signature)
            for text, answer in zip(chunk, answers, strict=True):
                click.echo((document.between if written else document.first) + document.write(text.kept, answer), nl=False)
                written += 1
    click.echo((b"" if written else document.first) + document.last, nl=False)


def _named(file: str) -> str:
    return "standard input" if file == "-" else file


def _lines(file: str, most: int = 256) -> Iterator[list[str]]:
    """Lines of a file or of standard input, as many together as are there; bytes that are no UTF-8 become U+FFFD, as in the model."""
    rest = b""
    with click.open_file(file, "rb") as stream:
        while block := getattr(stream, "read1", stream.read)(1 << 16):  # what a pipe holds by now, not what it will hold
            *whole, rest = (rest + block).split(b"\n")
            yield from _decoded(whole, most)
    if rest:
        yield from _decoded([rest], most)


def _decoded(lines: list[bytes], most: int) -> Iterator[list[str]]:
    for start in range(0, len(lines), most):
        yield [line.decode("utf-8", "replace").removesuffix("\r") for line in lines[start : start + most]]


def _prompt() -> Iterator[list[str]]:
    click.echo("one text a line, Ctrl-D ends", err=True)
    while True:
        try:
            yield [input("> ")]
        except EOFError:
            click.echo(err=True)
            return


def _shown(verb: Verb, line: str, answer: dict[str, Any], style: str, options: dict[str, Any]) -> str:
    if style == "jsonl":
        return json.dumps({**verb.asked(line, options), **answer}, ensure_ascii=False)
    if style == "tsv":
        return verb.tsv(line.replace("\t", " "), answer)
    return verb.text(line, answer, options)


for _name in (*tasks.VERBS, *tasks.ALIASES):
    _declared_as = tasks.ALIASES.get(_name, _name)
    cli.add_command(_asking_verb(_name) if tasks.VERBS[_declared_as].texts else _verb(_name, _declared_as))
