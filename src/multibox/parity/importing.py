"""An imported network against a reference, on pictures that are always the same."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from multibox.checkpoints import Checkpoint
from multibox.data.synthetic import scene
from multibox.engines.torch import TorchEngine
from multibox.importers.imported import Imported
from multibox.parity import caffe, recorded, tensorflow, torchvision
from multibox.parity.compare import Parity, compare
from multibox.parity.reference import Found, RawOutputs, Reference

_SCENES = 2


def check_import(path: Path, source: str, imported: Imported, prototxt: Path | None) -> Parity:
    """Compare what was imported from ``path`` with its original, run by somebody else's code.

    torchvision's files run in torchvision, caffemodels in OpenCV where it still reads them, frozen
    graphs in TensorFlow where it is installed; the PyTorch ports are not packages, so for them
    answers that their code once gave are compared (``parity.recorded``).

    Raises: InputError when the arrays do not fit the card.
    """
    engine = TorchEngine.from_checkpoint(Checkpoint(imported.arrays, imported.card, path), "cpu")
    reference: Reference
    if source == "caffe":
        assert prototxt is not None
        reference = caffe.reference(path, imported, prototxt)
    elif source == "tensorflow":
        reference = tensorflow.reference(path, imported)
    elif source == "torchvision":
        reference = torchvision.reference(path, imported)
    else:
        return recorded.check(source, imported)
    return compare_with(reference, engine)


def compare_with(reference: Reference, engine: TorchEngine) -> Parity:
    """Raw outputs and detections of ``engine`` and ``reference`` for the fixed pictures."""
    size = engine.card.preprocessing.image_size
    images = fixed_pictures(size)
    found = reference.detect(images)
    return compare(
        reference.name,
        reference.raw(images),
        our_outputs(engine, images),
        size,
        found,
        None if found is None else our_detections(engine, images),
    )


def fixed_pictures(size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Generated scenes and one picture of noise, uint8 RGB ``[b, h, w, 3]`` of ``size`` (h, w)."""
    rng = np.random.default_rng(2016)
    height, width = size
    scenes = [scene(rng, (width, height)).image for _ in range(_SCENES)]
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([*(np.asarray(image) for image in scenes), noise])


def our_outputs(engine: TorchEngine, images: npt.NDArray[np.uint8]) -> RawOutputs:
    """What our network says before any post-processing."""
    with torch.inference_mode():
        outputs = [engine.module(torch.from_numpy(image[None])) for image in images]
    logits, offsets = (torch.cat(column).numpy() for column in zip(*outputs, strict=True))
    return RawOutputs(logits, offsets)


def our_detections(engine: TorchEngine, images: npt.NDArray[np.uint8]) -> list[Found]:
    """What our network and our post-processing find."""
    raw = engine(images)
    return [
        Found(
            boxes=raw.boxes[i, : raw.num[i]],
            scores=raw.scores[i, : raw.num[i]],
            labels=raw.classes[i, : raw.num[i]].astype(np.int64),
        )
        for i in range(len(images))
    ]
