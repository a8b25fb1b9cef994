"""What 8 bits cost: pictures to set ranges with, and others to measure the loss on."""

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from multibox.card import ModelCard
from multibox.data.merging import DataPath
from multibox.data.open import read_labels
from multibox.data.readable import without_unreadable
from multibox.data.samples import DataSet
from multibox.detector import Detector
from multibox.engines import EngineName, ExportedModel, open_engine
from multibox.evaluation import Evaluation, evaluate_model
from multibox.evaluation.evaluate import open_for_evaluation
from multibox.imaging import Image, read_image, to_network_input

MOST_LOST = 0.005
"""The loss of mean average precision that passes without a word; beyond it the report says so."""
FAR_TOO_MUCH = 0.05
"""A loss that is not rounding but a network 8 bits do not suit: nothing is written."""

_CALIBRATED_ON = 300
_MEASURED_ON = 1000


class Accuracy(BaseModel):
    """Mean average precision (VOC2007, IoU 0.5) in 32 bits and in 8, on the same pictures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    before: float
    after: float
    metric: str
    pictures: int
    split: str
    classes: tuple[str, ...] = Field(description="the three that lost the most, with their loss")

    @property
    def lost(self) -> float:
        """How much lower it is; negative where it is higher."""
        return self.before - self.after

    def lines(self) -> list[str]:
        """The report people read."""
        said = [
            (
                f"accuracy on {self.pictures} pictures ({self.split}, mAP {self.metric}): "
                f"{self.before:.4f} before, {self.after:.4f} after, {-self.lost:+.4f}"
            )
        ]
        if self.lost > MOST_LOST:
            said.append(
                f"more than {MOST_LOST} is lost, most of it by: {', '.join(self.classes)}; "
                "calibrate on more pictures like those to come, or take fp16"
            )
        return said


def calibration_pictures(data: DataPath, card: ModelCard) -> list[Image]:
    """Network inputs from the training split of ``data``: RGB uint8 ``[h, w, 3]`` each.

    Raises: InputError where there are no labelled pictures.
    """
    dataset = without_unreadable(_some(read_labels(data).open("train"), _CALIBRATED_ON))
    return [
        to_network_input(read_image(sample.image), card.preprocessing) for sample in dataset.samples
    ]


def measure(before: Path, after: Path, card: ModelCard, data: DataPath) -> Accuracy | None:
    """Evaluate two exported files on the test split of ``data``, or else on its validation split.

    None where that split has no object of a class the detector knows: nothing can be said then.
    """
    dataset = _some(open_for_evaluation(data), _MEASURED_ON)
    first, second = (_evaluate(file, card, dataset) for file in (before, after))
    if first.map is None or second.map is None:
        return None
    losses = sorted(
        (ap - (second.per_class[name] or 0.0), name)
        for name, ap in first.per_class.items()
        if ap is not None
    )
    return Accuracy(
        before=first.map,
        after=second.map,
        metric=first.metric,
        pictures=first.images,
        split=first.split,
        classes=tuple(f"{name} {-loss:+.3f}" for loss, name in losses[:-4:-1]),
    )


def _evaluate(file: Path, card: ModelCard, dataset: DataSet) -> Evaluation:
    kind: EngineName = "openvino" if file.suffix == ".xml" else "onnxruntime"
    detector = Detector(open_engine(ExportedModel(file, card), kind), card)
    return evaluate_model(detector, dataset, metric="voc07")[0]


def _some(dataset: DataSet, most: int) -> DataSet:
    """At most so many of the pictures, from everywhere in the data set."""
    step = max(1, -(-len(dataset) // most))
    return replace(dataset, samples=dataset.samples[::step])
