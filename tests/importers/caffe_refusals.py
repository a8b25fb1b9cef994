"""A small MobileNet-SSD, and what a refusal to import must look like."""

import re
from pathlib import Path

import pytest
from caffe_files import Net, mobilenet_ssd

from multibox.errors import InputError
from multibox.importers.caffe import read

SMALL = [
    "min_size: 12 aspect_ratio: 2 clip: false",
    *(f"min_size: {20 + 8 * i} max_size: {28 + 8 * i} aspect_ratio: 2" for i in range(5)),
]


def mobilenet() -> Net:
    return mobilenet_ssd(3, 64, priors=SMALL)


def refusal(model: Path, prototxt: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(model, None, prototxt)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500
    assert re.match(rf"({re.escape(str(model))}|{re.escape(str(prototxt))}): ", line)
    return line
