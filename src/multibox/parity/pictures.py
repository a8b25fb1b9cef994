"""The pictures that networks are compared on: always the same, some of them photographs."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from multibox.card import Preprocessing
from multibox.data.synthetic import scene
from multibox.imaging import Image, read_image, to_network_input

_SCENES = 2
# Shares of the photograph's height and width: all of it, the face, the uniform.
_CUTS = ((0.0, 0.0, 1.0, 1.0), (0.0, 0.2, 0.55, 0.8), (0.45, 0.0, 1.0, 0.95))


def fixed_pictures(preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Network inputs, uint8 RGB ``[b, h, w, 3]``: cuts of a photograph, scenes, and noise.

    The photograph is one that matplotlib brings along; without matplotlib there is none.
    """
    rng = np.random.default_rng(2016)
    height, width = preprocessing.image_size
    scenes = [np.asarray(scene(rng, (width, height)).image) for _ in range(_SCENES)]
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    cuts = [to_network_input(cut, preprocessing) for cut in photographs()]
    return np.stack([*cuts, *scenes, noise])


def photographs() -> list[Image]:
    """Cuts of Grace Hopper's portrait (matplotlib's sample data, public domain), RGB uint8."""
    found = find_spec("matplotlib")  # finding it does not import it
    if found is None or found.origin is None:
        return []
    file = Path(found.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    if not file.is_file():  # some distributions leave the sample data out
        return []
    picture = read_image(file)
    height, width, _ = picture.shape
    return [
        picture[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)]
        for y0, x0, y1, x1 in _CUTS
    ]
