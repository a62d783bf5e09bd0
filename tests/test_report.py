"""What a run leaves for people, as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nlp_tasks import report
from nlp_tasks.scores import Scores

CONTENT: dict[str, Any] = {
    "task": "sentiment", "scores": {"accuracy": 0.925, "log_loss": 0.2134}, "intervals": {"accuracy": [0.9, 0.95]},
    "counts": {"examples": 25000}, "signatures": {"accuracy": "unit:example", "log_loss": ""}, "anchor": [], "parameters": 12345,
    "training_seconds": 61.7, "tokens_per_second": 23456.0, "padding_share": 0.25, "seed": 7, "data_hash": "d" * 64,
}  # fmt: skip
BASELINE = {"name": "a guess", "scores": {"accuracy": 0.5}, "intervals": {}, "difference": {"accuracy": [0.425, 0.4, 0.45]}}


@pytest.mark.parametrize(
    ("metric", "percent"),
    [("accuracy", True), ("unknown_accuracy", True), ("macro_f1", True), ("span_f1", True), ("precision", True), ("recall", True),
     ("log_loss", False), ("calibration_error", False), ("bleu", False), ("perplexity", False)],
)  # fmt: skip
def test_fractions_are_percent(metric: str, percent: bool) -> None:
    assert report.is_percent(metric) == percent
    assert report.shown(metric, 0.12345) == ("12.35" if percent else "0.12" if metric == "bleu" else "0.1235")


@pytest.mark.parametrize(
    ("metric", "difference", "text"),
    [
        ("accuracy", (0.0443, 0.039, 0.0495), "+4.43 [+3.90, +4.95] points"),
        ("span_f1", (-0.01, -0.02, 0.0), "-1.00 [-2.00, +0.00] points"),
        ("log_loss", (0.01, -0.02, 0.04), "+0.0100 [-0.0200, +0.0400]"),
    ],
)
def test_differences_have_signs(metric: str, difference: tuple[float, float, float], text: str) -> None:
    assert report.difference_text(difference, metric) == text


def test_each_signature_is_a_line() -> None:
    assert (
        report.signature_lines([("accuracy", "unit:word"), ("loss", ""), ("bleu", "tok:13a"), ("accuracy", "unit:word")])
        == "accuracy: unit:word\nbleu: tok:13a"
    )
    assert report.signature_lines([]) == ""


def test_the_summary_says_how_its_scores_were_counted() -> None:
    other = CONTENT | {"task": "tagging", "scores": {"span_f1": 0.8}, "signatures": {"span_f1": "mode:strict"}, "baseline": None}
    runs = {"one": CONTENT | {"baseline": BASELINE}, "two": CONTENT, "three": other}
    text = report.summary(runs, {"one": "accuracy", "two": "accuracy", "three": "span_f1"})
    table, signatures = text.split("\n\n")
    assert signatures == "accuracy of sentiment: unit:example\nspan_f1 of tagging: mode:strict"
    assert [" ".join(line.split()) for line in table.splitlines()[2:]] == [
        "one 12,345 62 accuracy 92.50 % [90.00, 95.00] 50.00 %",
        "two 12,345 62 accuracy 92.50 % [90.00, 95.00] –",
        "three 12,345 62 span_f1 80.00 % –",
    ]


def lines(**changes: Any) -> list[str]:
    """report.txt up to the table of all scores."""
    text = report.text_report(CONTENT | changes, Scores({}, text="a table\n"), "made-up", "accuracy")
    return text[: text.index("\n\nmetric")].splitlines()


def test_the_text_report_begins_with_the_headline() -> None:
    assert lines() == ["made-up", "=======", "", "accuracy  92.50 % [90.00, 95.00]   (25,000 test examples)"]


def test_the_text_report_has_the_baseline_and_the_difference() -> None:
    assert lines(baseline=BASELINE)[4:] == [
        "baseline  50.00 %   a guess",
        "difference  +42.50 [+40.00, +45.00] points   on the same examples (paired bootstrap)",
    ]
    assert lines(baseline=BASELINE | {"difference": {}})[4:] == ["baseline  50.00 %   a guess"]


def test_the_text_report_has_the_score_without_copies() -> None:
    less = {"left_out": 1234, "scores": {"accuracy": 0.9}, "intervals": {"accuracy": [0.85, 0.95]}}
    expected = ["without copies  90.00 % [85.00, 95.00]   1,234 test examples left out that train has too"]
    assert lines(without_copies=less)[4:] == expected
    assert lines(without_copies=None)[4:] == []


def test_the_text_report_marks_what_is_not_comparable() -> None:
    anchors = [{"metric": "accuracy", "value": value, "source": f"A {value}", "comparable": value < 95} for value in (91.5, 99.0)]
    assert lines(anchor=anchors)[4:] == ["anchor  91.5   A 91.5", "anchor  ≠ 99.0   A 99.0"]


def test_the_text_report_ends_with_every_table() -> None:
    text = report.text_report(CONTENT, Scores({}, text="a table\n"), "made-up", "accuracy")
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "accuracy 92.50 % [90.00, 95.00] unit:example" in rows
    assert {"log_loss 0.2134", "a table", "training 62 s, 23,456 tokens/s, padding 25%", f"data {'d' * 16}"} <= set(rows)


# Curves


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (
            "epoch,loss,accuracy,validation_loss,validation_accuracy\n0.5,4,0.1,5,0.2\n1.0,2,,3,0.4\n",
            [("loss", {"training": ([0.5, 1], [4, 2]), "validation": ([0.5, 1], [5, 3])}),
             ("accuracy", {"training": ([0.5], [0.1]), "validation": ([0.5, 1], [0.2, 0.4])})],
        ),
        ("epoch,validation_span_f1\n1,0.5\n", [("span_f1", {"validation": ([1], [0.5])})]),
        (
            "epoch,loss,log_loss,validation_loss,validation_log_loss\n1,9,2,8,3\n",
            [("log_loss", {"training": ([1], [2]), "validation": ([1], [3])})],
        ),
        ("epoch,loss,validation_loss\n", []),
        ("epoch,loss\n1,2\n", []),
        (None, []),
    ],
    ids=["two metrics", "only validation", "loss of the answer", "no epochs", "no validation", "no file"],
)  # fmt: skip
def test_curves_are_those_of_metrics_that_validation_has(tmp_path: Path, history: str | None, expected: list[Any]) -> None:
    path = tmp_path / "history.csv"
    if history is not None:
        path.write_text(history)
    assert report.curves(path) == expected
