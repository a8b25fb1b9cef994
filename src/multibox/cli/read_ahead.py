"""Pictures and frames of videos, decoded while the network is busy with those before them."""

import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from multibox import limits
from multibox.cli.sources import PictureFile, is_video
from multibox.errors import ImageError
from multibox.imaging import Image, read_image

T = TypeVar("T")


class Decoded(NamedTuple):
    """A picture, or a frame of a video with its number from 0; or why it could not be read."""

    file: PictureFile
    image: Image | ImageError
    frame: int | None = None


def read_ahead(files: Sequence[PictureFile], at_once: int) -> Generator[Decoded, None, None]:
    """Every picture and every frame in the order of ``files``, at most ``at_once`` ahead."""
    rest = deque(files)
    while rest:
        if is_video(rest[0].given):
            yield from ahead(_frames(rest.popleft()), at_once)
            continue
        pictures = []
        while rest and not is_video(rest[0].given):
            pictures.append(rest.popleft())
        yield from _pictures(pictures, at_once)


def ahead(items: Iterator[T], at_once: int) -> Generator[T, None, None]:
    """``items`` in their order, worked out by a thread that is at most ``at_once`` of them ahead.

    What ``items`` raises is raised here when its turn comes. Closing the generator ends the thread,
    and with it ``items``, if that has a ``close``.
    """
    coming: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(at_once)
    closed = threading.Event()

    def put(item: T | None, error: BaseException | None = None, *, last: bool = False) -> None:
        while not closed.is_set():
            try:
                coming.put((item, error, last), timeout=0.1)
                return
            except queue.Full:
                pass

    def work() -> None:
        try:
            for item in items:
                put(item)
                if closed.is_set():
                    break
        except BaseException as error:
            put(None, error, last=True)
        else:
            put(None, last=True)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="multibox-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error, last = coming.get()
            if error is not None:
                raise error
            if last:
                return
            yield item  # type: ignore[misc]
    finally:
        closed.set()
        thread.join()


def _pictures(files: Sequence[PictureFile], at_once: int) -> Iterator[Decoded]:
    with ThreadPoolExecutor(at_once) as pool:
        coming: deque[tuple[PictureFile, Future[Image | ImageError]]] = deque()
        rest = iter(files)
        while True:
            for file in islice(rest, at_once - len(coming)):
                coming.append((file, pool.submit(_read, file.given)))
            if not coming:
                return
            file, image = coming.popleft()
            yield Decoded(file, image.result())


def _read(path: str) -> Image | ImageError:
    try:
        return read_image(path)
    except ImageError as error:
        return error


def _frames(file: PictureFile) -> Generator[Decoded, None, None]:
    """The frames of a video; one that says it is unreadable where not even the first can be had."""
    video = cv2.VideoCapture(file.given)
    number = 0
    try:
        size = video.get(cv2.CAP_PROP_FRAME_WIDTH) * video.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if size <= limits.PICTURE_PIXELS:
            while True:
                there, frame = video.read()
                if not there:
                    break
                image = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
                name = Path(file.relative.stem) / f"{number:06}.png"
                place = PictureFile(file.given, file.relative.parent / name)
                yield Decoded(place, image, number)
                number += 1
    finally:
        video.release()
    if not number:
        if not Path(file.given).exists():
            why = "no such file"
        else:
            why = "no frame of it can be decoded: damaged, too large, or of a kind OpenCV lacks"
        yield Decoded(file, ImageError(f"{file.given}: {why}"), None)
