"""The mixed model of a real recipe on two devices is that of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import TwoDevices

SETTINGS = (
    "training.epochs=3", "training.batch_rows=7", "training.clip_norm=0.5", "training.buckets=2",
    'model.parts=["bag_of_ngrams", "convolution", "recurrent"]', 'model.recurrent.pooling="max_attention"',
    "model.recurrent.affixes=100",
)  # fmt: skip


@pytest.mark.slow
def test_a_recipe_on_two_devices_gives_the_weights_of_one(small_recipe: Path, two_devices: TwoDevices) -> None:
    differences = two_devices(small_recipe, *SETTINGS)
    worst = max(differences, key=lambda name: differences[name])
    assert len(differences) > 20 and differences[worst] <= 1e-9, (worst, differences[worst])
