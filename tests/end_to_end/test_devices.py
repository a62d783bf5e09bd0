"""The mixed model of a real recipe on two devices is that of one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = """
import json, sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from nlp_tasks import recipe, tasks
from nlp_tasks.run import Run

path, run_dir = sys.argv[1:]
settings = [
    'training.precision="float64"', "training.epochs=3", "training.batch_rows=7", "training.clip_norm=0.5", "training.buckets=2",
    'model.parts=["bag_of_ngrams", "convolution", "recurrent"]', 'model.recurrent.pooling="max_attention"',
    "model.recurrent.affixes=100",
]
content = recipe.load(path, lambda name: tasks.find(name).recipe_type, settings)
found = []
for strategy in ("cpu", "mirrored"):
    run = Run(content, strategy, run_dir=run_dir, strategy=strategy)
    run.train()
    assert json.loads((run.folder / "environment.json").read_text())["replicas"] == 1 + (strategy == "mirrored")
    with np.load(run.folder / "checkpoints" / "chosen.npz") as arrays:
        found.append({name: arrays[name] for name in arrays.files if name.startswith("model/")})
one, two = found
assert one.keys() == two.keys()
print(json.dumps({name: float(np.abs(value - two[name]).max()) for name, value in one.items()}))
"""


@pytest.mark.slow
def test_a_recipe_on_two_devices_gives_the_weights_of_one(small_recipe: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(small_recipe), str(tmp_path)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    differences = json.loads(done.stdout.splitlines()[-1])
    worst = max(differences, key=lambda name: differences[name])
    assert len(differences) > 20 and differences[worst] <= 1e-9, (worst, differences[worst])
