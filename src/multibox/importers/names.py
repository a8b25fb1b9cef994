"""The class names that weights come without: COCO's and VOC's, by their number."""

from collections.abc import Sequence
from pathlib import Path

from multibox.errors import InputError

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""PASCAL VOC's 20 classes in the order of their names, which is every project's."""

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's 80 classes in the order of their ids."""

_UNUSED_COCO_IDS = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83))


def coco_by_id() -> tuple[str, ...]:
    """COCO's 90 ids: the 80 names, and ``unused_12`` and so on for ids that no object has.

    Networks that count ids instead of classes (torchvision, TensorFlow) have an output for each.
    """
    names = iter(COCO)
    return tuple(f"unused_{id}" if id in _UNUSED_COCO_IDS else next(names) for id in range(1, 91))


def class_names(count: int, given: Sequence[str] | None, path: Path) -> tuple[str, ...]:
    """Names for ``count`` classes, background not counted: the ``given`` ones, or known ones.

    Without any, 20 are VOC's, 80 and 90 are COCO's, others are called ``class_1`` and so on.

    Raises: InputError when another number is given, or one of them twice.
    """
    if given is not None:
        repeated = [name for i, name in enumerate(given) if name in given[:i]]
        if repeated:
            raise InputError(f"{path}: the name {repeated[0]!r} is given to two classes")
        if len(given) != count:
            raise InputError(
                f"{path}: has {count} classes beside the background, but {len(given)} names are "
                f"given: {', '.join(given)}"
            )
        return tuple(given)
    known = {len(VOC): VOC, len(COCO): COCO, 90: coco_by_id()}
    return known.get(count, tuple(f"class_{i + 1}" for i in range(count)))
