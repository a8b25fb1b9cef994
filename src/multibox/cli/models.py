"""``multibox models``: the detectors that can be trained, and the card of one model."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from multibox import zoo
from multibox.checkpoints import read_card

_OF_TRAINING = {"names", "recipe", "metrics", "origin"}


def models(model: str | None = None, /) -> None:
    """List the detectors that can be trained, or show one model in full.

    Parameters
    ----------
    model
        A detector's name, or a checkpoint file: its card is printed as JSON.
    """
    if model is None:
        table = Table("name", "input", "", box=None)
        for column in table.columns[:2]:
            column.no_wrap = True
        for entry in zoo.MODELS.values():
            height, width = entry.image_size
            table.add_row(entry.name, f"{width} x {height}", entry.summary)
        Console().print(table)
    elif Path(model).exists() or Path(model).suffix:
        print(read_card(model).model_dump_json(indent=2))
    else:
        card = zoo.new_card(model, ["object"])
        print(card.model_dump_json(indent=2, exclude=_OF_TRAINING))
