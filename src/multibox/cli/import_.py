"""``multibox import``: weights of another project become a checkpoint, compared with it."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import DownloadColumn, Progress

from multibox.errors import InputError
from multibox.importing import Source, import_weights


def import_(
    file: str,
    /,
    *,
    source: Annotated[Source | None, Parameter(name="--from")] = None,
    prototxt: Path | None = None,
    names: str | None = None,
    out: Path | None = None,
) -> None:
    """Turn weights of another project into a checkpoint, and compare the two networks.

    Parameters
    ----------
    file
        A weights file, or a published name such as torchvision:ssd300_vgg16.
    source
        The project whose file it is.
    prototxt
        The network of a caffemodel, its deploy.prototxt.
    names
        The classes, background left out: A,B,C or a file with one on each line.
    out
        The checkpoint to write; the file's name with .safetensors by default.
    """
    messages = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    with Progress(
        *Progress.get_default_columns(),
        DownloadColumn(),
        console=messages,
        disable=not messages.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task("downloading", total=None, visible=False)
        result = import_weights(
            file,
            source,
            prototxt=prototxt,
            names=None if names is None else read_names(names),
            out=out,
            on_download=lambda done, total: progress.update(
                task, completed=done, total=total, visible=True
            ),
        )
    console = Console(soft_wrap=True, markup=False, highlight=False)
    card = result.card
    height, width = card.preprocessing.image_size
    console.print(
        f"{result.file}: {card.model}, {width} x {height} pixels, "
        f"{card.default_boxes.count:,} default boxes, {len(card.names)} "
        f"{'class' if len(card.names) == 1 else 'classes'} ({_shortened(card.names)})"
    )
    console.print(card.origin)
    if result.unused:
        console.print(f"not needed: {_shortened(result.unused)}")
    if result.parity is None:
        console.print(
            'not compared with anything: that needs PyTorch, pip install "multibox[train]"'
        )
        return
    for line in result.parity.lines():
        console.print(line)


def read_names(given: str) -> list[str]:
    """Class names from "A,B,C" or from a file with one on each line."""
    path = Path(given)
    if not path.is_file():
        return [name.strip() for name in given.split(",")]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a text file of names: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _shortened(words: tuple[str, ...]) -> str:
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")
