"""What people and programs read of an evaluation: a table, a JSON file, a plot."""

from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from multibox.checkpoints import files
from multibox.data.samples import DataSet
from multibox.errors import InputError
from multibox.evaluation.collect import Objects
from multibox.evaluation.measure import Evaluation
from multibox.evaluation.plots import new_figure, save_figure

LEGEND_LIMIT = 20


def per_class_table(evaluation: Evaluation, dataset: DataSet) -> Table:
    """A row for each class: its AP, its objects to find and the ignored ones; the mean at the foot.

    "–" stands for a class without an AP. Ignored objects (difficult, crowd) have a column only
    where the data has any.
    """
    objects = Objects.collect(dataset.samples)
    classes = len(dataset.names)
    countable = objects.countable(classes)
    ignored = np.bincount(objects.labels[objects.ignored], minlength=classes)
    columns = [(countable, "objects"), (ignored, "ignored")][: 2 if ignored.any() else 1]

    table = Table(show_footer=True)
    table.add_column("class", footer=f"mean ({evaluation.metric}, IoU {evaluation.iou})")
    for counts, title in columns:
        table.add_column(title, justify="right", footer=str(counts.sum()))
    table.add_column("AP", justify="right", footer=_figure(evaluation.map))
    for i, name in enumerate(dataset.names):
        counts_of_class = [str(counts[i]) for counts, _ in columns]
        # Text, because a class name may contain what rich reads as markup.
        table.add_row(Text(name), *counts_of_class, _figure(evaluation.per_class.get(name)))
    return table


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Write ``evaluation.to_dict()`` to ``path``, its folder made if need be.

    Raises InputError when the file cannot be written.
    """
    try:
        files.write_json(path, evaluation.to_dict())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def plot_precision_recall(evaluation: Evaluation, path: Path) -> None:
    """Draw the precision-recall curves into a picture, its format by the suffix of ``path``.

    Up to ``LEGEND_LIMIT`` classes are named, the best AP first. Raises InputError when Matplotlib
    is not installed or the file cannot be written.
    """
    figure = new_figure(7, 6)
    axes = figure.add_subplot(
        xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision",
        title=f"{evaluation.metric}, mAP {_figure(evaluation.map)}",
    )  # fmt: skip
    axes.grid(alpha=0.3)
    best_first = sorted(evaluation.curves, key=lambda name: -(evaluation.per_class[name] or 0))
    for name in best_first:
        recall, precision = evaluation.curves[name]
        # "$" would start a formula; a label that starts with "_" would be left out.
        label = f"{_figure(evaluation.per_class[name])} {name}".replace("$", r"\$")
        axes.plot(recall, precision, label=label, linewidth=1)
    if 0 < len(best_first) <= LEGEND_LIMIT:
        axes.legend(fontsize="small", loc="lower left")
    save_figure(figure, path, dpi=120)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
