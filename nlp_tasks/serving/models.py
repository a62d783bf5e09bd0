"""Which versions of which models are served: a folder is watched, what is new is loaded and checked beside what is old, and takes over.

A version is a folder `NAME/NUMBER`, as TensorFlow Serving mounts them. It is looked at twice before it is loaded: one that still changes,
or lacks a file, is being copied. One that does not load, or fails its check, is refused until its files change; what was served stays. The
same holds for files that change under a version that is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nlp_tasks.errors import UserError
from nlp_tasks.serving.refused import Refused, invalid

_log = logging.getLogger(__name__)

START, LOADING, AVAILABLE, UNLOADING, END = "START", "LOADING", "AVAILABLE", "UNLOADING", "END"
"""States as TensorFlow Serving calls them."""

_SHARD = re.compile(r"variables\.data-(\d+)-of-(\d+)")

Print = tuple[tuple[str, int, int], ...]
"""Of a version's files: path, size, time of the last change."""


class Served(Protocol):
    """A loaded version."""

    name: str
    number: int

    def close(self) -> None:
        """Ends what it is computing."""


@dataclass
class State:
    """What is known of a version, served or not."""

    state: str
    message: str = ""
    """Why it is not served."""
    seen: Print = ()
    """Its files at the last look; of one that was refused, those that were refused."""
    version: Served | None = None
    changed: Print = ()
    """Other files that were found in the place of one that is served, at the last look; they are loaded when they stay as they are."""
    refused: bool = False
    """Whether those were."""


class Models:
    """Those of a folder.

    Args:
        folder: holds a folder a model.
        load: from a version's folder, the model's name and the number to what answers; called in a thread. Raises an exception whose text
            says why it is refused.
        keep: so many newest versions of a model are served.
        told: called with a model's name and the number of a version: its newest that is served, when that changes, and True; or one that
            was refused, and False.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[Path, str, int], Any],
        *,
        keep: int = 1,
        told: Callable[[str, int, bool], None] = lambda *_: None,
    ) -> None:
        self.folder, self._load, self._keep, self._told = folder, load, keep, told
        self._states: dict[str, dict[int, State]] = {}
        self._loader = ThreadPoolExecutor(1, "loading")

    # What is there

    def names(self) -> list[str]:
        return sorted(self._states)

    def states(self, name: str) -> dict[int, State]:
        """Of each version of a model; empty where there is none."""
        return dict(sorted(self._states.get(name, {}).items()))

    def served(self, name: str) -> list[int]:
        """Numbers of the versions that answer, ascending."""
        return [number for number, state in self.states(name).items() if state.state == AVAILABLE]

    def find(self, name: str, number: int | None = None, label: str | None = None) -> Served:
        """A version that answers: the newest, where no other is asked for. Whoever holds it may go on with it when it is served no more.

        Raises:
            Refused: there is none.
        """
        if label is not None:
            raise invalid(f"Unrecognized servable version label: {label}")
        numbers = self.served(name)
        which = number if number is not None else numbers[-1] if numbers else None
        if which not in numbers:
            asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
            raise Refused(404, f"Servable not found for request: {asked}")
        version = self._states[name][which].version
        assert version
        return version

    # Watching

    async def watch(self, seconds: float) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.look()
            except OSError as error:
                _log.error("cannot look into %s: %s", self.folder, error)

    async def look(self, *, first: bool = False) -> None:
        """Looks at the folder once, loads what is new and whole, and drops what is old.

        Args:
            first: nothing was seen before: what is whole is loaded without a second look.
        """
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._loader, _scan, self.folder)
        for name in sorted({*found, *self._states}):
            there = found.get(name, {})
            states, newest = self._states.setdefault(name, {}), self.served(name)[-1:]
            for number in sorted(there, reverse=True):
                if self._is_wanted(name, number, there):
                    await self._consider(name, number, there[number], first=first)
            self._drop(name, there)
            if (served := self.served(name)[-1:]) != newest and served:
                self._told(name, served[0], True)
            for number in [n for n, state in states.items() if n not in there and not state.version and state.state != UNLOADING]:
                del states[number]
            if not states:
                del self._states[name]

    def close(self) -> None:
        """Ends what all versions are computing."""
        for states in self._states.values():
            for state in states.values():
                if state.version:
                    state.version.close()
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _is_wanted(self, name: str, number: int, there: dict[int, Print]) -> bool:
        """Whether fewer than `keep` newer versions are served, and it is not what is served already."""
        newer = [served for served in self.served(name) if served > number and served in there]
        return len(newer) < self._keep and (number not in self.served(name) or self._states[name][number].seen != there[number])

    async def _consider(self, name: str, number: int, files: Print, *, first: bool) -> None:
        states = self._states[name]
        before = states.get(number)
        if before and before.state == AVAILABLE:
            await self._consider_again(name, number, files, before)
            return
        if before and before.state == END and before.message and before.seen == files:
            return  # it was refused, and nothing has changed
        missing = _missing(files)
        is_stable = first or (before is not None and before.seen == files)
        if missing or not is_stable:
            states[number] = State(START, f"waiting for a whole folder: {missing or 'its files change'}", files)
            return
        states[number] = State(LOADING, "", files)
        try:
            version = await self._loaded(name, number)
        except Exception as error:
            states[number] = State(END, str(error), files)
            served = self.served(name)
            stays = f"version {served[-1]} stays" if served else "the model is not served"
            _log.error("%s version %d is refused, %s: %s", name, number, stays, error)
            self._told(name, number, False)
            return
        states[number] = State(AVAILABLE, "", files, version)
        _log.info("%s version %d is served", name, number)

    async def _consider_again(self, name: str, number: int, files: Print, served: State) -> None:
        """Files that changed under a version that is served: what is there now takes over once it is whole and passes its check."""
        if served.changed != files or _missing(files):
            served.changed, served.refused = files, False
            return
        if served.refused:
            return
        try:
            version = await self._loaded(name, number)
        except Exception as error:
            served.refused = True
            _log.error("%s version %d has other files, which are refused, what was loaded stays: %s", name, number, error)
            self._told(name, number, False)
            return
        weakref.finalize(served.version, self._gone, name, number)
        self._states[name][number] = State(AVAILABLE, "", files, version)
        _log.info("%s version %d is served anew", name, number)

    async def _loaded(self, name: str, number: int) -> Any:
        _log.info("loading %s version %d", name, number)
        place = self.folder / name / str(number)
        return await asyncio.get_running_loop().run_in_executor(self._loader, self._load, place, name, number)

    def _drop(self, name: str, there: dict[int, Print]) -> None:
        """Serves no more what newer versions, or those that are still there, stand in for. The last version of a model is kept, even where
        its folder is gone; whoever still holds one goes on with it."""
        served = self.served(name)
        wanted = [number for number in served if number in there][-self._keep :] or served[-1:]
        for number in set(served) - set(wanted):
            state = self._states[name][number]
            version, state.version = state.version, None
            state.state = UNLOADING
            weakref.finalize(version, self._gone, name, number)
            _log.info("%s version %d is served no more", name, number)

    def _gone(self, name: str, number: int) -> None:
        """Nobody holds the version any more: what it leaves is collected, in the loader's thread."""
        state = self._states.get(name, {}).get(number)
        if state and state.state == UNLOADING:
            state.state = END
        with contextlib.suppress(RuntimeError):  # the server has stopped
            self._loader.submit(gc.collect)


def check_folder(folder: Path) -> None:
    """Raises UserError where nothing in a folder can be served: told at once, before TensorFlow is imported."""
    if not folder.is_dir():
        what = f"{folder} is a file" if folder.exists() else f"no folder {folder}"
        raise UserError(what, "give the folder that exports go to, such as saved_models/")
    if any(_scan(folder).values()):
        return
    if (folder / "saved_model.pb").is_file():
        raise UserError(f"{folder} is one version of a model", f"give the folder of all models: {folder.parent.parent}")
    if list(_versions(folder)):
        raise UserError(f"{folder} is one model", f"give the folder of all models: {folder.parent}")
    raise UserError(
        f"{folder} holds no model: no NAME/1/saved_model.pb", "first export one, as by `nlp-tasks run sentiment/sample`"
    )


def _versions(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.isascii() and path.name.isdigit() and str(int(path.name)) == path.name and path.is_dir():
            yield path


def _scan(folder: Path) -> dict[str, dict[int, Print]]:
    """Of each model and version, its files."""
    found = {}
    for model in folder.iterdir():
        if model.name.startswith(".") or not model.is_dir():
            continue
        try:
            found[model.name] = {int(path.name): _print(path) for path in _versions(model)}
        except PermissionError as error:
            _log.error("cannot look into %s: %s", model, error)
    return {name: versions for name, versions in found.items() if versions}


def _print(folder: Path) -> Print:
    files = []
    for path in sorted(folder.rglob("*")):
        try:
            status = path.stat()
        except OSError:  # it is being moved, or may not be read
            continue
        if path.is_file():
            files.append((path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns))
    return tuple(files)


def _missing(files: Print) -> str:
    """The first file that a whole SavedModel has, and this folder has not."""
    names = {name for name, *_ in files}
    if "saved_model.pb" not in names:
        return "no saved_model.pb"
    shards = [
        found for name in names if name.startswith("variables/") and (found := _SHARD.fullmatch(name.removeprefix("variables/")))
    ]
    if shards or "variables/variables.index" in names:
        if "variables/variables.index" not in names:
            return "no variables/variables.index"
        total = int(shards[0][2]) if shards else 1
        if len(shards) < total:
            return f"{len(shards)} of {total} files of variables"
    return ""
