"""Sheets of pictures for the run folder: what the network is shown, and what it finds."""

from collections.abc import Sequence
from pathlib import Path

from multibox.data.batches import Key, TrainingPictures
from multibox.data.samples import DataSet
from multibox.detections import Detections
from multibox.drawing import class_colour, contact_sheet, draw_boxes, draw_detections
from multibox.imaging import read_image, write_image

_COUNT = 12
_COLUMNS = 4


def draw_training_samples(path: Path, pictures: TrainingPictures, names: Sequence[str]) -> None:
    """The first pictures as epoch 0 shows them, with the boxes they are learned from."""
    drawn = []
    for index in range(min(_COUNT, len(pictures))):
        image, sample = pictures.prepared(Key(0, index))
        labels = sample.labels.tolist()
        drawn.append(
            draw_boxes(
                image,
                sample.boxes,
                [names[label] for label in labels],
                [class_colour(label) for label in labels],
            )
        )
    write_image(path, contact_sheet(drawn, _COLUMNS))


def draw_predictions(path: Path, data: DataSet, detections: Sequence[Detections]) -> None:
    """The first validation pictures: what is found with a score from 0.5 on, over the labels.

    The labelled boxes are dashed, in the colours of their classes (of ``data.names``).
    """
    drawn = []
    for sample, found in zip(data.samples[:_COUNT], detections[:_COUNT], strict=True):
        colours = [class_colour(label) for label in sample.labels.tolist()]
        image = draw_boxes(
            read_image(sample.image), sample.boxes, [""] * len(colours), colours, dashed=True
        )
        drawn.append(draw_detections(image, found.above(0.5)))
    write_image(path, contact_sheet(drawn, _COLUMNS))
