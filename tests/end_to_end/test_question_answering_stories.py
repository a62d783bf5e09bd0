"""Stories from files in the form of bAbI to an export that answers, by real processes and by the command line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nlp_tasks import inference

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Call, Finish, Kill, TwoDevices

pytestmark = pytest.mark.slow  # what is not of stories alone is tested with passages

RECIPE = """
[task]
name = "question_answering_stories"

[data]
directory = "{folder}"
train = "train"
test = "test"
tasks = [1, 2]
validation_share = 0.2

[model]
embedding = 12
units = 14
episodes = 2
dropout = 0.1

[training]
epochs = 3
batch_rows = 16
learning_rate = 0.01
evaluations = 2
patience = 0
checkpoint_seconds = 0

[export]
compare = 12
"""


def made_up(seed: int, stories: int) -> str:
    """Who is where: the last of the places that a person went to."""
    draw, text = random.Random(seed), []
    for _ in range(stories):
        places: dict[str, tuple[str, int]] = {}
        for line in range(1, 9):
            if line % 3 or not places:
                name = draw.choice(["Mary", "John", "Sandra"])
                places[name] = draw.choice(["office", "garden", "kitchen"]), line
                text.append(f"{line} {name} went to the {places[name][0]}.")
            else:
                name = draw.choice(sorted(places))
                text.append(f"{line} Where is {name}? \t{places[name][0]}\t{places[name][1]}")
    return "\n".join(text) + "\n"


def prepare(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(("qa1_one_train", "qa2_two_train", "qa1_one_test", "qa2_two_test")):
        (folder / f"{name}.txt").write_text(made_up(number, 60 if "train" in name else 12))
    (folder / "small.toml").write_text(RECIPE.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, finish: Finish) -> Path:
    """A small memory network, trained, scored and exported by one real process. Treat what it left as read-only."""
    return finish(prepare(tmp_path_factory.mktemp("stories")))


def test_what_a_run_leaves(made: Path) -> None:
    run = made / "runs" / "small"
    content = json.loads((run / "scores.json").read_text())
    assert content["headline"] == "accuracy" and content["scores"].keys() == {"accuracy", "supporting_recall"}
    assert content["figures"]["by_task"]["names"] == ["qa1", "qa2"] and content["counts"]["examples"] == 48
    assert content["baseline"]["name"] == "logistic regression on words" and "accuracy" in content["baseline"]["difference"]
    assert content["scores"]["accuracy"] > 0.3
    page = (run / "report.html").read_text()
    assert "accuracy by task" in page and "facts of the story" in page
    assert "validation_gate_loss" in (run / "history.csv").read_text()


def test_it_answers_and_shows_what_it_looked_at(
    made: Path, call: Call, tmp_path: Path, loaded: Callable[[Any], inference.Loaded]
) -> None:
    model = str(made / "saved_models" / "small")
    line = json.dumps({"story": "Mary went to the office. John went to the garden.", "question": "Where is Mary?"})
    plain = call("ask", model, given=f"{line}\n\n".encode())
    assert (
        (plain.code, plain.err) == (0, "")
        and plain.out.split("\n")[0] in ("office", "garden", "kitchen")
        and plain.out.count("\n") == 2
    )
    path = tmp_path / "episodes.svg"
    drawn = call("align", model, "--output", str(path), given=line.encode())
    assert drawn.out == f"{path}\n" and path.read_text().lstrip().startswith("<?xml")
    table = call("align", model, "--format", "tsv", given=line.encode()).out.splitlines()
    assert [row.split("\t")[0] for row in table[:2]] == ["1", "2"]
    run, export = loaded(made / "runs" / "small"), loaded(made / "saved_models" / "small")
    inputs = [("Mary went to the office.", "Where is Mary?"), ("", "Who?"), ("好。\nJohn sleeps.", "Where is John?")]
    one, other = run("serving_default", inputs), export("serving_default", inputs)
    assert one["answers"].tolist() == other["answers"].tolist()
    np.testing.assert_allclose(one["gates"], other["gates"], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        (("ask",), b"{\n", "standard input:1: broken JSON"),
        (("ask",), b'{"question": "Who?"}\n', "standard input:1: no story and question"),
        (("ask", "--n-best", "2"), b"", "takes no --n-best"),
        (("align", "--output", "a.txt"), b'{"story": "a", "question": "b"}\n', "no picture is called so"),
    ],
)
def test_what_a_model_is_not_asked(made: Path, call: Call, arguments: tuple[str, ...], given: bytes, message: str) -> None:
    done = call(arguments[0], str(made / "saved_models" / "small"), *arguments[1:], given=given)
    assert done.code == 2 and message in done.err and not done.out, done


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("data.tasks=[3]",), "has 0 files qa3_*_train.txt"),
        (("data.tasks=[0]",), "data.tasks"),
        (("data.test=tset",), "has 0 files qa1_*_tset.txt"),
    ],
)
def test_data_that_is_not_there(made: Path, call: Call, tmp_path: Path, settings: tuple[str, ...], message: str) -> None:
    given = [part for setting in settings for part in ("--set", setting)]
    done = call("run", str(made / "small.toml"), "--run-dir", str(tmp_path / "runs"), *given)
    assert done.code == 2 and message in done.err and not list(tmp_path.glob("runs/*"))


def test_a_killed_run_is_the_undisturbed_one(made: Path, tmp_path: Path, finish: Finish, kill: Kill) -> None:
    killed = prepare(tmp_path / "killed")
    for _ in range(2):
        kill(killed, "last.npz", random.randint(1, 8))
    finish(killed)
    one, other = (np.load(folder / "runs/small/checkpoints/chosen.npz") for folder in (made, killed))
    for name in set(one.files) - {"position"}:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_two_devices_give_the_weights_of_one(tmp_path: Path, two_devices: TwoDevices) -> None:
    differences = two_devices(prepare(tmp_path / "data") / "small.toml", "training.clip_norm=0.5", "training.batch_rows=7")
    worst = max(differences, key=lambda name: differences[name])
    assert len(differences) > 5 and differences[worst] <= 1e-9, (worst, differences[worst])
