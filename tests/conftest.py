"""One small run by the real command line, made once and shared: a mixed model with dropout, averaging and early stopping."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

RECIPE = """
[task]
name = "sentiment"

[data]
source = "files"
directory = "{folder}"
train = "train.tsv"
validation = "validation.tsv"
test = "test.tsv"

[model]
parts = ["bag_of_ngrams", "recurrent"]

[model.recurrent]
embedding = 8
units = 8
window = 8
pooling = "max_mean"

[training]
epochs = 8
batch_tokens = 512
batch_rows = 16
buckets = 1
learning_rate = 0.03
evaluations = 2
patience = 2
average_last = 3
checkpoint_seconds = 0
"""


class Place(NamedTuple):
    """Where a command runs, and what it leaves there."""

    folder: Path
    recipe: Path

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "small"

    @property
    def export(self) -> Path:
        return self.folder / "saved_models" / "small"

    def arguments(self, verb: str = "run") -> list[str]:
        return [verb, str(self.recipe), "--strategy", "cpu"]

    def command(self, verb: str = "run") -> list[str]:
        return [sys.executable, "-m", "nlp_tasks", *self.arguments(verb)]

    def do(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=400)


def rows(count: int, seed: int) -> str:
    """Texts with one telling word among others; a fifth of the labels are wrong, so that a model soon learns by heart."""
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        label = draw.choice(["bad", "good"])
        words = [f"word{draw.randint(1, 40)}" for _ in range(draw.randint(0, 16))]
        words.insert(draw.randint(0, len(words)), label)
        lines.append(" ".join(words) + "\t" + (draw.choice(["bad", "good"]) if draw.random() < 0.4 else label))
    return "".join(f"{line}\n" for line in lines)


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe named `small`, with its data."""
    folder = tmp_path_factory.mktemp("small data")
    for seed, (split, count) in enumerate({"train": 160, "validation": 60, "test": 120}.items()):
        (folder / f"{split}.tsv").write_text(rows(count, seed))
    (folder / "small.toml").write_text(RECIPE.format(folder=folder))
    return folder / "small.toml"


@pytest.fixture(scope="session")
def finished(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The small recipe run from start to end in a process of its own. Treat what it left as read-only."""
    place = Place(tmp_path_factory.mktemp("finished"), small_recipe)
    done = place.do(place.command())
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def place(small_recipe: Path, tmp_path: Path) -> Place:
    """An empty folder to run the small recipe in."""
    return Place(tmp_path, small_recipe)
