"""``multibox doctor``: what is wrong with labelled pictures, before anything is trained on them."""

import json as json_format
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress

from multibox import zoo
from multibox.card import DefaultBoxSpec
from multibox.checkpoints import read_card
from multibox.data.doctor import examine
from multibox.data.doctor.report import tables


def doctor(
    data: Path,
    /,
    *,
    model: str = "ssdlite320_mobilenet_v2",
    json: Annotated[Path | None, Parameter(name="--json")] = None,
) -> int:
    """Read every picture and label once, change nothing, and report what is wrong.

    Parameters
    ----------
    data
        A folder or file of labelled pictures: VOC, COCO or YOLO. Several are looked at together:
        VOCdevkit/VOC2007+VOC2012.
    model
        The detector that is to be trained, or a checkpoint: which objects are tiny at its input,
        and how its default boxes fit.
    json
        Write every finding, and the figures, to this file.
    """
    spec = _default_boxes(model)
    messages = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    with Progress(console=messages, disable=not messages.is_terminal, transient=True) as progress:
        task = progress.add_task("examining", total=None)
        report = examine(
            data,
            spec,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if json is not None:
        content = json_format.dumps(report.as_json(), indent=2)
        json.write_text(content + "\n", encoding="utf-8")
    console = Console(markup=False, highlight=False)
    for part in tables(report, model):
        console.print(part, soft_wrap=isinstance(part, str))
    return 1 if report.errors else 0


def _default_boxes(model: str) -> DefaultBoxSpec:
    if Path(model).exists() or Path(model).suffix:
        return read_card(model).default_boxes
    return zoo.new_card(model, ["object"]).default_boxes
