"""``evaluate``: measure a model on labelled pictures, both named as on the command line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from multibox.data.merging import DataPath, is_data_path
from multibox.data.open import read_labels
from multibox.data.readable import without_unreadable
from multibox.data.samples import DataSet, Sample
from multibox.data.splits import canonical
from multibox.detector import Detector, load
from multibox.evaluation.measure import Evaluation, Metric, evaluate_model


def evaluate(
    model: str | Path | Detector,
    data: DataPath | DataSet | Sequence[Sample],
    *,
    split: str | None = None,
    metric: Metric = "voc07",
    batch_size: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure ``model`` on ``data``.

    ``model`` is what ``load`` takes, or a ``Detector``. ``data`` is a folder or file of labelled
    pictures (several of them are merged), or samples, whose labels then index the detector's names.
    ``split`` is for files: by default ``test`` where there is one, else ``val``.
    ``on_progress(done, total)`` is called after each batch of ``batch_size`` pictures.

    Raises: InputError when the model, the data or the split cannot be used, and for a picture that
    cannot be read.
    """
    detector = model if isinstance(model, Detector) else load(model)
    if is_data_path(data):
        dataset = open_for_evaluation(data, split)
    elif isinstance(data, DataSet):
        dataset = data
    else:
        samples = cast(Sequence[Sample], data)
        dataset = DataSet(samples, detector.names, split="", root=Path(), layout="samples")
    evaluation, _ = evaluate_model(
        detector, dataset, metric=metric, batch_size=batch_size, on_progress=on_progress
    )
    return evaluation


def open_for_evaluation(data: DataPath, split: str | None = None) -> DataSet:
    """The pictures to measure on: those of ``split``, else of ``test``, else of ``val``.

    Pictures that cannot be decoded are left out, as in training, and are problems of the data set.

    Raises: InputError as ``open_data`` does.
    """
    labelled = read_labels(data)
    if split is None:
        split = "test" if "test" in map(canonical, labelled.splits) else "val"
    return without_unreadable(labelled.open(split))
