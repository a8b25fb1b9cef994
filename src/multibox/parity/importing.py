"""An imported network against a reference, on pictures that are always the same."""

from pathlib import Path

from multibox.checkpoints import Checkpoint
from multibox.engines.torch import TorchEngine
from multibox.importers.imported import Imported
from multibox.parity import caffe, recorded, tensorflow, torchvision
from multibox.parity.compare import Parity, compare
from multibox.parity.found import detections_of, found_in
from multibox.parity.pictures import fixed_pictures
from multibox.parity.reference import RawOutputs, Reference


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
        reference = caffe.reference(path, prototxt)
    elif source == "tensorflow":
        reference = tensorflow.reference(path)
    elif source == "torchvision":
        reference = torchvision.reference(path, imported)
    else:
        return recorded.check(source, imported)
    return compare_with(reference, engine)


def compare_with(reference: Reference, engine: TorchEngine) -> Parity:
    """Raw outputs and detections of ``engine`` and ``reference`` for the fixed pictures.

    Where the reference has no detections of its own, they are made from its raw outputs in NumPy,
    which shares nothing with the post-processing in PyTorch that is judged.
    """
    card = engine.card
    images = fixed_pictures(card.preprocessing)
    raw, found, name = reference.raw(images), reference.detect(images), reference.name
    if found is None:
        found, name = found_in(detections_of(raw, card)), f"{name}, suppression in NumPy"
    outputs = engine.network(images)
    return compare(
        name,
        raw,
        RawOutputs(*(output.numpy() for output in outputs)),
        card.preprocessing.image_size,
        found,
        found_in(engine.detections(outputs)),
    )
