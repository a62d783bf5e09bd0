"""The page of a run: made-up run folders, read again as a browser reads them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nlp_tasks import page, scores
from nlp_tasks.errors import UserError
from nlp_tasks.recipe import to_toml

MEAN = '<img src="http://x.y/z"> &amp; <script>alert(1)</script>'
"""What data may hold."""
SECTIONS = {
    "headline": "What the score stands beside",
    "trained": "What was trained on what",
    "learning": "Learning",
    "scores": "All scores",
    "labels": "By label",
    "calibration": "Does it know when it is right?",
    "errors": "Where it is most wrong",
    "check": "The data",
    "again": "Again, on your machine",
}
"""Headings of sections."""


# Runs


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write_history(folder: Path, rows: Sequence[dict[str, float | str]]) -> None:
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def change(folder: Path, name: str = "scores.json", **values: Any) -> Path:
    """Other values in a file of a run."""
    write(folder / name, json.loads((folder / name).read_text(encoding="utf-8")) | values)
    return folder


def write_run(folder: Path, task: str, found: scores.Scores, baseline: scores.Scores, results: Sequence[dict[str, Any]]) -> Path:
    folder.mkdir()
    metric = next(iter(found.scores))
    write(folder / "scores.json", {
        "recipe": "made-up", "task": task, "headline": metric, "scores": found.scores, "intervals": found.intervals,
        "counts": found.counts | {"train_rows": 4000, "test_rows": 1000}, "signatures": found.signatures, "data_hash": "d" * 64,
        "test_hash": "e" * 64, "without_copies": None, "anchor": [], "parameters": 12345, "training_seconds": 61.7,
        "tokens_per_second": 23456, "padding_share": 0.25, "seed": 7, "commit": "c" * 40, "versions": {"keras": "3.15.1"},
        "figures": found.figures, "baseline": {"name": "a guess", "scores": baseline.scores, "intervals": baseline.intervals,
                                               "difference": scores.difference(found, baseline), "seconds": 1},
    })  # fmt: skip
    lines = [json.dumps(result, ensure_ascii=False) + "\n" for result in results]
    (folder / "predictions.jsonl").write_text("".join(lines), encoding="utf-8")
    write_history(folder, [
        {"epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch, "accuracy": 0.5 + epoch / 10,
         "validation_loss": 1.5 / epoch, "validation_accuracy": 0.4 + epoch / 10} for epoch in (1, 2, 3)
    ])  # fmt: skip
    length = {"median": 8, "95%": 11, "max": 1234}
    words = {"tokens": 31279, "length": length, "distinct": 1671, "unknown": 0.0325, "padding": 0.2}
    finding = {"kind": "near", "level": "note", "split": "train", "message": "2 rows nearly another row", "count": 2,
               "places": ["train:3 ≈ train:1"], "advice": "leave them out"}  # fmt: skip
    write(folder / "check.json", {
        "splits": {"train": {"from": "train", "examples": 4000, "fields": {"words": words}, "labels": {},
                             "vocabularies": {"words": {"kept": 1671, "distinct": 1671}}}},
        "findings": [finding], "copies": [], "seconds": 1.0,
    })  # fmt: skip
    write(folder / "environment.json", {
        "python": "3.11.7", "platform": "Linux", "cpu_flags": ["avx2", "fma"], "cores": 2, "onednn": True, "strategy": "default",
        "replicas": 1, "command": "nlp-tasks run made-up",
    })  # fmt: skip
    write(folder / "export.json", {"bytes": 2_475_184, "latency_ms": 3.531, "cores": 2})
    data = {"source": "toy_world:x", "origin": "https://x.y", "licence": ""}
    resolved = to_toml({"description": 'made up, "as it is" 👍', "data": data})
    (folder / "recipe.toml").write_text(resolved, encoding="utf-8")
    return folder


def classification_run(
    folder: Path, texts: Sequence[str] = ("good", "bad", "a bad film", "fine"), gold: Sequence[int] = (1, 0, 0, 1),
    right: Sequence[float] = (0.9, 0.8, 0.25, 0.7), labels: Sequence[str] = ("neg", "pos"),
) -> Path:  # fmt: skip
    """Of two or more labels; `right` is the probability of each right one, the rest is the next label's."""
    probabilities = np.zeros((len(gold), len(labels)))
    for row, (label, share) in enumerate(zip(gold, right, strict=True)):
        probabilities[row, label], probabilities[row, (label + 1) % len(labels)] = share, 1 - share
    found = scores.classification(gold, probabilities, labels)
    found.figures["by_length"] = scores.by_size(
        "accuracy", "tokens of the text", np.array([*map(len, texts)]), found.parts["accuracy"], 2
    )
    found.figures["by_frequency"] = scores.grouped("accuracy", "rare tokens", {})
    results = [
        {"id": row, "where": f"test.tsv:{row + 1}", "gold": labels[label], "answer": labels[int(given.argmax())],
         "loss": -float(np.log(given[label])), "text": text}
        for row, (text, label, given) in enumerate(zip(texts, gold, probabilities, strict=True))
    ]  # fmt: skip
    guess = scores.classification(gold, np.eye(len(labels))[[0] * len(gold)] * 0.8 + 0.1, labels)
    return write_run(folder, "sentiment", found, guess, results)


def wrong_run(folder: Path, losses: Sequence[float]) -> Path:
    """As many wrong answers, and a right one whose loss is larger than all."""
    right = [*np.exp(-np.array(losses)), 0.501]
    return classification_run(folder, [f"text {loss:g}" for loss in losses] + ["right"], [0] * len(right), right)


WORDS = [["I", "drink", "R&D", "."], ["We", "<b>", "."], ["Yes"]]
TAGS = [["PRON", "VERB", "NOUN", "PUNCT"], ["PRON", "<X>", "PUNCT"], ["INTJ"]]
GIVEN = [["PRON", "NOUN", "NOUN", "PUNCT"], ["PRON", "PUNCT", "PUNCT"], ["INTJ"]]


def tagging_run(
    folder: Path,
    words: Sequence[Sequence[str]] = WORDS,
    gold: Sequence[Sequence[str]] = TAGS,
    given: Sequence[Sequence[str]] = GIVEN,
    spans: bool = False,
) -> Path:
    known = [[len(word) > 1 for word in sentence] for sentence in words]
    found = scores.tagging(gold, given, known, [[0.9] * len(sentence) for sentence in words])
    guess = scores.tagging(gold, [["PRON"] * len(sentence) for sentence in words], known)
    if spans:
        found, guess = scores.joined(scores.spans(gold, given), found), scores.joined(scores.spans(gold, gold), guess)
    results = [
        {
            "id": row,
            "where": f"test.conllu:{row + 1}",
            "words": words[row],
            "gold": gold[row],
            "answer": given[row],
            "loss": row / 8,
        }
        for row in range(len(words))
    ]
    return write_run(folder, "tagging", found, guess, results)


def span_run(folder: Path) -> Path:
    words = [["Ann", "Lee", "of", "A&B"], ["in", "<Rome>"]]
    return tagging_run(folder, words, [["B-PER", "I-PER", "O", "B-ORG"], ["O", "B-LOC"]],
                       [["B-PER", "I-PER", "O", "O"], ["O", "B-PER"]], spans=True)  # fmt: skip


KINDS: dict[str, Callable[[Path], Path]] = {"classification": classification_run, "tagging": tagging_run, "spans": span_run}


@pytest.fixture(params=KINDS)
def any_run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return KINDS[request.param](tmp_path / "run")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Of text classification."""
    return classification_run(tmp_path / "run")


# Pages


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def all(self, tag: str = "", cls: str = "") -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                if tag in ("", child.tag) and (not cls or cls in child.attributes.get("class", "").split()):
                    yield child
                yield from child.all(tag, cls)

    def strings(self) -> Iterator[str]:
        for child in self.children:
            yield from [child] if isinstance(child, str) else child.strings()

    @property
    def raw(self) -> str:
        return "".join(self.strings())

    @property
    def text(self) -> str:
        """As it reads: what stands in different elements is apart."""
        return " ".join(" ".join(self.strings()).split())

    def texts(self, tag: str, cls: str = "") -> list[str]:
        return [found.text for found in self.all(tag, cls)]

    def rows(self) -> list[list[str]]:
        """Of its tables."""
        return [[cell.text for cell in row.all() if cell.tag in ("td", "th")] for row in self.all("tr")]

    def facts(self) -> dict[str, str]:
        return dict(zip(self.texts("dt"), self.texts("dd"), strict=True))

    def on_axis(self) -> list[tuple[str, str]]:
        """Names and values of the rows of a scale."""
        return [tuple(row.texts("div", name)[0] for name in ("scale-name", "scale-value"))
                for row in self.all("div", "scale-row") if "axis" not in row.attributes["class"]]  # fmt: skip


class Parser(HTMLParser):
    """Takes only pages in which each tag is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in ("meta", "br", "hr", "img", "input", "link"):
            self.open.append(self.open[-1].children[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parsed(html: str) -> Element:
    parser = Parser()
    parser.feed(html)
    parser.close()
    assert len(parser.open) == 1
    return parser.open[0]


def page_of(folder: Path) -> Element:
    return parsed(page.report(folder))


def section(folder: Path, key: str) -> Element:
    (found,) = (part for part in page_of(folder).all("section") if part.texts("h2") == [SECTIONS.get(key, key)])
    return found


def headings(folder: Path) -> list[str]:
    return page_of(folder).texts("h2")


def test_every_tag_is_closed_and_the_page_says_what_it_is(any_run: Path) -> None:
    html = page.report(any_run)
    assert html.startswith("<!doctype html>\n")
    found = parsed(html)
    assert next(found.all("html")).attributes == {"lang": "en"}
    assert found.texts("title")[0] == "made-up"
    assert [meta.attributes for meta in found.all("meta")] == [
        {"charset": "utf-8"}, {"name": "viewport", "content": "width=device-width, initial-scale=1"},
    ]  # fmt: skip
    identifiers = [element.attributes["id"] for element in found.all() if "id" in element.attributes]
    assert len(identifiers) == len(set(identifiers))


def test_nothing_is_loaded(any_run: Path) -> None:
    found = page_of(any_run)
    every = list(found.all())
    assert {element.tag for element in every}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "use"})
    assert {name for element in every for name in element.attributes}.isdisjoint({"src", "srcset", "href", "xlink:href", "data"})
    styles = [*found.texts("style"), *(element.attributes.get("style", "") for element in every)]
    assert len(styles[0]) > 1000
    assert not any(re.search(r"@import|url\s*\(|image-set", style) for style in styles)


def test_text_from_data_and_recipes_is_escaped(tmp_path: Path) -> None:
    folder = classification_run(tmp_path / "run", [MEAN, "b", "c", "d"], right=(0.1, 0.9, 0.9, 0.9), labels=["<b>", MEAN])
    scored = json.loads((folder / "scores.json").read_text())
    scored["baseline"]["name"] = scored["signatures"]["accuracy"] = scored["figures"]["by_length"]["title"] = MEAN
    scored["figures"]["by_length"]["names"][0] = MEAN
    anchor = {"metric": "accuracy", "value": 90, "source": MEAN, "comparable": True}
    write(folder / "scores.json", scored | {"recipe": MEAN, "task": MEAN, "versions": {MEAN: MEAN}, "anchor": [anchor]})
    finding = {"level": "note", "split": MEAN, "message": MEAN, "places": [MEAN], "count": 1, "advice": MEAN}
    change(folder, "check.json", findings=[finding])
    change(folder, "environment.json", command=MEAN)
    (folder / "recipe.toml").write_text(to_toml({"description": MEAN, "data": {"source": MEAN}}))

    found = page_of(folder)
    assert {"img", "script"}.isdisjoint(element.tag for element in found.all())
    assert found.texts("title")[0] == found.texts("h1")[0] == MEAN
    assert found.texts("p")[:2] == [MEAN, MEAN]  # description and signature
    assert [name for name, _ in section(folder, "headline").on_axis()][1:] == [f"{MEAN} baseline", f"{MEAN} published"]
    assert {"task": MEAN, "source": MEAN}.items() <= section(folder, "trained").facts().items()
    assert section(folder, f"accuracy by {MEAN}").on_axis()[0][0] == f"{MEAN} 3"
    by_label, confusion = section(folder, "labels").all("table")
    assert [row[0] for row in by_label.rows()[1:]] == ["<b>", MEAN]
    assert confusion.rows()[0] == ["", "<b>", MEAN]
    errors = section(folder, "errors")
    assert (errors.texts("b"), errors.texts("p")[1:]) == ([MEAN, "<b>"], [MEAN])
    assert section(folder, "check").texts("div", "finding") == [f"note {MEAN}: {MEAN} {MEAN} → {MEAN}"]
    again = section(folder, "again")
    assert (again.texts("pre")[0], again.facts()[MEAN]) == (MEAN, MEAN)


def test_words_and_tags_are_escaped(tmp_path: Path) -> None:
    cards = list(section(tagging_run(tmp_path / "run"), "errors").all("article"))
    assert [card.texts("p")[0] for card in cards] == ["We <b> <X> → PUNCT .", "I drink VERB → NOUN R&D ."]
    assert cards[0].texts("b") == []


# The score, and what it stands beside


def test_the_headline(run: Path) -> None:
    (top, *_) = page_of(run).all("header")
    low, high = json.loads((run / "scores.json").read_text())["intervals"]["accuracy"]
    assert top.texts("strong") == ["75.00 %"]
    assert top.texts("span")[0] == f"accuracy on 4 test examples [{100 * low:.2f}, {100 * high:.2f}]"
    assert top.texts("p") == ['made up, "as it is" 👍', json.loads((run / "scores.json").read_text())["signatures"]["accuracy"]]


def test_the_baseline_stands_beside(run: Path) -> None:
    scored = json.loads((run / "scores.json").read_text())
    scored["baseline"] |= {
        "scores": {"accuracy": 0.6},
        "intervals": {"accuracy": [0.5, 0.7]},
        "difference": {"accuracy": [0.15, 0.01, 0.3]},
    }
    write(run / "scores.json", scored)
    beside = section(run, "headline")
    assert beside.on_axis()[1] == ("a guess baseline", "60.00 % [50.00, 70.00]")
    assert beside.texts("p") == [
        "The difference to the baseline is +15.00 [+1.00, +30.00] points on the same examples (paired bootstrap)."
    ]
    rows = section(run, "scores").rows()
    assert [row[3] for row in rows[:3]] == ["baseline", "60.00 % [50.00, 70.00]", "–"]  # it has no macro F1


def test_without_a_baseline(run: Path) -> None:
    change(run, baseline=None)
    beside = section(run, "headline")
    assert [name for name, _ in beside.on_axis()] == ["this model"]
    assert beside.texts("p") == []
    assert section(run, "scores").rows()[0] == ["metric", "test", "95 % interval", "how it was counted"]


def test_all_scores_have_their_units(run: Path) -> None:
    scored = json.loads((run / "scores.json").read_text())
    rows = {row[0]: row for row in section(run, "scores").rows()}
    assert list(rows) == ["metric", "accuracy", "macro F1", "log loss", "calibration error"]
    assert rows["macro F1"][1] == f"{100 * scored['scores']['macro_f1']:.2f} %"
    low, high = scored["intervals"]["log_loss"]
    assert rows["log loss"][1:3] == [f"{scored['scores']['log_loss']:.4f}", f"[{low:.4f}, {high:.4f}]"]
    assert rows["calibration error"][2] == ""  # it has no interval
    assert rows["accuracy"][4] == scored["signatures"]["accuracy"]


def test_published_scores_stand_beside(run: Path) -> None:
    anchors = [{"metric": "accuracy", "value": value, "source": source, "comparable": comparable}
               for value, source, comparable in ((91.5, "A 2001", True), (99.0, "B 2002", False))]  # fmt: skip
    beside = section(change(run, anchor=anchors), "headline")
    assert beside.on_axis()[-2:] == [("A 2001 published", "91.50 %"), ("≠ B 2002 published", "99.00 %")]
    assert beside.texts("p")[-1].startswith("≠ other data, split or metric")
    beside = section(change(run, anchor=anchors[:1]), "headline")
    assert not any("≠" in text for text in beside.texts("p"))


def test_a_published_score_of_another_metric_is_not_on_the_axis(run: Path) -> None:
    change(run, anchor=[{"metric": "macro_f1", "value": 91.5, "source": "A 2001", "comparable": True}])
    scored = json.loads((run / "scores.json").read_text())["scores"]
    names = ["this model", "a guess baseline"]
    beside = section(run, "headline")
    assert [name for name, _ in beside.on_axis()] == [*names, *names[: 1 + ("macro_f1" in scored)], "A 2001 published"]
    assert beside.texts("h3") == ["macro F1"]


def test_scores_without_copies_stand_beside(run: Path) -> None:
    change(run, without_copies={"left_out": 1234, "scores": {"accuracy": 0.7}, "intervals": {"accuracy": [0.6, 0.8]}})
    beside = section(run, "headline")
    assert beside.on_axis()[1] == ("this model without 1,234 test examples that train has too", "70.00 % [60.00, 80.00]")
    assert beside.texts("p")[-1] == (
        "1,234 test examples stand in train as well, wholly or nearly; without them the accuracy is 70.00 % [60.00, 80.00]."
    )


def test_scores_in_groups(run: Path) -> None:
    figure = json.loads((run / "scores.json").read_text())["figures"]["by_length"]
    values = [f"{100 * score:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"
              for score, (low, high) in zip(figure["scores"], figure["intervals"], strict=True)]  # fmt: skip
    names = [f"{name} {count}" for name, count in zip(figure["names"], figure["counts"], strict=True)]
    assert section(run, "accuracy by tokens of the text").on_axis() == list(zip(names, values, strict=True))
    assert not any("rare tokens" in heading for heading in headings(run))  # there is no such group


# The axis


def positions(found: Element) -> list[float]:
    """In percent of the axis: of marks, ticks, and both ends of intervals."""
    styles = [element.attributes.get("style", "") for line in found.all("div", "scale-line") for element in line.all()]
    places = [re.fullmatch(r"left:([-\d.e]+)%(?:;width:([-\d.e]+)%)?", style) for style in styles]
    assert all(places)
    return [end for place in places if place for end in (float(place[1]), float(place[1]) + float(place[2] or 0))]


ROWS: dict[str, list[tuple[float, tuple[float, float] | None]]] = {
    "apart": [(0.9, (0.85, 0.95)), (0.4, (0.3, 0.5)), (0.99, None)],
    "perfect": [(1.0, (1.0, 1.0)), (0.97, (0.96, 0.98))],
    "only perfect": [(1.0, (1.0, 1.0))],
    "zero beside others": [(0.0, (0.0, 0.0)), (0.3, (0.1, 0.5))],
    "equal": [(0.75, (0.75, 0.75)), (0.75, None)],
    "alone": [(0.75, None)],
    "nearly equal": [(0.75, (0.7499, 0.7501)), (0.75005, None)],
    "above one": [(0.75, None), (1.0, None)],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_everything_is_on_the_axis_in_its_order(rows: list[tuple[float, tuple[float, float] | None]], metric: str) -> None:
    chart = page.scale([{"name": "x", "kind": "model", "score": score, "interval": interval} for score, interval in rows], metric)
    made = [(row["at"], *((row["low"], row["high"]) if row["low"] is not None else ())) for row in chart["rows"]]
    values = [score for score, _ in rows] + [end for _, interval in rows for end in interval or ()]
    places = [row["at"] for row in chart["rows"]] + [end for row in made for end in row[1:]]
    assert all(0 <= place <= 100 for place in [*places, *(tick["at"] for tick in chart["ticks"])])
    assert len({*places}) == len({*values})
    assert np.argsort(np.array(places), kind="stable").tolist() == np.argsort(np.array(values), kind="stable").tolist()
    assert 2 <= len(chart["ticks"]) <= 6


def test_scores_of_zero_percent_are_on_the_axis() -> None:
    chart = page.scale([{"name": "x", "kind": "model", "score": 0.0, "interval": (0.0, 0.0)}], "accuracy")
    assert (chart["rows"][0]["at"], chart["rows"][0]["value"], chart["rows"][0]["interval"]) == (0, "0.00 %", "[0.00, 0.00]")


@pytest.mark.parametrize(("metric", "factor"), [("accuracy", 100), ("log_loss", 1)])
def test_ticks_stand_where_such_a_score_stands(metric: str, factor: int) -> None:
    chart = page.scale([{"name": "x", "kind": "model", "score": score} for score in (0.6, 0.8)], metric)
    ticks = {float(tick["text"]) / factor: tick["at"] for tick in chart["ticks"]}
    assert (ticks[0.6], ticks[0.8]) == tuple(row["at"] for row in chart["rows"])


def test_marks_and_intervals_of_the_page_are_on_the_axis(any_run: Path) -> None:
    change(any_run, anchor=[{"metric": json.loads((any_run / "scores.json").read_text())["headline"], "value": 100, "source": "A",
                             "comparable": False}])  # fmt: skip
    places = positions(page_of(any_run))
    assert len(places) > 10
    assert all(0 <= place <= 100.01 for place in places)


# Learning


def test_learning_curves(run: Path) -> None:
    loss, accuracy = section(run, "learning").all("figure")
    assert (loss.texts("figcaption"), accuracy.texts("figcaption")) == (["loss"], ["accuracy"])
    training, validation = accuracy.all("polyline")
    assert (training.attributes["points"], validation.attributes["points"]) == (
        "0.0,93.3 150.0,46.7 300.0,0.0", "0.0,140.0 150.0,93.3 300.0,46.7",
    )  # fmt: skip
    assert [dot.text for dot in accuracy.all("circle", "model")] == ["1: 0.5", "2: 0.6", "3: 0.7"]
    assert accuracy.texts("span") == ["training", "validation", "epoch"]
    assert accuracy.texts("text", "x") == ["1", "1.5", "2", "2.5", "3"]


@pytest.mark.parametrize(
    "rows",
    [
        [{"epoch": 1.0, "loss": 0.5, "validation_loss": 0.6}],
        [{"epoch": 1.0, "loss": 0.5, "validation_loss": 0.5}],
        [{"epoch": 0.5, "loss": 0.5, "validation_loss": 0.5}, {"epoch": 1.0, "loss": 0.5, "validation_loss": 0.5}],
        [{"epoch": 1.0, "loss": 0.0, "validation_loss": 1e9}, {"epoch": 2.0, "loss": 1e-9, "validation_loss": 0.5}],
    ],
    ids=["one epoch", "one value", "equal values", "wide"],
)
def test_few_or_equal_values_are_drawn_inside(run: Path, rows: list[dict[str, float | str]]) -> None:
    write_history(run, rows)
    (figure,) = section(run, "learning").all("figure")
    dots = list(figure.all("circle"))
    assert len(dots) == 2 * len(rows)
    assert all(0 <= float(dot.attributes["cx"]) <= 300 and 0 <= float(dot.attributes["cy"]) <= 140 for dot in dots)


def test_what_training_does_not_measure_has_one_curve(run: Path) -> None:
    write_history(run, [{"epoch": epoch, "validation_span_f1": epoch / 9, "loss": 2, "accuracy": ""} for epoch in (1, 2)])
    (figure,) = section(run, "learning").all("figure")
    assert figure.texts("figcaption") == ["span F1"]
    assert figure.texts("span") == ["validation", "epoch"]


def test_the_log_loss_of_the_answer_stands_for_the_loss(run: Path) -> None:
    row: dict[str, float | str] = {"epoch": 1, "loss": 3, "log_loss": 2, "validation_loss": 3, "validation_log_loss": 2}
    write_history(run, [row])
    assert section(run, "learning").texts("figcaption") == ["log loss"]


def test_a_history_without_epochs_is_not_drawn(run: Path) -> None:
    (run / "history.csv").write_text("epoch,loss,validation_loss\n")
    assert SECTIONS["learning"] not in headings(run)


# Labels


def test_labels_have_their_scores_the_most_frequent_first(tmp_path: Path) -> None:
    folder = classification_run(tmp_path / "run", "abcd", [0, 1, 1, 1], [0.9, 0.9, 0.9, 0.2])
    by_label, _ = section(folder, "labels").all("table")
    assert by_label.rows()[1:] == [["pos", "100.00", "66.67", "80.00", "3"], ["neg", "50.00", "100.00", "66.67", "1"]]


def test_spans_have_their_kinds_by_label(tmp_path: Path) -> None:
    by_kind, confusion = section(span_run(tmp_path / "run"), "labels").all("table")
    assert [row[0] for row in by_kind.rows()[1:]] == ["LOC", "ORG", "PER"]
    assert [row[0] for row in confusion.rows()[1:]] == ["B-LOC", "B-ORG", "B-PER", "I-PER", "O"]


def test_the_confusion_matrix(run: Path) -> None:
    _, table = section(run, "labels").all("table")
    assert table.rows() == [["", "neg", "pos"], ["neg", "1", "1"], ["pos", "", "2"]]
    shades = [re.findall(r"--(good|bad)\) (\d+)%", cell.attributes["style"])[0] for cell in table.all("td")]
    assert shades == [("good", "35"), ("bad", "35"), ("bad", "0"), ("good", "70")]


def many_labels(folder: Path, labels: int, confusions: Sequence[tuple[int, int, int]]) -> Element:
    matrix = np.eye(labels, dtype=int) * 5000
    for gold, answer, count in confusions:
        matrix[gold, answer] = count
    scored = json.loads((folder / "scores.json").read_text())
    figure = {"labels": [f"label{row}" for row in range(labels)], "matrix": matrix.tolist()}
    return section(change(folder, figures=scored["figures"] | {"confusion": figure}), "labels")


def test_a_matrix_of_20_labels_is_shown_whole(run: Path) -> None:
    found = many_labels(run, 20, [(0, 19, 3)])
    (table,) = found.all("table", "confusion")
    assert [len(row) for row in table.rows()] == [21] * 21
    assert "Most frequent confusions" not in found.texts("h3")


def test_of_more_labels_the_most_frequent_confusions_are_shown(run: Path) -> None:
    found = many_labels(run, 21, [(3, 4, 2), (4, 3, 1500), (20, 0, 7)])
    assert not list(found.all("table", "confusion"))
    *_, table = found.all("table")
    assert table.rows()[1:] == [["label4", "label3", "1,500"], ["label20", "label0", "7"], ["label3", "label4", "2"]]


def test_at_most_20_confusions_are_shown(run: Path) -> None:
    *_, table = many_labels(run, 30, [(row, (row + 1) % 30, row + 1) for row in range(30)]).all("table")
    assert [int(row[2]) for row in table.rows()[1:]] == list(range(30, 10, -1))


def test_calibration(tmp_path: Path) -> None:
    folder = classification_run(tmp_path / "run", "abcdef", [0] * 6, [0.95, 0.96, 0.97, 0.98, 0.7, 0.2])
    dots = list(section(folder, "calibration").all("circle"))
    figure = json.loads((folder / "scores.json").read_text())["figures"]["calibration"]
    assert [dot.text for dot in dots] == [
        f"{100 * c:g}: {100 * a:.4g}" for c, a in zip(figure["confidence"], figure["accuracy"], strict=True)
    ]
    assert [float(dot.attributes["r"]) for dot in dots] == [5, 5, 8]  # 1, 1 and 4 answers
    assert all(0 <= float(dot.attributes["cx"]) <= 300 and 0 <= float(dot.attributes["cy"]) <= 140 for dot in dots)


@pytest.mark.parametrize("curve", [None, {"confidence": [], "accuracy": [], "count": []}])
def test_without_probabilities_there_is_no_calibration(run: Path, curve: dict[str, list[float]] | None) -> None:
    figures = json.loads((run / "scores.json").read_text())["figures"]
    change(run, figures=figures | {"calibration": curve})
    assert SECTIONS["calibration"] not in headings(run)


def test_a_run_that_kept_no_figures(run: Path) -> None:
    change(run, figures={})
    assert headings(run) == [text for key, text in SECTIONS.items() if key not in ("labels", "calibration")]


# Wrong answers


def test_the_worst_errors_come_first(tmp_path: Path) -> None:
    losses = np.random.default_rng(0).permutation(np.linspace(1, 5, 35)).round(3).tolist()
    found = section(wrong_run(tmp_path / "run", losses), "errors")
    assert found.texts("p")[0] == "30 of 35 wrong answers: those with the highest loss."
    assert [card.texts("p")[0] for card in found.all("article")] == [f"text {loss:g}" for loss in sorted(losses)[:4:-1]]
    place = f"test.tsv:{losses.index(max(losses)) + 1}"
    assert next(found.all("header")).text == f"gold neg answer pos loss {max(losses):.2f} {place}"


def test_few_errors_are_all_shown(run: Path) -> None:
    found = section(run, "errors")
    assert found.texts("p") == ["1 of 1 wrong answers: those with the highest loss.", "a bad film"]


def test_without_errors(tmp_path: Path) -> None:
    found = section(classification_run(tmp_path / "run", right=[0.9] * 4), "errors")
    assert found.texts("p") == ["No test example was answered wrongly."]
    assert not list(found.all("article"))


@pytest.mark.parametrize(
    "text", ["word " * 300, "x" * 2000, "x" * 500 + " " + "y" * 1000, "x" * 1201], ids=["words", "x", "xy", "one"]
)
def test_a_long_text_is_cut(tmp_path: Path, text: str) -> None:
    folder = classification_run(tmp_path / "run", [text, "b"], [0, 1], [0.1, 0.9])
    (card,) = section(folder, "errors").all("article")
    shown, rest = (paragraph.raw for paragraph in card.all("p"))
    assert shown + rest == text
    assert page.LONGEST / 2 <= len(shown) <= page.LONGEST
    assert card.texts("summary") == ["the rest of it"]
    assert not shown[-1:].isspace()
    if text.startswith("word"):
        assert shown.endswith(" word") and rest.startswith(" word")


def test_a_text_that_is_just_short_enough_is_whole(tmp_path: Path) -> None:
    folder = classification_run(tmp_path / "run", ["x " * (page.LONGEST // 2), "b"], [0, 1], [0.1, 0.9])
    (card,) = section(folder, "errors").all("article")
    assert [paragraph.raw for paragraph in card.all("p")] == ["x " * (page.LONGEST // 2)]
    assert not list(card.all("details"))


def test_parts_of_a_text_are_marked(tmp_path: Path) -> None:
    text = "Who? " + "<i>Anna</i> saw Karl. " * 60
    folder = classification_run(tmp_path / "run", [text, "b"], [0, 1], [0.1, 0.9])
    path = folder / "predictions.jsonl"
    results = [json.loads(line) for line in path.read_text().splitlines()]
    late = text.rindex("Karl")
    results[0]["marks"] = {"gold": [5, 21], "answer": [8, 12], "other": [late, late + 4]}
    path.write_text("".join(json.dumps(result) + "\n" for result in results))
    (card,) = section(folder, "errors").all("article")
    assert [(mark.attributes["class"], mark.raw) for mark in card.all("mark")] == [
        ("gold", "<i>"), ("gold answer", "Anna"), ("gold", "</i> saw "), ("other", "Karl"),
    ]  # fmt: skip
    assert "".join(paragraph.raw for paragraph in card.all("p")) == text


def test_only_wrong_words_are_marked(tmp_path: Path) -> None:
    found = section(tagging_run(tmp_path / "run"), "errors")
    assert found.texts("mark") == ["<b> <X> → PUNCT", "drink VERB → NOUN"]
    assert found.texts("rt") == ["<X> → PUNCT", "VERB → NOUN"]


# What is not there


def test_a_run_without_scores(run: Path) -> None:
    (run / "scores.json").unlink()
    with pytest.raises(UserError) as refused:
        page.report(run)
    assert refused.value.message == f"{run} has no scores.json"
    assert refused.value.hint


def test_everything_is_shown_in_its_order(run: Path) -> None:
    every = [*SECTIONS.values()]
    assert headings(run) == [*every[:4], "accuracy by tokens of the text", *every[4:]]


@pytest.mark.parametrize(("name", "key"), [("check.json", "check"), ("history.csv", "learning")])
def test_a_missing_file_leaves_its_section_out(run: Path, name: str, key: str) -> None:
    before = headings(run)
    (run / name).unlink()
    assert headings(run) == [heading for heading in before if heading != SECTIONS[key]]


@pytest.mark.parametrize(
    ("name", "key", "lost"),
    [
        ("export.json", "trained", {"export on disk": "2.5 MB", "one text, median": "3.5 ms"}),
        ("environment.json", "again", {"python": "3.11.7", "platform": "Linux", "cores": "2, avx2, fma", "oneDNN": "on",
                                       "strategy": "default, 1 device(s)"}),
        ("recipe.toml", "trained", {"source": "toy_world:x", "origin": "https://x.y"}),
    ],
)  # fmt: skip
def test_a_missing_file_leaves_its_facts_out(run: Path, name: str, key: str, lost: dict[str, str]) -> None:
    before = section(run, key).facts()
    assert lost.items() <= before.items()
    (run / name).unlink()
    assert section(run, key).facts() == {fact: text for fact, text in before.items() if fact not in lost}


def test_only_scores_are_needed(any_run: Path) -> None:
    for path in any_run.iterdir():
        if path.name != "scores.json":
            path.unlink()
    assert {SECTIONS[key] for key in ("headline", "trained", "scores", "labels", "calibration", "again")} <= {*headings(any_run)}


def test_facts(run: Path) -> None:
    assert section(run, "trained").facts() == {
        "task": "sentiment", "source": "toy_world:x", "origin": "https://x.y", "train rows": "4,000", "test rows": "1,000",
        "parameters": "12,345", "training": "62 s", "tokens a second": "23,456", "padding": "25%", "export on disk": "2.5 MB",
        "one text, median": "3.5 ms",
    }  # fmt: skip
    again = section(run, "again")
    assert {"seed": "7", "commit": "c" * 12, "hash of the data": "d" * 16, "keras": "3.15.1"}.items() <= again.facts().items()
    command, recipe = again.all("pre")
    assert command.raw == "nlp-tasks run made-up"
    assert recipe.raw == (run / "recipe.toml").read_text(encoding="utf-8")


def test_a_run_outside_of_version_control_has_no_commit(run: Path) -> None:
    assert section(change(run, commit=""), "again").facts()["commit"] == "–"


def test_what_the_check_found(run: Path) -> None:
    found = section(run, "check")
    assert found.rows()[1] == ["train", "4,000", "words", "31,279", "8", "11", "1,234", "–", "3.2%", "20%"]
    assert found.texts("h3") == ["no errors, no warnings, 1 note"]
    assert found.texts("div", "finding") == ["note train: 2 rows nearly another row train:3 ≈ train:1, … → leave them out"]
