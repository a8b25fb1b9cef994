"""``multibox models``: the detectors that can be trained, and the card of one model."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from multibox import zoo
from multibox.checkpoints import read_card
from multibox.importers.published import PUBLISHED

_OF_TRAINING = {"names", "recipe", "metrics", "origin", "parity"}


def models(model: str | None = None, /) -> None:
    """List the detectors that can be trained, or show one model in full.

    Parameters
    ----------
    model
        A detector's name, or a checkpoint file: its card is printed as JSON.
    """
    if model is None:
        _list_all()
    elif Path(model).exists() or Path(model).suffix:
        print(read_card(model).model_dump_json(indent=2))
    else:
        _show(model)


def _list_all() -> None:
    table = Table("name", "input", "boxes", "published", "", box=None)
    for column in table.columns[:4]:
        column.no_wrap = True
    table.columns[2].justify = "right"
    for entry in zoo.MODELS.values():
        height, width = entry.image_size
        boxes = zoo.new_card(entry.name, ["object"]).default_boxes.count
        figure = entry.published[0]
        table.add_row(
            entry.name,
            f"{width} x {height}",
            f"{boxes:,}",
            f"{100 * figure.value:.1f} {figure.metric.partition(' ')[0]}",
            entry.summary,
        )
    Console().print(table)


def _show(name: str) -> None:
    """The card without what training adds, the published figures and the weights to be had."""
    card = zoo.new_card(name, ["object"])
    whole = card.model_dump(mode="json", exclude=_OF_TRAINING) | {
        "published": [asdict(figure) for figure in zoo.find_model(name).published],
        "weights": [weights.name for weights in PUBLISHED.values() if weights.model == name],
    }
    print(json.dumps(whole, indent=2))
