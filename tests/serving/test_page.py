"""The page for people: what stands in it, and what a real browser makes of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.serving.conftest import Running, Serve

EVIL = "<img src=x onerror=alert(1)>"


def test_it_needs_nothing_else(server: Running) -> None:
    answer = server.ask("/")
    text, policy = answer.body.decode(), answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "script-src 'unsafe" not in policy and "https" not in policy
    assert not re.findall(r"<(?:link|img|iframe|object)\b", text) and not re.findall(r"<script[^>]*src", text)
    assert not re.findall(r"""(?:href|action|src)=["'](?!#)""", text), "every address of the page is relative to it, or in it"
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert len(answer.body) < 100_000


def test_every_model_with_its_score(server: Running) -> None:
    text = server.ask("/").body.decode()
    for name in (
        "sentiment",
        "tagging",
        "language_modeling",
        "translation",
        "question_answering",
        "question_answering_stories",
        "other",
    ):
        assert f'<section class="model" data-model="{name}"' in text and f'<a href="#{name}">{name}</a>' in text
    assert (
        '<b>91.00 %</b> accuracy <span class="interval">[89.00, 93.00]</span> on 500 test examples; baseline, most frequent: 50.00 % [45.00, 55.00]'
        in text
    )
    about = json.loads(re.search(r'id="about">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert about["tagging"]["view"]["kind"] == "tags" and about["tagging"]["examples"] == [
        [["fish", "swim"]],
        [["a", "light", "lamp"]],
    ]
    assert about["other"]["inputs"] == {"scale": ["float", 0], "x": ["float", 2]}


def test_what_stands_in_an_export_is_never_markup(own_exports: Path, serve: Serve) -> None:
    extra = own_exports / "sentiment" / "1" / "assets.extra"
    (extra / "example_inputs.json").write_text(json.dumps([["</script><script>alert(1)</script>"], [EVIL]]))
    (extra / "example_outputs.json").unlink()
    scores = json.loads((extra / "scores.json").read_text())
    scores["task"] = scores["baseline"]["name"] = EVIL
    (extra / "scores.json").write_text(json.dumps(scores))
    with serve(own_exports) as server:
        text = server.ask("/").body.decode()
    assert EVIL not in text and "alert(1)</script>" not in text and "&lt;img src=x" in text


def test_exports_that_say_nothing(own_exports: Path, serve: Serve) -> None:
    for task in ("sentiment", "tagging"):
        shutil.rmtree(own_exports / task / "1" / "assets.extra")
    (own_exports / "language_modeling" / "1" / "assets.extra" / "scores.json").write_text('{"score": 1}')
    with serve(own_exports) as server:
        text = server.ask("/").body.decode()
    assert text.count("Its scores are not known") == 3


# A browser

REFUSED = "Failed to load resource: the server responded with a status of "
"""What a browser says of each answer that is an error."""


def chromium() -> str:
    """The distribution's, "" where there is none."""
    return next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'nlp-tasks[dev]'")
    path = chromium()
    if not path:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=[(1280, "light"), (400, "dark")], ids=["wide-light", "phone-dark"])
def page(request: pytest.FixtureRequest, browser: Any, server: Running) -> Iterator[Any]:
    """An opened page that must not complain, nor ask anyone but the server."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    opened = context.new_page()
    told: list[str] = []
    base = f"http://127.0.0.1:{server.port}/"
    opened.on("console", lambda message: None if message.text.startswith(REFUSED) else told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("request", lambda asked: None if asked.url.startswith(base) else told.append(asked.url))
    opened.goto(base)
    yield opened
    fits = opened.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    context.close()
    assert told == [] and fits


def shown(page: Any, model: str) -> Any:
    page.locator("nav a", has_text=re.compile(f"^{model}$")).click()
    section = page.locator(f"section.shown[data-model={model}]")
    section.wait_for()
    assert page.locator("section.model:visible").count() == 1
    return section


def type_and_ask(section: Any, **texts: str) -> None:
    for label, text in texts.items():
        section.get_by_label(label, exact=False).first.fill(text)
    section.locator("textarea").last.press("Control+Enter")


def wait_for(section: Any, text: str) -> None:
    section.locator(".answer", has_text=text).wait_for(timeout=15_000)


@pytest.mark.slow
def test_a_label(page: Any, server: Running) -> None:
    section = shown(page, "sentiment")
    section.get_by_label("Examples").select_option(label="bad service here")
    wait_for(section, "negative")
    assert section.locator("textarea").input_value() == "bad service here"
    assert section.locator(".bars > span:nth-child(3n)").all_inner_texts() == ["94.1 %", "5.9 %"]
    section.locator(".about", has_text="version 1").wait_for()
    assert re.search(r"answered in [\d.]+ ms", section.locator(".about").inner_text())
    section.locator(".curl summary").click()
    command = section.locator(".curl pre").inner_text()
    url = f"http://127.0.0.1:{server.port}/v1/models/sentiment:predict"
    assert command == f"""curl -d '{{"instances":[{{"texts":"bad service here"}}]}}' {url}"""
    type_and_ask(section, Text="it's")
    section.locator(".curl pre", has_text="it'\\''s").wait_for()


@pytest.mark.slow
def test_text_is_never_markup(page: Any) -> None:
    section = shown(page, "tagging")
    type_and_ask(section, Text=EVIL)
    wait_for(section, "onerror=alert(1)>")
    assert section.locator(".answer img").count() == 0
    section = shown(page, "language_modeling")
    type_and_ask(section, Text=EVIL)
    wait_for(section, "<b>word</b>")
    assert section.locator(".written b").count() == 1  # the page's own


@pytest.mark.slow
def test_tags(page: Any) -> None:
    section = shown(page, "tagging")
    type_and_ask(section, Text="fish é swim!")
    wait_for(section, "swim!")
    assert section.locator(".tagged ruby").count() == 3
    assert section.locator(".tagged ruby rt").all_inner_texts() == ["NOUN", "VERB", "NOUN"]
    assert section.locator(".meanings li").all_inner_texts() == ["NOUN noun", "VERB verb"]
    colours = section.locator(".tagged ruby").evaluate_all("words => words.map(word => getComputedStyle(word).backgroundColor)")
    assert colours[0] == colours[2] != colours[1]


@pytest.mark.slow
def test_names_of_several_words_are_one(page: Any) -> None:
    found = page.evaluate("""() => spans({
        lengths: 5, tags: ["B-PER", "I-PER", "O", "I-LOC", "B-LOC", ""], starts: [0, 5, 9, 11, 15, 0], ends: [4, 8, 10, 14, 19, 0],
        scores: [0.9, 0.8, 1, 0.7, 0.6, 0],
    })""")
    assert [(span["tag"], span["start"], span["end"], span["score"]) for span in found] == [
        ("PER", 0, 8, 0.8), ("LOC", 11, 14, 0.7), ("LOC", 15, 19, 0.6),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_continuation(page: Any) -> None:
    section = shown(page, "language_modeling")
    section.get_by_label("Examples").select_option(index=1)
    wait_for(section, "once upon <b>word</b>")
    candidates = section.locator(".candidates button")
    candidates.first.wait_for()
    assert candidates.all_inner_texts()[:2] == ["the 50.0 %", "a 25.0 %"]
    candidates.nth(1).click()
    section.locator(".written", has_text=re.compile("</b>a$")).wait_for()
    assert section.locator("textarea").input_value().endswith("</b>a")


@pytest.mark.slow
def test_a_translation(page: Any) -> None:
    section = shown(page, "translation")
    type_and_ask(section, Text="the old house")
    wait_for(section, "THE OLD HOUSE-2")
    grid = section.locator(".grid")
    grid.locator("tbody tr").nth(2).wait_for()
    assert grid.locator("thead th.word").all_inner_texts() == ["the", "old", "house", "⏎"]
    assert grid.locator("tbody th").all_inner_texts() == ["THE", "OLD", "HOUSE-0", "⏎"]
    grid.locator("tbody th button").nth(1).focus()
    assert grid.locator("tbody tr.lit th").all_inner_texts() == ["OLD"]
    assert grid.locator("thead th.lit").all_inner_texts() == ["old"]
    grid.locator("thead th button").first.hover()
    assert grid.locator("tbody th.lit").all_inner_texts() == ["THE"] and grid.locator("td.lit").count() == 4
    section.locator(".bars button").nth(1).click()
    grid.locator("tbody th", has_text="HOUSE-1").wait_for()


@pytest.mark.slow
def test_what_is_stopped_says_nothing_wrong(page: Any) -> None:
    def hold(model: str, signature: str) -> None:  # answers of this signature never come
        page.route(
            f"**/{model}:predict", lambda route: None if signature in (route.request.post_data or "") else route.continue_()
        )

    hold("language_modeling", "texts")
    section, button = shown(page, "language_modeling"), "button.main"
    type_and_ask(section, Text="once upon")
    section.locator(".written b", has_text=re.compile(r"\w")).wait_for()
    section.locator(button, has_text="Stop").click()
    section.locator(button, has_text="Go on").wait_for()
    assert not section.get_by_text("What may come next").is_visible() and section.locator(".problem, .about span").count() == 0
    hold("translation", "align")
    section = shown(page, "translation")
    type_and_ask(section, Text="the old house")
    wait_for(section, "THE OLD HOUSE-2")
    section.locator(button, has_text="Answer").wait_for()  # nothing to stop: what is drawn below is not waited for
    section.locator(".about span", has_text="answered in").wait_for()
    section.locator(button).click()
    section.locator(".about span", has_text="answered in").wait_for()
    assert section.locator(".problem").count() == 0


@pytest.mark.slow
def test_a_passage(page: Any) -> None:
    section = shown(page, "question_answering")
    section.get_by_label("Examples").select_option(index=1)
    wait_for(section, "Lena lives here. Hugo does not.")
    assert section.locator("mark").all_inner_texts() == ["Lena"]
    type_and_ask(section, Question="who?", Passage="👍🏽 é lives")
    wait_for(section, "👍🏽 é lives")
    assert section.locator("mark").all_inner_texts() == ["👍🏽"]


@pytest.mark.slow
def test_a_story(page: Any) -> None:
    section = shown(page, "question_answering_stories")
    section.get_by_label("Examples").select_option(index=1)
    wait_for(section, "Mary went home.")
    assert section.locator(".big").inner_text() == "home 50.0 %"
    assert section.locator("tbody tr").count() == 2


@pytest.mark.slow
def test_neighbours_of_a_word(page: Any) -> None:
    section = shown(page, "word_vectors")
    section.get_by_label("Examples").select_option(label="fish")
    wait_for(section, "fish9")
    section.get_by_label("Words", exact=True).fill("2")
    section.locator(".bars button").nth(1).click()
    wait_for(section, "fish11")
    assert section.locator(".bars").inner_text().split() == ["fish10", "0.500", "fish11", "0.333"]
    section.locator("textarea").fill("a b unheard")
    section.get_by_role("button", name="Answer").click()
    wait_for(section, "a : b = unheard : a-b-unheard0")
    wait_for(section, "Not every word is in the vocabulary.")


@pytest.mark.slow
def test_a_model_of_other_making(page: Any) -> None:
    section = shown(page, "other")
    section.get_by_label("scale").fill("oops")
    section.get_by_label("x (float)").fill("[1, 2]")
    section.get_by_role("button", name="Answer").click()
    wait_for(section, "not JSON")
    section.get_by_label("scale").fill("2")
    section.get_by_role("button", name="Answer").click()
    wait_for(section, "Expecting")  # a number that all rows share is no row


@pytest.mark.slow
def test_an_error_is_shown(page: Any) -> None:
    page.route(
        "**/v1/models/sentiment:predict", lambda route: route.fulfill(status=503, json={"error": f"Too many requests {EVIL}"})
    )
    section = shown(page, "sentiment")
    section.get_by_label("Text").fill("a")
    section.get_by_role("button", name="Answer").click()
    wait_for(section, f"Too many requests {EVIL}")


@pytest.mark.slow
def test_by_keyboard_alone(page: Any) -> None:
    page.locator("nav a").first.focus()
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.tagName") == "TEXTAREA":
            break
    page.keyboard.type("once")
    page.keyboard.press("Control+Enter")
    section = page.locator("section.shown")
    wait_for(section, "once <b>word</b>")
    section.locator(".candidates button").first.wait_for()


@pytest.mark.slow
def test_behind_a_prefix(browser: Any, server: Running) -> None:
    """As behind a reverse proxy that takes the prefix away."""
    opened = browser.new_page()
    base = "http://localhost:1/models/"

    def proxied(route: Any) -> None:
        path = route.request.url.removeprefix(base.removesuffix("/"))
        assert path != route.request.url
        body = route.request.post_data_buffer
        answer = server.ask(path, body)
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in ("content-length", "connection")}
        route.fulfill(status=answer.status, body=answer.body, headers=headers)

    opened.route("http://localhost:1/**", proxied)
    opened.goto(f"{base}#sentiment")
    section = opened.locator("section.shown")
    type_and_ask(section, Text="a")
    section.locator(".about", has_text="version 1").wait_for()
    section.locator(".curl summary").click()
    assert section.locator(".curl pre").inner_text().endswith(f"{base}v1/models/sentiment:predict")
    opened.close()
