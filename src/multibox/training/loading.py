"""Batches of prepared pictures as tensors, prepared by other processes while the network works.

The workers write every picture once, straight into its place in a batch: in a ring of memory that
they share with the main process, and that is pinned for an accelerator. Only boxes and labels, some
hundred bytes a picture, are sent.
"""

import atexit
import contextlib
import itertools
import os
import signal
import weakref
from collections.abc import Generator, Iterator, Sequence
from types import FrameType
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from multibox.data.batches import Key, TrainingPictures
from multibox.errors import MultiboxError
from multibox.imaging import Image
from multibox.training.batch_ring import BatchRing

_PREFETCHED = 4
"""Batches that each worker may be ahead."""


class Batch(NamedTuple):
    """``images [b, h, w, 3]`` uint8; for each picture ``boxes[i] [g, 4]`` and ``labels[i] [g]``."""

    images: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]

    def portion(self, index: int, of: int) -> "Batch":
        """One of several equal parts, as even as the number of pictures allows."""
        cuts = [len(self.images) * i // of for i in range(of + 1)]
        part = slice(cuts[index], cuts[index + 1])
        return Batch(self.images[part], self.boxes[part], self.labels[part])

    def to(self, device: torch.device) -> "Batch":
        """The same batch on ``device``."""
        return Batch(
            self.images.to(device, non_blocking=True),
            [boxes.to(device, non_blocking=True) for boxes in self.boxes],
            [labels.to(device, non_blocking=True) for labels in self.labels],
        )


def default_workers(*, accelerated: bool = False) -> int:
    """Enough processes to keep the network fed; it needs half the cores if it computes on them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    mine = (cores or 1) // ranks_here
    return min(16, max(1, mine - 1 if accelerated else mine // 2))


def load_batches(
    pictures: TrainingPictures,
    keys: Iterator[list[Key]],
    *,
    workers: int,
    pinned: bool,
) -> Generator[Batch, None, None]:
    """Batches in the order of ``keys``; the pictures are the same with any number of workers.

    None has more pictures than the first. The pixels of a batch are good until the next one is
    asked for: its memory is then used again, on an accelerator (``pinned``) as soon as that has
    done what it was given to do until then.

    Raises: ImageError when the turn comes to a picture that cannot be read.
    """
    batches = _batches(pictures, keys, workers=workers, pinned=pinned)
    _open.add(batches)
    return batches


_open: "weakref.WeakSet[Generator[Batch, None, None]]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Python's own end would send one SIGTERM, which workers ignore, and wait for ever."""
    for batches in list(_open):
        batches.close()


@contextlib.contextmanager
def lost_workers_explained() -> Generator[None]:
    """Turn the death of a worker, which a DataLoader may tell at any moment, into one clear line.

    Raises: MultiboxError in its place.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise MultiboxError(
            f"a process that prepares pictures has died ({str(error).strip(' .')}); where memory "
            "has run out, fewer --workers need less; continue with --resume and the same --out"
        ) from error


def _batches(
    pictures: TrainingPictures, keys: Iterator[list[Key]], *, workers: int, pinned: bool
) -> Generator[Batch, None, None]:
    first = next(keys, None)
    if first is None:
        return
    keys = itertools.chain([first], keys)
    if not workers:
        for each in keys:
            images = torch.empty(len(each), *pictures.size, 3, dtype=torch.uint8, pin_memory=pinned)
            yield _batch(images, _write(pictures, each, images.numpy()))
        return
    # One slot for each batch that is asked for in advance, and for the one in use; an accelerator
    # may be two steps behind.
    slots = _PREFETCHED * workers + (3 if pinned else 1)
    with BatchRing(slots, (len(first), *pictures.size, 3), pinned=pinned) as ring:
        loader: DataLoader[_Written | MultiboxError] = DataLoader(
            _Writer(pictures, ring),  # type: ignore[arg-type]
            batch_sampler=_InOrder(keys, ring),  # type: ignore[arg-type]
            collate_fn=_as_it_is,
            num_workers=workers,
            worker_init_fn=_prepare_worker,
            prefetch_factor=_PREFETCHED,
        )
        for number, written in enumerate(loader):
            if isinstance(written, MultiboxError):
                raise written
            slot = number % slots
            yield _batch(ring.tensor(slot)[: len(written)], written)
            ring.used(slot)


_Written = list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]
"""Boxes and labels of each picture of a batch whose pixels lie in its slot."""


def _batch(images: Tensor, written: _Written) -> Batch:
    return Batch(
        images,
        [torch.from_numpy(boxes) for boxes, _ in written],
        [torch.from_numpy(labels) for _, labels in written],
    )


def _write(pictures: TrainingPictures, keys: Sequence[Key], images: Image) -> _Written:
    written = []
    for key, image in zip(keys, images, strict=True):
        picture = pictures.write(key, image)
        written.append((picture.boxes, picture.labels))
    return written


class _Writer:
    """A worker's half: prepares the pictures of a batch in its slot of the ring."""

    def __init__(self, pictures: TrainingPictures, ring: BatchRing) -> None:
        self._pictures = pictures
        self._ring = ring

    def __getitems__(self, request: tuple[int, list[Key]]) -> _Written | MultiboxError:
        slot, keys = request
        try:
            return _write(self._pictures, keys, self._ring.array(slot)[: len(keys)])
        except MultiboxError as error:  # returned: a DataLoader buries an error in tracebacks
            return error


class _InOrder:
    """A batch sampler over keys that are already in order, each with the slot it is to go to."""

    def __init__(self, keys: Iterator[list[Key]], ring: BatchRing) -> None:
        self._keys = keys
        self._ring = ring

    def __iter__(self) -> Iterator[tuple[int, list[Key]]]:
        for number, keys in enumerate(self._keys):
            slot = number % self._ring.slots
            self._ring.wait(slot)
            yield slot, keys


def _as_it_is(written: _Written | MultiboxError) -> _Written | MultiboxError:
    return written


def _prepare_worker(_: int) -> None:
    # Ctrl-C, and often SIGTERM, reaches the whole process group: the main process ends the workers,
    # after saving. To end one that hangs it sends SIGTERM again.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_once)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _ignore_once(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
