import numpy as np
import pytest

pytest.importorskip("torch")

from multibox.data.samples import Sample
from multibox.errors import InputError
from multibox.training.initial_weights import initial_model

MODEL = "ssdlite320_mobilenet_v2"


def sample(*boxes, difficult=None):
    return Sample.of(
        np.zeros((480, 640, 3), np.uint8),
        boxes,
        [0] * len(boxes),
        width=640,
        height=480,
        difficult=difficult,
    )


def test_a_new_detector_takes_boxes_made_for_its_objects():
    own = initial_model(MODEL, ["cell"], "none", None)
    samples = [sample((x, x, x + 40, x + 36), (x + 90, x, x + 190, x + 110)) for x in range(90)]
    begin = initial_model(MODEL, ["cell"], "none", None, default_boxes="suggested", samples=samples)
    assert begin.card.default_boxes != own.card.default_boxes
    assert begin.card.default_boxes.count == own.card.default_boxes.count
    assert begin.card.architecture == own.card.architecture
    shapes = {name: tuple(t.shape) for name, t in begin.model.state_dict().items()}
    assert shapes == {name: tuple(t.shape) for name, t in own.model.state_dict().items()}
    assert "reach" in begin.notes[0]


def test_without_objects_to_learn_there_is_nothing_to_fit():
    with pytest.raises(InputError, match="no objects to fit"):
        initial_model(
            MODEL,
            ["cell"],
            "none",
            None,
            default_boxes="suggested",
            samples=[sample((1, 1, 9, 9), difficult=[True])],
        )
