"""Runs side by side: made-up runs, in run folders and as exports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nlp_tasks import cli, comparison, report, scores
from nlp_tasks.errors import UserError

EXAMPLES = 200


def classified(right: float, seed: int = 0) -> scores.Scores:
    """Of two labels, where so large a share is right."""
    random = np.random.default_rng(seed)
    gold = np.arange(EXAMPLES) % 2
    answers = np.where(random.random(EXAMPLES) < right, gold, 1 - gold)
    return scores.classification(list(gold), np.eye(2)[answers] * 0.8 + 0.1, ["neg", "pos"])


def tagged(right: float, seed: int = 0) -> scores.Scores:
    """Sentences of three words."""
    random = np.random.default_rng(seed)
    answers = [["N" if draw < right else "V" for draw in random.random(3)] for _ in range(EXAMPLES)]
    return scores.tagging([["N"] * 3] * EXAMPLES, answers, [[True, True, False]] * EXAMPLES)


def spanned(right: float, seed: int = 0) -> scores.Scores:
    random = np.random.default_rng(seed)
    answers = [["B-PER" if draw < right else "O"] for draw in random.random(EXAMPLES)]
    return scores.spans([["B-PER"]] * EXAMPLES, answers)


def write_run(folder: Path, found: scores.Scores, name: str = "", **changes: Any) -> Path:
    folder.mkdir(parents=True)
    content = {
        "recipe": name or folder.name, "task": "sentiment", "headline": next(iter(found.scores)), "scores": found.scores,
        "intervals": found.intervals, "counts": found.counts, "signatures": found.signatures, "test_hash": "a" * 64,
        "parameters": 12345, "training_seconds": 61.7, "tokens_per_second": 23456, "seed": 7, "anchor": [],
    }  # fmt: skip
    (folder / "scores.json").write_text(json.dumps(content | changes))
    found.save(folder / "statistics.npz")
    return folder


def write_export(folder: Path, found: scores.Scores, version: int = 1, **changes: Any) -> Path:
    extra = write_run(folder / str(version) / "assets.extra", found, folder.name, **changes)
    (extra / "export.json").write_text(json.dumps({"bytes": 2_475_184, "latency_ms": 3.531, "cores": 2}))
    return folder


VALIDATION = {"scores": {"accuracy": 0.81}, "intervals": {"accuracy": [0.75, 0.87]}}


@pytest.fixture
def better(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "better", classified(0.95))


@pytest.fixture
def worse(tmp_path: Path) -> Path:
    return write_export(tmp_path / "saved_models" / "worse", classified(0.8, 1), parameters=9, validation=VALIDATION)


def refusal(*paths: Path) -> UserError:
    with pytest.raises(UserError) as refused:
        comparison.compare(paths)
    assert refused.value.hint
    return refused.value


# What is opened


def test_a_run_and_its_export_hold_the_same(tmp_path: Path) -> None:
    found = classified(0.9)
    run, export = write_run(tmp_path / "run", found), write_export(tmp_path / "saved_models" / "run", found)
    for path in (run, export, export / "1"):
        opened = comparison.open_contender(path)
        assert (opened.name, opened.path, opened.scores["scores"]) == ("run", str(path), found.scores)
        assert opened.samples.keys() == found.samples.keys() and opened.parts.keys() == found.parts.keys()
        np.testing.assert_array_equal(opened.samples["macro_f1"], found.samples["macro_f1"])
        np.testing.assert_array_equal(opened.parts["accuracy"], found.parts["accuracy"])
        assert bool(opened.exported) == (path != run)


def test_the_newest_version_of_an_export_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for version in (2, 10, 9):
        write_export(folder, classified(0.9), version, seed=version)
    (folder / ".11.partial").mkdir()
    (folder / "12").write_text("no folder")
    assert comparison.open_contender(folder).scores["seed"] == 10
    assert comparison.open_contender(folder / "9").scores["seed"] == 9


def test_runs_of_one_name_are_told_apart_by_path(tmp_path: Path, worse: Path) -> None:
    one, other = (write_run(tmp_path / place / "twin", classified(0.9, seed)) for seed, place in enumerate(("a", "b")))
    names = {run["name"] for run in comparison.compare([one, worse, other])["runs"]}
    assert names == {str(one), str(other), "worse"}


# What is compared


def test_runs_are_sorted_by_score(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / f"run{share}", classified(share / 100)) for share in (70, 95, 60, 85)]
    content = comparison.compare(paths)
    assert [run["name"] for run in content["runs"]] == ["run95", "run85", "run70", "run60"]
    assert [(pair["first"], pair["second"]) for pair in content["pairs"]] == [
        ("run95", "run85"), ("run95", "run70"), ("run95", "run60"), ("run85", "run70"), ("run85", "run60"), ("run70", "run60"),
    ]  # fmt: skip


def test_a_run_has_its_numbers(better: Path, worse: Path) -> None:
    content = comparison.compare([worse, better])
    found = classified(0.8, 1)
    assert (content["task"], content["headline"], content["test_examples"]) == ("sentiment", "accuracy", EXAMPLES)
    assert content["signature"] == found.signatures["accuracy"]
    assert content["runs"][1] == {
        "name": "worse", "path": str(worse), "score": found.scores["accuracy"], "interval": [*found.intervals["accuracy"]],
        "scores": found.scores, "intervals": {name: [*interval] for name, interval in found.intervals.items()}, "parameters": 9,
        "validation": VALIDATION,
        "training_seconds": 61.7, "tokens_per_second": 23456, "bytes": 2_475_184, "latency_ms": 3.531, "seed": 7,
    }  # fmt: skip
    assert (content["runs"][0]["bytes"], content["runs"][0]["latency_ms"]) == (None, None)  # that run was not exported


def test_differences_are_those_on_the_same_draws(better: Path, worse: Path) -> None:
    (pair,) = comparison.compare([better, worse])["pairs"]
    random, right = np.random.default_rng(0), [classified(0.95).parts["accuracy"][0], classified(0.8, 1).parts["accuracy"][0]]
    drawn = np.concatenate([random.integers(0, EXAMPLES, (50, EXAMPLES)) for _ in range(20)])
    differences = (right[0] - right[1])[drawn].mean(1)
    observed = right[0].mean() - right[1].mean()
    found = pair["metrics"]["accuracy"]
    assert found["difference"] == pytest.approx([observed, *np.quantile(differences, [0.025, 0.975])])
    extreme = np.abs(differences - differences.mean()) >= observed
    assert found["p"] == pytest.approx((extreme.sum() + 1) / 1001)
    assert found["difference"][1] > 0 and found["p"] < 0.05


def test_every_score_that_both_have_is_compared(tmp_path: Path, better: Path, worse: Path) -> None:
    (pair,) = comparison.compare([better, worse])["pairs"]
    assert pair["metrics"].keys() == {"accuracy", "macro_f1", "log_loss"}  # the calibration error was not resampled
    one, other = classified(0.95), classified(0.8, 1)
    for metric, found in pair["metrics"].items():
        assert found["difference"] == pytest.approx(scores.difference(one, other)[metric])
    less = classified(0.9)
    del less.samples["macro_f1"]
    (pair,) = comparison.compare([better, write_run(tmp_path / "less", less)])["pairs"]
    assert pair["metrics"].keys() == {"accuracy", "log_loss"}


def test_a_run_does_not_differ_from_itself(better: Path) -> None:
    (pair,) = comparison.compare([better, better])["pairs"]
    found = pair["metrics"]["accuracy"]
    assert found == {"difference": [0, 0, 0], "p": 1, "mcnemar": {"only_first": 0, "only_second": 0, "p": 1}}


def test_mcnemar_counts_examples_that_one_has_right(better: Path, worse: Path) -> None:
    (pair,) = comparison.compare([better, worse])["pairs"]
    one, other = (found.parts["accuracy"][0] == 1 for found in (classified(0.95), classified(0.8, 1)))
    expected = {"only_first": (one & ~other).sum(), "only_second": (other & ~one).sum(), "p": scores.mcnemar(one, other)[2]}
    assert pair["metrics"]["accuracy"]["mcnemar"] == expected
    assert 0 < expected["p"] < 0.05


@pytest.mark.parametrize(
    ("score", "tested"), [(classified, {"accuracy"}), (tagged, {"sentence_accuracy", "unknown_accuracy"}), (spanned, set())]
)
def test_mcnemar_is_for_one_answer_an_example(tmp_path: Path, score: Callable[..., scores.Scores], tested: set[str]) -> None:
    """There are two known words a sentence, and one unknown one."""
    one, other = (write_run(tmp_path / str(seed), score(0.8, seed)) for seed in (0, 1))
    (pair,) = comparison.compare([one, other])["pairs"]
    assert {metric for metric, found in pair["metrics"].items() if "mcnemar" in found} == tested


# What is shown


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


def test_the_table(better: Path, worse: Path) -> None:
    content = comparison.compare([worse, better])
    title, runs, pairs, signature = comparison.as_text(content).split("\n\n")
    assert title == "sentiment: accuracy on the same 200 test examples"
    header, rule, first, second = runs.splitlines()
    shown = [
        f"{100 * run['score']:.2f} % [{100 * run['interval'][0]:.2f}, {100 * run['interval'][1]:.2f}]" for run in content["runs"]
    ]
    assert cells(header) == [
        "run",
        "test, 95 % interval",
        "validation",
        "parameters",
        "seconds",
        "tokens/s",
        "on disk",
        "one text",
    ]
    assert cells(first) == ["better", shown[0], "–", "12,345", "62", "23,456", "–", "–"]
    assert cells(second) == ["worse", shown[1], "81.00 % [75.00, 87.00]", "9", "62", "23,456", "2.5 MB", "3.53 ms"]
    assert len({len(line) for line in (header, rule, first, second)}) == 1  # the last column is of numbers
    assert {line.index(cells(line)[1]) for line in (header, rule, first, second)} == {rule.index("  ") + 2}
    for name, line in (("12,345", first), ("9 ", second), ("parameters", header)):
        assert line.index(name) + len(name.strip()) == header.index("parameters") + len("parameters")
    header, rule, line = pairs.splitlines()
    found = content["pairs"][0]["metrics"]["accuracy"]
    more, low, high = (f"{100 * value:+.2f}" for value in found["difference"])
    test = found["mcnemar"]
    assert len(cells(header)) == len(cells(rule)) == 4
    assert cells(line) == [
        "better − worse", f"{more} [{low}, {high}] points", "p < 0.001",
        f"p < 0.001 (only right: {test['only_first']} and {test['only_second']})",
    ]  # fmt: skip
    assert max(found["p"], test["p"]) < 0.001
    assert signature == f"accuracy: {content['signature']}"


def test_published_scores_stand_once_below_the_runs(tmp_path: Path) -> None:
    """Those of the headline's metric; of two runs with the same one, one."""
    kim = {"metric": "accuracy", "value": 88.1, "source": "CNN (Kim 2014)", "comparable": True}
    other = {**kim, "value": 91.5, "source": "elsewhere", "comparable": False}
    anchors = [[kim, {**kim, "metric": "macro_f1"}], [other, kim]]
    paths = [write_run(tmp_path / str(number), classified(0.9, number), anchor=anchor) for number, anchor in enumerate(anchors)]
    content = comparison.compare(paths)
    assert sorted(comparison.published(content)) == [
        ("CNN (Kim 2014)", pytest.approx(0.881)),
        ("≠ elsewhere", pytest.approx(0.915)),
    ]
    text, page = comparison.as_text(content), comparison.as_page(content)
    assert "published  88.10  CNN (Kim 2014)" in text and "published  91.50  ≠ elsewhere" in text
    assert "CNN (Kim 2014)" in page and "≠ elsewhere" in page and "CNN" not in "".join(map(str, comparison.run_rows(content)))
    (row,) = comparison.other_rows(content)
    assert row[:3] == ["CNN (Kim 2014)", "macro_f1", "88.10"]
    assert row[3:] == [report.with_interval("macro_f1", run) for run in content["runs"]]
    assert "published elsewhere" in text and "Published scores of other metrics" in page


def test_scores_without_a_test_by_example_show_none(tmp_path: Path) -> None:
    one, other = (write_run(tmp_path / str(seed), spanned(0.8, seed)) for seed in (0, 1))
    (row,) = comparison.pair_rows(comparison.compare([one, other]))
    assert row[3] == "–"


def test_the_page_shows_the_table(better: Path, worse: Path) -> None:
    content = comparison.compare([better, worse])
    html = comparison.as_page(content)
    for rows, header in (
        (comparison.run_rows(content), comparison.RUN_HEADER),
        (comparison.pair_rows(content), comparison.PAIR_HEADER),
    ):
        for row in (header, *rows):
            assert re.search("<tr>" + "".join(rf"<t[dh][^>]*>{re.escape(escape(cell))}</t[dh]>" for cell in row) + "</tr>", html)
    assert "<title>2 runs of sentiment</title>" in html
    assert content["signature"] in html
    assert html.count('<div class="scale-row model"') == 2


def test_the_page_needs_nothing_else(better: Path, worse: Path) -> None:
    html = comparison.as_page(comparison.compare([better, worse]))
    assert html.startswith('<!doctype html>\n<html lang="en">')
    assert '<meta name="viewport"' in html
    assert "--ink:" in html
    assert not re.search(r"\b(src|srcset|href)\s*=|<link|<script|@import|url\s*\(|https?:", html)


def test_names_are_escaped(tmp_path: Path, better: Path) -> None:
    html = comparison.as_page(comparison.compare([better, write_run(tmp_path / "other", classified(0.9), "<b>R&D</b>")]))
    assert "<b>R" not in html
    assert html.count("&lt;b&gt;R&amp;D&lt;/b&gt;") == 3  # axis, run, pair


# What is refused


@pytest.mark.parametrize("count", [0, 1])
def test_one_run_is_too_few(better: Path, count: int) -> None:
    assert refusal(*[better] * count).message == "only one run"


def test_no_such_folder(better: Path, tmp_path: Path) -> None:
    assert refusal(better, tmp_path / "none").message == f"no folder {tmp_path / 'none'}"
    file = better / "scores.json"
    assert refusal(better, file).message == f"no folder {file}"


@pytest.mark.parametrize("inside", [[], ["readme.txt"], ["1/saved_model.pb"]])
def test_a_folder_that_is_neither(better: Path, tmp_path: Path, inside: list[str]) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    for name in inside:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    assert refusal(better, folder).message == f"{folder} is neither a run nor an export"


def test_a_run_without_scores(better: Path, tmp_path: Path) -> None:
    begun = write_run(tmp_path / "begun", classified(0.9))
    (begun / "identity.json").write_text("{}")
    (begun / "scores.json").unlink()
    assert refusal(better, begun).message == f"{begun} has no scores"


def test_an_export_without_scores(better: Path, worse: Path) -> None:
    (worse / "1" / "assets.extra" / "scores.json").unlink()
    assert refusal(better, worse).message == f"{worse} has no scores"


@pytest.mark.parametrize("lost", ["statistics.npz", "test_hash"])
def test_a_run_of_an_older_version(better: Path, tmp_path: Path, lost: str) -> None:
    older = write_run(tmp_path / "older", classified(0.9))
    if lost == "test_hash":
        content = json.loads((older / "scores.json").read_text())
        del content["test_hash"]
        (older / "scores.json").write_text(json.dumps(content))
    else:
        (older / lost).unlink()
    assert refusal(better, older).message == f"{older} was scored before comparing was there"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"task": "tagging"}, "tagging, scored by accuracy"), ({"headline": "macro_f1"}, "sentiment, scored by macro_f1")],
)
def test_runs_of_different_tasks(better: Path, worse: Path, tmp_path: Path, changes: dict[str, str], said: str) -> None:
    other = write_run(tmp_path / "other", classified(0.9), **changes)
    assert refusal(better, other, worse).message == (
        f"these are runs of different tasks: {better}, {worse} (sentiment, scored by accuracy); {other} ({said})"
    )


def test_runs_on_different_test_examples(better: Path, worse: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", classified(0.9), test_hash="b" * 64)
    groups = f"{better}, {worse} (test data {'a' * 12}, 200 examples); {other} (test data {'b' * 12}, 200 examples)"
    assert refusal(better, other, worse).message == f"these were scored on different test examples: {groups}"


# The command


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, output and messages of `nlp-tasks compare`, in this process."""

    def called(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nlp-tasks", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, int)
        return (end.value.code, *capsys.readouterr())

    return called


Call = Callable[..., tuple[int, str, str]]


def test_the_command_prints_the_table(call: Call, better: Path, worse: Path) -> None:
    assert call(worse, better) == (0, comparison.as_text(comparison.compare([better, worse])) + "\n", "")


def test_the_command_answers_machines(call: Call, better: Path, worse: Path) -> None:
    code, out, _ = call(better, worse, "--json")
    assert code == 0
    assert json.loads(out) == comparison.compare([better, worse])


def test_the_command_writes_a_page(call: Call, better: Path, worse: Path, tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    code, out, _ = call(better, worse, "--html", place)
    content = comparison.compare([better, worse])
    assert (code, out) == (0, comparison.as_text(content) + "\n")
    assert place.read_text(encoding="utf-8") == comparison.as_page(content)


def test_a_page_in_no_folder_is_refused(call: Call, better: Path, worse: Path, tmp_path: Path) -> None:
    place = tmp_path / "none" / "page.html"
    code, out, err = call(better, worse, "--html", place)
    assert (code, out) == (2, "")
    message, hint = err.splitlines()
    assert message == f"error: cannot write {place}: no folder {place.parent}"
    assert hint.startswith("hint: ")
    assert not place.parent.exists()


def test_what_cannot_be_compared_leaves_no_page(call: Call, better: Path, tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    code, out, err = call(better, "--html", place)
    assert (code, out, err.splitlines()[0]) == (2, "", "error: only one run")
    assert not place.exists()


def test_without_runs_the_usage_is_told(call: Call) -> None:
    code, out, err = call()
    assert (code, out) == (2, "")
    assert "Usage: " in err


def test_comparing_takes_no_tensorflow(better: Path, worse: Path, tmp_path: Path) -> None:
    script = """if True:
        import sys
        from nlp_tasks.cli import main
        try:
            main()
        except SystemExit as end:
            print(end.code, sorted({"tensorflow", "keras", "matplotlib"} & set(sys.modules)))
    """
    arguments = ["compare", str(better), str(worse), "--html", str(tmp_path / "page.html")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "0 []"
