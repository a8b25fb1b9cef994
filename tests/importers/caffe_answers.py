"""Networks on which OpenCV's Caffe importer is asked, and how its answers are recorded.

    python caffe_answers.py PYTHON

writes the recordings anew, where PYTHON is one that has OpenCV below 5.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from caffe_files import (
    EXTRAS_300,
    PRIORS_300,
    Net,
    mobilenet_ssd,
    picture,
    vgg_ssd,
)

FOLDER = Path(__file__).with_name("recorded_caffe")


class Case(NamedTuple):
    net: Callable[[], Net]
    mean_bgr: tuple[float, float, float]
    scale: float


CASES = {
    "vgg_ssd300": Case(lambda: vgg_ssd(4, 300, EXTRAS_300, PRIORS_300), (104.0, 117.0, 123.0), 1.0),
    "mobilenet_ssd": Case(lambda: mobilenet_ssd(4), (127.5, 127.5, 127.5), 0.007843),
    "mobilenet_ssd_merged": Case(
        lambda: mobilenet_ssd(4, norms=False), (127.5, 127.5, 127.5), 0.007843
    ),
}


def ask_opencv(python: str | Path, name: str, folder: Path) -> dict[str, np.ndarray]:
    """All that OpenCV answers; the network's files are left in ``folder``."""
    case = CASES[name]
    model, prototxt = case.net().save(folder, name)
    images, out = folder / "images.npy", folder / "answers.npz"
    bgr = picture(300)[..., ::-1].astype(np.float32)
    x = (bgr - np.array(case.mean_bgr, np.float32)) * np.float32(case.scale)
    np.save(images, np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    program = Path(__file__).with_name("caffe_opencv.py")
    subprocess.run([python, program, prototxt, model, images, out], check=True)
    with np.load(out) as file:
        return dict(file)


def sampled(name: str, values: np.ndarray) -> np.ndarray:
    """What is recorded of an answer."""
    if name == "detection_out":
        return values.reshape(-1, 7)
    if name == "mbox_priorbox":
        return values.reshape(2, -1, 4)[:, ::41]
    if name == "conv4_3_norm":
        return values[0, ::16, ::5, ::5]
    return values.reshape(-1, 4)[::41]


def recorded(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def record(python: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            answers = ask_opencv(python, name, Path(folder))
        version = answers.pop("version")
        parts = {key: sampled(key, values) for key, values in answers.items()}
        np.savez_compressed(FOLDER / f"{name}.npz", version=version, **parts)


if __name__ == "__main__":
    record(sys.argv[1])
