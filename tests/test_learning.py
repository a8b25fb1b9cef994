"""From nothing to a detector: the demo's training, measured on pictures it has not seen."""

from pathlib import Path

import pytest

import multibox
from multibox.data import synthetic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_detector_learns_generated_scenes(tmp_path: Path) -> None:
    data = synthetic.generate(tmp_path / "scenes", images=800)
    result = multibox.train(
        data,
        model="ssdlite320_mobilenet_v2",
        weights="none",
        image_size=(160, 160),
        epochs=8,
        batch_size=8,
        learning_rate=0.05,
        augment=False,
        out=tmp_path / "run",
    )
    losses = [row["loss"] or 0.0 for row in result.history]
    assert losses[-1] < losses[0] / 2
    # Measured 0.40; an untrained detector stays below 0.01.
    assert (multibox.evaluate(result.best, data, split="test").map or 0) > 0.25
