"""What is installed holds the recipes and works: from a wheel, from the wheel of an sdist, and from an editable install."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.relative_to(ROOT / "tasks").as_posix() for path in (ROOT / "tasks").glob("*/*.toml"))


def build(kind: str, source: Path, place: Path) -> Path:
    """Builds "wheel", "sdist" or "editable" (a wheel that points to the source) as pip does, with the hatchling that is here."""
    script = "import build, sys; print(build.ProjectBuilder(sys.argv[1]).build(*sys.argv[2:]))"
    command = [sys.executable, "-c", script, str(source), kind, str(place)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{kind} of {source}:\n{done.stderr}"
    return Path(done.stdout.splitlines()[-1])


def unpack(archive: Path, place: Path) -> Path:
    """What an installer would put on the path."""
    with zipfile.ZipFile(archive) as content:
        content.extractall(place)
    return place


def packaged_recipes(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
    return sorted(name.removeprefix("nlp_tasks/recipes/") for name in names if re.fullmatch(r"nlp_tasks/recipes/.+\.toml", name))


def nlp_tasks(installed: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`python -m nlp_tasks …` in a process that knows `installed` and this environment's libraries, and nothing else.

    `-S` leaves out the `.pth` files of this environment, by which an editable install would put this repository on the path;
    those of `installed` are read.
    """
    script = (
        "import runpy, site, sys; known = sys.path[:]; sys.path.clear(); "
        f"site.addsitedir({str(installed)!r}); sys.path += known; runpy.run_module('nlp_tasks', run_name='__main__')"
    )
    libraries = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(libraries)}
    command = [sys.executable, "-S", "-P", "-c", script, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def listed(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return sorted(f"{name}.toml" for name in re.findall(r"^\w+/\w+", done.stdout, re.MULTILINE))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist."""
    place = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", ROOT, place)) as content:
        content.extractall(place, filter="data")
    (unpacked,) = (path for path in place.iterdir() if path.is_dir())
    return unpacked


def test_the_recipes_are_there() -> None:
    assert "sentiment/sample.toml" in RECIPES


def test_the_wheel_holds_every_recipe_and_every_module(wheel: Path) -> None:
    assert packaged_recipes(wheel) == RECIPES
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nlp_tasks").rglob("*.py")}
    with zipfile.ZipFile(wheel) as content:
        assert modules == {name for name in content.namelist() if name.endswith(".py")}


def test_the_wheel_names_its_command_and_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        (entry_points,) = (content.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert "nlp-tasks = nlp_tasks.cli:main" in entry_points
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_of_the_sdist_is_that_of_the_repository(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    other = build("wheel", sdist, tmp_path)
    with zipfile.ZipFile(other) as ours, zipfile.ZipFile(wheel) as theirs:
        assert sorted(ours.namelist()) == sorted(theirs.namelist())
    assert packaged_recipes(other) == RECIPES


def test_the_sdist_holds_what_a_developer_needs(sdist: Path) -> None:
    for name in ("Makefile", "README.md", "LICENSE", "tests/end_to_end/test_packaging.py", "tasks/sentiment/sample.toml"):
        assert (sdist / name).is_file(), name
    for name in ("runs", ".venv", ".git"):
        assert not (sdist / name).exists(), name


def test_an_unpacked_wheel_lists_its_own_recipes(wheel: Path, tmp_path: Path) -> None:
    installed, folder = unpack(wheel, tmp_path / "installed"), tmp_path / "empty"
    folder.mkdir()
    assert listed(nlp_tasks(installed, "list", folder=folder)) == RECIPES
    (installed / "nlp_tasks" / "recipes" / "sentiment" / "sample.toml").unlink()
    assert listed(nlp_tasks(installed, "list", folder=folder)) == [name for name in RECIPES if name != "sentiment/sample.toml"]


def test_an_editable_install_finds_the_recipes_of_its_source(sdist: Path, tmp_path: Path) -> None:
    installed, folder = unpack(build("editable", sdist, tmp_path), tmp_path / "installed"), tmp_path / "empty"
    folder.mkdir()
    assert not (installed / "nlp_tasks").exists()
    assert listed(nlp_tasks(installed, "list", folder=folder)) == RECIPES
    own = sdist / "tasks" / "sentiment" / "own.toml"
    own.write_text((sdist / "tasks" / "sentiment" / "sample.toml").read_text())
    try:
        assert "sentiment/own.toml" in listed(nlp_tasks(installed, "list", folder=folder))
    finally:
        own.unlink()


def test_an_unpacked_wheel_trains_and_exports_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    installed, folder = unpack(wheel, tmp_path / "installed"), tmp_path / "empty folder"
    folder.mkdir()
    done = nlp_tasks(installed, "run", "sentiment/sample", "--set", "training.epochs=1", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "sentiment-sample" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["runs", "saved_models"]
    assert (folder / "runs" / "sentiment-sample" / "scores.json").is_file()
    assert (folder / "saved_models" / "sentiment-sample" / "1" / "saved_model.pb").is_file()
