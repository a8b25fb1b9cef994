"""``multibox detect``: find objects in pictures and videos."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, TextIO

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import Progress

from multibox import bundled
from multibox.cli.read_ahead import Decoded, read_ahead
from multibox.cli.sources import PictureFile, find_pictures, is_video
from multibox.detections import Detections
from multibox.detector import load
from multibox.drawing import draw_detections
from multibox.engines import EngineName, Goal, Precision
from multibox.engines.graph import available_threads
from multibox.errors import ImageError, InputError
from multibox.imaging import Image, write_image

AT_ONCE = 4  # pictures, decoded at full size, so few: one can take 300 MB
BEST_BELOW = 3


def detect(
    *sources: str,
    model: str = bundled.NAME,
    score: Annotated[float, Parameter(validator=Number(gte=0, lte=1))] = 0.5,
    out: Path | None = None,
    jsonl: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    engine: EngineName = "auto",
    goal: Goal = "latency",
    threads: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    precision: Precision = "fp32",
) -> int:
    """Find objects in pictures and videos.

    Parameters
    ----------
    sources
        Pictures, videos, folders (with all pictures that lie below them) or quoted globs.
    model
        A checkpoint (.safetensors), an exported file (.onnx, .xml), or published weights; "animals"
        is in the package and finds people, cats, dogs, horses, cows and sheep.
    score
        Keep detections that score at least this much, 0 to 1.
    out
        Folder for the annotated pictures; "detections" when --jsonl is not given either.
    jsonl
        Write one JSON line for each picture, or frame of a video, to this file; "-" is stdout.
    engine
        What runs the network: torch runs checkpoints, the others what multibox export wrote.
    goal
        Whether all threads work on one picture (latency), or each on its own (throughput).
    threads
        How many; by default one for each processor.
    precision
        What float32 layers compute in; bf16 is faster on recent processors and GPUs, fp16 on GPUs.
    """
    if jsonl is not None and jsonl.startswith("-") and jsonl != "-":
        raise InputError(f'--jsonl needs a file or "-", not {jsonl}')
    if out is None and jsonl is None:
        out = Path("detections")
    pictures = find_pictures(sources, leave_out=out)
    videos = any(is_video(picture.given) for picture in pictures)
    detector = load(
        model,
        engine=engine,
        goal=goal,
        threads=threads,
        precision=precision,
        pictures=None if videos else len(pictures),
    )
    annotated = None if out is None else _AnnotatedPictures(out, pictures)
    at_once = AT_ONCE
    if goal == "throughput":  # each thread has a picture of its own
        at_once = max(at_once, threads or available_threads())

    console = Console(stderr=jsonl == "-", soft_wrap=True, markup=False, highlight=False)
    unreadable = 0
    with (
        _open_jsonl(jsonl) as lines,
        Progress(console=console, disable=not console.is_terminal, transient=True) as progress,
        closing(read_ahead(pictures, at_once)) as decoded,
    ):
        # Nobody knows how many frames a video has before it was read.
        task = progress.add_task("detecting", total=None if videos else len(pictures))
        while batch := list(islice(decoded, at_once)):
            images = [each.image for each in batch if not isinstance(each.image, ImageError)]
            found = iter(detector(images, score=0))
            for each in batch:
                picture, image, _ = each
                if isinstance(image, ImageError):
                    unreadable += 1
                    print("multibox:", image, file=sys.stderr)
                    _write_line(lines, {**_source(each), "error": str(image)})
                    continue
                candidates = next(found)
                kept = candidates.above(score)
                which = "" if each.frame is None else f" {each.frame}"
                console.print(f"{picture.given}{which}: {_summary(kept, candidates, score)}")
                _write_line(lines, {**_source(each), **kept.to_dict()})
                if annotated is not None:
                    annotated.write(picture, draw_detections(image, kept))
            progress.advance(task, len(batch))
    if out is not None:
        console.print(f"annotated pictures: {out}")
    return 1 if unreadable else 0


class _AnnotatedPictures:
    """A folder of annotated pictures: sub-folders are kept, and no picture replaces another."""

    def __init__(self, folder: Path, originals: Sequence[PictureFile]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: not a folder to write to: {error.strerror}") from error
        self._folder = folder
        self._taken = {Path(picture.given).resolve() for picture in originals}

    def write(self, picture: PictureFile, image: Image) -> None:
        first = path = (self._folder / picture.relative).with_suffix(".jpg")
        number = 1
        while path.resolve() in self._taken:
            number += 1
            path = first.with_stem(f"{first.stem}_{number}")
        self._taken.add(path.resolve())
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image)


@contextmanager
def _open_jsonl(jsonl: str | None) -> Iterator[TextIO | None]:
    if jsonl is None or jsonl == "-":
        yield sys.stdout if jsonl else None
        return
    try:
        Path(jsonl).parent.mkdir(parents=True, exist_ok=True)
        file = open(jsonl, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    except OSError as error:
        raise InputError(f"{jsonl}: cannot be written: {error.strerror}") from error
    with file:
        yield file


def _write_line(lines: TextIO | None, fields: dict[str, object]) -> None:
    if lines is not None:
        # Flushed, so that who follows the lines is up to date and an interrupt loses none.
        print(json.dumps(fields), file=lines, flush=True)


def _source(decoded: Decoded) -> dict[str, object]:
    """The fields that say which picture, or which frame of a video, a line is about."""
    place: dict[str, object] = {"image": decoded.file.given}
    return place if decoded.frame is None else {**place, "frame": decoded.frame}


def _summary(kept: Detections, candidates: Detections, score: float) -> str:
    """What was found, or else the best of what scores too little, class by class."""
    scores: dict[str, list[float]] = {}
    for found in kept if len(kept) else candidates:
        scores.setdefault(found.label, []).append(found.score)
    if len(kept):
        return ", ".join(
            f"{label} {best[0]:.2f}" if len(best) == 1 else f"{len(best)} x {label} {best[0]:.2f}"
            for label, best in scores.items()
        )
    below = ", ".join(
        f"{label} {best[0]:.2f}" for label, best in islice(scores.items(), BEST_BELOW)
    )
    return f"nothing above {score:.2f}" + (f"; best below: {below}" if below else "")
