"""A watched folder: what is loaded when, what is refused, what stays; with a loader that reads one file."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import threading
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nlp_tasks.errors import UserError
from nlp_tasks.serving import models as module
from nlp_tasks.serving.models import Models, check_folder
from nlp_tasks.serving.refused import Refused


class Loaded:
    def __init__(self, name: str, number: int, text: str) -> None:
        self.name, self.number, self.text = name, number, text

    def close(self) -> None: ...


def load(folder: Path, name: str, number: int) -> Loaded:
    text = (folder / "saved_model.pb").read_text()
    if text == "broken":
        raise ValueError("it does not load")
    return Loaded(name, number, text)


def counting() -> tuple[list[int], Callable[[Path, str, int], Loaded]]:
    """A loader, and the numbers of the versions that it has loaded."""
    loads: list[int] = []

    def counted(folder: Path, name: str, number: int) -> Loaded:
        loads.append(number)
        return load(folder, name, number)

    return loads, counted


def write(folder: Path, text: str = "good", *, shards: int = 1) -> Path:
    (folder / "variables").mkdir(parents=True, exist_ok=True)
    (folder / "variables" / "variables.index").write_text("index")
    for shard in range(shards):
        (folder / "variables" / f"variables.data-{shard:05}-of-{shards:05}").write_text("data")
    (folder / "saved_model.pb").write_text(text)
    return folder


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def served(models: Models) -> dict[str, list[int]]:
    return {name: models.served(name) for name in models.names()}


def states(models: Models, name: str = "m") -> dict[int, str]:
    return {number: state.state for number, state in models.states(name).items()}


def test_the_newest_versions_of_all_models(tmp_path: Path) -> None:
    for path in ("a/1", "a/2", "a/10", "b/3"):
        write(tmp_path / path)
    write(tmp_path / ".hidden" / "1")
    write(tmp_path / "a" / ".11.partial")
    write(tmp_path / "a" / "012")
    write(tmp_path / "a" / "latest")
    (tmp_path / "README.md").touch()
    (tmp_path / "empty").mkdir()

    async def test() -> None:
        models = Models(tmp_path, load)
        await models.look(first=True)
        assert served(models) == {"a": [10], "b": [3]}
        assert models.find("a").number == 10 and models.find("b", 3).name == "b"
        several = Models(tmp_path, load, keep=2)
        await several.look(first=True)
        assert served(several) == {"a": [2, 10], "b": [3]}
        assert several.find("a").number == 10 and several.find("a", 2).number == 2

    run(test)


def test_what_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "m" / "2")

    async def test() -> None:
        models = Models(tmp_path, load)
        await models.look(first=True)
        for name, number, message in [
            ("x", None, "Servable not found for request: Latest(x)"), ("m", 1, "Servable not found for request: Specific(m, 1)"),
            ("..", None, "Servable not found for request: Latest(..)"), ("m/2", 2, "Servable not found for request: Specific(m/2, 2)"),
        ]:  # fmt: skip
            with pytest.raises(Refused) as caught:
                models.find(name, number)
            assert (caught.value.status, caught.value.message) == (404, message)
        with pytest.raises(Refused, match="Unrecognized servable version label: stable") as caught:
            models.find("m", None, "stable")
        assert caught.value.status == 400

    run(test)


def test_a_new_version_takes_over_when_two_looks_agree(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write(tmp_path / "m" / "1", "one")
    told: list[tuple[str, int, bool]] = []

    async def test() -> None:
        models = Models(tmp_path, load, told=lambda *event: told.append(event))
        await models.look(first=True)
        write(tmp_path / "m" / "2", "two")
        await models.look()
        assert models.find("m").number == 1 and states(models) == {1: "AVAILABLE", 2: "START"}
        await models.look()
        assert models.find("m").number == 2 and served(models) == {"m": [2]}
        assert states(models) == {1: "END", 2: "AVAILABLE"}
        with pytest.raises(Refused, match=r"Specific\(m, 1\)"):
            models.find("m", 1)

    run(test)
    assert told == [("m", 1, True), ("m", 2, True)]
    assert "m version 2 is served" in caplog.text and "m version 1 is served no more" in caplog.text


def test_a_new_model_appears_and_is_gone(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1")

    async def test() -> None:
        models = Models(tmp_path, load)
        await models.look(first=True)
        write(tmp_path / "n" / "1")
        await models.look()
        await models.look()
        assert served(models) == {"m": [1], "n": [1]}
        shutil.rmtree(tmp_path / "n")
        await models.look()
        assert served(models) == {"m": [1], "n": [1]}  # the last version of a model is kept

    run(test)


def test_a_broken_version_is_refused_and_the_old_one_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "m" / "1")
    told: list[tuple[str, int, bool]] = []
    loads, counted = counting()

    async def test() -> None:
        models = Models(tmp_path, counted, told=lambda *event: told.append(event))
        await models.look(first=True)
        write(tmp_path / "m" / "2", "broken")
        for _ in range(5):
            await models.look()
        assert models.find("m").number == 1 and states(models) == {1: "AVAILABLE", 2: "END"}
        assert models.states("m")[2].message == "it does not load"
        assert loads == [1, 2]  # not again and again
        write(tmp_path / "m" / "3", "broken")
        for _ in range(3):
            await models.look()
        assert models.find("m").number == 1 and loads == [1, 2, 3]
        write(tmp_path / "m" / "2", "mended now")
        for _ in range(3):
            await models.look()
        assert models.find("m").number == 2 and loads == [1, 2, 3, 2]

    run(test)
    assert told == [("m", 1, True), ("m", 2, False), ("m", 3, False), ("m", 2, True)]
    assert "m version 2 is refused, version 1 stays: it does not load" in caplog.text


def test_files_that_change_under_a_version_are_loaded_when_they_are_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "m" / "1", "one")
    told: list[tuple[str, int, bool]] = []
    loads, counted = counting()

    async def test() -> None:
        models = Models(tmp_path, counted, told=lambda *event: told.append(event))
        await models.look(first=True)
        for content, answers in (("broken", "one"), ("other text", "other text")):
            write(tmp_path / "m" / "1", content)
            await models.look()
            assert models.find("m").text == "one"  # type: ignore[attr-defined]
            for _ in range(3):
                await models.look()
            assert models.find("m").text == answers and states(models) == {1: "AVAILABLE"}  # type: ignore[attr-defined]
        (tmp_path / "m" / "1" / "saved_model.pb").unlink()
        for _ in range(3):
            await models.look()
        assert models.find("m").text == "other text" and loads == [1, 1, 1]  # type: ignore[attr-defined]

    run(test)
    assert told == [("m", 1, True), ("m", 1, False)]
    assert "m version 1 has other files, which are refused, what was loaded stays: it does not load" in caplog.text


def test_the_newest_of_several_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, bool]] = []

    async def test() -> None:
        models = Models(tmp_path, load, keep=2, told=lambda *event: told.append(event))
        for number in (1, 2):
            write(tmp_path / "m" / str(number))
        await models.look(first=True)
        shutil.rmtree(tmp_path / "m" / "2")
        await models.look()

    run(test)
    assert told == [("m", 2, True), ("m", 1, True)]


def test_a_folder_that_is_being_copied_is_waited_for(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1")
    copied = tmp_path / "m" / "2"

    async def test() -> None:
        models = Models(tmp_path, load)
        await models.look(first=True)

        async def look(missing: str) -> None:
            for _ in range(3):
                await models.look()
            assert models.find("m").number == 1 and states(models)[2] == "START"
            assert models.states("m")[2].message == f"waiting for a whole folder: {missing}"

        (copied / "variables").mkdir(parents=True)
        await look("no saved_model.pb")
        (copied / "saved_model.pb").write_text("good")
        (copied / "variables" / "variables.data-00000-of-00002").write_text("data")
        await look("no variables/variables.index")
        (copied / "variables" / "variables.index").write_text("index")
        await look("1 of 2 files of variables")
        (copied / "variables" / "variables.data-00001-of-00002").write_text("d")
        await models.look()
        (copied / "variables" / "variables.data-00001-of-00002").write_text("data")
        await models.look()
        assert models.states("m")[2].message == "waiting for a whole folder: its files change"
        await models.look()
        assert models.find("m").number == 2

    run(test)


def test_a_version_that_is_taken_away_gives_way_to_the_one_before(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1")

    async def test() -> None:
        models = Models(tmp_path, load)
        await models.look(first=True)
        write(tmp_path / "m" / "2")
        await models.look()
        await models.look()
        assert served(models) == {"m": [2]}
        shutil.rmtree(tmp_path / "m" / "2")
        await models.look()
        await models.look()
        assert served(models) == {"m": [1]}

    run(test)


def test_whoever_holds_an_old_version_goes_on_with_it(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1", "one")

    async def test() -> None:
        models = Models(tmp_path, load)
        await models.look(first=True)
        held: Any = models.find("m")
        kept = weakref.ref(held)
        write(tmp_path / "m" / "2", "two")
        await models.look()
        await models.look()
        assert states(models) == {1: "UNLOADING", 2: "AVAILABLE"} and held.text == "one"
        del held
        gc.collect()
        assert kept() is None and states(models) == {1: "END", 2: "AVAILABLE"}

    run(test)


def test_loading_does_not_hold_up_what_is_served(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1")
    goes_on = threading.Event()

    def slow(folder: Path, name: str, number: int) -> Loaded:
        if number == 2:
            assert goes_on.wait(10)
        return load(folder, name, number)

    async def test() -> None:
        models = Models(tmp_path, slow)
        await models.look(first=True)
        write(tmp_path / "m" / "2")
        await models.look()
        looking = asyncio.create_task(models.look())
        while states(models)[2] != "LOADING":
            await asyncio.sleep(0.005)
        assert models.find("m").number == 1
        goes_on.set()
        await looking
        assert models.find("m").number == 2

    run(test)


def test_it_watches_on_whatever_a_look_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "m" / "1")
    scan, fails = module._scan, [True]

    def failing(folder: Path) -> Any:
        if fails:
            fails.pop()
            raise OSError("stale file handle")
        return scan(folder)

    async def test() -> None:
        models = Models(tmp_path, load)
        await models.look(first=True)
        monkeypatch.setattr(module, "_scan", failing)
        watching = asyncio.create_task(models.watch(0.01))
        write(tmp_path / "m" / "2")
        while models.served("m") != [2]:
            await asyncio.sleep(0.01)
        watching.cancel()

    run(test)
    assert "stale file handle" in caplog.text


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1")
    (tmp_path / "secret").mkdir(mode=0)

    async def test() -> None:
        models = Models(tmp_path, load)
        await models.look(first=True)
        assert served(models) == {"m": [1]}

    run(test)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nowhere", "error: no folder nowhere\nhint: give the folder that exports go to, such as saved_models/"),
        ("file", "error: file is a file\nhint: give the folder that exports go to, such as saved_models/"),
        ("all/m/1", "error: all/m/1 is one version of a model\nhint: give the folder of all models: all"),
        ("all/m", "error: all/m is one model\nhint: give the folder of all models: all"),
        (
            "empty",
            "error: empty holds no model: no NAME/1/saved_model.pb\nhint: first export one, as by `nlp-tasks run sentiment/sample`",
        ),
    ],
)
def test_folders_that_cannot_be_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("all") / "m" / "1")
    Path("file").touch()
    Path("empty").mkdir()
    check_folder(Path("all"))
    with pytest.raises(UserError) as caught:
        check_folder(Path(folder))
    assert str(caught.value) == message
